"""For tests of traced programs: see what spans they make, with clocks and ids that stand still.

::

    def test_order_is_one_trace(clew_spans):
        client.post("/orders")
        assert ["post /orders", "insert orders"] == [span["name"] for span in clew_spans.spans()]

The fixture ``clew_spans`` is there once ``conftest.py`` says ``pytest_plugins = ["clew.testing"]``. Without pytest, use
``with clew.testing.recorded() as spans``. Spans are seen as they travel: dicts of Zipkin v2 JSON.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
from typing import TYPE_CHECKING, Any, Final

from clew import _context, _tracer
from clew._sampler import Sampler
from clew.reporter import Reporter
from clew.wire import join

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clew.senders import Kind

_QUEUE_SIZE: Final = 100_000
_FLUSH_INTERVAL_S: Final = 0.05
_FLUSH_TIMEOUT_S: Final = 10.0


class MemorySender:
    """A sender that keeps what it is given: ``clew.configure(reporter=MemorySender())``. Safe in any thread."""

    max_message_bytes = 10_000_000

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._received: dict[str, list[dict[str, Any]]] = {"spans": [], "logs": []}

    def send(self, messages: list[bytes], kind: Kind = "spans") -> None:
        """Keep one message's worth of spans or log records."""
        decoded = json.loads(join(messages, kind))
        with self._lock:
            self._received[kind].extend(decoded if kind == "spans" else decoded["logs"])

    def close(self) -> None:
        """Nothing to let go of."""

    def spans(self) -> list[dict[str, Any]]:
        """Return every span finished so far, in the order in which they were finished."""
        return self._taken("spans")

    def logs(self) -> list[dict[str, Any]]:
        """Return every log record shipped so far."""
        return self._taken("logs")

    def traces(self) -> dict[str, list[dict[str, Any]]]:
        """Return the spans by trace id, the traces in the order in which their first spans were finished."""
        traces: dict[str, list[dict[str, Any]]] = {}
        for span in self.spans():
            traces.setdefault(span["traceId"], []).append(span)
        return traces

    def clear(self) -> None:
        """Forget what was finished so far."""
        self.spans()
        with self._lock:
            for received in self._received.values():
                received.clear()

    def _taken(self, kind: str) -> list[dict[str, Any]]:
        _tracer.flush(_FLUSH_TIMEOUT_S)
        with self._lock:
            return list(self._received[kind])


class FixedClock:
    """A clock that moves only when told to: ``clock.advance(0.25)`` makes the active span 250 ms longer."""

    def __init__(self, epoch_s: float = 1_700_000_000.0) -> None:
        self._epoch_ns = int(epoch_s * 1e9)
        self._ticks_ns = 0

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._ticks_ns += round(seconds * 1e9)

    def ticks_ns(self) -> int:
        """Return the reading of the monotonic clock."""
        return self._ticks_ns

    def epoch_ns(self) -> int:
        """Return the time of day."""
        return self._epoch_ns + self._ticks_ns


class SequentialIds:
    """A source of ids that counts: spans ``0000000000000001``, ``0000000000000002``, ...; trace ids count along."""

    def __init__(self) -> None:
        self._last = 0

    def bits(self, count: int) -> int:
        """Return the next number, whatever the width."""
        self._last += 1
        return self._last


@contextlib.contextmanager
def recorded(
    service: str = "test",
    *,
    sampler: str | float | Sampler = "always",
    clock: FixedClock | None = None,
    ids: SequentialIds | None = None,
    **options: Any,
) -> Iterator[MemorySender]:
    """Collect the spans made within the ``with``; then put the tracer, the clock and the ids back as they were.

    ``options`` are those of ``clew._tracer.Tracer``: ``propagate``, ``extract``, ``tags``, ``logs``, ``enabled``.
    """
    sender = MemorySender()
    reporter = Reporter(sender, service, _QUEUE_SIZE, _FLUSH_INTERVAL_S)
    before, active = _tracer._tracer, _context.current.get()
    _tracer._tracer = _tracer.Tracer(service, reporter, sampler, **options)
    sources: dict[str, Any] = {}
    if clock is not None:
        sources.update(ticks=clock.ticks_ns, epoch=clock.epoch_ns)
    if ids is not None:
        sources.update(bits=ids.bits)
    if sources:
        _context.use_sources(**sources)
    try:
        yield sender
    finally:
        reporter.shutdown(_FLUSH_TIMEOUT_S)
        if sources:
            _context.use_sources()
        _tracer._tracer = before
        _context.current.set(active)


if TYPE_CHECKING or "pytest" in sys.modules:  # as a plugin this is imported by pytest, else pytest is nobody's business
    import pytest

    @pytest.fixture
    def clew_spans() -> Iterator[MemorySender]:
        """Collect the spans of one test: a ``MemorySender``."""
        with recorded() as sender:
            yield sender
