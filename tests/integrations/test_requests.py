"""requests, with sessions and adapters of all kinds."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
