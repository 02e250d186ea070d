"""Headers in and out: X-, W3C Trace Context level 2, B3; what is malformed is as if absent."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

import clew
from clew._context import RemoteSpan, Trace
from clew._propagation import FORMATS, HEADERS, Remote, extract, inject, parse_tracestate
from clew._tracer import outgoing_headers, start_entry_span

if TYPE_CHECKING:
    from client.recording import RecordingSender

T = "12345678901234567890123456789012"
S = "1234567890123456"
P = "00000000000000ab"
ALL = ("x", "w3c", "b3")


def node(**trace: object) -> RemoteSpan:
    made = Trace(T, True, lambda span: None, 0)
    for name, value in trace.items():
        setattr(made, name, value)
    return RemoteSpan(made, S, P)


# X-


def test_x_headers_are_read():
    """The three headers and the decision."""
    headers = {"x-trace-id": T, "x-span-id": S, "x-parent-id": P, "x-sampled": "0"}
    assert Remote(T, S, P, False) == extract(headers, ALL)


def test_x_trace_id_alone_is_enough():
    """A caller that knows only the trace joins it, without a parent."""
    assert Remote(T) == extract({"x-trace-id": T}, ALL)


@pytest.mark.parametrize("bad", ["", "x", "0" * 16, S + "0", S + ", " + S, "\x00" * 16])
def test_bad_x_span_id_leaves_the_trace(bad: str):
    """The trace id counts although the span id is nonsense; the parent of nonsense is nonsense."""
    assert Remote(T) == extract({"x-trace-id": T, "x-span-id": bad, "x-parent-id": P}, ALL)


@pytest.mark.parametrize(
    ("text", "sampled"),
    [
        ("1", True),
        ("0", False),
        ("true", True),
        ("False", False),
        ("TRUE", True),
        (" 0 ", False),
        ("2", None),
        ("", None),
    ],
)
def test_x_sampled(text: str, sampled: bool | None):
    """The decision may be 1/0 or true/false in any case; anything else is no decision."""
    assert Remote(T, sampled=sampled) == extract({"x-trace-id": T, "x-sampled": text}, ALL)


def test_decision_alone_is_kept():
    """``X-Sampled: 0`` without ids: a new trace that is not reported."""
    assert Remote(None, sampled=False) == extract({"x-sampled": "0"}, ALL)
    assert Remote(None, sampled=False) == extract({"x-trace-id": "bad", "x-sampled": "0"}, ALL)


# W3C


def test_traceparent_is_read():
    """Version 00, sampled."""
    assert Remote(T, S, None, True) == extract({"traceparent": f"00-{T}-{S}-01"}, ALL)


@pytest.mark.parametrize(
    ("flags", "sampled", "random"),
    [
        ("00", False, False),
        ("01", True, False),
        ("02", False, True),
        ("03", True, True),
        ("ff", True, True),
        ("fc", False, False),
    ],
)
def test_traceparent_flags(flags: str, sampled: bool, random: bool):
    """Bit 0 is sampled, bit 1 random (level 2); the others are reserved and ignored."""
    assert Remote(T, S, None, sampled, False, random) == extract({"traceparent": f"00-{T}-{S}-{flags}"}, ALL)


@pytest.mark.parametrize("blank", [" ", "\t", "\t ", ""])
def test_traceparent_may_have_blanks_around(blank: str):
    """Optional white space around a field's value is not part of it."""
    assert Remote(T, S, None, True) == extract({"traceparent": f"{blank}00-{T}-{S}-01{blank}"}, ALL)


