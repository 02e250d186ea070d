"""A ClickHouse server for tests: its HTTP interface in front of the real, embedded engine, in a process of its own.

``python clickhouse_server.py DIRECTORY PORT`` prints the port; several collectors can then share one store, as with a
server. What it speaks is what ``clickhouse-connect`` asks: statements, parameters, settings, formats, error codes.
"""

from __future__ import annotations

import queue
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import chdb

_OWN = frozenset(
    {"query", "database", "query_id", "session_id", "wait_end_of_query", "client_protocol_version", "compress"}
)  # parameters of a request that are no settings
_HANDLES = 6


class Handler(BaseHTTPRequestHandler):
    """One request, one statement."""

    protocol_version = "HTTP/1.1"
    engine: queue.LifoQueue[Any]

    def do_GET(self) -> None:
        self._answer(b"Ok.\n") if self.path == "/ping" else self.do_POST()

    def do_POST(self) -> None:
        asked = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        body = self._body()
        statement = asked["query"].encode() + b"\n" + body if asked.get("query") else body
        settings = {name: value for name, value in asked.items() if name not in _OWN and not name.startswith("param_")}
        parameters = {name[6:]: value for name, value in asked.items() if name.startswith("param_")}
        handle = self.engine.get()
        try:
            if settings:
                handle.query("SET " + ", ".join(f"{name} = '{value}'" for name, value in settings.items()))
            self._answer(self._run(handle, statement, parameters))
        except RuntimeError as error:
            code = re.search(r"Code: (\d+)", str(error))
            self._answer(str(error).encode(), 500, {"X-ClickHouse-Exception-Code": code[1] if code else "1001"})
        finally:
            names = [name for name in settings if name == "insert_deduplication_token"]
            if names:
                handle.query("SET insert_deduplication_token = ''")
            self.engine.put(handle)

    def _run(self, handle: Any, statement: bytes, parameters: dict[str, str]) -> bytes:
        result = handle.query(statement.decode(), "TabSeparated", params=parameters)
        return bytes(result.bytes()) if hasattr(result, "bytes") else b""

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _answer(self, body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), "X-ClickHouse-Summary": "{}", **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


class ClickHouseServer:
    """The process; it can be killed and started again on the same data. ``url`` is what ``--store`` takes."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._port = 0
        self.start()
        self.url = f"clickhouse://default:@127.0.0.1:{self._port}/default"

    def start(self) -> None:
        """Start it, and return when it answers."""
        command = [sys.executable, __file__, str(self._directory), str(self._port)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self._port = int(self._process.stdout.readline())

    def kill(self) -> None:
        """kill -9."""
        self._process.kill()
        self._process.communicate()


def main(directory: str, port: str) -> None:
    Handler.engine = queue.LifoQueue()
    for _ in range(_HANDLES):
        Handler.engine.put(chdb.connect(directory))
    server = ThreadingHTTPServer(("127.0.0.1", int(port)), Handler)
    print(server.server_address[1], flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
