"""What is found does not depend on how the store slices time: the answers of Zipkin's server to the same spans."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import pytest

from clew.collector.query import Query, Question
from clew.collector.query.traces import Search, ids
from clew.collector.search import parse
from zipkin_spans import NOON, insert

if TYPE_CHECKING:
    from clew.collector.store.clickhouse import ClickHouseStore

HOUR = 3_600_000_000
NOW = NOON * 1_000
T = "7180c278b62e8f6a216a2aea45d08fc1"


def span(id: str, at: int | None, **fields: Any) -> dict[str, Any]:
    """Return span JSON of trace T; ``at`` in microseconds after noon, None for a span without a time."""
    timed = {} if at is None else {"timestamp": NOW + at}
    return {"traceId": T, "id": id, "localEndpoint": {"serviceName": "web"}, **timed, **fields}


def found(store: ClickHouseStore, since: int, until: int, **conditions: Any) -> list[str]:
    """Return the ids that a search between two moments (microseconds after noon) finds."""
    question = Question(NOW + since, NOW + until, 10_000, **conditions)
    return [key for key, _ in Query(store).find(question)]


def listed(store: ClickHouseStore, since: int, until: int) -> list[str]:
    """Return the ids that clew's own search lists."""
    return list(ids(Query(store).reader, Search(parse(""), NOW + since, NOW + until, 1_000)))


