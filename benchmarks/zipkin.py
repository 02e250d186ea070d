"""Zipkin's own server beside clew's collector: the very same bodies and questions in the same run.

Only where Java and Maven are there; the document says so otherwise. The server is Zipkin's, as it comes, with the one
storage that needs nothing else: its memory. What it keeps is gone when it ends, and nothing is written to a disk.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.environment import VENV, say
from benchmarks.process import Process

VERSION = "3.5.1"
HEAP = "3g"
_MAX_SPANS = 3_000_000  # kept in memory; more than a run sends, so that nothing is thrown away
_REPOSITORY = VENV / "maven"
_JAR = _REPOSITORY / "io" / "zipkin" / "zipkin-server" / VERSION / f"zipkin-server-{VERSION}-exec.jar"
_START_S = 180


class NotHere(Exception):  # noqa: N818 - a reason for the document
    """Zipkin cannot be run on this machine; says why."""


@contextlib.contextmanager
def server() -> Iterator[Process]:
    """Run Zipkin on a free port; end it by SIGTERM. Raises :class:`NotHere`."""
    jar = _jar()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    variables = {"QUERY_PORT": str(port), "STORAGE_TYPE": "mem", "MEM_MAX_SPANS": str(_MAX_SPANS)}
    with tempfile.TemporaryDirectory(prefix="clew-bench-") as directory:
        process = subprocess.Popen(
            ["java", f"-Xmx{HEAP}", "-jar", str(jar)],
            cwd=directory,
            env={**os.environ, **variables},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            _wait(process, port)
            yield Process(process.pid, port)
        finally:
            process.terminate()
            process.wait(60)


def _jar() -> Path:
    missing = [program for program in ("java", "mvn") if shutil.which(program) is None]
    if missing:
        raise NotHere(f"{' and '.join(missing)} not found")
    if not _JAR.exists():
        say("Fetching Zipkin's server (once; 125 MB)")
        artifact = f"io.zipkin:zipkin-server:{VERSION}:jar:exec"
        command = ["mvn", "-q", "-B", "dependency:get", f"-Dartifact={artifact}", "-Dtransitive=false"]
        done = subprocess.run([*command, f"-Dmaven.repo.local={_REPOSITORY}"], capture_output=True, check=False)
        if done.returncode or not _JAR.exists():
            raise NotHere(f"Maven does not give {artifact}")
    return _JAR


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), contextlib.closing(http.client.HTTPConnection("127.0.0.1", port)) as asked:
            asked.request("GET", "/health")
            if asked.getresponse().status == 200:
                return
        time.sleep(0.2)
    raise NotHere("Zipkin's server did not start")
