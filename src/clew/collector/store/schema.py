"""Brings the tables of a data directory, or of a server, to what this version works with. Called when a store opens.

In this order, so that a kill anywhere leaves what the next start completes: tables that are missing are made; what an
older version left is migrated (:mod:`clew.collector.store.migrations`); the settings of today (how long rows are kept,
how large parts grow) are applied; the views, which fill tables as rows arrive, come last.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from clew.collector.store import columns, migrations
from clew.collector.store.statements import KEY, literal, read_file, read_statement

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from clickhouse_connect.driver.client import Client

OLD_PARTS_S: Final = (10, 2)  # how long a merged part stays beside what it became; with a bound on the disk
MINUTES_S: Final = 2 * 86_400  # how long rates are kept by the minute
TEN_MINUTES_S: Final = 14 * 86_400  # ... and by ten minutes; after that by the hour
ARRIVED: Final = (
    "spans",
    "logs",
    "trace_index",
    "names",
    "tag_values",
    "arrivals",
    "far_traces",
)  # kept by their time of arrival
DERIVED: Final = ("rates", "links")  # kept by their own time

# In the order of creation.
_TABLES: Final = {
    "schema_migrations": "",
    "schema_spans": columns.declared(columns.SPANS),
    "schema_spans_in": columns.SPAN_JSON,
    "schema_logs": columns.declared(columns.LOGS),
    "schema_logs_in": columns.LOG_JSON,
    "schema_trace_index": "",
    "schema_names": "",
    "schema_tag_values": "",
    "schema_arrivals": "",
    "schema_far_traces": "",
    "schema_rates": "",
    "schema_links": "",
    "schema_links_in": "",
    "schema_probe": "",
}

# View -> its columns. One of an older version is brought to today's.
_VIEWS: Final = {
    "spans_view": columns.sourced(columns.SPANS),
    "logs_view": columns.sourced(columns.LOGS),
    "trace_index_spans_view": "",
    "trace_index_logs_view": "",
    "names_view": "",
    "arrivals_view": "",
    "links_view": "",
}


# From when on the age of a derived row counts: minutes of long ago are there long enough to be added up.
_SINCE: Final = "greatest(start, toDateTime(intDiv(attempt, 1000000000), 'UTC'))"
_OF_LAST_HOUR: Final = r"FROM (SELECT * FROM \1 WHERE received >= now('UTC') - INTERVAL 1 HOUR) AS \1"
_MENDED: Final = (  # table, and the statement that fills it
    ("trace_index", "schema_trace_index_spans_view"),
    ("trace_index", "schema_trace_index_logs_view"),
    ("names", "schema_names_view"),
)


class Keeping(NamedTuple):
    """How long rows are kept, in seconds, and how many bytes the caller will keep to (0: no bound)."""

    retain_s: int
    retain_rates_s: int
    max_disk: int


def prepare(client: Client, keeping: Keeping, autocomplete_keys: Sequence[str]) -> None:
    """Make the tables ready. Raises the engine's errors, and :class:`~clew.collector.store.migrations.NewerSchema`."""
    version = migrations.version_of(client)
    migrations.refuse_newer(version)
    for statement, layout in _TABLES.items():
        client.command(_filled(statement, layout, keeping))
    migrations.apply(client, version)
    for table in (*ARRIVED, *DERIVED):
        _keep(client, table, keeping)
        _limit_parts(client, table, keeping)
    for view, layout in _VIEWS.items():
        sql = _filled(f"schema_{view}", layout, keeping)
        client.command(sql)
        query = sql.partition(" AS\n")[2]
        client.command(f"ALTER TABLE {view} MODIFY QUERY {query}")  # at once: no insert falls between
    _collect_values_of(client, autocomplete_keys)


def mending() -> Iterator[str]:
    """Yield the statements that fill up, from the rows of the last hour, what the views may have left out."""
    for table, view in _MENDED:
        rows = read_file(view).partition(" AS\n")[2].replace("$KEY", KEY)
        rows = re.sub(r"FROM (spans|logs)\b", _OF_LAST_HOUR, rows)
        yield f"INSERT INTO {table} {rows}"
    yield read_statement("mend_arrivals", frozenset({"recent"}))


def _filled(statement: str, layout: str, keeping: Keeping) -> str:
    granule_s = _granule_s(keeping.retain_s, keeping.max_disk)
    sql = read_file(statement).replace("$COLUMNS", layout).replace("$GRANULE", str(granule_s)).replace("$KEY", KEY)
    return sql.replace("$RETAIN", str(keeping.retain_s)).replace("$AGE", _age(statement, keeping))


def _age(table: str, keeping: Keeping) -> str:
    """Return after how many seconds a derived row goes. Totals stay as long as arrivals do, at least."""
    longest = max(keeping.retain_rates_s, keeping.retain_s)
    whose = "caller" if table.endswith("links") else "service"
    minutes, tens = min(MINUTES_S, keeping.retain_rates_s), min(TEN_MINUTES_S, keeping.retain_rates_s)
    return f"multiIf({whose} = '', {longest}, step = 60, {minutes}, step = 600, {tens}, {keeping.retain_rates_s})"


def _keep(client: Client, table: str, keeping: Keeping) -> None:
    """Bring an existing table to today's retention; rows there already are judged by it at their next merge."""
    age = _age(table, keeping) if table in DERIVED else str(keeping.retain_s)
    since = _SINCE if table in DERIVED else "received"
    ttl = f"{since} + toIntervalSecond({age})"
    if ttl in str(client.command(f"SHOW CREATE TABLE {table}")).replace("\\'", "'"):
        return
    client.command(f"ALTER TABLE {table} MODIFY TTL {ttl}", settings={"materialize_ttl_after_modify": 0})


def _limit_parts(client: Client, table: str, keeping: Keeping) -> None:
    """A part is what is dropped when the disk is full: with a bound on it, none may grow to much of it.

    Parts that were merged go soon, for at small loads they are most of what is there; so what they became is brought to
    the disk (fsync) before. Broken parts, however many, are no reason for the engine not to open a table: what is left
    of it goes on.
    """
    bound = keeping.max_disk
    largest = max(bound // 20, 200_000) if bound else 150_000_000_000  # the engine's default
    smallest = min(largest, 1 << 20)  # the bound while the engine is busy, by default 1 MiB
    wanted: dict[str, Any] = {
        "max_bytes_to_merge_at_max_space_in_pool": largest,
        "max_bytes_to_merge_at_min_space_in_pool": smallest,
        "min_rows_to_fsync_after_merge": 1,
        "old_parts_lifetime": OLD_PARTS_S[bool(bound)],
        "merge_with_ttl_timeout": min(max(keeping.retain_s // 10, 5), 14_400),
        "max_suspicious_broken_parts": 1_000_000,
        "max_suspicious_broken_parts_bytes": 1 << 60,
    }
    client.command(f"ALTER TABLE {table} MODIFY SETTING {', '.join(f'{name} = {n}' for name, n in wanted.items())}")


def _collect_values_of(client: Client, keys: Sequence[str]) -> None:
    """The keys may have changed since the last start, and a view is cheap: make it anew."""
    client.command("DROP VIEW IF EXISTS tag_values_view")
    if keys:
        client.command(read_file("schema_tag_values_view").replace("$KEYS", ", ".join(map(literal, keys))))


def _granule_s(retain_s: int, max_disk: int) -> int:
    """Return to how many seconds the time of arrival is cut: a coarse one costs no room, retention wants a fine one."""
    return max(1, min(retain_s // 20, 10 if max_disk else 600))
