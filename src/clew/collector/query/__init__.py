"""A question -> statements for the store -> spans, links, names, summaries. Between ``api`` and ``store``.

Everything here blocks, may be called from several threads, and works a page at a time: what may be long is an iterator.
A question ends wherever it is when its :class:`~clew.collector.patience.Patience` is over.

``search`` finds traces as Zipkin asks for them, ``traces`` by the search language, ``spans`` reads them,
``dependencies`` links them; ``window`` is how time leads to rows. The modules' functions take a ``Query``'s ``reader``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from clew.collector.patience import Patience
from clew.collector.query import dependencies, derived, search, spans
from clew.collector.query.derived import Edge, Rate, RateFilter
from clew.collector.query.reader import Reader
from clew.collector.query.search import Question
from clew.collector.query.window import BUCKET_US, slices
from clew.collector.rows import make_record, short_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from clew.collector.store import SpanStore
    from clew.collector.trace.links import Link
    from clew.collector.trace.span import Span

__all__ = ["Edge", "LogFilter", "Query", "Question", "Rate", "RateFilter"]

_NAMES_A_PAGE: Final = 10_000


class LogFilter(NamedTuple):
    """Which log records: of a service (lower-case), of these levels, with a text in message or exception, in any case.

    ``""`` and nothing are no condition.
    """

    service: str = ""
    levels: Sequence[str] = ()
    text: str = ""


class Query:
    """Asks the store, for one question. Raises the store's StoreError, and what its patience raises.

    ``strict_trace_id`` false takes ids that agree in their lower 64 bits for one, as Zipkin's setting of that name
    does, for fleets in which some services cut ids. ``catch_up`` derives what has changed lately; without it nothing
    derives, so all is answered from spans.
    """

    def __init__(
        self,
        store: SpanStore,
        *,
        strict_trace_id: bool = True,
        patience: Patience | None = None,
        catch_up: Callable[[Patience], bool] | None = None,
        far: Callable[[Reader], bool] | None = None,
    ) -> None:
        self._store = store
        self._strict = strict_trace_id
        self._catch_up = catch_up
        self._far = far
        self.reader = Reader(store, patience or Patience(), strict=strict_trace_id, far=far)

    def within(self, patience: Patience) -> Query:
        """Return the same for another question."""
        return Query(
            self._store, strict_trace_id=self._strict, patience=patience, catch_up=self._catch_up, far=self._far
        )

    def services(self) -> Iterator[str]:
        """Yield the names of all services that reported spans, in order."""
        return self._names("list_services")

    def span_names(self, service: str) -> Iterator[str]:
        """Yield the names of all spans of a service (in lower case), in order."""
        return self._names("list_span_names", service=service)

    def remote_services(self, service: str) -> Iterator[str]:
        """Yield the names of all services that spans of this one (in lower case) name as the other side, in order."""
        return self._names("list_remote_services", service=service)

    def tag_values(self, key: str) -> Iterator[str]:
        """Yield the values seen for a tag that is collected for autocomplete, in order."""
        return self._names("list_tag_values", key=key)

    def trace_ids(self, prefix: str, limit: int) -> list[str]:
        """Return ids of traces, of all that are stored, that begin with these lower-case hex digits, in order."""
        low, high = prefix.ljust(32, "0"), prefix.ljust(32, "f")
        ranges = {"low": low, "high": high, "short_low": low[:16], "short_high": high[:16], "short": len(prefix) <= 16}
        return [short_id(row["id"]) for row in self.reader.select("find_ids", {**ranges, "limit": limit})]

    def trace(self, trace_id: str) -> Iterator[list[Span]]:
        """Yield the spans of a trace by its normalised id, as reported, in time order, page by page."""
        return (page for _, page in spans.pages(self.reader, [trace_id]))

    def traces(self, trace_ids: Iterable[str]) -> Iterator[spans.Page]:
        """Yield the traces that there are of these normalised ids, in the order of the ids, page by page."""
        return spans.pages(self.reader, trace_ids)

    def find(self, question: Question) -> Iterator[spans.Page]:
        """Yield the newest traces that answer the question, newest first, page by page."""
        return spans.pages(self.reader, search.find(self.reader, question))

    def requests(self, summaries: Sequence[dict[str, Any]]) -> dict[str, tuple[str, str, str]]:
        """Return path, URL and status of the requests that began listed traces, by trace id; ``""`` where not known."""
        if not summaries:
            return {}
        starts = sorted({summary["timestamp"] for summary in summaries})
        parameters = {
            "trace_ids": [summary["traceId"].zfill(32) for summary in summaries],
            "buckets": sorted({start // BUCKET_US for start in starts}),
            "starts": starts,
        }
        return {short_id(row["id"]): tuple(row["request"]) for row in self.reader.select("read_requests", parameters)}

    def links(self, since: int, until: int) -> tuple[list[Link], int]:
        """Return who called whom in traces with a span in the window, and how many traces are left out as too long."""
        if self._catch_up and dependencies.is_long(self.reader, since, until):
            self._catch_up(self.reader.patience)
            return dependencies.derived_links(self.reader, since, until), 0
        return dependencies.links(self.reader, since, until)

    def rates(self, since: int, until: int, wanted: RateFilter) -> list[Rate]:
        """Return calls, errors and durations in the window (microseconds, taken in whole minutes) of services.

        By time, service and, if wanted, operation; see :class:`RateFilter`.
        """
        if self._catch_up:
            self._catch_up(self.reader.patience)
        return derived.rates(self.reader, since, until, wanted)

    def edges(self, since: int, until: int, service: str = "", every: int = 0) -> list[Edge]:
        """Return who called whom in traces with a span in the window (in whole minutes), with errors and durations.

        ``service`` names one that must have a part in it; ``every`` cuts time in stretches of so many seconds.
        """
        if self._catch_up:
            self._catch_up(self.reader.patience)
        return derived.edges(self.reader, since, until, service, every)

    def logs_of_trace(self, trace_id: str, wanted: LogFilter, limit: int) -> list[dict[str, Any]]:
        """Return the log records of a trace by its normalised id, in time order, as they travel on the wire."""
        if not (buckets := spans.bucket_numbers(self.reader, [trace_id])):
            return []
        parameters = {**wanted._asdict(), "trace_id": trace_id.zfill(32), "buckets": buckets, "limit": limit}
        return list(map(make_record, self.reader.select("read_logs", parameters)))

    def recent_logs(self, since: int, until: int, wanted: LogFilter, limit: int) -> list[dict[str, Any]]:
        """Return the newest log records of a window (microseconds, both ends included), in time order."""
        found: list[dict[str, Any]] = []
        for begin, end in slices(since, until):
            parameters = {**wanted._asdict(), "since": begin, "until": end, "limit": limit - len(found)}
            found += self.reader.select("find_logs", parameters)
            if len(found) >= limit:
                break
        return list(map(make_record, reversed(found)))

    def _names(self, statement: str, **parameters: Any) -> Iterator[str]:
        """Yield names in order, page by page."""
        after = ""
        while True:
            rows = self.reader.select(statement, {**parameters, "after": after, "limit": _NAMES_A_PAGE})
            yield from (row["name"] for row in rows)
            if len(rows) < _NAMES_A_PAGE:
                return
            after = rows[-1]["name"]
