"""Traces of all kinds and generated searches over them: what finds traces is held against the plain evaluation."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import msgspec
from hypothesis import strategies as st

from zipkin_spans import NOON, insert, insert_logs, make

if TYPE_CHECKING:
    from clew.collector.store.clickhouse import ClickHouseStore
    from clew.collector.trace import Span

KEYS = ["http.status_code", "http.response.status_code", "customer.id", "odd key", "error"]
VALUES = ["", "200", "503", "-1.5", "1e3", "x", "Ärger", "42", "nan", "0x10", " 7", "5.", "card declined", "%_'\\"]
SERVICES = ["orders", "stock", "pay"]
NAMES = ["get /items", "select items", "post /pay", "ärger"]
KINDS = ["CLIENT", "SERVER", "PRODUCER", "CONSUMER"]
LINES = ["out of stock", "Card declined", "x"]


AROUND = {"since": (NOON - 60_000) * 1_000, "until": (NOON + 60_000) * 1_000}  # a window that holds all of them


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


def fill(store: ClickHouseStore) -> None:
    """Put the traces and their lines into an emptied store."""
    store.truncate()
    insert(store, *(msgspec.to_builtins(span) for spans, _ in TRACES for span in spans))
    insert_logs(
        store,
        *(
            {"timestamp": NOON * 1_000, "service": "s", "message": line, "traceId": spans[0].trace_id, "id": span_id}
            for spans, lines in TRACES
            for span_id, said in lines.items()
            for line in said
        ),
    )


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
