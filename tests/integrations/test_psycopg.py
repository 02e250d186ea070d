"""psycopg 3 on a real PostgreSQL: sync and async, streams, COPY, pipelines, server-side cursors, pools."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import psycopg
import psycopg_pool
import pytest
from psycopg import sql

import clew
from client.recording import wait_until
from integrations.fresh import MARK, WAYS, run_fresh
from integrations.kit_common import without_times

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from clew.testing import MemorySender
    from integrations.database_servers import Server

TIMEOUT_S = 60.0


@pytest.fixture
def dsn(clew_spans: MemorySender, postgres_server: Server) -> Iterator[str]:
    with psycopg.connect(postgres_server.url("postgresql"), autocommit=True) as made_before:
        made_before.execute("DROP TABLE IF EXISTS items")
        made_before.execute("CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT)")
    yield postgres_server.url("postgresql")
    clew.uninstrument()


@pytest.fixture
def db(dsn: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection that was made before its library was hooked."""
    with psycopg.connect(dsn) as connection:
        clew.instrument("psycopg")
        with clew.start_span("work"):
            yield connection
            connection.rollback()


def names(spans: MemorySender) -> list[str]:
    found = [str(span["name"]) for span in spans.spans() if span["name"] != "work"]
    spans.clear()
    return found


def rows(spans: MemorySender) -> list[tuple[str, str | None]]:
    found = [(span["name"], span["tags"].get("db.rows")) for span in spans.spans() if span["name"] != "work"]
    spans.clear()
    return found


def test_statement_becomes_one_span(
    db: psycopg.Connection[Any], clew_spans: MemorySender, postgres_server: Server
) -> None:
    """A statement is a client span under the active one, without its values."""
    with clew.start_span("handler") as handler:
        db.execute("SELECT name FROM items WHERE id = 7 AND name = %s", ("secret",))
    span = clew_spans.spans()[0]
    assert {
        "traceId": handler.trace_id,
        "parentId": handler.span_id,
        "kind": "CLIENT",
        "name": "SELECT items",
        "localEndpoint": {"serviceName": "test"},
        "remoteEndpoint": {"serviceName": "postgresql", "ipv4": "127.0.0.1"},
        "tags": {
            "db.system": "postgresql",
            "db.name": "shop",
            "db.statement": "SELECT name FROM items WHERE id = ? AND name = %s",
            "db.rows": "0",
        },
    } == without_times(span)
    assert postgres_server.port == span["remoteEndpoint"]["port"]
    assert span["tags"]["code.location"].partition(":")[0].endswith("tests/integrations/test_psycopg.py")


def test_every_way_to_run_a_statement_is_seen(db: psycopg.Connection[Any], clew_spans: MemorySender) -> None:
    """Text, bytes and composed; on the connection, on cursors of every kind; one span each, with its rows."""
    db.execute(b"INSERT INTO items VALUES (1, 'secret')")
    db.execute(sql.SQL("UPDATE {} SET name = {}").format(sql.Identifier("items"), sql.Literal("secret")))
    with db.cursor() as cursor:
        cursor.executemany("INSERT INTO items VALUES (%s, %s)", [(number, "x") for number in range(2, 30)])
        assert 29 == len(list(cursor.stream("SELECT * FROM items")))
    psycopg.ClientCursor(db).execute("SELECT * FROM items WHERE name = %s", ("secret",))
    assert "secret" not in str(clew_spans.spans())
    expected = ["INSERT items", "UPDATE items", "INSERT items", "SELECT items", "SELECT items"]
    assert list(zip(expected, ["1", "1", "28", "29", "1"], strict=True)) == rows(clew_spans)


def test_ends_of_a_transaction_are_spans(db: psycopg.Connection[Any], clew_spans: MemorySender) -> None:
    """Commit, rollback, blocks and blocks in blocks; not where no transaction is open and nothing is asked."""
    db.commit()
    db.rollback()
    for end in (db.commit, db.rollback):
        db.execute("SELECT 1")
        end()
    assert ["SELECT", "COMMIT", "SELECT", "ROLLBACK"] == names(clew_spans)
    with db.transaction(), db.transaction():
        pass
    with pytest.raises(psycopg.DataError), db.transaction(), db.transaction():
        db.execute("SELECT 'secret'::int")
    begins = ["BEGIN", "SAVEPOINT"]
    assert [*begins, "RELEASE", "COMMIT", *begins, "SELECT", "ROLLBACK", "ROLLBACK"] == names(clew_spans)


