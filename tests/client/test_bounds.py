"""What a span takes from the application is bounded when it is put there: the queue counts spans, not bytes."""

from __future__ import annotations

from collections import UserDict
from typing import TYPE_CHECKING, Any

import clew

if TYPE_CHECKING:
    from collections.abc import Callable

    from client.recording import RecordingSender


class Silent:
    """Its text is an exception."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class Heavy(str):
    """Text that carries something."""

    def __str__(self) -> str:
        return self


def finished(sender: RecordingSender) -> dict[str, Any]:
    clew.flush()
    (span,) = sender.spans
    return span


def test_long_names_are_cut_before_the_queue(sender: RecordingSender):
    """Whether given at the start or later."""
    spans = [clew.start_span("n" * 1_000_000), clew.start_span("short")]
    spans[1].name = "m" * 1_000_000
    for span in reversed(spans):
        span.finish()
        assert 200 == len(span.name)


def test_names_without_text_lose_no_span(sender: RecordingSender):
    """What cannot be said is said."""
    name: Any = Silent()
    with clew.start_span(name):
        pass
    assert "<Silent: no text, RuntimeError>" == finished(sender)["name"]
    assert 0 == clew.stats()["dropped"]


def test_tag_keys_are_cut_and_text(sender: RecordingSender):
    """Long ones, numbers, lists, keys without text; in all three ways that a tag is given."""
    keys: list[Any] = ["k" * 1_000_000, 7, Silent(), Heavy("heavy")]
    expected = {f"{'k' * 99}…": "v", "7": "v", "<Silent: no text, RuntimeError>": "v", "heavy": "v"}
    with clew.start_span("span", tags=dict.fromkeys(keys, "v")) as span:
        pass
    assert expected == span.tags
    with clew.start_span("span") as span:
        for key in keys:
            span.tag(key, "v")
        unhashable: Any = ["a list"]
        span.tag(unhashable, "v")
    assert {**expected, "['a list']": "v"} == span.tags
    assert all(type(key) is str for key in span.tags)


def test_tags_beyond_the_limit_are_counted_not_kept(sender: RecordingSender):
    """A loop that tags without end keeps 64; what is known already may change."""
    with clew.start_span("span", tags={f"key {number}": number for number in range(70)}) as span:
        for number in range(5_000):
            span.tag(f"more {number}", "v")
        span.tag("key 0", "changed")
        assert 65 == len(span.tags)
    tags = finished(sender)["tags"]
    assert ("tags=5006", "changed", "63") == (tags["clew.cut"], tags["key 0"], tags["key 63"])
    assert 65 == len(tags)


def test_a_failure_is_told_by_a_span_that_is_full_of_tags(sender: RecordingSender):
    """What a failed span is looked at for comes last, and is not what is left out."""
    span = clew.start_span("span")
    for number in range(100):
        span.tag(f"key {number}", "v")
    span.set_error(ValueError("no"))
    span.finish()
    tags = finished(sender)["tags"]
    assert ("no", "ValueError", "tags=36") == (tags["error"], tags["error.type"], tags["clew.cut"])
    assert "error.stack" in tags


def test_remote_endpoint_is_cut_and_text(sender: RecordingSender):
    """Anything may come as the other side, and none of it loses the span."""
    service: Any = Silent()
    ip: Any = 7
    port: Any = Silent()
    with clew.start_span("span") as span:
        span.set_remote("s" * 1_000_000, "i" * 1_000_000, 10**5_000)
        assert span.remote is not None
        assert (200, 200, 0) == (len(span.remote.service or ""), len(span.remote.ip or ""), span.remote.port)
        span.set_remote(service, ip, port)
    assert {"serviceName": "<Silent: no text, RuntimeError>", "ipv4": "7"} == finished(sender)["remoteEndpoint"]


def test_annotations_are_cut_and_have_a_time(sender: RecordingSender):
    """A text without end, an object without text, times that are none."""
    text: Any = Silent()
    when: Any = "noon"
    with clew.start_span("span") as span:
        span.annotate("a" * 1_000_000)
        span.annotate(text)
        span.annotate("when", when)
        span.annotate("never", 10**5_000)
        for _ in range(1_000):
            span.annotate("again")
        assert span.annotations is not None
        assert 65 == len(span.annotations)
    values = [annotation["value"] for annotation in finished(sender)["annotations"]]
    assert [1_024, "<Silent: no text, RuntimeError>", "when", "never"] == [len(values[0]), *values[1:4]]


def test_a_mapping_that_fails_is_no_reason_to_raise(sender: RecordingSender):
    """The span is there, and says that its tags are not."""

    class Failing(UserDict[str, object]):
        def keys(self) -> Any:
            raise RuntimeError("no keys")

    with clew.start_span("span", tags=Failing(a=1)):
        pass
    assert ["clew.bad_tags"] == list(finished(sender)["tags"])


def test_memory_of_a_full_queue_is_bounded(run_program: Callable[..., object]):
    """While the collector is away, 3,000 spans with a megabyte in every place stay below 40 MB."""
    run_program("""
        import logging, tracemalloc
        import clew

        logging.getLogger("clew").disabled = True

        class Away:
            max_message_bytes = 100_000
            def send(self, messages, kind="spans"):
                raise OSError("away")
            def close(self):
                pass

        clew.configure("bounds", Away(), queue_size=10_000, exit_timeout=0)
        clew.start_span("first").finish()
        tracemalloc.start()
        for number in range(3_000):
            long = f"{number}" + "x" * 1_000_000
            with clew.start_span(long, tags={long: long}) as span:
                span.tag("a" + long, long)
                span.annotate(long)
                span.set_remote(long, long)
                span.set_error(long)
        assert clew.stats()["queued"] > 2_000, clew.stats()
        held, _ = tracemalloc.get_traced_memory()
        assert held < 40_000_000, held
    """)
