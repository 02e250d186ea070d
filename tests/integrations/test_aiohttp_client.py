"""aiohttp's client: patched sessions, a trace config by hand, both at once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import aiohttp

from clew.integrations.aiohttp import trace_config
from integrations.kit_client import ClientKit

if TYPE_CHECKING:
    from collections.abc import Callable


class _Aiohttp(ClientKit):
    connect_error = "aiohttp.client_exceptions.ClientConnectorError"
    spans_of_redirect = 1  # aiohttp follows them with the headers it was given

    def options(self) -> dict[str, Any]:
        return {}

    def client(self) -> Callable[..., int]:
        async def get(url: str, headers: dict[str, str] | None = None) -> int:
            async with (
                aiohttp.ClientSession(**self.options()) as session,
                session.get(url, headers=headers) as response,
            ):
                await response.read()
                return response.status

        return lambda *args: asyncio.run(get(*args))


class TestSession(_Aiohttp):
    names = ("aiohttp",)


class TestTraceConfig(_Aiohttp):
    names = ()
    traces_itself = True

    def options(self) -> dict[str, Any]:
        return {"trace_configs": [trace_config()]}


class TestTraceConfigInstrumented(TestTraceConfig):
    names = ("aiohttp",)


class TestBaseUrl:
    async def test_relative_url_is_shown_whole(self, clew_spans: Any) -> None:
        """The span names the host that a session's base URL brings in."""
        import clew
        from integrations.kit_client import callee

        clew.instrument("aiohttp")
        try:
            with callee() as server:
                async with aiohttp.ClientSession(server.url("/")) as session, session.get("/x?q=1"):
                    pass
        finally:
            clew.uninstrument()
        assert server.url("/x") == clew_spans.spans()[0]["tags"]["http.url"]
