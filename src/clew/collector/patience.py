"""How long one question may go on: a limit of time, and whether anyone still waits for its answer.

Made where a request comes in, carried down to the store, asked in every loop on the way. So a question that nobody
waits for, or that takes too long, ends wherever it is: in the engine (which gets the limit and can be told to stop) as
in Python.
"""

from __future__ import annotations

import math
import secrets
import time
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

T = TypeVar("T")

OVERDUE: Final = (
    "The question took longer than {:g} s and was ended. Ask for a shorter time, name a service, or lower the limit."
)
_ITEMS_A_CHECK: Final = 256  # a look at the clock costs about as much as a step of the loops it stands in


class GaveUp(Exception):  # noqa: N818 - it says what happened, and is nobody's error
    """Nobody waits for the answer any more."""


class TooCostly(Exception):  # noqa: N818 - it says what the question is
    """The question takes more than one may take; the text is for whoever asked and says what would help."""


class Patience:
    """What is left for one question. Thread-safe; ``name`` tells its statements from all others.

    ``limit_s`` counts from now on, in seconds; without it there is none.
    """

    def __init__(self, limit_s: float = math.inf) -> None:
        self.name = secrets.token_hex(8)
        self.limit_s = limit_s
        self.scanned_rows = 0  # what the store read for this question; statements of one question follow each other
        self._until = time.monotonic() + limit_s
        self._over = False

    @property
    def left_s(self) -> float:
        """Seconds that are left, 0 or less when there are none."""
        return self._until - time.monotonic()

    def renew(self, limit_s: float) -> None:
        """Begin to count anew, with another limit."""
        self.limit_s = limit_s
        self._until = time.monotonic() + limit_s

    def end(self) -> None:
        """Say that nobody waits any more; the next :meth:`check` raises."""
        self._over = True

    def check(self) -> None:
        """Raise :class:`GaveUp` or :class:`TooCostly` when the question is to end."""
        if self._over:
            raise GaveUp
        if self.left_s <= 0:
            raise TooCostly(OVERDUE.format(self.limit_s))

    def each(self, items: Iterable[T]) -> Iterator[T]:
        """Yield the items; check now and then."""
        for number, item in enumerate(items):
            if number % _ITEMS_A_CHECK == 0:
                self.check()
            yield item
