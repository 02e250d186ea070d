"""Between the collector's loggers and the terminal: the same line is not written a thousand times.

What goes wrong for one request goes wrong for all that are under way, each with its traceback; the tenth says no more
than the first, and megabytes of them hide the line that would.
"""

from __future__ import annotations

import logging
import threading
from typing import Final

FEW: Final = 5  # lines of one kind within ...
EVERY_S: Final = 10.0
MAX_KINDS: Final = 1_000  # remembered

_Kind = tuple[str, int, str, str]


class Floods(logging.Filter):
    """A filter for a handler. Lines of one kind share logger, level, template and type of exception.

    The first of them after a flood says how many were left out. Any thread.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._seen: dict[_Kind, tuple[float, int]] = {}  # since when, how many

    def filter(self, record: logging.LogRecord) -> bool:
        """Let the record through, or not."""
        kind = _kind(record)
        with self._lock:
            since, count = self._seen.get(kind, (record.created, 0))
            over = record.created - since >= EVERY_S
            if len(self._seen) >= MAX_KINDS:
                self._seen.clear()
            self._seen[kind] = (record.created, 1) if over else (since, count + 1)
        if over and count > FEW:
            record.msg, record.args = f"{record.getMessage()} ({count - FEW:,} more like this)", None
        return over or count < FEW


def _kind(record: logging.LogRecord) -> _Kind:
    failure = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else ""
    return record.name, record.levelno, str(record.msg)[:200], failure
