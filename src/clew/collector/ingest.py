"""Between the receivers and the store: payloads come in one by one and go out in groups, one insert a group.

An insert costs milliseconds whether it holds one span or ten thousand, so payloads that arrive while one runs are taken
together into the next (group commit). One thread inserts; receivers hand payloads over from any thread and get a
future.

When does the next group start? At once, if the last one is some time ago: a lone client does not wait. Under load no
sooner than a pause after the last one, unless a full group has gathered: the pause keeps the number of parts down that
the engine must merge. It is short when somebody waits for the answer (HTTP) and longer when nobody does (UDP, tail).

A future is done when the group is stored; from then on a kill -9 loses nothing. How that holds, and why a payload sent
twice is stored once, is told in :mod:`clew.collector.journal`. If the store fails, the group stays in the journal,
which is as durable, and the future is done as well; the store is tried again until it takes the group. Beyond
``max_spool`` bytes new payloads are refused with :class:`Unavailable`.
"""

from __future__ import annotations

import hashlib
import logging
import math
import threading
import time
from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from clew.collector.feed import Feed, Subscription
from clew.collector.journal import DIGEST_BYTES, Group, Journal, new_token
from clew.collector.payload import BadPayload, Checked, check, check_carefully
from clew.collector.store import Kind, SpanStore, StoreError, UnreadableRows

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from clew.collector.metrics import Metrics

GROUP_ROWS: Final = 40_000  # about 0.3 s of inserting: what a client waits under full load, budget 0.5 s
GROUP_BYTES: Final = 24_000_000
WAITING_BYTES: Final = 128_000_000  # in memory, not yet in a group; beyond it payloads are refused
PAUSE_ANSWER_S: Final = 0.02  # between two groups when a client waits for the answer
PAUSE_QUIET_S: Final = 0.25  # ... and when none does
RETRY_S: Final = (0.5, 10.0)  # the store has failed: first and longest wait before it is tried again

_log = logging.getLogger("clew.collector")


