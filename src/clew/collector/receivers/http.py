"""Spans and log records over HTTP: ``POST /api/v2/spans``, ``/api/v1/spans`` (Zipkin's old JSON), ``/api/v1/logs``.

Plain ASGI, without a framework in between: this is the hot route. A request is answered 202, with nothing in it, when
its payload is stored (see :mod:`clew.collector.ingest`); a refusal says what is wrong, where, and what to do. Compared
with Zipkin's own server: an empty body is 202, the content type does not matter (only protobuf is looked for), gzip is
the one encoding.

Work that takes long is done beside the event loop, by few threads of this module's own: however many bodies arrive at
once, few are unpacked and one large one is looked at at a time, so that neither memory nor anybody's answer suffers.
"""

from __future__ import annotations

import asyncio
import functools
import zlib
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, TypeVar

from clew import wire
from clew.collector.ingest import Ingest, Unavailable
from clew.collector.ingest.payload import BadPayload, Format
from clew.collector.memory import Room

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import Receive, Scope, Send

    from clew.collector.store import Kind

T = TypeVar("T")
_GZIP: Final = 31  # for zlib: gzip, nothing else
PROTOBUF: Final = b"application/x-protobuf"
SPANS_V1_PATH: Final = "/api/v1/spans"
RETRY_AFTER_S: Final = b"5"
LARGE_BYTES: Final = 1_000_000  # larger bodies are checked beside the event loop, not in it, one at a time
LARGE_ODD_BYTES: Final = 50_000  # ... of a format that Python reads, twenty times as slowly
UNPACKERS: Final = 2  # bodies that are unpacked at the same time
MAX_MEMBERS: Final = 1_000  # of one gzip body; each costs as much as many bytes, and clients send one
UNPACK_BYTES: Final = 16_384  # of a body at a time: what is left of a piece behind a member is copied


class Rejected(Exception):  # noqa: N818 - a request, answered before it became a payload
    """Answer with this status and sentence; ``reason`` is a word for a counter."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


class Taken:
    """What one request has of the room; leaving ``with`` gives it back. Made for one event loop."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._size = 0

    def add(self, size: int) -> None:
        """Take more. :class:`Rejected` when there is none, with all that was taken still to be given back."""
        if not self._room.take(size):
            raise Rejected(503, "memory", "More arrives at once than fits into memory (max_memory). Send again later.")
        self._size += size

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None:
        self._room.give_back(self._size)


class ClientGone(Exception):  # noqa: N818
    """The client hung up before its request was complete; there is nobody to answer."""


