"""The store on ClickHouse: the embedded engine by default, a server by URL. One code, one SQL for both.

How a span gets in: its JSON goes, as the check wrote it, to ``spans_in``. That table keeps nothing; a materialized view
turns each block into rows of ``spans`` inside the engine, and further views fill ``trace_index`` and ``names`` from
there. The insert carries a deduplication token down to every table, so a repeated insert is a no-op in each table that
already has it and completes the others.

Durable how far: the engine writes a part and renames it before the insert returns. That survives the death of the
process at any moment, for the page cache is the kernel's. It does not wait for the disk (``fsync_after_insert`` is
off), so a power cut may lose the last seconds.

Statements lie in ``sql/``: see :mod:`~clew.collector.store.statements`. The tables are made by
:mod:`~clew.collector.store.schema`.
"""

from __future__ import annotations

import functools
import logging
import math
import queue
import re
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import clickhouse_connect
import msgspec
from clickhouse_connect.driver.exceptions import ClickHouseError

from clew.collector.patience import OVERDUE, Patience, TooCostly
from clew.collector.store import Kind, StoreError, TooManyRows, UnreadableRows, damage, schema
from clew.collector.store.migrations import NewerSchema
from clew.collector.store.statements import read_statement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from clickhouse_connect.driver.client import Client

SEARCH_EVERY_S: Final = 600.0  # at most so often are all parts read in search of one that is broken
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
# What is derived comes to be as one block of one part, so that it is there whole or not at all.
DERIVE_SETTINGS: Final[dict[str, Any]] = {
    "max_threads": 1,
    "max_insert_threads": 1,
    "max_insert_block_size": 100_000_000,
    "min_insert_block_size_rows": 100_000_000,
    "min_insert_block_size_bytes": 0,
    "input_format_parallel_parsing": 0,
    "prefer_column_name_to_alias": 1,
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
    (``clickhouse://user:password@host:8123/database``). ``retain_s`` is the time, in seconds, after which a row goes,
    ``retain_rates_s`` the same for rates and links, which are kept longer;
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
        retain_rates_s: int = 90 * 86_400,
        max_disk: int = 0,
        autocomplete_keys: Sequence[str] = (),
        max_memory: int = 1_200_000_000,
        max_question_memory: int = 220_000_000,
    ) -> None:
        self._connect = functools.partial(connect, path, url, max_memory)
        self._reading = _read_settings(max_question_memory)
        self._writer = self._connect(INSERT_SETTINGS)
        self._write_lock = threading.Lock()  # one insert at a time: each takes its share of the memory
        self._readers: queue.LifoQueue[Client] = queue.LifoQueue()  # the same few again and again, caches warm
        for _ in range(READERS):
            self._readers.put(self._connect(self._reading))
        self._deriver = self._connect({**self._reading, **DERIVE_SETTINGS})
        self._deriver_lock = threading.Lock()
        self._control = self._connect(self._reading)  # for the collector itself, so that it waits for no question
        self._control_lock = threading.Lock()
        self.inserted = 0
        self.damaged: Sequence[str] = ()
        self._searched = -math.inf  # when all parts were read in search of a broken one
        self.prepare(schema.Keeping(int(retain_s), int(retain_rates_s), max_disk), autocomplete_keys)

    def prepare(self, keeping: schema.Keeping, autocomplete_keys: Sequence[str]) -> None:
        """Make the tables ready; done by opening, and may be done again with other settings."""
        with translated():
            try:
                schema.prepare(self._writer, keeping, autocomplete_keys)
            except NewerSchema as error:
                raise StoreError(str(error)) from error
            self._tell_damage()

    def insert(self, kind: Kind, rows: bytes, token: str) -> None:
        """See :class:`~clew.collector.store.SpanStore`."""
        with self._write_lock, translated(unreadable=True):
            self._writer.raw_insert(
                f"{kind}_in", insert_block=rows, fmt="JSONEachRow", settings={"insert_deduplication_token": token}
            )
            self.inserted += 1

    def works(self, room: int = 0) -> bool:
        """See :class:`~clew.collector.store.SpanStore`."""
        try:
            with self._write_lock, translated():
                self._writer.command("INSERT INTO probe SELECT 1")
                free = self._writer.command("SELECT min(unreserved_space) FROM system.disks")
        except StoreError:
            return False
        return int(str(free)) >= room

    def mend(self) -> None:
        """See :class:`~clew.collector.store.SpanStore`. What is there already is merged away."""
        with self._write_lock, translated():
            for statement in schema.mending():
                self._writer.command(statement)

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
        self,
        statement: str,
        parameters: Mapping[str, Any] | None = None,
        patience: Patience | None = None,
        parts: Mapping[str, str] | None = None,
    ) -> list[dict[str, Any]]:
        """See :class:`~clew.collector.store.SpanStore`. Waits for a free handle when all are busy."""
        given = dict(parameters or {})
        patience = patience or Patience()
        compiled = tuple((name, text) for name, text in (parts or {}).items() if text)
        sql = read_statement(statement, frozenset(name for name, value in given.items() if value), compiled)
        while True:
            patience.check()
            try:
                with self._reader() as client, translated(), _bounded(patience):
                    answer = client.query(f"{sql}{_limits(sql, patience)}", parameters=given)
                    patience.scanned_rows += int(answer.summary.get("read_rows") or 0)
                    return list(answer.named_results())
            except StoreError as error:
                if not self._set_aside(error):
                    raise

    def derive(self, statement: str, parameters: Mapping[str, Any]) -> None:
        """See :class:`~clew.collector.store.SpanStore`."""
        sql = read_statement(statement, frozenset(name for name, value in parameters.items() if value))
        with self._deriver_lock, translated():
            self._deriver.command(sql, parameters=dict(parameters))

    def put(self, table: str, rows: bytes) -> None:
        """See :class:`~clew.collector.store.SpanStore`."""
        with self._deriver_lock, translated():
            self._deriver.raw_insert(table, insert_block=rows, fmt="JSONEachRow")

    def stop(self, patience: Patience) -> None:
        """See :class:`~clew.collector.store.SpanStore`."""
        with self._controls() as client, translated():
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
        with self._controls() as client, translated():
            # Neither name comes from outside: both are the engine's own, and DDL takes no bound parameters.
            client.command(f"ALTER TABLE {part['table']} DROP PART '{part['name']}'")
        return int(part["bytes"])

    def close(self) -> None:
        """See :class:`~clew.collector.store.SpanStore`. Waits for what is running."""
        for _ in range(READERS):
            self._readers.get().close()
        with self._controls() as client:
            client.close()
        with self._deriver_lock:
            self._deriver.close()
        self._writer.close()

    def truncate(self) -> None:
        """Forget all rows, keep the tables: for tests, which share one engine a process."""
        for table in (*schema.ARRIVED, *schema.DERIVED):
            self._writer.command(f"TRUNCATE TABLE {table}")

    def _ask(self, statement: str) -> list[dict[str, Any]]:
        """Ask for the collector itself."""
        with self._controls() as client, translated():
            return list(client.query(read_statement(statement)).named_results())

    @contextmanager
    def _controls(self) -> Iterator[Client]:
        with self._control_lock:
            yield self._control

    def _tell_damage(self) -> None:
        """Say which parts were set aside, now or earlier, and make again what can be made from the rest."""
        damaged = damage.found(self._writer)
        damage.make_good(self._writer, {part.table for part in damaged if damage.can_be_made(part.table)})
        for part in damaged:
            if damage.can_be_made(part.table):
                damage.forget(self._writer, part)
                _log.warning("store: a damaged part was made again from spans and log lines: %s", part)
            else:
                _log.error("store: a part is damaged and set aside, the rest goes on: %s (%s)", part, part.path)
        self.damaged = [str(part) for part in damaged if not damage.can_be_made(part.table)]

    def _set_aside(self, error: StoreError) -> bool:
        """Take the parts that cannot be read out of their tables, so that everything else can; whether there were any.

        Looking for them reads the part that the engine names, or all where it names none: that is paid once, not by
        each question. They stay in the directory ``detached`` of their table.
        """
        if getattr(error.__cause__, "code", None) not in _BROKEN:
            return False
        named = _BROKEN_PART.search(str(error))
        with self._controls() as client, translated():
            if not named and time.monotonic() - self._searched < SEARCH_EVERY_S:
                return False
            self._searched = self._searched if named else time.monotonic()
            parts = damage.broken(client, named[1] if named else "")
            damage.set_aside(client, parts)
            for table, part, rows in parts:
                _log.error(
                    "store: part %s of %s is damaged and was set aside with its %d rows (directory 'detached'); "
                    "the rest goes on: %s",
                    part,
                    table,
                    rows,
                    error,
                )
            self.damaged = [str(part) for part in damage.found(client)]
        return bool(parts)

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