class Unavailable(Exception):  # noqa: N818 - it tells a client what it is to us
    """The payload is fine but cannot be kept now; ``reason`` is a word for a counter. Answer 503 with Retry-After."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class _Waiting(NamedTuple):
    checked: Checked
    digest: bytes | None
    offsets: Mapping[str, Any]
    source: str
    future: Future[None]


class Ingest:
    """Takes payloads and stores them in groups. Thread-safe; not fork-safe; starts one thread.

    ``directory`` keeps the journal. ``max_spool`` bounds, in bytes, what lies there when the store is down.
    """

    def __init__(self, store: SpanStore, directory: Path, metrics: Metrics, *, max_spool: int = 1 << 30) -> None:
        self.metrics = metrics
        self._store = store
        self._journal = Journal(directory)
        self._max_spool = max_spool
        self._feed = Feed(metrics)
        self._changed = threading.Condition()
        self._waiting: deque[_Waiting] = deque()
        self._waiting_rows = self._waiting_bytes = self._waiting_answers = 0
        self._under_way: dict[bytes, Future[None]] = {}  # a payload sent again while its first copy is on the way
        self._closing = False
        self._last = 0.0  # when the last group was stored, on the monotonic clock
        self._retry_at, self._retry_s = 0.0, RETRY_S[0]
        metrics.gauge("waiting_bytes", lambda: self._waiting_bytes)
        metrics.gauge("spool_bytes", self._journal.pending_bytes)
        self._spooled = deque(self._journal.pending())  # groups to store before any new one
        self._replay()
        self._thread = threading.Thread(target=self._run, name="clew-ingest")
        self._thread.start()

    def accept(self, kind: Kind, payload: bytes, source: str = "http") -> Future[None]:
        """Check a payload and have it stored, once; the future is done when that is so. Any thread.

        Raises :class:`~clew.collector.payload.BadPayload` and :class:`Unavailable`; the future may hold either, too.
        """
        checked = self._check(kind, payload, source)
        digest = hashlib.sha256(payload).digest()[:DIGEST_BYTES]
        with self._changed:
            repeated = self._future_of(digest)
            if repeated is not None:
                self.metrics.count("payloads_repeated_total", source=source)
                return repeated
            return self._enqueue(_Waiting(checked, digest, {}, source, _future()))

    def offer(self, kind: Kind, payload: bytes, source: str, offsets: Mapping[str, Any] | None = None) -> Future[None]:
        """As :meth:`accept`, for receivers that nobody asks for an answer: not compared with earlier payloads.

        ``offsets`` are remembered together with the payload: see :meth:`offset`.
        """
        checked = self._check(kind, payload, source)
        with self._changed:
            return self._enqueue(_Waiting(checked, None, offsets or {}, source, _future()))

    def offset(self, key: str) -> Any:
        """Return what was last stored in ``offsets`` under this key; None if nothing was."""
        return self._journal.offset(key)

    @property
    def store_works(self) -> bool:
        """Whether the last insert came through; if not, payloads are being spooled."""
        return not self._spooled

    def close_feed(self) -> None:
        """End every follower's iteration: the collector is about to end. Any thread."""
        self._feed.close()

    def subscribe(self) -> Subscription:
        """Follow what is stored from now on; to be called in a running event loop."""
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

    def _future_of(self, digest: bytes) -> Future[None] | None:
        if digest in self._under_way:
            return self._under_way[digest]
        return _done() if self._journal.remembers(digest) else None

    def _enqueue(self, item: _Waiting) -> Future[None]:
        """Put in line; the lock is held."""
        if not item.checked.items and not item.offsets:
            self.metrics.count("payloads_stored_total", source=item.source)
            return _done()
        self._refuse_if_full(item)
        self._waiting.append(item)
        self._waiting_rows += item.checked.items
        self._waiting_bytes += len(item.checked.rows)
        if item.digest is not None:
            self._waiting_answers += 1
            self._under_way[item.digest] = item.future
        self._changed.notify()
        return item.future

    def _refuse_if_full(self, item: _Waiting) -> None:
        if self._closing:
            raise self._refused(item, "closing", "The collector is shutting down. Send again in a moment.")
        if self._waiting_bytes > WAITING_BYTES:
            raise self._refused(item, "busy", "More arrives than can be stored. Send again in a moment.")
        if self._spooled and self._journal.pending_bytes() > self._max_spool:
            raise self._refused(
                item, "spool_full", "The store is down and the spool full (max_spool). Send again later."
            )

    def _refused(self, item: _Waiting, reason: str, message: str) -> Unavailable:
        self.metrics.count("payloads_refused_total", source=item.source, reason=reason)
        return Unavailable(reason, message)

    # --- the side of the store: one thread ---

    def _run(self) -> None:
        while (items := self._next_items()) is not None:
            try:
                if items:
                    self._commit(items)
                    self._last = time.monotonic()
                if self._spooled and time.monotonic() >= self._retry_at:
                    self._replay()
            except Exception as error:  # noqa: BLE001 - the one thread must live on, and nobody may wait for ever
                _log.exception("ingest: unexpected failure; the payloads were refused")
                self._fail(items, Unavailable("internal", f"Unexpected failure in the collector: {error!r}."))

    def _next_items(self) -> list[_Waiting] | None:
        """Wait for the next group; an empty one when only the spool is due, None at the end."""
        with self._changed:
            while (wait_s := self._wait_s()) > 0:
                self._changed.wait(wait_s if wait_s < threading.TIMEOUT_MAX else None)
            if not self._waiting:
                return None if self._closing else []
            return self._take()

    def _wait_s(self) -> float:
        """Return how long nothing is due; the lock is held."""
        if self._closing or self._waiting_rows >= GROUP_ROWS or self._waiting_bytes >= GROUP_BYTES:
            return 0.0
        due = [math.inf]
        if self._waiting:
            due.append(self._last + (PAUSE_ANSWER_S if self._waiting_answers else PAUSE_QUIET_S))
        if self._spooled:
            due.append(self._retry_at)
        return min(due) - time.monotonic()

    def _take(self) -> list[_Waiting]:
        """Take payloads of one kind, in order, up to a full group; the lock is held."""
        kind = self._waiting[0].checked.kind
        taken: list[_Waiting] = []
        rows = size = 0
        while self._waiting and self._waiting[0].checked.kind == kind and rows < GROUP_ROWS and size < GROUP_BYTES:
            item = self._waiting.popleft()
            taken.append(item)
            rows += item.checked.items
            size += len(item.checked.rows)
            self._waiting_answers -= item.digest is not None
        self._waiting_rows -= rows
        self._waiting_bytes -= size
        return taken

    def _commit(self, items: list[_Waiting]) -> None:
        """Write the group to the journal, insert it, tell those who wait."""
        group = _group(items)
        try:
            name = self._journal.write(group)
        except OSError as error:
            text = f"The data directory takes no more ({error.strerror}). Free some space; the payload was not stored."
            self._fail(items, Unavailable("disk", text))
            return
        if self._spooled:  # the store is down, and older groups come first
            self._spooled.append(name)
        elif not self._insert(name, group):
            self._one_by_one(items, name, group)
            return
        self._succeed(items)

    def _insert(self, name: str, group: Group) -> bool:
        """Have the group stored now or, if the store fails, later; False if the store cannot read it."""
        try:
            if group.items:
                self._store.insert(group.kind, b"[%b]" % group.rows, group.token)
        except UnreadableRows:
            return False
        except StoreError as error:
            self._store_failed(name, error)
            return True
        self.metrics.count("inserts_total")
        self._journal.done(name, group)
        return True

    def _store_failed(self, name: str, error: StoreError) -> None:
        """Keep the group in the spool and try again after a while, ever longer."""
        self.metrics.count("insert_failures_total")
        if not self._spooled:
            _log.warning("ingest: the store failed, payloads are spooled on disk until it is back: %s", error)
        if name not in self._spooled:
            self._spooled.append(name)
        self._retry_at = time.monotonic() + self._retry_s
        self._retry_s = min(self._retry_s * 2, RETRY_S[1])

    def _replay(self) -> None:
        """Store the spooled groups, oldest first, until the store fails again."""
        while self._spooled:
            name = self._spooled[0]
            group = self._journal.read(name)
            if not self._insert(name, group):
                self._salvage(name, group)
            if name in self._journal:
                return
            self._spooled.popleft()
        self._retry_s = RETRY_S[0]

    def _salvage(self, name: str, group: Group) -> None:
        """Store a spooled group that the store could not read in plain form; if it cannot even that, set it aside."""
        self.metrics.count("rows_unreadable_total")
        plain = check_carefully(group.kind, _as_payload(group))
        if not self._insert(name, group._replace(rows=plain.rows)):
            _log.error("ingest: the store cannot read %s; the file is set aside as %s.bad", name, name)
            self._journal.set_aside(name)

    def _one_by_one(self, items: list[_Waiting], name: str, group: Group) -> None:
        """The store could not read a group: find whose fault it is, so that nobody suffers for another's payload."""
        self._journal.discard(name, group)
        for item in items:
            plain = item._replace(checked=check_carefully(item.checked.kind, _as_payload(item.checked)))
            alone = _group([plain])
            name = self._journal.write(alone)
            if self._insert(name, alone):
                self._succeed([plain])
                continue
            self._journal.discard(name, alone)
            self.metrics.count("rows_unreadable_total")
            self.metrics.count("payloads_rejected_total", source=item.source, reason="unreadable")
            self._end([item], BadPayload("unreadable", "The store cannot read this payload. Nothing of it was stored."))

    def _succeed(self, items: list[_Waiting]) -> None:
        for item in items:
            self.metrics.count("payloads_stored_total", source=item.source)
            counter = "spans_stored_total" if item.checked.kind == "spans" else "log_records_stored_total"
            self.metrics.count(counter, item.checked.items, source=item.source)
            self._feed.publish(item.checked.kind, item.checked.rows)
        self._end(items, None)

    def _fail(self, items: list[_Waiting], error: Unavailable) -> None:
        unanswered = [item for item in items if not item.future.done()]
        for item in unanswered:
            self.metrics.count("payloads_refused_total", source=item.source, reason=error.reason)
        self._end(unanswered, error)

    def _end(self, items: list[_Waiting], error: Exception | None) -> None:
        with self._changed:
            for item in items:
                if item.digest is not None:
                    self._under_way.pop(item.digest, None)
        for item in items:
            if error is None:
                item.future.set_result(None)
            else:
                item.future.set_exception(error)


def _group(items: list[_Waiting]) -> Group:
    offsets: dict[str, Any] = {}
    for item in items:
        offsets.update(item.offsets)
    digests = [item.digest for item in items if item.digest is not None]
    rows = b",".join([item.checked.rows for item in items if item.checked.items])
    total = sum(item.checked.items for item in items)
    return Group(new_token(), items[0].checked.kind, total, digests, offsets, rows)


def _as_payload(part: Group | Checked) -> bytes:
    return b'{"logs":[%b]}' % part.rows if part.kind == "logs" else b"[%b]" % part.rows


def _future() -> Future[None]:
    """Return a future that nobody can cancel: several may wait for it, and one who leaves must not end it for all."""
    future: Future[None] = Future()
    future.set_running_or_notify_cancel()
    return future


def _done() -> Future[None]:
    future = _future()
    future.set_result(None)
    return future
