"""Spans and log records as JSON lines appended to a file, for a collector that tails it or a host without a network.

Many processes may append to one file: each batch is written whole under an advisory lock, and rotation happens under
the same lock.
"""

from __future__ import annotations

import fcntl
import os
from typing import Final

from clew import wire
from clew.senders import Kind

_MESSAGE_BYTES: Final = 1 << 18
_MAX_FILE_BYTES: Final = 100_000_000
_MODE: Final = 0o640  # spans may tell of customers: not for everyone


class FileSender:
    """Append to ``path``; at ``max_bytes`` it becomes ``path.1`` and so on up to ``backups``, the oldest is deleted."""

    max_message_bytes: int = _MESSAGE_BYTES

    def __init__(self, path: str, max_bytes: int = _MAX_FILE_BYTES, backups: int = 1) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._backups = backups
        self._fd = -1

    def send(self, messages: list[bytes], kind: Kind = "spans") -> None:
        """Append one line per span, or one line of log records."""
        lines = b"\n".join(messages) + b"\n" if kind == "spans" else wire.join(messages, kind) + b"\n"
        try:
            fd = self._lock_current_file(len(lines))
        except OSError:
            self.close()  # a rotation that failed holds the lock
            raise
        try:
            self._write(fd, lines)
        finally:
            fcntl.flock(fd, fcntl.LOCK_UN)

    def _write(self, fd: int, lines: bytes) -> None:
        start = os.fstat(fd).st_size
        written = 0
        try:
            while written < len(lines):
                written += os.write(fd, lines[written:])
        except OSError:
            os.ftruncate(fd, start)  # a full disk must not leave half a line for the next writer to complete
            raise

    def _lock_current_file(self, coming_bytes: int) -> int:
        """Return the locked file that ``path`` names now: another process may have rotated it while we waited."""
        while True:
            if self._fd < 0:
                self._fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, _MODE)
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            mine = os.fstat(self._fd)
            try:
                named = os.stat(self._path)
            except FileNotFoundError:
                named = None
            if named is None or (named.st_ino, named.st_dev) != (mine.st_ino, mine.st_dev):
                self.close()  # which also unlocks
                continue
            if mine.st_size and mine.st_size + coming_bytes > self._max_bytes:
                self._rotate()
                self.close()
                continue
            return self._fd

    def _rotate(self) -> None:
        for number in range(self._backups, 0, -1):
            older = f"{self._path}.{number}"
            newer = self._path if number == 1 else f"{self._path}.{number - 1}"
            if os.path.exists(newer):
                os.replace(newer, older)
        if self._backups == 0:
            os.unlink(self._path)

    def close(self) -> None:
        """Close the file. The next message opens it again."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
