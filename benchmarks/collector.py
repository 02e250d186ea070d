"""The collector part: what a span costs on its way into the table, its place on disk, and questions over a million."""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from statistics import median
from typing import Any
from urllib.parse import urlencode

from benchmarks import zipkin
from benchmarks.environment import ROOT, say
from benchmarks.measure import measure_floor
from benchmarks.process import PARTS, Collector, Process, collector
from benchmarks.spans import DAY_US, SERVICES, SPANS_A_TRACE, Data, trace_id

# (spans a request, connections, spans)
_WAYS = ((100, 4, 100_000), (500, 4, 240_000), (1_000, 16, 480_000))
_UDP_A_SECOND = (20_000, 60_000)
_UDP_S = 3
_LOAD = (2_000, 8)
_MERGE_S = 40
_ASK_S = 8.0  # for one kind of question
_OTHER_IDLE_S = 10
_WARM = 60_000  # spans


@dataclass
class Ingest:
    """One way in: ``cpu_us`` is the collector's own CPU a span until the last answer, ``all_us`` with the merges after.

    ``floor_us`` is the client part's floor at the same time: how fast a core was just then.
    """

    name: str
    spans: int
    stored: int
    seconds: float
    cpu_us: float
    all_us: float
    floor_us: float
    p50_ms: float | None = None
    p99_ms: float | None = None
    inserts: int = 0
    parts_us: dict[str, float] = field(default_factory=dict)  # CPU a span by kind of thread, merges included


@dataclass
class Answers:
    """One kind of question: how often asked, median and 99th percentile in ms, mean size of an answer in bytes."""

    name: str
    asked: int
    p50_ms: float
    p99_ms: float
    cpu_ms: float
    size: int


@dataclass
class Beside:
    """What Zipkin's server gave for the same bodies and questions; ``missing``: why it gave nothing."""

    missing: str = ""
    ingest: list[Ingest] = field(default_factory=list)
    questions: list[Answers] = field(default_factory=list)
    memory_mb: tuple[float, float] = (0.0, 0.0)


@dataclass
class Results:
    """What the collector part gave."""

    ingest: list[Ingest] = field(default_factory=list)
    questions: list[Answers] = field(default_factory=list)
    spans: int = 0
    table_bytes: float = 0.0  # a span, as the collector counts it
    disk_bytes: float = 0.0  # a span, the whole data directory
    json_bytes: float = 0.0  # a span, as it arrived
    memory_mb: tuple[float, float] = (0.0, 0.0)
    problems: list[str] = field(default_factory=list)
    zipkin: Beside = field(default_factory=lambda: Beside("it was not tried"))


