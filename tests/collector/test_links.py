"""Dependency links: every rule twice, in the linker and in the engine's statement, with one expectation for both."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

import pytest
from msgspec.structs import replace

from clew.collector.query import Query
from clew.collector.trace import Link, Linker, Span, encode_spans
from zipkin_spans import NOON, insert, make

if TYPE_CHECKING:
    from clew.collector.store.clickhouse import ClickHouseStore


DAY = 86_400_000


class Case(NamedTuple):
    """Spans of one trace, and the links (caller, callee, calls, errors) that they prove."""

    name: str
    spans: list[Span]
    links: set[tuple[str, str, int, int]]


# In the order in which spans usually arrive: the innermost first.
THREE_TIERS = [
    make("c", "b", "CLIENT", "app", "db", error=True),
    make("b", "a", "SERVER", "app", "web", shared=True),
    make("b", "a", "CLIENT", "web", "app"),
    make("a", None, "SERVER", "web"),
]
WEB_APP_DB = {("web", "app", 1, 0), ("app", "db", 1, 1)}

CASES = [
    Case("three_tiers_with_shared_ids", THREE_TIERS, WEB_APP_DB),
    Case(
        "trace_id_says_nothing_about_the_root",
        [
            make("c", "b", "CLIENT", "app", "db", error=True, trace="123"),
            make("b", "a", "SERVER", "app", "web", shared=True, trace="123"),
            make("b", "a", "CLIENT", "web", "app", trace="123"),
            make("a", None, "SERVER", "web", trace="123"),
        ],
        WEB_APP_DB,
    ),
    Case(
        "shared_server_without_its_parent_id",
        [
            make("b", None, "SERVER", "link", "arn", shared=True),
            make("b", "a", "CLIENT", "arn", "link"),
            make("a", None, "SERVER", "arn"),
        ],
        {("arn", "link", 1, 0)},
    ),
    Case(
        "parent_id_known_only_to_the_server",
        [THREE_TIERS[0], THREE_TIERS[1], make("b", None, "CLIENT", "web", "app"), THREE_TIERS[3]],
        WEB_APP_DB,
    ),
    Case(
        "client_of_a_shared_id_lost",
        [THREE_TIERS[0], make("b", None, "SERVER", "app", "web", shared=True), THREE_TIERS[3]],
        WEB_APP_DB,
    ),
    Case(
        "consumer_links_with_its_broker",
        [make("a", None, "PRODUCER", "producer"), make("b", "a", "CONSUMER", "consumer", "kafka")],
        {("kafka", "consumer", 1, 0)},
    ),
    Case(
        "producer_links_with_its_broker",
        [make("a", None, "PRODUCER", "producer", "kafka"), make("b", "a", "CONSUMER", "consumer")],
        {("producer", "kafka", 1, 0)},
    ),
    Case(
        "broker_known_to_both_sides",
        [make("a", None, "PRODUCER", "producer", "kafka"), make("b", "a", "CONSUMER", "consumer", "kafka")],
        {("producer", "kafka", 1, 0), ("kafka", "consumer", 1, 0)},
    ),
    Case(
        "two_brokers",
        [make("a", None, "PRODUCER", "producer", "kafka1"), make("b", "a", "CONSUMER", "consumer", "kafka2")],
        {("producer", "kafka1", 1, 0), ("kafka2", "consumer", 1, 0)},
    ),
    Case(
        "no_broker_no_link",
        [make("a", None, "PRODUCER", "producer"), make("b", "a", "CONSUMER", "consumer")],
        set(),
    ),
    Case(
        "server_beneath_producer_is_a_call",
        [make("a", None, "PRODUCER", "producer"), make("b", "a", "SERVER", "server")],
        {("producer", "server", 1, 0)},
    ),
    Case(
        "server_sharing_the_id_of_a_producer_is_a_call",
        [make("a", None, "PRODUCER", "producer"), make("a", None, "SERVER", "server", shared=True)],
        {("producer", "server", 1, 0)},
    ),
    Case(
        "client_does_not_link_with_consumer",
        [make("a", None, "CLIENT", "client"), make("b", "a", "CONSUMER", "consumer")],
        set(),
    ),
    Case("server_knows_its_client", [make("a", None, "SERVER", "server", "client")], {("client", "server", 1, 0)}),
    Case("client_knows_its_server", [make("a", None, "CLIENT", "client", "server")], {("client", "server", 1, 0)}),
    Case(
        "calls_of_one_link_add_up",
        [
            make("a", None, "SERVER", "client"),
            make("b", "a", "CLIENT", None, "server"),
            make("c", "a", "CLIENT", None, "server"),
        ],
        {("client", "server", 2, 0)},
    ),
    Case(
        "both_sides_under_two_ids_are_one_call",
        [make("a", None, "CLIENT", "client"), make("b", "a", "SERVER", "server")],
        {("client", "server", 1, 0)},
    ),
    Case(
        "error_of_both_sides_is_one_error",
        [make("a", None, "CLIENT", "client", error=True), make("b", "a", "SERVER", "server", error=True)],
        {("client", "server", 1, 1)},
    ),
    Case(
        "error_of_both_sides_of_a_shared_id_is_one_error",
        [
            make("a", None, "CLIENT", "client", error=True),
            make("a", None, "SERVER", "server", error=True, shared=True),
        ],
        {("client", "server", 1, 1)},
    ),
    Case(
        "error_of_the_client_counts",
        [make("a", None, "CLIENT", "web", error=True), make("b", "a", "SERVER", "app")],
        {("web", "app", 1, 1)},
    ),
    Case(
        "error_of_the_client_is_not_its_consumers",
        [
            make("a", None, "CLIENT", "cache", "db", error=True),
            make("b", "a", "CONSUMER", "db", "cache"),
            make("c", "a", "CLIENT", None, "db"),
        ],
        {("cache", "db", 2, 1)},
    ),
    Case(
        "servers_name_wins_over_what_the_client_calls_it",
        [make("a", None, "CLIENT", "client", "other"), make("b", "a", "SERVER", "server")],
        {("client", "server", 1, 0)},
    ),
    Case(
        "one_client_two_servers",
        [
            make("a", None, "CLIENT", "client"),
            make("b", "a", "SERVER", "server", "client", error=True),
            make("c", "a", "SERVER", "server", "client"),
        ],
        {("client", "server", 2, 1)},
    ),
    Case(
        "local_spans_between_are_passed_over",
        [
            make("a", None, "SERVER", "client"),
            make("b", "a"),
            make("c", "b", "CLIENT", "server"),
            make("d", "b", "CLIENT", "server"),
        ],
        {("client", "server", 2, 0)},
    ),
    Case(
        "error_on_a_link_that_was_guessed_is_unknown",
        [
            make("a", None, "SERVER", "client"),
            make("b", "a"),
            make("c", "b", "CLIENT", "server", error=True),
            make("d", "b", "CLIENT", "server", error=True),
        ],
        {("client", "server", 2, 0)},
    ),
    Case(
        "guessed_link_beside_a_known_one",
        [
            make("a", None, "SERVER", "foo"),
            make("b", "a"),
            make("c", "b", "CLIENT", "bar", "baz", error=True),
            make("d", "b", "CLIENT", "bar", "baz"),
        ],
        {("foo", "bar", 2, 0), ("bar", "baz", 2, 1)},
    ),
    Case(
        "annotation_called_error_is_no_error",
        [make("c", "b", "CLIENT", "foo", "bar", notes=((1, "error"),))],
        {("foo", "bar", 1, 0)},
    ),
    Case("error_without_parent", [make("c", "b", "CLIENT", "foo", "bar", error=True)], {("foo", "bar", 1, 1)}),
    Case("loop_of_a_server", [make("a", None, "SERVER", "service", "service")], {("service", "service", 1, 0)}),
    Case("loop_of_a_client", [make("a", None, "CLIENT", "service", "service")], {("service", "service", 1, 0)}),
    Case(
        "without_kind_both_names_make_a_client",
        [
            make("a", None, None, "some-client", "web"),
            make("b", "a", None, "web", "app", error=True),
            make("c", "b", None, "app", "db"),
        ],
        {("some-client", "web", 1, 0), ("web", "app", 1, 1), ("app", "db", 1, 0)},
    ),
    *(
        Case(f"one_name_is_no_link_{kind}_{local}_{remote}", [make("a", None, kind, local, remote)], set())
        for kind, local, remote in [
            ("SERVER", None, None),
            ("SERVER", "server", None),
            ("SERVER", None, "client"),
            ("CLIENT", None, None),
            ("CLIENT", "client", None),
            ("CLIENT", None, "server"),
        ]
    ),
    Case(
        "siblings_without_their_parent_are_strangers",
        [make("b", "a", "SERVER", "service1"), make("c", "a", "SERVER", "service2")],
        set(),
    ),
    Case(
        "child_links_though_the_root_is_missing",
        [make("b", "a", "SERVER", "service1"), make("c", "b", "SERVER", "service2")],
        {("service1", "service2", 1, 0)},
    ),
    Case(
        "span_between_missing",
        [make("a", None, "SERVER", "web"), make("b", "a", "CLIENT", "app")],
        {("web", "app", 1, 0)},
    ),
    Case(
        "chain_of_forty_local_spans",
        [
            make("1", None, "SERVER", "web"),
            *(make(f"{number:x}", f"{number - 1:x}") for number in range(2, 42)),
            make("ff", "29", "CLIENT", None, "db"),
        ],
        {("web", "db", 1, 0)},
    ),
    Case(
        "circle_beside_a_whole_tree_is_not_counted",
        [
            make("1", None, "SERVER", "web", "browser"),
            make("2", "3", "CLIENT", "x", "y"),
            make("3", "2", "CLIENT", "y", "x"),
        ],
        {("browser", "web", 1, 0)},
    ),
    Case(
        "two_roots",
        [
            make("1", None, "SERVER", "web", "browser"),
            make("2", None, "SERVER", "app"),
            make("3", "2", "CLIENT", "app", "db"),
        ],
        {("browser", "web", 1, 0), ("web", "app", 1, 0), ("app", "db", 1, 0)},
    ),
]


def _as_set(links: list[Link]) -> set[tuple[str, str, int, int]]:
    assert len({(link.parent, link.child) for link in links}) == len(links)
    return {(link.parent, link.child, link.call_count, link.error_count) for link in links}


def _store(store: ClickHouseStore, spans: list[Span], *, begin: int = NOON * 1_000) -> None:
    """Store the spans, one microsecond apart from ``begin`` on."""
    rows = json.loads(encode_spans(spans))
    for number, row in enumerate(rows):
        row["timestamp"] = begin + number
    insert(store, *rows)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_linker_counts_calls(case: Case) -> None:
    """The linker finds exactly the links that the spans prove, in whatever order they come."""
    for spans in (case.spans, case.spans[::-1]):
        linker = Linker()
        linker.put_trace(spans)
        assert case.links == _as_set(linker.links())


@pytest.mark.parametrize("direction", [1, -1], ids=["forward", "backward"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_statement_counts_as_the_linker_does(engine: ClickHouseStore, case: Case, direction: int) -> None:
    """The engine's links of the same spans are the same, whether parents or children begin first."""
    number = 10 + CASES.index(case) * 4 + direction
    begin = (NOON - number * DAY) * 1_000  # a day and a trace of its own: nothing need be emptied
    spans = [replace(span, trace_id=f"{number:016x}") for span in case.spans[::direction]]
    _store(engine, spans, begin=begin)

    links = Query(engine).links(begin, begin + 1_000)[0]

    assert case.links == _as_set(links)


