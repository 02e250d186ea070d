"""Ids, merging and the tree: spans as reported become spans as they happened."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from clew.collector.trace import (
    Endpoint,
    Span,
    build_tree,
    encode_spans,
    merge_spans,
    normalize_span_id,
    normalize_trace_id,
    without_duplicates,
)
from zipkin_spans import make

if TYPE_CHECKING:
    from clew.collector.trace import Node

LONG, SHORT = "7180c278b62e8f6a216a2aea45d08fc9", "216a2aea45d08fc9"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("1", "0000000000000001"),
        ("abcdef", "0000000000abcdef"),
        ("48485a3953bb6124", "48485a3953bb6124"),
        ("00000000000000000000000000000001", "0000000000000001"),
        ("12345678901234567", "00000000000000012345678901234567"),
        ("463ac35c9f6413ad48485a3953bb6124", "463ac35c9f6413ad48485a3953bb6124"),
        ("00000000000000010000000000000001", "00000000000000010000000000000001"),
    ],
)
def test_trace_id_is_padded_to_64_or_128_bits(given: str, expected: str) -> None:
    """Ids of any length have one stored form; a high half of zeros is no high half."""
    assert expected == normalize_trace_id(given)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("", "traceId is empty"),
        ("0", "traceId is all zeros"),
        ("0" * 32, "traceId is all zeros"),
        ("1" * 33, "traceId.length > 32"),
        ("48485A3953BB6124", "48485A3953BB6124 should be lower-hex encoded with no prefix"),
        ("0e8b46e1-81b", "0e8b46e1-81b should be lower-hex encoded with no prefix"),
        ("1\n", "1\n should be lower-hex encoded with no prefix"),
        ("١", "١ should be lower-hex encoded with no prefix"),
    ],
)
def test_what_is_no_trace_id_is_refused_in_zipkins_words(given: str, text: str) -> None:
    """The error names the rule that is broken."""
    with pytest.raises(ValueError, match=r"^traceId|should be") as caught:
        normalize_trace_id(given)
    assert text == str(caught.value)


@pytest.mark.parametrize("given", ["", "0", "0" * 16, "1" * 17, "G", "A"])
def test_what_is_no_span_id_is_refused(given: str) -> None:
    """A span id has 1 to 16 lower-case hex characters, not all zeros."""
    with pytest.raises(ValueError, match=r"^id|should be"):
        normalize_span_id(given)


def test_json_leaves_out_what_is_absent_and_keeps_zipkins_order() -> None:
    """A span is written as Zipkin writes it."""
    span = make("2", "1", "CLIENT", "web", "db", timestamp=5, duration=3, name="get", error=True, notes=((7, "x"),))
    assert (
        b'[{"traceId":"000000000000000a","parentId":"0000000000000001","id":"0000000000000002","kind":"CLIENT",'
        b'"name":"get","timestamp":5,"duration":3,"localEndpoint":{"serviceName":"web"},'
        b'"remoteEndpoint":{"serviceName":"db"},"annotations":[{"timestamp":7,"value":"x"}],"tags":{"error":""}}]'
    ) == encode_spans([span])


def test_exact_repetitions_are_dropped() -> None:
    """Only spans that agree in everything are one report."""
    first, other = make("1", tags={"a": "1"}), make("1", tags={"a": "2"})
    assert [first, other] == without_duplicates([first, other, make("1", tags={"a": "1"})])


def test_missing_parent_id_of_shared_span_is_filled_in() -> None:
    """A server that was not told its parent has its client's."""
    spans = [
        make("a", None, "SERVER", "frontend"),
        make("b", "a", "CLIENT", "frontend"),
        make("b", None, "SERVER", "backend", shared=True),
    ]
    assert [*spans[:2], make("b", "a", "SERVER", "backend", shared=True)] == merge_spans(spans[::-1])


def test_missing_shared_flag_is_filled_in() -> None:
    """A server under its client's id is the shared side, flag or not."""
    spans = [make("b", "a", "SERVER", "backend"), make("b", "a", "CLIENT", "frontend")]
    assert [
        make("b", "a", "CLIENT", "frontend"),
        make("b", "a", "SERVER", "backend", shared=True),
    ] == merge_spans(spans)