@pytest.mark.parametrize("text", [f"cc-{T}-{S}-01", f"cc-{T}-{S}-01-what-the-future-will-be-like", f"01-{T}-{S}-01-"])
def test_traceparent_of_a_future_version_is_read_as_far_as_known(text: str):
    """A higher version may have more fields after another dash."""
    assert Remote(T, S, None, True) == extract({"traceparent": text}, ALL)


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"00-{T}-{S}-01.",
        f"00-{T}-{S}-01-what-the-future-will-be-like",
        f"cc-{T}-{S}-01.what-the-future-will-be-like",
        f"ff-{T}-{S}-01",
        f".0-{T}-{S}-01",
        f"0.-{T}-{S}-01",
        f"000-{T}-{S}-01",
        f"0000-{T}-{S}-01",
        f"0-{T}-{S}-01",
        f"00-{'0' * 32}-{S}-01",
        f"00-.{T[1:]}-{S}-01",
        f"00-{T[:-1]}.-{S}-01",
        f"00-{T}3-{S}-01",
        f"00-{T[:-1]}-{S}-01",
        f"00-{T}-{'0' * 16}-01",
        f"00-{T}-.{S[1:]}-01",
        f"00-{T}-{S}7-01",
        f"00-{T}-{S[:-1]}-01",
        f"00-{T}-{S}-.0",
        f"00-{T}-{S}-0.",
        f"00-{T}-{S}-001",
        f"00-{T}-{S}-1",
        f"00-{'ABCDEF' + T[6:]}-{S}-01",
        f"00-{T}-{'ABCDEF' + S[6:]}-01",
        f"00-{T}-{S}-0A",
        f"00-{T}-{S}-01,00-{T}-{S}-01",
        f"00-{T}-{S}-01, 00-{T}-{S}-01",
        f"cc-{T}-{S}-01,cc-{T}-{S}-01",
        f"00_{T}_{S}_01",
        f"00-{T}-{S}-01\n",
        f"\n00-{T}-{S}-01",
        f"00-{T}-{S}-0\uff11",
        f"00-{T}-{S}-01" * 100_000,
    ],
)
def test_malformed_traceparent_starts_new_trace(text: str):
    """Every way in which the W3C's own suite breaks the header, and some more."""
    assert extract({"traceparent": text, "tracestate": "foo=1"}, ALL) is None


def test_tracestate_without_traceparent_is_discarded():
    """The state belongs to an id that is not there."""
    assert extract({"tracestate": "foo=1"}, ALL) is None


KEY_CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789_-*/"
VALUE_CHARACTERS = "".join(map(chr, [*range(0x20, 0x2C), *range(0x2D, 0x3D), *range(0x3E, 0x7F)]))


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("foo=1,bar=2", "foo=1,bar=2"),
        ("foo=1 \t , \t bar=2, \t baz=3", "foo=1,bar=2,baz=3"),
        ("\t foo=1 \t", "foo=1"),
        (",foo=1,,bar=2,", "foo=1,bar=2"),
        (f"{KEY_CHARACTERS}={VALUE_CHARACTERS}", f"{KEY_CHARACTERS}={VALUE_CHARACTERS}"),
        (f"{KEY_CHARACTERS}@a-z0-9_-*/=1", f"{KEY_CHARACTERS}@a-z0-9_-*/=1"),
        ("foo=1," + "z" * 256 + "=1", "foo=1," + "z" * 256 + "=1"),
        ("t" * 241 + "@" + "v" * 14 + "=1", "t" * 241 + "@" + "v" * 14 + "=1"),
        ("a=" + "v" * 256, "a=" + "v" * 256),
        (",".join(f"bar{n:02}={n}" for n in range(32)), ",".join(f"bar{n:02}={n}" for n in range(32))),
        ("foo@=1,bar=2", "foo@=1,bar=2"),
        ("foo@@bar=1,bar=2", "foo@@bar=1,bar=2"),
        ("foo@bar@baz=1,bar=2", "foo@bar@baz=1,bar=2"),
        ("foo=1,foo=1", "foo=1,foo=1"),
        ("foo=1,bar=2,foo=2", "foo=1,bar=2,foo=2"),
        ("foo=1," + "t" * 242 + "@v=1", "foo=1," + "t" * 242 + "@v=1"),
        ("foo=1,t@" + "v" * 15 + "=1", "foo=1,t@" + "v" * 15 + "=1"),
        ("0a@b=1", "0a@b=1"),
    ],
)
def test_valid_tracestate_is_passed_on(text: str, kept: str):
    """All legal characters and the limits themselves, keys that come twice; blanks around members go."""
    assert kept == parse_tracestate(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " , ,",
        "foo",
        "foo=",
        "foo=,bar=3",
        "=1",
        "foo =1",
        "foo= ",
        "FOO=1",
        "foo.bar=1",
        "@foo=1,bar=2",
        "foo=bar=baz",
        "foo=1," + "z" * 257 + "=1",
        "foo=1," + "t@" * 128 + "v=1",
        "a=" + "v" * 257,
        "a=\x7f",
        "a=\x1f",
        "a=é",
        "a=1\n",
        "a=1\r\nX-Evil: 1",
        ",".join(f"bar{n:02}={n}" for n in range(33)),
        "a=1" + "," * 1_000_000,
    ],
)
def test_invalid_tracestate_is_discarded_whole(text: str):
    """One bad member or one too many."""
    assert "" == parse_tracestate(text)
    assert Remote(T, S, None, True) == extract({"traceparent": f"00-{T}-{S}-01", "tracestate": text}, ALL)


