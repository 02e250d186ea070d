"""Between ingest and the store: what makes "acknowledged means stored, once" true across a kill -9.

A payload is written here *before* it is acknowledged, at the end of the file of the group that is gathering; the file
goes when the whole group is in the store. Beside the rows it holds everything that must happen together with them: the
token of the insert (in the file's name), the digest of the payload, how far a tailed file has been read.

* Killed before the last byte is written: nobody was told that the payload is kept, and a retry is new. The next start
  finds the end of the file cut off and leaves it out.
* Killed after it: the next start finds the file and inserts it again. The engine knows the token if the first insert
  had come through, and then the second one does nothing.
* A client that got no answer and sends the same bytes again is recognised by the digest, also after a restart, and told
  that they are stored. Digests are remembered for the last 100,000 to 200,000 payloads: two minutes at 150,000 spans a
  second, days for most.
* Is the store down, files stay and are the spool.

The files survive the death of the process, not a power cut: like the store, this does not wait for the disk (fsync).
"""

from __future__ import annotations

import json
import os
import time
import uuid
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from clew.collector.store import Kind

DIGEST_BYTES: Final = 16
REMEMBERED: Final = 100_000  # digests in one generation; two are kept


class Entry(NamedTuple):
    """One payload: JSON objects joined by commas. ``offsets`` is how far tailed files are read with it."""

    rows: bytes
    items: int
    digest: bytes | None
    offsets: Mapping[str, Any]


class Group:
    """Payloads of one kind that become one insert: a file here, and the same in memory. Made by :class:`Journal`.

    ``stored`` is done when they can be queried, or when the store has failed and only the file is left. ``due`` is when
    the group is to be inserted, on the monotonic clock.
    """

    __slots__ = ("born", "due", "entries", "fd", "items", "kind", "name", "size", "stored")

    def __init__(self, name: str, kind: Kind, fd: int = -1) -> None:
        self.name = name
        self.kind = kind
        self.fd = fd
        self.entries: list[Entry] = []
        self.items = self.size = 0
        self.born = time.monotonic()
        self.due = self.born
        self.stored: Future[None] = Future()
        self.stored.set_running_or_notify_cancel()  # several may wait for it: nobody can cancel it for all

    @property
    def token(self) -> str:
        """The token of the insert."""
        return self.name.partition(".")[0].rpartition("-")[2]

    def add(self, entry: Entry) -> None:
        """Take one more payload, which is in the file already."""
        self.entries.append(entry)
        self.items += entry.items
        self.size += len(entry.rows)


