"""Which rows a stretch of time is about: time decides where to look first, never what the answer is.

Rows lie by ten minutes ("buckets"). A trace may begin in one and go on in any other: for hours, or a little earlier on
a host whose clock is behind, or without any time (bucket 0). ``trace_index`` knows every trace's buckets. So a
statement about traces that begin in a stretch reads the buckets around it ("near"), and of traces that have spans both
in the stretch and beyond ("far") the buckets where they go on. Traces longer than ten minutes are few: for all others
this is the plain range of time that the table is sorted by.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clew.collector.query.reader import Reader

BUCKET_US: Final = 600_000_000  # how the tables are sorted: ten minutes
MAX_TIME_US: Final = 2**63 - 1
_FIRST_SLICE_US: Final = 60_000_000
_SLICE_GROWTH: Final = 6
_MANY_FAR: Final = 500  # long traces that are named one by one; the engine's index takes 0.2 ms to think about each


def reach(reader: Reader, since: int, until: int, *, around: int = 1, loose: bool = False) -> dict[str, Any]:
    """Return the parameters that ``$REACH`` in a statement wants: all rows of traces with a span in [since, until].

    ``around``: how many buckets before and after are read whole instead of trace by trace. ``loose``: also spans that
    agree with those only in the lower half of their trace id.
    """
    first, last = since // BUCKET_US, until // BUCKET_US
    near = {"near_first": max(0, first - around), "near_last": last + around}
    derived = reader.far_is_derived()
    asked = {"first_bucket": first, "last_bucket": last, **near, "table": derived, "index": not derived}
    far = reader.select("far_buckets", asked)
    if not far or loose or not reader.strict or len(far) > _MANY_FAR:
        keys, buckets = [row["key"] for row in far], [row["bucket"] for row in far]
        return {**near, "far_keys": keys, "far_buckets": sorted(set(buckets))}
    return {**near, **_far_ids(reader, first, last, far)}


def _far_ids(reader: Reader, first: int, last: int, far: list[dict[str, Any]]) -> dict[str, Any]:
    """Name the traces themselves, for rows lie by their ids."""
    buckets: dict[int, list[int]] = {}
    for row in far:
        buckets.setdefault(row["key"], []).append(row["bucket"])
    ids = reader.select("far_ids", {"first_bucket": first, "last_bucket": last, "keys": list(buckets)})
    places = [(bucket, row["id"]) for row in ids for bucket in buckets[row["key"]]]
    return {"far_ids": [trace_id for _, trace_id in places], "far_id_buckets": [bucket for bucket, _ in places]}


def slices(since: int, until: int) -> Iterator[tuple[int, int]]:
    """Cut [since, until] into stretches that grow towards the past."""
    width = _FIRST_SLICE_US
    while until >= since:
        begin = max(since, until - width + 1)
        yield begin, until
        until = begin - 1
        width *= _SLICE_GROWTH


class Slices:
    """The same, for answers that may hold more than one statement is to give: a full page goes on where it ended."""

    def __init__(self, since: int, until: int) -> None:
        self._since = since
        self._until = until
        self._width = _FIRST_SLICE_US

    def __bool__(self) -> bool:
        """Whether there is something left to search."""
        return self._until >= self._since

    def next(self) -> tuple[int, int]:
        """Return both ends of the next slice."""
        return max(self._since, self._until - self._width + 1), self._until

    def narrow(self) -> bool:
        """Make the next slice smaller, for it held too much; say whether that was possible."""
        if self._width <= _FIRST_SLICE_US // _SLICE_GROWTH**2:
            return False
        self._width //= _SLICE_GROWTH
        return True

    def done(self) -> None:
        """All of this slice was found: the next one lies before it."""
        self._until = self.next()[0] - 1
        self._width *= _SLICE_GROWTH

    def done_down_to(self, begin: int) -> None:
        """Only what begins later than this was found: the next slice ends here (included)."""
        self._until = begin
