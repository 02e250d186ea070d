"""Into the store without the journal: ranges of a log that outlives us, such as a partition of Kafka.

That log *is* the journal of what it holds: whoever reads it can always read the same range again, under the same token.
So a range is not written a second time; it goes straight into the store, on the thread of its receiver, which keeps it
until the store has it. What a receiver has to do so that a range is always the same one is told in
:mod:`clew.collector.receivers.claims`.
"""

from __future__ import annotations

import logging
import time
import uuid
from typing import TYPE_CHECKING, Final

from clew.collector.store import StoreError, UnreadableRows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from clew.collector.ingest.payload import Checked
    from clew.collector.metrics import Metrics
    from clew.collector.store import Kind, SpanStore

DOUBT_S: Final = 1.0  # longer than the engine takes from noting a token to having the rows

_log = logging.getLogger("clew.collector")


class Ranges:
    """Stores ranges. Used by one thread; ``stored`` is told of payloads whose rows have come to be in a table."""

    def __init__(self, store: SpanStore, metrics: Metrics, stored: Callable[[Checked], None]) -> None:
        self._store = store
        self._metrics = metrics
        self._stored = stored

    def insert(self, payloads: Sequence[Checked], token: str, source: str, *, again: bool) -> list[tuple[int, str]]:
        """Store payloads of one kind, once per ``token``; return the places of what the store cannot read, and why.

        ``again``: this very range may be stored already, by an earlier try or by another process. Raises
        :class:`StoreError`: then call it with ``again``, until it comes through.
        """
        full = [checked for checked in payloads if checked.items]
        try:
            new = not full or self._put(full, token, again)
        except UnreadableRows as error:
            return self._one_by_one(payloads, token, source, again, str(error))
        for checked in payloads:
            self._count(checked, source, new)
        return []

    def _put(self, payloads: Sequence[Checked], token: str, again: bool) -> bool:
        """Insert; return False where everything was there."""
        kind = payloads[0].kind
        rows = b",".join([checked.rows for checked in payloads])
        if again and self._holds(kind, payloads):
            self._mend()
            return False
        self._store.insert(kind, rows, token)
        if again and not self._comes_to_hold(kind, payloads):
            # The engine notes a token before it has the rows, and was killed in between or found the disk full.
            self._store.insert(kind, rows, f"{token}.{uuid.uuid4().hex}")
        if again:
            self._mend()
        self._metrics.count("inserts_total")
        return True

    def _holds(self, kind: Kind, payloads: Sequence[Checked]) -> bool:
        """Look for both ends: a client that sent the last one twice must not make the rest look stored."""
        return all(self._store.holds(kind, rows) for rows in {payloads[0].rows, payloads[-1].rows})

    def _comes_to_hold(self, kind: Kind, payloads: Sequence[Checked]) -> bool:
        """Look once more after a while: another process may be about to finish this very insert."""
        if self._holds(kind, payloads):
            return True
        time.sleep(DOUBT_S)
        return self._holds(kind, payloads)

    def _mend(self) -> None:
        try:
            self._store.mend()
        except StoreError as error:
            _log.warning("ingest: what follows from the rows could not be made again: %s", error)

    def _one_by_one(
        self, payloads: Sequence[Checked], token: str, source: str, again: bool, reason: str
    ) -> list[tuple[int, str]]:
        """Find what the store cannot read; each payload has a token of its own then, always the same one."""
        if len(payloads) == 1:
            self._metrics.count("rows_unreadable_total")
            return [(0, reason)]
        found = []
        for place, checked in enumerate(payloads):
            bad = self.insert([checked], f"{token}.{place}", source, again=again)
            found += [(place, why) for _, why in bad]
        return found

    def _count(self, checked: Checked, source: str, new: bool) -> None:
        count = self._metrics.count
        count("payloads_total", source=source)
        count("payload_bytes_total", len(checked.rows), source=source)
        if not new:
            count("payloads_repeated_total", source=source)
            return
        count("payloads_stored_total", source=source)
        counter = "spans_stored_total" if checked.kind == "spans" else "log_records_stored_total"
        count(counter, checked.items, source=source)
        self._stored(checked)
