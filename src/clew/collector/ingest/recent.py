"""Which payloads were kept lately: their digests in memory and in two files, so a repeat is known after a restart.

Two generations of :data:`REMEMBERED` digests: when the young one is full it becomes the old one and the oldest are
forgotten: two minutes at 150,000 spans a second, days for most.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final

from clew.collector.ingest.record import DIGEST_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

REMEMBERED: Final = 100_000  # digests in one generation; two are kept


class Recent:
    """Digests of kept payloads. ``in`` and ``add`` under ingest's lock, the rest by its one thread."""

    def __init__(self, directory: Path) -> None:
        self._young_file, self._old_file = directory / "recent.1", directory / "recent.0"
        self._young, self._old = _digests(self._young_file), _digests(self._old_file)

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._young or digest in self._old

    def add(self, digest: bytes) -> None:
        """Remember a digest for the life of this process."""
        self._young.add(digest)

    def save(self, digests: Sequence[bytes]) -> None:
        """Remember them over a restart, too. Raises ``OSError``, and has then written nothing."""
        if not digests:
            return
        _append(self._young_file, b"".join(digests))
        if len(self._young) >= REMEMBERED:
            self._young_file.replace(self._old_file)
            self._old, self._young = self._young, set()


def _append(path: Path, data: bytes) -> None:
    """Add to the file, or leave it as it was; a piece that a kill left at its end is cut off first."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        size = os.fstat(fd).st_size
        whole = size - size % DIGEST_BYTES
        if whole != size:
            os.ftruncate(fd, whole)
        if os.write(fd, data) != len(data):
            os.ftruncate(fd, whole)  # else all that follow would be read from the wrong byte on
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    finally:
        os.close(fd)


def _digests(path: Path) -> set[bytes]:
    try:
        data = path.read_bytes()
    except OSError:  # not there yet, or not ours to read: repeats from before the start are not known then
        return set()
    return {data[start : start + DIGEST_BYTES] for start in range(0, len(data) - DIGEST_BYTES + 1, DIGEST_BYTES)}
