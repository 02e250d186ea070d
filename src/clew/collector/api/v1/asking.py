"""What the questions have in common: searches, stretches of time, limits, cursors. ValueErrors are for the asker."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Final

from clew.collector.api.v1.operation import Parameter
from clew.collector.query.traces import ORDERS, Place
from clew.collector.search import Condition, Query, parse, parse_condition
from clew.collector.trace.span import normalize_trace_id

if TYPE_CHECKING:
    from clew.collector.api.parameters import Parameters
    from clew.collector.api.v1.operation import Call

FUTURE_US: Final = 60_000_000  # clocks of clients may be ahead of ours
HOUR_US: Final = 3_600_000_000
_MAX_TIME_US: Final = 2**63 - 1
_CURSOR: Final = re.compile(r"([a-z]+)\.(\d{1,19})\.([0-9a-f]{0,32})\.(\d{1,19})\.(\d{1,19})")

SEARCH: Final = Parameter("q", "A search, see docs/search.md; empty finds everything.")
WINDOW: Final = (
    Parameter("since", "Begin of the window, microseconds since 1970, included.", "integer"),
    Parameter("until", "End of the window, microseconds since 1970, included; by default now.", "integer"),
    Parameter("lookback", "Length of the window before its end, microseconds; instead of since.", "integer"),
)


def limit_parameter(default: int, maximum: int) -> Parameter:
    """Return the declaration of ``limit``."""
    return Parameter("limit", f"How many at most, 1 to {maximum}.", "integer", default)


def trace_id(text: str) -> str:
    """Return a trace id that may be upper-case or a dashed UUID as it is stored."""
    try:
        return normalize_trace_id(text.strip().lower().replace("-", ""))
    except ValueError as invalid:
        raise ValueError(f"A trace id is 16 or 32 hex characters; {invalid}") from None


def limit(parameters: Parameters, default: int, maximum: int) -> int:
    """Read ``limit``."""
    number = parameters.long("limit")
    if number is None:
        return default
    if not 1 <= number <= maximum:
        raise ValueError(f"limit is a number from 1 to {maximum}")
    return number


def moment(parameters: Parameters, name: str) -> int | None:
    """Read a time or a length in microseconds; None if it is not there."""
    value = parameters.long(name)
    if value is not None and value < 0:
        raise ValueError(f"{name} is a number of microseconds, 0 or more")
    return value


def milliseconds(parameters: Parameters, name: str) -> int:
    """Read a length in milliseconds as microseconds, 0 if it is not there."""
    text = parameters.text(name)
    try:
        value = float(text or 0)
    except ValueError:
        raise ValueError(f"{name} is a number of milliseconds, not {text!r}") from None
    if not 0 <= value <= _MAX_TIME_US / 1_000_000:
        raise ValueError(f"{name} is a number of milliseconds, 0 or more")
    return int(value * 1_000)


def window(call: Call, lookback_us: int | None = None) -> tuple[int, int]:
    """Read ``since``, ``until`` and ``lookback``: by default the last ``lookback_us``, or all that is kept."""
    now = now_us()
    until = moment(call.parameters, "until")
    until = now + FUTURE_US if until is None else until
    since, lookback = moment(call.parameters, "since"), moment(call.parameters, "lookback")
    if since is None:
        lookback = lookback_us if lookback is None else lookback
        since = now - call.retain_us if lookback is None else min(until, now) - lookback
    return max(since, now - call.retain_us, 0), until


def short_window(call: Call, lookback_us: int = HOUR_US) -> tuple[int, int]:
    """Read a window that something is counted over: it ends now, not in the future, and is not empty."""
    since, until = window(call, lookback_us)
    if not call.parameters.text("until"):
        until = now_us()
    if since > until:
        raise ValueError("since lies after until, or what lies before is not kept any more")
    return since, until


def search(parameters: Parameters, name: str = "q") -> Query:
    """Read a search for traces."""
    return parse(parameters.text(name))


def condition(parameters: Parameters, name: str = "q") -> Condition:
    """Read a search for single things."""
    return parse_condition(parameters.text(name))


def order(parameters: Parameters) -> str:
    """Read ``sort``."""
    text = parameters.text("sort") or "newest"
    if text not in ORDERS:
        raise ValueError(f"sort is one of {', '.join(ORDERS)}, not {text!r}")
    return text


def write_cursor(order: str, place: Place, since: int, until: int) -> str:
    """Return a cursor: the order, the place in it, and the window, for "now" moves."""
    return f"{order}.{place.key}.{place.id}.{since}.{until}"


def read_cursor(text: str) -> tuple[str, Place, int, int]:
    """Return what :func:`write_cursor` was given."""
    found = _CURSOR.fullmatch(text)
    if found is None or found[1] not in ORDERS or max(int(found[n]) for n in (2, 4, 5)) > _MAX_TIME_US:
        raise ValueError("cursor is what an earlier answer gave; leave it out to begin anew")
    return found[1], Place(int(found[2]), found[3]), int(found[4]), int(found[5])


def now_us() -> int:
    """Return the time in microseconds since 1970."""
    return time.time_ns() // 1_000