def test_tracestate_of_512_characters_is_passed_on():
    """The length that every participant has to pass on, and more."""
    text = ",".join(f"k{n:02}=" + "v" * 28 for n in range(16))[:512]
    assert 512 <= len(text) + 1
    assert text == parse_tracestate(text)


# B3


@pytest.mark.parametrize(
    ("headers", "remote"),
    [
        ({"x-b3-traceid": T, "x-b3-spanid": S, "x-b3-parentspanid": P, "x-b3-sampled": "1"}, Remote(T, S, P, True)),
        ({"x-b3-traceid": T.upper(), "x-b3-spanid": S}, Remote(T, S)),
        ({"x-b3-traceid": S, "x-b3-spanid": S}, Remote(S, S)),
        ({"x-b3-traceid": T, "x-b3-spanid": S, "x-b3-sampled": "true"}, Remote(T, S, None, True)),
        ({"x-b3-traceid": T, "x-b3-spanid": S, "x-b3-flags": "1"}, Remote(T, S, None, True, True)),
        ({"x-b3-traceid": T, "x-b3-spanid": S, "x-b3-flags": "1", "x-b3-sampled": "0"}, Remote(T, S, None, True, True)),
        ({"x-b3-traceid": T, "x-b3-spanid": S, "x-b3-flags": "0", "x-b3-sampled": "0"}, Remote(T, S, None, False)),
        ({"x-b3-traceid": T, "x-b3-spanid": S, "x-b3-parentspanid": "bad"}, Remote(T, S)),
        ({"x-b3-sampled": "0"}, Remote(None, sampled=False)),
        ({"x-b3-flags": "1"}, Remote(None, sampled=True, debug=True)),
        ({"x-b3-traceid": "bad", "x-b3-spanid": S, "x-b3-sampled": "0"}, Remote(None, sampled=False)),
        ({"b3": f"{T}-{S}-1-{P}"}, Remote(T, S, P, True)),
        ({"b3": f"{T}-{S}-0"}, Remote(T, S, None, False)),
        ({"b3": f"{T}-{S}-d"}, Remote(T, S, None, True, True)),
        ({"b3": f"{T}-{S}"}, Remote(T, S)),
        ({"b3": f"{S}-{S}-1"}, Remote(S, S, None, True)),
        ({"b3": "0"}, Remote(None, sampled=False)),
        ({"b3": "1"}, Remote(None, sampled=True)),
        ({"b3": "d"}, Remote(None, sampled=True, debug=True)),
        ({"b3": f" {T}-{S}-1 "}, Remote(T, S, None, True)),
        ({"b3": f"{T}-{S}-1", "x-b3-traceid": "a" * 32, "x-b3-spanid": P}, Remote(T, S, None, True)),
        ({"b3": "garbage", "x-b3-traceid": T, "x-b3-spanid": S}, Remote(T, S)),
    ],
)
def test_b3_is_read(headers: dict[str, str], remote: Remote):
    """Several headers or the single one, which wins; debug means sampled; the decision may come alone."""
    assert remote == extract(headers, ALL)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-",
        "--",
        "---",
        "x",
        T,
        f"{T}-",
        f"-{S}",
        f"{T}-{'0' * 16}-1",
        f"{'0' * 32}-{S}-1",
        f"{T}-{S}-1-{P}-",
        f"{T}-{S}-1-{P}-more",
        f"{T}\0-{S}",
    ],
)
def test_malformed_b3_single_is_as_if_absent(text: str):
    """No id and no decision come of it."""
    assert extract({"b3": text}, ("b3single",)) is None


def test_b3_multiple_headers_need_both_ids():
    """A trace id without the caller's span is half a position."""
    assert extract({"x-b3-traceid": T}, ALL) is None


# Order of preference and conflicts


def test_order_of_preference_is_an_option():
    """Which format wins where several name different traces."""
    other, third = "a" * 32, "b" * 32
    headers = {"x-trace-id": T, "traceparent": f"00-{other}-{S}-01", "b3": f"{third}-{S}-1"}
    assert [T, other, third] == [
        found.trace_id for order in (ALL, ("w3c", "x", "b3"), ("b3", "x", "w3c")) if (found := extract(headers, order))
    ]
    assert extract(headers, ("b3",)) == Remote(third, S, None, True)


def test_malformed_preferred_format_gives_way_to_the_next():
    """A broken X-Trace-ID does not hide a good traceparent."""
    assert Remote(T, S, None, True) == extract({"x-trace-id": "broken", "traceparent": f"00-{T}-{S}-01"}, ALL)


