"""The context in other threads."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

import clew

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def instrumented(clew_spans: object) -> Iterator[None]:
    clew.instrument("threads")
    clew.instrument("threads")
    yield
    clew.uninstrument("threads")


def span_id() -> str | None:
    context = clew.get_trace_context()
    return context and context.span_id


def test_job_runs_in_the_context_of_its_submitter() -> None:
    """submit and map take the active span along."""
    with ThreadPoolExecutor(2) as pool, clew.start_span("work") as work:
        assert work.span_id == pool.submit(span_id).result()
        assert [work.span_id] * 3 == list(pool.map(lambda _: span_id(), range(3)))


def test_jobs_leave_nothing_to_each_other() -> None:
    """One worker: a job outside of any trace sees none, also after one that left a span open and made it start."""
    with ThreadPoolExecutor(1) as pool:
        with clew.start_span("work"):
            pool.submit(clew.start_span, "left open").result()
        assert pool.submit(span_id).result() is None


def test_each_job_has_its_own_trace() -> None:
    """Two hundred jobs of as many traces over four workers do not mix."""
    with ThreadPoolExecutor(4) as pool:
        jobs = []
        for _ in range(200):
            with clew.start_span("work") as work:
                jobs.append((work.span_id, pool.submit(span_id)))
        assert [expected for expected, _ in jobs] == [job.result() for _, job in jobs]


def test_job_s_arguments_and_errors_are_its_own() -> None:
    """Results, keyword arguments and exceptions pass unchanged."""
    with ThreadPoolExecutor(1) as pool, clew.start_span("work"):
        assert 8 == pool.submit(int, "10", base=8).result()
        assert isinstance(pool.submit(lambda: 1 / 0).exception(), ZeroDivisionError)


async def test_run_in_executor_and_to_thread() -> None:
    """Both of asyncio's ways into a thread keep the trace."""
    with clew.start_span("work") as work:
        assert work.span_id == await asyncio.get_running_loop().run_in_executor(None, span_id)
        assert work.span_id == await asyncio.to_thread(span_id)


def test_thread_and_timer_begin_in_the_context_of_their_starter() -> None:
    """By target, by subclass, and later."""
    seen: list[str | None] = []

    class Worker(threading.Thread):
        def run(self) -> None:
            seen.append(span_id())

    with clew.start_span("work") as work:
        threads = [threading.Thread(target=lambda: seen.append(span_id())), Worker()]
        threads.append(threading.Timer(0, lambda: seen.append(span_id())))
        for thread in threads:
            thread.start()
    for thread in threads:
        thread.join()
    assert [work.span_id] * 3 == seen


def test_thread_outside_a_trace_is_left_alone() -> None:
    """Without an active span nothing is put into a thread."""
    seen: list[str | None] = []
    thread = threading.Thread(target=lambda: seen.append(span_id()))
    thread.start()
    thread.join()
    assert [None] == seen
    assert "run" not in vars(thread)


def test_thread_is_freed() -> None:
    """No reference cycle keeps a finished thread."""
    gc.disable()
    try:
        with clew.start_span("work"):
            thread = threading.Thread(target=span_id)
            thread.start()
        thread.join()
        reference = weakref.ref(thread)
        del thread
        assert reference() is None
    finally:
        gc.enable()
