"""Group commit, repetition, failure of the store, bad payloads beside good ones, the live feed."""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from clew.collector import ingest as ingest_module
from clew.collector.ingest import Ingest, Unavailable
from clew.collector.ingest import feed as feed_module
from clew.collector.ingest.feed import BACKLOG
from clew.collector.ingest.journal import Journal
from clew.collector.ingest.payload import BadPayload, check
from clew.collector.ingest.record import Record
from clew.collector.metrics import Metrics
from collector.collector_process import wait_until
from collector.faulty_store import FaultyStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from clew.collector.store.clickhouse import ClickHouseStore

TIMEOUT_S = 30


def _spans(trace_id: int, count: int = 1, **fields: Any) -> bytes:
    spans = [
        {"traceId": f"{trace_id:032x}", "id": f"{i + 1:016x}", "timestamp": 1_000_000, **fields} for i in range(count)
    ]
    return json.dumps(spans).encode()


def _rows(store: ClickHouseStore, trace_id: int) -> int:
    """How many rows the table has of a trace."""
    found = store._writer.query(
        "SELECT count() AS n FROM spans WHERE trace_id = unhex({id:String})", parameters={"id": f"{trace_id:032x}"}
    )
    return int(found.result_rows[0][0])


@pytest.fixture
def faulty(store: ClickHouseStore) -> FaultyStore:
    return FaultyStore(store)


@pytest.fixture
def open_ingest(faulty: FaultyStore, tmp_path: Path) -> Iterator[Callable[..., Ingest]]:
    """Open (again) an ingest on the same directory; the last one is closed at the end."""
    opened: list[Ingest] = []

    def open_one(**options: Any) -> Ingest:
        if opened:
            opened[-1].close()
        opened.append(Ingest(faulty, tmp_path / "journal", Metrics(), **options))
        return opened[-1]

    yield open_one
    if opened:
        opened[-1].close()


def test_what_was_kept_can_be_queried_after_settling(
    open_ingest: Callable[..., Ingest], store: ClickHouseStore
) -> None:
    """Without waiting until a group is full or old, also what nobody waits for."""
    ingest = open_ingest()
    ingest.offer("spans", _spans(1, 3), "udp")
    ingest.settle(TIMEOUT_S)

    assert 3 == _rows(store, 1)


def test_payloads_that_come_together_are_one_insert(open_ingest: Callable[..., Ingest], faulty: FaultyStore) -> None:
    """What arrives while an insert runs goes into the next one."""
    ingest = open_ingest()
    for answer in [ingest.accept("spans", _spans(n)) for n in range(1, 101)]:
        answer.result(TIMEOUT_S)
    ingest.settle(TIMEOUT_S)

    assert faulty.inserts <= 3
    assert 100 == ingest.metrics.value("spans_stored_total", source="http")


def test_nothing_waits_once_all_is_stored(open_ingest: Callable[..., Ingest]) -> None:
    """The bytes that wait, by which clients are slowed down, come back to zero with each group."""
    ingest = open_ingest()
    waited = []
    for number in range(3):
        ingest.accept("spans", _spans(number + 1)).result(TIMEOUT_S)
        waited.append(ingest.metrics.gauge_value("waiting_bytes") > 0)
        ingest.settle(TIMEOUT_S)
    assert ([True] * 3, 0) == (waited, ingest.metrics.gauge_value("waiting_bytes"))


def test_repeated_payload_is_stored_once(open_ingest: Callable[..., Ingest], store: ClickHouseStore) -> None:
    """While the first copy is under way, after it is stored, and after a restart."""
    ingest = open_ingest()
    first, second = ingest.accept("spans", _spans(1)), ingest.accept("spans", _spans(1))
    first.result(TIMEOUT_S)
    second.result(TIMEOUT_S)
    ingest.settle(TIMEOUT_S)
    ingest.accept("spans", _spans(1)).result(TIMEOUT_S)
    again = open_ingest()
    again.accept("spans", _spans(1)).result(TIMEOUT_S)
    again.settle(TIMEOUT_S)

    assert 1 == _rows(store, 1)
    assert 1 == again.metrics.value("payloads_repeated_total")
    assert 2 == ingest.metrics.value("payloads_repeated_total")