def test_tracestate_stays_with_its_own_trace():
    """The state of a traceparent is kept where the X- headers name the same trace, and dropped where another."""
    same = {"x-trace-id": T, "x-span-id": P, "traceparent": f"00-{T}-{S}-03", "tracestate": "foo=1"}
    assert Remote(T, P, None, True, False, True, "foo=1") == extract(same, ALL)
    other = {**same, "x-trace-id": "a" * 32}
    assert Remote("a" * 32, P) == extract(other, ALL)


def test_the_preferred_decision_wins():
    """``X-Sampled: 0`` beside a sampled traceparent of the same trace."""
    headers = {"x-trace-id": T, "x-sampled": "0", "traceparent": f"00-{T}-{S}-01"}
    found = extract(headers, ALL)
    assert found is not None
    assert (T, False) == (found.trace_id, found.sampled)


# Out


def test_headers_out_by_default():
    """The X- headers and traceparent; sampled needs no header of its own."""
    assert {
        "X-Trace-ID": T,
        "X-Span-ID": S,
        "X-Parent-ID": P,
        "traceparent": f"00-{T}-{S}-01",
    } == inject(node(), ("x", "w3c"))


def test_unsampled_is_told_in_every_format():
    """The callee must not begin to report what its caller does not."""
    assert {
        "X-Trace-ID": T,
        "X-Span-ID": S,
        "X-Parent-ID": P,
        "X-Sampled": "0",
        "traceparent": f"00-{T}-{S}-00",
        "X-B3-TraceId": T,
        "X-B3-SpanId": S,
        "X-B3-ParentSpanId": P,
        "X-B3-Sampled": "0",
        "b3": f"{T}-{S}-0-{P}",
    } == inject(node(sampled=False), FORMATS)


def test_random_flag_and_tracestate_are_passed_on():
    """Level 2's random bit goes with the trace id, the state as it came."""
    headers = inject(node(random=True, tracestate="foo=1,bar=2"), ("w3c",))
    assert {"traceparent": f"00-{T}-{S}-03", "tracestate": "foo=1,bar=2"} == headers


def test_debug_is_passed_on_in_b3():
    """Debug implies sampled, which then is not sent."""
    assert {
        "X-B3-TraceId": T,
        "X-B3-SpanId": S,
        "X-B3-ParentSpanId": P,
        "X-B3-Flags": "1",
        "b3": f"{T}-{S}-d-{P}",
    } == inject(node(debug=True), ("b3", "b3single"))


def test_short_trace_id_is_padded_for_w3c_only():
    """W3C has no 16 character trace ids."""
    headers = inject(node(trace_id=S), FORMATS)
    assert f"00-{'0' * 16}{S}-{S}-01" == headers["traceparent"]
    assert [S, S, f"{S}-{S}-1-{P}"] == [headers[name] for name in ("X-Trace-ID", "X-B3-TraceId", "b3")]


def test_root_has_no_parent_header():
    """A span without a parent says nothing of one."""
    root = node()
    root.parent_id = None
    headers = inject(root, FORMATS)
    assert not {"X-Parent-ID", "X-B3-ParentSpanId"} & headers.keys()
    assert f"{T}-{S}-1" == headers["b3"]


HEX32 = st.integers(1, 2**128 - 1).map(lambda n: f"{n:032x}")
HEX16 = st.integers(1, 2**64 - 1).map(lambda n: f"{n:016x}")


@given(HEX32, HEX16, st.none() | HEX16, st.booleans(), st.booleans(), st.sampled_from(FORMATS))
def test_what_goes_out_comes_in(
    trace_id: str, span_id: str, parent_id: str | None, sampled: bool, random: bool, name: str
):
    """Injecting and extracting is a round trip, for each format as far as it can say."""
    trace = Trace(trace_id, sampled, lambda span: None, 0, random=random)
    out = inject(RemoteSpan(trace, span_id, parent_id), (name,))
    found = extract({key.lower(): value for key, value in out.items()}, (name,))
    assert found is not None
    assert (trace_id, span_id) == (found.trace_id, found.span_id)
    assert sampled is (found.sampled is not False)
    assert found.parent_id == (None if name == "w3c" else parent_id)
    assert found.random is (random and name == "w3c")


@given(st.dictionaries(st.sampled_from(sorted(HEADERS)), st.text()), st.permutations(FORMATS))
def test_no_header_makes_extract_raise(headers: dict[str, str], order: list[str]):
    """Any text in any header: a position or none, and what goes out of it is clean."""
    found = extract(headers, order)
    if found is not None and found.trace_id is not None:
        assert re.fullmatch("[0-9a-f]{16}|[0-9a-f]{32}", found.trace_id)
        assert re.fullmatch(r"[\x20-\x7e]*", found.tracestate)


