"""What a question may cost: time, memory, places; and that it ends when nobody waits for it."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from clew.collector.api import desk
from clew.collector.patience import GaveUp, Patience, TooCostly
from clew.collector.query import Query, Question
from clew.collector.store import statements
from served import served
from zipkin_spans import NOON, insert

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from clew.collector.store.clickhouse import ClickHouseStore

ENDLESS = "SELECT toString(count()) AS name FROM numbers(1000000000000) WHERE sipHash64(number) = 1"


@pytest.fixture
def endless(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let `/api/v2/services` and searches ask the engine something that takes it hours."""
    original = statements.read_file
    asked = ("list_services", "search_leads", "search_traces", "measure_rows", "search_logs", "complete_values")
    monkeypatch.setattr(statements, "read_file", lambda name: ENDLESS if name in asked else original(name))
    statements.read_statement.cache_clear()
    yield
    statements.read_statement.cache_clear()


@pytest.fixture
def client(store: ClickHouseStore, tmp_path: Path) -> Iterator[httpx.Client]:
    """A collector without spans."""
    with served(store, tmp_path) as client:
        yield client


def running(store: ClickHouseStore) -> int:
    """Return how many endless statements the engine is at."""
    sql = "SELECT count() FROM system.processes WHERE query LIKE '%sipHash64%' AND query NOT LIKE '%processes%'"
    return int(store._writer.query(sql).result_rows[0][0])


def until(condition: Any) -> None:
    """Wait until it holds."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        threading.Event().wait(0.02)


def ask(client: httpx.Client, path: str = "/api/v2/services") -> socket.socket:
    """Send a request and wait for nothing."""
    connection = socket.create_connection((client.base_url.host, client.base_url.port or 0))
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    return connection


@pytest.mark.usefixtures("endless")
class TestEngine:
    """Statements that would take hours."""

    def test_question_ends_with_its_asker(self, client: httpx.Client, store: ClickHouseStore) -> None:
        """In the engine, also those that wait for their turn; the collector answers others meanwhile."""
        asked = [ask(client) for _ in range(12)]
        until(lambda: running(store) == desk.WORKERS)
        assert [200, 200] == [client.get(path).status_code for path in ("/health", "/metrics")]
        for connection in asked:
            connection.close()
        until(lambda: running(store) == 0)
        assert 200 == client.get("/api/v2/dependencies?endTs=1").status_code

    @pytest.mark.parametrize("path", ["traces?q=x", "traces?sort=slowest", "series", "logs?q=x", "complete?q=service="])
    def test_search_ends_with_its_asker(self, client: httpx.Client, store: ClickHouseStore, path: str) -> None:
        """Whatever is asked by the search language."""
        asked = ask(client, f"/api/v1/{path}")
        until(lambda: running(store) == 1)
        asked.close()
        until(lambda: running(store) == 0)

    def test_question_ends_at_its_limit(
        self, client: httpx.Client, store: ClickHouseStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With an answer that says so and what would help; one that never had its turn as well."""
        monkeypatch.setattr(desk, "LIMIT_S", 1.0)
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: client.get("/api/v2/services"), range(8)))
        assert {503} == {answer.status_code for answer in answers}
        texts = {answer.text.partition(" and ")[0] for answer in answers}
        assert "The question took longer than 1 s" in texts
        assert 0 == running(store)

    def test_too_many_questions_are_refused_at_once(
        self, client: httpx.Client, store: ClickHouseStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """And the others stay."""
        monkeypatch.setattr(desk, "UNDER_WAY", 5)
        asked = [ask(client) for _ in range(5)]
        until(lambda: running(store) == desk.WORKERS)
        refused = client.get("/api/v2/traces")
        assert (503, "2") == (refused.status_code, refused.headers["Retry-After"])
        assert 202 == client.post("/api/v2/spans", content=b'[{"traceId":"1","id":"1"}]').status_code
        for connection in asked:
            connection.close()
        until(lambda: running(store) == 0)

    def test_statement_stops_when_told(self, store: ClickHouseStore) -> None:
        """The thread that asked comes back."""
        patience = Patience(60)
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(lambda: list(Query(store, patience=patience).services()))
            until(lambda: running(store) == 1)
            patience.end()
            store.stop(patience)
            with pytest.raises(GaveUp):
                asked.result(30)


def test_loops_in_python_end_too(store: ClickHouseStore) -> None:
    """Between two steps of whatever is long."""
    patience = Patience(60)
    steps = patience.each(range(1_000_000))
    next(steps)
    patience.end()
    with pytest.raises(GaveUp):
        list(steps)
    with pytest.raises(TooCostly):
        list(Query(store, patience=Patience(0)).find(Question(0, NOON, 10)))


class TestLongAnswers:
    """Answers of any length, chunk by chunk."""

    def test_whole_trace_is_streamed(self, client: httpx.Client, store: ClickHouseStore) -> None:
        """Packed or not; every span is there."""
        for begin in range(0, 12_000, 3_000):
            insert(
                store,
                *(
                    {"traceId": "1", "id": f"{n + 1:x}", "timestamp": NOON * 1_000 + n}
                    for n in range(begin, begin + 3_000)
                ),
            )
        for coding in ("gzip", "identity"):
            answer = client.get("/api/v2/trace/1", headers={"accept-encoding": coding})
            assert "chunked" == answer.headers["transfer-encoding"]
            assert list(range(1, 12_001)) == [int(span["id"], 16) for span in answer.json()]
        found = client.get("/api/v2/traces", params={"endTs": NOON + 100, "limit": 1_000_000_000}).json()
        assert [12_000] == [len(trace) for trace in found]

    def test_limits_are_kept_or_said(self, client: httpx.Client, store: ClickHouseStore) -> None:
        """More traces than a page, more values than a thousand; where less comes, a header says so."""
        insert(
            store,
            *(
                {"traceId": f"{n:x}", "id": "1", "timestamp": NOON * 1_000 + n, "tags": {"environment": f"v{n}"}}
                for n in range(1, 6_002)
            ),
        )
        found = client.get("/api/v2/traces", params={"endTs": NOON + 100, "limit": 6_000}).json()
        assert 6_000 == len({trace[0]["traceId"] for trace in found})
        refused = client.get("/api/v1/traces", params={"limit": 5_000})
        assert (400, {"error": "limit is a number from 1 to 1000"}) == (refused.status_code, refused.json())

    def test_answer_cut_short_does_not_look_whole(
        self, client: httpx.Client, store: ClickHouseStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The connection breaks when the time is over in the middle."""
        insert(store, *({"traceId": "1", "id": f"{n + 1:x}", "timestamp": NOON * 1_000 + n} for n in range(12_000)))
        monkeypatch.setattr(desk, "SEND_S", 0.0)
        with pytest.raises(httpx.RemoteProtocolError):
            client.get("/api/v2/trace/1")