def test_longest_trace_id_is_taken_for_all() -> None:
    """Spans whose service cut the trace id get it whole."""
    spans = [
        make("a", None, "SERVER", "frontend", trace=LONG),
        make("b", "a", "CLIENT", "frontend", trace=LONG),
        make("b", "a", "SERVER", "backend", trace=SHORT, shared=True),
    ]
    assert [LONG] * 3 == [span.trace_id for span in merge_spans(spans)]


def test_parts_without_endpoint_join_the_first_side() -> None:
    """What says not where it is from belongs to the client, not to the server."""
    spans = [
        make("b", "a", tags={"service": "frontend"}, timestamp=1),
        make("b", "a", "SERVER", "backend", shared=True),
        make("b", "a", duration=10),
    ]
    assert [
        make("b", "a", tags={"service": "frontend"}, timestamp=1, duration=10),
        make("b", "a", "SERVER", "backend", shared=True),
    ] == merge_spans(spans)


def test_servers_at_different_addresses_stay_apart() -> None:
    """A retry behind a proxy may reach two servers under one id."""
    spans = [
        make("b", "a", "CLIENT", "frontend", timestamp=1, notes=((3, "flush"),)),
        make("b", "a", "SERVER", "backend", ip="1.2.3.4", shared=True),
        make("b", "a", "SERVER", "backend", ip="1.2.3.5", shared=True),
        make("b", "a", "CLIENT", "frontend", duration=10),
    ]
    assert [
        make("b", "a", "CLIENT", "frontend", timestamp=1, duration=10, notes=((3, "flush"),)),
        make("b", "a", "SERVER", "backend", ip="1.2.3.4", shared=True),
        make("b", "a", "SERVER", "backend", ip="1.2.3.5", shared=True),
    ] == merge_spans(spans)


def test_halves_of_an_endpoint_are_put_together() -> None:
    """Name and address that came in two parts make one endpoint, per side."""
    spans = [
        make("b", "a", "CLIENT", "frontend"),
        make("b", "a", "CLIENT", None, ip="1.2.3.4"),
        make("b", "a", "SERVER", None, ip="1.2.3.5", shared=True),
        make("b", "a", "SERVER", "backend", shared=True),
    ]
    assert [
        make("b", "a", "CLIENT", "frontend", ip="1.2.3.4"),
        make("b", "a", "SERVER", "backend", ip="1.2.3.5", shared=True),
    ] == merge_spans(spans)


def test_later_part_completes_the_earlier() -> None:
    """Known fields stay, unknown ones are filled in, tags and annotations are united, sorted and single."""
    first = make("1", None, "CLIENT", "web", name="get", timestamp=5, tags={"b": "1"}, notes=((2, "y"), (1, "x")))
    late = make("1", "9", "SERVER", "web", "db", name="post", duration=7, tags={"a": "2", "b": "3"}, notes=((2, "y"),))
    assert [
        make(
            "1", "9", "CLIENT", "web", "db",
            name="get", timestamp=5, duration=7, tags={"a": "2", "b": "3"}, notes=((1, "x"), (2, "y")),
        )
    ] == merge_spans([first, late])  # fmt: skip


def test_spans_without_their_parent_stay_as_they_are() -> None:
    """A missing parent is no reason to change anything."""
    spans = [make("b", "a", "SERVER", "backend", ip="1.2.3.4"), make("c", "a", "SERVER", "backend")]
    assert spans == merge_spans(spans)


def shape(node: Node) -> dict[str, object]:
    """Return the tree as nested dicts of short ids, the server's side of an id marked by its service."""
    return {_label(child.span): shape(child) for child in node.children}


def _label(span: Span | None) -> str:
    if span is None:
        return "?"
    place = f"@{span.service or ''}" if span.shared else ""
    return span.id.lstrip("0") + place


