"""From the journal into the store: one insert a group, the spool while the store is down, payloads it cannot read.

Called by ingest's one thread only. Every insert carries a token that follows from the group and the place in it, so
that a group may be inserted again from its start, also by the next process, and nothing is stored twice.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from typing import TYPE_CHECKING, Final

from clew.collector.ingest.payload import check_carefully
from clew.collector.store import Kind, SpanStore, StoreError, UnreadableRows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clew.collector.ingest.journal import Entry, Group, Journal
    from clew.collector.metrics import Metrics

RETRY_S: Final = (0.5, 10.0)  # the store has failed: first and longest wait before it is tried again

_log = logging.getLogger("clew.collector")


class Inserter:
    """Puts groups into the store, in order; those that it does not take stay in the journal and are tried again."""

    def __init__(self, store: SpanStore, journal: Journal, metrics: Metrics) -> None:
        self._store = store
        self._journal = journal
        self._metrics = metrics
        self._spooled = deque(journal.pending())  # names of groups to store before any new one
        self._retry_at, self._retry_s = 0.0, RETRY_S[0]

    @property
    def spooling(self) -> bool:
        """Whether the store failed, so that groups wait in the journal. Any thread."""
        return bool(self._spooled)

    @property
    def retry_at(self) -> float:
        """When the store is to be tried again, on the monotonic clock."""
        return self._retry_at

    def insert(self, group: Group) -> None:
        """Store a new group, or add it to the spool if there is one or the store fails."""
        if self._spooled:  # older groups come first
            self._spooled.append(group.name)
            return
        try:
            self._store_group(group)
        except StoreError as error:
            _log.warning("ingest: the store failed, payloads are spooled on disk until it is back: %s", error)
            self._spooled.append(group.name)
            self._postpone()

    def replay(self) -> None:
        """Store the spooled groups, oldest first, until the store fails again."""
        while self._spooled:
            try:
                self._store_group(self._journal.read(self._spooled[0]))
            except StoreError:
                self._postpone()
                return
            self._spooled.popleft()
        self._retry_s = RETRY_S[0]

    def _postpone(self) -> None:
        """Try again after a while, ever longer."""
        self._metrics.count("insert_failures_total")
        self._retry_at = time.monotonic() + self._retry_s
        self._retry_s = min(self._retry_s * 2, RETRY_S[1])

    def _store_group(self, group: Group) -> None:
        if group.items:
            self._store_range(group, 0, len(group.entries))
        self._journal.done(group)

    def _store_range(self, group: Group, start: int, end: int) -> None:
        """Store these payloads; where the store cannot read one, halve until it stands alone and harms no other."""
        token = group.token if end - start == len(group.entries) else f"{group.token}-{start}-{end}"
        try:
            self._put(group.kind, _joined(group.entries[start:end]), token)
        except UnreadableRows:
            if end - start == 1:
                self._store_plain(group, start)
                return
            middle = (start + end) // 2
            self._store_range(group, start, middle)
            self._store_range(group, middle, end)

    def _store_plain(self, group: Group, index: int) -> None:
        """Store a payload that the store cannot read as it came in plain form; if it cannot even that, set it aside."""
        self._metrics.count("rows_unreadable_total")
        plain = check_carefully(group.kind, _as_payload(group.kind, group.entries[index].rows))
        try:
            self._put(group.kind, plain.rows, f"{group.token}-{index}-plain")
        except UnreadableRows as error:
            name = self._journal.set_aside(group, index)
            _log.error("ingest: the store cannot read a payload; it is set aside as %s: %s", name, error)

    def _put(self, kind: Kind, rows: bytes, token: str) -> None:
        if rows:
            self._store.insert(kind, b"[%b]" % rows, token)
            self._metrics.count("inserts_total")


def _joined(entries: Sequence[Entry]) -> bytes:
    return b",".join([entry.rows for entry in entries if entry.items])


def _as_payload(kind: Kind, rows: bytes) -> bytes:
    return b'{"logs":[%b]}' % rows if kind == "logs" else b"[%b]" % rows
