"""The client part: every library through every row, each in a process of its own, in turn over several rounds.

Rounds are interleaved (all libraries once, then all again), so that a busy quarter of a minute falls on all of them.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from benchmarks import compiled
from benchmarks.environment import PYTHON, ROOT, environ, say, sink

# library -> rows; "compiled" is clew with a compiled core
CELLS: dict[str, tuple[str, ...]] = {
    "clew": ("span", "total", "asgi", "flask", "httpx", "requests", "sql", "log"),
    "compiled": ("span", "total", "asgi"),
    "opentelemetry": ("span", "total", "asgi", "flask", "httpx", "requests", "sql"),
    "ddtrace": ("span", "total", "asgi", "httpx", "requests"),
    "py_zipkin": ("span", "total"),
    "correlation": ("asgi", "log"),
}
IMPORTS = ("clew", "opentelemetry", "ddtrace", "py_zipkin", "correlation")
IMPORT_STATEMENTS = {
    "clew": "import clew",
    "opentelemetry": "from opentelemetry.sdk.trace.export import BatchSpanProcessor; "
    "from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter",
    "ddtrace": "from ddtrace.trace import tracer",
    "py_zipkin": "from py_zipkin.zipkin import zipkin_span",
    "correlation": "import asgi_correlation_id",
}
_WORKER_TIMEOUT_S = 120


@dataclass
class Results:
    """What the rounds gave: samples by (row, library), import figures by library, what went wrong."""

    samples: dict[tuple[str, str], list[dict[str, float]]] = field(default_factory=dict)
    imports: dict[str, list[tuple[float, int, float]]] = field(default_factory=dict)  # ms, packages, floor
    problems: dict[str, str] = field(default_factory=dict)
    rounds: int = 0

    def value(self, row: str, library: str, name: str) -> float | None:
        """Return the median over the rounds: ``cost``, ``ratio``, ``floor`` or ``bare``."""
        samples = self.samples.get((row, library))
        return median(sample[name] for sample in samples) if samples else None

    def spread(self, row: str, library: str) -> tuple[float, float]:
        """Return the least and the largest ratio of the rounds."""
        ratios = [sample["ratio"] for sample in self.samples[row, library]]
        return min(ratios), max(ratios)

    def floors(self) -> list[float]:
        """Return the floor as every process measured it."""
        return [sample["floor"] for samples in self.samples.values() for sample in samples]


def run(rounds: int, slices: int, slice_s: float) -> Results:
    """Measure everything; a library that fails is noted and left out of the later rounds."""
    results = Results(rounds=rounds)
    cells = [(row, library) for library, rows in CELLS.items() for row in rows]
    problem = compiled.build()
    if problem:
        say(f"No compiled core: {problem}")
        results.problems["compiled"] = problem
        cells = [cell for cell in cells if cell[1] != "compiled"]
    with sink() as addresses:
        for number in range(rounds):
            say(f"Client: round {number + 1} of {rounds}, {len(cells)} processes")
            for row, library in list(cells):
                _measure(results, row, library, [str(slices), str(slice_s)], addresses)
                if f"{library} {row}" in results.problems:
                    cells.remove((row, library))
            for library in IMPORTS:
                results.imports.setdefault(library, []).append(_import(library))
    return results


def profile(row: str) -> list[dict[str, Any]]:
    """Return clew's own profile of a row; empty where it fails."""
    with sink() as addresses:
        done = _worker(row, "clew", ["profile"], addresses)
    return list(json.loads(done.stdout)) if done.returncode == 0 else []


def _measure(results: Results, row: str, library: str, how: list[str], addresses: dict[str, str]) -> None:
    done = _worker(row, library, how, addresses)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        results.problems[f"{library} {row}"] = reason
        say(f"{library} {row} failed: {reason}")
        return
    results.samples.setdefault((row, library), []).append(json.loads(done.stdout.splitlines()[-1]))


def _worker(row: str, library: str, how: list[str], addresses: dict[str, str]) -> subprocess.CompletedProcess[str]:
    module = "clew" if library == "compiled" else library
    command = [str(PYTHON), "-m", "benchmarks.worker", module, row, *how]
    variables = environ(compiled=library == "compiled", **addresses)
    try:
        return subprocess.run(
            command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=_WORKER_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"took more than {_WORKER_TIMEOUT_S} s")


def _import(library: str) -> tuple[float, int, float]:
    script = ROOT / "benchmarks" / "imports.py"
    command = [str(PYTHON), str(script), IMPORT_STATEMENTS[library]]
    done = subprocess.run(command, env=environ(), capture_output=True, text=True, check=True)
    spent_ms, packages, floor_us = done.stdout.split()
    return float(spent_ms), int(packages), float(floor_us)
