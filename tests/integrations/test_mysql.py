"""The drivers of MySQL on a real MariaDB: PyMySQL, mysqlclient, aiomysql."""

from __future__ import annotations

import asyncio
from contextlib import closing
from typing import TYPE_CHECKING, Any

import aiomysql
import pymysql
import pytest

import clew
from integrations.fresh import MARK, WAYS, run_fresh
from integrations.kit_common import without_times

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from clew.testing import MemorySender
    from integrations.database_servers import Server


@pytest.fixture(params=["pymysql", "MySQLdb"])
def connect(request: pytest.FixtureRequest, clew_spans: MemorySender, mysql_server: Server) -> Iterator[Any]:
    """What makes connections; one was made before its library was hooked, and made the table."""
    driver = pymysql if request.param == "pymysql" else pytest.importorskip("MySQLdb", reason="has to be compiled")

    def connect() -> Any:
        return driver.connect(host="127.0.0.1", port=mysql_server.port, user="clew", database="shop", charset="utf8mb4")

    with closing(connect()) as before:
        cursor = before.cursor()
        cursor.execute("DROP TABLE IF EXISTS items")
        cursor.execute("CREATE TABLE items (id INTEGER PRIMARY KEY, name VARCHAR(20)) ENGINE=InnoDB")
        clew.instrument(request.param)
        connect.before = before  # type: ignore[attr-defined]
        connect.driver = driver  # type: ignore[attr-defined]
        yield connect
    clew.uninstrument()


def rows(spans: MemorySender) -> list[tuple[str, str | None]]:
    found = [(span["name"], span["tags"].get("db.rows")) for span in spans.spans() if "tags" in span]
    spans.clear()
    return found


def test_statement_becomes_one_span(connect: Any, clew_spans: MemorySender) -> None:
    """A statement is a client span under the active one, without its values, also with MySQL's own quotes."""
    with clew.start_span("handler") as handler, closing(connect.before.cursor()) as cursor:
        cursor.execute("SELECT name FROM items WHERE id = 7 AND name IN (\"secret\", 'it\\'s secret', %s)", ("secret",))
    span = without_times(clew_spans.spans()[0])
    location = clew_spans.spans()[0]["tags"]["code.location"]
    assert location.partition(":")[0].endswith("tests/integrations/test_mysql.py")
    assert {
        "traceId": handler.trace_id,
        "parentId": handler.span_id,
        "kind": "CLIENT",
        "name": "SELECT items",
        "localEndpoint": {"serviceName": "test"},
        "remoteEndpoint": {"serviceName": "mysql", "ipv4": "127.0.0.1"},
        "tags": {
            "db.system": "mysql",
            "db.name": "shop",
            "db.statement": "SELECT name FROM items WHERE id = ? AND name IN (?)",
            "db.rows": "0",
        },
    } == span


def test_every_way_to_run_a_statement_is_seen(connect: Any, clew_spans: MemorySender) -> None:
    """One span each, with its rows; connecting and the ends of transactions are spans."""
    with clew.start_span("work"), closing(connect()) as db, closing(db.cursor()) as cursor:
        cursor.execute("INSERT INTO items VALUES (1, 'secret')")
        cursor.executemany("INSERT INTO items VALUES (%s, %s)", [(2, "secret"), (3, "x")])
        cursor.executemany("UPDATE items SET name = %s WHERE id = %s", [("secret", 1), ("x", 2)])
        db.commit()
        db.begin()
        cursor.execute("SELECT * FROM items")
        assert 3 == len(cursor.fetchall())
        db.rollback()
    assert "secret" not in str(clew_spans.spans())
    found = rows(clew_spans)
    changes = [("CONNECT", None), ("INSERT items", "1"), ("INSERT items", "2")]
    assert changes == found[:3]
    rest = [("COMMIT", None), ("BEGIN", None), ("SELECT items", "3"), ("ROLLBACK", None)]
    assert ["UPDATE items", *rest] == [found[3][0], *found[4:]]


def test_failed_statement_is_an_error(connect: Any, clew_spans: MemorySender) -> None:
    """The exception reaches the caller, and is on the span without the values that the server quotes."""
    cursor = connect.before.cursor()
    cursor.execute("INSERT INTO items VALUES (1, 'secret')")
    wrong = ["INSERT INTO items VALUES ('1', 'x')", "SELECT 'secret' FRM x", "INSERT INTO items VALUES ('secret', 'x')"]
    with clew.start_span("work"):
        for statement in wrong:
            with pytest.raises(connect.driver.Error):
                cursor.execute(statement)
    cursor.close()
    connect.before.rollback()
    spans = clew_spans.spans()[:3]
    assert "secret" not in str(spans)
    assert all("Error" in span["tags"]["error.type"] for span in spans)


def test_nothing_is_left_when_taken_out(connect: Any, clew_spans: MemorySender) -> None:
    """After uninstrument no statement is a span."""
    clew.uninstrument()
    with clew.start_span("work"):
        connect.before.cursor().execute("SET @a = 1")
        connect.before.commit()
    assert [] == rows(clew_spans)


async def test_async_driver_is_as_the_others(mysql_server: Server, clew_spans: MemorySender) -> None:
    """Statements, ends of transactions, and the wait for a pool's connection."""
    clew.instrument("aiomysql")
    where: dict[str, Any] = {"host": "127.0.0.1", "port": mysql_server.port, "user": "clew", "db": "shop"}
    with clew.start_span("work"):
        pool = await aiomysql.create_pool(minsize=1, maxsize=1, **where)
        async with pool.acquire() as db, db.cursor() as cursor:
            await cursor.execute("CREATE TEMPORARY TABLE things (id INTEGER, name VARCHAR(20))")
            await cursor.executemany("INSERT INTO things VALUES (%s, %s)", [(1, "secret"), (2, "x")])
            await db.commit()
            await cursor.execute("SELECT * FROM things WHERE name = 'secret'")
            await db.rollback()
    spans = clew_spans.spans()
    assert ("shop", "127.0.0.1") == (spans[1]["tags"]["db.name"], spans[1]["remoteEndpoint"]["ipv4"])
    assert "secret" not in str(spans)
    expected = [("CONNECT", None), ("CREATE things", "0"), ("INSERT things", "2"), ("COMMIT", None)]
    assert [*expected, ("SELECT things", "1"), ("ROLLBACK", None)] == rows(clew_spans)

    async def ask() -> None:
        with clew.start_span("waiting"):
            async with pool.acquire() as db, db.cursor() as cursor:
                await cursor.execute("SELECT 1")

    async with pool.acquire():
        waiting = asyncio.create_task(ask())
        while not pool._cond._waiters:
            await asyncio.sleep(0)
    await waiting
    pool.close()
    await pool.wait_closed()
    clew.uninstrument()
    assert ["wait for connection", "SELECT"] == [name for name, _ in rows(clew_spans)]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("driver", ["pymysql", "MySQLdb"])
def test_program_of_its_own_is_traced(driver: str, way: str, tmp_path: Path, mysql_server: Server) -> None:
    """Turned on before, after the connection is there, or from outside."""
    pytest.importorskip(driver, reason="has to be compiled")
    program = f"""
import {driver}
db = {driver}.connect(host="127.0.0.1", port={mysql_server.port}, user="clew", database="shop")
{MARK}
db.cursor().execute("SET @a = 1")
import clew
with clew.start_span("work"): db.cursor().execute("SET @a = 2"); db.commit()
db.close()
"""
    ended = run_fresh(program, tmp_path, way)
    assert ["SET", "COMMIT", "work"] == [span["name"] for span in ended.spans]
