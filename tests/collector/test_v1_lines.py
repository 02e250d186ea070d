"""Log lines by a search, completion and comparison, through the real HTTP API."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clew.collector.search import parse_condition
from clew.collector.search.complete import Expected, expected, written
from clew.collector.search.lines import line_matches
from searches import AROUND, TRACES, condition, fill
from served import served
from zipkin_spans import NOON, insert, insert_logs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from clew.collector.store.clickhouse import ClickHouseStore

LEVELS = ["DEBUG", "INFO", "WARN", "WARNING", "ERROR", "CRITICAL", "AUDIT"]


def random_lines() -> list[dict[str, Any]]:
    """Make lines in and outside of the random traces."""
    dice = random.Random(5)
    lines = []
    for number in range(300):
        spans = dice.choice(TRACES)[0]
        place = {"traceId": spans[0].trace_id, "id": dice.choice(spans).id} if dice.random() < 0.7 else {}
        lines.append(
            {
                "timestamp": NOON * 1_000 + dice.randrange(40),
                "service": dice.choice(["orders", "stock", "pay"]),
                "level": dice.choice(LEVELS),
                "logger": dice.choice(["shop", "shop.db", "uvicorn"]),
                "message": f"{dice.choice(['out of stock', 'Card declined', 'x', 'Ärger 42'])} {number}",
                **({"exception": "Declined: no"} if dice.random() < 0.2 else {}),
                **place,
            }
        )
    return lines


LINES = random_lines()
BY_ID = {spans[0].trace_id: spans for spans, _ in TRACES}


@pytest.fixture(scope="module")
def client(engine: ClickHouseStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A collector with the random traces, and these lines only."""
    fill(engine)
    engine._writer.command("TRUNCATE TABLE logs")
    insert_logs(engine, *LINES)
    with served(engine, tmp_path_factory.mktemp("served")) as client:
        yield client


def judged(text: str) -> list[str]:
    """Return the messages of the lines that a search finds by plain evaluation."""
    wanted = parse_condition(text)
    found = []
    for line in LINES:
        fields = {"trace": line.get("traceId", ""), "span": line.get("id", ""), **line}
        if line_matches(wanted, fields, BY_ID.get(line.get("traceId", ""), [])):
            found.append(line["message"])
    return sorted(found)


