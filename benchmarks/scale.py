"""``make bench-scale N=100000000``: so many spans over a day in a collector, then the questions people ask.

The spans are made by the engine itself, straight into the table (``scale_spans.sql``); what follows from them is
derived by the collector, beside the questions. Prints a table; ``--keep DIR`` makes the data there, or asks those that
are there already. CPU is the collector's for one question: on a busy machine the figure to compare.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from urllib.parse import urlencode

from benchmarks.environment import machine, say
from benchmarks.process import Collector, collector

SPANS_A_TRACE = 12
DAY_US = 86_400_000_000
STEPS = 144
_HOUR_MS = 3_600_000
_ASKED = 20
_MAKE = "make"
_STATEMENT = Path(__file__).with_name("scale_spans.sql")
_BUDGETS_MS = {
    "trace by id": 20,
    "recent traces of a service, some hour": 50,
    "errors of a service, some hour": 50,
    "slow traces of a service, some hour": 50,
    "a rare tag value, a day": 200,
    "a frequent tag value, a day": 200,
    "services": 50,
    "dependencies, a day": 50,
}


def make(directory: Path, spans: int) -> None:
    """Fill the store of a data directory. In a process of its own: the engine opens one directory a process."""
    from clew.collector.store.clickhouse import DERIVE_SETTINGS, ClickHouseStore, connect

    store = ClickHouseStore(directory / "store")
    client = connect(directory / "store", "", 0, {**DERIVE_SETTINGS, "min_insert_block_size_rows": 1_000_000})
    traces = spans // SPANS_A_TRACE
    step = -(-traces // STEPS)
    begin = (int(time.time()) - 86_400) * 1_000_000
    for number, first in enumerate(range(0, traces, step)):
        given = {"first": first, "count": min(step, traces - first), "traces": traces, "begin": begin}
        client.command(_STATEMENT.read_text(encoding="utf-8"), parameters=given)
        if number % 12 == 11:
            say(f"  {100 * (number + 1) // STEPS} % of {spans:,} spans are made")
    client.close()
    store.close()


def main(arguments: list[str]) -> None:
    """Make the data, ask, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale")
    parser.add_argument("--spans", type=int, default=10_000_000)
    parser.add_argument("--keep", type=Path, help="where the data lie or are made, to be asked again")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="clew-scale-") as temporary:
        directory = options.keep or Path(temporary)
        if not (directory / "store").exists():
            directory.mkdir(parents=True, exist_ok=True)
            command = [sys.executable, "-m", "benchmarks.scale", _MAKE, str(directory), str(options.spans)]
            subprocess.run(command, check=True)
        with collector(data_dir=directory) as running:
            print(_section(running, _ask_all(running)))


def _ask_all(running: Collector) -> dict[str, list[tuple[float, float]]]:
    """Return, for each kind of question, milliseconds and CPU milliseconds of each time it was asked."""
    luck = random.Random(1)
    connection = http.client.HTTPConnection("127.0.0.1", running.http_port, timeout=120)

    def get(path: str, **parameters: object) -> object:
        connection.request("GET", f"{path}?{urlencode(parameters)}" if parameters else path)
        return json.loads(connection.getresponse().read())

    newest_ms = int(time.time() * 1_000)
    found = get("/api/v2/traces", endTs=newest_ms, lookback=30 * 24 * _HOUR_MS, limit=1)
    assert isinstance(found, list)
    newest_ms = found[0][0]["timestamp"] // 1_000

    def at() -> int:
        return newest_ms - luck.randrange(1, 23) * _HOUR_MS

    def search(**more: object) -> Callable[[], object]:
        return lambda: get(
            "/api/v2/traces", endTs=at(), lookback=_HOUR_MS, limit=20, serviceName=_service(luck), **more
        )

    def tag(text: Callable[[], str]) -> Callable[[], object]:
        day = {"endTs": newest_ms, "lookback": 24 * _HOUR_MS, "limit": 20}
        return lambda: get("/api/v2/traces", annotationQuery=text(), **day)

    some = [get("/api/v2/traces", endTs=at(), limit=10) for _ in range(10)]
    ids = [trace[0]["traceId"] for traces in some if isinstance(traces, list) for trace in traces]
    questions: dict[str, Callable[[], object]] = {
        "trace by id": lambda: get(f"/api/v2/trace/{luck.choice(ids)}"),
        "recent traces of a service, some hour": search(),
        "errors of a service, some hour": search(annotationQuery="error"),
        "slow traces of a service, some hour": search(minDuration=400_000),
        "a rare tag value, a day": tag(lambda: f"customer.id={luck.randrange(100_000)}"),
        "a frequent tag value, a day": tag(lambda: "http.status_code=500"),
        "services": lambda: get("/api/v2/services"),
        "dependencies, a day": lambda: get("/api/v2/dependencies", endTs=newest_ms, lookback=24 * _HOUR_MS),
    }
    return {name: [_timed(running, ask) for _ in range(_ASKED)] for name, ask in questions.items()}


def _timed(running: Collector, ask: Callable[[], object]) -> tuple[float, float]:
    cpu, begun = running.cpu_s(), time.perf_counter()
    ask()
    return (time.perf_counter() - begun) * 1_000, (running.cpu_s() - cpu) * 1_000


def _service(luck: random.Random) -> str:
    return f"service-{luck.randrange(20):02}"


def _section(running: Collector, answers: dict[str, list[tuple[float, float]]]) -> str:
    rows = running.metric("disk_bytes")
    lines = [
        f"{machine()['load']}",
        f"{rows:,.0f} bytes on disk; memory {running.memory_mb()[1]:,.0f} MB at its highest",
        "",
        "| question | p50 ms | p99 ms | CPU ms | budget |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, times in answers.items():
        walls = sorted(wall for wall, _ in times)
        cpu = median(cpu for _, cpu in times)
        lines.append(f"| {name} | {median(walls):.0f} | {walls[-1]:.0f} | {cpu:.0f} | {_BUDGETS_MS[name]} |")
    return "\n".join(lines)


if __name__ == "__main__":
    if sys.argv[1:2] == [_MAKE]:
        make(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        main(sys.argv[1:])
