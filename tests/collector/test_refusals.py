"""What becomes of payloads that the store refuses: none stands in another's way, whatever the store says."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError

from clew.collector.ingest import Ingest, inserter
from clew.collector.ingest.payload import check
from clew.collector.metrics import Metrics
from clew.collector.store.clickhouse import translated
from collector.collector_process import wait_until
from collector.faulty_store import FaultyStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from clew.collector.store.clickhouse import ClickHouseStore

TIMEOUT_S = 30

# One of each kind of what the engine says: bytes, types, limits, memory, time, disk, network, tables, unknown numbers.
CODES = (
    6, 27, 38, 43, 53, 72, 117, 131, 158, 159, 160, 164, 173, 191, 202, 210, 241, 243, 252, 290, 306, 349, 394, 439,
    469, 495, 636, 668, 999, 1_000, 1_001, 1_002, 4_711,
)  # fmt: skip


def _body(trace_id: int, name: str = "x", count: int = 1) -> bytes:
    spans = [{"traceId": f"{trace_id:x}", "id": f"{n + 1:x}", "timestamp": 1, "name": name} for n in range(count)]
    return json.dumps(spans).encode()


def _counts(store: ClickHouseStore) -> dict[int, int]:
    rows = store._writer.query("SELECT hex(trace_id), count() FROM spans GROUP BY 1").result_rows
    return {int(trace_id, 16): count for trace_id, count in rows}


def _fault_of(code: int) -> Exception:
    """Return what the store makes of an error of the engine."""
    try:
        with translated(unreadable=True):
            raise DatabaseError(f"Code: {code}. DB::Exception: something", code=code)
    except Exception as error:
        return error


@pytest.fixture
def faulty(store: ClickHouseStore, monkeypatch: pytest.MonkeyPatch) -> FaultyStore:
    monkeypatch.setattr(inserter, "ALONE_S", 0.001)
    return FaultyStore(store)


@pytest.fixture
def ingest(faulty: FaultyStore, tmp_path: Path) -> Iterator[Ingest]:
    ingest = Ingest(faulty, tmp_path / "journal", Metrics())
    yield ingest
    ingest.close()


@pytest.mark.parametrize("fault", [*map(_fault_of, CODES), RuntimeError("a crash"), MemoryError()], ids=repr)
def test_payload_that_the_store_refuses_harms_no_other(
    ingest: Ingest, faulty: FaultyStore, store: ClickHouseStore, tmp_path: Path, fault: Exception
) -> None:
    """Those of its group and those behind it are stored, once; it is set aside with the reason, and counted."""
    faulty.poison, faulty.fault = b"poison", fault
    bodies = [_body(n, "poison" if n == 4 else "x") for n in range(1, 9)]
    for body in bodies:
        ingest.accept("spans", body).result(TIMEOUT_S)
    ingest.settle(TIMEOUT_S)
    ingest.accept("spans", _body(9)).result(TIMEOUT_S)
    wait_until(lambda: ingest.metrics.value("rows_unreadable_total") == 1)
    ingest.settle(TIMEOUT_S)

    assert {n: 1 for n in range(1, 10) if n != 4} == _counts(store)
    (aside,) = (tmp_path / "journal" / "aside").iterdir()
    assert json.loads(b"[%b]" % aside.read_bytes().partition(b"\n")[2]) == json.loads(bodies[3])
    assert [] == list((tmp_path / "journal").glob("*.group"))
    assert ingest.store_works


def test_store_that_refuses_everything_costs_nothing(
    ingest: Ingest, faulty: FaultyStore, store: ClickHouseStore
) -> None:
    """A broken table beside a working engine: nothing is set aside, and all is stored when it is mended."""
    faulty.broken = True
    for n in range(1, 31):
        ingest.accept("spans", _body(n)).result(TIMEOUT_S)
        ingest.settle(0.1)
    wait_until(lambda: faulty.refused >= 12)
    assert "not in this answer" in ingest.settle(TIMEOUT_S)
    faulty.broken = False
    wait_until(lambda: not ingest.metrics.gauge_value("spool_bytes"))

    assert dict.fromkeys(range(1, 31), 1) == _counts(store)
    assert 0 == ingest.metrics.value("rows_unreadable_total")


@pytest.mark.parametrize("times", [1, 2, 3, 5])
def test_inserts_that_came_through_unheard_are_not_doubled(
    ingest: Ingest, faulty: FaultyStore, store: ClickHouseStore, times: int
) -> None:
    """However often the store does its work and reports a failure, also when the group would be cut in two."""
    faulty.mute = times
    for n in range(1, 9):
        ingest.accept("spans", _body(n, count=3)).result(TIMEOUT_S)
    wait_until(lambda: not ingest.metrics.gauge_value("spool_bytes"))

    assert dict.fromkeys(range(1, 9), 3) == _counts(store)


@pytest.mark.parametrize("times", [1, 2, 3, 6])
def test_tokens_that_are_noted_without_rows_lose_nothing(
    ingest: Ingest, faulty: FaultyStore, store: ClickHouseStore, times: int
) -> None:
    """However often the engine notes a token and then finds the disk full: nothing is lost."""
    faulty.burn = times
    for n in range(1, 9):
        ingest.accept("spans", _body(n, count=3)).result(TIMEOUT_S)
    wait_until(lambda: not ingest.metrics.gauge_value("spool_bytes"))
    ingest.settle(TIMEOUT_S)

    assert dict.fromkeys(range(1, 9), 3) == _counts(store)


def test_index_is_made_again_after_a_failure(ingest: Ingest, faulty: FaultyStore, store: ClickHouseStore) -> None:
    """The spans came through and their index did not: the trace is found by its id, and its service in the list."""
    body = json.dumps([{"traceId": "1", "id": "1", "timestamp": 1, "localEndpoint": {"serviceName": "a"}}]).encode()
    faulty.unindexed = 1
    ingest.accept("spans", body).result(TIMEOUT_S)
    wait_until(lambda: not ingest.settle(TIMEOUT_S))

    for table in ("spans", "trace_index FINAL", "names FINAL"):
        assert [(1,)] == [tuple(row) for row in store._writer.query(f"SELECT count() FROM {table}").result_rows]


def test_token_that_is_known_without_its_rows_hides_nothing(
    faulty: FaultyStore, store: ClickHouseStore, tmp_path: Path
) -> None:
    """The engine was killed between noting the token and keeping the part: the next start inserts the rows."""
    faulty.down = True
    first = Ingest(faulty, tmp_path / "journal", Metrics())
    first.accept("spans", _body(1, count=3)).result(TIMEOUT_S)
    first.close()
    (group,) = (tmp_path / "journal").glob("*.group")
    token = group.name.split("-")[1].removesuffix(".group")
    store.insert("spans", b"[%b]" % _body(1)[1:-1], f"{token}.spans")
    store._writer.command("ALTER TABLE spans DELETE WHERE 1 SETTINGS mutations_sync = 1")
    faulty.down = False
    again = Ingest(faulty, tmp_path / "journal", Metrics())
    again.settle(TIMEOUT_S)
    again.close()

    assert {1: 3} == _counts(store)


def test_mixed_group_stores_one_kind_when_the_other_is_refused(
    ingest: Ingest, faulty: FaultyStore, store: ClickHouseStore
) -> None:
    """Spans are stored once, though log records of the same group and record are at fault."""
    faulty.poison = b"poison"
    logs = b'{"logs":[{"timestamp":1,"service":"a","message":"poison"}]}'
    ingest.keep([check("spans", _body(1, count=2)), check("logs", logs)], "tail", {}).result(TIMEOUT_S)
    ingest.accept("spans", _body(2)).result(TIMEOUT_S)
    wait_until(lambda: not list(ingest._journal._directory.glob("*.group")))

    assert {1: 2, 2: 1} == _counts(store)
    assert 1 == ingest.metrics.value("rows_unreadable_total")


def test_full_directory_is_tried_again_in_place(ingest: Ingest, store: ClickHouseStore, tmp_path: Path) -> None:
    """Digests cannot be saved: nothing is inserted, nothing is lost, and no restart is needed."""
    recent = tmp_path / "journal" / "recent.1"
    recent.mkdir()
    ingest.accept("spans", _body(1)).result(TIMEOUT_S)
    wait_until(lambda: not ingest.store_works)
    assert {} == _counts(store)
    recent.rmdir()
    wait_until(lambda: ingest.store_works)
    ingest.settle(TIMEOUT_S)

    assert {1: 1} == _counts(store)
