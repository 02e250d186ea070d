"""requests, with sessions and adapters of all kinds."""

from __future__ import annotations

import gc
import pickle
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
import requests
from requests.adapters import BaseAdapter

import clew
from integrations.kit_client import ClientKit

if TYPE_CHECKING:
    from collections.abc import Callable

    from clew.testing import MemorySender
    from integrations.kit_client import Callee


class TestRequests(ClientKit):
    names = ("requests",)
    connect_error = "requests.exceptions.ConnectionError"

    def client(self) -> Callable[..., int]:
        def get(url: str, headers: dict[str, str] | None = None) -> int:
            with requests.Session() as session:
                return session.get(url, headers=headers).status_code

        return get

    def objects(self, url: str) -> list[object]:
        with requests.Session() as session:
            try:
                response = session.get(url)
                return [response, response.request, *response.history]
            except requests.RequestException as error:
                return [error, error.request]

    @pytest.mark.parametrize("read", ["iter_content", "iter_lines", "text", "close", "with", "drop"])
    def test_span_of_a_streamed_response_ends_with_it(self, server: Callee, spans: MemorySender, read: str) -> None:
        """However it is read; while it is, the caller's span is the active one. One that is dropped says so."""
        with requests.Session() as session, clew.start_span("work") as work:
            response = session.get(server.url("/"), stream=True)
            assert [] == spans.spans()
            assert work.span_id == clew.get_trace_context().span_id  # type: ignore[union-attr]
            if read == "with":
                with response:
                    pass
            elif read == "text":
                assert "ok" == response.text
            elif read.startswith("iter"):
                list(getattr(response, read)())
            elif read == "close":
                response.close()
            del response
            gc.collect()
            (span,) = spans.spans()
        assert ("200", "true" if read == "drop" else None) == (
            span["tags"]["http.status_code"],
            span["tags"].get("clew.unclosed"),
        )

    def test_stream_that_breaks_off_is_an_error(self, server: Callee, spans: MemorySender) -> None:
        """In the hands of the application, which gets the exception."""
        with requests.Session() as session:
            response = session.get(server.url("/broken"), stream=True)
            with pytest.raises(requests.exceptions.ChunkedEncodingError):
                list(response.iter_content(1))
        (span,) = spans.spans()
        assert ("200", "requests.exceptions.ChunkedEncodingError") == (
            span["tags"]["http.status_code"],
            span["tags"]["error.type"],
        )

    def test_streamed_response_can_be_pickled_while_it_is_open(self, server: Callee, spans: MemorySender) -> None:
        """Which reads it, as it does without us."""
        with requests.Session() as session:
            response = session.get(server.url("/"), stream=True)
            assert b"ok" == pickle.loads(pickle.dumps(response)).content
        assert 1 == len(spans.spans())

    def test_same_request_sent_by_threads_at_once(self, server: Callee, spans: MemorySender) -> None:
        """A prepared request may be shared; each call follows its own redirect."""
        with requests.Session() as session:
            request = session.prepare_request(requests.Request("GET", server.url("/redirect")))
            with ThreadPoolExecutor(4) as pool:
                done = list(pool.map(lambda _: session.send(request).status_code, range(20)))
        assert [200] * 20 == done
        assert {"302": 20, "200": 20} == Counter(span["tags"]["http.status_code"] for span in spans.spans())

    def test_odd_answer_of_an_adapter_is_the_application_s(self, spans: MemorySender) -> None:
        """What is no response at all still comes back, or fails, as without us."""

        class Adapter(BaseAdapter):
            def send(self, request: requests.PreparedRequest, **_: object) -> requests.Response:
                raise LookupError("mine")

            def close(self) -> None: ...

        with requests.Session() as session:
            session.mount("app://", Adapter())
            with pytest.raises(LookupError, match="mine") as caught:
                session.get("app://local/x")
        assert {} == vars(caught.value)
        assert "LookupError" == spans.spans()[0]["tags"]["error.type"]

    def test_session_of_a_program_is_traced(self, server: Callee, spans: MemorySender) -> None:
        """A session that was made before is traced for as long as the hook is in."""
        clew.uninstrument()
        with requests.Session() as session:
            clew.instrument("requests")
            session.get(server.url("/"))
        assert 3 == len(server.trace_headers())

    def test_streamed_response_is_whole(self, server: Callee, spans: MemorySender) -> None:
        """The body of a streamed response is the application's to read."""
        with requests.Session() as session, session.get(server.url("/"), stream=True) as response:
            assert b"ok" == b"".join(response.iter_content(1))
        assert 1 == len(spans.spans())

    def test_adapter_of_the_application_is_seen(self, spans: MemorySender) -> None:
        """A request that never reaches the network has its span and its headers, too."""
        seen = []

        class Adapter(BaseAdapter):
            def send(self, request: requests.PreparedRequest, **_: object) -> requests.Response:
                seen.append(request.headers["X-Trace-ID"])
                response = requests.Response()
                response.status_code, response.request, response.url = 204, request, str(request.url)
                response._content = b""
                return response

            def close(self) -> None: ...

        with requests.Session() as session:
            session.mount("app://", Adapter())
            session.get("app://local/x")
        assert [spans.spans()[0]["traceId"]] == seen
        assert {"serviceName": "local"} == spans.spans()[0]["remoteEndpoint"]
