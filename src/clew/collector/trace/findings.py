"""What is worth a look in one trace, in plain words, the weightiest first.

Every finding names its spans, so that a page can jump to them and a person can judge it: nothing here knows
what the program means to do. Thresholds are shares of the trace, so that a fast trace is looked at as closely as a slow
one; below ``_LEAST_US`` nobody would notice.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

import msgspec

from clew import wire
from clew.collector.trace.timeline import Timed, critical_path, gaps, lay_out, longest_root, time_on_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from clew.collector.trace.span import Span

_LEAST_US: Final = 1_000  # of what could be saved
_MANY: Final = 5  # calls of one kind beneath one span
_SHARE_REPEATED: Final = 0.05  # of the trace
_SHARE_IN_TURN: Final = 0.15
_SHARE_GAP: Final = 0.2
_SHARE_PATH: Final = 0.4
_MAX_EACH: Final = 5  # of one kind; a trace of ten thousand spans has the same pattern a hundred times
_MAX_IDS: Final = 100
_DATABASE: Final = ("db.system", "db.system.name", "db.statement", "db.query.text", "sql.query")
_WAITS: Final = ("wait for connection", "pool.wait", "connection pool")


class Finding(msgspec.Struct, frozen=True, rename="camel"):
    """One observation. ``kind`` is a word for programs, ``text`` for people, ``us`` its weight in microseconds."""

    kind: str
    text: str
    span_ids: tuple[str, ...]
    us: int = 0


def find(spans: Sequence[Span]) -> list[Finding]:
    """Return what is worth a look in a trace: failures and losses first, then by the time they cost."""
    timeline = lay_out(spans)
    root = longest_root(timeline)
    total = root.end_us - root.begin_us if root else 0
    silent = list(_gaps(timeline, total))
    about_time = [
        *_repeated(timeline, total),
        *_in_turn(timeline, total),
        *_retries(timeline),
        *_waits(timeline),
        *silent,
        *(slow for slow in _mostly(timeline, total) if slow.span_ids not in {gap.span_ids for gap in silent}),
    ]
    return [*_failures(timeline), *_losses(timeline, spans), *sorted(about_time, key=lambda finding: -finding.us)]


def _failures(timeline: Sequence[Timed]) -> Iterator[Finding]:
    """Where it began: spans that failed though nothing beneath them did."""
    origins = [
        timed for timed in timeline if timed.span.failed and not any(child.span.failed for child in timed.children)
    ]
    for timed in origins[:_MAX_EACH]:
        reason = timed.span.tags["error"].split("\n")[0]
        yield Finding("error", f"{timed.label} failed{': ' + reason if reason else ''}", (timed.span.id,))
    if len(origins) > _MAX_EACH:
        rest = tuple(timed.span.id for timed in origins[_MAX_EACH:][:_MAX_IDS])
        yield Finding("error", f"{len(origins) - _MAX_EACH} more failed by themselves", rest)


def _losses(timeline: Sequence[Timed], spans: Sequence[Span]) -> Iterator[Finding]:
    """What is not here: parents that never came, and what clients said that they dropped."""
    known = {span.id for span in spans}
    orphans = [timed for timed in timeline if timed.span.parent_id and timed.span.parent_id not in known]
    if orphans:
        ids = tuple(timed.span.id for timed in orphans)
        missing = len({timed.span.parent_id for timed in orphans})
        places = ", ".join(sorted({timed.span.service or "?" for timed in orphans})[:_MAX_EACH])
        text = f"{_count(missing, 'span')} never arrived: the caller of {places} is missing"
        yield Finding("missing", text, ids[:_MAX_IDS])
    told = [timed for timed in timeline if timed.span.tags.get(wire.TRACE_DROPPED_TAG, "").isdecimal()]
    lost = sum(int(timed.span.tags[wire.TRACE_DROPPED_TAG][:15]) for timed in told)
    if lost:
        yield Finding(
            "lost", f"This trace misses at least {_count(lost, 'span')}: a process had to drop them", _ids(told)
        )


def _repeated(timeline: Sequence[Timed], total: int) -> Iterator[Finding]:
    """The same call again and again beneath one span: N+1."""
    found = []
    for parent in timeline:
        for same in _alike(parent.children):
            spent = _covered(same)
            if len(same) >= _MANY and spent >= max(_LEAST_US, _SHARE_REPEATED * total):
                found.append((spent, parent, same))
    for spent, parent, same in sorted(found, key=lambda entry: -entry[0])[:_MAX_EACH]:
        database = _is_database(same[0])
        advice = "one query for all would do" if database else "could one call do for all?"
        text = f"{len(same)} x {same[0].label} beneath {parent.label}: {_time(spent)}{_share(spent, total)}; {advice}"
        yield Finding("n_plus_one" if database else "repeated", text, _ids(same), spent)


def _in_turn(timeline: Sequence[Timed], total: int) -> Iterator[Finding]:
    """Different calls one after the other: if none needs the other's answer, they could run at once.

    Not with a database among them: statements of a transaction need their order.
    """
    found = []
    for parent in timeline:
        calls = [child for child in parent.children if child.span.kind == "CLIENT" and child.end_us > child.begin_us]
        chain = [] if any(map(_is_database, calls)) else _longest_chain(calls)
        kinds = {(call.span.name, call.span.remote_service, call.span.tags.get("http.url")) for call in chain}
        lengths = [call.end_us - call.begin_us for call in chain]
        saved = sum(lengths) - max(lengths, default=0)
        if 2 <= len(kinds) == len(chain) and saved >= max(_LEAST_US, _SHARE_IN_TURN * total):
            found.append((saved, parent, chain))
    for saved, parent, chain in sorted(found, key=lambda entry: -entry[0])[:_MAX_EACH]:
        names = ", ".join([*map(_called, chain[:4]), *(["..."] if len(chain) > 4 else [])])
        text = f"{parent.label} makes {len(chain)} calls one after the other ({names})"
        text += f"; at once they would take up to {_time(saved)} less, if none needs another's answer"
        yield Finding("in_turn", text, _ids(chain), saved)


def _retries(timeline: Sequence[Timed]) -> Iterator[Finding]:
    """The same call again after it failed."""
    found = []
    for parent in timeline:
        for same in _alike([child for child in parent.children if child.span.kind in ("CLIENT", "PRODUCER")]):
            failed = [call for call in same if call.span.failed]
            if failed and (len(failed) == len(same) or not same[-1].span.failed):
                found.append((_covered(failed), parent, same, failed))
    for spent, parent, same, failed in sorted(found, key=lambda entry: -entry[0])[:_MAX_EACH]:
        outcome = "then it worked" if not same[-1].span.failed else "and never worked"
        text = f"{parent.label} called {same[0].label} {len(same)} times: {len(failed)} failed, {outcome}"
        yield Finding("retries", f"{text}; {_time(spent)} went into failures", _ids(same), spent)


def _waits(timeline: Sequence[Timed]) -> Iterator[Finding]:
    """Waiting for a pooled connection."""
    waits = [timed for timed in timeline if (timed.span.name or "").lower() in _WAITS]
    spent = _covered(waits)
    if spent >= _LEAST_US:
        text = f"{_time(spent)} went by waiting for a pooled connection; a larger pool, or shorter use, would help"
        yield Finding("pool_wait", text, _ids(waits), spent)


def _gaps(timeline: Sequence[Timed], total: int) -> Iterator[Finding]:
    """Long stretches in which a span that calls others does something that nobody recorded."""
    found = [(end - begin, timed, begin, end) for timed in timeline for begin, end in gaps(timed)[:1]]
    found = [entry for entry in found if entry[0] >= max(_LEAST_US, _SHARE_GAP * total)]
    for length, timed, begin, end in sorted(found, key=lambda entry: -entry[0])[:_MAX_EACH]:
        before = [child for child in timed.children if child.begin_us and child.within_parent()[1] <= begin]
        after = [child for child in timed.children if child.begin_us and child.within_parent()[0] >= end]
        place = _between(before[-1] if before else None, after[0] if after else None)
        text = f"{_time(length)}{_share(length, total)} in {timed.label} are not accounted for, {place}"
        yield Finding("gap", text, (timed.span.id,), length)


def _mostly(timeline: Sequence[Timed], total: int) -> Iterator[Finding]:
    """The one span that decides the length."""
    times = time_on_path(critical_path(timeline))
    slowest = max(timeline, key=lambda timed: times.get(id(timed), 0), default=None)
    spent = times.get(id(slowest), 0)
    if slowest is not None and len(timeline) > 1 and spent >= max(_LEAST_US, _SHARE_PATH * total):
        text = f"{slowest.label} itself is {_time(spent)}{_share(spent, total)} of what this trace waits for"
        yield Finding("critical", text, (slowest.span.id,), spent)


def _is_database(timed: Timed) -> bool:
    return any(tag in timed.span.tags for tag in _DATABASE)


def _called(timed: Timed) -> str:
    """Name a call; one that is named by its method alone, by where it went, too."""
    name = timed.span.name or "unnamed"
    url = timed.span.tags.get("http.url", "")
    return name if " " in name or "://" not in url else f"{name} /{url.partition('://')[2].partition('/')[2]}"


def _alike(children: Sequence[Timed]) -> list[list[Timed]]:
    """Group calls of one kind to one place, in time order."""
    groups: dict[tuple[str | None, ...], list[Timed]] = defaultdict(list)
    for child in children:
        span = child.span
        groups[span.service, span.kind, span.name, span.remote_service].append(child)
    return [group for group in groups.values() if len(group) > 1]


def _longest_chain(calls: Sequence[Timed]) -> list[Timed]:
    """Return calls that do not overlap, in time order: each begins after the one before has ended."""
    chain: list[Timed] = []
    for call in sorted(calls, key=lambda call: call.begin_us):
        if chain and call.begin_us < chain[-1].end_us:
            return []  # some of them run at once already
        chain.append(call)
    return chain


def _covered(timeds: Sequence[Timed]) -> int:
    """Return how long at least one of them ran."""
    covered = reached = 0
    for timed in sorted(timeds, key=lambda timed: timed.begin_us):
        covered += max(0, timed.end_us - max(timed.begin_us, reached))
        reached = max(reached, timed.end_us)
    return covered


def _between(before: Timed | None, after: Timed | None) -> str:
    if before is not None and after is not None:
        return f"between {before.span.name or 'unnamed'} and {after.span.name or 'unnamed'}"
    if before is not None:
        return f"after {before.span.name or 'unnamed'}"
    return f"before {after.span.name or 'unnamed'}" if after is not None else "from begin to end"


def _ids(timeds: Sequence[Timed]) -> tuple[str, ...]:
    return tuple(timed.span.id for timed in timeds[:_MAX_IDS])


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _time(us: int) -> str:
    if us < 1_000_000:
        return f"{us / 1_000:.{0 if us >= 100_000 else 1}f} ms"
    return f"{us / 1_000_000:.2f} s"


def _share(us: int, total: int) -> str:
    return f" ({us / total:.0%})" if total and us <= total else ""
