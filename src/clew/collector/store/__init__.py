"""Where spans and log records lie: the contract that a store keeps. ``clickhouse`` is the one that is there.

Between ``ingest`` (which inserts) and ``query`` (which selects). The contract in words:

* **insert** takes many spans (or log records) as JSON in the one form that the check of payloads writes, and
  returns when they can be queried and a killed process loses none of them. All of them are stored or, on an exception,
  perhaps some: the caller then repeats the same insert with the same ``token``, as often as it likes, and what was
  stored the first time is not stored again.
* Spans are stored one row a report. Halves of a shared span, late parts and re-sent spans are merged when read.
* **select** runs a named read statement and may be called from many threads, also while an insert runs; it sees every
  insert that has returned.
* **disk_bytes** and **drop_oldest** let the server keep a bound on the disk; the unit dropped is whatever the store can
  drop at once.
* After **close** nothing may be called.

* A :class:`~clew.collector.patience.Patience` bounds a **select**; **stop** ends it from another thread.

Exceptions by who is at fault: :class:`UnreadableRows` (their bytes), :class:`StoreError` (us),
:class:`~clew.collector.patience.TooCostly` (the question).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol

from clew.collector.patience import TooCostly

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from clew.collector.patience import Patience

Kind = Literal["spans", "logs"]


class StoreError(Exception):
    """The store failed or cannot be reached; the rows are fine. Retry, spool, or answer 503."""


class UnreadableRows(Exception):  # noqa: N818 - it names their fault, not ours
    """The store cannot read the JSON it was given; the same rows fail again. Answer 400."""


class TooManyRows(TooCostly):
    """The rows of one answer take more memory than it may hold; fewer at a time would do."""


class SpanStore(Protocol):
    """See the module's docstring. Thread-safe; not fork-safe."""

    inserted: int  # how many inserts this store has seen: nothing new is there while it stays the same
    damaged: Sequence[str]  # parts that cannot be read and were set aside: name, table, what they held

    def insert(self, kind: Kind, rows: bytes, token: str) -> None:
        """Store spans or log records, JSON objects joined by commas (or in an array), once per ``token``.

        Raises :class:`UnreadableRows` when the rows themselves are the reason, :class:`StoreError` for anything else.
        """

    def works(self, room: int = 0) -> bool:
        """Say whether the store takes rows now: a row of its own comes through, and ``room`` bytes are free."""

    def holds(self, kind: Kind, rows: bytes) -> bool:
        """Say whether the last of these JSON objects (joined by commas) is stored. Raises :class:`StoreError`."""

    def mend(self) -> None:
        """Make again what follows from the rows of the last hour: a failed insert may have left some of it out."""

    def select(
        self,
        statement: str,
        parameters: Mapping[str, Any] | None = None,
        patience: Patience | None = None,
        parts: Mapping[str, str] | None = None,
    ) -> list[dict[str, Any]]:
        """Return the rows of ``sql/<statement>.sql`` as dicts, its ``{name:Type}`` bound to ``parameters``.

        ``parts`` are conditions that :mod:`clew.collector.search` has compiled: ``{"LEAD": ...}`` stands in the
        statement as ``$LEAD``. Never text from outside. What was read is added to ``patience.scanned_rows``.

        Raises :class:`StoreError`, :class:`TooManyRows`, and what ``patience`` raises when it is over; an unknown
        statement is a ``FileNotFoundError``.
        """

    def derive(self, statement: str, parameters: Mapping[str, Any]) -> None:
        """Run ``sql/<statement>.sql``, which makes rows of rows: all of them come to be at once, or none.

        Raises :class:`StoreError`.
        """

    def put(self, table: str, rows: bytes) -> None:
        """Insert a JSON array of rows that were derived: all of them at once, or none. Raises :class:`StoreError`."""

    def stop(self, patience: Patience) -> None:
        """End the statements that run with this patience. Returns at once; none running is no error."""

    def disk_bytes(self) -> int:
        """Return how many bytes the stored rows take on disk, compressed, indexes included."""

    def drop_oldest(self) -> int:
        """Drop the oldest unit of rows for good; return its bytes, 0 if there is nothing left to drop."""

    def close(self) -> None:
        """Let go of the store. What was inserted stays."""
