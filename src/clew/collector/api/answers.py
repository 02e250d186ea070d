"""Between an endpoint and the wire: asks the desk, turns errors into answers, compresses.

Zipkin's API reports errors as plain text, clew's own as ``{"error": "what to do"}``. An endpoint is a blocking function
that returns a response, or an iterator of bytes for an answer of any length.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Match

from clew.collector.api.parameters import Parameters
from clew.collector.patience import TooCostly
from clew.collector.search import SearchError
from clew.collector.store import StoreError
from clew.collector.trace.span import encode_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from clew.collector.query import Query

    Answer = Callable[[Query, Request, Parameters], "Response | Streamed"]
    ErrorResponse = Callable[[int, str], Response]

INCOMPLETE: Final = (
    "Clew-Incomplete"  # the header of an answer that does not hold everything: what is not there, and why
)

_COMPRESS_BYTES: Final = 1_400  # what fits into one packet anyway is sent as it is
_CHUNK_BYTES: Final = 64_000  # an answer shorter than this is sent whole, with its length
_log = logging.getLogger("clew.collector")


class Refused(Exception):  # noqa: N818 - it says what the answer is
    """The request cannot be answered; ``status`` and the text go to the client."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Streamed(NamedTuple):
    """An answer of any length, piece by piece; ``eager``: each piece is sent as soon as it is there."""

    pieces: Iterator[bytes]
    media_type: str = "application/json"
    eager: bool = False


class Reply(NamedTuple):
    """What is sent: a response whose body is the beginning, and the chunks that follow."""

    response: Response
    rest: Iterator[bytes]


def text_error(status: int, text: str) -> Response:
    """Return an error as Zipkin reports it."""
    return PlainTextResponse(text, status)


def json_error(status: int, text: str) -> Response:
    """Return an error as clew's own API reports it."""
    return Response(encode_json({"error": text}), status, media_type="application/json")


def search_error(wrong: SearchError) -> Response:
    """Return what is wrong with a search, where (characters of its text), and what to write instead."""
    text = {"error": wrong.message, "begin": wrong.begin, "end": wrong.end, "suggestion": wrong.suggestion}
    return Response(encode_json(text), 400, media_type="application/json")


def reply(answer: Answer, error: ErrorResponse, query: Query, request: Request) -> Reply:
    """Return the answer, at least its beginning. Blocks.

    ``ValueError`` is the client's fault (400, its text), a question too costly is refused (503, what would help),
    ``StoreError`` is ours (503; the text goes to the log, for it quotes the statement).
    """
    try:
        parameters = Parameters(request.scope["query_string"])
        if "\0" in request.url.path:
            raise ValueError("Invalid request path")
        return _begun(answer(query, request, parameters), request.headers.get("accept-encoding", ""))
    except SearchError as wrong:
        return _whole(search_error(wrong))
    except Refused as refused:
        return _whole(error(refused.status, str(refused)))
    except ValueError as invalid:
        return _whole(error(400, str(invalid)))
    except TooCostly as costly:
        return _whole(error(503, str(costly)))
    except StoreError as failed:
        _log.error("The store failed on %s: %s", request.url.path, failed)
        response = error(503, "The store does not answer; try again, or look into the collector's log")
        response.headers["Retry-After"] = "5"
        return _whole(response)


def json_answer(value: Any) -> Response:
    """Return a value as JSON."""
    return json_bytes(encode_json(value))


def json_bytes(body: bytes) -> Response:
    """Return JSON that is encoded already."""
    return Response(body, media_type="application/json")


def json_array(items: Iterable[bytes]) -> Iterator[bytes]:
    """Join encoded items to an array, piece by piece."""
    opening = b"["
    for item in items:
        yield opening + item
        opening = b","
    yield b"[]" if opening == b"[" else b"]"


def _whole(response: Response) -> Reply:
    return Reply(response, iter(()))


def _begun(answer: Response | Streamed, accepted: str) -> Reply:
    """Make a plain response of what proves short; all else is streamed."""
    packed = _accepts_gzip(accepted)
    if isinstance(answer, Response):
        return _whole(_compressed(answer) if packed else answer)
    if answer.eager:
        pieces = answer.pieces
        return _streamed(next(pieces, b""), pieces, answer.media_type, packed=packed)
    chunks = _chunks(answer.pieces)
    first = next(chunks)
    second = next(chunks, None)
    if second is None:
        response = Response(first, media_type=answer.media_type)
        return _whole(_compressed(response) if packed else response)
    return _streamed(first, _chain(second, chunks), answer.media_type, packed=packed)


def _streamed(first: bytes, chunks: Iterator[bytes], media_type: str, *, packed: bool) -> Reply:
    response = Response(media_type=media_type)
    del response.headers["Content-Length"]
    if packed:
        chunks = _pack(_chain(first, chunks))
        first = next(chunks)
        _mark_compressed(response)
    response.body = first
    return Reply(response, chunks)


def _chunks(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Join pieces to chunks worth sending; at least one, which may be empty."""
    gathered: list[bytes] = []
    size = 0
    for piece in pieces:
        gathered.append(piece)
        size += len(piece)
        if size >= _CHUNK_BYTES:
            yield b"".join(gathered)
            gathered, size = [], 0
    yield b"".join(gathered)


def _chain(first: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from chunks


def _pack(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Compress chunk by chunk, so that each can be read as soon as it arrives."""
    packer = zlib.compressobj(1, wbits=31)
    for chunk in chunks:
        yield packer.compress(chunk) + packer.flush(zlib.Z_SYNC_FLUSH)
    yield packer.flush()


def _compressed(response: Response) -> Response:
    body = bytes(response.body)
    if len(body) >= _COMPRESS_BYTES:
        response.body = b"".join(_pack(iter((body,))))
        response.headers["Content-Length"] = str(len(response.body))
        _mark_compressed(response)
    return response


def _mark_compressed(response: Response) -> None:
    response.headers["Content-Encoding"] = "gzip"
    response.headers.add_vary_header("Accept-Encoding")


def _accepts_gzip(header: str) -> bool:
    for item in header.lower().split(","):
        coding, _, weight = item.partition(";")
        if coding.strip() in ("gzip", "*"):
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


class TraceMethodRefused(BaseRoute):
    """Answers the method TRACE with 405 on every path, as Zipkin does: it would echo credentials."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """See starlette's BaseRoute."""
        refused = scope["type"] == "http" and scope["method"] == "TRACE"
        return (Match.FULL if refused else Match.NONE), {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See starlette's BaseRoute."""
        await PlainTextResponse("Method Not Allowed", 405)(scope, receive, send)
