"""The active span across tasks, threads, generators, cancellations and out-of-order finishes."""

from __future__ import annotations

import contextvars
import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import clew
from clew._tracer import start_entry_span

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from client.recording import RecordingSender

T = "12345678901234567890123456789012"
S = "1234567890123456"


def active_id() -> str | None:
    context = clew.get_trace_context()
    return context.span_id if context else None


def in_thread(work: Callable[[], object]) -> object:
    """Run in a thread of its own, in an empty context."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: contextvars.Context().run(work)).result()


# One thread


def test_no_context_outside_a_trace():
    """Nothing active, nothing told."""
    assert clew.get_trace_context() is None


def test_context_works_before_configure(run_program: Callable[..., object]):
    """A library may ask, start and finish although nobody configured anything."""
    run_program("""
        import clew
        assert clew.get_trace_context() is None
        with clew.start_span("early") as span:
            assert clew.get_trace_context().span_id == span.span_id
        clew.finish_span()
        token = clew.set_trace_context("a" * 32, "b" * 16)
        assert clew.get_trace_context() == ("a" * 32, "b" * 16, None, True)
        clew.reset_trace_context(token)
        assert clew.get_trace_context() is None
        assert clew.flush() and clew.shutdown()
        assert (clew.stats()["dropped"], clew.stats()["no_reporter"]) == (1, 1)
    """)


def test_spans_nest_and_unwind(sender: RecordingSender):
    """Each span is its parent's child and gives the place back."""
    with clew.start_span("a") as a:
        with clew.start_span("b") as b:
            assert (a.trace_id, b.span_id, a.span_id, True) == clew.get_trace_context()
        assert a.span_id == active_id()
    assert active_id() is None
    clew.flush()
    assert ("parentId" in sender.span("a"), a.span_id) == (False, sender.span("b")["parentId"])


def test_call_form_ends_the_active_span(sender: RecordingSender):
    """``finish_span()`` alone, and with a span."""
    a = clew.start_span("a")
    b = clew.start_span("b")
    clew.finish_span()
    assert a.span_id == active_id()
    clew.finish_span(a)
    assert active_id() is None
    clew.finish_span()
    clew.finish_span(b)
    clew.flush()
    assert ["b", "a"] == [span["name"] for span in sender.spans]


def test_finishing_twice_reports_once(sender: RecordingSender):
    """With, call form and method together make one span."""
    with clew.start_span("once") as span:
        span.finish()
        clew.finish_span(span)
    clew.flush()
    assert ["once"] == [span["name"] for span in sender.spans]


def test_parent_finished_before_its_child(sender: RecordingSender):
    """The child stays active, and after it nothing is."""
    a = clew.start_span("a")
    b = clew.start_span("b")
    a.finish()
    assert b.span_id == active_id()
    b.finish()
    assert active_id() is None


def test_every_order_of_finishing_ends_outside(sender: RecordingSender):
    """Four spans in all 24 orders: never an exception, and nothing stays active."""
    from itertools import permutations

    for order in permutations(range(4)):
        spans = [clew.start_span(str(n)) for n in range(4)]
        for n in order:
            spans[n].finish()
        assert active_id() is None, order
    clew.flush()
    assert 96 == len(sender.spans)


def test_span_left_open_in_a_request_does_not_reach_the_next(sender: RecordingSender):
    """The end of the server span ends what its handler forgot."""
    with start_entry_span("first", {}):
        clew.start_span("forgotten")
    assert active_id() is None


def test_given_context_is_the_parent_of_what_starts_in_it(sender: RecordingSender):
    """Spans below a hand-made context are children of its span id."""
    token = clew.set_trace_context(T, S)
    with clew.start_span("child"):
        pass
    clew.reset_trace_context(token)
    clew.flush()
    assert (T, S) == (sender.span("child")["traceId"], sender.span("child")["parentId"])


