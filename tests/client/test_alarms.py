"""A signal handler of the program that raises, in whatever code of clew it interrupts."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
from typing import Any

import pytest

import clew
from clew._alarms import is_alarm
from clew.testing import recorded


class Limit(Exception):
    """What a program raises when its time is over."""


LIMITS = """
import clew, functools, logging, signal, sys
import clew.logging
clew.configure(service="w", reporter="none", logs=True)
clew.logging.install()
logging.getLogger().handlers[:] = [logging.NullHandler()]
class Limit(Exception): pass
raised = lost = 0
def limit(*_):
    global raised
    raised += 1
    raise Limit
class Handler:
    def __call__(self, *_): limit()
    def method(self, *_): limit()
HANDLERS = {"function": limit, "partial": functools.partial(limit), "method": Handler().method, "object": Handler()}
signal.signal(signal.SIGALRM, HANDLERS[sys.argv[1]])
class Odd:
    def __str__(self): raise ValueError
def deep(n):
    with clew.start_span("step", tags={"odd": Odd()}) as span:
        span.tag("n", n); span.annotate("here"); logging.warning("line %d", n)
        if n: deep(n - 1)
        else: raise KeyError("k")
def until_it_comes(before):
    while raised == before:
        try: deep(3)
        except KeyError: pass
for i in range(150):
    try:
        signal.setitimer(signal.ITIMER_REAL, .0005 + i % 50 * 1e-5)
        until_it_comes(raised)
        lost += 1
    except Limit: pass
print(lost, raised)
"""


@pytest.mark.parametrize("handler", ["function", "partial", "method", "object"])
def test_what_a_handler_raises_reaches_the_program(handler: str) -> None:
    """A time limit that comes while a span fails, is tagged, or a line is shipped."""
    command = [sys.executable, "-c", LIMITS, handler]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert (0, "0 150\n") == (done.returncode, done.stdout), done.stderr


INTERRUPTED = """
import clew, sys
clew.configure(service="x", reporter="file://" + sys.argv[1])
class Limit(Exception): pass
def stop(frame, event, argument):  # stands for a signal handler that comes just then
    if event == "call" and frame.f_code.co_name == "wait" and frame.f_back.f_code.co_name == "start":
        sys.setprofile(None)
        raise Limit
sys.setprofile(stop)
try:
    with clew.start_span("first"): pass
    print("not interrupted")
except Limit:
    pass
for number in range(100):
    with clew.start_span("later"): pass
print(clew.flush(20), clew.stats()["reported"], clew.stats()["queued"])
"""


def test_an_interrupted_start_of_the_thread_is_made_up_for(tmp_path: Any) -> None:
    """The next span starts it again, and nothing is lost."""
    command = [sys.executable, "-c", INTERRUPTED, str(tmp_path / "spans")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert (0, "True 101 0\n", "") == (done.returncode, done.stdout, done.stderr)


def test_the_application_s_own_failures_are_no_alarms() -> None:
    """What a __str__ raises is not what a handler raises."""

    class Odd:
        def __str__(self) -> str:
            raise Limit

    with recorded("kit") as spans, clew.start_span("x") as span:
        span.tag("odd", Odd())
        span.finish()
    assert "<Odd: no text, Limit>" == spans.spans()[0]["tags"]["odd"]


def test_an_alarm_is_known_by_its_handler() -> None:
    """Also from further up in what the handler calls."""

    def raise_it() -> None:
        raise Limit

    def handler(*_: Any) -> None:
        raise_it()

    before = signal.signal(signal.SIGUSR2, handler)
    try:
        with pytest.raises(Limit) as caught:
            handler()
        with pytest.raises(Limit) as other:
            raise_it()
    finally:
        signal.signal(signal.SIGUSR2, before)
        assert (False, False) == (is_alarm(caught.value), is_alarm(other.value))  # nobody handles it now


def test_an_exception_that_answers_nothing_keeps_its_kind() -> None:
    """One whose attributes raise passes through a span as it is."""

    class Odd(Exception):
        def __getattribute__(self, name: str) -> Any:
            raise ValueError(name)

    passed = False
    with recorded("kit") as spans:
        try:
            with clew.start_span("x"):
                raise Odd
        except Odd:
            passed = True
        assert (True, True) == (passed, "error" in spans.spans()[0]["tags"])


def test_a_token_that_is_none_resets_nothing() -> None:
    """As with every misuse after configure(), nothing is raised."""
    clew.reset_trace_context(None)  # type: ignore[arg-type]
    assert clew.get_trace_context() is None


def test_a_queue_of_large_spans_is_bounded_by_their_size() -> None:
    """With a collector that is away: fewer are kept, the rest is counted."""
    clew.configure(service="x", reporter="http://127.0.0.1:1", queue_size=2_000)
    logging.getLogger("clew").setLevel(logging.CRITICAL)
    try:
        reporter = clew._tracer.tracer().reporter
        for number in range(3_000):
            with clew.start_span("big", tags={f"tag {n}": "é" * 1_000 for n in range(60)}):
                pass
            if number == 50:
                _wait_until(lambda: reporter.spans._limit < 2_000)
        counts = clew.stats()
        assert counts["queued"] <= 2_000 * 4_096 // 60_000 + 300
        assert 3_000 == counts["queued"] + counts["dropped"]
    finally:
        logging.getLogger("clew").setLevel(logging.NOTSET)
        clew.configure(service="-", reporter="none")


def _wait_until(condition: Any) -> None:
    import time

    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
