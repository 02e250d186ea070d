"""clew: follow one request through all your Python services.

::

    import clew

    clew.configure(service="orders")
    clew.instrument()

The names here are the whole of the client's interface, together with ``clew.logging``, ``clew.integrations`` and
``clew.testing``. Nothing happens at import.
"""

from __future__ import annotations

from clew._context import TraceContext, get_trace_context
from clew._span import Span
from clew._traced import traced
from clew._tracer import (
    configure,
    finish_span,
    flush,
    reset_trace_context,
    set_trace_context,
    shutdown,
    start_span,
    stats,
)
from clew.integrations import instrument, uninstrument

__version__ = "0.1.0"

__all__ = [
    "Span",
    "TraceContext",
    "configure",
    "finish_span",
    "flush",
    "get_trace_context",
    "instrument",
    "reset_trace_context",
    "set_trace_context",
    "shutdown",
    "start_span",
    "stats",
    "traced",
    "uninstrument",
]
