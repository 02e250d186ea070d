"""Traces that go on beyond ten minutes -> the table ``far_traces``, which every question about a time looks into.

It follows from ``trace_index``; looking there costs a scan of it. What arrives is looked up in it once, ten minutes
whole: for all that has arrived meanwhile, before a question is answered. Where that is much, it is done at most a
twentieth of the time, so with 100 million spans a trace that comes back after ten minutes may be missed by questions
of the next seconds. After a start the table is made anew, beside all else; until then the index is asked.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from clew.collector.query.reader import Reader
    from clew.collector.store import SpanStore

MANY_SPANS: Final = 50_000  # looking for so many takes longer than a question may wait each time
_REST: Final = 20
_STEPS: Final = 16  # with 100 million spans, 60 MB each
_ALL: Final = {"first": 0, "last": 2**63}


class Far:
    """Keeps ``far_traces`` up to date. Thread-safe."""

    def __init__(self, store: SpanStore) -> None:
        self._store = store
        self._turn = threading.Lock()
        self._made = False
        self._inserted = -1
        self._arrived: dict[int, int] = {}  # by ten minutes, when they were last looked up
        self._not_before = 0.0

    def make(self, reader: Reader) -> None:
        """Make the table anew after a start."""
        with self._turn:
            if not self._made:
                self._look_up(reader)

    def catch_up(self, reader: Reader) -> bool:
        """Look up what has arrived; whether the table may be asked."""
        with self._turn:
            if self._made and (self._inserted == self._store.inserted or time.monotonic() < self._not_before):
                return True
            if not self._made and reader.select("arrived", _ALL)[0]["spans"] > MANY_SPANS:
                return False
            self._look_up(reader)
            return True

    def _fill(self, buckets: list[int]) -> None:
        """Fill the table from these buckets, or from all; in steps that bound the engine's memory."""
        width = 2**32 if buckets else 2**32 // _STEPS
        for first in range(0, 2**32, width):
            keys = {"first_key": first, "last_key": first + width - 1}
            self._store.derive("derive_far", {**keys, "buckets": buckets})

    def _look_up(self, reader: Reader) -> None:
        inserted, begun = self._store.inserted, time.monotonic()
        arrived = {row["bucket"]: row["arrived"] for row in reader.select("recent_arrivals", {})}
        changed = {bucket: rows for bucket, rows in arrived.items() if self._arrived.get(bucket) != rows}
        if changed or not self._made:
            self._fill(list(changed) if self._made else [])
        self._made, self._inserted, self._arrived = True, inserted, arrived
        if sum(changed.values()) > MANY_SPANS:
            self._not_before = time.monotonic() + _REST * (time.monotonic() - begun)