def test_insert_that_came_through_without_an_answer_is_not_doubled(
    open_ingest: Callable[..., Ingest], faulty: FaultyStore, store: ClickHouseStore
) -> None:
    """The store fails after it has stored: the same group is inserted again with its token, and changes nothing."""
    ingest = open_ingest()
    faulty.mute = 1
    ingest.accept("spans", _spans(1, 5)).result(TIMEOUT_S)
    ingest.settle(TIMEOUT_S)
    wait_until(lambda: not ingest.metrics.gauge_value("spool_bytes"))

    assert 2 == faulty.inserts
    assert 5 == _rows(store, 1)


def test_store_down_spools_and_delivers_when_it_is_back(
    open_ingest: Callable[..., Ingest], faulty: FaultyStore, store: ClickHouseStore
) -> None:
    """Payloads are taken meanwhile, and none is lost or doubled."""
    ingest = open_ingest()
    faulty.down = True
    for n in (1, 2, 3):
        ingest.accept("spans", _spans(n)).result(TIMEOUT_S)
    ingest.settle(TIMEOUT_S)
    assert not ingest.store_works
    faulty.down = False
    wait_until(lambda: ingest.store_works)

    assert [1, 1, 1] == [_rows(store, n) for n in (1, 2, 3)]


def test_spool_survives_a_restart(
    open_ingest: Callable[..., Ingest], faulty: FaultyStore, store: ClickHouseStore
) -> None:
    """What was spooled when the collector ended is stored by the next one, and known as a repeat."""
    ingest = open_ingest()
    faulty.down = True
    ingest.accept("spans", _spans(1)).result(TIMEOUT_S)
    ingest.close()
    faulty.down = False
    again = open_ingest()
    again.accept("spans", _spans(1)).result(TIMEOUT_S)
    again.settle(TIMEOUT_S)

    assert 1 == _rows(store, 1)


def test_full_spool_refuses_and_takes_again_afterwards(
    open_ingest: Callable[..., Ingest], faulty: FaultyStore, store: ClickHouseStore
) -> None:
    """Beyond max_spool bytes payloads are refused, with the reason; when the store is back they are taken."""
    ingest = open_ingest(max_spool=1)
    faulty.down = True
    ingest.accept("spans", _spans(1)).result(TIMEOUT_S)
    ingest.settle(TIMEOUT_S)
    with pytest.raises(Unavailable) as refused:
        ingest.accept("spans", _spans(2))
    assert "spool_full" == refused.value.reason
    faulty.down = False
    wait_until(lambda: ingest.store_works)
    ingest.accept("spans", _spans(2)).result(TIMEOUT_S)
    ingest.settle(TIMEOUT_S)

    assert [1, 1] == [_rows(store, 1), _rows(store, 2)]


def test_unwritable_journal_refuses(open_ingest: Callable[..., Ingest], tmp_path: Path) -> None:
    """What cannot be written down is not acknowledged, and the collector lives on."""
    ingest = open_ingest()
    (tmp_path / "journal").rename(tmp_path / "away")
    (tmp_path / "journal").write_bytes(b"")
    with pytest.raises(Unavailable) as refused:
        ingest.accept("spans", _spans(1)).result(TIMEOUT_S)
    (tmp_path / "journal").unlink()
    (tmp_path / "away").rename(tmp_path / "journal")

    assert "disk" == refused.value.reason
    ingest.accept("spans", _spans(1)).result(TIMEOUT_S)


def test_key_that_stands_twice_is_stored_with_its_neighbours(
    open_ingest: Callable[..., Ingest], store: ClickHouseStore
) -> None:
    """The engine refuses such JSON, Zipkin takes it: the group is stored payload by payload, in plain form."""
    ingest = open_ingest()
    odd = b'[{"traceId":"%032x","traceId":"%032x","id":"b","timestamp":1}]' % (7, 2)
    futures = [ingest.accept("spans", body) for body in (_spans(1), odd, _spans(3))]
    for future in futures:
        future.result(TIMEOUT_S)
    ingest.settle(TIMEOUT_S)

    assert [1, 1, 1, 0] == [_rows(store, n) for n in (1, 2, 3, 7)]


