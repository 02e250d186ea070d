"""Spans of responses whose body is still to come: they end with it, break off with it, or go when nobody wants it.

Between the client integrations and their libraries. The span is kept beside the response, by its identity and a weak
reference: nothing hangs on the response, which programs pickle, copy and cache.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from clew._span import Span

UNCLOSED_TAG: Final = "clew.unclosed"  # nobody read the body to its end or closed the response


class Bodies:
    """The spans of one library's open responses. Safe in any thread, and when the garbage collector runs."""

    def __init__(self) -> None:
        self._open: dict[int, tuple[weakref.ref[Any], Span]] = {}

    def follow(self, response: object, span: Span) -> None:
        """Have ``end``, or the response's own end, end the span."""
        key = id(response)
        try:
            self._open[key] = weakref.ref(response, lambda _: self._forgotten(key)), span
        except TypeError:  # the application's own kind of response, which takes no weak reference
            span.finish()

    def is_open(self, response: object) -> bool:
        """Tell whether a span waits for this response's end."""
        return id(response) in self._open

    def end(self, response: object, error: BaseException | None = None) -> None:
        """End the span of a response, as failed if its body broke off. Does nothing for one that has none, or twice."""
        found = self._open.pop(id(response), None)
        if found is None:
            return
        span = found[1]
        if error is not None:
            span.set_error(error)
        span.finish()

    def _forgotten(self, key: int) -> None:
        found = self._open.pop(key, None)
        if found is not None:
            finish_unclosed(found[1])


def finish_unclosed(span: Span) -> None:
    """End the span of a response that nobody closed, and say so on it. For finalizers; does nothing if it has ended."""
    if span.duration_ns < 0:
        span.tags[UNCLOSED_TAG] = "true"
        span.finish()
