"""The collector's application behind a real socket, on the engine that the tests share."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import socket
import threading
from typing import TYPE_CHECKING, Any

import httpx
import jsonschema
import uvicorn

from clew.collector.api import open_desk
from clew.collector.api.v1 import OPERATIONS
from clew.collector.api.v1.openapi import document
from clew.collector.doors.connections import Connections
from clew.collector.ingest import Ingest
from clew.collector.metrics import Metrics
from clew.collector.server import build_app
from clew.collector.serving import configured
from clew.collector.settings import Settings
from clew.collector.trace.span import encode_json

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from clew.collector.store.clickhouse import ClickHouseStore


def as_documented(answer: httpx.Response) -> None:
    """Hold an answer of clew's own API against the OpenAPI document, as it arrives."""
    path = answer.request.url.path
    if answer.request.method != "GET" or not path.startswith("/api/v1/") or path.endswith(("/tail", "/openapi.json")):
        return
    answer.read()
    described = DESCRIBED["paths"].get(path) or next(
        (item for shape, item in DESCRIBED["paths"].items() if re.fullmatch(re.sub(r"{\w+}", "[^/]+", shape), path)),
        None,
    )
    assert described is not None, f"{path} is not described"
    responses = described["get"]["responses"]
    content = responses.get(str(answer.status_code), responses["default"])["content"]
    if answer.is_redirect:  # the door that exchanges a token for a cookie
        return
    kind = answer.headers["content-type"].partition(";")[0]
    if kind == "application/json":
        schema = {**content[kind]["schema"], "components": DESCRIBED["components"]}
        jsonschema.Draft202012Validator(schema).validate(answer.json())
    else:  # the doors refuse in plain text, before the API is asked
        assert answer.status_code in (401, 403) or kind in content


def strict(schema: Any) -> Any:
    """Return a schema that knows of no members but those it names."""
    if isinstance(schema, dict):
        schema = {name: strict(value) for name, value in schema.items()}
        if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
            schema.setdefault("additionalProperties", False)
    return [strict(item) for item in schema] if isinstance(schema, list) else schema


DESCRIBED = strict(json.loads(encode_json(document(OPERATIONS))))


@contextlib.contextmanager
def served(store: ClickHouseStore, directory: Path, **settings: Any) -> Iterator[httpx.Client]:
    """Serve until the end of the `with`; yield a client of the collector."""
    chosen = dataclasses.replace(Settings(retain=3650 * 86_400), **settings)
    ingest = Ingest(store, directory / "journal", Metrics())
    desk = open_desk(store, chosen)
    server = uvicorn.Server(configured(build_app(store, ingest, chosen, desk), Connections(ingest.metrics)))
    started = threading.Event()
    original = server.startup

    async def startup(sockets: list[socket.socket] | None = None) -> None:
        await original(sockets)
        started.set()

    server.startup = startup  # type: ignore[method-assign]
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        assert started.wait(20)
        try:
            base = f"http://127.0.0.1:{listening.getsockname()[1]}"
            with httpx.Client(base_url=base, timeout=30, event_hooks={"response": [as_documented]}) as client:
                yield client
        finally:
            server.should_exit = True
            thread.join(20)
            ingest.close()
