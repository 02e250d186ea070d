"""What goes from one thread to another with its trace: jobs, callbacks, iterables. For the integrations of pools.

A job belongs to whoever handed it in, wherever and whenever it runs, and leaves nothing to the one that runs next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clew._context import Node, RemoteSpan, active, current
from clew._span import Span

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Job:
    """A callable that runs in the trace of the one who made it, or in none."""

    __slots__ = ("_function", "_node")

    def __init__(self, function: Any, node: Node | None) -> None:
        self._function = function
        self._node = node

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        previous = current.get()
        current.set(self._node)
        try:
            return self._function(*args, **kwargs)
        finally:
            current.set(previous)


def carry(function: Any) -> Job:
    """Wrap a callable for another thread, to run in what is active here."""
    return Job(function, detached(active()))


def carry_callback(function: Any) -> Any:
    """Wrap a callable that may be None."""
    return None if function is None else carry(function)


def carry_steps(iterable: Iterable[Any]) -> Iterator[Any]:
    """Have an iterable that another thread will go through be produced in what is active here."""
    return _steps(iterable, detached(active()))


def _steps(iterable: Iterable[Any], node: Node | None) -> Iterator[Any]:
    step = Job(Job(iter, node)(iterable).__next__, node)
    while True:
        try:
            item = step()
        except StopIteration:
            return
        yield item


def detached(node: Node | None) -> Node | None:
    """Return the position of a span without the span: work elsewhere goes on under it, and must not end it."""
    return Detached(node) if isinstance(node, Span) else node


class Detached(RemoteSpan):
    """The position of a span of this process, in another thread. ``tags`` are the span's own, to be looked at only."""

    __slots__ = ("tags",)

    def __init__(self, span: Span) -> None:
        super().__init__(span.trace, span.span_id, span.parent_id)
        self.tags = span.tags