NEARLY = st.lists(
    st.sampled_from(
        [T, S, T.upper(), "-", "-", "00", "01", "cc", "ff", "d", "1", "0", ",", " ", "\t", "\0", "=", "a", "é"]
    ),
    max_size=9,
).map("".join)


@given(st.dictionaries(st.sampled_from(sorted(HEADERS)), NEARLY), st.permutations(FORMATS))
def test_nearly_valid_headers_give_clean_ids(headers: dict[str, str], order: list[str]):
    """Pieces of valid headers in wrong places never let anything but canonical ids through."""
    found = extract(headers, order)
    if found is not None:
        assert found.trace_id is None or re.fullmatch("(?!0+$)([0-9a-f]{16}|[0-9a-f]{32})", found.trace_id)
        assert found.span_id is None or re.fullmatch("(?!0+$)[0-9a-f]{16}", found.span_id)


# Through the tracer


def test_server_span_takes_the_callers_place(sender: RecordingSender):
    """The caller's trace id stays, its span is the parent, the span's own id is fresh."""
    with start_entry_span("GET /", {"x-trace-id": T, "x-span-id": S, "x-parent-id": P}) as span:
        assert (T, S) == (span.trace_id, span.parent_id)
        assert span.span_id not in (S, P)
    clew.flush()
    assert (T, S, "SERVER") == tuple(sender.span("GET /")[key] for key in ("traceId", "parentId", "kind"))


def test_unsampled_caller_is_followed_but_not_reported(sender: RecordingSender):
    """Ids go on and go out, with the decision; nothing is reported."""
    with start_entry_span("GET /", {"traceparent": f"00-{T}-{S}-00"}), clew.start_span("inner") as inner:
        assert (T, False) == (clew.get_trace_context().trace_id, clew.get_trace_context().sampled)
        headers = outgoing_headers(inner)
        assert (f"00-{T}-{inner.span_id}-00", "0") == (headers["traceparent"], headers["X-Sampled"])
    clew.flush()
    assert [] == sender.spans


def test_decision_without_ids_is_followed(sender: RecordingSender):
    """A proxy that says only "no" is obeyed under a fresh trace id."""
    with start_entry_span("GET /", {"b3": "0"}) as span:
        assert re.fullmatch("[0-9a-f]{32}", span.trace_id)
        assert (False, None) == (span.sampled, span.parent_id)
    clew.flush()
    assert [] == sender.spans


def test_own_root_says_that_its_id_is_random(sender: RecordingSender):
    """Ids made here are random in their last seven bytes, which level 2 lets callees know."""
    with clew.start_span("root") as span:
        assert f"00-{span.trace_id}-{span.span_id}-03" == outgoing_headers(span)["traceparent"]


def test_propagate_option_chooses_formats():
    """``propagate`` names what goes out, ``extract`` what comes in."""
    clew.configure(reporter="none", propagate="b3single", extract=["b3"])
    with start_entry_span("GET /", {"x-trace-id": "a" * 32, "b3": f"{T}-{S}-1"}) as span:
        assert {"b3": f"{T}-{span.span_id}-1-{S}"} == outgoing_headers(span)


def test_entry_span_begins_afresh_inside_another_trace(sender: RecordingSender):
    """What was active before has no part in the request, and is active again after it."""
    with clew.start_span("outside") as outside:
        with start_entry_span("GET /", {}) as entry:
            assert outside.trace_id != entry.trace_id
            assert entry.parent_id is None
        assert outside.span_id == clew.get_trace_context().span_id


@pytest.mark.parametrize("headers", [{"traceparent": "\ud800" * 55}, {"b3": "-" * 100_000}, {"x-trace-id": "١" * 32}])
def test_hostile_headers_begin_a_new_trace(headers: dict[str, str], sender: RecordingSender):
    """The application sees a request as any other."""
    with start_entry_span("GET /", headers) as span:
        assert re.fullmatch("[0-9a-f]{32}", span.trace_id)
        assert span.parent_id is None
    clew.flush()
    assert 1 == len(sender.spans)


def test_trace_id_alone_takes_its_parent_from_the_traceparent_of_that_trace():
    """A gateway that adds X-Trace-ID, and no more, does not cut the trace in two."""
    headers = {"x-trace-id": T, "traceparent": f"00-{T}-{S}-01"}
    assert Remote(T, S, None, True) == extract(headers, ALL)