class Journal:
    """The directory of groups that are not yet known to be stored.

    ``open``, ``append`` and ``seal`` are called under ingest's lock, the rest by its one thread, save where noted.
    ``OSError`` from any method means that the disk does not take more.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._recent = _Recent(directory)
        self._offsets_file = directory / "offsets.json"
        self._offsets: dict[str, Any] = _read_json(self._offsets_file)
        self._pending: dict[str, int] = {}  # file name -> bytes, oldest first
        for path in sorted(directory.glob("*.group")):
            self._pending[path.name] = path.stat().st_size
            for entry in self.read(path.name).entries:
                self._remember(entry)

    def remembers(self, digest: bytes) -> bool:
        """Say whether a payload with this digest is kept already. Any thread."""
        return digest in self._recent

    def offset(self, key: str) -> Any:
        """Return how far the tailed file ``key`` was read when its last line was kept; None if never. Any thread."""
        return self._offsets.get(key)

    def pending(self) -> list[str]:
        """Return the names of the groups that are written but not known to be stored, oldest first."""
        return list(self._pending)

    def pending_bytes(self) -> int:
        """Return what they take on disk. Any thread."""
        return sum(list(self._pending.values()))

    def open(self, kind: Kind) -> Group:
        """Begin a group."""
        name = f"{time.time_ns():020d}-{kind}-{uuid.uuid4().hex}.group"  # sorts by age
        fd = os.open(self._directory / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._pending[name] = 0
        return Group(name, kind, fd)

    def append(self, group: Group, entry: Entry) -> None:
        """Keep a payload; from here on it will be stored."""
        before = self._pending[group.name]
        parts = (_head(entry), entry.rows, b"\n")
        whole = sum(map(len, parts))
        try:
            if os.writev(group.fd, parts) != whole:
                raise OSError(28, "No space left on device")  # the disk took a part of it
        except OSError:
            os.ftruncate(group.fd, before)
            raise
        self._pending[group.name] = before + whole
        self._remember(entry)
        group.add(entry)

    def seal(self, group: Group) -> None:
        """Add no more to it."""
        os.close(group.fd)
        group.fd = -1

    def read(self, name: str) -> Group:
        """Return a group that was written."""
        group = Group(name, cast("Kind", name.split("-")[1]))
        for entry in _entries((self._directory / name).read_bytes()):
            group.add(entry)
        return group

    def done(self, group: Group) -> None:
        """Forget a group that is stored (or that the store will never take)."""
        self._recent.save([entry.digest for entry in group.entries if entry.digest is not None])
        if any(entry.offsets for entry in group.entries):
            self._save_offsets()
        (self._directory / group.name).unlink()
        del self._pending[group.name]

    def set_aside(self, group: Group, index: int) -> str:
        """Keep one payload of a group for a person to look at; return the name of the file."""
        name = f"{group.name}.{index}.bad"
        (self._directory / name).write_bytes(b"[%b]" % group.entries[index].rows)
        return name

    def close(self) -> None:
        """Let go of the files. Nothing is lost by not calling it."""
        self._recent.close()

    def _remember(self, entry: Entry) -> None:
        if entry.digest is not None:
            self._recent.add(entry.digest)
        if entry.offsets:
            self._offsets = {**self._offsets, **entry.offsets}  # a new one: another thread may be saving the last

    def _save_offsets(self) -> None:
        temporary = self._offsets_file.with_suffix(".tmp")
        temporary.write_text(json.dumps(self._offsets), encoding="utf-8")
        temporary.replace(self._offsets_file)


class _Recent:
    """Digests of what is kept, in two generations: when the young one is full it becomes the old one."""

    def __init__(self, directory: Path) -> None:
        self._young_file, self._old_file = directory / "recent.1", directory / "recent.0"
        self._young, self._old = set(_digests(self._young_file)), set(_digests(self._old_file))
        self._file = self._young_file.open("ab", buffering=0)

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._young or digest in self._old

    def add(self, digest: bytes) -> None:
        self._young.add(digest)

    def save(self, digests: list[bytes]) -> None:
        if not digests:
            return
        self._file.write(b"".join(digests))
        if len(self._young) >= REMEMBERED:
            self._turn()

    def _turn(self) -> None:
        self._file.close()
        self._young_file.replace(self._old_file)
        self._file = self._young_file.open("ab", buffering=0)
        self._old, self._young = self._young, set()

    def close(self) -> None:
        self._file.close()


def _head(entry: Entry) -> bytes:
    """Return one line of JSON that says what follows."""
    digest = (entry.digest or b"").hex().encode()
    offsets = json.dumps(entry.offsets).encode() if entry.offsets else b"{}"
    return b'{"items":%d,"digest":"%b","offsets":%b,"bytes":%d}\n' % (entry.items, digest, offsets, len(entry.rows))


def _entries(data: bytes) -> Iterator[Entry]:
    """Read what :func:`_head` and the rows behind it say; a last one cut short by a kill is left out."""
    start = 0
    while (end := data.find(b"\n", start)) >= 0:
        about = json.loads(data[start:end])
        start = end + 1 + about["bytes"] + 1
        if start > len(data):
            return
        yield Entry(data[end + 1 : start - 1], about["items"], bytes.fromhex(about["digest"]) or None, about["offsets"])


def _digests(path: Path) -> Iterator[bytes]:
    """Read the digests; a last one cut short by a kill is left out."""
    data = path.read_bytes() if path.exists() else b""
    whole = len(data) - len(data) % DIGEST_BYTES
    if whole != len(data):
        os.truncate(path, whole)
    return (data[start : start + DIGEST_BYTES] for start in range(0, whole, DIGEST_BYTES))


def _read_json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}