def test_payload_that_cannot_be_stored_at_all_is_set_aside(
    open_ingest: Callable[..., Ingest], faulty: FaultyStore, store: ClickHouseStore, tmp_path: Path
) -> None:
    """It passed the check and was acknowledged, so it is kept as a file; its neighbours are stored, once."""
    ingest = open_ingest()
    faulty.poison = b"poison"
    for n in range(1, 6):
        ingest.accept("spans", _spans(n, name="poison" if n == 4 else "x")).result(TIMEOUT_S)
    ingest.settle(TIMEOUT_S)

    assert [1, 1, 1, 0, 1] == [_rows(store, n) for n in range(1, 6)]
    (aside,) = (tmp_path / "journal" / "aside").glob("*.bad")
    reason, rows = aside.read_bytes().split(b"\n", 1)
    assert b"poison" == reason
    assert json.loads(_spans(4, name="poison")) == json.loads(b"[%b]" % rows)
    assert 1 == ingest.metrics.value("rows_unreadable_total")


def test_payload_whose_writing_was_cut_short_is_left_out(
    open_ingest: Callable[..., Ingest], store: ClickHouseStore, tmp_path: Path
) -> None:
    """A kill in the middle of a write: what was whole is stored by the next start, the piece is new when it comes."""
    journal = Journal(tmp_path / "journal")
    group = journal.open()
    for n in (1, 2):
        journal.append(group, Record(_spans(n)[1:-1], 1, digest=hashlib.sha256(_spans(n)).digest()[:16]))
    path = tmp_path / "journal" / group.name
    path.write_bytes(path.read_bytes()[:-5])
    again = open_ingest()
    again.settle(TIMEOUT_S)
    assert [1, 0] == [_rows(store, 1), _rows(store, 2)]
    again.accept("spans", _spans(2)).result(TIMEOUT_S)
    again.settle(TIMEOUT_S)

    assert [1, 1] == [_rows(store, 1), _rows(store, 2)]


def test_acknowledged_is_kept_and_not_yet_stored(
    open_ingest: Callable[..., Ingest], faulty: FaultyStore, store: ClickHouseStore
) -> None:
    """The answer does not wait for the store; the rows are there after settling, of a payload sent twice once."""
    ingest = open_ingest()
    faulty.down = True
    assert ingest.accept("spans", _spans(1)).done()
    assert ingest.accept("spans", _spans(1)).done()
    faulty.down = False
    wait_until(lambda: _rows(store, 1) == 1)

    assert "" == ingest.settle(TIMEOUT_S)
    assert (1, 1) == (faulty.inserts, _rows(store, 1))


def test_rows_follow_without_a_question(open_ingest: Callable[..., Ingest], store: ClickHouseStore) -> None:
    """Nobody need ask for a group to be inserted."""
    open_ingest().accept("spans", _spans(1)).result(TIMEOUT_S)
    wait_until(lambda: _rows(store, 1) == 1)


def test_questions_that_ask_at_once_share_an_insert(open_ingest: Callable[..., Ingest], faulty: FaultyStore) -> None:
    """However many they are, what waits is inserted once for all of them."""
    ingest = open_ingest()
    for n in range(1, 6):
        ingest.accept("spans", _spans(n)).result(TIMEOUT_S)
    for settled in [ingest.settling() for _ in range(100)]:
        settled.result(TIMEOUT_S)

    assert 1 == faulty.inserts


def test_question_while_the_store_is_down_is_told(open_ingest: Callable[..., Ingest], faulty: FaultyStore) -> None:
    """It does not hang: it is told at once that answers lack what is in the journal."""
    ingest = open_ingest()
    faulty.down = True
    ingest.accept("spans", _spans(1)).result(TIMEOUT_S)

    assert "switched off" in ingest.settle(TIMEOUT_S)
    assert ingest.settling().done()


def test_much_too_much_is_refused(open_ingest: Callable[..., Ingest], monkeypatch: pytest.MonkeyPatch) -> None:
    """Receivers that nobody waits for cannot be slowed down: beyond the bound payloads are refused and counted."""
    monkeypatch.setattr(ingest_module, "REFUSE_BYTES", 0)
    monkeypatch.setattr(ingest_module, "GATHER_S", 60.0)
    ingest = open_ingest()
    ingest.offer("spans", _spans(1), "udp")
    with pytest.raises(Unavailable) as refused:
        ingest.offer("spans", _spans(2), "udp")

    assert "busy" == refused.value.reason
    assert 1 == ingest.metrics.value("payloads_refused_total", source="udp", reason="busy")