def run(quick: bool) -> Results:
    """Measure everything."""
    results = Results()
    shrink = 5 if quick else 1
    now_us = time.time_ns() // 1_000
    with collector() as running:
        _ways_in(running, results, shrink, now_us)
    with collector() as running:
        _million(running, results, 1_000_000 // shrink, now_us)
    results.zipkin = _beside(results.problems, shrink, now_us)
    return results


def _beside(problems: list[str], shrink: int, now_us: int) -> Beside:
    """Send the same to Zipkin's server: what makes it warm, then each way; to another one the million to ask about."""
    beside = Beside()
    total = 2_000_000 // SPANS_A_TRACE
    try:
        with zipkin.server() as running:
            say("Zipkin: the same bodies over HTTP")
            _Load("http", running.http_port, 100, 4, total, now_us, total - _WARM // SPANS_A_TRACE, total).go()
            first = 0
            for batch, connections, spans in _WAYS:
                traces = spans // shrink // SPANS_A_TRACE
                load = _Load("http", running.http_port, batch, connections, total, now_us, first, first + traces)
                name = f"HTTP, {batch} spans a request, {connections} connections"
                beside.ingest.append(_measure_other(running, name, load))
                first += traces
        with zipkin.server() as running:
            _ask_other(running, beside, problems, 1_000_000 // shrink, now_us)
    except zipkin.NotHere as reason:
        return Beside(str(reason))
    return beside


def _measure_other(running: Process, name: str, load: _Load) -> Ingest:
    cpu = running.cpu_s()
    with _floors() as floors:
        told = load.go()
    spent = running.cpu_s() - cpu
    running.wait_until_idle(_OTHER_IDLE_S)
    spans = load.traces * SPANS_A_TRACE
    each = 1e6 / spans
    all_us = (running.cpu_s() - cpu) * each
    waits = told.get("p50_ms"), told.get("p99_ms")
    return Ingest(name, spans, spans, told["seconds"], spent * each, all_us, median(floors), *waits)


def _ask_other(running: Process, beside: Beside, problems: list[str], spans: int, now_us: int) -> None:
    traces = spans // SPANS_A_TRACE
    batch, connections = _LOAD
    _Load("http", running.http_port, batch, connections, traces, now_us, 0, traces).go()
    running.wait_until_idle(_OTHER_IDLE_S)
    for name, path in _questions(Data(traces, now_us)).items():
        say(f"Zipkin: asking for {name}")
        beside.questions.append(_ask(running, problems, name, path))
    beside.memory_mb = running.memory_mb()


def _ways_in(running: Collector, results: Results, shrink: int, end_us: int) -> None:
    first = 0
    total = 2_000_000 // SPANS_A_TRACE  # numbers of traces to take from, so that no body comes twice
    for batch, connections, spans in _WAYS:
        traces = spans // shrink // SPANS_A_TRACE
        say(f"Collector: {traces * SPANS_A_TRACE:,} spans over HTTP, {batch} a request, {connections} connections")
        name = f"HTTP, {batch} spans a request, {connections} connections"
        load = _Load("http", running.http_port, batch, connections, total, end_us, first, first + traces)
        results.ingest.append(_measure(running, name, load, "http"))
        first += traces
    for a_second in _UDP_A_SECOND:
        traces = a_second * _UDP_S // shrink // SPANS_A_TRACE
        say(f"Collector: {traces * SPANS_A_TRACE:,} spans over UDP, {a_second:,} a second")
        load = _Load("udp", running.udp_port, a_second, total, end_us, first, first + traces)
        results.ingest.append(_measure(running, f"UDP, {a_second:,} spans a second sent", load, "udp"))
        first += traces


class _Load:
    """A load generator in its own process, which waits for its start."""

    def __init__(self, *arguments: object) -> None:
        command = [sys.executable, "-m", "benchmarks.load", *map(str, arguments)]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.traces = int(str(arguments[-1])) - int(str(arguments[-2]))
        assert self._process.stdout is not None
        self._process.stdout.readline()

    def go(self) -> dict[str, Any]:
        """Let it send, and return what it tells."""
        told, _ = self._process.communicate("go\n")
        answer: dict[str, Any] = json.loads(told)
        return answer


def _measure(running: Collector, name: str, load: _Load, source: str) -> Ingest:
    label = f'source="{source}"'
    before = running.metric("spans_stored_total", label)
    inserts, parts, cpu = running.metric("inserts_total"), running.parts_s(), running.cpu_s()
    with _floors() as floors:
        told = load.go()
    spent = running.cpu_s() - cpu
    running.wait_until_idle(_MERGE_S)
    spans = load.traces * SPANS_A_TRACE
    stored = int(running.metric("spans_stored_total", label) - before)
    each = 1e6 / max(stored, 1)
    all_us = (running.cpu_s() - cpu) * each
    now = running.parts_s()
    parts_us = {part: (now[part] - parts[part]) * each for part in PARTS}
    inserts = running.metric("inserts_total") - inserts
    waits = told.get("p50_ms"), told.get("p99_ms")
    return Ingest(
        name, spans, stored, told["seconds"], spent * each, all_us, median(floors), *waits, int(inserts), parts_us
    )


@contextlib.contextmanager
def _floors() -> Iterator[list[float]]:
    """Measure the floor ten times a second for the time of the ``with``, at the cost of a twentieth of a core."""
    found: list[float] = []
    ended = threading.Event()

    def measure() -> None:
        while True:
            found.append(measure_floor(0.01))
            if ended.wait(0.1):
                return

    thread = threading.Thread(target=measure)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()


def _million(running: Collector, results: Results, spans: int, now_us: int) -> None:
    traces = spans // SPANS_A_TRACE
    data = Data(traces, now_us)
    say(f"Collector: loading {traces * SPANS_A_TRACE:,} spans")
    batch, connections = _LOAD
    load = _Load("http", running.http_port, batch, connections, traces, now_us, 0, traces)
    name = f"HTTP, {batch} spans a request, {connections} connections"
    loaded = _measure(running, name, load, "http")
    results.ingest.append(loaded)
    results.spans = loaded.stored
    sample = data.trace(0)
    results.json_bytes = sum(map(len, sample)) / len(sample)
    results.table_bytes = running.metric("disk_bytes") / max(loaded.stored, 1)
    results.disk_bytes = _size_of(running) / max(loaded.stored, 1)
    for name, path in _questions(data).items():
        say(f"Collector: asking for {name}")
        results.questions.append(_ask(running, results.problems, name, path))
    results.memory_mb = running.memory_mb()


def _size_of(running: Collector) -> int:
    return sum(path.stat().st_blocks * 512 for path in running.data_dir.rglob("*") if path.is_file())


def _questions(data: Data) -> dict[str, Callable[[random.Random], str]]:
    """Return the kinds of question, each as a function that makes one of its kind."""

    def number(rng: random.Random) -> int:
        return rng.randrange(data.traces)

    def search(rng: random.Random, **conditions: object) -> str:
        window = {"endTs": data.end_us // 1_000 + 1_000, "lookback": DAY_US // 1_000 + 2_000, "limit": 10}
        return "/api/v2/traces?" + urlencode({**window, **conditions})

    def service(rng: random.Random) -> str:
        return rng.choice(SERVICES)

    window = urlencode({"endTs": data.end_us // 1_000 + 1_000, "lookback": DAY_US // 1_000})
    return {
        "a trace by id": lambda rng: f"/api/v2/trace/{trace_id(number(rng))}",
        "recent traces of a service": lambda rng: search(rng, serviceName=service(rng)),
        "traces of a service with an error": lambda rng: search(rng, serviceName=service(rng), annotationQuery="error"),
        "traces by a rare tag, 24 h": lambda rng: search(rng, annotationQuery=f"user.id={data.user_of(number(rng))}"),
        "slow traces of a service": lambda rng: search(rng, serviceName=service(rng), minDuration=350_000),
        "names of services": lambda rng: "/api/v2/services",
        "names of a service's spans": lambda rng: f"/api/v2/spans?serviceName={service(rng)}",
        "dependencies, 24 h": lambda rng: f"/api/v2/dependencies?{window}",
    }


def _ask(running: Process, problems: list[str], name: str, path: Callable[[random.Random], str]) -> Answers:
    """Ask up to 200 times, one after another over one connection, after three that do not count."""
    rng = random.Random(name)
    waits: list[float] = []
    sizes: list[int] = []
    begun = 0.0
    cpu = 0.0
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", running.http_port, timeout=60)) as connection:
        for turn in range(203):
            if turn == 3:
                waits.clear()
                sizes.clear()
                begun, cpu = time.perf_counter(), running.cpu_s()
            if turn > 10 and time.perf_counter() - begun > _ASK_S:
                break
            asked = time.perf_counter()
            connection.request("GET", path(rng))
            answer = connection.getresponse()
            body = answer.read()
            waits.append((time.perf_counter() - asked) * 1e3)
            sizes.append(len(body))
            if answer.status != 200 or body == b"[]":
                problems.append(f"{name}: status {answer.status}, {len(body)} bytes")
    waits.sort()
    cpu_ms = (running.cpu_s() - cpu) * 1e3 / len(waits)
    middle, high = waits[len(waits) // 2], waits[len(waits) * 99 // 100]
    return Answers(name, len(waits), middle, high, cpu_ms, sum(sizes) // len(sizes))
