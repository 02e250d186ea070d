"""asyncpg on a real PostgreSQL: connections, prepared statements, cursors, COPY, pools."""

from __future__ import annotations

import asyncio
import io
from typing import TYPE_CHECKING

import asyncpg
import pytest

import clew
from integrations.fresh import MARK, WAYS, run_fresh
from integrations.kit_common import without_times

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from clew.testing import MemorySender
    from integrations.database_servers import Server

TIMEOUT_S = 60.0


@pytest.fixture
async def db(clew_spans: MemorySender, postgres_server: Server) -> AsyncIterator[asyncpg.Connection]:
    """A connection that was made before its library was hooked."""
    connection = await asyncpg.connect(postgres_server.url("postgresql"))
    await connection.execute("DROP TABLE IF EXISTS items; CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT)")
    clew.instrument("asyncpg")
    with clew.start_span("work"):
        yield connection
    await connection.close()
    clew.uninstrument()


def rows(spans: MemorySender) -> list[tuple[str, str | None]]:
    found = [(span["name"], span["tags"].get("db.rows")) for span in spans.spans() if span["name"] != "work"]
    spans.clear()
    return found


async def test_statement_becomes_one_span(db: asyncpg.Connection, clew_spans: MemorySender) -> None:
    """A statement is a client span under the active one, without its values."""
    with clew.start_span("handler") as handler:
        await db.fetch("SELECT name FROM items WHERE id = 7 AND name = $1", "secret")
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
            "db.statement": "SELECT name FROM items WHERE id = ? AND name = $1",
            "db.rows": "0",
        },
    } == without_times(span)
    assert span["tags"]["code.location"].partition(":")[0].endswith("tests/integrations/test_asyncpg.py")


async def test_every_way_to_run_a_statement_is_seen(db: asyncpg.Connection, clew_spans: MemorySender) -> None:
    """On the connection, prepared, by cursor, by COPY: each once, with its rows where they are known."""
    await db.execute("INSERT INTO items VALUES (1, 'secret')")
    await db.execute("UPDATE items SET name = $1", "secret")
    await db.executemany("INSERT INTO items VALUES ($1, 'x')", [(2,), (3,)])
    assert 3 == len(await db.fetch("SELECT * FROM items"))
    assert 1 == await db.fetchval("SELECT id FROM items ORDER BY id")
    assert 1 == (await db.fetchrow("SELECT * FROM items ORDER BY id"))["id"]
    ways = ["INSERT items", "UPDATE items", "INSERT items", "SELECT items", "SELECT items", "SELECT items"]
    assert list(zip(ways, ["1", "1", None, "3", None, None], strict=True)) == rows(clew_spans)
    prepared = await db.prepare("SELECT * FROM items WHERE id < $1")
    assert 1 == len(await prepared.fetch(2))
    assert 1 == (await prepared.fetchrow(3))["id"]
    assert [("PREPARE items", None), ("SELECT items", "1"), ("SELECT items", None)] == rows(clew_spans)
    await db.copy_records_to_table("items", records=[(4, "secret")])
    await db.copy_to_table("items", source=io.BytesIO(b"5\tsecret\n"))
    await db.copy_from_table("items", output=io.BytesIO())
    await db.copy_from_query("SELECT * FROM items WHERE name = $1", "secret", output=io.BytesIO())
    assert "secret" not in str(clew_spans.spans())
    copies = [("COPY items", "1"), ("COPY items", "1"), ("COPY items", "5"), ("COPY", "3")]
    assert copies == rows(clew_spans)


async def test_transactions_and_cursors_are_seen(db: asyncpg.Connection, clew_spans: MemorySender) -> None:
    """Begin, end, savepoints; each fetch of a cursor is a round trip and a span."""
    async with db.transaction():
        assert 5 == len([row async for row in db.cursor("SELECT generate_series(1, 5)", prefetch=3)])
    with pytest.raises(asyncpg.DataError):
        async with db.transaction(), db.transaction():
            await db.execute("SELECT CAST('secret' AS int)")
    assert "secret" not in str(clew_spans.spans())
    found = [name for name, _ in rows(clew_spans)]
    assert ["BEGIN", "SELECT", "SELECT", "COMMIT"] == found[:4]
    assert ["BEGIN", "SAVEPOINT", "SELECT", "ROLLBACK", "ROLLBACK"] == found[4:]


async def test_pool_shows_who_waits(db: asyncpg.Connection, clew_spans: MemorySender, postgres_server: Server) -> None:
    """Only where no connection is idle; what the pool does when one comes back is one span."""
    url = postgres_server.url("postgresql")
    async with asyncpg.create_pool(url, min_size=1, max_size=1) as pool:
        assert 1 == await pool.fetchval("SELECT 1")
        assert [("CONNECT", None), ("SELECT", None), ("RESET", None)] == rows(clew_spans)

        async def wait() -> None:
            async with pool.acquire(timeout=TIMEOUT_S) as connection:
                await connection.execute("SELECT 2")

        async with pool.acquire():
            waiting = asyncio.create_task(wait())
            while not pool._queue._getters:
                await asyncio.sleep(0)
        await waiting
        names = [name for name, _ in rows(clew_spans)]
    assert ["RESET", "wait for connection", "SELECT", "RESET"] == names


async def test_failure_to_connect_is_an_error(db: asyncpg.Connection, clew_spans: MemorySender) -> None:
    """The exception is the library's, and so is what `connect` looks like."""
    with pytest.raises(OSError, match=r"(?i)connect"):
        await asyncpg.connect("postgresql://127.0.0.1:1/none", timeout=TIMEOUT_S)
    assert ["CONNECT"] == [name for name, _ in rows(clew_spans)]
    assert asyncio.iscoroutinefunction(asyncpg.connect)


async def test_nothing_is_left_when_taken_out(db: asyncpg.Connection, clew_spans: MemorySender) -> None:
    """After uninstrument no statement is a span."""
    clew.uninstrument("asyncpg")
    await db.execute("SELECT 1")
    assert [] == rows(clew_spans)
    assert not hasattr(asyncpg.Connection.execute, "__wrapped__")


@pytest.mark.parametrize("way", WAYS)
def test_program_of_its_own_is_traced(way: str, tmp_path: Path, postgres_server: Server) -> None:
    """Turned on before, after the import, or from outside."""
    program = f"""
import asyncio, asyncpg
{MARK}
async def main():
    db = await asyncpg.connect({postgres_server.url("postgresql")!r})
    await db.execute("SELECT 1")
    import clew
    with clew.start_span("work"): await db.fetchval("SELECT 2")
    await db.close()
asyncio.run(main())
"""
    ended = run_fresh(program, tmp_path, way)
    assert ["SELECT", "work"] == [span["name"] for span in ended.spans]