def test_given_contexts_nest():
    """Each token puts back what it replaced."""
    outer = clew.set_trace_context(T, S)
    inner = clew.set_trace_context("a" * 32, "b" * 16)
    clew.reset_trace_context(inner)
    assert (T, S, None, True) == clew.get_trace_context()
    clew.reset_trace_context(outer)
    clew.reset_trace_context(outer)
    assert clew.get_trace_context() is None


def test_context_value_can_be_given_on():
    """What ``get_trace_context`` returned is accepted, with its decision."""
    clew.set_trace_context(clew.TraceContext(T, S, None, False))
    assert (T, S, None, False) == clew.get_trace_context()


def test_context_reset_in_another_context_changes_nothing_there():
    """A token of another thread neither raises nor touches this one."""
    token = clew.set_trace_context(T, S)

    def elsewhere() -> str | None:
        with clew.start_span("own") as own:
            clew.reset_trace_context(token)
            assert own.span_id == active_id()
        clew.reset_trace_context(token)
        return active_id()

    assert in_thread(elsewhere) is None
    assert S == active_id()


def test_span_finished_in_another_thread(sender: RecordingSender):
    """It is reported, the other thread's place is untouched, and it cannot raise."""
    span = clew.start_span("here")

    def elsewhere() -> None:
        with clew.start_span("there") as there:
            span.finish()
            assert there.span_id == active_id()
        assert active_id() is None

    in_thread(elsewhere)
    clew.flush()
    assert {"here", "there"} == {span["name"] for span in sender.spans}


def test_child_finished_in_another_thread_is_passed_over(sender: RecordingSender):
    """Here the span around it is active again; and when that one ends, none is."""
    with clew.start_span("around") as around:
        child = clew.start_span("child")
        in_thread(child.finish)
        assert around.span_id == active_id()
        with clew.start_span("next"):
            pass
        assert around.span_id == active_id()
    assert active_id() is None
    clew.flush()
    assert around.span_id == sender.span("next")["parentId"]


def test_span_finished_in_a_copy_of_the_context_is_passed_over(sender: RecordingSender):
    """The copy had it as its active one, too; neither place goes on in it."""
    alone = clew.start_span("alone")
    contextvars.copy_context().run(alone.finish)
    assert active_id() is None
    with clew.start_span("around") as around:
        child = clew.start_span("child")
        copy = contextvars.copy_context()
        copy.run(child.finish)
        assert (around.span_id, around.span_id) == (active_id(), copy.run(active_id))
        clew.finish_span()
        assert active_id() is None


def test_several_spans_finished_elsewhere_are_passed_over(sender: RecordingSender):
    """Also where the enclosing span itself ends elsewhere, and above it something is open."""
    root = clew.start_span("root")
    around = clew.start_span("around")
    child = clew.start_span("child")
    in_thread(around.finish)
    assert child.span_id == active_id()
    in_thread(child.finish)
    assert root.span_id == active_id()
    in_thread(root.finish)
    assert active_id() is None


def test_context_that_was_copied_inside_a_span_goes_on_in_it(sender: RecordingSender):
    """What was begun inside a span, and runs after its end, still belongs to it."""
    with clew.start_span("job") as job:
        later = contextvars.copy_context()
    assert (active_id(), job.span_id) == (None, later.run(active_id))


def test_memory_after_the_span_is_finished_elsewhere(sender: RecordingSender):
    """A queued span holds on to no context, and so to nothing of the application."""
    import weakref

    class Payload:
        pass

    own: contextvars.ContextVar[Payload] = contextvars.ContextVar("own")

    def request() -> tuple[clew.Span, weakref.ref[Payload]]:
        payload = Payload()
        own.set(payload)
        span = clew.start_span("span")
        contextvars.copy_context().run(span.finish)
        return span, weakref.ref(payload)

    span, payload = contextvars.Context().run(request)
    gc.collect()
    assert (True, None) == (span.duration_ns >= 0, payload())


# Generators


