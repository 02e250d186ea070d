"""Searching through the real HTTP API: what is found, in which order, page by page, streamed, and what is refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings

from clew.collector.search import matches, parse
from searches import AROUND, TRACES, fill, query
from served import served
from zipkin_spans import NOON, insert, insert_logs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from clew.collector.store.clickhouse import ClickHouseStore


@pytest.fixture(scope="module")
def filled(engine: ClickHouseStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A collector with the random traces."""
    fill(engine)
    with served(engine, tmp_path_factory.mktemp("served")) as client:
        yield client


@pytest.fixture
def client(store: ClickHouseStore, tmp_path: Path) -> Iterator[httpx.Client]:
    """A collector without spans, whose retention reaches back to NOON."""
    with served(store, tmp_path) as client:
        yield client


def span(trace: int, id: int, begin_ms: int = 0, service: str = "web", **fields: Any) -> dict[str, Any]:
    """Return span JSON; it begins so many milliseconds after NOON."""
    return {
        "traceId": f"{trace:032x}",
        "id": f"{id:016x}",
        "timestamp": (NOON + begin_ms) * 1_000,
        "localEndpoint": {"serviceName": service},
        **fields,
    }


def found(client: httpx.Client, q: str, **parameters: Any) -> list[int]:
    """Return the numbers of the traces found, in their order."""
    answer = client.get("/api/v1/traces", params={"q": q, **parameters})
    assert 200 == answer.status_code, answer.text
    return [int(trace["traceId"], 16) for trace in answer.json()["traces"]]


class TestTheLanguage:
    """`q` of `GET /api/v1/traces`; with the fixture that stays for the module, so it comes first."""

    @settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
    @given(text=query)
    def test_any_search_finds_what_a_plain_evaluation_finds(self, filled: httpx.Client, text: str) -> None:
        """Hundreds of generated searches, with who lies beneath whom, with log lines."""
        wanted = parse(text)
        expected = {spans[0].trace_id for spans, lines in TRACES if matches(wanted, spans, lines)}
        answer = filled.get("/api/v1/traces", params={"q": text, "limit": 1_000, **AROUND}).json()
        assert expected == {line["traceId"] for line in answer["traces"]}, text
        assert (None, None) == (answer["cursor"], answer["incomplete"])

    @pytest.mark.parametrize("sort", ["newest", "slowest", "spans", "errors"])
    @pytest.mark.parametrize("q", ["", "error or service = orders", "orders -> {duration > 1us}"])
    def test_pages_are_the_whole_in_order(self, filled: httpx.Client, q: str, sort: str) -> None:
        """However many traces are equal in what they are sorted by; each comes once."""
        whole = filled.get("/api/v1/traces", params={"q": q, "sort": sort, "limit": 1_000, **AROUND}).json()["traces"]
        key = {"newest": "timestamp", "slowest": "durationUs", "spans": "spans", "errors": "errors"}[sort]
        keys = [(line[key], line["traceId"].zfill(32)) for line in whole]
        assert sorted(keys, reverse=True) == keys
        assert len(keys) > 10
        paged, cursor = [], ""
        while cursor is not None:
            answer = filled.get(
                "/api/v1/traces", params={"q": q, "sort": sort, "limit": 17, "cursor": cursor, **AROUND}
            ).json()
            paged += answer["traces"]
            cursor = answer["cursor"]
        assert whole == paged


