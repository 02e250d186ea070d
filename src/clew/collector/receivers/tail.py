"""Spans and log records from files that grow: ``--tail GLOB``, JSON lines, as clew's ``file:`` reporter writes them.

Every line is one span object, an array of spans, or ``{"logs": [...]}``. A line counts when its newline is there; each
is read by itself, and a bad one is counted and skipped: two halves never make a span.

How far a file was read is kept in the same step as what was read, spans and log records together (see
:meth:`Ingest.keep`), so a restart, also after a kill -9, goes on at the very line. A file is known by device and inode
and by its first bytes, not by its name: renaming (rotation) goes on with it under the new name, or to its end if the
name no longer matches; a file that was cut to nothing and written anew (copytruncate), or a new file in the place of an
old one, is read from its start.

One thread goes round all files and takes a piece of each, so that none keeps the others waiting, and a file that cannot
be read harms no other: it is tried again a little later.
"""

from __future__ import annotations

import glob
import hashlib
import logging
import os
import re
import stat
import threading
import time
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from clew.collector.ingest import Ingest, Unavailable
from clew.collector.ingest.payload import BadPayload, Checked, check

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from clew.collector.store import Kind

POLL_S: Final = 0.25
CHUNK_BYTES: Final = 1 << 20  # read at a time, and so about the size of a payload
MAX_LINE_BYTES: Final = 8 << 20  # a line longer than this is skipped
HEAD_BYTES: Final = 256  # of a file, to tell it from another one with the same inode
AGAIN_S: Final = 5.0  # until a file that could not be read is tried again
_LOGS_LINE: Final = re.compile(rb'\s*\{\s*"logs"\s*:')

_log = logging.getLogger("clew.collector")


