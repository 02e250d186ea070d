"""Spans that begin and end in the garbage collector: in finalizers, abandoned generators, signal handlers, callbacks.

Before 3.12 the collector runs in the middle of what CPython does to a context; these programs crashed there, or lost
variables. They must do as well on every other version.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def test_garbage_collection_never_breaks_the_context(run_program: Callable[..., object]):
    """Before 3.12 a collection in the middle of setting the variable crashed, or lost variables of the context."""
    run_program("""
        import contextvars, gc
        import clew
        clew.configure(reporter="none")
        others = [contextvars.ContextVar(f"other {number}") for number in range(6)]

        @clew.traced
        def steps(itself):
            with clew.start_span("inner"):
                yield

        def abandon():
            itself = []
            itself.append(steps(itself))
            next(itself[0])

        def work():
            kept = []
            for other in others:
                other.set(1)
            for number in range(10_000):
                gc.set_threshold(1 + number // 50)
                with clew.start_span("root"):
                    abandon()
                    kept.append([])
                    if len(kept) > 100 + number % 7:
                        kept.clear()
                    with clew.start_span("child"):
                        context = contextvars.copy_context()
                        assert all(var in context for var in others), number
                        del context

        contextvars.Context().run(work)
    """)


def test_signals_while_spans_are_made(run_program: Callable[..., object]):
    """A handler that makes spans, every 0.2 ms, takes no variable of the program from its context."""
    run_program("""
        import contextvars, signal
        import clew

        clew.configure(reporter="none")
        own = contextvars.ContextVar("own")
        ticks = 0

        def tick(*_):
            global ticks
            with clew.start_span("tick"):
                ticks += 1

        signal.signal(signal.SIGALRM, tick)
        own.set("mine")
        kept = []
        signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
        for number in range(12_000):
            with clew.start_span("work"):
                kept.append([number])
            context = contextvars.copy_context()
            assert context[own] == "mine" and len(context) == len(list(context)), number
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert ticks and clew.get_trace_context() is None
    """)


def test_everything_at_once(run_program: Callable[..., object]):
    """Signals, finalizers, abandoned generators, callbacks of the collector, several threads, small thresholds."""
    run_program("""
        import contextvars, gc, signal, threading
        import clew

        clew.configure(reporter="none")
        others = [contextvars.ContextVar(f"other {number}") for number in range(6)]
        wrong = []

        def nested(name):
            before = clew.get_trace_context()
            with clew.start_span(name) as outer, clew.start_span("inner") as inner:
                if inner.parent_id != outer.span_id or clew.get_trace_context().span_id != inner.span_id:
                    wrong.append(name)
            after = clew.get_trace_context()
            if after != before and (after is None or after.span_id != before.parent_id):  # else it ended meanwhile
                wrong.append(f"after {name}: {before}, {after}")

        class Finalized:
            def __init__(self, span=None, ended=None):
                self.itself, self.span, self.ended = self, span, ended

            def __del__(self):
                nested("finalizer")
                if self.span:
                    self.span.finish()
                    self.ended.append(True)

        @clew.traced
        def steps(itself):
            with clew.start_span("step"):
                yield

        def abandon():
            itself = []
            itself.append(steps(itself))
            next(itself[0])

        def work(base):
            for index, other in enumerate(others):
                other.set(base + index)
            kept = []
            for number in range(300):
                gc.set_threshold(1 + number // 10, 2, 2)
                with clew.start_span("root") as root:
                    abandon()
                    Finalized()
                    kept.append([number])
                    with clew.start_span("child") as child:
                        index = number % len(others)
                        others[index].set(base + index)
                        context = contextvars.copy_context()
                        if [base + i for i in range(len(others))] != [context.get(other) for other in others]:
                            wrong.append(f"variables of {base}")
                        if child.parent_id != root.span_id:
                            wrong.append("parent")
                    ended = []
                    Finalized(clew.start_span("ended by a finalizer"), ended)
                    while not ended:
                        gc.collect()
                    if clew.get_trace_context().span_id != root.span_id:
                        wrong.append("the ended span is active")
                if clew.get_trace_context() is not None:
                    wrong.append("something is active")

        gc.callbacks.insert(0, lambda phase, info: nested(phase))
        gc.callbacks.append(lambda phase, info: nested(phase))
        signal.signal(signal.SIGALRM, lambda *_: nested("signal"))
        threads = [threading.Thread(target=contextvars.Context().run, args=(work, base)) for base in (1_000, 2_000)]
        for thread in threads:
            thread.start()
        signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
        work(3_000)
        signal.setitimer(signal.ITIMER_REAL, 0)
        for thread in threads:
            thread.join()
        assert not wrong, wrong[:5]
        assert gc.isenabled()
    """)


def test_what_a_finalizer_sets_is_kept(run_program: Callable[..., object]):
    """A finalizer that sets a variable of the program may run whenever a span is made, but not inside of it."""
    run_program("""
        import contextvars, gc
        import clew

        clew.configure(reporter="none")
        own = contextvars.ContextVar("own", default=None)
        last = None

        class Setting:
            def __init__(self):
                self.itself = self

            def __del__(self):
                global last
                last = [object()]
                own.set(last)

        def work():
            for number in range(20_000):
                gc.set_threshold(1 + number % 40)
                Setting()
                with clew.start_span("span"):
                    pass
                assert own.get() is last, number

        contextvars.Context().run(work)
    """)


def test_collection_that_is_off_stays_off(run_program: Callable[..., object]):
    """A program that switched the collector off finds it off, one that did not finds it on."""
    run_program("""
        import gc
        import clew

        clew.configure(reporter="none")
        for on in (False, True, False):
            (gc.enable if on else gc.disable)()
            with clew.start_span("a"), clew.start_span("b"):
                assert gc.isenabled() is on
            assert gc.isenabled() is on
    """)
