"""Zipkin's read API, v2, under ``/api/v2`` and ``/zipkin/api/v2``, and the configuration that its UI asks for.

Paths, parameters, defaults, status codes and error texts are those of Zipkin's server (``ZipkinQueryApiV2``), so that
its UI, Grafana and other clients notice no difference. On purpose different: a wrong method is 405 rather than 404,
answers are compressed for clients that take it, an answer holds at most 5,000 traces or 200,000 spans.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from starlette.responses import Response
from starlette.routing import Route

from clew.collector.api.answers import Refused, endpoint, json_answer, json_bytes, text_error
from clew.collector.query import Question
from clew.collector.trace.span import encode_spans, encode_traces, normalize_trace_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from clew.collector.api.parameters import Parameters
    from clew.collector.query import Query
    from clew.collector.settings import Settings

DEFAULT_LOOKBACK_MS = 86_400_000
DEFAULT_LIMIT = 10
_MAX_TERMS = 100  # of an annotationQuery; the last one takes the rest of the text
_MAX_TRACE_IDS = 1_000
_MAX_TIME_MS = (2**63 - 1) // 1_000
_FEW_NAMES = 3  # up to here names are not cached: whoever is just starting wants to see the fourth at once
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


def routes(query: Query, settings: Settings) -> list[BaseRoute]:
    """Return the routes of the API and of the UI's configuration."""
    api = ZipkinApi(query, settings.autocomplete_keys)
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
        Route(prefix + path, endpoint(answer, text_error), methods=["GET"])
        for prefix in ("/api/v2", "/zipkin/api/v2")
        for path, answer in paths.items()
    ]
    configuration = endpoint(_ui_config, text_error)
    return [*found, Route("/config.json", configuration), Route("/zipkin/config.json", configuration)]


class ZipkinApi:
    """The answers. Thread-safe: its only state is how many services there were when last asked."""

    def __init__(self, query: Query, autocomplete_keys: Sequence[str]) -> None:
        self._query = query
        self._autocomplete_keys = sorted(autocomplete_keys)
        self._service_count = 0

    def services(self, request: Request, parameters: Parameters) -> Response:
        """``/services``: names of services."""
        names = self._query.services()
        self._service_count = len(names)
        return _names(names, cached=len(names) > _FEW_NAMES)

    def span_names(self, request: Request, parameters: Parameters) -> Response:
        """``/spans?serviceName``: names of the spans of a service."""
        service = parameters.mandatory("serviceName").lower()
        return _names(self._query.span_names(service) if service else [], cached=self._service_count > _FEW_NAMES)

    def remote_services(self, request: Request, parameters: Parameters) -> Response:
        """``/remoteServices?serviceName``: services that spans of this one name as the other side."""
        service = parameters.mandatory("serviceName").lower()
        return _names(self._query.remote_services(service) if service else [], cached=self._service_count > _FEW_NAMES)

    def traces(self, request: Request, parameters: Parameters) -> Response:
        """``/traces``: the newest traces that fulfil all conditions."""
        return json_bytes(encode_traces(self._query.find(parse_question(parameters, now_ms=_now_ms()))))

    def trace(self, request: Request, parameters: Parameters) -> Response:
        """``/trace/{traceId}``: the spans of a trace as they were reported."""
        trace_id = normalize_trace_id(request.path_params["trace_id"].strip(_JAVA_BLANKS))
        spans = self._query.trace(trace_id)
        if not spans:
            raise Refused(404, f"{trace_id} not found")
        return json_bytes(encode_spans(spans))

    def trace_many(self, request: Request, parameters: Parameters) -> Response:
        """``/traceMany?traceIds=a,b``: several traces; those that are not there are left out."""
        return json_bytes(encode_traces(self._query.traces(parse_trace_ids(parameters.mandatory("traceIds")))))

    def dependencies(self, request: Request, parameters: Parameters) -> Response:
        """``/dependencies?endTs``: who called whom, how often, with how many errors."""
        end_ms = parameters.mandatory_long("endTs")
        lookback_ms = parameters.long("lookback")
        since, until = _window(end_ms, DEFAULT_LOOKBACK_MS if lookback_ms is None else lookback_ms)
        return json_answer(self._query.links(since, until))

    def autocomplete_keys(self, request: Request, parameters: Parameters) -> Response:
        """``/autocompleteKeys``: tags whose values are collected."""
        return _names(self._autocomplete_keys, cached=True)

    def autocomplete_values(self, request: Request, parameters: Parameters) -> Response:
        """``/autocompleteValues?key``: values of such a tag."""
        key = parameters.mandatory("key")
        if not key:
            raise ValueError("key was empty")
        values = self._query.tag_values(key) if key in self._autocomplete_keys else []
        return _names(values, cached=len(values) > _FEW_NAMES)


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


def _names(names: list[str], *, cached: bool) -> Response:
    response = json_answer(names)
    if cached:
        response.headers["Cache-Control"] = _CACHE_NAMES
    return response


def _ui_config(request: Request, parameters: Parameters) -> Response:
    response = json_answer(UI_CONFIG)
    response.headers["Cache-Control"] = "max-age=600"
    return response


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
