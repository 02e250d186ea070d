"""Acknowledged means stored, once: checked by killing a collector under load."""

from __future__ import annotations

import json
import signal
import threading
import time
from typing import TYPE_CHECKING

from collector.collector_process import CollectorProcess

if TYPE_CHECKING:
    from pathlib import Path

SPANS_PER_BATCH = 50


def _batch(number: int) -> bytes:
    """A trace of its own for every batch, so that each can be counted."""
    trace_id = f"{number + 1:032x}"
    spans = [
        {"traceId": trace_id, "id": f"{i + 1:016x}", "name": "s", "timestamp": 1_700_000_000_000_000 + i, "duration": 1}
        for i in range(SPANS_PER_BATCH)
    ]
    return json.dumps(spans).encode()


class _Load:
    """Posts batches from several threads until the collector is gone; knows which were answered 202."""

    def __init__(self, collector: CollectorProcess, threads: int) -> None:
        self._collector = collector
        self._lock = threading.Lock()
        self._next = 0
        self.answered: set[int] = set()
        self.unanswered: set[int] = set()
        self._threads = [threading.Thread(target=self._post_until_gone) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def wait(self) -> None:
        for thread in self._threads:
            thread.join()

    def _post_until_gone(self) -> None:
        while True:
            with self._lock:
                number = self._next
                self._next += 1
            try:
                status, _ = self._collector.post("/api/v2/spans", _batch(number))
            except OSError:
                self.unanswered.add(number)
                return
            except Exception:  # http.client: the connection was cut in the middle of the answer
                self.unanswered.add(number)
                return
            assert status == 202
            self.answered.add(number)


def _rows_by_batch(collector: CollectorProcess) -> dict[int, int]:
    """How many rows the table itself has, before anything merges equal spans."""
    counted = json.loads(collector.get("/api/v2/services")[1])  # the API answers: the journal is replayed
    assert isinstance(counted, list)
    collector.stop()
    return _count_rows(collector.data_dir)


def _count_rows(data_dir: Path) -> dict[int, int]:
    """Ask the engine in a process of its own: this one has its own engine open."""
    import subprocess
    import sys

    script = (
        "import sys, json; from pathlib import Path; from clew.collector.store.clickhouse import ClickHouseStore\n"
        "store = ClickHouseStore(Path(sys.argv[1]) / 'store')\n"
        "rows = store._writer.query('SELECT hex(trace_id), count() FROM spans GROUP BY 1').result_rows\n"
        "store.close(); print(json.dumps(rows))"
    )
    out = subprocess.run([sys.executable, "-c", script, str(data_dir)], capture_output=True, check=True, text=True)
    return {int(trace_id, 16) - 1: count for trace_id, count in json.loads(out.stdout)}


def test_kill_under_load_keeps_every_acknowledged_span_once(tmp_path: Path) -> None:
    """After kill -9 and a restart each answered batch is there once, and retries of the unanswered ones are, too."""
    with CollectorProcess(tmp_path / "data") as collector:
        load = _Load(collector, threads=8)
        deadline = time.monotonic() + 60
        while len(load.answered) < 60 and time.monotonic() < deadline:
            time.sleep(0.01)
        collector.kill()
        load.wait()
    assert len(load.answered) >= 60
    assert load.unanswered

    with CollectorProcess(tmp_path / "data") as collector:
        again = sorted(load.unanswered) + sorted(load.answered)[-20:]
        statuses = {collector.post("/api/v2/spans", _batch(number))[0] for number in again}
        assert {202} == statuses
        rows = _rows_by_batch(collector)

    assert dict.fromkeys(load.answered | load.unanswered, SPANS_PER_BATCH) == rows


def test_terminate_under_load_loses_nothing(tmp_path: Path) -> None:
    """SIGTERM while batches come in: exit code 0, and each answered batch is there once."""
    with CollectorProcess(tmp_path / "data") as collector:
        load = _Load(collector, threads=4)
        deadline = time.monotonic() + 60
        while len(load.answered) < 20 and time.monotonic() < deadline:
            time.sleep(0.01)
        code = collector.stop(signal.SIGTERM)
        load.wait()
        rows = _count_rows(tmp_path / "data")

    assert code == 0
    assert dict.fromkeys(load.answered, SPANS_PER_BATCH) == {n: rows.get(n) for n in load.answered}
    assert {SPANS_PER_BATCH} == set(rows.values())
