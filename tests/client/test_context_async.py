"""The active span across asyncio's tasks, threads, time-outs, cancellations and timers."""

from __future__ import annotations

import asyncio
import gc
import sys
from typing import TYPE_CHECKING

import pytest

import clew
from clew._tracer import start_entry_span

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from client.recording import RecordingSender


def active_id() -> str | None:
    context = clew.get_trace_context()
    return context.span_id if context else None


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
    """Whether that task has a span of its own or only inherited this one: here the span around it is active again."""
    with clew.start_span("root") as root:
        span = clew.start_span("handed over")

        async def finisher() -> None:
            with clew.start_span("finisher") as own:
                span.finish()
                assert own.span_id == active_id()
            assert root.span_id == active_id()

        await asyncio.create_task(finisher())
        assert root.span_id == active_id()
        inherited = clew.start_span("inherited")

        async def end() -> None:
            inherited.finish()

        await asyncio.create_task(end())
        assert root.span_id == active_id()
    assert active_id() is None
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


async def test_plain_async_generator_closed_by_another_task(sender: RecordingSender):
    """The task inherited the generator's span; where the generator was begun the span around it is active again."""

    async def stream() -> AsyncIterator[int]:
        with clew.start_span("plain"):
            yield 1

    with clew.start_span("root") as root:
        generator = stream()
        await generator.__anext__()
        await asyncio.create_task(generator.aclose())
        assert root.span_id == active_id()
    assert active_id() is None


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
    before = _living_spans()

    def tick(left: int) -> None:
        span = clew.start_span("tick")
        if left:
            asyncio.get_running_loop().call_soon(tick, left - 1)
        else:
            clew.flush()
            held.set_result(_living_spans() - before)
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
    before = _living_spans()

    def tick(left: int) -> None:
        clew.start_span("never finished")
        if left:
            asyncio.get_running_loop().call_soon(tick, left - 1)
        else:
            held.set_result(_living_spans() - before)  # now, while the last one's context lives

    tick(20_000)
    assert 8_000 > await held  # 1,000, and those of the time until the next look: 256 on average
