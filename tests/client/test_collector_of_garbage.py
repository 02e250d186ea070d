"""Spans that end in the garbage collector: of generators that nobody ran to their end, in cycles."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def test_garbage_collection_never_breaks_the_context(run_program: Callable[..., object]):
    """Before 3.12 a collection in the middle of setting the variable crashed, or lost variables of the context."""
    run_program("""
        import contextvars, gc
        import clew
        from clew._context import current

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
                        assert all(var in context for var in (*others, current)), number
                        del context

        contextvars.Context().run(work)
    """)
