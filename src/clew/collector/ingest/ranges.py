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

TRIES_WHOLE: Final = 3  # so often a range is tried before it is cut in halves
IN_A_ROW: Final = 40  # failures, and it is the store; twice the halvings that one payload of a million takes
DOUBT_S: Final = 1.0  # longer than the engine takes from noting a token to having the rows

_log = logging.getLogger("clew.collector")


class PartlyThereError(Exception):
    """Of a range that is repeated some payloads are stored and some are not."""


class Ranges:
    """Stores ranges. Used by one thread; ``stored`` is told of payloads whose rows have come to be in a table."""

    def __init__(self, store: SpanStore, metrics: Metrics, stored: Callable[[Checked], None]) -> None:
        self._store = store
        self._metrics = metrics
        self._stored = stored
        self._in_doubt = False  # an insert came through in part, perhaps
        self._in_a_row = 0  # inserts that failed

    def insert(self, payloads: Sequence[Checked], token: str, source: str, *, failures: int) -> list[tuple[int, str]]:
        """Store payloads of one kind, once per ``token``; return the places of what the store refuses, and why.

        ``failures``: tries before this one, by whomever, that may have come through. Raises :class:`StoreError`: then
        call it again, with one failure more, until it comes through. After a few of them, if the store takes other
        things, the range is cut in halves, and these again, to find the payload at fault.
        """
        self._in_a_row = 0
        try:
            if failures >= TRIES_WHOLE and len(payloads) > 1 and self._store.works():
                return self._halves(payloads, token, source)
            return self._whole(payloads, token, source, failures > 0)
        finally:
            self._mend()

    def _whole(self, payloads: Sequence[Checked], token: str, source: str, again: bool) -> list[tuple[int, str]]:
        full = [checked for checked in payloads if checked.items]
        try:
            new = not full or self._put(full, token, again)
        except (PartlyThereError, UnreadableRows) as error:
            if len(payloads) > 1:
                return self._halves(payloads, token, source)
            self._metrics.count("rows_unreadable_total")
            return [(0, str(error))]
        self._in_a_row = 0
        for checked in payloads:
            self._count(checked, source, new)
        return []

    def _halves(self, payloads: Sequence[Checked], token: str, source: str) -> list[tuple[int, str]]:
        """Store each half by itself, under a token of its own, always the same one."""
        middle = len(payloads) // 2
        first = self._half(payloads[:middle], f"{token}.0", source)
        second = self._half(payloads[middle:], f"{token}.1", source)
        return first + [(middle + place, why) for place, why in second]

    def _half(self, payloads: Sequence[Checked], token: str, source: str) -> list[tuple[int, str]]:
        try:
            return self._whole(payloads, token, source, True)
        except StoreError as error:
            self._in_a_row += 1
            if self._in_a_row > IN_A_ROW or not self._store.works():
                raise  # it is the store
            if len(payloads) > 1:
                return self._halves(payloads, token, source)
            return [(0, str(error))]

    def _put(self, payloads: Sequence[Checked], token: str, again: bool) -> bool:
        """Insert; return False where everything was there."""
        kind = payloads[0].kind
        rows = b",".join([checked.rows for checked in payloads])
        self._in_doubt |= again
        if again and self._holds(kind, payloads):
            return False
        self._store.insert(kind, rows, token)
        if again and not self._comes_to_hold(kind, payloads):
            # The engine notes a token before it has the rows, and was killed in between or found the disk full.
            self._store.insert(kind, rows, f"{token}.{uuid.uuid4().hex}")
        self._metrics.count("inserts_total")
        return True

    def _holds(self, kind: Kind, payloads: Sequence[Checked]) -> bool:
        """Look for both ends: a client that sent the last one twice must not make the rest look stored.

        Raises :class:`PartlyThereError` where one is there without the other: they were stored in parts.
        """
        first, last = (self._store.holds(kind, payload.rows) for payload in (payloads[0], payloads[-1]))
        if first != last:
            raise PartlyThereError
        return first

    def _comes_to_hold(self, kind: Kind, payloads: Sequence[Checked]) -> bool:
        """Look once more after a while: another process may be about to finish this very insert."""
        if self._holds(kind, payloads):
            return True
        time.sleep(DOUBT_S)
        return self._holds(kind, payloads)

    def _mend(self) -> None:
        """Have the store see to what it derives. Tried again with the next range when it fails."""
        if not self._in_doubt:
            return
        try:
            self._store.mend()
        except StoreError as error:
            _log.warning("ingest: what follows from the rows could not be made again: %s", error)
            return
        self._in_doubt = False

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
