"""The live feed: what ingest has just stored, for whoever follows it (``GET /api/v1/tail``).

Beside the way of the data, never in it: without a follower publishing is one look at an empty tuple, and a follower who
reads too slowly loses payloads and is told how many; nobody waits for it.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from clew.collector.metrics import Metrics
    from clew.collector.store import Kind

BACKLOG: Final = 256  # payloads kept for one follower
BACKLOG_BYTES: Final = 4 << 20  # ... and bytes; what is larger alone is not shown
MAX_FOLLOWERS: Final = 100


class TooManyFollowers(Exception):  # noqa: N818 - it is for the one who asked
    """No more may follow at the moment."""


class Published(NamedTuple):
    """One stored payload: a JSON array of spans or of log records. ``lost`` payloads before it were not delivered."""

    kind: Kind
    payload: bytes
    lost: int


class Feed:
    """All followers. ``publish`` may be called from any thread."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._lock = threading.Lock()
        self._subscriptions: tuple[Subscription, ...] = ()

    def subscribe(self) -> Subscription:
        """Return a new follower, bound to the running event loop. Raises :class:`TooManyFollowers`."""
        subscription = Subscription(self, self._metrics)
        with self._lock:
            if len(self._subscriptions) >= MAX_FOLLOWERS:
                raise TooManyFollowers(f"{MAX_FOLLOWERS} are following already. Try again later.")
            self._subscriptions += (subscription,)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Forget a follower; unknown ones are ignored."""
        with self._lock:
            self._subscriptions = tuple(other for other in self._subscriptions if other is not subscription)

    def close(self) -> None:
        """End all followers."""
        for subscription in self._subscriptions:
            subscription.close()

    def publish(self, kind: Kind, rows: bytes) -> None:
        """Hand JSON objects, joined by commas, to every follower."""
        for subscription in self._subscriptions:
            subscription.put(kind, rows)


class Subscription:
    """An endless async iterator of :class:`Published`; ``close`` (or leaving ``with``) ends it.

    Iterate in the event loop in which it was made.
    """

    def __init__(self, feed: Feed, metrics: Metrics) -> None:
        self._feed = feed
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._arrived = asyncio.Event()
        self._items: deque[tuple[Kind, bytes]] = deque()
        self._bytes = 0  # of all items
        self._lost = 0
        self._closed = False
        self._lock = threading.Lock()

    def __enter__(self) -> Subscription:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Published:
        while True:
            with self._lock:
                if self._items:
                    (kind, rows), lost, self._lost = self._items.popleft(), self._lost, 0
                    self._bytes -= len(rows)
                    return Published(kind, b"[%b]" % rows, lost)
                self._arrived.clear()
            if self._closed:
                raise StopAsyncIteration
            await self._arrived.wait()

    def put(self, kind: Kind, rows: bytes) -> None:
        """Add a payload; the oldest ones go when there is no room. Any thread."""
        with self._lock:
            self._items.append((kind, rows))
            self._bytes += len(rows)
            while len(self._items) > BACKLOG or self._bytes > BACKLOG_BYTES:
                self._bytes -= len(self._items.popleft()[1])
                self._lost += 1
                self._metrics.count("feed_lost_total")
        self._wake()

    def close(self) -> None:
        """End the iteration. Idempotent; any thread."""
        self._closed = True
        self._feed.unsubscribe(self)
        self._wake()

    def _wake(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._arrived.set)
        except RuntimeError:
            pass  # the loop of a follower that was never closed is gone; so is the follower
