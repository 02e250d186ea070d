"""A real ``clew up`` as a child process, seen from outside: its ports, CPU time, memory, metrics, disk."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.environment import ROOT, environ

_TICKS = os.sysconf("SC_CLK_TCK")
_START_S = 60
PARTS = ("python", "insert", "engine", "merges")
# Threads by the names that the kernel knows. The engine renames a thread that calls it: the one that inserts.
_PART_OF = {"clew": "python", "Unknown": "insert", "MergeMutate": "merges"}


class Process:
    """A server that runs, seen from outside."""

    def __init__(self, pid: int, http_port: int) -> None:
        self.pid = pid
        self.http_port = http_port

    def cpu_s(self) -> float:
        """Return the CPU seconds it has used, user and system, all threads."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def memory_mb(self) -> tuple[float, float]:
        """Return resident memory in MB: now, and at its highest."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        now, high = (re.search(rf"{name}:\s+(\d+) kB", status) for name in ("VmRSS", "VmHWM"))
        assert now is not None
        assert high is not None
        return int(now[1]) / 1_000, int(high[1]) / 1_000

    def wait_until_idle(self, limit_s: float) -> None:
        """Wait until merges have ended: until it uses less than a twentieth of a core for two seconds."""
        deadline = time.monotonic() + limit_s
        quiet = 0
        while quiet < 2 and time.monotonic() < deadline:
            before = self.cpu_s()
            time.sleep(1.0)
            quiet = quiet + 1 if self.cpu_s() - before < 0.05 else 0


class Collector(Process):
    """A running collector. Its data lie in a directory that goes with it."""

    def __init__(self, process: subprocess.Popen[str], data_dir: Path, http_port: int, udp_port: int) -> None:
        super().__init__(process.pid, http_port)
        self.data_dir = data_dir
        self.udp_port = udp_port

    def parts_s(self) -> dict[str, float]:
        """Return the CPU seconds by kind of thread: ``insert``, ``merges``, ``engine`` or ``python``."""
        found = dict.fromkeys(PARTS, 0.0)
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            with contextlib.suppress(OSError):  # it may have ended
                name, _, rest = (task / "stat").read_text().partition("(")[2].rpartition(")")
                fields = rest.split()
                found[_PART_OF.get(name, "engine")] += (int(fields[11]) + int(fields[12])) / _TICKS
        return found

    def metric(self, name: str, label: str = "") -> float:
        """Return one value of ``/metrics``, summed over its labels; ``label`` chooses, such as ``source="udp"``."""
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=30)
        with contextlib.closing(connection):
            connection.request("GET", "/metrics")
            lines = connection.getresponse().read().decode().splitlines()
        found = [line for line in lines if line.startswith(f"clew_collector_{name}") and label in line]
        return sum(float(line.rpartition(" ")[2]) for line in found)


@contextlib.contextmanager
def collector(*options: str, data_dir: Path | None = None) -> Iterator[Collector]:
    """Run ``clew up`` on free ports with an empty data directory, or with that one; end it by SIGTERM."""
    with tempfile.TemporaryDirectory(prefix="clew-bench-") as temporary:
        directory = str(data_dir or temporary)
        command = [str(Path(sys.executable).parent / "clew"), "up", "--data-dir", directory]
        process = subprocess.Popen(
            [*command, "--http", "127.0.0.1:0", "--udp", "127.0.0.1:0", *options],
            cwd=ROOT,
            env=environ(),
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            yield Collector(process, Path(directory), *_ports(process))
        finally:
            process.terminate()
            process.wait(_START_S)


def _ports(process: subprocess.Popen[str]) -> tuple[int, int]:
    """Read the start-up lines, which come once everything listens."""
    assert process.stdout is not None
    found: dict[str, int] = {}
    while len(found) < 2:
        line = process.stdout.readline()
        if not line:
            raise RuntimeError("clew up ended before it listened")
        match = re.match(r"\s*(HTTP|UDP)\s.*?:(\d+)(?:\D|$)", line)
        if match:
            found[match[1]] = int(match[2])
    return found["HTTP"], found["UDP"]
