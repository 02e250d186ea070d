"""Between the receivers and the store: payloads come in one by one and go out in groups, one insert a group.

An insert costs tens of milliseconds whether it holds one span or ten thousand, and the engine must merge what it makes,
so the cost of a span is decided by how many go together. So a payload is **kept** first and stored later:

* The thread that receives it checks it and writes it to the journal. From there a kill -9 loses nothing, and the same
  payload sent again is known by its digest. That is when it is acknowledged.
* One thread inserts what has gathered: a full group at once, else after :data:`GATHER_S`. It reads the group back from
  the journal, so nothing waits in memory, and what waited in an earlier life goes the same way.

**Reading sees what was acknowledged**: a question calls :meth:`Ingest.settle` first, which has what waits inserted now,
once for all questions that ask meanwhile and at most every :data:`SETTLE_EVERY_S`.

When the store takes nothing, groups stay in the journal and it is tried again until it does, up to ``max_spool`` bytes.
Beyond that, or when much more arrives than can be inserted, payloads are refused (:class:`Unavailable`).
"""

from __future__ import annotations

import hashlib
import logging
import math
import threading
import time
from collections import deque
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import TYPE_CHECKING, Any, Final

from clew.collector.ingest.durable import Durable
from clew.collector.ingest.feed import Feed, Subscription
from clew.collector.ingest.inserter import Inserter
from clew.collector.ingest.journal import Group, Journal
from clew.collector.ingest.payload import BadPayload, Checked, Format, check
from clew.collector.ingest.ranges import Ranges
from clew.collector.ingest.record import DIGEST_BYTES, Record
from clew.collector.store import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from clew.collector.metrics import Metrics
    from clew.collector.store import Kind, SpanStore

GROUP_ROWS: Final = 60_000  # a full group; an insert of it takes 0.3 to 0.5 s
GROUP_BYTES: Final = 32_000_000
GATHER_S: Final = 0.9  # how long a group gathers when nobody asks
SETTLE_EVERY_S: Final = 0.25  # between two inserts that questions cause
SETTLE_S: Final = 5.0  # how long a question waits for what came before it
SLOW_BYTES: Final = 40_000_000  # in full groups that wait for the store: beyond it answers wait, so clients slow down
REFUSE_BYTES: Final = 256_000_000  # ... and beyond this payloads are refused, for those that nobody can slow down
RETRY_S: Final = (0.5, 10.0)  # the store takes nothing: first and longest wait before it is tried again
CLOSE_S: Final = 20.0  # for inserting what waits at the end; the rest stays in the journal

LATE: Final = "What arrived in the last seconds is still being stored and is not in this answer."

_log = logging.getLogger("clew.collector")


