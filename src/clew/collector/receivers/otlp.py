"""OpenTelemetry over HTTP: ``POST /v1/traces`` and ``/v1/logs``, protobuf and JSON, gzip and zstd.

As the OTLP specification has it: 200 when what is right was kept, with how much was not (partial success); 400 for a
body that is no request at all, 503 with Retry-After when it should be sent again; the answer in the form of the
request. What the bytes mean is in :mod:`clew.collector.ingest.otlp`; where they come from, unpacked and bounded, in
:mod:`clew.collector.receivers.http`.
"""

from __future__ import annotations

import asyncio
import functools
import json
import sys
from typing import TYPE_CHECKING, Final

from clew.collector.ingest import Ingest, Unavailable
from clew.collector.ingest.payload import BadPayload, Checked, Format
from clew.collector.receivers.http import RETRY_AFTER_S, ClientGone, Receiver, Rejected, Taken

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from clew.collector.memory import Room
    from clew.collector.store import Kind

TRACES_PATH: Final = "/v1/traces"
LOGS_PATH: Final = "/v1/logs"
METRICS_PATH: Final = "/v1/metrics"
PATHS: Final = frozenset((TRACES_PATH, LOGS_PATH, METRICS_PATH))
_FORMATS: Final[dict[bytes, Format]] = {b"application/x-protobuf": "otlp", b"application/json": "otlp_json"}
_RPC_CODES: Final = {400: 3, 404: 5, 413: 8, 415: 3, 503: 14}  # of google.rpc.Status: INVALID_ARGUMENT, ...


class OtlpReceiver:
    """The ASGI application of the OTLP routes; bodies are read, unpacked and bounded by ``receiver``."""

    def __init__(self, receiver: Receiver, ingest: Ingest, max_body: int, room: Room) -> None:
        self._receiver = receiver
        self._ingest = ingest
        self._max_body = max_body
        self._room = room

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: D102 - ASGI says what it does
        headers = dict(scope["headers"])
        written = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        is_json = written == b"application/json"
        try:
            checked = await self._take(scope, headers, written, receive)
        except ClientGone:
            return
        except Rejected as rejected:
            self._ingest.metrics.count("http_rejected_total", reason=rejected.reason)
            await _answer(send, rejected.status, _status(rejected.status, str(rejected), is_json), is_json)
        except BadPayload as bad:
            await _answer(send, 400, _status(400, str(bad), is_json), is_json)
        except Unavailable as unavailable:
            await _answer(send, 503, _status(503, str(unavailable), is_json), is_json)
        else:
            await _answer(send, 200, _success(checked, is_json), is_json)

    async def _take(self, scope: Scope, headers: dict[bytes, bytes], written: bytes, receive: Receive) -> Checked:
        if scope["path"] == METRICS_PATH:
            raise Rejected(404, "metrics", "clew keeps traces and logs, no metrics. Set OTEL_METRICS_EXPORTER=none.")
        if written not in _FORMATS:
            raise Rejected(415, "content_type", "Content-Type must be application/x-protobuf or application/json.")
        kind: Kind = "logs" if scope["path"] == LOGS_PATH else "spans"
        format = _FORMATS[written]
        taken = Taken(self._room)
        with taken:
            body = await self._receiver.body(headers, receive, taken)
            coding = headers.get(b"content-encoding", b"identity").strip().lower()
            if coding in (b"gzip", b"x-gzip"):
                body = await self._receiver.unpacked(self._receiver.gunzip, body, taken)
            elif coding == b"zstd":
                body = await self._receiver.unpacked(self._unzstd, body, taken)
            elif coding not in (b"", b"identity"):
                raise Rejected(415, "encoding", "Content-Encoding must be gzip, zstd or absent. Send the body so.")
            look = functools.partial(self._ingest.check, kind, body, "otlp", format)
            checked = await self._receiver.looked_at(look, body, format)
            kept = self._ingest.acknowledge(checked, body, "otlp")
            del body
        if not kept.done():
            await asyncio.wrap_future(kept)
        if checked.rejected:
            self._ingest.metrics.count("otlp_items_rejected_total", checked.rejected)
        return checked

    def _unzstd(self, body: bytes) -> bytes:
        """Unpack one frame, no further than the limit."""
        unpacker = zstd.ZstdDecompressor()
        try:
            unpacked = unpacker.decompress(body, self._max_body + 1)
        except zstd.ZstdError as error:
            raise Rejected(400, "zstd", f"The body is not zstd, as its header says: {error}.") from error
        if len(unpacked) > self._max_body:
            raise self._receiver.too_large()
        if not unpacker.eof:
            raise Rejected(400, "zstd", "The zstd body ends too early. Send it whole.")
        return bytes(unpacked)


def _success(checked: Checked, is_json: bool) -> bytes:
    """Write an Export...ServiceResponse, with what was left out if anything was."""
    if not checked.rejected:
        return b"{}" if is_json else b""
    if is_json:
        name = "rejectedSpans" if checked.kind == "spans" else "rejectedLogRecords"
        partial = {name: str(checked.rejected), "errorMessage": checked.problem}
        return json.dumps({"partialSuccess": partial}).encode()
    inner = b"\x08" + _varint(checked.rejected) + _field(2, checked.problem.encode("utf-8", "replace"))
    return _field(1, inner)


def _status(status: int, message: str, is_json: bool) -> bytes:
    """Write a google.rpc.Status."""
    code = _RPC_CODES[status]
    if is_json:
        return json.dumps({"code": code, "message": message}).encode()
    return b"\x08" + _varint(code) + _field(2, message.encode("utf-8", "replace"))


def _field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    written = bytearray()
    while number > 0x7F:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    written.append(number)
    return bytes(written)


async def _answer(send: Send, status: int, body: bytes, is_json: bool) -> None:
    headers = [
        (b"content-type", b"application/json" if is_json else b"application/x-protobuf"),
        (b"content-length", b"%d" % len(body)),
        (b"x-content-type-options", b"nosniff"),
    ]
    if status == 503:
        headers.append((b"retry-after", RETRY_AFTER_S))
    if status == 413:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
