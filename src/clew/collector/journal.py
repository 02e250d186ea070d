"""Between ingest and the store: what makes "acknowledged means stored, once" true across a kill -9.

A group of payloads is written to one file here *before* it is inserted, and the file goes when the insert has returned.
The file holds everything that must happen together: the rows, the token of the insert, the digests of the payloads and
how far a tailed file has been read. Writing it (to a temporary name, then rename) is the one moment that decides.

* Killed before that moment: nothing was stored, nobody was told so, and a retry is new.
* Killed after it: the next start finds the file and inserts it again. The engine knows the token if the first insert
  had come through, and then the second one does nothing.
* A client that got no answer and sends the same bytes again is recognised by the digest, also after a restart, and told
  that they are stored. Digests are remembered for the last 100,000 to 200,000 payloads: two minutes at 150,000 spans a
  second, days for most.
* Is the store down, files stay and are the spool.

The files survive the death of the process, not a power cut: like the store, this does not wait for the disk (fsync).
"""

from __future__ import annotations

import contextlib
import json
import os
import time
import uuid
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from clew.collector.store import Kind

DIGEST_BYTES: Final = 16
REMEMBERED: Final = 100_000  # digests in one generation; two are kept


class Group(NamedTuple):
    """What one insert stores: rows are JSON objects joined by commas, ``offsets`` how far tailed files are read."""

    token: str
    kind: Kind
    items: int
    digests: Sequence[bytes]
    offsets: Mapping[str, Any]
    rows: bytes


class Journal:
    """The directory of groups that are not yet known to be stored. Only ingest's one thread calls it, save where noted.

    ``OSError`` from any method means that the disk does not take more.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._recent = _Recent(directory)
        self._offsets_file = directory / "offsets.json"
        self._offsets: dict[str, Any] = _read_json(self._offsets_file)
        self._pending: dict[str, int] = {}  # file name -> bytes, oldest first
        for leftover in directory.glob("*.tmp"):
            leftover.unlink()
        for path in sorted(directory.glob("*.group")):
            self._pending[path.name] = path.stat().st_size
            group = _decode(path.read_bytes())
            self._recent.add(group.digests)
            self._offsets.update(group.offsets)

    def remembers(self, digest: bytes) -> bool:
        """Say whether a payload with this digest is kept already. Any thread."""
        return digest in self._recent

    def __contains__(self, name: object) -> bool:
        return name in self._pending

    def offset(self, key: str) -> Any:
        """Return how far the tailed file ``key`` was read when its last line was kept; None if never. Any thread."""
        return self._offsets.get(key)

    def pending(self) -> list[str]:
        """Return the names of the groups that are written but not known to be stored, oldest first."""
        return list(self._pending)

    def pending_bytes(self) -> int:
        """Return what they take on disk. Any thread."""
        return sum(list(self._pending.values()))

    def write(self, group: Group) -> str:
        """Keep a group; from here on it will be stored. Returns its name."""
        name = f"{time.time_ns():020d}-{group.token}.group"  # sorts by age
        data = _encode(group)
        temporary = self._directory / f"{name}.tmp"
        try:
            temporary.write_bytes(data)
            temporary.rename(self._directory / name)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        self._pending[name] = len(data)
        self._recent.add(group.digests)
        self._offsets.update(group.offsets)
        return name

    def read(self, name: str) -> Group:
        """Return a group that was written."""
        return _decode((self._directory / name).read_bytes())

    def done(self, name: str, group: Group) -> None:
        """Forget a group that is stored (or that the store will never take)."""
        self._recent.save(group.digests)
        if group.offsets:
            self._save_offsets()
        (self._directory / name).unlink()
        del self._pending[name]

    def discard(self, name: str, group: Group) -> None:
        """Take a group back: none of it was stored, and its payloads may come again."""
        self._recent.remove(group.digests)
        (self._directory / name).unlink()
        del self._pending[name]

    def set_aside(self, name: str) -> None:
        """Keep the file for a person to look at, as ``<name>.bad``, and no longer count it as pending."""
        path = self._directory / name
        path.rename(path.with_name(f"{name}.bad"))
        del self._pending[name]

    def close(self) -> None:
        """Let go of the files. Nothing is lost by not calling it."""
        self._recent.close()

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

    def add(self, digests: Sequence[bytes]) -> None:
        self._young.update(digests)

    def remove(self, digests: Sequence[bytes]) -> None:
        self._young.difference_update(digests)

    def save(self, digests: Sequence[bytes]) -> None:
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


def new_token() -> str:
    """Return a token that no other group has had or will have."""
    return uuid.uuid4().hex


def _encode(group: Group) -> bytes:
    """One line of JSON about the group, then its rows as they are."""
    about = {
        "token": group.token,
        "kind": group.kind,
        "items": group.items,
        "digests": [digest.hex() for digest in group.digests],
        "offsets": dict(group.offsets),
    }
    return b"%b\n%b" % (json.dumps(about).encode(), group.rows)


def _decode(data: bytes) -> Group:
    head, _, rows = data.partition(b"\n")
    about = json.loads(head)
    digests = [bytes.fromhex(digest) for digest in about["digests"]]
    return Group(about["token"], about["kind"], about["items"], digests, about["offsets"], rows)


def _digests(path: Path) -> Iterator[bytes]:
    """Read the digests; a last one cut short by a kill is left out."""
    data = path.read_bytes() if path.exists() else b""
    whole = len(data) - len(data) % DIGEST_BYTES
    if whole != len(data):
        os.truncate(path, whole)
    return (data[start : start + DIGEST_BYTES] for start in range(0, whole, DIGEST_BYTES))


def _read_json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}
