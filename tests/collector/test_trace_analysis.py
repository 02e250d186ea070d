"""Critical path, own time, findings and comparison: pure functions on the spans of a trace."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.collector.trace.compare import compare
from clew.collector.trace.findings import find
from clew.collector.trace.span import Span
from clew.collector.trace.timeline import critical_path, gaps, lay_out, longest_root, own_time_us, time_on_path
from zipkin_spans import NOON, make

BEGIN = NOON * 1_000


def span(id: str, parent: str | None, name: str, begin_ms: int, end_ms: int, service: str = "a", **more: Any) -> Span:
    """A span with its times in milliseconds after BEGIN."""
    times = {"timestamp": BEGIN + begin_ms * 1_000, "duration": (end_ms - begin_ms) * 1_000}
    return make(id, parent, more.pop("kind", None), service, more.pop("remote", None), name=name, **times, **more)


def path(spans: list[Span]) -> list[tuple[str, int, int]]:
    """The critical path as names with milliseconds after BEGIN."""
    return [
        (timed.span.name or "", (begin - BEGIN) // 1_000, (end - BEGIN) // 1_000)
        for timed, begin, end in critical_path(lay_out(spans))
    ]


def test_the_path_goes_through_what_was_waited_for_last() -> None:
    """Of two calls at once the longer one decides; the shorter one is not on the path."""
    spans = [
        span("1", None, "root", 0, 100),
        span("2", "1", "short", 10, 40),
        span("3", "1", "long", 15, 80),
        span("4", "3", "inner", 20, 60),
    ]
    assert [
        ("root", 0, 10),
        ("short", 10, 15),
        ("long", 15, 20),
        ("inner", 20, 60),
        ("long", 60, 80),
        ("root", 80, 100),
    ] == path(spans)


def test_what_goes_on_after_its_parent_made_nobody_wait() -> None:
    """A background task counts as long as its parent ran; a message consumed later does not count at all."""
    spans = [
        span("1", None, "root", 0, 50),
        span("2", "1", "task", 40, 500),
        span("3", "1", "consume", 60, 90, kind="CONSUMER"),
    ]
    assert [("root", 0, 40), ("task", 40, 50)] == path(spans)


def test_a_trace_without_times_has_no_path() -> None:
    """Spans that nobody timed."""
    assert [] == critical_path(lay_out([make("1"), make("2", "1")]))
    assert [] == find([make("1"), make("2", "1")])


def test_own_time_and_gaps_are_what_no_child_covers() -> None:
    """Children that overlap count once; the longest gap comes first."""
    spans = [span("1", None, "root", 0, 100), span("2", "1", "x", 10, 30), span("3", "1", "y", 20, 50)]
    root = lay_out(spans)[0]
    assert 60_000 == own_time_us(root)
    assert [(50, 100), (0, 10)] == [((a - BEGIN) // 1_000, (b - BEGIN) // 1_000) for a, b in gaps(root)]
    assert [] == gaps(lay_out(spans)[1])


times = st.tuples(st.integers(0, 200), st.integers(0, 200)).map(sorted)


@given(st.lists(st.tuples(st.integers(0, 30), times), min_size=1, max_size=30))
def test_the_path_is_without_gaps_and_as_long_as_the_root(shape: list[tuple[int, list[int]]]) -> None:
    """For any tree with any times: each moment of the root belongs to exactly one span that ran then."""
    spans = [span("1", None, "root", 0, 200)]
    for place, (above, (begin, end)) in enumerate(shape, 2):
        spans.append(span(f"{place:x}", f"{above % (place - 1) + 1:x}", f"s{place}", begin, end))
    timeline = lay_out(spans)
    segments = critical_path(timeline)
    root = longest_root(timeline)
    assert root is not None
    assert [root.begin_us, *(s.end_us for s in segments)] == [*(s.begin_us for s in segments), root.end_us]
    assert [] == [s for s in segments if not s.timed.begin_us <= s.begin_us < s.end_us <= s.timed.end_us]
    assert 200_000 == sum(time_on_path(segments).values())


def test_a_chain_of_thousands_is_no_trouble() -> None:
    """Neither recursion nor quadratic work."""
    spans = [span("1", None, "root", 0, 20_000)]
    spans += [span(f"{n:x}", f"{n - 1:x}", "step", n, 20_000 - n) for n in range(2, 5_002)]
    assert 2 * 5_001 - 1 == len(critical_path(lay_out(spans)))
    assert 5_001 == len(compare([spans], [spans]).differences)
    assert "critical" in {finding.kind for finding in find(spans)}


# --- findings ---


def found(spans: list[Span]) -> list[tuple[str, str]]:
    """Findings as kind and text."""
    return [(finding.kind, finding.text) for finding in find(spans)]


def test_many_queries_beneath_one_span_are_named() -> None:
    """N+1: the same statement again and again."""
    spans = [span("1", None, "get /orders", 0, 100, kind="SERVER")]
    spans += [
        span(f"{n + 2:x}", "1", "select item", 5 + n, 6 + n, kind="CLIENT", tags={"db.system": "sqlite"})
        for n in range(48)
    ]
    assert (
        "n_plus_one",
        "48 x a select item beneath a get /orders: 48.0 ms (48%); one query for all would do",
    ) in found(spans)


def test_a_few_queries_or_fast_ones_are_no_finding() -> None:
    """Four are not many, and what takes a hundredth of the trace is not worth a word."""
    few = [span(f"{n + 2:x}", "1", "select item", 5 + n, 15 + n, kind="CLIENT") for n in range(4)]
    fast = [span(f"{n + 2:x}", "1", "select item", n, n, kind="CLIENT") for n in range(48)]
    for below in (few, fast):
        kinds = {kind for kind, _ in found([span("1", None, "root", 0, 1_000), *below])}
        assert set() == kinds & {"n_plus_one", "repeated"}


def test_different_calls_in_turn_could_run_at_once() -> None:
    """Only where they are different and none overlaps."""
    root = span("1", None, "get /", 0, 100, kind="SERVER")
    calls = [
        span("2", "1", "get stock", 0, 40, kind="CLIENT", remote="stock"),
        span("3", "1", "get price", 40, 90, kind="CLIENT", remote="price"),
    ]
    text = (
        "a get / makes 2 calls one after the other (get stock, get price); "
        "at once they would take up to 40.0 ms less, if none needs another's answer"
    )
    assert ("in_turn", text) in found([root, *calls])
    overlapping = [calls[0], span("3", "1", "get price", 20, 90, kind="CLIENT", remote="price")]
    assert "in_turn" not in dict(found([root, *overlapping]))
    statement = span("4", "1", "insert orders", 91, 95, kind="CLIENT", tags={"db.statement": "INSERT"})
    assert "in_turn" not in dict(found([root, *calls, statement]))
    by_method = [
        span("2", "1", "get", 0, 40, kind="CLIENT", tags={"http.url": "http://stock/items/tea"}),
        span("3", "1", "post", 40, 90, kind="CLIENT", tags={"http.url": "http://price/quote"}),
    ]
    assert "(get /items/tea, post /quote)" in dict(found([root, *by_method]))["in_turn"]


def test_retries_are_told_from_repetition() -> None:
    """Failures before a success, or nothing but failures."""
    root = span("1", None, "root", 0, 100)
    failed = [span(str(n), "1", "charge", n * 10, n * 10 + 5, kind="CLIENT", error=True) for n in (2, 3)]
    worked = span("4", "1", "charge", 40, 60, kind="CLIENT")
    text = "a root called a charge 3 times: 2 failed, then it worked; 10.0 ms went into failures"
    assert text == dict(found([root, *failed, worked]))["retries"]
    never = "a root called a charge 2 times: 2 failed, and never worked; 10.0 ms went into failures"
    assert never == dict(found([root, *failed]))["retries"]
    assert "retries" not in dict(found([root, worked, span("5", "1", "charge", 70, 80, kind="CLIENT", error=True)]))


def test_a_gap_says_where_it_lies() -> None:
    """Between which calls nothing was recorded."""
    spans = [span("1", None, "root", 0, 100), span("2", "1", "x", 0, 20), span("3", "1", "y", 70, 100)]
    assert "50.0 ms (50%) in a root are not accounted for, between x and y" == dict(found(spans))["gap"]


def test_a_failure_is_told_where_it_began() -> None:
    """Not at each span that passes it on."""
    spans = [
        span("1", None, "root", 0, 100, tags={"error": "502"}),
        span("2", "1", "charge", 10, 20, "pay", tags={"error": "card declined\nmore"}),
    ]
    assert [("error", "pay charge failed: card declined")] == [f for f in found(spans) if f[0] == "error"]


def test_what_is_missing_is_said() -> None:
    """Parents that never came, spans that were dropped."""
    spans = [
        span("1", None, "root", 0, 100),
        span("2", "9", "x", 10, 20, "b", tags={"clew.trace_dropped": "3"}),
    ]
    assert [
        ("missing", "1 span never arrived: the caller of b is missing"),
        ("lost", "This trace misses at least 3 spans: a process had to drop them"),
    ] == found(spans)[:2]


def test_waiting_for_a_connection_is_said() -> None:
    """By the name that pools give to it."""
    spans = [span("1", None, "root", 0, 100), span("2", "1", "wait for connection", 0, 60)]
    assert dict(found(spans))["pool_wait"].startswith("60.0 ms went by waiting for a pooled connection")


# --- comparison ---


def test_the_differences_explain_the_difference() -> None:
    """Added, missing, slower, the same; what they explain adds up."""
    left = [
        span("1", None, "root", 0, 100),
        span("2", "1", "same", 0, 30),
        span("3", "1", "gone", 30, 40),
        span("4", "1", "slow", 40, 60),
    ]
    right = [
        span("1", None, "root", 0, 160),
        span("2", "1", "same", 0, 30),
        span("4", "1", "slow", 30, 120),
        span("5", "4", "new", 40, 60),
    ]
    result = compare([left], [right])
    assert [
        ("root", 0, "same", 0.0),
        ("same", 1, "same", 0.0),
        ("gone", 1, "missing", -10_000.0),
        ("slow", 1, "slower", 50_000.0),
        ("new", 2, "added", 20_000.0),
    ] == [(d.name, d.depth, d.change, d.explains_us) for d in result.differences]
    assert result.right_us - result.left_us == sum(d.explains_us for d in result.differences)


def test_many_traces_stand_for_the_usual() -> None:
    """Counts and times are means over them."""
    usual = [[span("1", None, "root", 0, 100), span("2", "1", "x", 0, length)] for length in (10, 30)]
    result = compare(usual, [[span("1", None, "root", 0, 100)]])
    gone = result.differences[1]
    assert ("x", "missing", 1.0, 20_000.0, -20_000.0) == (
        gone.name,
        gone.change,
        gone.left.count,
        gone.left.path_us,
        gone.explains_us,
    )


@pytest.mark.parametrize("sides", [([], []), ([[]], [[]])])
def test_nothing_compares_to_nothing(sides: Any) -> None:
    """No traces, or empty ones."""
    assert [] == compare(*sides).differences