def test_linker_without_traces_has_no_links() -> None:
    """Nothing in, nothing out; an empty trace changes nothing."""
    linker = Linker()
    linker.put_trace([])
    assert [] == linker.links()


def test_traces_add_up() -> None:
    """Links of several traces, alike or known already, are summed."""
    linker = Linker()
    linker.put_trace([make("a", None, "CLIENT", "client", "server", error=True)], times=3)
    linker.put_link("client", "server", 2, 1)
    assert [Link("client", "server", 5, 4)] == linker.links()


def test_halves_of_a_cut_trace_id_link(store: ClickHouseStore) -> None:
    """A server that cut the trace id to 64 bits still belongs to its client."""
    long, short = "7180c278b62e8f6a216a2aea45d08fc9", "216a2aea45d08fc9"
    _store(
        store,
        [
            make("1", None, "SERVER", "frontend", trace=long),
            make("2", "1", "CLIENT", "frontend", trace=long),
            make("2", "1", "SERVER", "backend", shared=True, trace=short),
        ],
    )
    assert [Link("frontend", "backend", 1)] == Query(store).links(NOON * 1_000, NOON * 1_000 + 10)[0]


def test_reports_sent_twice_count_once(store: ClickHouseStore) -> None:
    """A batch that was stored twice makes no second call."""
    for _ in range(2):
        _store(store, THREE_TIERS)
    assert WEB_APP_DB == _as_set(Query(store).links(NOON * 1_000, NOON * 1_000 + 10)[0])


