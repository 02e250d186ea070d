"""The context in other threads."""

from __future__ import annotations

import asyncio
import functools
import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

import clew
from clew.integrations import threads
from clew.testing import FixedClock, recorded

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


class RunIsProperty(threading.Thread):
    @property
    def run(self):  # type: ignore[no-untyped-def, override]
        return lambda: self.seen.append(span_id())  # type: ignore[attr-defined]


class Refusing(threading.Thread):
    def __setattr__(self, name: str, value: object) -> None:
        if name == "run":
            raise AttributeError("run is not to be set")
        super().__setattr__(name, value)

    def run(self) -> None:
        self.seen.append(span_id())  # type: ignore[attr-defined]


class Unhashable(threading.Thread):
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = threading.Thread.__hash__

    def run(self) -> None:
        self.seen.append(span_id())  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", [RunIsProperty, Refusing, Unhashable])
def test_thread_of_any_class_begins_in_the_trace(kind: type[threading.Thread]) -> None:
    """Nothing is put on a thread, so it may forbid that, or compute its run."""
    thread = kind()
    thread.seen = []  # type: ignore[attr-defined]
    with clew.start_span("work") as work:
        before = dict(vars(thread))
        thread.start()
    thread.join()
    assert [work.span_id] == thread.seen  # type: ignore[attr-defined]
    assert set(before) <= set(vars(thread)) <= {*before, "_native_id"}


def test_run_that_the_program_assigns_is_run() -> None:
    """Before the start and in it."""
    seen: list[str | None] = []

    class Late(threading.Thread):
        def start(self) -> None:
            self.run = lambda: seen.append(span_id())  # type: ignore[method-assign]
            super().start()

    first, second = threading.Thread(), Late()
    first.run = lambda: seen.append(span_id())  # type: ignore[method-assign]
    with clew.start_span("work") as work:
        first.start()
        second.start()
    first.join()
    second.join()
    assert [work.span_id] * 2 == seen


def test_start_that_fails_can_be_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Out of threads: the error is Python's own, and the second try is as the first."""
    seen: list[str | None] = []
    thread = threading.Thread(target=lambda: seen.append(span_id()))
    name = "_start_joinable_thread" if hasattr(threading, "_start_joinable_thread") else "_start_new_thread"
    real = getattr(threading, name)

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("can't start new thread")

    with clew.start_span("first"):
        monkeypatch.setattr(threading, name, fail)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            thread.start()
        monkeypatch.setattr(threading, name, real)
    assert {} == threads._starting
    with clew.start_span("second") as second:
        thread.start()
        with pytest.raises(RuntimeError, match="threads can only be started once"):
            thread.start()
    thread.join()
    assert [second.span_id] == seen
    assert {} == threads._starting


def test_failed_start_outside_of_a_trace_inherits_nothing_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that could not be started in a request and is started later by nobody is nobody's."""
    seen: list[str | None] = []
    thread = threading.Thread(target=lambda: seen.append(span_id()))
    name = "_start_joinable_thread" if hasattr(threading, "_start_joinable_thread") else "_start_new_thread"
    with clew.start_span("first"), monkeypatch.context() as patched:
        patched.setattr(threading, name, lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            thread.start()
    thread.start()
    thread.join()
    assert [None] == seen


def test_thread_does_not_end_its_starter_s_span() -> None:
    """finish_span() without a span ends what was begun here, not what this thread began under."""
    with clew.start_span("work") as work:
        thread = threading.Thread(target=clew.finish_span)
        thread.start()
        thread.join()
        assert work.duration_ns < 0


def test_threads_that_a_request_makes_at_once_do_not_mix() -> None:
    """Four hundred threads of as many traces, started by eight starters."""
    wrong: list[tuple[str, str | None]] = []

    def check(expected: str) -> None:
        if span_id() != expected:
            wrong.append((expected, span_id()))

    def begin() -> None:
        for _ in range(50):
            with clew.start_span("work") as work:
                thread = threading.Thread(target=check, args=(work.span_id,))
                thread.start()
            thread.join()

    starters = [threading.Thread(target=begin) for _ in range(8)]
    for starter in starters:
        starter.start()
    for starter in starters:
        starter.join()
    assert [] == wrong


def test_foreign_patch_over_start_stays() -> None:
    """Another tool's wrapper goes on to work when ours is taken out, and again when it is put in."""
    ours, calls = threading.Thread.start, []

    @functools.wraps(ours)
    def foreign(self: threading.Thread) -> None:
        calls.append(self)
        ours(self)

    def inside() -> str | None:
        seen: list[str | None] = []
        thread = threading.Thread(target=lambda: seen.append(span_id()))
        thread.start()
        thread.join()
        return seen[0]

    threading.Thread.start = foreign  # type: ignore[method-assign]
    try:
        with clew.start_span("work") as work:
            assert work.span_id == inside()
            clew.uninstrument("threads")
            assert threading.Thread.start is foreign
            assert inside() is None
            clew.instrument("threads")
            assert work.span_id == inside()
        assert 3 == len([thread for thread in calls if thread.name.startswith("Thread-")])
    finally:
        clew.uninstrument("threads")
        threading.Thread.start = ours  # type: ignore[method-assign]


def test_thread_that_goes_on_for_a_minute_after_its_request_is_nobody_s() -> None:
    """A loop that nothing gives away as a worker; what it does in a span of its own until then stays in the trace."""
    clock = FixedClock()
    seen: list[str | None] = []
    go, gone = [threading.Semaphore(0) for _ in range(3)], threading.Semaphore(0)

    def loop() -> None:
        go[0].acquire()
        seen.append(span_id())
        gone.release()
        go[1].acquire()
        seen.append(span_id())
        with clew.start_span("own"):
            gone.release()
            go[2].acquire()
            seen.append(clew.get_trace_context().trace_id)  # type: ignore[union-attr]
        seen.append(span_id())
        gone.release()

    def step(turn: int) -> None:
        go[turn].release()
        assert gone.acquire(timeout=20)

    with recorded(clock=clock):
        clew.instrument("threads")
        with clew.start_span("request") as request:
            thread = threading.Thread(target=loop)
            thread.start()
            clock.advance(3_600)
            step(0)
        clock.advance(59)
        step(1)
        clock.advance(2)
        step(2)
        thread.join()
    assert [request.span_id, request.span_id, request.trace_id, None] == seen
