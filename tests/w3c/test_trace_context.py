"""W3C Trace Context level 2, over real sockets: a service in each kind of server that calls back what it is told to."""

from __future__ import annotations

import contextlib
import json
import re
from typing import TYPE_CHECKING, Any

import aiohttp
import flask
import httpx
import pytest
import requests
from aiohttp import web
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

import clew
from clew.integrations.asgi import TraceMiddleware
from clew.testing import recorded
from integrations.kit_client import Callee, callee
from integrations.kit_common import fetch
from integrations.servers import on_aiohttp, on_uvicorn, on_werkzeug
from w3c.cases import CASES, PARENT, TRACE, Case

if TYPE_CHECKING:
    from collections.abc import Iterator

TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-0[0-3]")

# Each service takes a JSON array of URLs and gets them, one after the other.


async def _call_by_httpx(request: Any) -> PlainTextResponse:
    async with httpx.AsyncClient(trust_env=False) as client:
        for url in await request.json():
            await client.get(url)
    return PlainTextResponse("ok")


def _asgi_service() -> Any:
    return TraceMiddleware(Starlette(routes=[Route("/test", _call_by_httpx, methods=["POST"])]))


def _flask_service() -> flask.Flask:
    app = flask.Flask("w3c_service")

    @app.post("/test")
    def call() -> str:
        with requests.Session() as session:
            for url in flask.request.get_json(force=True):
                session.get(url)
        return "ok"

    return app


def _aiohttp_service() -> web.Application:
    async def call(request: web.Request) -> web.Response:
        async with aiohttp.ClientSession() as session:
            for url in await request.json():
                async with session.get(url):
                    pass
        return web.Response(text="ok")

    app = web.Application()
    app.router.add_post("/test", call)
    return app


@contextlib.contextmanager
def _serve(kind: str) -> Iterator[int]:
    if kind == "werkzeug":
        server = on_werkzeug(_flask_service())
    elif kind == "aiohttp":
        server = on_aiohttp(_aiohttp_service())
    else:
        server = on_uvicorn(_asgi_service(), kind)
    with server as port:
        yield port


class Service:
    """A traced service and the one that it calls back."""

    def __init__(self, port: int, harness: Callee) -> None:
        self._port = port
        self._harness = harness

    def call(self, headers: list[tuple[str, str]], count: int = 1) -> list[dict[str, list[str]]]:
        """Have the service make ``count`` calls; return the headers of each, lower-case names, values in order."""
        self._harness.requests.clear()
        urls = [self._harness.url(f"/{number}") for number in range(count)]
        answer = fetch(self._port, "/test", *headers, method="POST", body=json.dumps(urls).encode())
        assert 200 == answer.status
        calls = []
        for _, pairs in self._harness.requests:
            found: dict[str, list[str]] = {}
            for name, value in pairs:
                found.setdefault(name, []).append(value)
            calls.append(found)
        assert count == len(calls)
        return calls


@pytest.fixture(scope="module", params=["h11", "httptools", "werkzeug", "aiohttp"])
def service(request: pytest.FixtureRequest) -> Iterator[Service]:
    with recorded("w3c"), callee() as harness:
        clew.instrument()
        try:
            with _serve(request.param) as port:
                yield Service(port, harness)
        finally:
            clew.uninstrument()


def ids(call: dict[str, list[str]]) -> tuple[str, str]:
    (text,) = call["traceparent"]
    match = TRACEPARENT.fullmatch(text)
    assert match, text
    return match[1], match[2]


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_case(service: Service, case: Case) -> None:
    """One request in, one out: exactly one valid traceparent, the right trace, the right state."""
    (call,) = service.call(case.headers)
    trace_id, span_id = ids(call)
    assert case.kept == (trace_id == TRACE)
    assert span_id != PARENT
    assert case.state == ",".join(call.get("tracestate", []))


def test_calls_of_one_request_share_the_trace(service: Service) -> None:
    """Three calls: one trace id, three parent ids."""
    calls = [ids(call) for call in service.call([("traceparent", f"00-{TRACE}-{PARENT}-01")], 3)]
    assert {TRACE} == {trace_id for trace_id, _ in calls}
    assert 3 == len({span_id for _, span_id in calls})


@pytest.mark.parametrize("headers", [[], [("traceparent", f"00-{'0' * 32}-{PARENT}-01")]], ids=["none", "illegal"])
def test_calls_of_a_new_trace(service: Service, headers: list[tuple[str, str]]) -> None:
    """Without a usable caller the three calls are of one new trace."""
    calls = [ids(call) for call in service.call(headers, 3)]
    assert 1 == len({trace_id for trace_id, _ in calls} - {"0" * 32})
    assert 3 == len({span_id for _, span_id in calls})


@pytest.mark.parametrize(("flags", "expected"), [("00", "00"), ("01", "01"), ("02", "02"), ("03", "03"), ("ff", "03")])
def test_flags_are_passed_on(service: Service, flags: str, expected: str) -> None:
    """Sampled and random go on as they came; bits that level 2 does not define are sent as zero."""
    (call,) = service.call([("traceparent", f"00-{TRACE}-{PARENT}-{flags}")])
    assert [f"00-{TRACE}-{ids(call)[1]}-{expected}"] == call["traceparent"]


def test_new_trace_says_that_its_id_is_random(service: Service) -> None:
    """A trace that begins here is sampled and has random bits where level 2 wants them."""
    (call,) = service.call([])
    assert call["traceparent"][0].endswith("-03")