class TestSearch:
    """Zipkin's search and clew's own."""

    @pytest.mark.parametrize("later", [2 * HOUR, 30 * HOUR, -HOUR, -5 * HOUR])
    def test_conditions_count_however_far_from_the_begin(self, store: ClickHouseStore, later: int) -> None:
        """Two tags of one trace, hours apart, before or after."""
        insert(store, span("1", 0, tags={"a": "1"}), span("2", later, parentId="1", tags={"b": "2"}))
        for terms in [(("a", "1"), ("b", "2")), (("b", "2"),), (("b", ""), ("a", "1"))]:
            assert [T] == found(store, -HOUR // 60, HOUR // 60, terms=terms)

    def test_span_without_a_time_counts(self, store: ClickHouseStore) -> None:
        """It belongs to its trace all the same."""
        insert(store, span("1", 0), span("2", None, parentId="1", tags={"b": "2"}))
        assert [T] == found(store, -HOUR, HOUR, terms=(("b", "2"),))

    def test_trace_belongs_to_where_its_root_begins(self, store: ClickHouseStore) -> None:
        """A root five hours old is not of the last four, whatever came later."""
        insert(store, span("1", -5 * HOUR), span("2", -HOUR, parentId="1"))
        assert ([], [T]) == (found(store, -4 * HOUR, 0), found(store, -6 * HOUR, 0))
        assert ([], [T]) == (listed(store, -4 * HOUR, 0), listed(store, -6 * HOUR, 0))

    def test_many_long_traces_are_found_as_few_are(self, store: ClickHouseStore) -> None:
        """More of them than are named one by one: each begins two hours before its last span."""
        begun = [
            {
                "traceId": f"{n:032x}",
                "id": "1",
                "timestamp": NOW - 2 * HOUR + n,
                "localEndpoint": {"serviceName": "web"},
            }
            for n in range(1, 701)
        ]
        insert(store, *begun, *({**one, "id": "2", "parentId": "1", "timestamp": NOW - 1} for one in begun))
        expected = [f"{n:016x}" for n in range(700, 0, -1)]
        assert [expected, expected] == [found(store, -3 * HOUR, 0), listed(store, -3 * HOUR, 0)]
        assert [[], []] == [found(store, -HOUR, 0), listed(store, -HOUR, 0)]

    def test_trace_without_any_time_is_in_no_window(self, store: ClickHouseStore) -> None:
        """Not even in one that begins at the epoch."""
        insert(store, span("1", None))
        assert [] == list(Query(store).find(Question(0, NOW, 10)))

    def test_halves_of_an_id_are_one_trace_when_loose(self, store: ClickHouseStore) -> None:
        """A service that cut the id and comes hours later."""
        insert(store, span("1", 0), span("2", 9 * HOUR, traceId=T[16:], tags={"b": "2"}))
        query = Query(store, strict_trace_id=False)
        question = Question(NOW - HOUR, NOW + HOUR, 10, terms=(("b", "2"),))
        assert [(T[16:], 2)] == [(key, len(spans)) for key, spans in query.find(question)]

    def test_all_come_when_more_begin_than_a_statement_gives(
        self, store: ClickHouseStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Also of those that begin in one microsecond; each once."""
        monkeypatch.setattr("clew.collector.query.search.PAGE_TRACES", 7)
        ids = [f"{number:016x}" for number in range(1, 101)]
        insert(store, *(span("1", int(id, 16) // 20, traceId=id) for id in ids))
        assert ids == sorted(found(store, 0, HOUR))
        assert 55 == len(list(Query(store).find(Question(NOW, NOW + HOUR, 55))))


class TestLinks:
    """`links`."""

    @pytest.mark.parametrize("later", [2 * HOUR, -2 * HOUR, None])
    def test_trace_is_linked_whole(self, store: ClickHouseStore, later: int | None) -> None:
        """Its other half lies hours away, or has no time; its id may have been cut."""
        for trace in (T, T[16:]):
            store.truncate()
            insert(
                store,
                span("1", 0, kind="CLIENT"),
                span("2", later, traceId=trace, parentId="1", kind="SERVER", localEndpoint={"serviceName": "app"}),
            )
            links, left_out = Query(store).links(NOW - 10, NOW + 10)
            assert ([("web", "app", 1)], 0) == ([(x.parent, x.child, x.call_count) for x in links], left_out)

    def test_too_long_a_trace_is_said(self, store: ClickHouseStore, monkeypatch: pytest.MonkeyPatch) -> None:
        """Left out, and counted as such."""
        monkeypatch.setattr("clew.collector.query.dependencies.MAX_SPANS_A_TRACE", 200)
        insert(store, *(span(f"{number:x}", number) for number in range(1, 300)))
        assert ([], 1) == Query(store).links(NOW, NOW + 10)


class TestPages:
    """Long traces."""

    def test_long_trace_comes_whole_and_in_order(self, store: ClickHouseStore, monkeypatch: pytest.MonkeyPatch) -> None:
        """Over buckets, with spans at one microsecond, repetitions, and some without a time at the end."""
        monkeypatch.setattr("clew.collector.query.spans.PAGE_SPANS", 10)
        times = [number // 7 * 5_000_000 for number in range(1_000)]
        insert(store, *(span(f"{n:x}", at) for n, at in enumerate(times, 1)), *(span("1", times[0]),) * 3)
        insert(store, *(span(f"f000{n:x}", None) for n in range(25)))
        spans = [span for page in Query(store).trace(T) for span in page]
        assert [NOW + at for at in times] + [0] * 25 == [span.timestamp for span in spans]
        assert 1_025 == len({span.id for span in spans})

    def test_long_and_short_traces_are_read_together(
        self, store: ClickHouseStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """In the order of the ids."""
        monkeypatch.setattr("clew.collector.query.spans.PAGE_SPANS", 10)
        sizes = {"00000000000000a1": 3, "00000000000000a2": 55, "00000000000000a3": 9, "00000000000000a4": 1}
        for id, size in sizes.items():
            insert(store, *(span(f"{n:x}", n, traceId=id) for n in range(1, size + 1)))
        read: dict[str, int] = {}
        for key, spans in Query(store).traces(reversed(sizes)):
            read[key] = read.get(key, 0) + len(spans)
        assert list(reversed(sizes.items())) == list(read.items())

    def test_large_spans_come_a_few_at_a_time(self, store: ClickHouseStore) -> None:
        """What a statement may give is bounded in bytes, too."""
        store.insert(
            "spans", json.dumps([span(f"{n:x}", n, tags={"t": "x" * 1_000_000}) for n in range(1, 81)]).encode(), "big"
        )
        assert 80 == sum(len(page) for page in Query(store).trace(T))


class TestPrefixes:
    """`trace_ids`."""

    def test_ids_are_found_by_their_beginning(self, store: ClickHouseStore) -> None:
        """Over all that is stored, of 64 and 128 bits, also where there are only log lines."""
        others = [f"abcdef{number:010x}" for number in range(3)] + ["abcdef" + "0" * 26, "bbcdef" + "0" * 26]
        insert(store, *(span("1", -n * 20 * HOUR, traceId=id) for n, id in enumerate(others)))
        store.insert(
            "logs", json.dumps([{"timestamp": NOW, "message": "m", "traceId": "abcdef" + "f" * 26}]).encode(), "l"
        )
        query = Query(store)
        assert [*others[:3], others[3], "abcdef" + "f" * 26] == query.trace_ids("abcdef", 10)
        assert [others[1]] == query.trace_ids("abcdef0000000001", 10)
        assert [others[3]] == query.trace_ids("abcdef" + "0" * 25, 10)
        assert 2 == len(query.trace_ids("abcdef", 2))


def test_answers_bear_what_arrives_meanwhile(store: ClickHouseStore) -> None:
    """Every question, again and again, while new services, names and traces are stored."""
    ended = threading.Event()

    def write() -> None:
        number = 0
        while not ended.is_set():
            number += 1
            client, server = f"s{number}", f"s{number + 1}"
            insert(
                store,
                span("1", number, traceId=f"{number:x}", kind="CLIENT", localEndpoint={"serviceName": client}),
                span(
                    "2",
                    number + HOUR * (number % 3),
                    traceId=f"{number:x}",
                    parentId="1",
                    kind="SERVER",
                    localEndpoint={"serviceName": server},
                    name=f"n{number}",
                ),
            )

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(5):
            query = Query(store)
            query.links(NOW - HOUR, NOW + HOUR)
            list(query.find(Question(NOW - HOUR, NOW + HOUR, 1_000)))
            listed(store, -HOUR, HOUR)
            list(query.services()), list(query.span_names("s2")), list(query.remote_services("s1"))
            list(query.trace("0000000000000001")), query.trace_ids("000000", 100)
    finally:
        ended.set()
        writer.join()
