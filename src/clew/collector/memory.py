"""``--max-memory``: one number, and the shares that the parts take of it. Asked by ``server`` when it wires them.

What the process takes before the first span (Python, the engine's code and its caches) is a fifth of the default. The
engine judges by the memory of the whole process, so its share is what all may take beside request bodies; several
questions at a time have parts of it. Groups are read whole and become columns, which takes several times their size.
"""

from __future__ import annotations

from typing import NamedTuple


class Shares(NamedTuple):
    """Bytes for each part."""

    engine: int  # the process as a whole, as the engine sees it
    question: int  # one statement that reads
    bodies: int  # HTTP bodies that are being received or checked
    group: int  # one insert


def shares(max_memory: int) -> Shares:
    """Return the shares of so many bytes."""
    return Shares(
        engine=max_memory * 4 // 5,
        question=max_memory * 3 // 20,
        bodies=max_memory // 8,
        group=max_memory // 40,
    )


class Room:
    """So many bytes for several; who finds none is refused before the machine suffers. For one event loop."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._taken = 0

    def take(self, size: int) -> bool:
        """Take so many bytes; False if there are not so many. Who is alone gets what it asks for."""
        if self._taken + size > self._size and self._taken:
            return False
        self._taken += size
        return True

    def give_back(self, size: int) -> None:
        """Let others have it."""
        self._taken -= size