def test_tree_follows_parent_ids_in_any_order() -> None:
    """A chain is a chain, whichever span comes first."""
    spans = [make("a"), make("b", "a"), make("c", "b"), make("d", "c")]
    tree = build_tree(spans[::-1])
    assert ("a", {"b": {"c": {"d": {}}}}) == (_label(tree.root.span), shape(tree.root))


def test_shared_server_is_the_child_of_its_client() -> None:
    """What the server does hangs beneath the server."""
    spans = [make("a"), make("b", "a"), make("b", "a", shared=True), make("c", "b")]
    assert {"b": {"b@": {"c": {}}}} == shape(build_tree(spans).root)


def test_shared_root_is_the_child_of_its_client() -> None:
    """Also when the shared id is the root's."""
    spans = [make("a"), make("a", shared=True), make("b", "a"), make("c", "b")]
    assert {"a@": {"b": {"c": {}}}} == shape(build_tree(spans).root)


def test_children_find_their_own_server_among_two() -> None:
    """Where two servers answered one id, the place tells whose child a span is."""
    spans = [
        make("a"),
        make("b", "a"),
        make("b", "a", None, "foo", shared=True),
        make("b", "a", None, "bar", shared=True),
        make("c", "b", None, "bar"),
        make("d", "b", None, "foo"),
    ]
    assert {"b": {"b@bar": {"c": {}}, "b@foo": {"d": {}}}} == shape(build_tree(spans[::-1]).root)


def test_second_root_hangs_beneath_the_first() -> None:
    """There is one root; by id, as Zipkin has it."""
    tree = build_tree([make("b", name="second"), make("a", name="first")])
    assert ("a", {"b": {}}) == (_label(tree.root.span), shape(tree.root))


def test_headless_trace_has_a_root_without_span() -> None:
    """Orphans stand side by side beneath what is missing."""
    tree = build_tree([make("b", "a"), make("c", "a"), make("d", "a")])
    assert (None, {"b": {}, "c": {}, "d": {}}) == (tree.root.span, shape(tree.root))


def test_children_are_in_time_order_untimed_first() -> None:
    """The order of reports does not matter."""
    spans = [make("1"), make("a", "1", timestamp=2), make("b", "1", timestamp=1), make("c", "1")]
    assert {"c": {}, "b": {}, "a": {}} == shape(build_tree(spans).root)
    assert ["c", "b", "a"] == list(shape(build_tree(spans).root))


def test_circle_is_lost_and_can_be_adopted() -> None:
    """Spans that are each other's parents appear once, cut at the earliest."""
    tree = build_tree([make("1"), make("2", "3", timestamp=5), make("3", "2", timestamp=9)])
    assert {} == shape(tree.root)
    tree.adopt_lost()
    assert {"2": {"3": {}}} == shape(tree.root)


def test_second_span_under_a_taken_id_can_be_adopted() -> None:
    """Two services that made the same id do not hide each other."""
    spans = [make("1"), make("2", "1", None, "web", timestamp=1), make("2", "1", None, "app", timestamp=2)]
    tree = build_tree(spans)
    tree.adopt_lost()
    assert [("1", None), ("2", "app"), ("2", "web")] == sorted(
        (span.id.lstrip("0"), span.service) for _, span in tree.root.spans()
    )


def test_deep_chain_needs_no_recursion() -> None:
    """Five thousand calls in a row, and a circle of as many, are ordinary input."""
    chain = [make("1"), *(make(f"{number:x}", f"{number - 1:x}") for number in range(2, 5_001))]
    circle = [make(f"{number:x}", f"{number + 1:x}") for number in range(10_000, 14_999)]
    circle.append(make(f"{14_999:x}", f"{10_000:x}"))
    tree = build_tree([*chain, *circle])
    tree.adopt_lost()
    assert 10_000 == sum(1 for _ in tree.root.spans())


def test_endpoints_are_completed_not_overwritten() -> None:
    """What is known first is kept."""
    assert Endpoint("a", "1.1.1.1", None, 80) == Endpoint("a").merged_with(Endpoint("b", "1.1.1.1", None, 80))
