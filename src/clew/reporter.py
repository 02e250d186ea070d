"""The bounded queue between the application and the sender, and the one thread that empties it.

``Channel.put`` is the last step on the application's side: no lock, no system call, no wait. Everything that costs or
can fail - encoding, batching, sending, retrying - happens on the reporter's daemon thread.

The arithmetic, for spans and for log records alike and at any moment::

    every one handed in  ==  reported + dropped (by reason) + queued

``reported`` counts what the sender delivered, as far as the transport can know; ``queued`` includes the batch that is
being sent. Reasons: ``queue_full``; ``send_failed`` (still undelivered at shutdown); ``refused`` (the collector said a
final no); ``too_large`` (not even its bare bones fit one message); ``encode_failed``; ``closed`` (finished after
``shutdown``); ``no_reporter`` (``reporter="none"``).

After a fork the child starts with empty queues and zero counts (the parent sends what it had) and starts its own thread
with its first span. A span begun before the fork is the parent's: the child's copy of it is neither sent nor counted.
"""

from __future__ import annotations

import contextvars
import math
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from clew import _clock, _context, wire
from clew._alarms import is_alarm
from clew._outage import PATIENCE_S, Outage
from clew.senders import IS_IT_UP, Kind, Sender, SendError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from clew._span import Span

REASONS: Final = ("queue_full", "send_failed", "refused", "too_large", "encode_failed", "closed", "no_reporter")

_CHARACTERS_EACH: Final = 4_096  # the queue's bound is its length times this; usual spans have some hundred
_FEWEST: Final = 64  # are queued however large they are
_WEIGHED: Final = 8  # of the newest, at each look at a queue that is not emptied
_SLICE: Final = 256  # spans encoded in one go, about 0.8 ms of the interpreter's lock; then others may have it
_YIELD_S: Final = 0.000_05  # long enough for a waiting thread to take the lock; no wait hands it straight back to us
_FRAME_BYTES: Final = 16  # room for what wire.join puts around the objects of a message
_NOT_STARTED: Final = 0  # what stands in place of the queue's limit while nothing may be appended
_CLOSED: Final = -1
_NO_REPORTER: Final = -2
_REASON_OF_STATE: Final = {_CLOSED: "closed", _NO_REPORTER: "no_reporter"}
_FIRST_RETRY_S: Final = 0.1
_MAX_RETRY_S: Final = 5.0
_QUICK_S: Final = 0.5  # what takes longer to fail is waiting for nothing: packets that vanish, a name without server
_LAST_WAIT_S: Final = 0.05  # for the thread to end, when there is nothing more to wait for