def test_more_than_can_be_inserted_slows_clients_down(
    open_ingest: Callable[..., Ingest], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the bound an answer waits for the next insert."""
    monkeypatch.setattr(ingest_module, "SLOW_BYTES", 0)
    ingest = open_ingest(group_bytes=1)
    answers = [ingest.accept("spans", _spans(n)) for n in range(1, 6)]
    assert any(not answer.done() for answer in answers)
    for answer in answers:
        answer.result(TIMEOUT_S)


def test_both_kinds_and_an_offset_are_kept_in_one_step(
    open_ingest: Callable[..., Ingest], store: ClickHouseStore
) -> None:
    """What a tailed file holds mixed: after a restart both are there once, and the offset with them."""
    logs = b'{"logs":[{"timestamp":1,"service":"a","message":"m"}]}'
    ingest = open_ingest()
    ingest.keep([check("spans", _spans(1)), check("logs", logs)], "tail", {"file": 7}).result(TIMEOUT_S)
    ingest.close()
    again = open_ingest()

    assert 7 == again.offset("file")
    assert 1 == _rows(store, 1)
    assert [[1]] == [list(row) for row in store._writer.query("SELECT count() FROM logs").result_rows]


def test_bad_payload_is_counted_and_harms_no_other(open_ingest: Callable[..., Ingest], store: ClickHouseStore) -> None:
    """It is refused at once, by reason, and the arithmetic of the counters holds."""
    ingest = open_ingest()
    good = ingest.accept("spans", _spans(1))
    with pytest.raises(BadPayload):
        ingest.accept("spans", _spans(2, kind="X"))
    good.result(TIMEOUT_S)
    ingest.settle(TIMEOUT_S)

    assert [1, 0] == [_rows(store, 1), _rows(store, 2)]
    assert 1 == ingest.metrics.value("payloads_rejected_total", source="http", reason="span_kind")
    assert 2 == ingest.metrics.value("payloads_total") == ingest.metrics.value("payloads_stored_total") + 1


def test_close_stores_what_waits_and_refuses_more(open_ingest: Callable[..., Ingest], store: ClickHouseStore) -> None:
    """Nothing that was taken is lost by closing; what comes later is told to come again."""
    ingest = open_ingest()
    futures = [ingest.offer("spans", _spans(n), "udp") for n in range(1, 21)]
    ingest.close()
    with pytest.raises(Unavailable):
        ingest.accept("spans", _spans(99))

    assert all(future.done() for future in futures)
    assert [1] * 20 == [_rows(store, n) for n in range(1, 21)]


async def test_feed_delivers_and_tells_what_it_lost(open_ingest: Callable[..., Ingest]) -> None:
    """A follower gets payloads as arrays; one that is too slow is told how many it missed."""
    ingest = open_ingest()
    with ingest.subscribe() as fast:
        await asyncio.wrap_future(ingest.accept("logs", b'{"logs":[{"timestamp":1,"service":"a","message":"m"}]}'))
        published = await asyncio.wait_for(anext(fast), TIMEOUT_S)
    assert ("logs", b'[{"timestamp":1,"service":"a","message":"m"}]', 0) == published

    with ingest.subscribe() as slow:
        futures = [ingest.accept("spans", _spans(n)) for n in range(1, BACKLOG + 11)]
        await asyncio.wait_for(asyncio.gather(*map(asyncio.wrap_future, futures)), TIMEOUT_S)
        first = await asyncio.wait_for(anext(slow), TIMEOUT_S)
    assert 10 == first.lost
    assert json.loads(_spans(11)) == json.loads(first.payload)


async def test_feed_holds_a_bounded_number_of_bytes(
    open_ingest: Callable[..., Ingest], monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a follower who does not read: few large payloads push out as much as many small ones."""
    monkeypatch.setattr(feed_module, "BACKLOG_BYTES", 1_000)
    ingest = open_ingest()
    with ingest.subscribe() as slow:
        for size in (400, 400, 400, 2_000, 10):
            tags = {"a": "a" * size}
            ingest.offer("spans", json.dumps([{"traceId": "a", "id": "b", "tags": tags}]).encode(), "udp")
        found = await asyncio.wait_for(anext(slow), TIMEOUT_S)
    assert 4 == found.lost
    assert 10 == len(json.loads(found.payload)[0]["tags"]["a"])