class TestSearching:
    """What is beside the language."""

    @pytest.mark.parametrize(
        ("q", "expected"),
        [
            ("duration > 200", {"begin": 11, "end": 14, "suggestion": "200ms"}),
            ("a => 5", {"begin": 2, "end": 4, "suggestion": ">="}),
            ("ä in (5", {"begin": 7, "end": 7, "suggestion": ") or ,"}),
        ],
    )
    def test_mistake_is_pointed_at(self, client: httpx.Client, q: str, expected: dict[str, Any]) -> None:
        """With what to write instead."""
        answer = client.get("/api/v1/traces", params={"q": q})
        body = answer.json()
        assert body.pop("error")
        assert (400, expected) == (answer.status_code, body)

    @pytest.mark.parametrize(
        ("parameters", "text"),
        [
            ({"sort": "best"}, "sort is one of newest, slowest, spans, errors, not 'best'"),
            ({"cursor": "x"}, "cursor is what an earlier answer gave; leave it out to begin anew"),
            ({"cursor": "best.1..1.1"}, "cursor is what an earlier answer gave; leave it out to begin anew"),
            ({"since": "-1"}, "since is a number of microseconds, 0 or more"),
        ],
    )
    def test_other_mistakes_are_said(self, client: httpx.Client, parameters: dict[str, str], text: str) -> None:
        """As in all of this API."""
        answer = client.get("/api/v1/traces", params=parameters)
        assert (400, {"error": text}) == (answer.status_code, answer.json())

    def test_older_parameters_narrow_a_search(self, client: httpx.Client, store: ClickHouseStore) -> None:
        """`service`, `name` and `errors` speak of one span, `q` of the trace."""
        insert(
            store,
            span(1, 1, name="a", tags={"x": "1"}),
            span(1, 2, 1, "app", parentId=f"{1:016x}", tags={"error": ""}),
            span(2, 1, 2, "app", tags={"error": "", "x": "1"}),
        )
        assert [[2, 1], [2], [1], []] == [
            found(client, "any{x = 1}", service="app", errors="true"),
            found(client, "x = 1 and error"),
            found(client, "x = 1", service="web"),
            found(client, "x = 1", service="web", errors="1"),
        ]

    def test_window_bounds_where_traces_begin(self, client: httpx.Client, store: ClickHouseStore) -> None:
        """Not where the span lies that is searched for, hours later, nor where its line was logged."""
        hour = 3_600_000
        insert(
            store,
            span(1, 1),
            span(1, 2, 5 * hour, "late", parentId=f"{1:016x}", tags={"x": "1"}),
            span(2, 1, 5 * hour, tags={"x": "1"}),
        )
        insert_logs(
            store,
            {"timestamp": (NOON + 5 * hour) * 1_000, "service": "late", "message": "Out of stock",
             "traceId": f"{1:032x}", "id": f"{2:016x}"},
        )  # fmt: skip
        noon = NOON * 1_000
        assert [[2, 1], [1], [2], [1], [1]] == [
            found(client, "x = 1"),
            found(client, "x = 1", until=noon),
            found(client, "x = 1", since=noon + 1),
            found(client, '"out of stock"', since=noon, until=noon),
            found(client, '"out of stock" and service = late'),
        ]

    def test_lines_arrive_one_by_one(self, client: httpx.Client, store: ClickHouseStore) -> None:
        """As NDJSON: a trace a line, at the end what stands beside them otherwise."""
        insert(store, *(span(number, 1, -number * 3_600_000) for number in range(1, 5)))
        with client.stream("GET", "/api/v1/traces?limit=3", headers={"Accept": "application/x-ndjson"}) as answer:
            assert "application/x-ndjson" == answer.headers["content-type"]
            *lines, end = map(json.loads, answer.read().decode().splitlines())
        assert [1, 2, 3] == [int(line["traceId"], 16) for line in lines]
        assert ["before", "cursor", "incomplete", "cost"] == list(end)
        assert 4 <= end["cost"]["scannedRows"] <= 1_000
        assert [4] == found(client, "", cursor=end["cursor"])

    def test_whole_answers_say_what_they_took(self, client: httpx.Client, store: ClickHouseStore) -> None:
        """In headers."""
        insert(store, span(1, 1))
        answer = client.get("/api/v1/traceIds?prefix=000000")
        assert ("1", "30") == (answer.headers["clew-scanned-rows"], answer.headers["clew-time-limit"])

    def test_search_out_of_time_tells_how_far_it_came(
        self, client: httpx.Client, store: ClickHouseStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """And goes on from there by its cursor."""
        insert(store, *(span(number, 1, -number * 3_600_000) for number in range(1, 5)))
        original, slow = type(store).select, [True]

        def select(self: Any, statement: str, parameters: Any = None, patience: Any = None, parts: Any = None) -> Any:
            if slow[0] and statement == "search_traces" and parameters["since"] < (NOON - 2 * 3_600_000) * 1_000:
                patience.renew(0)
            return original(self, statement, parameters, patience, parts)

        monkeypatch.setattr(type(store), "select", select)
        answer = client.get("/api/v1/traces", params={"until": NOON * 1_000}).json()
        slow[0] = False
        assert "ended" in answer["incomplete"]
        assert [1, 2, 3, 4] == [int(line["traceId"], 16) for line in answer["traces"]] + found(
            client, "", cursor=answer["cursor"]
        )


def test_the_document_describes_all_paths(client: httpx.Client) -> None:
    """Each operation, its parameters and its answer, in OpenAPI 3.1."""
    described = client.get("/api/v1/openapi.json").json()
    assert "3.1.0" == described["openapi"]
    for item in described["paths"].values():
        assert item["get"]["summary"]
        assert all(parameter["description"] for parameter in item["get"]["parameters"])
