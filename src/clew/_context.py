"""Where a request is: trace and span ids, and the one context variable that carries them.

First stop of a span's way. Everything else reads the active node from here: ``start_span`` to find the parent, the log
filter to stamp a record, the propagation to write headers.

Two kinds of node can be active: a ``Span`` (``_span.py``), or a ``RemoteSpan``, which ``set_trace_context`` makes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, NamedTuple

try:
    from _random import Random  # what the module random is made of, without the 3 ms of importing it
except ImportError:  # not CPython
    from random import Random  # type: ignore[assignment]

from clew import _clock

if TYPE_CHECKING:
    from clew._span import Span

_DASHES: Final = (8, 13, 18, 23)  # of a UUID's text form, RFC 9562 section 4

# Span ids need spread and speed, not secrecy: a Mersenne Twister of our own, seeded by the system, is ten times faster
# than os.urandom and, unlike the module-level functions, untouched by an application's random.seed().
_random = Random()
random_bits: Callable[[int], int] = _random.getrandbits

# Durations come from the monotonic clock; only a trace's first span asks for the time of day. Both in nanoseconds.
ticks_ns: Callable[[], int] = _clock.perf_counter_ns
_epoch_ns: Callable[[], int] = _clock.time_ns


class TraceContext(NamedTuple):
    """The position of the running code in its trace: an immutable value, safe to pass to threads and processes.

    ``trace_id`` is 32 (or, from an old caller, 16) lower-case hex characters, ``span_id`` 16, ``parent_id`` 16 or None
    in a root. ``sampled`` tells whether this trace's spans are reported.
    """

    trace_id: str
    span_id: str
    parent_id: str | None
    sampled: bool


class Trace:
    """What the spans of one trace share in this process: made once per request, one reference in each span.

    ``epoch_offset_ns`` maps the monotonic clock to the epoch. It is read once per trace, so the spans of a trace keep
    their order and distance even when the system's clock is set meanwhile (Brave's TickClock does the same).
    """

    __slots__ = ("debug", "dropped", "epoch_offset_ns", "random", "report", "sampled", "trace_id", "tracestate")

    def __init__(
        self,
        trace_id: str,
        sampled: bool,
        report: Callable[[Span], None],
        epoch_offset_ns: int,
        tracestate: str = "",
        debug: bool = False,
        random: bool = False,
    ) -> None:
        self.trace_id = trace_id
        self.sampled = sampled
        self.report = report if sampled else _ignore  # where a finished span goes
        self.epoch_offset_ns = epoch_offset_ns
        self.tracestate = tracestate  # W3C, passed through as it came
        self.debug = debug  # B3's debug flag: sampled, and the collector should not drop it either
        self.random = random  # W3C level 2: the right-most 7 bytes of the trace id are random
        self.dropped = 0  # spans of this trace that were dropped here and not yet told to the collector


def _ignore(span: Span) -> None:
    """Report nothing of a trace that is not sampled."""


class Node:
    """A span as its children see it: a ``Span`` of this process, or a ``RemoteSpan``."""

    __slots__ = ("parent_id", "previous", "span_id", "token", "trace")

    trace: Trace
    span_id: str
    parent_id: str | None
    previous: Node | None  # what is active again when this span ends
    token: object  # of the variable, while the span is active; None when it has ended; or ENDED_ELSEWHERE

    @property
    def trace_id(self) -> str:
        """The trace's id, 32 or 16 lower-case hex characters."""
        return self.trace.trace_id

    @property
    def sampled(self) -> bool:
        """Whether the spans of this trace are reported."""
        return self.trace.sampled


class RemoteSpan(Node):
    """A span of another process, of which only the ids are known here."""

    __slots__ = ()

    def __init__(self, trace: Trace, span_id: str, parent_id: str | None) -> None:
        self.trace = trace
        self.span_id = span_id
        self.parent_id = parent_id
        self.previous = None
        self.token = None


# The mark of a span that ended in another context than the one it was started in, which could not be told. Whoever
# still finds it active passes over it.
ENDED_ELSEWHERE: Final = object()

current: ContextVar[Node | None] = ContextVar("clew", default=None)
if sys.version_info < (3, 13) and sys.implementation.name == "cpython":
    from clew import _guarded

    if sys.version_info < (3, 12):
        current = _guarded.GuardedVar(current, Node)  # type: ignore[assignment]
    else:
        current = _guarded.CheckedVar(current)  # type: ignore[assignment]


def active() -> Node | None:
    """Return the span that the running code is in: the innermost one that did not end in some other context."""
    node = current.get()
    while node is not None and node.token is ENDED_ELSEWHERE:
        node = node.previous
    return node


def get_trace_context() -> TraceContext | None:
    """Return the ids of the active span, or None outside a trace. Safe in any thread or task; about 0.2 us."""
    node = active()
    if node is None:
        return None
    return TraceContext(node.trace.trace_id, node.span_id, node.parent_id, node.trace.sampled)


def new_trace_id() -> str:
    """Return a random UUID4 as 32 lower-case hex characters. Its last 7 bytes are random, as W3C level 2 asks."""
    bits = random_bits(128) & ~(0xF << 76) & ~(0x3 << 62) | 0x4 << 76 | 0x2 << 62  # version 4, variant 10: RFC 9562 5.4
    return bits.to_bytes(16, "big").hex()


def new_span_id() -> str:
    """Return 64 random bits as 16 lower-case hex characters, never all zero."""
    return (random_bits(64) or 1).to_bytes(8, "big").hex()


def parse_trace_id(text: object) -> str | None:
    """Make a trace id canonical: 32 or 16 hex in any case, or a dashed UUID. None for anything else or all zeros."""
    if not isinstance(text, str):
        return None
    if len(text) == 36 and all(text[i] == "-" for i in _DASHES):
        text = text.replace("-", "")
        if len(text) != 32:
            return None
    elif len(text) != 32 and len(text) != 16:
        return None
    return _canonical(text)


def parse_span_id(text: object) -> str | None:
    """Make a span id canonical: 16 hex in any case. None for anything else or all zeros."""
    return _canonical(text) if isinstance(text, str) and len(text) == 16 else None


def _canonical(text: str) -> str | None:
    try:
        canonical = bytes.fromhex(text).hex()  # ten times faster than to look at each character
    except ValueError:
        return None
    if len(canonical) != len(text):  # fromhex() passes over white space between bytes
        return None
    return canonical if canonical.strip("0") else None


def epoch_offset_ns() -> int:
    """Return what to add to ``time.perf_counter_ns()`` to get nanoseconds since the epoch, by the clock now."""
    return _epoch_ns() - ticks_ns()


def use_sources(
    ticks: Callable[[], int] = _clock.perf_counter_ns,
    epoch: Callable[[], int] = _clock.time_ns,
    bits: Callable[[int], int] = _random.getrandbits,
) -> None:
    """Replace clocks and randomness, for tests (``clew.testing``); without arguments, put the real ones back."""
    global ticks_ns, _epoch_ns, random_bits
    ticks_ns, _epoch_ns, random_bits = ticks, epoch, bits


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_random.seed)  # the copied state would give parent and child the same ids
