"""What the collector counts, and its text for Prometheus at ``/metrics``.

The arithmetic, per ``source`` (http, udp, tail, kafka) and at any moment when nothing is under way::

    payloads_total = payloads_stored_total + payloads_rejected_total (by reason) + payloads_refused_total (by reason)
                     + payloads_repeated_total

* *stored*: in the journal, and bound for the table. Counted when that is so, together with
  ``spans_stored_total`` and ``log_records_stored_total``.
* *rejected*: bad bytes (their fault); the reason is a word such as ``span_traceId`` or ``malformed``.
* *refused*: good bytes that could not be kept (our fault): ``spool_full``, ``disk``, ``busy``.
* *repeated*: the very bytes of a payload that is stored already, from a client that had not heard so; of Kafka: what a
  repeated range held and was stored by an earlier try (duplicates avoided).

Beside the arithmetic: ``udp_kernel_dropped_total`` (datagrams that no receiver ever saw), ``http_rejected_total``
(requests refused before they became a payload: too large, bad gzip) and ``feed_lost_total`` (live feed, slow reader).
"""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

PREFIX: Final = "clew_collector_"

COUNTERS: Final = {
    "payloads_total": "Payloads that reached ingest, by source.",
    "payloads_stored_total": "Payloads kept, by source.",
    "payloads_rejected_total": "Payloads refused because of what they hold, by source and reason.",
    "payloads_refused_total": "Good payloads that could not be kept, by source and reason.",
    "payloads_repeated_total": "Payloads stored already that were sent again, by source.",
    "payload_bytes_total": "Bytes of payloads that reached ingest, by source.",
    "spans_stored_total": "Spans stored (or spooled), by source.",
    "log_records_stored_total": "Log records stored (or spooled), by source.",
    "inserts_total": "Inserts into the store that came through.",
    "insert_failures_total": "Inserts that the store failed; they are tried again.",
    "rows_unreadable_total": "Payloads that passed the check and that the store refused alone; they are set aside.",
    "udp_datagrams_total": "Datagrams received.",
    "udp_kernel_dropped_total": "Datagrams dropped by the kernel, because its buffer was full.",
    "udp_errors_total": "Datagrams whose receiving failed unexpectedly; the log says how.",
    "http_rejected_total": "HTTP requests refused before they became a payload, by reason.",
    "otlp_items_rejected_total": "Spans and log records left out of OTLP requests whose rest was kept.",
    "http_connections_dropped_total": "HTTP connections closed by us before their request was answered, by reason.",
    "tail_errors_total": "Failures to open or read a tailed file; it is tried again.",
    "tail_lines_skipped_total": "Lines of tailed files left out, by reason.",
    "kafka_ranges_total": "Ranges of Kafka's partitions that are stored and committed.",
    "kafka_ranges_repeated_total": "Ranges tried again, after a crash, a rebalance or a failure of the store.",
    "kafka_ranges_from_other_stores_total": "Ranges that a collector with another store had begun.",
    "kafka_messages_lost_total": "Messages that the brokers had removed before they were read.",
    "kafka_dead_letters_total": "Messages that cannot be read, sent to the dead-letter topic, by reason.",
    "kafka_restarts_total": "Consumers that were closed after a failure; another one goes on.",
    "feed_lost_total": "Payloads that a slow reader of the live feed missed.",
    "retention_dropped_bytes_total": "Bytes dropped from the store to stay under max_disk.",
}
GAUGES: Final = {
    "waiting_bytes": "Bytes of payloads waiting for the next insert.",
    "spool_bytes": "Bytes of payloads on disk that the store has not taken yet.",
    "kafka_lag": "Messages in our partitions that are not stored yet, as of the last insert.",
    "kafka_partitions": "Partitions that this collector reads.",
    "http_connections": "HTTP connections that are open.",
    "disk_bytes": "Bytes of rows in the store.",
}


class Metrics:
    """Counters and gauges of one collector. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, tuple[tuple[str, str], ...]]] = Counter()
        self._gauges: dict[str, Callable[[], int]] = {}

    def count(self, name: str, amount: int = 1, **labels: str) -> None:
        """Add to a counter of :data:`COUNTERS`; another name is a ``KeyError``."""
        if name not in COUNTERS:
            raise KeyError(name)
        with self._lock:
            self._counts[name, tuple(labels.items())] += amount

    def value(self, name: str, **labels: str) -> int:
        """Return a counter, summed over all labels that are not given."""
        wanted = set(labels.items())
        with self._lock:
            return sum(n for (found, has), n in self._counts.items() if found == name and wanted <= set(has))

    def by_labels(self, name: str) -> list[tuple[dict[str, str], int]]:
        """Return a counter for each set of labels that it was counted with."""
        with self._lock:
            return sorted(
                ((dict(labels), n) for (found, labels), n in self._counts.items() if found == name),
                key=lambda entry: sorted(entry[0].items()),
            )

    def gauge(self, name: str, read: Callable[[], int]) -> None:
        """Let ``read`` give the value of a gauge of :data:`GAUGES` whenever it is asked for."""
        if name not in GAUGES:
            raise KeyError(name)
        self._gauges[name] = read

    def gauge_value(self, name: str) -> int:
        """Return what a gauge says now; ``KeyError`` if nobody gives it."""
        return self._gauges[name]()

    def text(self) -> str:
        """Return everything in Prometheus' text format 0.0.4."""
        with self._lock:
            counts = sorted(self._counts.items())
        lines = []
        for name, about in COUNTERS.items():
            lines += [f"# HELP {PREFIX}{name} {about}", f"# TYPE {PREFIX}{name} counter"]
            lines += [f"{PREFIX}{name}{_labels(labels)} {value}" for (found, labels), value in counts if found == name]
        for name, read in self._gauges.items():
            lines += [
                f"# HELP {PREFIX}{name} {GAUGES[name]}",
                f"# TYPE {PREFIX}{name} gauge",
                f"{PREFIX}{name} {read()}",
            ]
        return "\n".join(lines) + "\n"


def _labels(labels: tuple[tuple[str, str], ...]) -> str:
    """Values are our own words, never input; escaped all the same, for a metrics page must not break."""
    if not labels:
        return ""
    shown = ((key, value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")) for key, value in labels)
    return "{" + ",".join(f'{key}="{value}"' for key, value in shown) + "}"
