"""Options that the viewing commands share, and the way from a word on the command line to a trace."""

from __future__ import annotations

import re
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from clew.cli._client import DEFAULT_COLLECTOR, Collector, CommandError, NotFoundError
from clew.cli._secret import hide_token

if TYPE_CHECKING:
    from collections.abc import Callable

F = TypeVar("F", bound="Callable[..., Any]")

LAST: Final = "last"
TRACES_A_PAGE: Final = 1_000  # more the API does not give at once
LISTED_IDS: Final = 20  # of several that begin alike
_ID_PART: Final = re.compile(r"[0-9a-f]{6,32}")
_UNITS: Final = {
    "us": 1,
    "µs": 1,
    "ms": 1_000,
    "s": 1_000_000,
    "m": 60_000_000,
    "h": 3_600_000_000,
    "d": 86_400_000_000,
}
_SPAN_OF_TIME: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(us|µs|ms|s|m|h|d)")


def collector_options(command: F) -> F:
    """Add ``--collector`` and ``--token``."""
    for option in (
        click.option(
            "--token",
            envvar="CLEW_TOKEN",
            show_envvar=True,
            metavar="TOKEN",
            callback=hide_token,
            help="The collector's token.",
        ),
        click.option(
            "--collector",
            envvar="CLEW_COLLECTOR",
            show_envvar=True,
            default=DEFAULT_COLLECTOR,
            show_default=True,
            metavar="URL",
            help="The collector to ask.",
        ),
    ):
        command = option(command)
    return command


def time_option(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """Read a length of time with its unit, ``250ms``, ``2s``, ``1.5h``, as microseconds; a callback for an option."""
    if value is None:
        return None
    length = _length_us(value)
    if length is None:
        raise click.BadParameter(f"{value!r} is no time like 250ms, 2s or 1h (units: us, ms, s, m, h, d).")
    return length


def since_option(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """Read a moment, ``15m`` ago or a local ``2026-11-22T14:00``, as microseconds since the epoch; a callback."""
    if value is None:
        return None
    length = _length_us(value)
    if length is not None:
        return time.time_ns() // 1_000 - length
    try:
        moment = datetime.fromisoformat(value.strip().replace("Z", "+00:00"))
    except ValueError:
        raise click.BadParameter(f"{value!r} is neither a time like 15m nor a moment like 2026-11-22T14:00.") from None
    return round(moment.timestamp() * 1_000_000)


def _length_us(text: str) -> int | None:
    found = _SPAN_OF_TIME.fullmatch(text.strip().lower())
    return round(float(found[1]) * _UNITS[found[2]]) if found else None


def is_trace_id(given: str) -> bool:
    """Tell whether a word stands for a trace, rather than for a search."""
    word = given.strip().lower()
    return word == LAST or _ID_PART.fullmatch(word.replace("-", "")) is not None


def full_trace_id(collector: Collector, given: str) -> str:
    """Return the whole trace id for an id in any spelling, the beginning of one (like git), or ``last``.

    A beginning is looked for among all that is stored; CommandError if none begins like that, or several do, which
    are listed.
    """
    if given.strip().lower() == LAST:
        newest = _recent_ids(collector, 1)
        if not newest:
            raise CommandError(f"There are no traces at {collector.url} yet. `clew demo` shows how they come about.")
        return newest[0]
    wanted = given.strip().lower().replace("-", "")
    if not _ID_PART.fullmatch(wanted):
        raise CommandError(
            f"{given!r} is no trace id: give its hexadecimal characters, the first six or more. `clew ls` lists them."
        )
    return wanted if len(wanted) == 32 else _completed(collector, wanted)


def _completed(collector: Collector, wanted: str) -> str:
    """Return the one id that begins like this, or is this."""
    answer = collector.get("/api/v1/traceIds", prefix=wanted, limit=LISTED_IDS)
    try:
        found, more = list(map(str, answer["traceIds"])), bool(answer["more"])
    except (KeyError, TypeError):
        raise CommandError(f"{collector.url} lists no trace ids as clew does. Is it a clew collector?") from None
    if len(found) == 1 or wanted in found:
        return wanted if wanted in found else found[0]
    if not found:
        raise not_found(collector, wanted)
    listed = "\n".join(f"  {trace_id}" for trace_id in found)
    raise CommandError(
        f"Several traces begin with {wanted}:\n{listed}\n{'  and others. ' if more else ''}Give more of the id."
    )


def not_found(collector: Collector, trace_id: str) -> CommandError:
    """Say that there is no such trace."""
    return NotFoundError(
        f"{collector.url} has no trace {trace_id}. It may not have arrived yet, or be past retention; see `clew ls`."
    )


def _recent_ids(collector: Collector, limit: int) -> list[str]:
    return [str(line["traceId"]) for line in traces(collector, limit=limit)]


def traces(
    collector: Collector, limit: int, since: int | None = None, **filters: str | float | None
) -> list[dict[str, Any]]:
    """Return the collector's trace summaries, newest first, of `since` (microseconds since the epoch) and later.

    `filters` are parameters of the API. Warns of what the collector could not search in time.
    """
    found: list[dict[str, Any]] = []
    cursor = None
    while len(found) < limit:
        page = min(limit - len(found), TRACES_A_PAGE)
        answer = collector.get("/api/v1/traces", limit=page, since=since, cursor=cursor, **filters)
        try:
            found += answer["traces"]
            cursor, incomplete = answer["cursor"], answer["incomplete"]
        except (KeyError, TypeError):
            raise CommandError(f"{collector.url} lists no traces as clew does. Is it a clew collector?") from None
        if incomplete:
            click.echo(f"Not everything was searched: {incomplete}", err=True)
        if cursor is None or incomplete:
            break
    return found
