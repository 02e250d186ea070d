"""Between ingest and the store: what makes "acknowledged means kept, once" true across a kill -9.

A payload is written here *before* it is acknowledged, at the end of the file of the group that is gathering, in one
call; the kernel has it then, whatever becomes of the process. The file goes when the whole group is in the store.

* Killed before the last byte is written: nobody was told that the payload is kept, and a retry is new. The next start
  finds the end of the file cut off and leaves it out.
* Killed after it: the next start finds the file and inserts it. The name of the file is the token of the insert, which
  the engine knows if the first one had come through.
* A client that sends the same bytes again is recognised by their digest (:mod:`~clew.collector.ingest.recent`).
* Is the store down, files stay and are the spool.

The order that makes "once" true on a full disk: what needs room (digests, offsets) is written before the insert; what
marks a group as stored, the end of its file, needs none.

Damage never ends a start: what is no record is set aside in ``aside/``, with a line in the log, and the rest goes on.
Of what is set aside the newest :data:`ASIDE_BYTES` are kept.

The files survive the death of the process, not a power cut: for that see :mod:`~clew.collector.ingest.durable`.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import re
import uuid
from typing import TYPE_CHECKING, Any, Final

from clew.collector.ingest import record as wire
from clew.collector.ingest.recent import Recent
from clew.collector.ingest.record import Gap, Record

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

ASIDE_BYTES: Final = 16_000_000  # of files set aside
_NAME: Final = re.compile(r"(\d{12})-([0-9a-f]{32}(?:\.[\w.]+)?)\.group")
_OWN: Final = frozenset({"offsets.json", "offsets.tmp", "recent.0", "recent.1", "aside"})

_log = logging.getLogger("clew.collector")


class Group:
    """Payloads that become one insert: a file here, and where it stands in its life. Made by :class:`Journal`.

    ``due``: when it is to be inserted, on the monotonic clock. ``failures``: how often the store refused it, though it
    works; ``since``: how many inserts had come through when it did so first. ``prepared``, ``stored``: which steps are
    done. ``suspect``: an insert of it may have come through.
    """

    __slots__ = (
        "due",
        "failures",
        "fd",
        "items",
        "name",
        "prepared",
        "seq",
        "since",
        "size",
        "stored",
        "suspect",
        "token",
    )

    def __init__(self, seq: int, token: str, size: int = 0) -> None:
        self.seq = seq
        self.token = token
        self.name = f"{seq:012d}-{token}.group"
        self.size = size  # bytes of the file
        self.items = 0
        self.fd = -1
        self.due = 0.0
        self.failures = self.since = 0
        self.prepared = self.stored = self.suspect = False

    @property
    def is_empty(self) -> bool:
        """Whether nothing was written to it yet."""
        return self.size <= len(wire.HEADER)


class Journal:
    """The directory of groups that are not yet known to be stored.

    ``open``, ``append`` and ``seal`` are called under ingest's lock, the rest by its one thread, save where noted.
    ``OSError`` from any method means that the disk does not take it now; the constructor raises none.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._aside = directory / "aside"
        self._aside_bytes = 0
        self._offsets_file = directory / "offsets.json"
        self._pending: dict[str, int] = {}  # file name -> bytes
        self._tidy()
        self._recent = Recent(directory)
        self._through, self._saved = self._read_offsets()
        self._offsets = dict(self._saved)
        self.left = self._find_left()  # groups of an earlier life, oldest first
        self._seq = max([self._through, *(group.seq for group in self.left)])

    # --- receivers' side ---

    def remembers(self, digest: bytes) -> bool:
        """Say whether a payload with this digest is kept already. Any thread."""
        return digest in self._recent

    def offset(self, key: str) -> Any:
        """Return how far the tailed file ``key`` was read when its last line was kept; None if never. Any thread."""
        return self._offsets.get(key)

    def pending_bytes(self) -> int:
        """Return what groups and files set aside take on disk. Any thread."""
        return sum(list(self._pending.values())) + self._aside_bytes

    def open(self) -> Group:
        """Begin a group."""
        group = Group(self._seq + 1, uuid.uuid4().hex)
        self._create(group, b"")
        self._seq += 1
        return group

    def append(self, group: Group, record: Record) -> int:
        """Keep a payload; from here on it will be stored. Return the bytes that it takes."""
        whole = _write(group.fd, wire.encode(record), group.size)
        group.size += whole
        group.items += record.items
        self._pending[group.name] = group.size
        self._remember(record)
        return whole

    def seal(self, group: Group) -> None:
        """Add no more to it."""
        fd, group.fd = group.fd, -1
        os.close(fd)

    # --- the store's side ---

    def read(self, group: Group) -> list[Record]:
        """Return what a group holds."""
        data = (self._directory / group.name).read_bytes()
        return [found for found in wire.scan(data) if isinstance(found, Record)]

    def prepare(self, group: Group, records: Sequence[Record]) -> None:
        """Write down what must be known once the group is stored, as long as there is room for it. Idempotent."""
        if group.prepared:
            return
        self._recent.save([record.digest for record in records if record.digest])
        offsets = {key: value for record in records for key, value in record.offsets.items()}
        if offsets and group.seq > self._through:
            self._save_offsets(group.seq, {**self._saved, **offsets})
        group.prepared = True

    def done(self, group: Group) -> None:
        """Forget a group that is stored (or set aside)."""
        path = self._directory / group.name
        try:
            path.unlink(missing_ok=True)
        except OSError:
            os.truncate(path, 0)  # as good: a group of nothing
        self._pending.pop(group.name, None)

    def split(self, group: Group, records: Sequence[Record]) -> list[Group]:
        """Make two groups of one, which has more than one payload, or payloads of both kinds.

        By kind first, for one kind may be in the store by this group's token; then by halves. Killed in the middle:
        the next start finds the whole and forgets the halves, of which none was inserted then.
        """
        parts = _by_kind(records)
        names = ("spans", "logs")
        if len(parts) < 2:
            middle = len(records) // 2
            parts, names = [list(records[:middle]), list(records[middle:])], ("0", "1")
        halves = []
        for name, part in zip(names, parts, strict=True):
            half = Group(group.seq, f"{group.token}.{name}")
            half.prepared, half.failures, half.since = True, group.failures, group.since
            self._create(half, b"".join(piece for record in part for piece in wire.encode(record)))
            self.seal(half)
            halves.append(half)
        self.done(group)
        return halves

    def set_aside(self, group: Group, records: Sequence[Record], reason: str) -> str:
        """Keep a group for a person to look at; return the name of the file."""
        rows = b"\n".join(bytes(rows) for record in records for rows in (record.spans, record.logs) if rows)
        name = self._put_aside(f"{group.token}.bad", reason.encode() + b"\n" + rows)
        self.done(group)
        return name

    def set_aside_foreign(self, name: str, data: bytes) -> str:
        """Keep bytes that came from elsewhere for a person to look at; return the name of the file. Any thread."""
        return self._put_aside(name, data)

    # --- within ---

    def _create(self, group: Group, records: bytes) -> None:
        path = self._directory / group.name
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        try:
            group.fd = os.open(path, flags, 0o600)
        except FileNotFoundError:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            group.fd = os.open(path, flags, 0o600)
        try:
            group.size = _write(group.fd, (wire.HEADER, records), 0)
        except OSError:
            self.seal(group)
            path.unlink()
            raise
        self._pending[group.name] = group.size

    def _remember(self, record: Record) -> None:
        if record.digest:
            self._recent.add(record.digest)
        if record.offsets:
            self._offsets.update(record.offsets)

    def _read_offsets(self) -> tuple[int, dict[str, Any]]:
        """Return up to which group offsets are saved, and the offsets."""
        try:
            read = json.loads(self._offsets_file.read_bytes())
            return int(read["through"]), dict(read["offsets"])
        except FileNotFoundError:
            return 0, {}
        except OSError as error:
            _log.error("journal: %s cannot be read (%s); tailed files are read from their start", error.filename, error)
            return 0, {}
        except (ValueError, TypeError, KeyError):
            name = self._move_aside("offsets.json")
            _log.error(
                "journal: offsets.json is damaged, set aside as %s; tailed files are read from their start", name
            )
            return 0, {}

    def _save_offsets(self, through: int, offsets: dict[str, Any]) -> None:
        temporary = self._offsets_file.with_suffix(".tmp")
        temporary.write_text(json.dumps({"through": through, "offsets": offsets}), encoding="utf-8")
        temporary.replace(self._offsets_file)
        self._through, self._saved = through, offsets

    def _tidy(self) -> None:
        """Make the directory, and see that nothing in it stands in the way."""
        try:
            if self._directory.exists() and not self._directory.is_dir():
                self._directory.rename(self._directory.with_name(f"{self._directory.name}.{uuid.uuid4().hex[:8]}.bad"))
                _log.error("journal: %s was no directory; it is set aside beside it", self._directory)
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._aside.mkdir(exist_ok=True, mode=0o700)
            self._aside_bytes = sum(path.stat().st_size for path in self._aside.iterdir() if path.is_file())
            for path in self._directory.iterdir():
                is_file = path.is_file() and not path.is_symlink()
                if not (is_file and (path.name in _OWN or _NAME.fullmatch(path.name))) and path != self._aside:
                    name = self._move_aside(path.name)
                    _log.error("journal: %s does not belong there; it is set aside as %s", path, name)
        except OSError as error:
            _log.error("journal: %s: nothing can be kept until this is mended", error)

    def _find_left(self) -> list[Group]:
        try:
            names = sorted(path.name for path in self._directory.iterdir())
        except OSError:
            return []
        matches = [match for name in names if (match := _NAME.fullmatch(name))]
        whole = {match[2] for match in matches}
        found = []
        for match in matches:
            group = Group(int(match[1]), match[2])
            group.suspect = True
            if group.token.rpartition(".")[0] in whole:  # a half, and the whole is there
                self.done(group)
            elif self._look_into(group):
                found.append(group)
        return found

    def _look_into(self, group: Group) -> bool:
        """Learn what a group that was left holds, set aside what is no record; say whether it is to be inserted."""
        path = self._directory / group.name
        try:
            data = path.read_bytes()
        except OSError as error:
            _log.error("journal: %s cannot be read (%s); it is tried again", path, error)
            return True
        group.size = self._pending[group.name] = len(data)
        records = 0
        for found in wire.scan(data):
            if isinstance(found, Record):
                records += 1
                self._remember_left(group, found)
            elif not found.torn:
                self._set_gap_aside(group.name, data, found)
        if not records:
            self.done(group)
        return records > 0

    def _remember_left(self, group: Group, record: Record) -> None:
        group.items += record.items
        if record.digest:
            self._recent.add(record.digest)
        if group.seq > self._through:
            self._offsets.update(record.offsets)

    def _set_gap_aside(self, name: str, data: bytes, gap: Gap) -> None:
        try:
            aside = self._put_aside(f"{name}.{gap.start}.bad", data[gap.start : gap.end])
        except OSError as error:
            aside = f"nothing, for the disk takes none of it ({error.strerror})"
        size = gap.end - gap.start
        _log.error("journal: %d bytes of %s at %d are damaged; they are set aside as %s", size, name, gap.start, aside)

    def _put_aside(self, name: str, data: bytes) -> str:
        self._make_room_aside(len(data))
        self._aside.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self._aside / name
        path.write_bytes(data)
        self._aside_bytes += len(data)
        return f"aside/{name}"

    def _move_aside(self, name: str) -> str:
        aside = f"{name}.{uuid.uuid4().hex[:8]}.bad"
        self._aside.mkdir(parents=True, exist_ok=True, mode=0o700)
        (self._directory / name).rename(self._aside / aside)
        return f"aside/{aside}"

    def _make_room_aside(self, size: int) -> None:
        """Let the oldest of what was set aside go, and say so."""
        if self._aside_bytes + size <= ASIDE_BYTES or not self._aside.is_dir():
            return
        about = sorted(
            (path.stat().st_mtime, path.stat().st_size, path) for path in self._aside.iterdir() if path.is_file()
        )
        self._aside_bytes = sum(size for _, size, _ in about)
        for _, taken, path in about:
            if self._aside_bytes + size <= ASIDE_BYTES:
                return
            path.unlink()
            self._aside_bytes -= taken
            _log.warning("journal: %s goes, for more was set aside than is kept (%d bytes)", path, ASIDE_BYTES)


def _write(fd: int, pieces: Sequence[bytes | memoryview], at: int) -> int:
    """Write all pieces at this place in one call, or nothing that counts; return their length."""
    whole = sum(map(len, pieces))
    try:
        if os.pwritev(fd, pieces, at) != whole:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # the disk took a part of it
    except OSError:
        with contextlib.suppress(OSError):  # the next payload is written over it
            os.ftruncate(fd, at)
        raise
    return whole


def _by_kind(records: Sequence[Record]) -> list[list[Record]]:
    """Return the records with their spans, and those with their log records; one list if there is one kind."""
    spans = [record._replace(logs=b"", log_count=0) for record in records if record.span_count]
    logs = [record._replace(spans=b"", span_count=0) for record in records if record.log_count]
    return [part for part in (spans, logs) if part]
