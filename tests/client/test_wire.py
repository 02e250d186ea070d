"""Spans and log records as bytes: literal objects, limits, and nothing that an application puts in breaks them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import clew
from clew import wire
from clew._context import Trace
from clew._span import Span, make_span
from clew.wire import LogLine, encode_log, encode_service, encode_span, encode_span_within, join

if TYPE_CHECKING:
    from client.recording import RecordingSender

T = "12345678901234567890123456789012"
S = "1234567890123456"
P = "00000000000000ab"
SERVICE = encode_service("orders")
EPOCH_NS = 1_700_000_000_000_000_000


def span(name: Any = "GET /", kind: str | None = None, tags: Any = None, parent: str | None = None) -> Span:
    made = make_span(Trace(T, True, lambda span: None, EPOCH_NS), S, parent, name, kind, tags or {})
    made.start_ns, made.duration_ns = 1_234_567, 2_345_678
    return made


def encoded(made: Span) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(encode_span(made, SERVICE))
    return found


def test_smallest_span():
    """What every span has."""
    assert {
        "traceId": T,
        "id": S,
        "name": "GET /",
        "timestamp": 1_700_000_000_001_234,
        "duration": 2_345,
        "localEndpoint": {"serviceName": "orders"},
    } == encoded(span())


def test_span_with_everything():
    """Every field of Zipkin's that clew writes."""
    made = span("pay", "CLIENT", {"http.method": "GET", "ü": 'q"\\\n'}, P)
    made.trace.debug = True
    made.set_remote("bank", "10.0.0.1", 443)
    made.annotate("cache miss", 2_000_000)
    assert {
        "traceId": T,
        "id": S,
        "parentId": P,
        "kind": "CLIENT",
        "name": "pay",
        "timestamp": 1_700_000_000_001_234,
        "duration": 2_345,
        "localEndpoint": {"serviceName": "orders"},
        "tags": {"http.method": "GET", "ü": 'q"\\\n'},
        "annotations": [{"timestamp": 1_700_000_000_002_000, "value": "cache miss"}],
        "remoteEndpoint": {"serviceName": "bank", "ipv4": "10.0.0.1", "port": 443},
        "debug": True,
    } == encoded(made)


def test_remote_endpoint_by_parts():
    """IPv6 has a field of its own; nothing known, nothing written."""
    made = span()
    made.set_remote(ip="::1")
    assert {"ipv6": "::1"} == encoded(made)["remoteEndpoint"]
    made.set_remote()
    assert "remoteEndpoint" not in encoded(made)


@pytest.mark.parametrize(
    ("port", "written"), [("443", 443), (80.0, 80), (0, None), (-1, None), (70_000, None), ("x", None)]
)
def test_remote_port_is_a_port_or_left_out(port: Any, written: int | None):
    """Zipkin refuses a whole batch for one bad port."""
    made = span()
    made.set_remote("bank", port=port)
    assert written == encoded(made)["remoteEndpoint"].get("port")


def test_duration_is_at_least_a_microsecond():
    """Zipkin reads zero as unknown."""
    made = span()
    made.duration_ns = 0
    assert 1 == encoded(made)["duration"]


def test_long_texts_are_cut_and_say_so():
    """Name, service, tag keys and values end in the mark."""
    made = span("n" * 1_000_000, tags={"k" * 500: "short"})
    made.tag("long", "v" * 10_000_000)
    found = encoded(made)
    assert ("n" * 199 + "…", {"k" * 99 + "…": "short", "long": "v" * 1_023 + "…"}) == (found["name"], found["tags"])
    assert "s" * 199 + "…" == json.loads("{" + encode_service("s" * 300) + "}")["localEndpoint"]["serviceName"]


def test_many_tags_are_counted():
    """Sixty-four are kept, the number of the others is told."""
    made = span(tags={f"k{n}": str(n) for n in range(10_000)})
    tags = encoded(made)["tags"]
    assert (65, "63", "tags=9936") == (len(tags), tags["k63"], tags["clew.cut"])


