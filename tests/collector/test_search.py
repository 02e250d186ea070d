"""The search language: what it says, and that the engine and a plain evaluation find the same traces."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clew.collector.search import SearchError, matches, needs_tree, parse, parse_condition, required, span_matches
from clew.collector.search.sql import Compiled, compile_condition, compile_query
from clew.collector.search.tree import (
    EVERYTHING,
    And,
    AtRoot,
    Beneath,
    Compare,
    Exists,
    Field,
    Not,
    Or,
    Somewhere,
    Text,
)
from searches import TRACES, condition, fill, query

if TYPE_CHECKING:
    from clew.collector.store.clickhouse import ClickHouseStore

SERVICE, NAME, KIND, DURATION = (Field(name, True) for name in ("service", "name", "kind", "duration"))
ORDERS = Compare(SERVICE, "=", "orders")
ERROR = Exists(Field("error", False))


def tag(key: str, operator: str, value: str, number: float | None = None) -> Compare:
    """A comparison of a tag."""
    return Compare(Field(key, False), operator, value, number)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", EVERYTHING),
        ("   ", EVERYTHING),
        ("service = Orders", Somewhere(ORDERS)),
        ("SERVICE=orders", Somewhere(ORDERS)),
        ('service == "orders"', Somewhere(ORDERS)),
        ("`service` = orders", Somewhere(tag("service", "=", "orders"))),
        ("service != orders", Somewhere(Not(ORDERS))),
        ("not service = orders", Somewhere(Not(ORDERS))),
        ("! service = orders", Somewhere(Not(ORDERS))),
        ("customer.id = 42", Somewhere(tag("customer.id", "=", "42"))),
        ("customer.id > 42", Somewhere(tag("customer.id", ">", "42", 42.0))),
        ('customer.id > "42"', Somewhere(tag("customer.id", ">", "42"))),
        ("version >= 1.10.2", Somewhere(tag("version", ">=", "1.10.2"))),
        ('path = "/a-b/{x}"', Somewhere(tag("path", "=", "/a-b/{x}"))),
        ("path = /a-b/c.d:80?x", Somewhere(tag("path", "=", "/a-b/c.d:80?x"))),
        ('"odd key" = 1', Somewhere(tag("odd key", "=", "1"))),
        ("duration > 200ms", Somewhere(Compare(DURATION, ">", "200ms", 200_000.0))),
        ("duration<=1.5s", Somewhere(Compare(DURATION, "<=", "1.5s", 1_500_000.0))),
        ("kind = server", Somewhere(Compare(KIND, "=", "SERVER"))),
        ("error", Somewhere(ERROR)),
        ('error = "card declined"', Somewhere(tag("error", "=", "card declined"))),
        ("customer.id exists", Somewhere(Exists(Field("customer.id", False)))),
        ("a in (1, 2)", Somewhere(Or((tag("a", "=", "1"), tag("a", "=", "2"))))),
        ("a in (1)", Somewhere(tag("a", "=", "1"))),
        ("a not in (1, 2)", Somewhere(Not(Or((tag("a", "=", "1"), tag("a", "=", "2")))))),
        ('route ~ "/health$"', Somewhere(tag("route", "~", "/health$"))),
        ('route !~ "/health"', Somewhere(Not(tag("route", "~", "/health")))),
        ("timeout", Somewhere(Text("timeout"))),
        ('"connection refused"', Somewhere(Text("connection refused"))),
        (r'"say \"hi\"\n"', Somewhere(Text('say "hi"\n'))),
        ("service=orders error", Somewhere(And((ORDERS, ERROR)))),
        ("service=orders && error || x=1", Somewhere(Or((And((ORDERS, ERROR)), tag("x", "=", "1"))))),
        ("service=orders and (error or x=1)", Somewhere(And((ORDERS, Or((ERROR, tag("x", "=", "1"))))))),
        ("any{service=orders} and any{error}", And((Somewhere(ORDERS), Somewhere(ERROR)))),
        ("service=orders x=1 any{error}", And((Somewhere(And((ORDERS, tag("x", "=", "1")))), Somewhere(ERROR)))),
        ("not any{error}", Not(Somewhere(ERROR))),
        ("any{}", Somewhere(EVERYTHING)),
        ("root{service=orders}", AtRoot(ORDERS)),
        ("any = 1", Somewhere(tag("any", "=", "1"))),
        ("root", Somewhere(Text("root"))),
        ("orders -> error", Beneath(ORDERS, ERROR, directly=False)),
        ("{error} child of Orders", Beneath(ORDERS, ERROR, directly=True)),
        (
            "http.response.status_code >= 500",
            Somewhere(
                Or(
                    (
                        tag("http.status_code", ">=", "500", 500.0),
                        tag("http.response.status_code", ">=", "500", 500.0),
                    )
                )
            ),
        ),
    ],
)
def test_a_search_means(text: str, expected: Any) -> None:
    """Text and tree, one for each rule of the grammar."""
    assert expected == parse(text)


@pytest.mark.parametrize(
    ("text", "at", "suggestion", "message"),
    [
        ("service =", "=", 'a word or "a text"', "After = a value is missing"),
        ("service = = x", "= =", 'a word or "a text"', None),
        ("= 5", "=", "name =", "Before = stands a field"),
        ("a => 5", "=>", ">=", "There is no operator =>"),
        ("b or (a = 1", "(a = 1", "(a = 1)", "The bracket ( is not closed"),
        ("a = 1)", ")", "", ") closes nothing"),
        ('a = "x', '"x', '"x"', 'The quote " is not closed'),
        ("duration > 200", "200", "200ms", "A duration has a number and a unit: us, ms, s, m or h"),
        ("duration > fast", "fast", "200ms", None),
        ("duration = 5 ms", "5", "5ms", None),
        ("kind = sever", "sever", "SERVER", "A kind is one of CLIENT, SERVER, PRODUCER, CONSUMER"),
        ("a and", "", "service = ...", "The search ends where a condition should follow"),
        ("and a", "and", '"and"', "and where a condition should stand"),
        ("a = 1 or or b", "or", '"or"', None),
        ("a ~ '('", "'('", r"\(", None),
        ("a ~ 'x(?=y)'", "'x(?=y)'", "", "Regular expressions cannot look around or refer back here"),
        ("a in 5", "5", "(a, b)", "After in stand the values in brackets"),
        ("a in (5", "", ") or ,", None),
        ("any{any{x}}", "any", "", "In any{...} and root{...} stands what one span is like"),
        ("(a -> b) -> c", "(", "", "On both sides of -> and `child of` stands what one span is like"),
        ("not " * 60 + "a", None, "", "Brackets and not go 50 deep at most"),
        ("a " * 201, None, "", "A search has at most 200 comparisons"),
        ("a" * 4_001, None, "", "A search has at most 4,000 characters"),
    ],
)
def test_an_error_points_at_the_place_and_says_what_to_write(
    text: str, at: str | None, suggestion: str, message: str | None
) -> None:
    """For the mistakes that people make."""
    with pytest.raises(SearchError) as caught:
        parse(text)
    error = caught.value
    if at is not None:
        assert at == text[error.begin : error.end]
    assert suggestion == error.suggestion
    assert message in (None, error.message)


@given(st.text(st.sampled_from("ab =!<>~(){},\"'`\\->&|notadri.5µ\n"), max_size=60))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    """Never another exception, and every error lies within the text."""
    found: list[tuple[int, int, int]] = []
    with contextlib.suppress(SearchError):
        parse(text)
    for cut in range(len(text)):
        try:
            parse(text[:cut])
        except SearchError as error:
            found.append((error.begin, error.end, cut))
    assert [] == [place for place in found if not 0 <= place[0] <= place[1] <= place[2]]


def test_a_condition_on_lines_cannot_speak_of_traces() -> None:
    """Log lines have no root."""
    assert ORDERS == parse_condition("service = orders")
    with pytest.raises(SearchError):
        parse_condition("root{service = orders}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("service = orders and customer.id = 42", And((ORDERS, tag("customer.id", "=", "42")))),
        ("any{service = orders} and any{customer.id = 42}", tag("customer.id", "=", "42")),
        ("not any{error}", None),
        ("any{error} or any{service=orders}", Or((ERROR, ORDERS))),
        ("any{error} or not any{service=orders}", None),
        ("orders -> {x = long-and-rare}", tag("x", "=", "long-and-rare")),
        ("", None),
    ],
)
def test_the_rarest_condition_leads(text: str, expected: Any) -> None:
    """It must hold of some span of every trace that is found."""
    assert expected == required(parse(text))


# --- the engine and the plain evaluation ---


@pytest.fixture(scope="module")
def filled(engine: ClickHouseStore) -> ClickHouseStore:
    """The engine with the random traces in it."""
    fill(engine)
    return engine


def found_by_engine(store: ClickHouseStore, statement: str, into: Compiled) -> list[tuple[Any, ...]]:
    """Run a statement with the values of a search and its window."""
    window = {"first_bucket": 0, "last_bucket": 2**40}
    with store._reader() as client:
        return [tuple(row) for row in client.query(statement, parameters=into.parameters | window).result_rows]


relaxed = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@relaxed
@given(text=condition)
def test_the_engine_finds_the_spans_that_a_plain_evaluation_finds(filled: ClickHouseStore, text: str) -> None:
    """For any condition."""
    wanted, into = parse_condition(text), Compiled()
    statement = f"SELECT lower(hex(trace_id)), lower(hex(span_id)) FROM spans WHERE {compile_condition(wanted, into)}"
    expected = {
        (span.trace_id.zfill(32), span.id)
        for spans, lines in TRACES
        for span in spans
        if span_matches(wanted, span, lines)
    }
    assert expected == set(found_by_engine(filled, statement, into)), text


@relaxed
@given(text=query)
def test_the_engine_finds_the_traces_that_a_plain_evaluation_finds(filled: ClickHouseStore, text: str) -> None:
    """For any query; where it needs the tree, the engine finds all of them and perhaps more. So does the lead."""
    wanted, into = parse(text), Compiled()
    having = compile_query(wanted, into)
    statement = f"SELECT lower(hex(trace_id)) FROM spans GROUP BY trace_id HAVING {having}"
    expected = {spans[0].trace_id.zfill(32) for spans, lines in TRACES if matches(wanted, spans, lines)}
    found = {row[0] for row in found_by_engine(filled, statement, into)}
    assert expected == (found & expected if needs_tree(wanted) else found), text
    lead = required(wanted)
    if lead is not None:
        led = {
            spans[0].trace_id.zfill(32) for spans, lines in TRACES if any(span_matches(lead, s, lines) for s in spans)
        }
        assert expected <= led, text