def test_failed_statement_is_an_error(db: psycopg.Connection[Any], clew_spans: MemorySender) -> None:
    """The exception reaches the caller, and is on the span without the values that PostgreSQL quotes."""
    with pytest.raises(psycopg.errors.InvalidTextRepresentation, match="secret"):
        db.execute("SELECT CAST('secret' AS int)")
    tags = clew_spans.spans()[0]["tags"]
    assert "invalid input syntax for type integer: ?" == tags["error"].splitlines()[0]
    assert "psycopg.errors.InvalidTextRepresentation" == tags["error.type"]
    assert "secret" not in str(tags)


def test_cursor_of_the_server_shows_its_fetches(db: psycopg.Connection[Any], clew_spans: MemorySender) -> None:
    """Each of them asks the server, also when the cursor is iterated."""
    db.execute("INSERT INTO items SELECT n, 'x' FROM generate_series(1, 20) AS n")
    with db.cursor(name="many") as cursor:
        cursor.itersize = 8
        cursor.execute("SELECT * FROM items")
        assert 3 == len(cursor.fetchmany(3))
        assert 17 == len(list(cursor))
    found = rows(clew_spans)
    assert [("INSERT items", "20"), ("SELECT items", None), ("FETCH many", "3")] == found[:3]
    assert [("FETCH many", "8"), ("FETCH many", "8"), ("FETCH many", "1")] == found[3:6]


def test_copy_is_one_span_and_leaves_the_program_s_own_code_alone(
    db: psycopg.Connection[Any], clew_spans: MemorySender
) -> None:
    """What runs within the block is beneath the program's span, statements among it; the COPY ends with the block."""
    with clew.start_span("load") as load, db.cursor() as cursor:
        with cursor.copy("COPY items FROM STDIN") as copy, clew.start_span("make row"):
            copy.write_row((1, "secret"))
        with pytest.raises(ZeroDivisionError), cursor.copy("COPY items TO STDOUT"):
            raise ZeroDivisionError
    spans = {span["name"]: span for span in clew_spans.spans()}
    assert load.span_id == spans["make row"]["parentId"] == spans["COPY items"]["parentId"]
    copies = [span["tags"] for span in clew_spans.spans() if span["name"] == "COPY items"]
    assert ("1", "ZeroDivisionError") == (copies[0]["db.rows"], copies[1]["error.type"])


def test_pipeline_shows_the_wait(db: psycopg.Connection[Any], clew_spans: MemorySender) -> None:
    """Statements are queued; the time is where their results are waited for."""
    if not psycopg.Pipeline.is_supported():
        pytest.skip("this libpq has no pipelines")
    with db.pipeline():
        first, second = db.execute("SELECT 1"), db.execute("SELECT 2")
        assert ((1,), (2,)) == (first.fetchone(), second.fetchone())
    found = names(clew_spans)
    assert ["SELECT", "SELECT", "SYNC"] == found[:3]
    assert {"SYNC"} == set(found[2:])


def test_connecting_is_a_span(dsn: str, clew_spans: MemorySender) -> None:
    """By either name, with where it went."""
    clew.instrument("psycopg")
    with clew.start_span("work"):
        psycopg.connect(dsn).close()
        psycopg.Connection.connect(dsn).close()
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect("postgresql://127.0.0.1:1/none", connect_timeout=1)
    assert ["shop", "shop", None] == [span["tags"].get("db.name") for span in clew_spans.spans()[:3]]
    assert ["CONNECT", "CONNECT", "CONNECT"] == names(clew_spans)


def test_wait_for_a_connection_is_a_span(dsn: str, clew_spans: MemorySender) -> None:
    """Only where the pool has none to give."""
    clew.instrument("psycopg")
    with psycopg_pool.ConnectionPool(dsn, min_size=1, max_size=1, open=False) as pool:
        pool.wait(TIMEOUT_S)
        taken = threading.Event()

        def hold() -> None:
            with pool.connection():
                taken.set()
                wait_until(lambda: bool(pool.get_stats().get("requests_waiting")), "somebody who waits")

        holder = threading.Thread(target=hold)
        holder.start()
        assert taken.wait(TIMEOUT_S)
        with clew.start_span("work"):
            for _ in range(2):
                with pool.connection(TIMEOUT_S) as connection:
                    connection.execute("SELECT 1")
        holder.join(TIMEOUT_S)
    assert ["wait for connection", "SELECT", "COMMIT", "SELECT", "COMMIT"] == names(clew_spans)


