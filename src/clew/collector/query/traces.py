"""A search -> the traces that it finds, in an order, batch by batch, each with the place from which to go on.

The window is searched in slices from its newest end, as in ``search``; a trace belongs to the slice in which it begins.
Newest first, each slice is answered as soon as it is searched. In another order all slices must be searched before the
first line is sure; each brings its best. Where a slice holds more than one statement may take, it is made narrower.

What the engine cannot decide, who lies beneath whom over several steps, is judged here with the spans at hand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from clew.collector.patience import TooCostly
from clew.collector.query import spans as reading
from clew.collector.query.window import BUCKET_US, Slices, reach
from clew.collector.rows import make_summary, short_id
from clew.collector.search.evaluate import matches
from clew.collector.search.sql import Compiled, compile_condition, compile_query
from clew.collector.search.tree import EVERYTHING, Query, Somewhere, Text, needs_tree, required, walk

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from clew.collector.query.reader import Reader
    from clew.collector.trace.span import Span

ORDERS: Final = {"newest": "started", "slowest": "duration_us", "spans": "spans", "errors": "errors"}
_PAGE_TRACES: Final = 5_000  # of one statement
_PAGE_JUDGED: Final = 200  # ... when their spans are read as well
_FEW: Final = 200  # traces that are looked up where they lie, rather than by reading the whole stretch
_MAX_LINES: Final = 100_000  # that are looked at for the traces of one page


class Place(NamedTuple):
    """Behind which trace to go on: its key in the order asked for, and its id in 32 hex characters."""

    key: int
    id: str


class Search(NamedTuple):
    """Which traces: those that began in [since, until] (microseconds) and are as ``query`` says."""

    query: Query
    since: int
    until: int
    limit: int
    order: str = "newest"
    min_duration: int = 0
    after: Place | None = None


class Found(NamedTuple):
    """Some of the traces found, as JSON-ready lines; where to go on (None: that was all); what is lacking, and why."""

    lines: list[dict[str, Any]]
    place: Place | None
    lacking: str = ""


def find(reader: Reader, search: Search) -> Iterator[Found]:
    """Yield the traces found, batch by batch; the last batch has ``place`` None, or the limit was reached.

    A search whose time is over ends with what it has, and says so. Raises what :class:`Reader` raises when not even one
    slice could be searched.
    """
    return _newest(reader, search) if search.order == "newest" else _sorted(reader, search)


def ids(reader: Reader, search: Search) -> Iterator[str]:
    """Yield the normalised ids of the traces found."""
    return (line["traceId"] for found in find(reader, search) for line in found.lines)


def _newest(reader: Reader, search: Search) -> Iterator[Found]:
    left, place = search.limit, search.after
    slices = Slices(search.since, min(search.until, place.key) if place else search.until)
    ask = _Asker(reader, search)
    searched = False
    while left > 0 and slices:
        begin, end = slices.next()
        page = ask.page(left)
        try:
            rows = ask.rows(begin, end, place, page)
        except TooCostly as costly:
            if reader.patience.left_s > 0 and slices.narrow():
                continue
            if not searched:
                raise
            yield Found([], place, str(costly))
            return
        searched = True
        if len(rows) < page:
            slices.done()
            place = Place(begin, "")
        else:
            place = _place(rows[-1], "started")
            slices.done_down_to(place.key)
        good = ask.judged(rows)
        more = len(good) > left
        if more:
            good = good[:left]
            place = _place(good[-1], "started")
        left -= len(good)
        yield Found(list(map(make_summary, good)), place if slices or more else None)


def _sorted(reader: Reader, search: Search) -> Iterator[Found]:
    slices = Slices(search.since, search.until)
    ask = _Asker(reader, search)
    best: list[tuple[Place, dict[str, Any]]] = []
    lacking = ""
    while slices:
        begin, end = slices.next()
        try:
            best += ask.best(begin, end)
        except TooCostly as costly:
            if reader.patience.left_s > 0 and slices.narrow():
                continue
            if end == search.until:
                raise
            lacking = f"{costly} Only traces that began after {end} are in this order"
            break
        slices.done()
        best = sorted(best, key=lambda entry: entry[0], reverse=True)[: search.limit + 1]
    more = len(best) > search.limit
    best = best[: search.limit]
    yield Found([line for _, line in best], best[-1][0] if more else None, lacking)


class _Asker:
    """Asks the statement of one search for stretches of its window."""

    def __init__(self, reader: Reader, search: Search) -> None:
        self._reader = reader
        self._search = search
        self._order = ORDERS[search.order]
        self._judges = needs_tree(search.query)
        self._reads_lines = any(isinstance(node, Text) for node in walk(search.query))
        self._values, self._parts = compiled(search.query)

    def page(self, wanted: int) -> int:
        """Return how many rows a statement is to give: of those that are judged afterwards few may be left."""
        return _PAGE_JUDGED if self._judges else min(wanted, _PAGE_TRACES)

    def rows(self, begin: int, end: int, after: Place | None, limit: int) -> list[dict[str, Any]]:
        """Return what the engine finds in a stretch of time."""
        parameters: dict[str, Any] = {
            **self._values,
            "since": begin,
            "until": end,
            "within": end - begin < BUCKET_US,
            "min_duration": self._search.min_duration,
            "limit": limit,
            **reach(self._reader, begin, end),
        }
        if after is not None:
            parameters |= {"after": True, "after_key": after.key, "after_id": after.id}
        parts = {**self._parts, "ORDER": self._order}
        few = self._few(parameters, parts)
        if few is not None:
            del parts["LEAD"]
            parameters |= {"within": False, "few": few, "buckets": reading.bucket_numbers(self._reader, few)}
            if not parameters["buckets"]:
                return []
        return self._reader.select("search_traces", parameters, parts)

    def _few(self, parameters: dict[str, Any], parts: dict[str, str]) -> list[str] | None:
        """Return the traces that can be meant, if the condition that leads holds of few: None if not."""
        if "LEAD" not in parts:
            return None
        given = {**parameters, "limit": _FEW + 1}
        ids = [row["id"] for row in self._reader.select("search_leads", given, {"LEAD": parts["LEAD"]})]
        return ids if len(ids) <= _FEW else None

    def best(self, begin: int, end: int) -> list[tuple[Place, dict[str, Any]]]:
        """Return the first traces, in order, of a stretch, one more than the limit."""
        found: list[tuple[Place, dict[str, Any]]] = []
        place, wanted = self._search.after, self._search.limit + 1
        while len(found) < wanted:
            page = self.page(wanted)
            rows = self.rows(begin, end, place, page)
            found += [(_place(row, self._order), make_summary(row)) for row in self.judged(rows)]
            if len(rows) < page:
                break
            place = _place(rows[-1], self._order)
        return found[:wanted]

    def judged(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the rows; only those found, where the engine could not decide."""
        if not self._judges or not rows:
            return rows
        keys = [self._key(row) for row in rows]
        traces: dict[str, list[Span]] = {}
        for key, spans in reading.pages(self._reader, keys):
            traces.setdefault(key, []).extend(spans)
        said = self._said(keys) if self._reads_lines else {}
        query = self._search.query
        good = {key for key in traces if matches(query, traces[key], said.get(key, {}))}
        return [row for row in rows if self._key(row) in good]

    def _key(self, row: dict[str, Any]) -> str:
        return self._reader.key(short_id(row["id"]))

    def _said(self, keys: Sequence[str]) -> dict[str, dict[str, list[str]]]:
        found: dict[str, dict[str, list[str]]] = {}
        buckets = reading.bucket_numbers(self._reader, list(keys))
        parameters = {"trace_ids": [key.zfill(32) for key in keys], "buckets": buckets, "limit": _MAX_LINES}
        for row in self._reader.select("read_said", parameters):
            lines = found.setdefault(self._key(row), {}).setdefault(row["span_id"], [])
            lines += [row["message"], row["exception"]]
        return found


def compiled(query: Query) -> tuple[Mapping[str, Any], dict[str, str]]:
    """Return the values and the parts LEAD and WHOLE of a statement over ``$REACH`` that looks for traces."""
    into = Compiled(lines="$REACH")
    lead = required(query)
    parts = {"LEAD": compile_condition(lead, into)} if lead is not None else {}
    if query != EVERYTHING and not (isinstance(query, Somewhere) and query.condition == lead):
        parts["WHOLE"] = compile_query(query, into)
    return into.parameters, parts


def _place(row: dict[str, Any], order: str) -> Place:
    return Place(row[order], row["id"])