class Tail:
    """Follows all files that match the globs, one thread for all, until :meth:`close`."""

    def __init__(self, ingest: Ingest, globs: Sequence[str]) -> None:
        self._ingest = ingest
        self._globs = globs
        self._files: dict[str, _File] = {}
        self._again: dict[str, float] = {}  # names and keys of what could not be read: when to try again
        self._told: set[str] = set()  # names of those, said once
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="clew-tail")
        self._thread.start()

    def close(self) -> None:
        """Stop at once; what was not read yet is read at the next start. Idempotent."""
        self._closing.set()
        self._thread.join()
        for file in self._files.values():
            file.close()

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                busy = self._round()
            except Exception:  # noqa: BLE001 - the thread must live on
                _log.exception("tail: unexpected failure; all files are tried again")
                busy = False
            if not busy:
                self._closing.wait(POLL_S)

    def _round(self) -> bool:
        """Take a piece of each file, drop those that are read and gone from the globs; return whether any had one."""
        present = self._present()
        busy: list[Future[None]] = []
        for key, file in list(self._files.items()):
            if self._closing.is_set():
                break
            try:
                kept = self._take(file)
            except Unavailable as unavailable:  # nothing is lost: it is still in the file
                _log.warning("tail: %s", unavailable)
                return False
            except Exception as error:  # noqa: BLE001 - whatever is wrong with one file, the others go on
                self._fail(key, file.name, error)
                self._drop(key)
                continue
            if kept:
                busy.append(kept)
            elif key not in present:
                if file.has_rest():
                    self._skip("unfinished")
                self._drop(key)
        self._wait(busy)
        return bool(busy)

    def _wait(self, kept: Sequence[Future[None]]) -> None:
        """Read no faster than is stored; the end does not wait for that."""
        while kept and not self._closing.is_set():
            kept = list(wait(kept, POLL_S).not_done)

    def _present(self) -> set[str]:
        """Open what is new among the names that match; return the keys of all."""
        names = {name for pattern in self._globs for name in glob.glob(pattern, recursive=True)}
        self._again = {name: at for name, at in self._again.items() if at > time.monotonic()}
        return {key for name in sorted(names) if name not in self._again and (key := self._open(name))}

    def _open(self, name: str) -> str | None:
        """Return the key of the file under this name, opened if it is new; None if there is nothing to read."""
        try:
            about = os.stat(name)
            key = f"{about.st_dev}-{about.st_ino}"
            if not stat.S_ISREG(about.st_mode) or key in self._again:
                return None
            if key not in self._files:
                self._files[key] = _File(key, name, self._ingest.offset(key))
        except FileNotFoundError:
            return None  # gone between the glob and now
        except OSError as error:
            self._fail(name, name, error)
            return None
        return key

    def _fail(self, key: str, name: str, error: Exception) -> None:
        self._ingest.metrics.count("tail_errors_total")
        self._again[key] = time.monotonic() + AGAIN_S
        if name in self._told:
            return
        self._told.add(name)
        if isinstance(error, OSError):
            _log.warning("tail: %s cannot be read (%s); it is tried again", name, error.strerror or error)
        else:
            _log.error("tail: unexpected failure of %s; it is tried again", name, exc_info=error)

    def _drop(self, key: str) -> None:
        self._files.pop(key).close()

    def _take(self, file: _File) -> Future[None] | None:
        """Have the next lines kept, if there are any, and with them how far the file is read."""
        file.notice_truncation()
        lines = file.next_lines()
        if lines is None:
            return None
        kept = self._ingest.keep(self._payloads(lines), "tail", {file.key: file.mark()})
        if file.skipped_line:
            self._skip("too_long")
        file.advance()
        self._told.discard(file.name)
        return kept

    def _payloads(self, lines: Iterable[bytes]) -> list[Checked]:
        """Return the spans of the lines and their log records, each as one payload."""
        found: dict[Kind, list[Checked]] = {"spans": [], "logs": []}
        for line in lines:
            if checked := self._checked(line.strip()):
                found[checked.kind].append(checked)
        return [
            Checked(kind, b",".join(one.rows for one in all_of), sum(one.items for one in all_of))
            for kind, all_of in found.items()
            if all_of
        ]

    def _checked(self, line: bytes) -> Checked | None:
        """Return what a line holds; None if nothing, or nothing good."""
        is_span = line.startswith(b"{") and not _LOGS_LINE.match(line)
        try:
            checked = check("spans", b"[%b]" % line) if is_span else check(_kind(line), line)
        except BadPayload as bad:
            self._skip(bad.reason)
            return None
        if is_span and checked.items != 1:  # several objects with commas between are no JSON
            self._skip("malformed")
            return None
        return checked if checked.items else None

    def _skip(self, reason: str) -> None:
        self._ingest.metrics.count("tail_lines_skipped_total", reason=reason)


def _kind(line: bytes) -> Kind:
    return "logs" if line.startswith(b"{") else "spans"


class _File:
    """One open file and how far it is read: ``offset`` is stored, what is beyond it is being read."""

    def __init__(self, key: str, name: str, mark: Any) -> None:
        self.key = key
        self.name = name
        self.skipped_line = False
        self._file = _opened(name)
        self._in_long_line = False
        try:
            self._offset = self._end = self._known_offset(mark)
            self._known_head = self._head(self._offset)
        except OSError:
            self.close()
            raise

    def _known_offset(self, mark: Any) -> int:
        """Return where to go on: the start, if what is remembered is of another file, or no mark at all."""
        if mark is None:
            return 0
        offset = mark.get("offset") if isinstance(mark, dict) else None
        if type(offset) is not int or offset < 0:
            _log.warning("tail: how far %s was read is not known any more; it is read from its start", self.name)
            return 0
        return offset if self._head(offset) == mark.get("head") else 0

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

    def has_rest(self) -> bool:
        """Say whether there is a last line without its newline."""
        return os.fstat(self._file.fileno()).st_size > self._offset

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _head(self, offset: int) -> str:
        """Return a digest of the first bytes, of those that are read already: they do not change in the same file."""
        size = min(offset, HEAD_BYTES)
        return hashlib.sha256(os.pread(self._file.fileno(), size, 0)).hexdigest()[:16]


def _opened(name: str) -> BinaryIO:
    """Open without waiting for a writer, should a pipe have taken the file's place."""
    return os.fdopen(os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
