"""A token that was given on the command line, as another user of the machine sees it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from clew.cli._secret import without_option


class _Asked(BaseHTTPRequestHandler):
    """Answers one request when the test has looked at who asks."""

    tokens: ClassVar[list[str | None]] = []
    asked = threading.Event()
    go_on = threading.Event()

    def do_GET(self) -> None:
        self.tokens.append(self.headers["Authorization"])
        self.asked.set()
        self.go_on.wait(30)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"traces": [], "before": null}')

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.mark.parametrize("given", [["--token", "s3cret"], ["--token=s3cret"], ["--token", "x", "--token", "s3cret"]])
def test_token_is_sent_and_not_in_the_process_list(given: list[str]) -> None:
    """Of a command that waits for its answer."""
    _Asked.tokens.clear()
    _Asked.asked.clear()
    _Asked.go_on.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), _Asked) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        address = f"http://127.0.0.1:{server.server_address[1]}"
        command = [sys.executable, "-m", "clew.cli", "ls", "--collector", address, *given]
        environ = {name: value for name, value in os.environ.items() if name != "CLEW_TOKEN"}
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environ)
        try:
            assert _Asked.asked.wait(30)
            arguments = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        finally:
            _Asked.go_on.set()
            process.wait(30)
            server.shutdown()
            thread.join()
    assert ["Bearer s3cret"] == _Asked.tokens
    assert address.encode() in arguments.split(b"\0")
    assert b"s3cret" not in arguments


@pytest.mark.parametrize(
    ("arguments", "left"),
    [
        (["up", "--token", "a", "--http", ":1"], ["up", "--http", ":1"]),
        (["up", "--token=a", "--token=b"], ["up"]),
        (["up", "--token", "--token", "--http"], ["up", "--http"]),
        (["up", "--token"], ["up"]),
        (["up", "--token-file", "a"], ["up", "--token-file", "a"]),
    ],
)
def test_option_is_taken_out_with_its_value(arguments: list[str], left: list[str]) -> None:
    """However it is written, and nothing else."""
    assert left == without_option(arguments, "--token")
