"""From the journal into the store: one group at a time, and what becomes of it when the store refuses.

No group stands in another's way. What the store says decides:

* :class:`UnreadableRows`: the fault is in these bytes, and nothing of them was stored. The group becomes two, each is
  inserted behind those that wait, and so on down to the one payload at fault, which is set aside with the reason.
* Anything else, while the store takes a row of the inserter's own and has room: perhaps something about this group. It
  is tried again after a while, alone, and then cut as above. A payload is set aside only when others came through
  since it failed first: that shows whose fault it is.
* Anything else, while the store takes nothing, or refuses one group after the other: the store. Everything waits
  (:class:`StoreError` is raised).

An insert may have come through though an error was told, and a killed process leaves the same doubt: the token makes
the repetition a no-op. Whether the rows are there is asked all the same, for the engine notes the token first.
"""

from __future__ import annotations

import logging
import time
import uuid
from typing import TYPE_CHECKING, Final, get_args

from clew.collector.store import Kind, SpanStore, StoreError, UnreadableRows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from clew.collector.ingest.journal import Group, Journal
    from clew.collector.ingest.record import Record
    from clew.collector.metrics import Metrics

ALONE_S: Final = 0.5  # how long a group that fails alone waits at first; each time twice as long
ALONE_LONGEST_S: Final = 60.0
TRIES_WHOLE: Final = 2  # so often a group is tried before it is cut in two, for a reason that is not in its bytes
TRIES_SINGLE: Final = 4  # ... and a payload, before it is set aside
CUTS_IN_DOUBT: Final = 3  # so often a group is cut while it is not known whether the store takes any other
IN_A_ROW: Final = 8  # failures of whatever group, and it is the store
_KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

_log = logging.getLogger("clew.collector")


class Inserter:
    """Puts groups into the store. Called by ingest's one thread."""

    def __init__(self, store: SpanStore, journal: Journal, metrics: Metrics) -> None:
        self._store = store
        self._journal = journal
        self._metrics = metrics
        self._came_through = 0  # inserts
        self._in_a_row = 0  # that failed since
        self._in_doubt = False  # an insert came through in part, perhaps
        self.on_stored: Callable[[Kind, int], None] | None = None  # rows of a kind are in the table, so many

    def insert(self, group: Group) -> list[Group]:
        """Store a group; return what is left to do: nothing, itself for later, or the two that it became.

        Raises :class:`StoreError` when the store as a whole takes nothing, ``OSError`` when the disk does.
        """
        if group.stored:
            return self._finish(group)
        records = self._journal.read(group)
        self._journal.prepare(group, records)
        try:
            for kind in _KINDS:
                self._put(kind, group, records)
        except UnreadableRows as error:
            return self._cut(group, records, str(error))
        except Exception as error:  # noqa: BLE001 - whatever an insert dies of, it is about this group or the store
            return self._failed(group, records, error)
        return self._finish(group)

    def _put(self, kind: Kind, group: Group, records: Sequence[Record]) -> None:
        """Insert the rows of one kind, once."""
        rows = _rows(kind, records)
        if not rows:
            return
        token = _token(group, kind)
        self._store.insert(kind, b",".join(rows), token)
        if group.suspect and not self._store.holds(kind, bytes(rows[-1])):
            # The engine noted the token and was killed, or found the disk full, before it had the rows. The same may
            # happen to any other token, so each try has one of its own: the question before it says that it is needed.
            self._store.insert(kind, b",".join(rows), f"{token}.{uuid.uuid4().hex}")
        self._metrics.count("inserts_total")
        self._came_through += 1
        self._in_a_row = 0
        if self.on_stored:
            self.on_stored(kind, sum(record.span_count if kind == "spans" else record.log_count for record in records))

    def _failed(self, group: Group, records: Sequence[Record], error: Exception) -> list[Group]:
        """An insert failed, and not because of what the bytes are: find out whether it is the store or this group."""
        self._metrics.count("insert_failures_total")
        group.suspect = True
        self._in_a_row += 1
        if self._in_a_row > IN_A_ROW or not self._store.works(room=2 * group.size):
            raise StoreError(_first(error)) from error
        group.since = group.since if group.failures else self._came_through
        group.failures += 1
        if self._may_cut(group, single=len(records) == 1):
            if not _is_mixed(records) and self._is_there(records):
                return self._finish(group)
            return self._cut(group, records, str(error))
        wait_s = min(ALONE_S * 2 ** (group.failures - 1), ALONE_LONGEST_S)
        group.due = time.monotonic() + wait_s
        _log.warning("ingest: the store refused a group of %d, again in %.1f s: %s", group.items, wait_s, _first(error))
        return [group]

    def _may_cut(self, group: Group, *, single: bool) -> bool:
        """Whether this group is at fault, as far as can be known."""
        if group.failures < (TRIES_SINGLE if single else TRIES_WHOLE):
            return False
        others_came_through = self._came_through > group.since
        return others_came_through or (not single and group.token.count(".") < CUTS_IN_DOUBT)

    def mend(self) -> None:
        """Have the store see to what it derives, if an insert came through in part. Tried again when it fails."""
        if not self._in_doubt:
            return
        try:
            self._store.mend()
        except StoreError as error:
            _log.warning("ingest: what follows from the rows could not be made again: %s", _first(error))
            return
        self._in_doubt = False

    def _finish(self, group: Group) -> list[Group]:
        group.stored = True
        self._in_doubt |= group.suspect
        self._journal.done(group)
        return []

    def _is_there(self, records: Sequence[Record]) -> bool:
        """Whether an insert that failed came through all the same."""
        return any(self._store.holds(kind, bytes(rows[-1])) for kind in _KINDS if (rows := _rows(kind, records)))

    def _cut(self, group: Group, records: Sequence[Record], reason: str) -> list[Group]:
        if len(records) > 1 or _is_mixed(records):
            return self._journal.split(group, records)
        self._metrics.count("rows_unreadable_total")
        name = self._journal.set_aside(group, records, reason)
        _log.error("ingest: the store cannot take a payload; it is set aside as %s: %s", name, _first(reason))
        return []


def _rows(kind: Kind, records: Sequence[Record]) -> list[bytes | memoryview]:
    return [rows for record in records if (rows := record.spans if kind == "spans" else record.logs)]


def _token(group: Group, kind: Kind) -> str:
    """The kind is in the name already where a group was cut by kind, so that both have one token for these rows."""
    return group.token if f".{kind}" in group.token else f"{group.token}.{kind}"


def _is_mixed(records: Sequence[Record]) -> bool:
    return all(any(_rows(kind, [record]) for record in records) for kind in _KINDS)


def _first(error: object) -> str:
    """Return the first line of an engine's message, without its list of versions and stack."""
    return str(error).partition("\n")[0][:300]
