"""The active span across tasks, threads, generators, cancellations and out-of-order finishes."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

import clew
from clew._tracer import start_entry_span

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

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


# Generators


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


# asyncio


async def test_two_hundred_tasks_do_not_mix(sender: RecordingSender):
    """Concurrent tasks with several spans and switches each: every child is in its own task's trace."""

    async def request(number: int) -> None:
        with start_entry_span(f"server {number}", {}) as server:
            for step in range(3):
                with clew.start_span(f"step {number}.{step}") as span:
                    await asyncio.sleep(0)
                    assert (server.trace_id, span.span_id, server.span_id, True) == clew.get_trace_context()
                await asyncio.sleep(0.001 * (number % 3))
                assert server.span_id == active_id()

    await asyncio.gather(*(request(number) for number in range(200)))
    assert active_id() is None
    clew.flush()
    servers = {span["traceId"]: span for span in sender.spans if span.get("kind") == "SERVER"}
    assert (200, 800) == (len(servers), len(sender.spans))
    for span in sender.spans:
        if "kind" not in span:
            server = servers[span["traceId"]]
            assert server["id"] == span["parentId"]
            assert server["name"].split()[1] == span["name"].split()[1].split(".")[0]


async def test_gathered_tasks_are_siblings(sender: RecordingSender):
    """Each is a child of the span that gathered them, none of another."""

    @clew.traced("task")
    async def task() -> None:
        await asyncio.sleep(0.001)

    with clew.start_span("root") as root:
        await asyncio.gather(*(task() for _ in range(5)))
    clew.flush()
    assert [root.span_id] * 5 == [span["parentId"] for span in sender.spans if span["name"] == "task"]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="TaskGroup came with 3.11")
async def test_task_group_children_and_cancellation(sender: RecordingSender):
    """One child fails, the others are cancelled: every span ends, each with its own error."""

    @clew.traced
    async def fails() -> None:
        raise ValueError("broken")

    @clew.traced
    async def waits() -> None:
        await asyncio.Event().wait()

    with pytest.raises(ExceptionGroup), clew.start_span("root") as root:  # noqa: F821, PT012 - 3.11
        async with asyncio.TaskGroup() as group:
            group.create_task(waits())
            group.create_task(fails())
    assert active_id() is None
    clew.flush()
    assert {"ExceptionGroup", "asyncio.exceptions.CancelledError", "ValueError"} == {
        span["tags"]["error.type"] for span in sender.spans
    }
    assert 2 == sum(span.get("parentId") == root.span_id for span in sender.spans)


async def test_cancelled_task_ends_its_span(sender: RecordingSender):
    """Cancellation passes through, and the canceller's own context is as before."""

    async def work() -> None:
        with clew.start_span("work"):
            await asyncio.Event().wait()

    with clew.start_span("root") as root:
        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert root.span_id == active_id()
    clew.flush()
    assert "asyncio.exceptions.CancelledError" == sender.span("work")["tags"]["error.type"]


async def test_wait_for_time_out_ends_the_span(sender: RecordingSender):
    """A time-out inside a span unwinds to the caller's."""
    with clew.start_span("root") as root:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(_hang(), 0.01)
        assert root.span_id == active_id()
    clew.flush()
    assert root.span_id == sender.span("hang")["parentId"]


@clew.traced("hang")
async def _hang() -> None:
    await asyncio.Event().wait()


async def test_to_thread_carries_the_context(sender: RecordingSender):
    """The thread's spans are children; what it leaves open stays in the thread."""

    def work() -> str | None:
        clew.start_span("left open")
        return active_id()

    with clew.start_span("root") as root:
        inner = await asyncio.to_thread(work)
        assert root.span_id == active_id()
        assert inner not in (None, root.span_id)