class Receiver:
    """The ASGI application of the routes that take data; ``max_body`` bounds a body, packed and not, in bytes.

    ``room`` bounds all bodies together.
    """

    def __init__(self, ingest: Ingest, max_body: int, room: Room) -> None:
        self._ingest = ingest
        self._room = room
        self._max_body = max_body
        self._unpackers = ThreadPoolExecutor(UNPACKERS, "clew-unpack")
        self._checker = ThreadPoolExecutor(1, "clew-check")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: D102 - ASGI says what it does
        kind: Kind = "logs" if scope["path"].endswith(wire.LOGS_PATH) else "spans"
        try:
            status, message = await self._take(kind, scope, receive)
        except ClientGone:
            return
        await _answer(send, status, message)

    async def _take(self, kind: Kind, scope: Scope, receive: Receive) -> tuple[int, str]:
        headers = dict(scope["headers"])
        taken = Taken(self._room)
        try:
            with taken:
                body = await self.body(headers, receive, taken)
                if not body:
                    return 202, ""
                stored = await self._accept(kind, _format(scope["path"], headers), body, _is_gzip(scope), taken)
                del body
            if not stored.done():
                await asyncio.wrap_future(stored)
        except Rejected as rejected:
            self._ingest.metrics.count("http_rejected_total", reason=rejected.reason)
            return rejected.status, str(rejected)
        except BadPayload as bad:
            return 400, str(bad)
        except Unavailable as unavailable:
            return 503, str(unavailable)
        return 202, ""

    async def body(self, headers: dict[bytes, bytes], receive: Receive, taken: Taken) -> bytes:
        """Return the whole body; :class:`Rejected` when it is too large, :class:`ClientGone` when it ends too early."""
        declared = headers.get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > self._max_body:
            raise self.too_large()
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            chunk = message.get("body", b"")
            size += len(chunk)
            if size > self._max_body:
                raise self.too_large()
            taken.add(len(chunk))
            chunks.append(chunk)
            if not message.get("more_body", False):
                return b"".join(chunks) if len(chunks) > 1 else chunk

    async def _accept(self, kind: Kind, format: Format, body: bytes, packed: bool, taken: Taken) -> Future[None]:
        if packed:
            body = await self.unpacked(self.gunzip, body, taken)
        return await self.looked_at(functools.partial(self._ingest.accept, kind, body, format=format), body, format)

    async def unpacked(self, unpack: Callable[[bytes], bytes], body: bytes, taken: Taken) -> bytes:
        """Unpack a body beside the event loop."""
        unpacked = await asyncio.get_running_loop().run_in_executor(self._unpackers, unpack, body)
        taken.add(len(unpacked))
        return unpacked

    async def looked_at(self, look: Callable[[], T], body: bytes, format: Format) -> T:
        """Do what takes long for a large body beside the event loop, and for a small one here."""
        if len(body) < (LARGE_BYTES if format == "json" else LARGE_ODD_BYTES):
            return look()
        return await asyncio.get_running_loop().run_in_executor(self._checker, look)

    def gunzip(self, body: bytes) -> bytes:
        """Unpack, no further than the limit: a bomb is noticed when it begins to swell."""
        unpacked = bytearray()
        member, members = zlib.decompressobj(wbits=_GZIP), 1
        for start in range(0, len(body), UNPACK_BYTES):
            piece = body[start : start + UNPACK_BYTES]
            while piece:
                if member.eof:  # gzip may be several members in a row
                    member, members = zlib.decompressobj(wbits=_GZIP), members + 1
                    if members > MAX_MEMBERS:
                        raise Rejected(400, "gzip", f"The gzip body has more than {MAX_MEMBERS} members. Send one.")
                unpacked += self._unpack(member, piece, len(unpacked))
                piece = member.unused_data
        if not member.eof:
            raise Rejected(400, "gzip", "The gzip body ends too early. Send it whole.")
        return bytes(unpacked)

    def _unpack(self, member: zlib._Decompress, piece: bytes, so_far: int) -> bytes:
        try:
            unpacked = member.decompress(piece, self._max_body + 1 - so_far)
        except zlib.error as error:
            raise Rejected(400, "gzip", f"The body is not gzip, as its header says: {error}.") from error
        if so_far + len(unpacked) > self._max_body:
            raise self.too_large()
        return unpacked

    def too_large(self) -> Rejected:
        """Return the refusal of a body beyond the limit."""
        return Rejected(
            413, "too_large", f"The body is larger than {self._max_body} bytes (max_body). Send it in smaller batches."
        )


def _is_gzip(scope: Scope) -> bool:
    """Say whether the body is packed; 415 for what is not gzip. ``x-gzip`` is its old name, ``identity`` is nothing."""
    values = b",".join([value for name, value in scope["headers"] if name == b"content-encoding"])
    codings = [coding for part in values.lower().split(b",") if (coding := part.strip()) not in (b"", b"identity")]
    if codings and codings not in ([b"gzip"], [b"x-gzip"]):
        raise Rejected(415, "encoding", "Content-Encoding must be gzip, once, or absent. Send the body so.")
    return bool(codings)


def _format(path: str, headers: dict[bytes, bytes]) -> Format:
    if path.endswith(SPANS_V1_PATH):
        return "json_v1"
    is_protobuf = headers.get(b"content-type", b"").lower().startswith(PROTOBUF)
    return "proto3" if is_protobuf and path.endswith(wire.SPANS_PATH) else "json"


async def _answer(send: Send, status: int, message: str) -> None:
    body = f"{message}\n".encode() if message else b""
    headers = [(b"content-length", b"%d" % len(body))]
    if body:
        headers += [(b"content-type", b"text/plain; charset=utf-8"), (b"x-content-type-options", b"nosniff")]
    if status == 503:
        headers.append((b"retry-after", RETRY_AFTER_S))
    if status == 413:
        headers.append((b"connection", b"close"))  # the rest of the body is not read
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
