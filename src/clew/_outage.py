"""What is known of the collector being away, shared by a process and the children that it forks. Below the reporter.

One of a family that finds the collector away knows it for all: a worker that lives for one task need not find out
anew, which costs the whole ``exit_timeout`` where packets vanish without an answer. The knowledge is eight bytes of
anonymous shared memory: no file, no descriptor, no lock.
"""

from __future__ import annotations

import sys
from typing import Any, Final

from clew import _clock

_ASK_AGAIN_S: Final = 5.0  # after a failure that took time, nobody waits for another one so soon
PATIENCE_S: Final = 0.5  # enough for one message to a collector that is back
_TIME: Final = slice(0, 8)  # nanoseconds before which nobody asks again; 0: it is there, as far as one knows
_REFUSED: Final = 1
_ERROR_TOLD: Final = 8  # single bytes: whether one of the family has logged it
_LOSS_TOLD: Final = 9
_BYTES: Final = 16


class Outage:
    """Whether the last try of anybody in the family failed, and from when on another is worth a wait."""

    def __init__(self, shared: bool) -> None:
        self._page: Any = _shared_memory() if shared else bytearray(_BYTES)

    @property
    def known(self) -> bool:
        """Tell whether the last try failed."""
        return any(self._page[_TIME])

    def note_failure(self, slow: bool) -> None:
        """Note a try that failed, after a wait or at once."""
        ask_ns = _clock.perf_counter_ns() + int(_ASK_AGAIN_S * 1e9) if slow else _REFUSED
        self._page[_TIME] = ask_ns.to_bytes(8, sys.byteorder)

    def note_success(self) -> None:
        """Note that the collector took something."""
        if self.known:
            self._page[_TIME] = bytes(8)

    def patience_s(self, timeout_s: float) -> float:
        """Say how long an end of a process may wait for an answer: as long as it may, a moment, or not at all.

        One that refused is asked again: it refuses at once, or is back.
        """
        ask_ns = int.from_bytes(self._page[_TIME], sys.byteorder)
        if ask_ns <= _REFUSED:
            return timeout_s
        return min(timeout_s, PATIENCE_S) if _clock.perf_counter_ns() >= ask_ns else 0.0

    def first_to_tell_error(self) -> bool:
        """Tell whether nobody in the family has logged an error yet, and take it on."""
        return self._first(_ERROR_TOLD)

    def first_to_tell_loss(self) -> bool:
        """Tell whether nobody in the family has logged a loss at its end yet, and take it on."""
        return self._first(_LOSS_TOLD)

    def _first(self, flag: int) -> bool:
        told, self._page[flag] = self._page[flag], 1
        return not told


def _shared_memory() -> Any:
    try:
        import mmap  # only now: `import clew` should not load it

        return mmap.mmap(-1, _BYTES)
    except (ImportError, OSError):  # then each process finds out for itself
        return bytearray(_BYTES)
