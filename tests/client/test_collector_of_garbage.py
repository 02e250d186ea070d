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

        @clew.traced
        def steps(itself):
            with clew.start_span("inner"):
                yield

        def abandon():
            itself = []
            itself.append(steps(itself))
            next(itself[0])

        def work():
            for number in range(3_000):
                gc.set_threshold(5 + number % 50)
                with clew.start_span("root"):
                    abandon()
                    with clew.start_span("child"):
                        assert current in contextvars.copy_context(), number

        contextvars.copy_context().run(work)
    """)
