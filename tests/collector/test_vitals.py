"""Health and metrics, while everything else is stuck."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from clew.collector.api import vitals
from served import served

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from clew.collector.store.clickhouse import ClickHouseStore


class Stuck:
    """The store, whose reading waits until it is told to go on."""

    def __init__(self, store: ClickHouseStore) -> None:
        self._store = store
        self.go_on = threading.Event()
        self.asked = threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def select(self, *args: Any, **kwargs: Any) -> Any:
        self.asked.set()
        assert self.go_on.wait(60)
        return self._store.select(*args, **kwargs)

    def disk_bytes(self) -> int:
        assert self.go_on.wait(60)
        return self._store.disk_bytes()


def test_health_and_metrics_answer_while_all_questions_wait(
    store: ClickHouseStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More questions than there are threads, and a store that does not even say how large it is."""
    monkeypatch.setattr(vitals, "DISK_WAIT_S", 0.1)
    stuck = Stuck(store)
    with served(stuck, tmp_path) as client, ThreadPoolExecutor(60) as askers:  # type: ignore[arg-type]
        asked = [askers.submit(client.get, "/api/v2/services") for _ in range(60)]
        assert stuck.asked.wait(30)
        assert 200 == client.get("/health").status_code
        assert 200 == client.get("/info").status_code
        assert "\nclew_collector_disk_bytes 0\n" in client.get("/metrics").text
        assert 202 == client.post("/api/v2/spans", content=b'[{"traceId":"a","id":"b"}]').status_code
        stuck.go_on.set()
        assert {200} >= {one.result().status_code for one in asked} - {503}
        assert "\nclew_collector_disk_bytes 0\n" not in client.get("/metrics").text


def test_followers_are_bounded(store: ClickHouseStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One more is told so; when one leaves there is room again, also for those that left before the first event."""
    monkeypatch.setattr("clew.collector.ingest.feed.MAX_FOLLOWERS", 2)
    with served(store, tmp_path) as client:
        with client.stream("GET", "/api/v1/tail") as first, client.stream("GET", "/api/v1/tail") as second:
            assert [200, 200] == [first.status_code, second.status_code]
            refused = client.get("/api/v1/tail")
            assert 503 == refused.status_code
            assert "2 are following already" in refused.json()["error"]
        for _ in range(1_000):
            with client.stream("GET", "/api/v1/tail") as again:
                if again.status_code == 200:
                    break
        assert 200 == again.status_code
