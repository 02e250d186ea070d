"""Zipkin's questions about traces -> the traces that answer them, newest first.

A trace is found by what its spans say, whenever they say it; only its begin must lie in the window. The window is
searched in slices from its newest end, each six times as long as the one before, so that much is found soon and nothing
in few statements. A trace belongs to the slice in which it begins: none is answered twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from clew.collector.query.window import BUCKET_US, MAX_TIME_US, Slices, reach
from clew.collector.rows import short_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clew.collector.query.reader import Reader

PAGE_TRACES: Final = 5_000  # of one statement; what is more comes with the next


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


def find(reader: Reader, question: Question) -> Iterator[str]:
    """Yield the normalised ids of the newest traces that answer the question, newest first."""
    return (short_id(row["id"].zfill(32)) for row in _search(reader, question, _conditions(question)))


def _search(reader: Reader, question: Question, conditions: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Run the statement over slices, newest first, until ``limit`` rows are found."""
    left = question.limit
    slices = Slices(question.since, question.until)
    seen: set[str] = set()  # what was answered of the very microsecond at which a full page ended
    while left > 0 and slices:
        since, until = slices.next()
        page = min(left, PAGE_TRACES) + len(seen)
        rows = reader.select("find_traces", conditions | _slice(reader, since, until) | {"limit": page})
        fresh = [row for row in rows if row["id"] not in seen]
        left -= len(fresh)
        yield from fresh
        if len(rows) < page:
            slices.done()
            seen = set()
        else:
            end = rows[-1]["started"]
            slices.done_down_to(end)
            seen = {row["id"] for row in rows if row["started"] == end}


def _slice(reader: Reader, since: int, until: int) -> dict[str, Any]:
    bounds = {"since": since, "until": until, "within": until - since < BUCKET_US}
    return {**bounds, **reach(reader, since, until)}


def _conditions(question: Question) -> dict[str, Any]:
    """Return the parameters of ``find_traces.sql``: the lead, and what else is to be judged."""
    found, rest = _lead(question)
    return {
        "lead": any(found.get(name) for name in _LEADS) or bool(question.service),
        "service": question.service,
        "any_service": not question.service,
        "remote": rest.remote,
        "name": rest.name,
        "min_duration": rest.min_duration,
        "max_duration": rest.max_duration or MAX_TIME_US,
        "keys": [key for key, _ in rest.terms],
        "values": [value for _, value in rest.terms],
        **found,
    }


_LEADS: Final = ("lead_value", "lead_word", "lead_name", "lead_remote", "lead_min")


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
    duration = {"lead_min": question.min_duration, "lead_max": question.max_duration or MAX_TIME_US}
    return duration, question._replace(min_duration=0)


def _without(question: Question, term: tuple[str, str]) -> Question:
    return question._replace(terms=tuple(other for other in question.terms if other != term))