class Unavailable(Exception):  # noqa: N818 - it tells a client what it is to us
    """The payload is fine but cannot be kept now; ``reason`` is a word for a counter. Answer 503 with Retry-After."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Ingest:
    """Keeps payloads and stores them in groups. Thread-safe; not fork-safe; starts one thread, two when ``durable``.

    ``directory`` is the journal's. ``max_spool`` bounds, in bytes, what lies there. ``group_bytes`` is how much makes
    a full group; a group becomes one part of the table. ``durable``: acknowledge what the disk has.
    """

    def __init__(
        self,
        store: SpanStore,
        directory: Path,
        metrics: Metrics,
        *,
        max_spool: int = 1 << 30,
        group_bytes: int = GROUP_BYTES,
        durable: bool = False,
    ) -> None:
        self.metrics = metrics
        self._group_bytes = group_bytes
        self._max_spool = max_spool
        self._journal = Journal(directory)
        self._inserter = Inserter(store, self._journal, metrics)
        self._ranges = Ranges(store, metrics, self._range_stored)
        self._durable = Durable(self._disk_failed) if durable else None
        self._feed = Feed(metrics)
        self._changed = threading.Condition()
        self._gathering: Group | None = None
        self._waiting: deque[Group] = deque(self._journal.left)  # groups that take no more, oldest first
        self._later: list[Group] = []  # that the store refused while it took others; each has its time
        self._taken: Group | None = None
        self._waiting_bytes = sum(group.size for group in self._waiting)
        self._slowed: list[Future[None]] = []
        self._settling: list[tuple[int, Future[None]]] = []  # done when no group up to this number waits
        self._hurried = -math.inf
        self._down = ""  # why the store takes nothing
        self._retry_at, self._retry_s = 0.0, RETRY_S[0]
        self._close_at = math.inf
        metrics.gauge("waiting_bytes", lambda: self._waiting_bytes)
        metrics.gauge("spool_bytes", self._journal.pending_bytes)
        self._thread = threading.Thread(target=self._run, name="clew-ingest")
        self._thread.start()

    # --- receivers ---

    def accept(self, kind: Kind, payload: bytes, source: str = "http", *, format: Format = "json") -> Future[None]:
        """Check a payload and keep it, once. The future is done when it may be acknowledged. Any thread.

        Raises :class:`~clew.collector.ingest.payload.BadPayload` and :class:`Unavailable`; the future, too, raises
        the latter.
        """
        return self.acknowledge(self.check(kind, payload, source, format), payload, source)

    def acknowledge(self, checked: Checked, payload: bytes, source: str = "http") -> Future[None]:
        """As :meth:`accept`, for a payload that :meth:`check` has looked at."""
        digest = hashlib.sha256(payload).digest()[:DIGEST_BYTES]
        with self._changed:
            if self._journal.remembers(digest):
                self.metrics.count("payloads_repeated_total", source=source)
                return self._acknowledged(slow=False)
            self._keep([checked], source, digest)
            return self._acknowledged(slow=True)

    def offer(self, kind: Kind, payload: bytes, source: str, offsets: Mapping[str, Any] | None = None) -> Future[None]:
        """As :meth:`accept`, for receivers that nobody asks for an answer: not compared with earlier payloads."""
        checked = self.check(kind, payload, source)
        with self._changed:
            self._keep([checked], source, offsets=offsets or {})
            return self._acknowledged(slow=False)

    def keep(self, payloads: Sequence[Checked], source: str, offsets: Mapping[str, Any]) -> Future[None]:
        """Keep payloads that were checked, of both kinds perhaps, in one step: all of them or none.

        ``offsets`` are remembered together with them: see :meth:`offset`. The future is done when more may come.
        """
        for checked in payloads:
            self.metrics.count("payloads_total", source=source)
            self.metrics.count("payload_bytes_total", len(checked.rows), source=source)
        with self._changed:
            self._keep(payloads, source, offsets=offsets)
            return self._acknowledged(slow=True)

    def insert_range(
        self, payloads: Sequence[Checked], token: str, source: str, *, failures: int
    ) -> list[tuple[int, str]]:
        """Store payloads that lie in a log of their own, past the journal: see :meth:`Ranges.insert`. One thread."""
        return self._ranges.insert(payloads, token, source, failures=failures)

    @property
    def group_bytes(self) -> int:
        """How much one insert is to hold at most, in bytes."""
        return self._group_bytes

    def set_aside(self, name: str, data: bytes) -> str:
        """Keep bytes that nobody can read for a person to look at; return where. ``OSError`` if the disk is full."""
        with self._changed:
            return self._journal.set_aside_foreign(name, data)

    def offset(self, key: str) -> Any:
        """Return what was last kept in ``offsets`` under this key; None if nothing was."""
        return self._journal.offset(key)

    def subscribe(self) -> Subscription:
        """Follow what is kept from now on; to be called in a running event loop."""
        return self._feed.subscribe()

    def close_feed(self) -> None:
        """End every follower's iteration: the collector is about to end. Any thread."""
        self._feed.close()

    # --- questions ---

    def settle(self, timeout: float = SETTLE_S) -> str:
        """Have what was kept until now inserted, and wait for it, at most so many seconds. Any thread but a loop's.

        Return '' when it can be queried, else a sentence that says what an answer lacks. Returns at once when nothing
        waits, and when the store takes nothing.
        """
        try:
            self.settling().result(timeout)
        except FutureTimeout:
            return self.unsettled or LATE
        return self.unsettled

    def settling(self) -> Future[None]:
        """As :meth:`settle`, without waiting: the future is done when what was kept until now can be queried."""
        done = _unfinished()
        with self._changed:
            group = self._gathering
            if group and not group.is_empty:
                group.due = min(group.due, max(self._hurried + SETTLE_EVERY_S, time.monotonic()))
                self._changed.notify()
            waiting = [group.seq for group in self._on_the_way()]
            if waiting and not self._down:
                self._settling.append((max(waiting), done))
                return done
        done.set_result(None)
        return done

    @property
    def unsettled(self) -> str:
        """Return what answers lack, because the store refuses it; '' when nothing. Any thread."""
        if self._down:
            return f"The store takes nothing now; what arrived lately is not in this answer. It says: {self._down}"
        if self._later:
            return "The store refused some of what arrived lately; it is tried again and is not in this answer."
        return ""

    @property
    def store_works(self) -> bool:
        """Whether the store takes groups; if not, payloads are being spooled. Any thread."""
        return not self._down

    def on_stored(self, hook: Callable[[Kind, int], None]) -> None:
        """Have ``hook(kind, rows)`` called whenever rows are in a table; by the thread that inserts: it must be quick.

        There may be two of them, ingest's own and that of :meth:`insert_range`.
        """
        self._inserter.on_stored = hook

    def close(self) -> None:
        """Store what waits, then end the threads. What the store does not take stays in the journal. Idempotent."""
        with self._changed:
            self._close_at = min(self._close_at, time.monotonic() + CLOSE_S)
            self._changed.notify()
        self._thread.join()
        if self._durable:
            self._durable.close()

    # --- the side of the receivers ---

    def check(self, kind: Kind, payload: bytes, source: str, format: Format = "json") -> Checked:
        """Check a payload and count it; raises :class:`~clew.collector.ingest.payload.BadPayload`. Any thread."""
        self.metrics.count("payloads_total", source=source)
        self.metrics.count("payload_bytes_total", len(payload), source=source)
        try:
            return check(kind, payload, format)
        except BadPayload as bad:
            self.metrics.count("payloads_rejected_total", source=source, reason=bad.reason)
            raise

    def _keep(
        self, payloads: Sequence[Checked], source: str, digest: bytes = b"", offsets: Mapping[str, Any] | None = None
    ) -> None:
        """Write payloads to the journal, as one record; the lock is held."""
        record = _record(payloads, digest, offsets or {})
        if record.items or record.offsets:
            self._refuse_if_full(source)
            try:
                self._append(record)
            except OSError as error:
                self._refused(source, "disk")
                raise self._disk_failed(error) from error
        for checked in payloads:
            self._count_stored(checked, source)
            if checked.items:
                self._feed.publish(checked.kind, checked.rows)

    def _append(self, record: Record) -> None:
        group = self._gathering
        if group is None:
            group = self._gathering = self._journal.open()
            group.due = time.monotonic() + GATHER_S
            self._waiting_bytes += group.size  # its head
            self._changed.notify()
        self._waiting_bytes += self._journal.append(group, record)
        if group.items >= GROUP_ROWS or group.size >= self._group_bytes:
            self._seal()
            self._changed.notify()

    def _seal(self) -> None:
        """End the gathering of a group; the lock is held."""
        group, self._gathering = self._gathering, None
        if group:
            self._journal.seal(group)
            self._waiting.append(group)

    def _acknowledged(self, *, slow: bool) -> Future[None]:
        """Return what is done when it is time to answer; the lock is held."""
        if self._durable and self._gathering:
            return self._durable.written(self._gathering.name, self._gathering.fd)
        gathering = self._gathering.size if self._gathering else 0
        if not slow or self._waiting_bytes - gathering <= min(SLOW_BYTES, self._max_spool // 2) or self._down:
            return _DONE
        answer = _unfinished()
        self._slowed.append(answer)
        return answer

    def _refuse_if_full(self, source: str) -> None:
        if self._close_at < math.inf:
            raise self._refused(source, "closing")
        if self._waiting_bytes > REFUSE_BYTES and not self._down:
            raise self._refused(source, "busy")
        if self._journal.pending_bytes() > self._max_spool:
            raise self._refused(source, "spool_full")

    def _refused(self, source: str, reason: str) -> Unavailable:
        self.metrics.count("payloads_refused_total", source=source, reason=reason)
        return Unavailable(reason, _REFUSALS.get(reason, ""))

    def _disk_failed(self, error: OSError) -> Unavailable:
        text = f"The data directory takes no more ({error.strerror}). Free some space; nothing was stored."
        return Unavailable("disk", text)

    def _count_stored(self, checked: Checked, source: str) -> None:
        self.metrics.count("payloads_stored_total", source=source)
        counter = "spans_stored_total" if checked.kind == "spans" else "log_records_stored_total"
        self.metrics.count(counter, checked.items, source=source)

    def _range_stored(self, checked: Checked) -> None:
        if self._inserter.on_stored:
            self._inserter.on_stored(checked.kind, checked.items)
        if checked.items:
            self._feed.publish(checked.kind, checked.rows)

    # --- the side of the store: one thread ---

    def _run(self) -> None:
        while (group := self._next_group()) is not None:
            left: list[Group] = [group]
            try:
                left = self._inserter.insert(group)
            except (StoreError, OSError) as error:
                self._store_failed(group, error)
                continue
            except Exception:  # noqa: BLE001 - the one thread must live on; the group is in the journal
                _log.exception("ingest: unexpected failure of %s; it is tried again in a minute", group.name)
                group.due = time.monotonic() + 60.0
            if not self._waiting:
                self._inserter.mend()
            self._inserted(group, left)
        self._end()

    def _next_group(self) -> Group | None:
        """Wait for the next group that is due; None at the end."""
        with self._changed:
            while (wait_s := self._next_at() - time.monotonic()) > 0:
                if self._is_over():
                    return None
                self._changed.wait(min(wait_s, self._close_wait_s()))
            if self._is_over():
                return None
            return self._take()

    def _is_over(self) -> bool:
        """Whether to end: all is stored, or the time for it is up, or the store takes nothing; the lock is held."""
        if self._close_at == math.inf:
            return False
        return not self._on_the_way() or bool(self._down) or time.monotonic() > self._close_at

    def _on_the_way(self) -> list[Group]:
        """Return the groups that have their turn, and not those that the store refused; the lock is held."""
        groups = [*self._waiting, *filter(None, (self._taken, self._gathering))]
        return [group for group in groups if not group.is_empty]

    def _close_wait_s(self) -> float:
        return min(max(self._close_at - time.monotonic(), 0.0), threading.TIMEOUT_MAX)

    def _next_at(self) -> float:
        """Return when something is due, on the monotonic clock; the lock is held."""
        if self._down:
            return self._retry_at
        if self._waiting:
            return 0.0
        due = [group.due for group in self._later]
        if self._gathering and not self._gathering.is_empty:
            due.append(0.0 if self._close_at < math.inf else self._gathering.due)
        return min(due, default=math.inf)

    def _take(self) -> Group | None:
        """Return a group that is due, if the store is down any; the lock is held."""
        now = time.monotonic()
        late = min(self._later, key=lambda group: group.due, default=None)
        if late and late.due <= now:
            self._later.remove(late)
            self._waiting_bytes += late.size
            self._taken = late
        elif self._waiting:
            self._taken = self._waiting.popleft()
        else:
            self._hurried = now
            self._seal()
            self._taken = self._waiting.popleft()
        return self._taken

    def _inserted(self, group: Group, left: Sequence[Group]) -> None:
        """The store took a group, or refused that one alone."""
        with self._changed:
            self._taken = None
            if self._down:
                _log.warning("ingest: the store takes payloads again")
            self._down, self._retry_s = "", RETRY_S[0]
            self._waiting_bytes -= group.size
            if left == [group]:
                self._later.append(group)
            else:
                self._waiting.extend(left)  # behind those that wait already
                self._waiting_bytes += sum(half.size for half in left)
            self._release()

    def _store_failed(self, group: Group, error: Exception) -> None:
        """Put the group back; everything waits and is tried again after a while, ever longer."""
        with self._changed:
            self._taken = None
            if isinstance(error, OSError):
                self._waiting.appendleft(group)  # offsets are written down in order
            else:
                self._waiting.append(group)  # the next try is another's
            if not self._down:
                _log.warning("ingest: the store failed, payloads are kept on disk until it is back: %s", error)
            self._down = str(error) or type(error).__name__
            self._retry_at = time.monotonic() + self._retry_s
            self._retry_s = min(self._retry_s * 2, RETRY_S[1])
            self._release()

    def _release(self) -> None:
        """Let go on whoever waits for what is done now; the lock is held."""
        first = min((group.seq for group in self._on_the_way()), default=math.inf)
        over = [(seq, done) for seq, done in self._settling if seq < first or self._down]
        self._settling = [waiter for waiter in self._settling if waiter not in over]
        for _, done in over:
            done.set_result(None)
        slowed, self._slowed = self._slowed, []
        for answer in slowed:
            answer.set_result(None)

    def _end(self) -> None:
        """Nobody waits any longer."""
        with self._changed:
            self._seal()
            self._down = self._down or "the collector is ending"
            self._release()


_REFUSALS: Final = {
    "closing": "The collector is shutting down. Send again in a moment.",
    "busy": "More arrives than can be stored. Send again in a moment.",
    "spool_full": "The store takes nothing and the spool is full (max_spool). Send later.",
}


def _record(payloads: Sequence[Checked], digest: bytes, offsets: Mapping[str, Any]) -> Record:
    spans = [checked for checked in payloads if checked.kind == "spans" and checked.items]
    logs = [checked for checked in payloads if checked.kind == "logs" and checked.items]
    return Record(*_joined(spans), *_joined(logs), digest, offsets)


def _joined(payloads: Sequence[Checked]) -> tuple[bytes, int]:
    if len(payloads) == 1:
        return payloads[0].rows, payloads[0].items
    return b",".join([checked.rows for checked in payloads]), sum(checked.items for checked in payloads)


def _unfinished() -> Future[None]:
    """Return a future that nobody can cancel: whoever waits for it may go away."""
    future: Future[None] = Future()
    future.set_running_or_notify_cancel()
    return future


def _done() -> Future[None]:
    future = _unfinished()
    future.set_result(None)
    return future


_DONE: Final = _done()
