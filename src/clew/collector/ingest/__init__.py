"""Between the receivers and the store: payloads come in one by one and go out in groups, one insert a group.

An insert costs tens of milliseconds whether it holds one span or ten thousand, and the engine must merge what it makes,
so the cost of a span is decided by how many go together: 31 us of CPU at 4,000 a group, 7 at 60,000 (measured
2026-11). Payloads that arrive while a group is inserted therefore gather for the next one (group commit):

* The thread that receives a payload checks it and writes it to the journal, which is what makes a kill -9 harmless:
  :mod:`clew.collector.ingest.journal`.
* One thread inserts what has gathered: a full group at once, else after a short while, in which others may join. It is
  shorter when somebody waits for the answer (HTTP) than when nobody does (UDP, tail).

A payload's future is done when its group is in the table: whoever gets an answer finds the spans. If the store fails,
the group stays in the journal, which is as durable, and the future is done as well; the store is tried again until it
takes the group, up to ``max_spool`` bytes. Beyond that, or when more arrives than can be inserted, it is refused
(:class:`Unavailable`).
"""

from __future__ import annotations

import hashlib
import logging
import math
import threading
import time
from collections import deque
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING, Any, Final

from clew.collector.ingest.feed import Feed, Subscription
from clew.collector.ingest.inserter import Inserter
from clew.collector.ingest.journal import DIGEST_BYTES, Entry, Group, Journal
from clew.collector.ingest.payload import BadPayload, Checked, check

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from clew.collector.metrics import Metrics
    from clew.collector.store import Kind, SpanStore

GROUP_ROWS: Final = 60_000  # a full group; an insert of it takes 0.3 to 0.5 s
GROUP_BYTES: Final = 32_000_000
GATHER_ANSWERED_S: Final = 0.05  # how long a group gathers when a client waits for the answer
GATHER_QUIET_S: Final = 0.25  # ... and when none does
REFUSE_BYTES: Final = 128_000_000  # kept in memory, not yet inserted: beyond it payloads are refused

_log = logging.getLogger("clew.collector")


