"""The end of the server: requests that do not come to theirs."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys

ENDLESS = """
import asyncio, socket
from clew.collector import serving
from clew.collector.doors.connections import Connections
from clew.collector.metrics import Metrics

serving.DRAIN_S = 1
under_way = 0

async def app(scope, receive, send):
    global under_way
    under_way += 1
    if scope["path"] == "/begun":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
    if under_way == 40:
        print("all", flush=True)
    await asyncio.Event().wait()

listening = socket.create_server(("127.0.0.1", 0))
serving.run(
    app, Connections(Metrics()), [listening], lambda: print(listening.getsockname()[1], flush=True), lambda: None
)
print("ended", flush=True)
"""


def test_requests_that_do_not_end_are_cut_off_in_one_line() -> None:
    """With 503 where the answer has not begun; no traceback, no task left behind."""
    server = subprocess.Popen(
        [sys.executable, "-c", ENDLESS], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    port = int(server.stdout.readline())
    paths = ["/", "/begun"] * 20
    clients = [socket.create_connection(("127.0.0.1", port), timeout=30) for _ in paths]
    for client, path in zip(clients, paths, strict=True):
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert "all\n" == server.stdout.readline()
    server.send_signal(signal.SIGTERM)
    out, err = server.communicate(timeout=30)
    answers = [client.recv(100)[:12] for client in clients]
    for client in clients:
        client.close()
    assert ("ended\n", 0) == (out, server.returncode)
    assert ["http: 40 requests under way did not end in time and were cut off"] == err.splitlines()
    assert [b"HTTP/1.1 503", b"HTTP/1.1 200"] * 20 == answers