def test_loss_is_told_also_on_a_span_with_too_many_tags():
    """clew's own tags are not what is left out."""
    made = span(tags={f"k{n}": str(n) for n in range(100)})
    made.tags["clew.dropped"] = "queue_full=3"
    made.tags["clew.trace_dropped"] = "2"
    for found in (encoded(made)["tags"], json.loads(encode_span_within(made, SERVICE, 600) or b"null")["tags"]):
        assert ("queue_full=3", "2") == (found["clew.dropped"], found["clew.trace_dropped"])
        assert "clew.cut" in found


def test_many_annotations_are_cut_and_say_so():
    """Sixty-four are kept, and a last one tells of the others."""
    made = span()
    for number in range(5_000):
        made.annotate(f"event {number}", number)
    found = encoded(made)["annotations"]
    assert (65, "event 63") == (len(found), found[63]["value"])
    assert "clew.cut: more than 64 annotations" == found[64]["value"]
    assert 66 > len(made.annotations or [])


class Hostile:
    """An object whose text cannot be had."""

    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3, "3"),
        (True, "true"),
        (None, "None"),
        (1.5, "1.5"),
        (b"\xff\x00", "b'\\xff\\x00'"),
        ("\ud800x", "?x"),
        ("a\0b", "a\0b"),
        ("\u2028</script>", "\u2028</script>"),
        (Hostile(), "<Hostile: no text, RuntimeError>"),
        (["x"], "['x']"),
    ],
)
def test_any_value_becomes_text(value: Any, text: str):
    """Tags and annotations take whatever an application has."""
    made = span()
    made.tag("key", value)
    made.annotate(value, 0)
    assert (text, text) == (encoded(made)["tags"]["key"], encoded(made)["annotations"][0]["value"])


@pytest.mark.parametrize(
    ("key", "text"),
    [(3, "3"), (None, "None"), (b"k", "b'k'"), (("a", 1), "('a', 1)"), ("\ud800", "?"), ([1], "[1]"), ({}, "{}")],
)
def test_any_key_becomes_text(key: Any, text: str):
    """Keys need not be text, nor even hashable."""
    made = span()
    made.tag(key, "v")
    assert {text: "v"} == encoded(made)["tags"]


@pytest.mark.parametrize(
    ("name", "text"), [(7, "7"), (None, "None"), (b"x", "b'x'"), ([1], "[1]"), ("\ud800", "?"), ("", "")]
)
def test_any_name_becomes_text(name: Any, text: str):
    """A name that is not text is made so."""
    assert text == encoded(span(name))["name"]


@pytest.mark.parametrize("bad", [7, ["a"], "text", [("a",)], object()])
def test_bad_tags_do_not_raise(bad: Any, sender: RecordingSender):
    """``tags=`` of a wrong kind is told of in a tag."""
    with clew.start_span("work", tags=bad):
        pass
    clew.flush()
    assert ["clew.bad_tags"] == list(sender.span("work")["tags"])


@pytest.mark.parametrize(
    ("kind", "written"),
    [("client", "CLIENT"), ("SERVER", "SERVER"), ("INTERNAL", None), (7, None), ([], None), (Hostile(), None)],
)
def test_unknown_kind_is_no_kind(kind: Any, written: str | None, sender: RecordingSender):
    """Any case of the four; all else is work inside the process."""
    with clew.start_span("work", kind):
        pass
    clew.flush()
    assert written == sender.span("work").get("kind")


def test_error_tags():
    """The message, the type with its module, and the innermost frames."""
    made = span()
    try:
        json.loads("{")
    except ValueError as error:
        made.set_error(error)
    tags = encoded(made)["tags"]
    assert "json.decoder.JSONDecodeError" == tags["error.type"]
    assert tags["error"].startswith("Expecting property name")
    assert tags["error.stack"].startswith("Traceback")


def test_error_without_text_has_its_type():
    """``error`` is never empty: Zipkin's UI colours by its being there."""
    made = span()
    made.set_error(KeyError())
    assert ("KeyError", "KeyError") == (made.tags["error"], made.tags["error.type"])
    made.set_error("")
    assert "error" == made.tags["error"]


