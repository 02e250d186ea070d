"""Parts whose bytes are not what was written: found, told by name and by what they held, and made good where possible.

The engine takes a part that it cannot load out of its table when it opens it, without a word; one that is found out
later is taken out by whoever meets it. Both lie in the directory ``detached`` of the table then. What the other tables
say of spans and log lines (index, names, arrivals) is made again from those; rates and links are derived again by
themselves, for their row of totals is gone, too.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from clew.collector.store.statements import KEY, read_file, read_statement

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from clickhouse_connect.driver.client import Client

_NAMED: Final = re.compile(r"(?:(?P<why>[a-z-]+)_)?(?P<day>\d{8}|all)_\d+_\d+_\d+")
_FILLED: Final = {  # table -> the statements that fill it
    "trace_index": ("schema_trace_index_spans_view", "schema_trace_index_logs_view"),
    "names": ("schema_names_view",),
}


class Damaged(NamedTuple):
    """A part that was set aside. ``rows`` is ``None`` where that cannot be read any more."""

    table: str
    part: str
    rows: int | None
    bytes: int
    path: str

    def __str__(self) -> str:
        rows = "an unknown number of" if self.rows is None else f"{self.rows:,}"
        named = _NAMED.fullmatch(self.part)
        day = named["day"] if named else "all"
        arrived = "" if day == "all" else f" that arrived on {day[:4]}-{day[4:6]}-{day[6:]}"
        return f"{self.part} of {self.table}: {rows} rows, {self.bytes:,} bytes{arrived}"


def found(client: Client) -> list[Damaged]:
    """Return all parts that were set aside."""
    rows = client.query(read_statement("detached_parts")).result_rows
    return [Damaged(table, part, _rows_of(Path(path)), size, path) for table, part, size, path in rows]


def broken(client: Client, name: str = "") -> list[tuple[str, str, int]]:
    """Return table, name and rows of the parts, of this name or all, whose files do not agree with their checksums."""
    rows = client.query(read_statement("active_parts")).result_rows
    parts = [(table, part, count) for table, part, count in rows if name in ("", part)]
    return [part for part in parts if not _is_whole(client, *part[:2])]


def _is_whole(client: Client, table: str, part: str) -> bool:
    sql = f"CHECK TABLE {table} PART '{part}'"
    return bool(client.query(sql, settings={"check_query_single_value_result": 1}).result_rows[0][0])


def set_aside(client: Client, parts: Iterable[tuple[str, str, int]]) -> None:
    """Take parts out of their tables, and make again what can be made of the rest."""
    parts = list(parts)
    for table, part, _ in parts:
        client.command(f"ALTER TABLE {table} DETACH PART '{part}'")
    make_good(client, {table for table, _, _ in parts if can_be_made(table)})


def make_good(client: Client, tables: Iterable[str]) -> None:
    """Make again what these tables lack and others hold. What they still have is merged away."""
    for table in tables:
        for statement in _making(table):
            client.command(statement)


def can_be_made(table: str) -> bool:
    """Whether a table holds nothing that others do not."""
    return table in _FILLED or table == "arrivals"


def forget(client: Client, damaged: Damaged) -> None:
    """Remove a part whose rows were made again."""
    sql = f"ALTER TABLE {damaged.table} DROP DETACHED PART '{damaged.part}'"
    client.command(sql, settings={"allow_drop_detached": 1})


def _making(table: str) -> Iterator[str]:
    for view in _FILLED.get(table, ()):
        rows = read_file(view).partition(" AS\n")[2].replace("$KEY", KEY)
        yield f"INSERT INTO {table} {rows}"
    if table == "arrivals":
        yield read_statement("mend_arrivals", frozenset({"all"}))


def _rows_of(path: Path) -> int | None:
    try:
        return int((path / "count.txt").read_text())
    except (OSError, ValueError):
        return None