async def test_background_task_outlives_its_request(sender: RecordingSender):
    """A task begun inside a request goes on in its trace after the request's span is finished."""
    release = asyncio.Event()

    async def background() -> str:
        await release.wait()
        with clew.start_span("background") as span:
            return span.trace_id

    with start_entry_span("GET /", {}) as server:
        task = asyncio.create_task(background())
    release.set()
    assert server.trace_id == await task
    assert active_id() is None
    clew.flush()
    assert server.span_id == sender.span("background")["parentId"]


async def test_span_finished_in_another_task(sender: RecordingSender):
    """Neither task's context changes but the finisher's own copy of the span."""
    with clew.start_span("root") as root:
        span = clew.start_span("handed over")

        async def finisher() -> None:
            with clew.start_span("finisher") as own:
                span.finish()
                assert own.span_id == active_id()

        await asyncio.create_task(finisher())
        assert span.span_id == active_id()
    clew.flush()
    assert {root.span_id} == {sender.span(name)["parentId"] for name in ("handed over",)}


async def test_async_generator_closed_early_in_another_task(sender: RecordingSender):
    """``aclose`` by another task ends the span there without touching that task's own."""

    @clew.traced("stream")
    async def stream() -> AsyncIterator[int]:
        with clew.start_span("inner"):
            for number in range(10):
                yield number

    generator = stream()
    async for _ in generator:
        assert active_id() is None
        break

    async def closer() -> None:
        with clew.start_span("closer") as own:
            await generator.aclose()
            assert own.span_id == active_id()

    await asyncio.create_task(closer())
    assert active_id() is None
    clew.flush()
    assert sender.span("stream")["id"] == sender.span("inner")["parentId"]
    assert {"stream", "inner", "closer"} == {span["name"] for span in sender.spans}
    assert "tags" not in sender.span("stream")


async def test_plain_async_generator_closed_in_another_task(sender: RecordingSender):
    """A suspended ``with`` of an async generator finished by the loop's own clean-up raises nothing."""

    async def stream() -> AsyncIterator[int]:
        with clew.start_span("plain"):
            yield 1
            yield 2

    with start_entry_span("GET /", {}):
        generator = stream()
        await generator.__anext__()
    await asyncio.create_task(generator.aclose())
    assert active_id() is None
    clew.flush()
    assert {"plain", "GET /"} == {span["name"] for span in sender.spans}


async def test_span_of_an_abandoned_async_generator_is_reported(sender: RecordingSender):
    """Dropped without a close, the loop's hook closes it in a task of its own."""

    @clew.traced("abandoned")
    async def stream() -> AsyncIterator[int]:
        yield 1
        yield 2

    async for _ in stream():
        break
    gc.collect()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    clew.flush()
    assert "abandoned" == sender.span("abandoned")["name"]
    assert active_id() is None


# Memory


async def test_finished_spans_of_a_rescheduling_loop_are_let_go(sender: RecordingSender):
    """A timer that starts itself again inside its own span keeps one span alive, not all of them."""
    held = asyncio.get_running_loop().create_future()

    def tick(left: int) -> None:
        span = clew.start_span("tick")
        if left:
            asyncio.get_running_loop().call_soon(tick, left - 1)
        else:
            clew.flush()
            held.set_result(_living_spans())
        span.finish()

    tick(2_000)
    assert 20 > await held
    clew.flush()
    assert 2_001 == len(sender.spans)


def _living_spans() -> int:
    gc.collect()
    return sum(type(thing) is clew.Span for thing in gc.get_objects())


async def test_unfinished_spans_of_a_rescheduling_loop_are_bounded():
    """Spans that nobody finishes do not pile up behind the active one."""
    clew.configure(reporter="none")
    held = asyncio.get_running_loop().create_future()

    def tick(left: int) -> None:
        clew.start_span("never finished")
        if left:
            asyncio.get_running_loop().call_soon(tick, left - 1)
        else:
            held.set_result(_living_spans())  # now, while the last one's context lives

    tick(20_000)
    assert 8_000 > await held  # 1,000, and those of the time until the next look: 256 on average


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