about_lines = st.one_of(
    st.tuples(
        st.just("level"), st.sampled_from(["=", "!=", ">", ">=", "<", "<="]), st.sampled_from(LEVELS)
    ).map(" ".join),
    st.sampled_from(
        ["logger = shop", "logger ~ ^shop", "message ~ '[0-9]7$'", "message = x", "exception exists", "trace exists",
         "exception ~ no", "service !~ ST", '"declined"', "ärger", "level ~ ^warn", "not span exists"]
    ),
)  # fmt: skip
search = st.recursive(
    st.one_of(about_lines, condition),
    lambda inner: st.one_of(
        inner.map(lambda text: f"not ({text})"),
        st.tuples(inner, st.sampled_from([" and ", " or "]), inner).map(lambda parts: f"({''.join(parts)})"),
    ),
    max_leaves=4,
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(text=search)
def test_any_search_finds_the_lines_that_a_plain_evaluation_finds(client: httpx.Client, text: str) -> None:
    """Over what lines say, and over what spans of their traces are like."""
    answer = client.get("/api/v1/logs", params={"q": text, "limit": 1_000, **AROUND})
    assert 200 == answer.status_code, answer.text
    assert judged(text) == sorted(line["message"] for line in answer.json()), text


def test_pages_of_lines_are_the_whole(client: httpx.Client) -> None:
    """In time order each, towards the past, however many lines have one time."""
    whole = client.get("/api/v1/logs", params={"q": "level >= INFO", "limit": 1_000, **AROUND}).json()
    paged: list[Any] = []
    cursor: str | None = ""
    while cursor is not None:
        answer = client.get("/api/v1/logs", params={"q": "level >= INFO", "limit": 29, "cursor": cursor, **AROUND})
        paged = answer.json() + paged
        cursor = answer.headers.get("clew-cursor")
    assert len(whole) > 100
    assert whole == paged


def test_a_search_is_narrowed_by_the_other_parameters(client: httpx.Client) -> None:
    """Level and worse, service, text, trace."""
    given = {"level": "ERROR", "service": "Orders", "grep": "DECLINED", "limit": 1_000, **AROUND}
    found = client.get("/api/v1/logs", params={"q": "logger = shop", **given}).json()
    expected = 'level >= ERROR and service = orders and "declined" and logger = shop'
    assert judged(expected) == sorted(line["message"] for line in found) != []
    trace_id = next(line["traceId"] for line in LINES if "traceId" in line)
    found = client.get("/api/v1/logs", params={"q": "logger ~ shop", "trace_id": trace_id}).json()
    assert judged(f"trace = {trace_id} and logger ~ shop") == sorted(line["message"] for line in found)


def test_histogram_counts_lines_by_level(client: httpx.Client) -> None:
    """Each line once, in its step."""
    window = {"since": NOON * 1_000, "until": NOON * 1_000 + 39}
    answer = client.get("/api/v1/logs/histogram", params={"q": "logger = shop", "step": 10, **window}).json()
    lines = [line for line in LINES if line["logger"] == "shop"]
    assert len(lines) == answer["total"]
    assert [sum(line["timestamp"] // 10 == (NOON * 100 + n) for line in lines) for n in range(4)] == [
        point["count"] for point in answer["points"]
    ]
    assert sum(line["level"] == "AUDIT" for line in lines) == sum(
        point["levels"].get("AUDIT", 0) for point in answer["points"]
    )


def test_context_is_what_stands_around_a_line(client: httpx.Client) -> None:
    """Of its service, right before and after."""
    moment = NOON * 1_000 + 20
    given = {"timestamp": moment, "service": "stock", "before": 3, "after": 4}
    answer = client.get("/api/v1/logs/context", params=given).json()
    times = sorted(line["timestamp"] for line in LINES if line["service"] == "stock")
    assert [time for time in times if time < moment][-3:] == [line["timestamp"] for line in answer["before"]]
    assert [time for time in times if time >= moment][:5] == [line["timestamp"] for line in answer["after"]]


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("logs?q=root{x}", "any, root, -> and child of speak of whole traces, and here single lines are asked for"),
        ("logs?q=x&cursor=y", "cursor is what an earlier answer gave; leave it out to begin anew"),
        ("logs/context", "timestamp is the time of the line, in microseconds since 1970"),
        ("logs/context?timestamp=1&before=9999", "before is a number from 0 to 1000"),
        ("compare?right=zz", None),
        ("complete?limit=0", "limit is a number from 1 to 200"),
    ],
)
def test_mistakes_say_what_would_do(client: httpx.Client, path: str, error: str | None) -> None:
    """As everywhere."""
    answer = client.get(f"/api/v1/{path}")
    assert 400 == answer.status_code
    assert error in (None, answer.json()["error"])


# --- completion ---


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("|", Expected("field", "", "", 0, 0)),
        ("ser|", Expected("field", "", "ser", 0, 3)),
        ("service |", Expected("operator", "", "", 8, 8)),
        ("service = |", Expected("value", "service", "", 10, 10)),
        ("service = or|", Expected("value", "service", "or", 10, 12)),
        ("service = or| and x = 1", Expected("value", "service", "or", 10, 12)),
        ('name = "get /it|', Expected("value", "name", "get /it", 7, 15)),
        ("service = orders |", Expected("joint", "", "", 17, 17)),
        ("service = orders a|", Expected("joint", "", "a", 17, 18)),
        ("service = orders and |", Expected("field", "", "", 21, 21)),
        ("a in (1, 2|", Expected("value", "a", "2", 9, 10)),
        ("a not in (|", Expected("value", "a", "", 10, 10)),
        ("a in (1) |", Expected("joint", "", "", 9, 9)),
        ("any{ser|", Expected("field", "", "ser", 4, 7)),
        ("not (x |", Expected("operator", "", "", 7, 7)),
        ("web -> pa|", Expected("value", "service", "pa", 7, 9)),
        ("{error} child of |", Expected("value", "service", "", 17, 17)),
        ("`odd key` >= |", Expected("value", "odd key", "", 13, 13)),
        ("error |", Expected("operator", "", "", 6, 6)),
        ("x exists |", Expected("joint", "", "", 9, 9)),
    ],
)
def test_what_is_expected_where_the_cursor_stands(text: str, result: Expected) -> None:
    """The cursor is the stroke."""
    at = text.index("|")
    assert result == expected(text.replace("|", ""), at)


