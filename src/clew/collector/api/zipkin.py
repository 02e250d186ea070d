"""Zipkin's read API, v2, under ``/api/v2`` and ``/zipkin/api/v2``, and the configuration that its UI asks for.

Paths, parameters, defaults, status codes and error texts are those of Zipkin's server (``ZipkinQueryApiV2``), so that
its UI, Grafana and other clients notice no difference. On purpose different: a wrong method is 405 rather than 404,
answers are compressed for clients that take it. Answers are whole however long they are, sent as they are found; one
that ends early (time, store) breaks off its connection. Dependencies leave out traces of more than 200,000 spans and
say so in the header ``Clew-Incomplete``.
"""

from __future__ import annotations

import time
from itertools import chain, islice
from typing import TYPE_CHECKING

from starlette.responses import Response
from starlette.routing import Route

from clew.collector.api.answers import INCOMPLETE, Refused, Streamed, json_answer, json_array, text_error
from clew.collector.query import Question
from clew.collector.query.dependencies import MAX_SPANS_A_TRACE
from clew.collector.trace.span import encode_json, encode_spans, normalize_trace_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from clew.collector.api.desk import Desk
    from clew.collector.api.parameters import Parameters
    from clew.collector.query import Query
    from clew.collector.query.spans import Page
    from clew.collector.settings import Settings
    from clew.collector.trace.span import Span

DEFAULT_LOOKBACK_MS = 86_400_000
DEFAULT_LIMIT = 10
_MAX_TERMS = 100  # of an annotationQuery; the last one takes the rest of the text
_MAX_TRACE_IDS = 1_000
_MAX_TIME_MS = (2**63 - 1) // 1_000
_FEW_NAMES = 3  # up to here names are not cached: whoever is just starting wants to see the fourth at once
_MANY_NAMES = 1_000  # up to here they are one piece
_CACHE_NAMES = "max-age=300, must-revalidate"
_JAVA_BLANKS = "".join(map(chr, range(33)))  # what Java's trim() takes off

UI_CONFIG = {
    "environment": "",
    "queryLimit": DEFAULT_LIMIT,
    "defaultLookback": 900_000,
    "searchEnabled": True,
    "logsUrl": None,
    "supportUrl": None,
    "archivePostUrl": None,
    "archiveUrl": None,
    "dependency": {"enabled": True, "lowErrorRate": 0.5, "highErrorRate": 0.75},
}


def routes(desk: Desk, settings: Settings) -> list[BaseRoute]:
    """Return the routes of the API and of the UI's configuration."""
    api = ZipkinApi(settings.autocomplete_keys)
    paths = {
        "/services": api.services,
        "/spans": api.span_names,
        "/remoteServices": api.remote_services,
        "/traces": api.traces,
        "/trace/{trace_id}": api.trace,
        "/traceMany": api.trace_many,
        "/dependencies": api.dependencies,
        "/autocompleteKeys": api.autocomplete_keys,
        "/autocompleteValues": api.autocomplete_values,
    }
    found = [
        Route(prefix + path, desk.endpoint(answer, text_error), methods=["GET"])
        for prefix in ("/api/v2", "/zipkin/api/v2")
        for path, answer in paths.items()
    ]
    return [*found, Route("/config.json", _ui_config), Route("/zipkin/config.json", _ui_config)]


class ZipkinApi:
    """The answers. Thread-safe: its only state is how many services there were when last asked."""

    def __init__(self, autocomplete_keys: Sequence[str]) -> None:
        self._autocomplete_keys = sorted(autocomplete_keys)
        self._service_count = 0

    def services(self, query: Query, request: Request, parameters: Parameters) -> Response | Streamed:
        """``/services``: names of services."""
        names = query.services()
        few = list(islice(names, _FEW_NAMES + 1))
        self._service_count = len(few)
        return _names(chain(few, names))

    def span_names(self, query: Query, request: Request, parameters: Parameters) -> Response | Streamed:
        """``/spans?serviceName``: names of the spans of a service."""
        service = parameters.mandatory("serviceName").lower()
        return _names(query.span_names(service) if service else (), cached=self._service_count > _FEW_NAMES)

    def remote_services(self, query: Query, request: Request, parameters: Parameters) -> Response | Streamed:
        """``/remoteServices?serviceName``: services that spans of this one name as the other side."""
        service = parameters.mandatory("serviceName").lower()
        return _names(query.remote_services(service) if service else (), cached=self._service_count > _FEW_NAMES)

    def traces(self, query: Query, request: Request, parameters: Parameters) -> Streamed:
        """``/traces``: the newest traces that fulfil all conditions."""
        return _traces(query.find(parse_question(parameters, now_ms=_now_ms())))

    def trace(self, query: Query, request: Request, parameters: Parameters) -> Streamed:
        """``/trace/{traceId}``: the spans of a trace as they were reported."""
        trace_id = normalize_trace_id(request.path_params["trace_id"].strip(_JAVA_BLANKS))
        pages = query.trace(trace_id)
        first = next(pages, None)
        if first is None:
            raise Refused(404, f"{trace_id} not found")
        return Streamed(json_array(_joined(page) for page in chain((first,), pages)))

    def trace_many(self, query: Query, request: Request, parameters: Parameters) -> Streamed:
        """``/traceMany?traceIds=a,b``: several traces; those that are not there are left out."""
        return _traces(query.traces(parse_trace_ids(parameters.mandatory("traceIds"))))

    def dependencies(self, query: Query, request: Request, parameters: Parameters) -> Response:
        """``/dependencies?endTs``: who called whom, how often, with how many errors."""
        end_ms = parameters.mandatory_long("endTs")
        lookback_ms = parameters.long("lookback")
        since, until = _window(end_ms, DEFAULT_LOOKBACK_MS if lookback_ms is None else lookback_ms)
        links, left_out = query.links(since, until + 999)  # Zipkin compares milliseconds here, microseconds in searches
        response = json_answer(links)
        if left_out:
            response.headers[INCOMPLETE] = f"{left_out} traces of more than {MAX_SPANS_A_TRACE} spans"
        return response

    def autocomplete_keys(self, query: Query, request: Request, parameters: Parameters) -> Response | Streamed:
        """``/autocompleteKeys``: tags whose values are collected."""
        return _names(self._autocomplete_keys, cached=True)

    def autocomplete_values(self, query: Query, request: Request, parameters: Parameters) -> Response | Streamed:
        """``/autocompleteValues?key``: values of such a tag."""
        key = parameters.mandatory("key")
        if not key:
            raise ValueError("key was empty")
        return _names(query.tag_values(key) if key in self._autocomplete_keys else ())


