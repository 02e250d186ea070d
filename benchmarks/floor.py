"""The floor: the least that a tracer in plain Python can do for a span. Every other figure is held against it.

One slotted object, one context variable set and reset, two readings of the clock, one random id as hex, two tags, one
append. No function call that is not needed, no limit checked, nothing encoded.
"""

from __future__ import annotations

import random
import time
from collections import deque
from contextvars import ContextVar

_current: ContextVar[object] = ContextVar("floor", default=None)
_bits = random.Random().getrandbits
_ticks = time.perf_counter_ns
_queue: deque[_Span] = deque()


class _Span:
    __slots__ = ("duration", "name", "parent", "span_id", "start", "tags")
    parent: object
    span_id: str
    name: str
    tags: dict[str, str]
    start: int
    duration: int


def _span() -> None:
    span = _Span()
    span.parent = _current.get()
    span.span_id = _bits(64).to_bytes(8, "big").hex()
    span.name = "db.query"
    span.tags = {"db.system": "postgresql", "rows": "3"}
    token = _current.set(span)
    span.start = _ticks()
    span.duration = _ticks() - span.start
    _current.reset(token)
    _queue.append(span)


def spans(count: int) -> None:
    """Make this many spans, one after another."""
    for _ in range(count):
        _span()


def discard() -> None:
    """Empty the queue."""
    _queue.clear()
