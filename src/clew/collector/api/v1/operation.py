"""One question of the API: its path, what may be asked, what comes back. Routes and the document follow from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
from starlette.responses import Response
from starlette.routing import Route

from clew.collector.api.answers import Streamed, json_bytes, json_error
from clew.collector.trace.span import encode_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

    from clew.collector.api.desk import Desk
    from clew.collector.api.parameters import Parameters
    from clew.collector.metrics import Metrics
    from clew.collector.query import Query
    from clew.collector.query.reader import Reader

SCANNED: Final = "Clew-Scanned-Rows"
LIMIT: Final = "Clew-Time-Limit"
NDJSON: Final = "application/x-ndjson"


class Call(NamedTuple):
    """One request: the store as it sees it, what was asked, how far back (microseconds) there is anything, counters."""

    query: Query
    request: Request
    parameters: Parameters
    retain_us: int
    metrics: Metrics

    @property
    def reader(self) -> Reader:
        """Where the modules of ``query`` read."""
        return self.query.reader

    @property
    def wants_lines(self) -> bool:
        """Whether NDJSON is preferred to one JSON value."""
        return NDJSON in self.request.headers.get("accept", "")


class Parameter(NamedTuple):
    """A parameter of the query string, or of the path. ``kind``: string, integer, number or boolean."""

    name: str
    about: str
    kind: str = "string"
    default: Any = None
    one_of: tuple[str, ...] = ()
    required: bool = False
    within: str = "query"


class Operation(NamedTuple):
    """``answer`` returns a response, a stream, or a value of type ``body``, which is encoded."""

    path: str
    summary: str
    parameters: tuple[Parameter, ...]
    body: Any
    answer: Callable[[Call], Any]

    def route(self, desk: Desk, retain_us: int, metrics: Metrics) -> Route:
        """Return its route."""

        def answer(query: Query, request: Request, parameters: Parameters) -> Response | Streamed:
            return self._answer(Call(query, request, parameters, retain_us, metrics))

        return Route(self.path, desk.endpoint(answer, json_error), methods=["GET"])

    def _answer(self, call: Call) -> Response | Streamed:
        answer = self.answer(call)
        if isinstance(answer, Streamed):
            return answer
        response = answer if isinstance(answer, Response) else json_bytes(encode_json(answer))
        patience = call.reader.patience
        response.headers[SCANNED] = str(patience.scanned_rows)
        response.headers[LIMIT] = f"{patience.limit_s:g}"
        return response


class Cost(msgspec.Struct, rename="camel"):
    """What a streamed answer took: rows read from tables, milliseconds, and how many seconds it might have taken."""

    scanned_rows: int
    ms: int
    limit_s: float