def test_window_takes_whole_traces(store: ClickHouseStore) -> None:
    """A trace with one span in the window counts whole; one without does not count."""
    _store(store, [make("a", None, "CLIENT", "web", "app"), make("b", "a", "SERVER", "app")])
    query = Query(store)
    inside = query.links(NOON * 1_000 + 1, NOON * 1_000 + 1)[0]
    before = query.links(NOON * 1_000 - 1_000, NOON * 1_000 - 1)[0]
    assert ([Link("web", "app", 1)], []) == (inside, before)


def test_long_trace_is_linked(store: ClickHouseStore) -> None:
    """A trace with more spans than the engine links by itself is linked all the same."""
    calls = [make(f"{number:x}", "1", "CLIENT", "web", "db") for number in range(2, 302)]
    _store(store, [make("1", None, "SERVER", "web"), *calls])
    assert [Link("web", "db", 300)] == Query(store).links(NOON * 1_000, NOON * 1_000 + 1_000)[0]


def test_many_traces_are_linked_in_passes(store: ClickHouseStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Links do not depend on how many passes the volume needs."""
    monkeypatch.setattr("clew.collector.query.dependencies.SPANS_A_PASS", 10)
    for number in range(1, 31):
        _store(
            store,
            [
                make("a", None, "CLIENT", "web", "app", trace=f"{number:x}"),
                make("b", "a", "SERVER", "app", trace=f"{number:x}"),
            ],
        )
    assert [Link("web", "app", 30)] == Query(store).links(NOON * 1_000, NOON * 1_000 + 10)[0]
