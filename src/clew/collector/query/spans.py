"""Ids of traces -> their spans, a page at a time: memory does not depend on how much was asked for.

A page is at most ``PAGE_SPANS`` spans of one trace. Small traces are read many at a time; what proves larger is read
by itself, in order of time, from where the page before ended.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from clew.collector.rows import make_span, report_order
from clew.collector.store import TooManyRows
from clew.collector.trace.span import without_duplicates

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from clew.collector.query.reader import Reader
    from clew.collector.trace.span import Span

PAGE_SPANS: Final = 5_000
_TRACES_A_FETCH: Final = 200

Page = tuple[str, list["Span"]]  # the key of a trace, and spans of it; the next page may go on with the same trace


def pages(reader: Reader, trace_ids: Iterable[str]) -> Iterator[Page]:
    """Yield the spans of the traces that there are, in the order of the normalised ids, each trace in order of time.

    What was reported twice comes once.
    """
    ids = iter(trace_ids)
    while batch := list(dict.fromkeys(map(reader.key, islice(ids, _TRACES_A_FETCH)))):
        yield from _fetch(reader, batch)


def _fetch(reader: Reader, keys: list[str]) -> Iterator[Page]:
    buckets = bucket_numbers(reader, keys)
    if not buckets:
        return
    rows = _read(reader, keys, buckets)
    if rows is not None:
        yield from _grouped(reader, keys, rows)
    elif len(keys) == 1:
        yield from _long_trace(reader, keys[0], buckets)
    else:
        middle = len(keys) // 2
        yield from _fetch(reader, keys[:middle])
        yield from _fetch(reader, keys[middle:])


def _read(reader: Reader, keys: list[str], buckets: list[int]) -> list[dict[str, Any]] | None:
    """Return the rows of these traces, None if they are more than a page."""
    parameters = {"trace_ids": [_id(reader, key) for key in keys], "buckets": buckets, "limit": PAGE_SPANS + 1}
    try:
        rows = reader.select("read_traces", parameters)
    except TooManyRows:
        return None
    return rows if len(rows) <= PAGE_SPANS else None


def _grouped(reader: Reader, keys: list[str], rows: list[dict[str, Any]]) -> Iterator[Page]:
    grouped: dict[str, list[Span]] = {key: [] for key in keys}
    for span in sorted(map(make_span, reader.patience.each(rows)), key=report_order):
        grouped[reader.key(span.trace_id)].append(span)
    return ((key, without_duplicates(spans)) for key, spans in grouped.items() if spans)


def _long_trace(reader: Reader, key: str, buckets: list[int]) -> Iterator[Page]:
    """Read bucket by bucket, those of bucket 0 that have no time at the end."""
    for bucket in buckets:
        yield from _long_bucket(reader, key, {"bucket": bucket, "timed": True})
    if 0 in buckets:
        yield from _long_bucket(reader, key, {"bucket": 0, "untimed": True})


def _long_bucket(reader: Reader, key: str, place: dict[str, Any]) -> Iterator[Page]:
    limit = PAGE_SPANS
    parameters = {**place, "trace_id": _id(reader, key)}
    while True:
        try:
            rows = reader.select("read_long_trace", parameters | {"limit": limit})
        except TooManyRows:
            if limit == 1:
                raise
            limit = max(1, limit // 8)  # few and large: names, tags and annotations are of any length
            continue
        if rows:
            yield key, without_duplicates(map(make_span, reader.patience.each(rows)))
        if len(rows) < limit:
            return
        parameters |= {"after_us": rows[-1]["timestamp"], "after_id": rows[-1]["span_id"]}


def bucket_numbers(reader: Reader, keys: list[str]) -> list[int]:
    """Return in which ten minutes these traces have spans or log lines, in order."""
    ids = [key.zfill(32) for key in keys]
    return [row["bucket"] for row in reader.select("trace_buckets", {"trace_ids": ids})]


def _id(reader: Reader, key: str) -> str:
    """Return the key as the statements want it: the whole id, or its lower half."""
    return key.zfill(32) if reader.strict else key
