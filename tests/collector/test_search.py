"""The search language: what it says, and that the engine and a plain evaluation find the same traces."""

from __future__ import annotations

import contextlib
import random
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
from zipkin_spans import NOON, insert, insert_logs, make

if TYPE_CHECKING:
    from clew.collector.store.clickhouse import ClickHouseStore
    from clew.collector.trace import Span

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

KEYS = ["http.status_code", "http.response.status_code", "customer.id", "odd key", "error"]
VALUES = ["", "200", "503", "-1.5", "1e3", "x", "Ärger", "42", "nan", "0x10", " 7", "5.", "card declined", "%_'\\"]
SERVICES = ["orders", "stock", "pay"]
NAMES = ["get /items", "select items", "post /pay", "ärger"]
KINDS = ["CLIENT", "SERVER", "PRODUCER", "CONSUMER"]
LINES = ["out of stock", "Card declined", "x"]


def random_traces() -> list[tuple[list[Span], dict[str, list[str]]]]:
    """Make traces of one to six spans with log lines; the same each time."""
    dice = random.Random(4)
    traces = []
    for number in range(1, 81):
        spans, lines = [], {}
        for place in range(1, dice.randint(1, 6) + 1):
            tags = {key: dice.choice(VALUES) for key in dice.sample(KEYS, dice.randint(0, 3))}
            span = make(
                f"{place:x}",
                f"{dice.randint(1, place + 1):x}" if place > 1 else dice.choice([None, None, "9", "1"]),
                dice.choice([None, *KINDS]),
                dice.choice([None, *SERVICES]),
                dice.choice([None, *SERVICES]),
                trace=f"{number:x}" if number % 2 else f"{number:x}".zfill(20).replace("0", "b", 1),
                timestamp=NOON * 1_000 + number,
                duration=dice.choice([0, 1, 200_000, 1_500_000]),
                name=dice.choice([None, *NAMES]),
                tags=tags,
                notes=((NOON * 1_000, dice.choice(LINES)),) if dice.random() < 0.2 else (),
            )
            spans.append(span)
            if dice.random() < 0.3:
                lines[span.id] = [dice.choice(LINES)]
        traces.append((spans, lines))
    return traces


TRACES = random_traces()


@pytest.fixture(scope="module")
def filled(engine: ClickHouseStore) -> ClickHouseStore:
    """The engine with the random traces in it."""
    import msgspec

    engine.truncate()
    insert(engine, *(msgspec.to_builtins(span) for spans, _ in TRACES for span in spans))
    insert_logs(
        engine,
        *(
            {"timestamp": NOON * 1_000, "service": "s", "message": line, "traceId": spans[0].trace_id, "id": span_id}
            for spans, lines in TRACES
            for span_id, said in lines.items()
            for line in said
        ),
    )
    return engine


def found_by_engine(store: ClickHouseStore, statement: str, into: Compiled) -> list[tuple[Any, ...]]:
    """Run a statement with the values of a search and its window."""
    window = {"first_bucket": 0, "last_bucket": 2**40}
    with store._reader() as client:
        return [tuple(row) for row in client.query(statement, parameters=into.parameters | window).result_rows]


quoted = st.sampled_from([*VALUES, *SERVICES, *NAMES, *LINES, "a", "ORDERS"]).map(
    lambda text: '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
)
bare = st.sampled_from(["200", "42", "-1.5", "1e3", "x", "503", "orders", "5."])
field = st.sampled_from([*KEYS, "service", "name", "remote", "nothing"]).map(
    lambda key: f'"{key}"' if " " in key else key
)
comparison = st.one_of(
    st.tuples(field, st.sampled_from(["=", "!=", ">", ">=", "<", "<="]), quoted | bare).map(" ".join),
    st.tuples(
        field, st.sampled_from(["~", "!~"]), st.sampled_from(['"^4"', '"s$"', '"[0-9]+"', '"ä"', '"I"', '"."'])
    ).map(" ".join),
    st.tuples(field, st.just("in ("), quoted, st.just(","), bare, st.just(")")).map(" ".join),
    field.map(lambda key: f"{key} exists"),
    st.tuples(
        st.just("duration"), st.sampled_from(["=", ">", ">=", "<", "<="]), st.sampled_from(["1us", "200ms", "1.5s"])
    ).map(" ".join),
    st.sampled_from(KINDS).map(lambda kind: f"kind = {kind}"),
    st.sampled_from(["trace = 1", "trace = bb", "trace ~ 1$", "span = 0000000000000002", "span > 0000000000000002"]),
    quoted,
    st.just("error"),
)
condition = st.recursive(
    comparison,
    lambda inner: st.one_of(
        inner.map(lambda text: f"not ({text})"),
        st.tuples(inner, st.sampled_from([" and ", " or ", " "]), inner).map(lambda parts: f"({''.join(parts)})"),
    ),
    max_leaves=5,
)
atom = st.one_of(
    condition,
    condition.map(lambda text: f"any{{{text}}}"),
    condition.map(lambda text: f"root{{{text}}}"),
    st.tuples(condition, condition).map(lambda pair: f"({{{pair[0]}}} -> {{{pair[1]}}})"),
    st.tuples(condition, condition).map(lambda pair: f"({{{pair[0]}}} child of {{{pair[1]}}})"),
)
query = st.recursive(
    atom,
    lambda inner: st.one_of(
        inner.map(lambda text: f"not ({text})"),
        st.tuples(inner, st.sampled_from([" and ", " or "]), inner).map(lambda parts: f"({''.join(parts)})"),
    ),
    max_leaves=3,
)
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
