"""Which minutes of a derived table are to be derived, and what is known of them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from clew.collector.query.reader import Reader

Table = Literal["rates", "links"]

MINUTES_A_PASS: Final = 200


class Minute(NamedTuple):
    """A minute since the epoch: ``spans`` that are there, and how many arrivals a derivation of them covers.

    ``newest`` is the attempt that counts now (0: none) and ``seen`` the spans that it saw.
    """

    number: int
    newest: int
    seen: int
    spans: int
    covered: int

    @property
    def is_whole(self) -> bool:
        """Whether at least those spans are there of which it was derived before."""
        return self.spans >= self.seen


class Minutes:
    """The minutes of one derived table. Not thread-safe."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self._missed: dict[int, tuple[int, int]] = {}  # arrived, and how many of these spans were there: fewer

    def changed(self, reader: Reader, spans: int) -> list[Minute]:
        """Return minutes that have changed since they were derived, newest first: of so many spans, or a single one."""
        rows = reader.select("derived_minutes", {self.table: True, "changed": True, "limit": MINUTES_A_PASS})
        chosen: list[dict[str, Any]] = []
        for row in rows:
            if chosen and spans < row["arrived"]:
                break
            spans -= row["arrived"]
            chosen.append(row)
        return self._counted(reader, chosen)

    def known(self, reader: Reader, numbers: Collection[int]) -> list[Minute]:
        """Return what is known of these minutes."""
        if not numbers:
            return []
        given = {self.table: True, "minutes": sorted(numbers), "limit": len(numbers)}
        return self._counted(reader, reader.select("derived_minutes", given))

    def _counted(self, reader: Reader, rows: Sequence[dict[str, Any]]) -> list[Minute]:
        """Count the spans after the arrivals were read: those that come later are derived, too, but not covered."""
        if not rows:
            return []
        numbers = [row["minute"] for row in rows]
        given = {"minutes": numbers, "buckets": buckets_of(numbers)}
        spans = {row["minute"]: row["spans"] for row in reader.select("count_spans", given)}
        return [self._minute(row, spans.get(row["minute"], 0)) for row in rows]

    def _minute(self, row: dict[str, Any], spans: int) -> Minute:
        """Arrivals may be seen a moment before their spans; when nothing has changed the next time, they are gone."""
        number, arrived = row["minute"], row["arrived"]
        covered = arrived
        if spans < arrived and self._missed.pop(number, None) != (arrived, spans):
            self._missed[number] = arrived, spans
            covered = spans
        return Minute(number, row["newest"], row["seen"], spans, covered)


def buckets_of(numbers: Collection[int]) -> list[int]:
    """Return in which ten minutes these minutes lie."""
    return sorted({number // 10 for number in numbers})


def new_attempt(minutes: Sequence[Minute]) -> int:
    """Return a number above those of all earlier attempts, also when the clock was put back."""
    return max([time.time_ns(), *(minute.newest + 1 for minute in minutes)])