def test_plain_generator_closed_in_another_thread(sender: RecordingSender):
    """Its span, which is active where the generator was begun, is passed over there."""

    def steps() -> Iterator[int]:
        with clew.start_span("steps"):
            yield 1

    with clew.start_span("root") as root:
        generator = steps()
        next(generator)
        in_thread(generator.close)
        assert root.span_id == active_id()
    assert active_id() is None


def test_plain_generator_suspended_inside_a_span(sender: RecordingSender):
    """Interleaved generators keep their own parents and leave nothing active."""

    def steps(name: str) -> Iterator[str | None]:
        with clew.start_span(name):
            yield active_id()

    with clew.start_span("root") as root:
        first, second = steps("first"), steps("second")
        next(first)
        next(second)
        assert [None, None] == [next(first, None), next(second, None)]
        assert root.span_id == active_id()
    assert active_id() is None


def test_plain_generator_closed_early_inside_a_request(sender: RecordingSender):
    """A suspended generator dropped without a word does not outlive the request."""

    def steps() -> Iterator[int]:
        with clew.start_span("steps"):
            yield 1
            yield 2

    with start_entry_span("GET /", {}):
        generator = steps()
        next(generator)
    del generator
    gc.collect()
    assert active_id() is None
    clew.flush()
    assert "error" not in sender.span("steps").get("tags", {})


def test_traced_generator_does_not_leak_into_its_consumer(sender: RecordingSender):
    """Between steps the consumer is in its own context; inside them the generator is in its span."""
    inside: list[str | None] = []

    @clew.traced("numbers")
    def numbers() -> Iterator[int]:
        for number in range(3):
            inside.append(active_id())
            yield number

    with clew.start_span("consumer") as consumer:
        for _ in numbers():
            assert consumer.span_id == active_id()
            with clew.start_span("between"):
                pass
    clew.flush()
    assert {sender.span("numbers")["id"]} == set(inside)
    assert consumer.span_id == sender.span("numbers")["parentId"]
    assert {consumer.span_id} == {span["parentId"] for span in sender.spans if span["name"] == "between"}


def test_span_inside_a_traced_generator_survives_its_suspension(sender: RecordingSender):
    """A child opened before a yield is still active after it, and only there."""

    @clew.traced("outer")
    def steps() -> Iterator[str | None]:
        with clew.start_span("inner"):
            yield active_id()
            yield active_id()

    found = []
    for span_id in steps():
        assert active_id() is None
        found.append(span_id)
    clew.flush()
    assert [sender.span("inner")["id"]] * 2 == found
    assert sender.span("outer")["id"] == sender.span("inner")["parentId"]


def test_traced_generator_collected_in_another_thread(sender: RecordingSender):
    """The garbage collector ends the span where it likes, and that thread's context stays as it was."""

    @clew.traced("steps")
    def steps() -> Iterator[int]:
        with clew.start_span("inner"):
            yield 1

    held = [steps()]
    next(held[0])

    def elsewhere() -> None:
        with clew.start_span("other") as other:
            held.clear()
            gc.collect()
            assert other.span_id == active_id()
        assert active_id() is None

    in_thread(elsewhere)
    assert active_id() is None
    clew.flush()
    assert {"steps", "inner", "other"} == {span["name"] for span in sender.spans}
    assert sender.span("steps")["id"] == sender.span("inner")["parentId"]


def test_deep_nesting_unwinds(sender: RecordingSender):
    """Five hundred spans inside each other all find their way back."""
    spans = [clew.start_span(str(depth)) for depth in range(500)]
    for span in reversed(spans):
        assert span.span_id == active_id()
        span.finish()
    assert active_id() is None


def test_thread_started_plainly_has_no_context(sender: RecordingSender):
    """Without ``clew.instrument()`` a bare thread begins outside; nothing of another request leaks in."""
    found: list[object] = []
    with clew.start_span("root"):
        thread = threading.Thread(target=lambda: found.append(clew.get_trace_context()))
        thread.start()
        thread.join()
    assert [None] == found