def _read_settings(max_memory: int) -> dict[str, Any]:
    """All readers together leave the inserts their part of memory; what can go to disk does before."""
    spill = dict.fromkeys(("max_bytes_before_external_group_by", "max_bytes_before_external_sort"), max_memory * 3 // 8)
    return {**READ_SETTINGS, "max_memory_usage": max_memory, **spill}


def connect(path: Path | None, url: str, max_memory: int, settings: dict[str, Any]) -> Client:
    """Open a handle of the embedded engine or a server. Raises :class:`StoreError`."""
    if url:
        return _connect_to_server(url, settings)
    with translated():
        options = ENGINE_OPTIONS | {
            "max_server_memory_usage": max_memory,
            "mark_cache_size": max_memory // 12,
            "index_mark_cache_size": max_memory // 60,
        }
        return _counting_rows(
            clickhouse_connect.get_client(
                interface="chdb", path=str(path or ":memory:"), settings=settings, chdb_options=options
            )
        )


def _connect_to_server(url: str, settings: dict[str, Any]) -> Client:
    try:
        with translated():
            return clickhouse_connect.get_client(dsn=url, settings=settings)
    except StoreError as error:
        cause: BaseException | None = error
        while cause is not None and not (isinstance(cause, OSError) and cause.strerror):
            cause = cause.__cause__ or cause.__context__
        if cause is None:
            raise
        parts = urlsplit(url)
        raise StoreError(f"{parts.hostname}:{parts.port or 8123} does not answer ({cause.strerror}).") from error


def _counting_rows(client: Client) -> Client:
    """Let a handle of the embedded engine say how many rows were read from tables, as a server's does.

    By itself it gives the number of rows of the answer under that name (seen in clickhouse-connect 1.6).
    """

    def summary(result: Any) -> dict[str, Any]:
        return {"read_rows": str(result.storage_rows_read())}

    vars(client)["_backend"]._summary = summary
    return client


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
def translated(unreadable: bool = False) -> Iterator[None]:
    """Tell their fault from ours; ``OSError`` is the connection to a server or a full disk."""
    try:
        yield
    except ClickHouseError as error:
        if unreadable and getattr(error, "code", None) in _UNREADABLE:
            raise UnreadableRows(str(error)) from error
        raise StoreError(str(error)) from error
    except OSError as error:
        raise StoreError(str(error)) from error
