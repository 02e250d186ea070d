"""What is stored -> what may be meant by what was typed: keys of tags, values of fields, with counts.

Counted over the newest spans of a window, at most :data:`MAX_ROWS`: someone is typing and waits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from clew.collector.query.window import slices
from clew.collector.search.sql import Compiled, compile_value

if TYPE_CHECKING:
    from clew.collector.query.reader import Reader
    from clew.collector.search.tree import Field

MAX_ROWS: Final = 300_000


def keys(reader: Reader, prefix: str, since: int, until: int, limit: int) -> dict[str, int]:
    """Return keys of tags that hold the text, in any case, with counts; those that begin with it first."""
    return _gathered(reader, "complete_keys", {"prefix": prefix, "limit": limit}, {}, since, until)


def values(reader: Reader, field: Field, prefix: str, since: int, until: int, limit: int) -> dict[str, int]:
    """Return values of a field that hold the text, in any case, with counts; those that begin with it first."""
    into = Compiled(prefix="v")
    value, has = compile_value(field, into)
    given = {**into.parameters, "prefix": prefix, "limit": limit}
    return _gathered(reader, "complete_values", given, {"VALUE": value, "HAS": has}, since, until)


def _gathered(
    reader: Reader, statement: str, given: dict[str, Any], parts: dict[str, str], since: int, until: int
) -> dict[str, int]:
    counts: dict[str, int] = {}
    left = MAX_ROWS
    for begin, end in slices(since, until):
        window = {"since": begin, "until": end, "rows": left}
        for row in reader.select(statement, {**given, **window}, parts):
            counts[row["text"]] = counts.get(row["text"], 0) + row["count"]
        left -= min(left, reader.select("measure_rows", window)[0]["number"])
        if not left:
            break
    prefix = given["prefix"].lower()
    ranked = sorted(counts.items(), key=lambda entry: (not entry[0].lower().startswith(prefix), -entry[1], entry[0]))
    return dict(ranked[: given["limit"]])
