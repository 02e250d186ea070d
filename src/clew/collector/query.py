"""A question -> statements for the store -> spans, links, names, summaries. Between ``api`` and ``store``.

Everything here blocks and may be called from several threads. How a search stays fast whatever the store holds: rows
lie by ten minutes, so the window is searched in slices from its newest end, each six times as long as the one before,
until enough was found. A trace belongs to the slice in which it begins, so no slice answers a trace twice and the
order over slices is the order of the answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from clew.collector.rows import make_record, make_shape_spans, make_span, make_summary, report_order, short_id
from clew.collector.trace.links import Link, Linker
from clew.collector.trace.span import without_duplicates

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from clew.collector.store import SpanStore
    from clew.collector.trace.span import Span

_BUCKET_US: Final = 600_000_000  # how the tables are sorted: ten minutes
_SKEW_US: Final = 600_000_000  # so much earlier than its trace a span may seem to begin, for clocks differ
_LENGTH_US: Final = 3_600_000_000  # spans that begin later than this after their trace count for search no more
_FIRST_SLICE_US: Final = 60_000_000
_SLICE_GROWTH: Final = 6
_MAX_TIME_US: Final = 2**63 - 1

MAX_TRACES: Final = 5_000  # of one answer, whatever limit is asked for
MAX_SPANS: Final = 200_000  # of one answer; about 400 MB while it is built
_TRACES_A_FETCH: Final = 200
_LINK_SPANS_A_PASS: Final = 1_000_000
_LINK_SPANS_A_SHAPE: Final = 100  # longer traces are linked one by one: the engine's work grows with the square


class Question(NamedTuple):
    """A Zipkin search, already checked. Times are in microseconds, both ends included.

    ``terms`` must all be found on spans of ``service`` (any service when it is ''), not necessarily on one span: a pair
    (key, value) is a tag, a pair (word, '') a tag of that key or an annotation of that text. Names are lower-case; ''
    and 0 are no condition.
    """

    since: int
    until: int
    limit: int
    service: str = ""
    remote: str = ""
    name: str = ""
    terms: tuple[tuple[str, str], ...] = ()
    min_duration: int = 0
    max_duration: int = 0


class RecentQuestion(NamedTuple):
    """Which recent traces to list: those that began before ``until`` (microseconds, included), newest first."""

    since: int
    until: int
    limit: int
    service: str = ""
    name: str = ""
    errors_only: bool = False
    min_duration: int = 0


class LogFilter(NamedTuple):
    """Which log records: of a service (lower-case), of these levels, with a text in message or exception, in any case.

    ``""`` and nothing are no condition.
    """

    service: str = ""
    levels: Sequence[str] = ()
    text: str = ""


class Query:
    """Asks the store. Thread-safe as the store is; raises its StoreError.

    ``strict_trace_id`` false takes ids that agree in their lower 64 bits for one, as Zipkin's setting of that name
    does, for fleets in which some services cut ids. It costs: no index has those bits.
    """

    def __init__(self, store: SpanStore, *, strict_trace_id: bool = True) -> None:
        self._store = store
        self._strict = strict_trace_id

    def services(self) -> list[str]:
        """Return the names of all services that reported spans, in order."""
        return self._names("list_services")

    def span_names(self, service: str) -> list[str]:
        """Return the names of all spans of a service (in lower case), in order."""
        return self._names("list_span_names", service=service)

    def remote_services(self, service: str) -> list[str]:
        """Return the names of all services that spans of this one (in lower case) name as the other side, in order."""
        return self._names("list_remote_services", service=service)

    def tag_values(self, key: str, limit: int = 1_000) -> list[str]:
        """Return values seen for a tag that is collected for autocomplete, in order."""
        return self._names("list_tag_values", key=key, limit=limit)

    def trace(self, trace_id: str, limit: int = MAX_SPANS) -> list[Span]:
        """Return the spans of a trace by its normalised id, as reported, in time order; [] if there is none."""
        return next(iter(self._fetch([trace_id], limit)), [])

    def traces(self, trace_ids: Sequence[str]) -> list[list[Span]]:
        """Return the traces that there are of these normalised ids, in the order of the ids.

        Stops before the trace that would take the answer over ``MAX_SPANS``.
        """
        answer: list[list[Span]] = []
        room = MAX_SPANS
        ids = list(dict.fromkeys(map(self._key, trace_ids)))
        for begin in range(0, len(ids), _TRACES_A_FETCH):
            for spans in self._fetch(ids[begin : begin + _TRACES_A_FETCH]):
                room -= len(spans)
                if room < 0:
                    return answer
                answer.append(spans)
        return answer

    def find(self, question: Question) -> list[list[Span]]:
        """Return the newest traces that answer the question, newest first."""
        limit = min(question.limit, MAX_TRACES)
        conditions = _conditions(question, self._strict)
        rows = self._search("find_traces", question.since, question.until, limit, conditions)
        return self.traces([short_id(row["id"].zfill(32)) for row in rows])

    def recent(self, question: RecentQuestion) -> list[dict[str, Any]]:
        """Return a summary of each of the newest traces, newest first, as JSON-ready objects."""
        conditions = {
            "service": question.service,
            "name": question.name,
            "errors_only": question.errors_only,
            "min_duration": question.min_duration,
        }
        limit = min(question.limit, MAX_TRACES)
        return list(map(make_summary, self._search("recent_traces", question.since, question.until, limit, conditions)))

    def requests(self, summaries: Sequence[dict[str, Any]]) -> dict[str, tuple[str, str, str]]:
        """Return path, URL and status of the requests that began listed traces, by trace id; ``""`` where not known."""
        if not summaries:
            return {}
        starts = sorted({summary["timestamp"] for summary in summaries})
        parameters = {
            "trace_ids": [summary["traceId"].zfill(32) for summary in summaries],
            "buckets": sorted({start // _BUCKET_US for start in starts}),
            "starts": starts,
        }
        return {short_id(row["id"]): tuple(row["request"]) for row in self._store.select("read_requests", parameters)}

    def links(self, since: int, until: int) -> list[Link]:
        """Return who called whom in traces with a span in the window (microseconds, both ends included)."""
        window = _window(since, until) | {"max_spans": _LINK_SPANS_A_SHAPE}
        window["first_bucket"] = max(0, since - _LENGTH_US) // _BUCKET_US  # the trace may have begun before the window
        linker = Linker()
        spans = self._store.select("link_volume", window)[0]["spans"]
        if not spans:
            return []
        names = {row["hash"]: row["name"] for row in self._store.select("link_names", window)}
        slices = 1 + spans // _LINK_SPANS_A_PASS
        for number in range(slices):
            self._link_slice(linker, window | {"slices": slices, "slice": number}, names)
        for row in self._store.select("link_long_traces", window):
            parts = map(self.trace, map(short_id, row["trace_ids"]))
            linker.put_trace([span for part in parts for span in part])
        return linker.links()

    def logs_of_trace(self, trace_id: str, wanted: LogFilter, limit: int) -> list[dict[str, Any]]:
        """Return the log records of a trace by its normalised id, in time order, as they travel on the wire."""
        trace_id = trace_id.zfill(32)
        if not (buckets := self._buckets([trace_id])):
            return []
        parameters = {**wanted._asdict(), "trace_id": trace_id, "buckets": buckets, "limit": limit}
        return list(map(make_record, self._store.select("read_logs", parameters)))

    def recent_logs(self, since: int, until: int, wanted: LogFilter, limit: int) -> list[dict[str, Any]]:
        """Return the newest log records of a window (microseconds, both ends included), in time order."""
        found: list[dict[str, Any]] = []
        for begin, end in _slices(since, until):
            parameters = {**wanted._asdict(), "since": begin, "until": end, "limit": limit - len(found)}
            found += self._store.select("find_logs", parameters)
            if len(found) >= limit:
                break
        return list(map(make_record, reversed(found)))

    def _link_slice(self, linker: Linker, parameters: dict[str, Any], names: dict[int, str]) -> None:
        odd_traces = False
        for row in self._store.select("link_shapes", parameters | {"plain": True}):
            if row["caller"]:
                linker.put_link(names[row["caller"]], names[row["callee"]], row["calls"], row["failures"])
            else:
                odd_traces = True
        for row in self._store.select("link_shapes", parameters | {"plain": False}) if odd_traces else ():
            linker.put_trace(make_shape_spans(row["shape"]), times=row["calls"])

    def _names(self, statement: str, **parameters: Any) -> list[str]:
        return [row["name"] for row in self._store.select(statement, parameters)]

    def _search(
        self, statement: str, since: int, until: int, limit: int, conditions: dict[str, Any]
    ) -> list[dict[str, Any]]:
        """Run the statement over slices, newest first, until ``limit`` rows are found."""
        found: list[dict[str, Any]] = []
        for begin, end in _slices(since, until):
            parameters = conditions | _window(begin, end) | {"limit": limit - len(found)}
            found += self._store.select(statement, parameters)
            if len(found) >= limit:
                break
        return found

    def _fetch(self, trace_ids: Sequence[str], limit: int = MAX_SPANS) -> list[list[Span]]:
        """Return the traces that there are, in the order of the ids."""
        grouped: dict[str, list[Span]] = {self._key(trace_id): [] for trace_id in trace_ids}
        for span in sorted(map(make_span, self._read_spans(list(grouped), limit)), key=report_order):
            grouped[self._key(span.trace_id)].append(span)
        return [without_duplicates(spans) for spans in grouped.values() if spans]

    def _read_spans(self, keys: list[str], limit: int) -> list[dict[str, Any]]:
        if not self._strict:
            return self._store.select("read_traces_loose", {"trace_ids": keys, "limit": limit})
        ids = [key.zfill(32) for key in keys]
        if not (buckets := self._buckets(ids)):
            return []
        return self._store.select("read_traces", {"trace_ids": ids, "buckets": buckets, "limit": limit})

    def _buckets(self, ids: list[str]) -> list[int]:
        return [row["bucket"] for row in self._store.select("trace_buckets", {"trace_ids": ids})]

    def _key(self, trace_id: str) -> str:
        """Return what makes a trace: its id, or the lower half of it."""
        return trace_id if self._strict else trace_id[-16:]


def _slices(since: int, until: int) -> Iterator[tuple[int, int]]:
    """Cut [since, until] into stretches that grow towards the past."""
    width = _FIRST_SLICE_US
    while until >= since:
        begin = max(since, until - width + 1)
        yield begin, until
        until = begin - 1
        width *= _SLICE_GROWTH


def _window(since: int, until: int) -> dict[str, int]:
    """Return the parameters that bound a statement to traces that begin in [since, until]."""
    earliest = max(0, since - _SKEW_US)
    latest = min(until, _MAX_TIME_US - _LENGTH_US) + _LENGTH_US
    return {
        "since": since,
        "until": until,
        "earliest": earliest,
        "first_bucket": earliest // _BUCKET_US,
        "last_bucket": latest // _BUCKET_US,
    }


def _conditions(question: Question, strict: bool) -> dict[str, Any]:
    """Return the parameters of ``find_traces.sql``: the lead, and what else is to be judged."""
    found, rest = _lead(question)
    return {
        "strict": strict,
        "loose": not strict,
        "service": question.service,
        "any_service": not question.service,
        "remote": rest.remote,
        "name": rest.name,
        "min_duration": rest.min_duration,
        "max_duration": rest.max_duration or _MAX_TIME_US,
        "keys": [key for key, _ in rest.terms],
        "values": [value for _, value in rest.terms],
        **found,
    }


def _lead(question: Question) -> tuple[dict[str, Any], Question]:
    """Choose the condition that finds candidates: the one that is likely to be rarest and cheapest to look for.

    Return its parameters, and the question without it.
    """
    pairs = [term for term in question.terms if term[1]]
    words = [term for term in question.terms if term[0] and not term[1]]
    if pairs:
        term = max(pairs, key=lambda pair: len(pair[1]))
        return {"lead_key": term[0], "lead_value": term[1]}, _without(question, term)
    if words:
        term = max(words, key=lambda word: len(word[0]))
        return {"lead_word": term[0]}, _without(question, term)
    if question.name:
        return {"lead_name": question.name}, question._replace(name="")
    if question.remote:
        return {"lead_remote": question.remote}, question._replace(remote="")
    duration = {"lead_min": question.min_duration, "lead_max": question.max_duration or _MAX_TIME_US}
    return duration, question._replace(min_duration=0)


def _without(question: Question, term: tuple[str, str]) -> Question:
    return question._replace(terms=tuple(other for other in question.terms if other != term))
