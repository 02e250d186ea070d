"""Between an endpoint and the wire: runs blocking questions in a thread, turns errors into answers, compresses.

Zipkin's API reports errors as plain text, clew's own as ``{"error": "what to do"}``; both by the same decorator.
"""

from __future__ import annotations

import gzip
import logging
from functools import wraps
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Match

from clew.collector.api.parameters import Parameters
from clew.collector.store import StoreError
from clew.collector.trace.span import encode_json

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    Endpoint = Callable[[Request], Awaitable[Response]]
    Answer = Callable[[Request, Parameters], Response]
    ErrorResponse = Callable[[int, str], Response]

_COMPRESS_BYTES = 1_400  # what fits into one packet anyway is sent as it is
_log = logging.getLogger("clew.collector")


class Refused(Exception):  # noqa: N818 - it says what the answer is
    """The request cannot be answered; ``status`` and the text go to the client."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def text_error(status: int, text: str) -> Response:
    """Return an error as Zipkin reports it."""
    return PlainTextResponse(text, status)


def json_error(status: int, text: str) -> Response:
    """Return an error as clew's own API reports it."""
    return Response(encode_json({"error": text}), status, media_type="application/json")


def endpoint(answer: Answer, error: ErrorResponse) -> Endpoint:
    """Make an endpoint of a blocking function of request and parameters.

    ``ValueError`` is the client's fault (400, its text), ``StoreError`` ours (503; the text goes to the log, for it
    quotes the statement).
    """

    @wraps(answer)
    async def handle(request: Request) -> Response:
        return await run_in_threadpool(_guarded, answer, error, request)

    return handle


def _guarded(answer: Answer, error: ErrorResponse, request: Request) -> Response:
    try:
        parameters = Parameters(request.scope["query_string"])
        if "\0" in request.url.path:
            raise ValueError("Invalid request path")
        return _compressed(request, answer(request, parameters))
    except Refused as refused:
        return error(refused.status, str(refused))
    except ValueError as invalid:
        return error(400, str(invalid))
    except StoreError as failed:
        _log.error("The store failed on %s: %s", request.url.path, failed)
        response = error(503, "The store does not answer; try again, or look into the collector's log")
        response.headers["Retry-After"] = "5"
        return response


def json_answer(value: Any) -> Response:
    """Return a value as JSON."""
    return json_bytes(encode_json(value))


def json_bytes(body: bytes) -> Response:
    """Return JSON that is encoded already."""
    return Response(body, media_type="application/json")


def _compressed(request: Request, response: Response) -> Response:
    body = bytes(response.body)
    if len(body) < _COMPRESS_BYTES or not _accepts_gzip(request.headers.get("accept-encoding", "")):
        return response
    response.body = gzip.compress(body, compresslevel=1)
    response.headers["Content-Length"] = str(len(response.body))
    response.headers["Content-Encoding"] = "gzip"
    response.headers.add_vary_header("Accept-Encoding")
    return response


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
