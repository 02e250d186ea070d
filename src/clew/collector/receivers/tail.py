"""Spans and log records from files that grow: ``--tail GLOB``, JSON lines, as clew's ``file:`` reporter writes them.

Every line is one span object, an array of spans, or ``{"logs": [...]}``. A line counts when its newline is there; a bad
one is counted and skipped.

How far a file was read is stored in the same step as what was read (see ``offsets`` of :meth:`Ingest.offer`), so a
restart, also after a kill -9, goes on at the very line. A file is known by device and inode and by its first bytes, not
by its name: renaming (rotation) goes on with it under the new name, or to its end if the name no longer matches; a file
that was cut to nothing and written anew (copytruncate), or a new file in the place of an old one, is read from its
start.
"""

from __future__ import annotations

import glob
import hashlib
import logging
import os
import threading
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from clew import wire
from clew.collector.ingest import Ingest, Unavailable
from clew.collector.ingest.payload import BadPayload, check

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from clew.collector.store import Kind

POLL_S: Final = 0.25
CHUNK_BYTES: Final = 1 << 20  # read at a time, and so about the size of a payload
MAX_LINE_BYTES: Final = 8 << 20  # a line longer than this is skipped
HEAD_BYTES: Final = 256  # of a file, to tell it from another one with the same inode

_log = logging.getLogger("clew.collector")


class Tail:
    """Follows all files that match the globs, one thread for all, until :meth:`close`."""

    def __init__(self, ingest: Ingest, globs: Sequence[str]) -> None:
        self._ingest = ingest
        self._globs = globs
        self._files: dict[str, _File] = {}
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="clew-tail")
        self._thread.start()

    def close(self) -> None:
        """Read what is there, then stop. Idempotent."""
        self._closing.set()
        self._thread.join()
        for file in self._files.values():
            file.close()

    def _run(self) -> None:
        while True:
            closing = self._closing.is_set()
            try:
                self._round()
            except Unavailable as unavailable:  # nothing is lost: it is still in the file
                _log.warning("tail: %s", unavailable)
            if closing:
                return
            self._closing.wait(POLL_S)

    def _round(self) -> None:
        """Read each file to its end; let go of those that are gone from the globs and read."""
        names = {name for pattern in self._globs for name in glob.glob(pattern, recursive=True)}
        present = {key for name in sorted(names) if (key := self._open(name))}
        for key, file in list(self._files.items()):
            self._read(file)
            if key not in present:
                file.close()
                del self._files[key]

    def _open(self, name: str) -> str | None:
        """Return the key of the file under this name, opened if it is new."""
        try:
            about = os.stat(name)
            key = f"{about.st_dev}-{about.st_ino}"
            if key not in self._files and os.path.isfile(name):
                self._files[key] = _File(key, open(name, "rb"), self._ingest.offset(key))  # noqa: SIM115 - kept open
        except OSError as error:
            _log.debug("tail: %s", error)  # gone between the glob and now, or not ours to read
            return None
        return key

    def _read(self, file: _File) -> None:
        file.notice_truncation()
        while (lines := file.next_lines()) is not None:
            try:
                self._offer(lines, file)
            except BadPayload:
                self._skip("unreadable")  # by the store, though it passed the check
            file.advance()

    def _offer(self, lines: list[bytes], file: _File) -> None:
        """Have the lines kept, spans and log records and how far the file is read in one step."""
        if file.skipped_line:
            self._skip("too_long")
        payloads = list(self._payloads(lines))
        self._ingest.offer_all(payloads, "tail", {file.key: file.mark()}).result()

    def _payloads(self, lines: Iterable[bytes]) -> Iterator[tuple[Kind, bytes]]:
        """Join span lines to one payload; bad ones are found by looking at each, which only then costs."""
        spans: list[bytes] = []
        logs: list[bytes] = []
        for line in lines:
            (logs if line.startswith(wire.LOGS_PREFIX) else spans).append(line)
        spans = [line.strip()[1:-1] if line.startswith(b"[") else line for line in spans]
        if spans := self._good("spans", [line for line in spans if line.strip()]):
            yield "spans", b"[%b]" % b",".join(spans)
        for line in logs:
            if self._good("logs", [line]):
                yield "logs", line

    def _good(self, kind: Kind, lines: list[bytes]) -> list[bytes]:
        wrapped = b"[%b]" % b",".join(lines) if kind == "spans" else lines[0]
        try:
            check(kind, wrapped)
        except BadPayload as bad:
            if len(lines) > 1:
                return [line for line in lines if self._good(kind, [line])]
            self._skip(bad.reason)
            return []
        return lines

    def _skip(self, reason: str) -> None:
        self._ingest.metrics.count("tail_lines_skipped_total", reason=reason)


class _File:
    """One open file and how far it is read: ``offset`` is stored, what is beyond it is being read."""

    def __init__(self, key: str, opened: BinaryIO, mark: Any) -> None:
        self.key = key
        self.skipped_line = False
        self._file = opened
        self._offset = self._end = 0
        self._in_long_line = False
        if mark is not None and self._head(mark["offset"]) == mark["head"]:
            self._offset = self._end = int(mark["offset"])
        self._known_head = self._head(self._offset)

    def mark(self) -> dict[str, Any]:
        """Return what to remember once everything up to here is stored."""
        return {"offset": self._end, "head": self._head(self._end)}

    def advance(self) -> None:
        """Go on behind what :meth:`next_lines` returned: it is stored."""
        self._offset = self._end
        self._known_head = self._head(self._offset)

    def notice_truncation(self) -> None:
        """Start again if this is no longer the file that was read: shorter than that, or with another beginning."""
        if os.fstat(self._file.fileno()).st_size < self._offset or self._head(self._offset) != self._known_head:
            self._offset = self._end = 0
            self._known_head = self._head(0)

    def next_lines(self) -> list[bytes] | None:
        """Return the whole lines of the next chunk, None at the end of what is whole."""
        self._file.seek(self._offset)
        chunk = self._file.read(CHUNK_BYTES)
        whole = chunk.rfind(b"\n") + 1
        if not whole and len(chunk) == CHUNK_BYTES:
            chunk += self._file.read(MAX_LINE_BYTES - CHUNK_BYTES)
            whole = chunk.rfind(b"\n") + 1
        self.skipped_line = not whole and len(chunk) >= MAX_LINE_BYTES
        if self.skipped_line:
            whole = len(chunk)
        if not whole:
            return None
        self._end = self._offset + whole
        lines = chunk[:whole].split(b"\n")
        begins_inside, self._in_long_line = self._in_long_line, self.skipped_line
        if self.skipped_line:
            return []
        return [line for line in lines[1 if begins_inside else 0 :] if line.strip()]

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _head(self, offset: int) -> str:
        """Return a digest of the first bytes, of those that are read already: they do not change in the same file."""
        size = min(offset, HEAD_BYTES)
        return hashlib.sha256(os.pread(self._file.fileno(), size, 0)).hexdigest()[:16]
