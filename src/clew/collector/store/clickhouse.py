"""The store on ClickHouse: the embedded engine by default, a server by URL. One code, one SQL for both.

How a span gets in: its JSON goes, as the check wrote it, to ``spans_in``. That table keeps nothing; a materialized view
turns each block into rows of ``spans`` inside the engine, and further views fill ``trace_index`` and ``names`` from
there. The insert carries a deduplication token down to every table, so a repeated insert is a no-op in each table that
already has it and completes the others.

Durable how far: the engine writes a part and renames it before the insert returns. That survives the death of the
process at any moment, for the page cache is the kernel's. It does not wait for the disk (``fsync_after_insert`` is
off), so a power cut may lose the last seconds.

Statements lie in ``sql/``, one a file. In them ``$SPAN`` and ``$LOG`` stand for the columns of a row as
:mod:`clew.collector.store.columns` reads them, ``$TRACE`` for what makes a trace (its id, or the lower half when
``loose``), ``$KEY`` for its key in ``trace_index``, ``$REACH`` for the rows that
:func:`clew.collector.query.window.reach` tells of; everything that comes from outside is a bound ``{name:Type}``. A
part in ``[[name: ...]]`` is there only when the parameter of that name is given and not empty: the engine would fold
an unused condition away, too, but takes milliseconds to think about each.
"""

from __future__ import annotations

import functools
import logging
import math
import queue
import re
import threading
from contextlib import contextmanager
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

import clickhouse_connect
import msgspec
from clickhouse_connect.driver.exceptions import ClickHouseError

from clew.collector.patience import OVERDUE, Patience, TooCostly
from clew.collector.store import Kind, StoreError, TooManyRows, UnreadableRows, columns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from clickhouse_connect.driver.client import Client

OLD_PARTS_S: Final = (10, 2)  # how long a merged part stays beside what it became; with a bound on the disk
READERS: Final = 4  # queries at a time; each is a handle of its own, for a handle serves one caller at a time

# The engine inside our process: few threads, idle CPU near zero. How much memory it may take is the caller's to say.
ENGINE_OPTIONS: Final[dict[str, Any]] = {
    "uncompressed_cache_size": 0,
    "max_parts_cleaning_thread_pool_size": 1,  # by default 128, which stay once there was much to clean
    "max_active_parts_loading_thread_pool_size": 2,
    "max_outdated_parts_loading_thread_pool_size": 1,
    "background_pool_size": 2,
    "background_merges_mutations_concurrency_ratio": 2,
    "background_schedule_pool_size": 4,
    "background_fetches_pool_size": 1,
    "background_move_pool_size": 1,
    "background_common_pool_size": 2,
    "background_buffer_flush_schedule_pool_size": 1,
    "background_distributed_schedule_pool_size": 1,
    "background_message_broker_schedule_pool_size": 1,
}

INSERT_SETTINGS: Final[dict[str, Any]] = {
    "deduplicate_blocks_in_dependent_materialized_views": 1,  # a repeated insert completes the tables it missed
    "input_format_parallel_parsing": 0,  # parallel parsing splits into small blocks and costs more than it gains here
    # Strict in all else: these rows are our own writing. Not looking for null spares 9 % of parsing (2026-11).
    "input_format_json_defaults_for_missing_elements_in_named_tuple": 1,  # an endpoint may be a name alone
    "input_format_null_as_default": 0,
    "input_format_skip_unknown_fields": 0,
    "input_format_json_read_numbers_as_strings": 0,
    "input_format_json_read_bools_as_strings": 0,
    "input_format_json_read_bools_as_numbers": 0,
    "max_insert_block_size": 1_000_000,  # one block a group, so that it is in a table whole or not at all
    "min_insert_block_size_rows": 1_000_000,
    "max_partitions_per_insert_block": 0,
    "max_threads": 1,
}
READ_SETTINGS: Final[dict[str, Any]] = {
    "prefer_column_name_to_alias": 1,  # WHERE trace_id = ... means the column, though SELECT reads it as hex
    "max_result_bytes": 64_000_000,  # of one statement: what is more comes in pages
}

# Codes of the engine that mean "these bytes": CANNOT_PARSE_* and kin, TYPE_MISMATCH, INCORRECT_DATA, bad numbers/UTF-8.
_UNREADABLE: Final = frozenset(
    {6, 25, 26, 27, 33, 38, 41, 43, 53, 69, 70, 72, 117, 131, 190, 321, 441, 467, 636, 675, 676}
)

