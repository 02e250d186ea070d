"""Text for a terminal: hostile characters made visible, durations and times in the form people read.

Names, tags and log lines come from anybody who can reach the collector. A terminal obeys control characters (it can be
made to retitle itself, to hide lines or to answer as if somebody typed), so every foreign string passes `visible`
before it is printed. Pure: no I/O, no clock.
"""

from __future__ import annotations

import unicodedata
from datetime import datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

ELLIPSIS: Final = "…"
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY", "WS", "HTTP"})


def visible(text: str) -> str:
    """Return `text` with everything that a terminal would obey or hide written as an escape: ``\\x1b``, ``\\u202e``.

    That is control characters (C0, DEL, C1, line ends too), bidirectional and zero-width marks, lone surrogates and
    unassigned code points. Spaces of any width stay: CJK text uses them.
    """
    if text.isprintable():  # the usual case, decided in C
        return text
    return "".join(c if c.isprintable() or unicodedata.category(c) == "Zs" else _escape(c) for c in text)


def visible_lines(text: str) -> list[str]:
    """Split at line ends, then make each line `visible`; tabs become four spaces. For log messages and tracebacks."""
    lines = text.replace("\r\n", "\n").rstrip("\n").split("\n")
    return [visible(line.replace("\t", "    ")) for line in lines]


def headline(traceback: str) -> str:
    """Return the line of a traceback that names the exception: the first one behind its last frame.

    Not its last line: messages of several lines end with notes and links. An exception group, whose lines begin with
    ``|``, is named itself, not what it holds. A text without frames gives its first line.
    """
    traceback = traceback.partition("+-+---")[0]
    lines = [line.lstrip(" |+-") if line.lstrip()[:1] in ("|", "+") else line for line in traceback.split("\n")]
    frames = [index for index, line in enumerate(lines) if line.lstrip().startswith('File "')]
    after = lines[frames[-1] + 1 :] if frames else lines
    text = [line for line in after if line.strip() and not line.startswith("    " if frames else "Traceback")]
    return (text or after or [""])[0].strip()


def target(name: str, tags: Mapping[str, str]) -> str:
    """Return the path of an HTTP span whose name is but its method (``get``), so that it had no route; else ``""``."""
    if name.upper() not in METHODS:
        return ""
    try:
        return urlsplit(tags.get("http.url", "")).path or tags.get("http.path", "")
    except ValueError:
        return ""


def is_failure(status: str) -> bool:
    """Tell a status of 400 and above: shown also where the span is no error of its service, as a 404."""
    return status.isascii() and status.isdigit() and len(status) == 3 and status >= "400"


def duration(us: int | None) -> str:
    """Write microseconds as people say them, in at most eight characters: ``640 µs``, ``12.3 ms``, ``1.24 s``."""
    if us is None:
        return ""
    if us < 1_000:
        return f"{us} µs"
    if us < 999_950:  # above, one decimal would round to 1000.0 ms
        return f"{us / 1_000:.1f} ms"
    if us < 59_995_000:
        return f"{us / 1_000_000:.2f} s"
    minutes, seconds = divmod(round(us / 1_000_000), 60)
    return f"{minutes}m{seconds:02}s" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02}m"


def offset(us: int) -> str:
    """Write a distance from the start of the trace: ``+12.3 ms``; before the start (a skewed clock) with a minus."""
    return f"+{duration(us)}" if us >= 0 else f"-{duration(-us)}"


def clock_time(timestamp_us: int, *, date: bool = False) -> str:
    """Write microseconds since the epoch as local time: ``14:15:03.120``, with `date` the day before it."""
    try:
        moment = datetime.fromtimestamp(timestamp_us / 1_000_000)
    except (OverflowError, ValueError, OSError):  # a hostile timestamp lies outside what the calendar knows
        return "--:--:--.---"
    text = moment.strftime("%H:%M:%S.") + f"{moment.microsecond // 1_000:03}"
    return f"{moment:%Y-%m-%d} {text}" if date else text


def plural(count: int, noun: str) -> str:
    """Write ``1 span``, ``2 spans``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
