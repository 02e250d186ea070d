"""The `clew` command as a process, and a collector to run it against: for the tests of command line and demo."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clew.cli._processes import Processes

START_S = 60


@dataclass(frozen=True)
class Running:
    """A collector that answers at `url`, and takes datagrams at `udp`."""

    url: str
    udp: str

    def post(self, path: str, body: Any) -> None:
        """Send JSON; what is answered 202 can be asked for."""
        request = urllib.request.Request(
            self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert 202 == answer.status

    def clew(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command against this collector, in a pipe, without colours."""
        return run_clew(*arguments, CLEW_COLLECTOR=self.url, **variables)


def clean_environment(**variables: str) -> dict[str, str]:
    """Return the environment without CLEW_* and what changes the output, plus `variables`."""
    drop = ("CLEW_", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "PYTHONPATH")
    return {key: value for key, value in os.environ.items() if not key.startswith(drop)} | {"TZ": "UTC"} | variables


def run_clew(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end and return what it said."""
    return subprocess.run(
        [sys.executable, "-m", "clew.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=90,
        env=clean_environment(**variables),
        check=False,
    )


def start_collector(processes: Processes, folder: Path, port: int, *options: str) -> str:
    """Start `clew up` on a port and return its address once it answers."""
    url = f"http://127.0.0.1:{port}"
    command = [
        sys.executable,
        "-m",
        "clew.cli",
        "up",
        "--http",
        f"127.0.0.1:{port}",
        "--data-dir",
        str(folder / "data"),
    ]
    processes.start("collector", [*command, *options], clean_environment(), folder, f"{url}/health")
    processes.wait_ready(START_S)
    return url