async def test_async_connections_are_as_the_others(dsn: str, clew_spans: MemorySender) -> None:
    """Every way of the above, with the span active nowhere else meanwhile."""
    clew.instrument("psycopg")
    with clew.start_span("work"):
        async with await psycopg.AsyncConnection.connect(dsn) as db:
            async with db.transaction():
                await db.execute("INSERT INTO items VALUES (1, 'x')")
            cursor = db.cursor()
            await cursor.executemany("INSERT INTO items VALUES (%s, 'x')", [(2,), (3,)])
            assert 3 == len([row async for row in cursor.stream("SELECT * FROM items")])
            async with cursor.copy("COPY items TO STDOUT") as copy:
                assert 3 == len([row async for row in copy.rows()])
            async with db.cursor(name="many") as many:
                await many.execute("SELECT * FROM items")
                assert 3 == len([row async for row in many])
            await db.rollback()
    expected = [("CONNECT", None), ("BEGIN", None), ("INSERT items", "1"), ("COMMIT", None), ("INSERT items", "2")]
    found = rows(clew_spans)
    assert [*expected, ("SELECT items", "3"), ("COPY items", "3"), ("SELECT items", None)] == found[:8]
    assert [("FETCH many", "3"), ("ROLLBACK", None)] == [found[8], found[-1]]


async def test_concurrent_statements_do_not_mix(dsn: str, clew_spans: MemorySender) -> None:
    """Each is beneath its own task's span; one that is cancelled is a failure and leaves nothing active."""
    clew.instrument("psycopg")

    async def ask(name: str) -> None:
        with clew.start_span(name):
            await db.execute(f"SELECT 1 AS {name}")

    async with await psycopg.AsyncConnection.connect(dsn) as db:
        await asyncio.gather(*(ask(f"task{number}") for number in range(5)))
        parents = {span["id"]: span["name"] for span in clew_spans.spans()}
        asked = [span for span in clew_spans.spans() if span["name"] == "SELECT"]
        assert 5 == len(asked)
        assert all(span["tags"]["db.statement"].endswith(parents[span["parentId"]]) for span in asked)
        clew_spans.clear()
        with clew.start_span("work") as work, pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(db.execute("SELECT pg_sleep(60)"), 0.2)
        assert work.token is None
        assert "error" in clew_spans.spans()[0]["tags"]
        assert clew.get_trace_context() is None


def test_comment_carries_the_position(dsn: str, clew_spans: MemorySender) -> None:
    """With the option sqlcommenter the server sees which span asks."""
    from clew.testing import recorded

    clew.instrument("psycopg")
    with recorded(sqlcommenter=True) as spans, psycopg.connect(dsn) as db, clew.start_span("work") as work:
        (seen,) = db.execute("SELECT query FROM pg_stat_activity WHERE pid = %s;", (db.info.backend_pid,)).fetchone()
        span = spans.spans()[0]
    assert seen.endswith(f" /*traceparent='00-{work.trace_id}-{span['id']}-01'*/;")
    assert "traceparent" not in span["tags"]["db.statement"]


def test_nothing_is_left_when_taken_out(db: psycopg.Connection[Any], clew_spans: MemorySender) -> None:
    """After uninstrument no statement is a span."""
    clew.uninstrument("psycopg")
    db.execute("SELECT 1")
    with db.transaction():
        pass
    assert [] == names(clew_spans)
    assert not hasattr(psycopg.Cursor.execute, "__wrapped__")


@pytest.mark.parametrize("way", WAYS)
def test_program_of_its_own_is_traced(way: str, tmp_path: Path, postgres_server: Server) -> None:
    """Turned on before, after the connection is there, or from outside; and SQL outside any trace is none."""
    program = f"""
import psycopg
db = psycopg.connect({postgres_server.url("postgresql")!r})
{MARK}
db.execute("SELECT 1")
import clew
with clew.start_span("work"): db.execute("SELECT 2"); db.commit()
"""
    ended = run_fresh(program, tmp_path, way)
    assert ["SELECT", "COMMIT", "work"] == [span["name"] for span in ended.spans]
