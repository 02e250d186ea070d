"""A `clew up` of its own: what the tests of signals, ports and kill -9 need a whole process for."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

START_TIMEOUT_S = 60


class CollectorProcess:
    """Started with free ports on loopback; ready when the constructor returns. Use as `with`, which ends it."""

    def __init__(self, data_dir: Path, *options: str) -> None:
        self.data_dir = data_dir
        self.process = start(data_dir, *options)
        assert self.process.stdout is not None
        self.lines = [self.process.stdout.readline() for _ in range(5)]
        text = "".join(self.lines)
        found = re.search(r"HTTP  http://127\.0\.0\.1:(\d+)", text)
        if found is None:
            raise AssertionError(text + self.process.communicate(timeout=START_TIMEOUT_S)[1])
        self.port = int(found[1])
        udp = re.search(r"UDP   127\.0\.0\.1:(\d+)", text)
        self.udp_port = int(udp[1]) if udp else 0

    def __enter__(self) -> CollectorProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def post(self, path: str, body: bytes, **headers: str) -> tuple[int, str]:
        """Post on a connection of its own; a broken connection is an exception."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.request("POST", path, body, named)[:2]

    def get(self, path: str, **headers: str) -> tuple[int, str]:
        return self.request("GET", path, None, headers)[:2]

    def request(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str]
    ) -> tuple[int, str, dict[str, str]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            names = {name.lower(): value for name, value in response.getheaders()}
            return response.status, response.read().decode(), names
        finally:
            connection.close()

    def trace(self, trace_id: str) -> list[dict[str, Any]]:
        """Return the spans of a trace as the API has them; [] if there is none."""
        status, body = self.get(f"/api/v2/trace/{trace_id}")
        return list(json.loads(body)) if status == 200 else []

    def counter(self, line: str) -> int:
        """Return the value of a line of /metrics, 0 if it is not there."""
        found = re.search(rf"^clew_collector_{re.escape(line)} (\d+)$", self.get("/metrics")[1], re.MULTILINE)
        return int(found[1]) if found else 0

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout=START_TIMEOUT_S)

    def kill(self) -> None:
        """kill -9; nothing happens if it is dead already."""
        self.process.kill()
        self.process.communicate()


def start(data_dir: Path, *options: str) -> subprocess.Popen[str]:
    """Start `clew up` and do not wait for it."""
    ports = ["--http", "127.0.0.1:0", "--udp", "127.0.0.1:0"]
    command = [sys.executable, "-m", "clew.cli", "up", *ports, "--data-dir", str(data_dir), *options]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("CLEW_")}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ, cwd=data_dir.parent
    )


def wait_until(condition: Callable[[], bool], timeout_s: float = 30) -> None:
    """Poll until true; AssertionError when it never is."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
