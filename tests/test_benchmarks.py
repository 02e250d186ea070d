"""The benchmarks' own harness works: tiny counts, no peers, and nothing that depends on how fast this machine is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # benchmarks/ is no part of the package

from benchmarks import budgets, client, collector, report  # noqa: E402
from benchmarks.environment import machine, sink  # noqa: E402
from benchmarks.measure import Case, measure  # noqa: E402
from benchmarks.spans import DAY_US, SERVICES, Data, trace_id  # noqa: E402

SAMPLE = {"floor": 1.0, "bare": 0.0, "cost": 2.0, "ratio": 2.0}


def test_cost_is_traced_less_bare():
    """A case that can be switched is measured as a difference; its switch is back on before it settles."""
    log: list[object] = []
    case = Case(lambda count: log.append(count), log.append, lambda: log.append("settled"))

    sample = measure(case, slices=1, slice_s=1e-9)

    assert sample.cost == pytest.approx(sample.ratio * sample.floor)
    assert [False, 100, True, 100, "settled"] == log[-5:]


def test_whole_process_case_settles_inside_the_timed_part():
    """Encoding and sending count where all CPU of the process counts."""

    def burn() -> None:
        until = time.process_time_ns() + 5_000_000
        while time.process_time_ns() < until:
            pass

    sample = measure(Case(lambda count: None, settle=burn, whole_process=True), slices=1, slice_s=1e-9)

    assert sample.cost * 100 >= 5_000  # microseconds


@pytest.mark.parametrize("row", client.CELLS["clew"])
def test_worker_measures_clew(row):
    """Every row of clew runs in a process of its own and prints its sample."""
    with sink() as addresses:
        command = [sys.executable, "-m", "benchmarks.worker", "clew", row, "1", "0.0005"]
        variables = {**os.environ, **addresses}
        done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=60, check=False)

    assert "" == done.stderr
    assert {"floor", "bare", "cost", "ratio"} == json.loads(done.stdout).keys()


def test_every_cell_has_its_function():
    """The table of cells names no library and no row that is not there."""
    for library, rows in client.CELLS.items():
        if library != "compiled":
            source = (ROOT / "benchmarks" / "libraries" / f"{library}.py").read_text()
            assert [] == [row for row in rows if f"\ndef {row}() -> Case:" not in source]


def test_spans_are_whole_traces_and_the_same_each_time():
    """A million spans need not be kept: they are made again by number, batches overlap traces and lose none."""
    data = Data(10, DAY_US * 20_000)
    spans = [span for batch in data.batches(50) for span in json.loads(batch)]

    assert 120 == len(spans)
    assert list(data.batches(50)) == list(data.batches(50))
    assert {trace_id(number) for number in range(10)} == {span["traceId"] for span in spans}
    assert [5] * 120 == [len(span["tags"].keys() - {"error"}) for span in spans]
    assert data.user_of(3) == spans[36]["tags"]["user.id"]
    for number in range(10):
        ids = {span["id"] for span in spans[number * 12 : number * 12 + 12]}
        assert [None] == [
            s.get("parentId") for s in spans[number * 12 : number * 12 + 12] if s.get("parentId") not in ids
        ]
    begun = {span["id"]: span["timestamp"] for span in spans}
    assert [] == [span for span in spans if span["timestamp"] < begun.get(span.get("parentId"), 0)]
    assert {span["localEndpoint"]["serviceName"] for span in spans} <= set(SERVICES)


def test_document_says_what_was_hit_and_what_was_missed():
    """The report is made of results alone, and marks each budget."""
    clients = client.Results(rounds=1, imports={"clew": [(18.0, 0, 1.5)]}, problems={"ddtrace asgi": "broken"})
    clients.samples = {("span", "clew"): [SAMPLE], ("asgi", "clew"): [{**SAMPLE, "ratio": 9.0}]}
    ways = [collector.Ingest("HTTP, 100", 1_000, 1_000, 0.5, 4.0, 5.0, 1.0, 3.0, 9.0)]
    answers = [
        collector.Answers(name, 5, 10.0, 30.0, 8.0, 400)
        for name in ("a trace by id", "recent traces of a service", "traces by a rare tag, 24 h")
    ]
    collectors = collector.Results(ways, answers, 1_000, 30.0, 40.0, 380.0, (300.0, 500.0))
    collectors.zipkin = collector.Beside("", ways, answers, (900.0, 1_000.0))
    profile = {"asgi": [{"function": "wire.py:1 f", "calls": 2.0, "share": 0.5}]}

    text = report.write(machine(), {"clew": "1"}, clients, profile, collectors, {"slices": 1, "slice_s": 0.001})

    assert ["asgi"] == [row for row in report.missed(clients) if (row, "clew") in clients.samples]
    assert f"| {budgets.CLIENT[0].title} | ≤ 2.2 × floor; compiled ≤ 1.0 | 2.00 (2.00) |" in text
    assert "| `import clew` | 18.0 | 12.0 | 0 | yes |" in text
    assert "### Missed: ASGI request, server span (9.00 × floor, budget 8)" in text
    assert "| `wire.py:1 f` | 2 | 50% |" in text
    assert (
        "| spans a core-second over HTTP, stored and merged, best way, at floor 1.0 | ≥ 150,000 | 200,000 | yes |"
        in text
    )
    assert "| a trace by id, p99 | ≤ 20 ms | 30.00 ms | **no** |" in text
    assert "- ddtrace asgi: broken" in text
    assert "| HTTP, 100 | 2,000 | 2,000 | 5.0 | 5.0 |" in text
    assert "| a trace by id | 10.0 / 30.0 | 10.0 / 30.0 | 8.0 | 8.0 |" in text
    collectors.zipkin = collector.Beside("java not found")
    assert "Not measured: java not found." in report.write(machine(), {}, None, {}, collectors, {})