@given(st.text(st.sampled_from("ab =!<>~(){},\"'`\\->&|notadri.5µ\n"), max_size=60), st.integers(-3, 70))
def test_anything_typed_can_be_completed(text: str, at: int) -> None:
    """Never an exception, always a place within the text."""
    place = expected(text, at)
    assert 0 <= place.begin <= place.end <= len(text)


@given(st.text(max_size=20))
def test_what_is_suggested_means_what_it_says(value: str) -> None:
    """A value with any characters in it."""
    wanted = parse_condition(f"x = {written(value)}")
    assert value == wanted.value  # type: ignore[union-attr]


@pytest.fixture
def shop(store: ClickHouseStore, tmp_path: Path) -> Iterator[httpx.Client]:
    """A collector with a few spans."""
    rows = []
    for trace in range(1, 9):
        more = 50_000 if trace == 8 else 0
        tags = {"http.method": "GET", "customer.id": f"{trace % 2}"}
        place = {"traceId": f"{trace:x}", "timestamp": NOON * 1_000 + trace}
        orders, database = {"serviceName": "orders"}, {"serviceName": "orders-db"}
        rows += [
            {
                **place,
                "id": "1",
                "name": "get /items",
                "duration": 100_000 + more,
                "localEndpoint": orders,
                "tags": tags,
            },
            {
                **place,
                "id": "2",
                "parentId": "1",
                "name": "select items",
                "duration": 50_000 + more,
                "localEndpoint": database,
                "tags": {"db.system": "some sql"},
            },
        ]
    insert(store, *rows)
    with served(store, tmp_path) as client:
        yield client


@pytest.mark.parametrize(
    ("q", "suggested"),
    [
        ("service = or", [("orders", 8), ("orders-db", 8)]),
        ("service = DB", [("orders-db", 8)]),
        ("name = ", [('"get /items"', 8), ('"select items"', 8)]),
        ("customer.id = ", [("0", 4), ("1", 4)]),
        ("db.system = some", [('"some sql"', 8)]),
        ("kind = s", [("SERVER", None)]),
        ("cust", [("customer.id", 8)]),
        ("db.sys", [("db.system", 8)]),
        ("service = orders an", [("and", None), ("any{", None)]),
        ("service -", []),
    ],
)
def test_what_is_stored_is_suggested(shop: httpx.Client, q: str, suggested: list[tuple[str, int | None]]) -> None:
    """With how many spans have it, written as a search takes it."""
    found = shop.get("/api/v1/complete", params={"q": q, **AROUND}).json()["suggestions"]
    assert suggested == [(entry["text"], entry["count"]) for entry in found]


# --- comparison ---


def test_a_trace_is_held_against_another_or_the_usual(shop: httpx.Client) -> None:
    """Its query explains what it took longer."""
    for parameters, usual in (({"left": "1"}, 0), ({}, 7)):
        answer = shop.get("/api/v1/compare", params={"right": "8", **parameters}).json()
        assert (100_000, 150_000, usual) == (answer["leftUs"], answer["rightUs"], answer["usual"])
        assert [("get /items", "same", 0), ("select items", "slower", 50_000)] == [
            (entry["name"], entry["change"], round(entry["explainsUs"])) for entry in answer["differences"]
        ]
    assert 404 == shop.get("/api/v1/compare", params={"right": "99"}).status_code