class Channel:
    """A bounded queue with its counts: one for spans, one for log records. ``put`` is safe anywhere, in signals too."""

    def __init__(self, kind: Kind, limit: int, encode: Callable[[Any], bytes | None], reporter: Reporter) -> None:
        self.kind: Kind = kind
        self._size = self._limit = limit
        self.encode = encode  # None: not even its bare bones fit into a message
        self._reporter = reporter
        self.reset()

    def reset(self) -> None:
        """Empty the queue and zero the counts; the next ``put`` starts the thread."""
        self.queue: deque[Any] = deque()
        # Up to this length put() need not think: half of the limit, or one of the states that let nothing in.
        self._free_until = _NOT_STARTED if self._reporter.sender else _NO_REPORTER
        self.in_flight = 0
        self.left = 0  # how many have left the queue and are settled, one way or the other
        self.reported = 0
        # Counted by "+= 1" on keys that are there: a signal handler or finalizer that drops in between cannot be lost.
        self.dropped = dict.fromkeys(REASONS, 0)
        self.told = dict.fromkeys(REASONS, 0)  # drops that some batch has carried to the collector, or is carrying
        self.lost = 0
        self.lost_told = 0
        self.telling: dict[int, tuple[dict[str, int], int]] = {}  # by id() of the span in flight that carries them
        self._successor: Channel | None = None
        self._since_ns: int | None = None

    def put(self, item: Any) -> None:
        """Queue a span or log record for the reporter's thread. Drops and counts when the queue is full."""
        queue = self.queue
        if len(queue) >= self._free_until:
            self._put_slowly(item)
        else:
            queue.append(item)

    def _put_slowly(self, item: Any) -> None:
        """Put what comes first, comes to a queue that is filling up, or comes when nothing may be put any more."""
        if self._successor is not None:
            if self._since_ns is None or item.start_ns >= self._since_ns:
                self._successor.put(item)
            return
        if self._free_until == _NOT_STARTED:
            try:
                if self._reporter.start():
                    self._open()
            except BaseException:  # a signal handler of the program raised in there: the next one starts the thread
                self.queue.append(item)
                raise
        length = len(self.queue)
        if self._free_until < 0 or length >= self._limit:
            self.drop(item, _REASON_OF_STATE.get(self._free_until, "queue_full"))
            return
        self.queue.append(item)
        if length == self._free_until > 0:
            self._reporter.wake()

    def _open(self) -> None:
        with self._reporter.lock:
            if self._free_until == _NOT_STARTED:  # not closed meanwhile
                self._free_until = max(self._limit // 2, 1)

    def fit(self, characters: int) -> None:
        """Take only so many of this size (characters or bytes, it is a bound and no count) that they stay within it."""
        limit = min(self._size, max(_FEWEST, self._size * _CHARACTERS_EACH // max(1, characters)))
        if limit == self._limit:
            return
        with self._reporter.lock:
            self._limit = limit
            if self._free_until > 0:
                self._free_until = max(limit // 2, 1)

    def close(self) -> None:
        """Take no more."""
        with self._reporter.lock:
            if self._free_until != _NO_REPORTER:
                self._free_until = _CLOSED

    def hand_over(self, successor: Channel, since_ns: int | None = None) -> None:
        """Give what is still put here to ``successor``: traces in flight know only this one.

        After a fork, but for spans begun before ``since_ns`` by the monotonic clock.
        """
        self.queue = deque()
        self._free_until = _CLOSED
        self._since_ns = since_ns
        self._successor = successor

    def drop(self, item: Any, reason: str) -> None:
        """Count a loss, for this process and, of a span, for its trace."""
        with self._reporter.lock:
            self.dropped[reason] += 1
            self.lost += 1
            if self.kind == "spans":
                item.trace.dropped += 1

    def tell(self, span: Span) -> None:
        """Put on a span what was lost and not told yet: of its trace, and of the process."""
        with self._reporter.lock:
            of_trace, span.trace.dropped = span.trace.dropped, 0
            untold = {why: n - self.told[why] for why, n in self.dropped.items() if n > self.told[why]}
            for why, count in untold.items():
                self.told[why] += count
                self.lost_told += count
            self.telling[id(span)] = untold, of_trace
        if of_trace:
            span.tags[wire.TRACE_DROPPED_TAG] = str(of_trace)
        if untold:
            span.tags[wire.DROPPED_TAG] = ",".join(f"{why}={count}" for why, count in sorted(untold.items()))

    def _told(self, span: Span, arrived: bool) -> None:
        """Counts that travelled on a span that itself was dropped have not been told."""
        untold, of_trace = self.telling.pop(id(span), ({}, 0))
        if arrived:
            return
        span.trace.dropped += of_trace
        for why, count in untold.items():
            self.told[why] -= count
            self.lost_told -= count

    def take(self) -> list[Any]:
        """Move up to a slice of the queue into flight."""
        with self._reporter.lock:
            queue = self.queue
            items = [queue.popleft() for _ in range(min(_SLICE, len(queue)))]
            self.in_flight += len(items)
        return items

    def settle(self, items: list[Any], drop_reason: str | None) -> None:
        """Count items in flight as delivered, or as dropped for a reason."""
        with self._reporter.lock:
            self.in_flight -= len(items)
            self.left += len(items)
            if self.telling:
                for item in items:
                    self._told(item, drop_reason is None)
            if drop_reason is None:
                self.reported += len(items)
                return
            for item in items:
                self.drop(item, drop_reason)

    def settle_parts(self, items: list[Any], delivered: Collection[int], drop_reason: str) -> None:
        """Count those at the places ``delivered`` as that, all others as dropped."""
        if delivered:
            self.settle([item for place, item in enumerate(items) if place in delivered], None)
            items = [item for place, item in enumerate(items) if place not in delivered]
        self.settle(items, drop_reason)

    def abandon(self) -> None:
        """Drop what is still queued, at the end."""
        while items := self.take():
            self.settle(items, "send_failed")

    def counts(self) -> dict[str, int]:
        """Return reported, dropped, queued and every reason, one consistent picture."""
        with self._reporter.lock:
            queued = len(self.queue) + self.in_flight
            return {"reported": self.reported, "dropped": self.lost, "queued": queued, **self.dropped}


class Reporter:
    """Batches by bytes and age, sends, retries with back-off, counts. All methods are safe in any thread.

    ``queue_size`` is in spans (and again in log records), ``flush_interval_s`` the longest that one waits for company.
    Without a sender everything is dropped as ``no_reporter``. ``on_start`` is called with the first that is queued.
    """

    def __init__(
        self,
        sender: Sender | None,
        service: str,
        queue_size: int,
        flush_interval_s: float,
        on_start: Callable[[], None] = lambda: None,
    ) -> None:
        if sender is not None:
            # Not when it is needed, on the reporter's thread: a child forked meanwhile could never import it.
            import logging  # noqa: F401
        self.sender = sender
        self._on_start = on_start
        self._room = sender.max_message_bytes - _FRAME_BYTES if sender else 0
        self._service = wire.encode_service(service)
        self._flush_interval_s = flush_interval_s
        self._outage = Outage(shared=sender is not None)  # stays over a fork
        self._begin()
        self.spans = Channel("spans", queue_size, self._encode_span, self)
        self.logs = Channel("logs", queue_size, self._encode_log, self)
        self._queue_size = queue_size

    def _begin(self) -> None:
        # Re-entrant: the garbage collector may finish a generator's span while it is held.
        self.lock = threading.RLock()
        self._idle = threading.Condition(self.lock)
        self._worker: threading.Thread | None = None
        self._started = False
        # Held while there is nothing to do; release() is "wake up". Unlike an Event it may be released from a signal
        # handler that interrupted its own release.
        self._nothing_to_do = threading.Lock()
        self._pause = threading.Lock()  # held for ever: to wait for it is to sleep
        self._flushing = 0  # callers of flush() that wait
        self._closing = False
        self._gave_up = False
        self._failures = 0  # tries that failed and may be repeated
        self._answered = False  # whether the last of them got an answer
        self._problem = ""  # of the last of them
        self._trying_since = math.inf  # when the sender was called, while it is
        self.errors = 0

    # On the application's threads.

    def start(self) -> bool:
        """Start the thread, once. False where the system has none to give, as at exit: then ``shutdown`` delivers."""
        with self.lock:
            if self._started:
                return True
            self._started = True  # first, so that a signal handler which finishes a span meanwhile starts no second one
            # Made here, not before: gevent may have patched the module since, and this lock is the one waited for.
            self._nothing_to_do = threading.Lock()
            self._nothing_to_do.acquire()
            self._pause = threading.Lock()
            self._pause.acquire()
            self._worker = threading.Thread(target=self._run_in_own_context, name="clew-reporter", daemon=True)
            try:
                self._worker.start()
            except RuntimeError as problem:
                self._started, self._worker = False, None
                if threading.main_thread().is_alive():
                    self.note_error(f"no thread for the reporter: {problem}")
                else:  # at exit
                    self._on_start()
                return False
            except BaseException:  # a signal handler of the program raised in there; whether it runs cannot be told
                self._started, self._worker = False, None
                raise
        self._on_start()
        return True

    def wake(self) -> None:
        """Tell the thread that there is work for it before its time."""
        try:
            self._nothing_to_do.release()
        except RuntimeError:  # awake already
            pass

    def flush(self, timeout: float) -> bool:
        """Wait until all that was handed in before is delivered or dropped; False when ``timeout`` seconds ran out."""
        deadline = _clock.monotonic_s() + timeout
        return self._wait(lambda: deadline)

    def deliver(self, timeout: float) -> bool:
        """Flush before the process ends, the one rule for all its ends. False when something is left.

        A collector that is there gets everything within ``timeout`` seconds, also when it says "later" first. One
        that was known to be away, here or in the process this was forked from, delays nobody: it is asked once, for
        a moment, and not at all if waiting for it was in vain just now. One that proves to be away is not waited for.
        """
        if not self._queued():
            return True
        if self._worker is None:
            return self._deliver_without_thread(timeout)
        began = _clock.monotonic_s()
        failures, reported = self._failures, self._reported()
        patience_s, was_away = self._outage.patience_s(timeout), self._outage.known

        def deadline() -> float:
            if was_away and not self._outage.known:
                return began + timeout  # it is back
            if self._failures != failures and (was_away or not self._answered):
                return began  # no use
            if 0 < patience_s < timeout:
                return min(self._trying_since + patience_s, began + timeout)
            return began + patience_s

        delivered = self._wait(deadline)
        silent = self._failures == failures and self._reported() == reported
        if not delivered and silent and not was_away and timeout > _LAST_WAIT_S:
            self._outage.note_failure(slow=True)
        return delivered

    def _wait(self, deadline: Callable[[], float]) -> bool:
        if self._worker is threading.current_thread():  # a sender or log handler that flushes would wait for itself
            return not self._queued()
        with self.lock:
            goals = [(channel, channel.left + channel.in_flight + len(channel.queue)) for channel in self._channels()]
            self._flushing += 1
            try:
                while any(channel.left < goal for channel, goal in goals):
                    left = deadline() - _clock.monotonic_s()
                    if left <= 0 or self._worker is None or not self._worker.is_alive():
                        return False
                    self.wake()
                    self._idle.wait(min(left, PATIENCE_S))  # the deadline may move
            finally:
                self._flushing -= 1
        return True

    def shutdown(self, timeout: float) -> bool:
        """Take no more, ``deliver`` within ``timeout`` seconds, count the rest as ``send_failed``. Idempotent.

        True when nothing had to be given up.
        """
        for channel in self._channels():
            channel.close()
        deadline = _clock.monotonic_s() + timeout
        delivered = self.deliver(timeout)
        self._gave_up = self._gave_up or not delivered
        self._closing = True
        self.wake()
        thread = self._worker
        if thread is not None and thread is not threading.current_thread():
            thread.join(max(deadline - _clock.monotonic_s(), _LAST_WAIT_S) if delivered else _LAST_WAIT_S)
        for channel in self._channels():
            channel.abandon()
        return not any(channel.dropped["send_failed"] or channel.in_flight for channel in self._channels())

    def leave(self, timeout: float, for_good: bool = True) -> None:
        """``shutdown`` (else ``deliver``) at the end of the process; say in the log what is left, once in a family."""
        if self._closing:  # by the program, which has been told what was left
            return
        failures = self._failures
        if self.shutdown(timeout) if for_good else self.deliver(timeout):
            return
        left = [channel.counts() for channel in self._channels()]
        spans, logs = (counts["queued"] + counts["send_failed"] for counts in left)
        said = self._failures != failures and self._failures == 1  # by note_error, just now
        if spans + logs and not said and self._outage.first_to_tell_loss():
            problem = self._problem or f"no answer within {timeout:g} s; {IS_IT_UP}"
            what = " and ".join(_counted(n, name) for n, name in ((spans, "span"), (logs, "log record")) if n)
            warn("%s could not be sent before the process ended: %s", what, problem)

    def _deliver_without_thread(self, timeout: float) -> bool:
        """Send what is queued here and now, each message tried once: 3.12 starts no thread in an exit handler."""
        if self.sender is None or self._outage.patience_s(timeout) <= 0:
            return False
        if hasattr(self.sender, "timeout_s"):
            self.sender.timeout_s = min(self.sender.timeout_s, timeout)
        for channel in self._channels():
            self._drain(channel, self.sender)
        self.sender.close()
        delivered, self._gave_up = not self._gave_up, False
        return delivered

    def _reported(self) -> int:
        return sum(channel.reported for channel in self._channels())

    def after_fork_in_child(self) -> None:
        """Begin anew: the parent's thread is not here, its lock may be held for ever, its spans are the parent's."""
        self._begin()
        of_parent, self.spans = self.spans, Channel("spans", self._queue_size, self._encode_span, self)
        of_parent.hand_over(self.spans, _context.ticks_ns())
        self.logs.reset()
        if self.sender is not None:
            try:
                self.sender.close()
            except Exception as problem:  # noqa: BLE001 - a user's own sender must not spoil the fork
                self.note_error(f"the sender could not be closed after a fork: {problem!r}")

    def note_error(self, text: str) -> None:
        """Count an error; the first also goes to the log, so that silence has a reason one can read."""
        with self.lock:
            self.errors += 1
        if self._outage.first_to_tell_error():
            warn("%s (counted in clew.stats(); further errors are not logged)", text)

    def _channels(self) -> tuple[Channel, Channel]:
        return self.spans, self.logs

    def _queued(self) -> int:
        return sum(len(channel.queue) + channel.in_flight for channel in self._channels())

    # On the reporter's thread.

    def _run_in_own_context(self) -> None:
        contextvars.Context().run(self._run)  # not in the trace of whichever request happened to start the thread

    def _run(self) -> None:
        if self._worker is not threading.current_thread():  # its start was interrupted, and another one made
            return
        assert self.sender is not None  # noqa: S101 - for the type checker: without a sender nothing starts the thread
        while True:
            self._nothing_to_do.acquire(timeout=self._flush_interval_s)
            for channel in self._channels():
                self._drain(channel, self.sender)
            if self._flushing:
                with self.lock:
                    self._idle.notify_all()
            if self._closing and not self._queued():
                self.sender.close()
                return

    def _drain(self, channel: Channel, sender: Sender) -> None:
        """Send what is queued now, in messages as large as the sender takes."""
        items: list[Any] = []
        messages: list[bytes] = []
        size = 0
        encode = channel.encode
        for _ in range(len(channel.queue) // _SLICE + 1):
            for item in channel.take():
                try:
                    encoded = encode(item)
                except Exception as problem:  # noqa: BLE001 - whatever an application put in must not end the thread
                    self.note_error(f"a {type(item).__name__} could not be encoded: {problem!r}")
                    channel.settle([item], "encode_failed")
                    continue
                if encoded is None:
                    channel.settle([item], "too_large")
                    continue
                if messages and size + len(encoded) > self._room:
                    self._deliver(channel, sender, items, messages)
                    items, messages, size = [], [], 0
                items.append(item)
                messages.append(encoded)
                size += len(encoded) + 1
            self._pause.acquire(timeout=_YIELD_S)  # not time.sleep, which a program may have replaced
        if messages:
            self._deliver(channel, sender, items, messages)

    def _encode_span(self, span: Span) -> bytes | None:
        spans = self.spans
        if span.trace.dropped or spans.lost != spans.lost_told:
            spans.tell(span)
        encoded = wire.encode_span(span, self._service)
        return encoded if len(encoded) <= self._room else wire.encode_span_within(span, self._service, self._room)

    def _encode_log(self, line: wire.LogLine) -> bytes | None:
        encoded = wire.encode_log(line)
        return encoded if len(encoded) <= self._room else wire.encode_log_within(line, self._room)

    def _deliver(self, channel: Channel, sender: Sender, items: list[Any], messages: list[bytes]) -> None:
        """Send one message; wait and try again while the collector is away, give up only when told to or at the end."""
        channel.fit(sum(map(len, messages)) // len(messages))
        wait_s = _FIRST_RETRY_S
        delivered: Collection[int] = ()
        while not self._gave_up:
            began = self._trying_since = _clock.monotonic_s()
            try:
                sender.send(messages, channel.kind)
            except Exception as problem:  # noqa: BLE001 - a sender, ours or the user's, must not end the thread
                delivered = problem.delivered if isinstance(problem, SendError) else ()
                count = len(items) - len(delivered)
                self.note_error(f"{_counted(count, channel.kind[:-1])} could not be sent: {problem}")
                if isinstance(problem, SendError) and not problem.retry:
                    self._trying_since = math.inf
                    self._outage.note_success()  # it is there
                    channel.settle_parts(items, delivered, "refused")
                    return
                self._note_failure(problem, _clock.monotonic_s() - began)
                if not self._gave_up:
                    self._back_off(max(wait_s, getattr(problem, "after_s", 0.0)))
                    wait_s = min(wait_s * 2, _MAX_RETRY_S)
            else:
                self._trying_since = math.inf
                self._outage.note_success()
                channel.settle(items, None)
                return
        channel.settle_parts(items, delivered, "send_failed")

    def _note_failure(self, problem: Exception, took_s: float) -> None:
        """Let those know that wait for the end: here, and in forked children."""
        self._trying_since = math.inf
        refused = isinstance(problem.__cause__ or problem, ConnectionRefusedError)  # on a busy machine that takes time
        self._outage.note_failure(slow=took_s > _QUICK_S and not refused)
        with self.lock:
            self._failures += 1
            self._answered = isinstance(problem, SendError) and problem.answered
            self._problem = str(problem) or type(problem).__name__
            self._gave_up = self._gave_up or self._closing or self._worker is None
            self._idle.notify_all()

    def _back_off(self, wait_s: float) -> None:
        """Wait before the next try. Whoever flushes makes it come soon, whoever shuts down at once."""
        deadline = _clock.monotonic_s() + wait_s
        while not self._closing:
            left = deadline - _clock.monotonic_s()
            if left <= 0 or (self._flushing and left < wait_s - _FIRST_RETRY_S):
                return
            self._weigh()
            self._nothing_to_do.acquire(timeout=min(left, _FIRST_RETRY_S))

    def _weigh(self) -> None:
        """Bound what waits by size, too, judging by the newest; whoever puts it in pays nothing for that."""
        for channel, weight in ((self.spans, _characters_of_span), (self.logs, _characters_of_line)):
            try:
                newest = [channel.queue[-place] for place in range(1, min(_WEIGHED, len(channel.queue)) + 1)]
            except IndexError:  # the program ends, and has taken them meanwhile
                return
            if newest:
                channel.fit(sum(map(weight, newest)) // len(newest))


def _characters_of_span(span: Span) -> int:
    noted = sum(len(note) for _, note in span.annotations or ())
    return len(span.name) + noted + sum(len(key) + len(value) for key, value in span.tags.items())


def _characters_of_line(line: wire.LogLine) -> int:
    return len(line.message) + len(line.exception or "")


def _counted(count: int, name: str) -> str:
    return f"{count} {name}" if count == 1 else f"{count} {name}s"


def warn(text: str, *values: object) -> None:
    """Log at WARNING on the logger ``clew``."""
    try:
        import logging

        logging.getLogger("clew").warning(text, *values)
    except Exception as failure:
        # The application's own filters and handlers, or an interpreter that ends.
        if is_alarm(failure):
            raise