def parse_question(parameters: Parameters, *, now_ms: int) -> Question:
    """Return the search that the parameters ask for; raises ValueError in Zipkin's words."""
    name = parameters.text("spanName").lower()
    end_ms = parameters.long("endTs")
    lookback_ms = parameters.long("lookback")
    limit = parameters.int("limit", DEFAULT_LIMIT)
    min_duration, max_duration = parameters.long("minDuration"), parameters.long("maxDuration")
    end_ms = now_ms if end_ms is None else end_ms
    lookback_ms = DEFAULT_LOOKBACK_MS if lookback_ms is None else lookback_ms
    _check_question(end_ms, lookback_ms, limit, min_duration, max_duration)
    since, until = _window(end_ms, lookback_ms)
    return Question(
        since=since,
        until=until,
        limit=limit,
        service=parameters.text("serviceName").lower(),
        remote=parameters.text("remoteServiceName").lower(),
        name="" if name == "all" else name,
        terms=parse_terms(parameters.text("annotationQuery")),
        min_duration=min_duration or 0,
        max_duration=max_duration or 0,
    )


def _check_question(
    end_ms: int, lookback_ms: int, limit: int, min_duration: int | None, max_duration: int | None
) -> None:
    _check_positive(endTs=end_ms, limit=limit, lookback=lookback_ms)
    if min_duration is not None:
        _check_positive(minDuration=min_duration)
        if max_duration is not None and max_duration < min_duration:
            raise ValueError("maxDuration < minDuration")
    elif max_duration is not None:
        raise ValueError("maxDuration is only valid with minDuration")


def _check_positive(**numbers: int) -> None:
    for name, number in numbers.items():
        if number <= 0:
            raise ValueError(f"{name} <= 0")


def parse_terms(text: str) -> tuple[tuple[str, str], ...]:
    """Return the conditions of an ``annotationQuery``: ``error and http.method=GET`` and so on.

    A later ``key=value`` replaces an earlier one of that key; a bare word does not.
    """
    if not text:
        return ()
    terms: dict[str, str] = {}
    for item in text.split(" and ", _MAX_TERMS - 1):
        key, separator, value = item.partition("=")
        key = key.strip(_JAVA_BLANKS)
        if separator:
            terms[key] = value.strip(_JAVA_BLANKS)
        else:
            terms.setdefault(key, "")
    return tuple(terms.items())


def parse_trace_ids(text: str) -> list[str]:
    """Return the ids of ``traceMany``; raises ValueError in Zipkin's words."""
    if not text:
        raise ValueError("traceIds parameter is empty")
    ids: dict[str, None] = {}
    for item in text.split(",", _MAX_TRACE_IDS - 1):
        trace_id = normalize_trace_id(item)
        if trace_id in ids:
            raise ValueError(f"redundant traceId: {item}")
        ids[trace_id] = None
    if len(ids) == 1:
        raise ValueError("Use /api/v2/trace/{traceId} endpoint to retrieve a single trace")
    return list(ids)


def _window(end_ms: int, lookback_ms: int) -> tuple[int, int]:
    """Return both ends in microseconds."""
    _check_positive(endTs=end_ms, lookback=lookback_ms)
    return max(0, min(end_ms, _MAX_TIME_MS) - lookback_ms) * 1_000, min(end_ms, _MAX_TIME_MS) * 1_000


def _names(names: Iterable[str], *, cached: bool | None = None) -> Response | Streamed:
    """Return names; by default they are cached when they are more than a few."""
    names = iter(names)
    few = list(islice(names, _MANY_NAMES))
    if len(few) == _MANY_NAMES:
        return Streamed(json_array(map(encode_json, chain(few, names))))
    response = json_answer(few)
    if len(few) > _FEW_NAMES if cached is None else cached:
        response.headers["Cache-Control"] = _CACHE_NAMES
    return response


def _traces(pages: Iterator[Page]) -> Streamed:
    return Streamed(_arrays(pages))


def _arrays(pages: Iterator[Page]) -> Iterator[bytes]:
    """Encode each trace as an array, however many pages it has."""
    last = None
    for key, spans in pages:
        opening = b"," if key == last else b"[[" if last is None else b"],["
        yield opening + _joined(spans)
        last = key
    yield b"[]" if last is None else b"]]"


def _joined(spans: list[Span]) -> bytes:
    """Return the spans as JSON, joined by commas."""
    return encode_spans(spans)[1:-1]


async def _ui_config(request: Request) -> Response:
    response = json_answer(UI_CONFIG)
    response.headers["Cache-Control"] = "max-age=600"
    return response


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
