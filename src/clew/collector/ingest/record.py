"""How one kept payload lies in a file of the journal. Pure: bytes in, records out; between ``journal`` and the disk.

A file begins with :data:`HEADER`; records follow, one behind the other. A record is a head of fixed size (lengths,
counts, a checksum of what follows, a checksum of the head itself), the digest of the payload, the offsets of tailed
files as JSON, the rows of spans, the rows of log records. It holds everything that must happen together.

Whatever happened to a file, each record that is whole is found: what does not fit its checksums is skipped up to the
next head that does (:class:`Gap`). A head begins with a byte that no UTF-8 text holds, so the search is short.
"""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from zlib import crc32

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

HEADER: Final = b"clew journal 1\n\0"
DIGEST_BYTES: Final = 16
MAGIC: Final = b"\xc1clw"  # 0xC1 begins no character
_HEAD: Final = struct.Struct("<4sIIIIII")  # magic, bytes of offsets, of spans, spans, bytes of logs, logs, checksum
_CRC: Final = struct.Struct("<I")
_HEAD_BYTES: Final = _HEAD.size + _CRC.size
_NO_DIGEST: Final = bytes(DIGEST_BYTES)


class Record(NamedTuple):
    """One payload: rows as the store takes them (JSON objects joined by commas), and what is remembered with them."""

    spans: bytes | memoryview = b""
    span_count: int = 0
    logs: bytes | memoryview = b""
    log_count: int = 0
    digest: bytes = b""  # empty: not compared with others
    offsets: Mapping[str, Any] = {}

    @property
    def items(self) -> int:
        """How many spans and log records it holds."""
        return self.span_count + self.log_count


class Gap(NamedTuple):
    """Bytes that are no record. ``torn``: the last one, cut short by a kill before anybody was told that it is kept."""

    start: int
    end: int
    torn: bool


def encode(record: Record) -> tuple[bytes | memoryview, ...]:
    """Return the pieces of a record, to be written one behind the other in one call."""
    digest = record.digest or _NO_DIGEST
    offsets = json.dumps(record.offsets).encode() if record.offsets else b""
    check = crc32(record.logs, crc32(record.spans, crc32(offsets, crc32(digest))))
    sizes = (len(offsets), len(record.spans), record.span_count, len(record.logs), record.log_count)
    head = _HEAD.pack(MAGIC, *sizes, check)
    return head, _CRC.pack(crc32(head)), digest, offsets, record.spans, record.logs


def scan(data: bytes) -> Iterator[Record | Gap]:
    """Yield every whole record of a file, and the gaps between them, in order. Rows are views of ``data``."""
    view = memoryview(data)
    start = len(HEADER) if data.startswith(HEADER) else 0
    while start < len(data):
        found = _at(view, start)
        if found is not None:
            record, start = found
            yield record
            continue
        end = _next(data, view, start + 1)
        yield Gap(start, end, end == len(data) and _is_torn(data, start))
        start = end


def _at(view: memoryview, start: int) -> tuple[Record, int] | None:
    """Return the record that begins here, and its end; None if none does."""
    sizes = _sizes(view, start)
    if sizes is None:
        return None
    offsets_bytes, spans_bytes, span_count, logs_bytes, log_count, check = sizes
    digest_at = start + _HEAD_BYTES
    offsets_at = digest_at + DIGEST_BYTES
    spans_at = offsets_at + offsets_bytes
    logs_at = spans_at + spans_bytes
    end = logs_at + logs_bytes
    if end > len(view) or crc32(view[digest_at:end]) != check:
        return None
    digest = bytes(view[digest_at:offsets_at])
    offsets = json.loads(bytes(view[offsets_at:spans_at])) if offsets_bytes else {}
    spans, logs = view[spans_at:logs_at], view[logs_at:end]
    return Record(spans, span_count, logs, log_count, b"" if digest == _NO_DIGEST else digest, offsets), end


def _sizes(view: memoryview, start: int) -> tuple[int, ...] | None:
    """Return the numbers of the head here; None if there is no whole head."""
    head = view[start : start + _HEAD.size]
    if len(view) < start + _HEAD_BYTES or bytes(head[:4]) != MAGIC:
        return None
    if _CRC.unpack_from(view, start + _HEAD.size)[0] != crc32(head):
        return None
    return _HEAD.unpack(head)[1:]


def _next(data: bytes, view: memoryview, start: int) -> int:
    """Return where the next whole record begins, the end if there is none."""
    while (start := data.find(MAGIC, start)) >= 0:
        if _at(view, start) is not None:
            return start
        start += 1
    return len(data)


def _is_torn(data: bytes, start: int) -> bool:
    """Whether a write ended here early: a piece of a head, or a whole one with too little behind it."""
    if len(data) - start < _HEAD_BYTES:
        return MAGIC.startswith(data[start : start + 4])
    sizes = _sizes(memoryview(data), start)
    return sizes is not None and start + _HEAD_BYTES + DIGEST_BYTES + sizes[0] + sizes[1] + sizes[3] > len(data)