class Unavailable(Exception):  # noqa: N818 - it tells a client what it is to us
    """The payload is fine but cannot be kept now; ``reason`` is a word for a counter. Answer 503 with Retry-After."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Ingest:
    """Takes payloads and stores them in groups. Thread-safe; not fork-safe; starts one thread.

    ``directory`` keeps the journal. ``max_spool`` bounds, in bytes, what lies there when the store is down.
    ``group_bytes`` is how much JSON makes a full group; a group becomes one part of the table.
    """

    def __init__(
        self,
        store: SpanStore,
        directory: Path,
        metrics: Metrics,
        *,
        max_spool: int = 1 << 30,
        group_bytes: int = GROUP_BYTES,
    ) -> None:
        self.metrics = metrics
        self._group_bytes = group_bytes
        self._journal = Journal(directory)
        self._inserter = Inserter(store, self._journal, metrics)
        self._max_spool = max_spool
        self._feed = Feed(metrics)
        self._changed = threading.Condition()
        self._gathering: dict[Kind, Group] = {}
        self._full: deque[Group] = deque()  # groups that take no more, oldest first
        self._inserting: Group | None = None
        self._waiting_bytes = 0  # in memory, of all groups that are not inserted yet
        self._under_way: dict[bytes, Future[None]] = {}  # a payload sent again while its first copy is on the way
        self._closing = False
        metrics.gauge("waiting_bytes", lambda: self._waiting_bytes)
        metrics.gauge("spool_bytes", self._journal.pending_bytes)
        self._inserter.replay()
        self._thread = threading.Thread(target=self._run, name="clew-ingest")
        self._thread.start()

    def accept(self, kind: Kind, payload: bytes, source: str = "http") -> Future[None]:
        """Check a payload and have it stored, once; the future is done when that is so. Any thread.

        Raises :class:`~clew.collector.ingest.payload.BadPayload` and :class:`Unavailable`.
        """
        checked = self._check(kind, payload, source)
        digest = hashlib.sha256(payload).digest()[:DIGEST_BYTES]
        with self._changed:
            if self._journal.remembers(digest):
                self.metrics.count("payloads_repeated_total", source=source)
                return self._under_way.get(digest, _DONE)
            return self._keep(checked, Entry(checked.rows, checked.items, digest, {}), source)

    def offer(self, kind: Kind, payload: bytes, source: str, offsets: Mapping[str, Any] | None = None) -> Future[None]:
        """As :meth:`accept`, for receivers that nobody asks for an answer: not compared with earlier payloads.

        ``offsets`` are remembered together with the payload: see :meth:`offset`.
        """
        checked = self._check(kind, payload, source)
        with self._changed:
            return self._keep(checked, Entry(checked.rows, checked.items, None, offsets or {}), source)

    def offset(self, key: str) -> Any:
        """Return what was last kept in ``offsets`` under this key; None if nothing was."""
        return self._journal.offset(key)

    def settle(self, timeout: float | None = None) -> None:
        """Insert what was kept so far now; wait, at most ``timeout`` seconds, until it can be queried. Any thread."""
        with self._changed:
            groups = [*self._gathering.values(), *self._full, *([self._inserting] if self._inserting else [])]
            for group in groups:
                group.due = 0.0
            self._changed.notify()
        wait([group.stored for group in groups], timeout)

    @property
    def store_works(self) -> bool:
        """Whether the last insert came through; if not, payloads are being spooled."""
        return not self._inserter.spooling

    def close_feed(self) -> None:
        """End every follower's iteration: the collector is about to end. Any thread."""
        self._feed.close()

    def subscribe(self) -> Subscription:
        """Follow what is kept from now on; to be called in a running event loop."""
        return self._feed.subscribe()

    def close(self) -> None:
        """Store what waits, then end the thread. What the store does not take stays in the journal. Idempotent."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()
        self._journal.close()

    # --- the side of the receivers ---

    def _check(self, kind: Kind, payload: bytes, source: str) -> Checked:
        self.metrics.count("payloads_total", source=source)
        self.metrics.count("payload_bytes_total", len(payload), source=source)
        try:
            return check(kind, payload)
        except BadPayload as bad:
            self.metrics.count("payloads_rejected_total", source=source, reason=bad.reason)
            raise

    def _keep(self, checked: Checked, entry: Entry, source: str) -> Future[None]:
        """Write a payload to the journal and add it to its group; the lock is held."""
        if not entry.items and not entry.offsets:
            self._count_stored(checked, source)
            return _DONE
        self._refuse_if_full(source)
        try:
            group = self._add(checked.kind, entry)
        except OSError as error:
            text = f"The data directory takes no more ({error.strerror}). Free some space; nothing was stored."
            raise self._refused(source, "disk", text) from error
        self._count_stored(checked, source)
        self._feed.publish(checked.kind, checked.rows)
        return group.stored

    def _add(self, kind: Kind, entry: Entry) -> Group:
        group = self._gathering.get(kind)
        if group is None:
            group = self._gathering[kind] = self._journal.open(kind)
            group.due = group.born + GATHER_QUIET_S
            self._changed.notify()
        self._journal.append(group, entry)
        self._waiting_bytes += len(entry.rows)
        if entry.digest is not None:
            self._under_way[entry.digest] = group.stored
            if group.due > group.born + GATHER_ANSWERED_S:
                group.due = group.born + GATHER_ANSWERED_S
                self._changed.notify()
        if group.items >= GROUP_ROWS or group.size >= self._group_bytes:
            self._full.append(self._sealed(kind))
            self._changed.notify()
        return group

    def _refuse_if_full(self, source: str) -> None:
        if self._closing:
            raise self._refused(source, "closing", "The collector is shutting down. Send again in a moment.")
        if self._waiting_bytes > REFUSE_BYTES:
            raise self._refused(source, "busy", "More arrives than can be stored. Send again in a moment.")
        if self._inserter.spooling and self._journal.pending_bytes() > self._max_spool:
            raise self._refused(source, "spool_full", "The store is down and the spool full (max_spool). Send later.")

    def _refused(self, source: str, reason: str, message: str) -> Unavailable:
        self.metrics.count("payloads_refused_total", source=source, reason=reason)
        return Unavailable(reason, message)

    def _count_stored(self, checked: Checked, source: str) -> None:
        self.metrics.count("payloads_stored_total", source=source)
        counter = "spans_stored_total" if checked.kind == "spans" else "log_records_stored_total"
        self.metrics.count(counter, checked.items, source=source)

    # --- the side of the store: one thread ---

    def _run(self) -> None:
        while not (self._closing and not self._gathering and not self._full):
            group = self._next_group()
            try:
                if group:
                    self._inserter.insert(group)
                if self._inserter.spooling and time.monotonic() >= self._inserter.retry_at and not self._closing:
                    self._inserter.replay()
            except Exception:  # noqa: BLE001 - the one thread must live on; the group is in the journal
                _log.exception("ingest: unexpected failure; what waited stays in the journal until the next start")
            if group:
                self._finish(group)

    def _next_group(self) -> Group | None:
        """Wait for the next group that is due; None when only the spool is, or at the end."""
        with self._changed:
            while (wait_s := self._wait_s()) > 0:
                self._changed.wait(wait_s if wait_s < threading.TIMEOUT_MAX else None)
            self._inserting = self._take()
            return self._inserting

    def _take(self) -> Group | None:
        """Return the group that is due first, if one is; the lock is held."""
        if self._full:
            return self._full.popleft()
        kind = min(self._gathering, key=lambda kind: self._due(self._gathering[kind]), default=None)
        if kind is None or self._due(self._gathering[kind]) > time.monotonic():
            return None
        return self._sealed(kind)

    def _sealed(self, kind: Kind) -> Group:
        """End the gathering of a group; the lock is held."""
        group = self._gathering.pop(kind)
        self._journal.seal(group)
        return group

    def _wait_s(self) -> float:
        """Return how long nothing is due; the lock is held."""
        due = [self._due(group) for group in self._gathering.values()]
        if self._inserter.spooling:
            due.append(self._inserter.retry_at)
        if self._closing or self._full:
            due.append(0.0)
        return min(due, default=math.inf) - time.monotonic()

    def _due(self, group: Group) -> float:
        """Return when a group is to be inserted, on the monotonic clock; the lock is held."""
        return 0.0 if self._closing else group.due

    def _finish(self, group: Group) -> None:
        """Let those go on who waited for this group."""
        with self._changed:
            self._inserting = None
            self._waiting_bytes -= group.size
            for entry in group.entries:
                if entry.digest is not None:
                    self._under_way.pop(entry.digest, None)
        group.stored.set_result(None)


def _done() -> Future[None]:
    future: Future[None] = Future()
    future.set_result(None)
    return future


_DONE: Final = _done()