# Codes that tell of bytes on disk that are not what was written: CHECKSUM_DOESNT_MATCH, CANNOT_DECOMPRESS, and kin.
_BROKEN: Final = frozenset(
    {23, 32, 33, 34, 36, 38, 40, 41, 49, 74, 76, 79, 84, 86, 107, 117, 226, 228, 246, 271, 432, 1001}
)
_BROKEN_PART: Final = re.compile(r"[Ww]hile reading (?:from )?part (?:\S*/)?([0-9a-zA-Z_-]+)[/: ]")
_TIME: Final = frozenset({159, 160, 394})  # TIMEOUT_EXCEEDED, TOO_SLOW, QUERY_WAS_CANCELLED
_MEMORY: Final = frozenset({173, 241, 307})  # CANNOT_ALLOCATE_MEMORY, MEMORY_LIMIT_EXCEEDED, TOO_MANY_BYTES
_TOO_MANY_ROWS: Final = 396

_log = logging.getLogger("clew.collector")


class ClickHouseStore:
    """A :class:`~clew.collector.store.SpanStore` on ClickHouse. Thread-safe, not fork-safe.

    ``path`` is the directory of the embedded engine (one per process); ``url`` names a server instead
    (``clickhouse://user:password@host:8123/database``). ``retain_s`` is the time, in seconds, after which a row goes;
    ``max_disk`` the bytes that the caller will keep to by :meth:`drop_oldest` (0: no bound), so parts stay small
    enough.
    ``max_memory``: bytes of the process with the engine in it, and ``max_question_memory`` of one reading statement.
    ``autocomplete_keys`` are the tags whose values are collected for autocomplete. Opening creates the tables.
    Raises :class:`StoreError`.
    """

    def __init__(
        self,
        path: Path | None = None,
        *,
        url: str = "",
        retain_s: int = 7 * 86_400,
        max_disk: int = 0,
        autocomplete_keys: Sequence[str] = (),
        max_memory: int = 1_200_000_000,
        max_question_memory: int = 220_000_000,
    ) -> None:
        self._connect = functools.partial(_connect, path, url, max_memory)
        self._reading = _read_settings(max_question_memory)
        self._writer = self._connect(INSERT_SETTINGS)
        self._readers: queue.LifoQueue[Client] = queue.LifoQueue()  # the same few again and again, caches warm
        for _ in range(READERS):
            self._readers.put(self._connect(self._reading))
        self._control = self._connect(self._reading)  # for the collector itself, so that it waits for no question
        self._control_lock = threading.Lock()
        self._create(retain_s, max_disk, autocomplete_keys)

    def insert(self, kind: Kind, rows: bytes, token: str) -> None:
        """See :class:`~clew.collector.store.SpanStore`."""
        with _translated(unreadable=True):
            self._writer.raw_insert(
                f"{kind}_in", insert_block=rows, fmt="JSONEachRow", settings={"insert_deduplication_token": token}
            )

    def works(self, room: int = 0) -> bool:
        """See :class:`~clew.collector.store.SpanStore`."""
        try:
            with _translated():
                self._writer.command("INSERT INTO probe SELECT 1")
                free = self._writer.command("SELECT min(unreserved_space) FROM system.disks")
        except StoreError:
            return False
        return int(str(free)) >= room

    def mend(self) -> None:
        """See :class:`~clew.collector.store.SpanStore`. What is there already is merged away."""
        with _translated():
            for table, view in _DERIVED:
                rows = _read(view).partition(" AS\n")[2].replace("$KEY", _PLACEHOLDERS["$KEY"])
                rows = re.sub(r"FROM (spans|logs)\b", _OF_LAST_HOUR, rows)
                self._writer.command(f"INSERT INTO {table} {rows}")

    def holds(self, kind: Kind, rows: bytes) -> bool:
        """See :class:`~clew.collector.store.SpanStore`."""
        last = msgspec.json.decode(b"[%b]" % rows)[-1]
        parameters = {
            "timestamp": max(int(last.get("timestamp") or 0), 0),
            "trace_id": str(last.get("traceId") or ""),
            "span_id": str(last.get("id") or ""),
            "message": str(last.get("message") or ""),
        }
        return bool(self.select(f"holds_{kind}", parameters)[0]["found"])

    def select(
        self, statement: str, parameters: Mapping[str, Any] | None = None, patience: Patience | None = None
    ) -> list[dict[str, Any]]:
        """See :class:`~clew.collector.store.SpanStore`. Waits for a free handle when all are busy."""
        given = dict(parameters or {})
        patience = patience or Patience()
        sql = read_statement(statement, frozenset(name for name, value in given.items() if value))
        while True:
            patience.check()
            try:
                with self._reader() as client, _translated(), _bounded(patience):
                    return list(client.query(f"{sql}{_limits(sql, patience)}", parameters=given).named_results())
            except StoreError as error:
                if not self._set_aside(error):
                    raise

    def stop(self, patience: Patience) -> None:
        """See :class:`~clew.collector.store.SpanStore`."""
        with self._controls() as client, _translated():
            client.command(f"KILL QUERY WHERE Settings['log_comment'] = '{patience.name}' ASYNC")

    def disk_bytes(self) -> int:
        """See :class:`~clew.collector.store.SpanStore`. Never waits for questions."""
        return int(self._ask("disk_bytes")[0]["bytes"])

    def drop_oldest(self) -> int:
        """Drop the part that was received first, of any table; see ``oldest_part.sql``.

        A part is the finest unit that goes at once; it may hold seconds or most of a day.
        """
        oldest = self._ask("oldest_part")
        if not oldest:
            return 0
        part = oldest[0]
        with self._controls() as client, _translated():
            # Neither name comes from outside: both are the engine's own, and DDL takes no bound parameters.
            client.command(f"ALTER TABLE {part['table']} DROP PART '{part['name']}'")
        return int(part["bytes"])

    def close(self) -> None:
        """See :class:`~clew.collector.store.SpanStore`. Waits for what is running."""
        for _ in range(READERS):
            self._readers.get().close()
        with self._controls() as client:
            client.close()
        self._writer.close()

    def truncate(self) -> None:
        """Forget all rows, keep the tables: for tests, which share one engine a process."""
        for table in _KEPT:
            self._writer.command(f"TRUNCATE TABLE {table}")

    def _ask(self, statement: str) -> list[dict[str, Any]]:
        """Ask for the collector itself."""
        with self._controls() as client, _translated():
            return list(client.query(read_statement(statement)).named_results())

    @contextmanager
    def _controls(self) -> Iterator[Client]:
        with self._control_lock:
            yield self._control

    def _set_aside(self, error: StoreError) -> bool:
        """Take the part that cannot be read out of its table, so that everything else can; whether there was one.

        Looking for the flipped bit in a broken block takes the engine seconds: that is paid once, not by each question.
        The part stays in the directory ``detached`` of its table.
        """
        if not (named := _BROKEN_PART.search(str(error))) or getattr(error.__cause__, "code", None) not in _BROKEN:
            return False
        with self._controls() as client, _translated():
            found = client.query(_read("find_part"), parameters={"name": named[1]}).result_rows
            for table, rows in found:
                client.command(f"ALTER TABLE {table} DETACH PART '{named[1]}'")
                _log.error(
                    "store: part %s of %s is damaged and was set aside with its %d rows (directory 'detached'); "
                    "the rest goes on: %s",
                    named[1],
                    table,
                    rows,
                    error,
                )
        return True

    @contextmanager
    def _reader(self) -> Iterator[Client]:
        """Lend a handle; after a failure it is another one.

        Rows that the embedded engine had ready when it ended a statement would come with the next answer of that
        handle (seen here, 2026-11).
        """
        client = self._readers.get()
        try:
            yield client
        except BaseException:
            self._readers.put(_renewed(client, lambda: self._connect(self._reading)))
            raise
        self._readers.put(client)

    def _create(self, retain_s: int, max_disk: int, autocomplete_keys: Sequence[str]) -> None:
        with _translated():
            granule_s = _granule_s(retain_s, max_disk)
            self._renew_trace_index()
            for statement, layout in _SCHEMA.items():
                sql = _read(statement).replace("$COLUMNS", layout).replace("$RETAIN", str(int(retain_s)))
                self._writer.command(sql.replace("$GRANULE", str(granule_s)))
            for view, (statement, layout) in _VIEWS.items():
                select = _read(statement).replace("$COLUMNS", layout).partition(" AS\n")[2]
                select = select.replace("$GRANULE", str(granule_s))
                self._writer.command(f"ALTER TABLE {view} MODIFY QUERY {select}")  # at once: no insert falls between
            for table in _KEPT:
                self._keep_for(table, int(retain_s))
                self._limit_parts(table, int(retain_s), max_disk)
            self._fill_trace_index()
            for view in ("schema_trace_index_spans_view", "schema_trace_index_logs_view"):
                self._writer.command(_read(view).replace("$KEY", _PLACEHOLDERS["$KEY"]))
            self._collect_values_of(autocomplete_keys)

    def _renew_trace_index(self) -> None:
        """Forget an index whose keys were made of whole ids, before 0.2: it follows from the rows."""
        view = "SELECT create_table_query FROM system.tables WHERE database = currentDatabase() AND name = '{}'"
        found = self._writer.query(view.format("trace_index_spans_view")).result_rows
        if found and _PLACEHOLDERS["$KEY"] not in found[0][0]:
            for name in ("VIEW trace_index_spans_view", "VIEW trace_index_logs_view", "TABLE trace_index"):
                self._writer.command(f"DROP {name} SYNC")

    def _fill_trace_index(self) -> None:
        """Make the index of the rows that are there. Its views come last, so a kill meanwhile starts it again."""
        if self._writer.query("EXISTS VIEW trace_index_spans_view").result_rows[0][0]:
            return
        for view in ("schema_trace_index_spans_view", "schema_trace_index_logs_view"):
            rows = _read(view).partition(" AS\n")[2].replace("$KEY", _PLACEHOLDERS["$KEY"])
            self._writer.command(f"INSERT INTO trace_index {rows}")

    def _keep_for(self, table: str, retain_s: int) -> None:
        """Bring an existing table to today's retention; rows there already are judged by it at their next merge."""
        if f"toIntervalSecond({retain_s})" in str(self._writer.command(f"SHOW CREATE TABLE {table}")):
            return
        self._writer.command(
            f"ALTER TABLE {table} MODIFY TTL received + toIntervalSecond({retain_s})",
            settings={"materialize_ttl_after_modify": 0},
        )

    def _limit_parts(self, table: str, retain_s: int, max_disk: int) -> None:
        """A part is what :meth:`drop_oldest` drops: with a bound on the disk, none may grow to much of it.

        Parts that were merged go soon, for at small loads they are most of what is there; so what they became is
        brought to the disk (fsync) before.
        """
        largest = max(max_disk // 20, 200_000) if max_disk else 150_000_000_000  # the engine's default
        smallest = min(largest, 1 << 20)  # the bound while the engine is busy, by default 1 MiB
        self._writer.command(
            f"ALTER TABLE {table} MODIFY SETTING max_bytes_to_merge_at_max_space_in_pool = {largest}, "
            f"max_bytes_to_merge_at_min_space_in_pool = {smallest}, "
            f"min_rows_to_fsync_after_merge = 1, old_parts_lifetime = {OLD_PARTS_S[bool(max_disk)]}, "
            f"merge_with_ttl_timeout = {min(max(retain_s // 10, 5), 14_400)}"
        )

    def _collect_values_of(self, keys: Sequence[str]) -> None:
        """The keys may have changed since the last start, and a view is cheap: make it anew."""
        self._writer.command("DROP VIEW IF EXISTS tag_values_view")
        if keys:
            self._writer.command(_read("schema_tag_values_view").replace("$KEYS", ", ".join(map(_literal, keys))))


def _granule_s(retain_s: int, max_disk: int) -> int:
    """Return to how many seconds the time of arrival is cut: a coarse one costs no room, retention wants a fine one."""
    return max(1, min(retain_s // 20, 10 if max_disk else 600))


_OF_LAST_HOUR: Final = r"FROM (SELECT * FROM \1 WHERE received >= now('UTC') - INTERVAL 1 HOUR) AS \1"
_DERIVED: Final = (  # table, and the statement that fills it
    ("trace_index", "schema_trace_index_spans_view"),
    ("trace_index", "schema_trace_index_logs_view"),
    ("names", "schema_names_view"),
)
_KEPT: Final = ("spans", "logs", "trace_index", "names", "tag_values")  # tables with rows, each with a time of arrival
_OPTIONAL: Final = re.compile(r"\[\[(\w+): ((?:(?!\[\[|\]\]).)*)\]\]", re.DOTALL)  # the innermost

# What stands for what in the statements; in this order, for one may hold the next.
_PLACEHOLDERS: Final = {
    "$SPAN": columns.selected(columns.SPANS),
    "$LOG": columns.selected(columns.LOGS),
    "$REACH": """(intDiv(timestamp, 600000000) BETWEEN {near_first:UInt64} AND {near_last:UInt64}
       [[far_ids: OR (intDiv(timestamp, 600000000), trace_id) IN arrayMap((bucket, id) ->
         (bucket, toFixedString(unhex(id), 16)), {far_id_buckets:Array(UInt64)}, {far_ids:Array(String)})]]
       [[far_keys: OR intDiv(timestamp, 600000000) IN {far_buckets:Array(UInt64)}
         AND $KEY IN {far_keys:Array(UInt32)}]])""",
    "$KEY": "toUInt32(cityHash64(substring(trace_id, 9)))",
    "$TRACE": "[[strict: trace_id]][[loose: substring(trace_id, 9)]]",
}

# In the order of creation: a view after the tables it joins.
_SCHEMA: Final = {
    "schema_spans": columns.declared(columns.SPANS),
    "schema_spans_in": columns.SPAN_JSON,
    "schema_spans_view": columns.sourced(columns.SPANS),
    "schema_logs": columns.declared(columns.LOGS),
    "schema_logs_in": columns.LOG_JSON,
    "schema_logs_view": columns.sourced(columns.LOGS),
    "schema_trace_index": "",
    "schema_names": "",
    "schema_names_view": "",
    "schema_tag_values": "",
    "schema_probe": "",
}

# What turns JSON into rows: view -> statement and columns. A view of an older version is brought to today's.
_VIEWS: Final = {
    "spans_view": ("schema_spans_view", columns.sourced(columns.SPANS)),
    "logs_view": ("schema_logs_view", columns.sourced(columns.LOGS)),
}


@functools.lru_cache(maxsize=1_024)
def read_statement(name: str, given: frozenset[str] = frozenset()) -> str:
    """Return the read statement ``sql/<name>.sql`` with its placeholders filled in, for these parameters given."""
    sql = _read(name)
    for placeholder, text in _PLACEHOLDERS.items():
        sql = sql.replace(placeholder, text)
    while (chosen := _OPTIONAL.sub(lambda part: part[2] if part[1] in given else "", sql)) != sql:
        sql = chosen  # from the innermost to the outermost
    return sql


def _read(name: str) -> str:
    return (resources.files("clew.collector.store") / "sql" / f"{name}.sql").read_text(encoding="utf-8").strip()


def _literal(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _read_settings(max_memory: int) -> dict[str, Any]:
    """All readers together leave the inserts their part of memory; what can go to disk does before."""
    spill = dict.fromkeys(("max_bytes_before_external_group_by", "max_bytes_before_external_sort"), max_memory * 3 // 8)
    return {**READ_SETTINGS, "max_memory_usage": max_memory, **spill}


def _connect(path: Path | None, url: str, max_memory: int, settings: dict[str, Any]) -> Client:
    with _translated():
        if url:
            return clickhouse_connect.get_client(dsn=url, settings=settings)
        options = ENGINE_OPTIONS | {
            "max_server_memory_usage": max_memory,
            "mark_cache_size": max_memory // 12,
            "index_mark_cache_size": max_memory // 60,
        }
        return clickhouse_connect.get_client(
            interface="chdb", path=str(path or ":memory:"), settings=settings, chdb_options=options
        )


def _limits(sql: str, patience: Patience) -> str:
    """Return what binds a statement to its question: the time left, and the name under which it can be stopped."""
    seconds = 0 if math.isinf(patience.limit_s) else max(1, math.ceil(patience.left_s))
    start = ", " if "\nSETTINGS " in sql else "\nSETTINGS "
    return f"{start}log_comment = '{patience.name}', max_execution_time = {seconds}"


def _renewed(client: Client, connect: Callable[[], Client]) -> Client:
    """Return a new handle for one that has failed, or that one if there is none to be had."""
    try:
        renewed = connect()
    except StoreError:
        return client
    client.close()
    return renewed


@contextmanager
def _bounded(patience: Patience) -> Iterator[None]:
    """Tell a question that costs too much from a store that fails."""
    try:
        yield
    except ClickHouseError as error:
        code = getattr(error, "code", None)
        if code in _TIME:
            patience.check()
            raise TooCostly(OVERDUE.format(patience.limit_s)) from error
        if code == _TOO_MANY_ROWS:
            raise TooManyRows("One answer would hold too much; lower the limit") from error
        if code in _MEMORY:
            raise TooCostly(
                "The question needs more memory than one may take. Ask for a shorter time or name a service."
            ) from error
        raise


@contextmanager
def _translated(unreadable: bool = False) -> Iterator[None]:
    """Tell their fault from ours; ``OSError`` is the connection to a server or a full disk."""
    try:
        yield
    except ClickHouseError as error:
        if unreadable and getattr(error, "code", None) in _UNREADABLE:
            raise UnreadableRows(str(error)) from error
        raise StoreError(str(error)) from error
    except OSError as error:
        raise StoreError(str(error)) from error