def test_hostile_exceptions_are_told():
    """Endless recursion, huge messages and exceptions that cannot be printed are bounded."""

    class Unprintable(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    def recurse() -> None:
        recurse()

    for raising in (recurse, lambda: (_ for _ in ()).throw(Unprintable()), lambda: int("x" * 10_000_000)):
        made = span()
        try:
            raising()
        except Exception as error:
            made.set_error(error)
        tags = encoded(made)["tags"]
        assert all(len(tags[key]) <= 1_024 for key in ("error", "error.type"))
        assert len(tags["error.stack"]) <= 4_096


def test_span_is_made_to_fit_a_message():
    """Annotations go first, then long values, then all tags; it says so."""
    made = span(tags={f"k{n}": "v" * 1_000 for n in range(60)})
    for number in range(60):
        made.annotate("x" * 1_000, number)
    fitted = encode_span_within(made, SERVICE, 5_000)
    assert fitted is not None
    assert len(fitted) <= 5_000
    tags = json.loads(fitted)["tags"]
    assert ("v" * 63 + "…", True) == (tags["k59"], "too large" in tags["clew.cut"])


def test_span_that_cannot_fit_is_refused():
    """Not even the bones."""
    assert encode_span_within(span("n" * 200), SERVICE, 100) is None


def test_log_line():
    """With all fields, and with those that every record has."""
    assert {
        "timestamp": 5,
        "traceId": T,
        "id": S,
        "service": "orders",
        "level": "ERROR",
        "logger": "app",
        "message": "broken",
        "exception": "Traceback ...",
    } == json.loads(encode_log(LogLine(5, T, S, "orders", "ERROR", "app", "broken", "Traceback ...")))
    assert {"timestamp": 5, "service": "orders", "level": "INFO", "logger": "app", "message": ""} == json.loads(
        encode_log(LogLine(5, None, None, "orders", "INFO", "app", "", None))
    )


def test_long_log_lines_are_cut():
    """The message at its end, a traceback at its beginning: what matters in it is last."""
    found = json.loads(encode_log(LogLine(5, None, None, "s", "INFO", "app", "m" * 100_000, "t" * 100_000 + "end")))
    assert (8_192, "…", 8_192, "…", "end") == (
        len(found["message"]),
        found["message"][-1],
        len(found["exception"]),
        found["exception"][0],
        found["exception"][-3:],
    )


def test_messages_are_framed():
    """An array of spans, an object of log records; the first bytes tell which."""
    assert (b"[{},{}]", b'{"logs":[{}]}') == (join([b"{}", b"{}"], "spans"), join([b"{}"], "logs"))
    assert join([b"{}"], "logs").startswith(wire.LOGS_PREFIX)


TEXT = st.text(st.characters(codec=None, exclude_categories=()), max_size=60)


@given(TEXT, st.dictionaries(TEXT, TEXT, max_size=8), st.lists(TEXT, max_size=4), TEXT)
def test_any_text_survives(name: str, tags: dict[str, str], annotations: list[str], remote: str):
    """Encoding and parsing is a round trip, but for surrogates, which UTF-8 does not have."""

    def clean(text: str) -> str:
        return text.encode("utf-8", "replace").decode()

    made = span(name, tags=tags)
    for value in annotations:
        made.annotate(value, 0)
    made.set_remote(remote)
    found = encoded(made)
    assert clean(name) == found["name"]
    assert {clean(key): clean(value) for key, value in tags.items()} == found.get("tags", {})
    assert [clean(value) for value in annotations] == [event["value"] for event in found.get("annotations", [])]
    assert (clean(remote) or None) == found.get("remoteEndpoint", {}).get("serviceName")


@given(TEXT, TEXT, TEXT, st.none() | TEXT)
def test_any_log_text_survives(service: str, logger: str, message: str, exception: str | None):
    """The same for records."""
    found = json.loads(encode_log(LogLine(1, None, None, service, "INFO", logger, message, exception)))
    assert message.encode("utf-8", "replace").decode() == found["message"]


def test_hostile_names_do_not_fill_the_memory():
    """The cache of quoted names stops to grow."""
    for number in range(10_000):
        encode_span(span(f"GET /hostile/{number}"), SERVICE)
    assert 4_096 >= len(wire._kept_quotes)
