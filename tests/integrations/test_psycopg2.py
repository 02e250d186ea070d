"""psycopg2 on a real PostgreSQL: subclasses in the place of its types of C, which stay what they were."""

from __future__ import annotations

import io
import pickle
from contextlib import closing
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest
from psycopg2 import extensions, extras, pool, sql

import clew
from integrations.fresh import MARK, WAYS, run_fresh
from integrations.kit_common import without_times

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from clew.testing import MemorySender
    from integrations.database_servers import Server


@pytest.fixture
def dsn(clew_spans: MemorySender, postgres_server: Server) -> Iterator[str]:
    with closing(psycopg2.connect(postgres_server.url("postgresql"))) as db, db, db.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS items; CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT)")
    clew.instrument("psycopg2")
    yield postgres_server.url("postgresql")
    clew.uninstrument()


@pytest.fixture
def db(dsn: str, clew_spans: MemorySender) -> Iterator[Any]:
    with closing(psycopg2.connect(dsn)) as connection, clew.start_span("work"):
        yield connection


def rows(spans: MemorySender) -> list[tuple[str, str | None]]:
    found = [(span["name"], span["tags"].get("db.rows")) for span in spans.spans() if span["name"] != "work"]
    spans.clear()
    return found


def test_statement_becomes_one_span(db: Any, clew_spans: MemorySender) -> None:
    """A statement is a client span under the active one, without its values."""
    with clew.start_span("handler") as handler, db.cursor() as cursor:
        cursor.execute("SELECT name FROM items WHERE id = 7 AND name = %s", ("secret",))
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
    } == without_times(clew_spans.spans()[0])


def test_every_way_to_run_a_statement_is_seen(db: Any, clew_spans: MemorySender) -> None:
    """Text, bytes, composed; many at once; procedures; COPY in and out; each one span with its rows."""
    with db.cursor() as cursor:
        cursor.execute(b"INSERT INTO items VALUES (1, 'secret')")
        cursor.execute(sql.SQL("UPDATE {} SET name = {}").format(sql.Identifier("items"), sql.Literal("secret")))
        cursor.executemany("INSERT INTO items VALUES (%s, 'x')", [(2,), (3,)])
        extras.execute_values(cursor, "INSERT INTO items VALUES %s", [(4, "secret"), (5, "y")])
        extras.execute_batch(cursor, "UPDATE items SET name = %s WHERE id = %s", [("a", 1), ("b", 2)])
        cursor.callproc("lower", ("SECRET",))
        cursor.copy_from(io.StringIO("6\tsecret\n"), "items")
        cursor.copy_to(io.StringIO(), "items")
        cursor.copy_expert("COPY items TO STDOUT", io.StringIO())
    assert "secret" not in str(clew_spans.spans()).lower().replace("'db.statement': 'call lower'", "")
    inserts = [("INSERT items", "1"), ("UPDATE items", "1"), ("INSERT items", "2"), ("INSERT items", "2")]
    copies = [("COPY items", "1"), ("COPY items", "6"), ("COPY items", "6")]
    assert [*inserts, ("UPDATE items", "1"), ("CALL lower", "1"), *copies] == rows(clew_spans)


def test_ends_of_a_transaction_are_spans(db: Any, clew_spans: MemorySender) -> None:
    """Commit, rollback and `with`; not where no transaction is open and nothing is asked."""
    db.commit()
    db.rollback()
    for end in (db.commit, db.rollback):
        db.cursor().execute("SELECT 1")
        end()
    with db, db.cursor() as cursor:
        cursor.execute("SELECT 1")
    with pytest.raises(psycopg2.DataError), db, db.cursor() as cursor:
        cursor.execute("SELECT CAST('secret' AS int)")
    assert "secret" not in str(clew_spans.spans())
    names = [name for name, _ in rows(clew_spans)]
    assert ["SELECT", "COMMIT", "SELECT", "ROLLBACK", "SELECT", "COMMIT", "SELECT", "ROLLBACK"] == names


def test_named_cursor_shows_its_fetches(db: Any, clew_spans: MemorySender) -> None:
    """Each of them asks the server."""
    with db.cursor("many") as cursor:
        cursor.execute("SELECT generate_series(1, 20)")
        assert (1,) == cursor.fetchone()
        assert (3, 16) == (len(cursor.fetchmany(3)), len(cursor.fetchall()))
    found = rows(clew_spans)
    assert [("FETCH many", None), ("FETCH many", "3"), ("FETCH many", "16")] == found[1:4]


def test_types_are_those_of_the_library(db: Any, dsn: str, clew_spans: MemorySender) -> None:
    """What looks for psycopg2's own types, or the program's, finds them; names and pickles know nothing of clew."""

    class Cursor(extras.RealDictCursor):
        pass

    class Connection(extensions.connection):
        def cursor(self, *args: Any, **kwargs: Any) -> Any:
            return super().cursor(*args, **(kwargs or {"cursor_factory": Cursor}))

    extras.register_uuid(conn_or_curs=db)
    assert isinstance(db, extensions.connection)
    assert "secret" == extensions.quote_ident("secret", db).strip('"')
    assert repr(db).startswith("<connection object at")
    assert repr(db.cursor()).startswith("<cursor object at")
    assert pickle.loads(pickle.dumps(psycopg2.connect)) is psycopg2.connect
    with closing(psycopg2.connect(dsn, connection_factory=Connection)) as own, own.cursor() as cursor:
        assert (True, True) == (isinstance(own, Connection), isinstance(cursor, Cursor))
        cursor.execute("SELECT 1 AS one")
        assert [{"one": 1}] == cursor.fetchall()
    with closing(psycopg2.connect(dsn, cursor_factory=extras.DictCursor)) as own, own.cursor() as cursor:
        cursor.execute("SELECT 1 AS one")
        assert 1 == cursor.fetchone()["one"]
    assert ["CONNECT", "SELECT"] * 2 == [name for name, _ in rows(clew_spans)]


def test_pooled_connections_are_traced(dsn: str, clew_spans: MemorySender) -> None:
    """Those that the library's own pool makes."""
    connections = pool.SimpleConnectionPool(1, 1, dsn)
    with clew.start_span("work"):
        connection = connections.getconn()
        connection.cursor().execute("SELECT 1")
        connections.putconn(connection)
    connections.closeall()
    assert ["SELECT", "ROLLBACK"] == [name for name, _ in rows(clew_spans)]


def test_connection_that_failed_is_an_error(dsn: str, clew_spans: MemorySender) -> None:
    """The exception is the library's, and its span is an error."""
    with clew.start_span("work"), pytest.raises(psycopg2.OperationalError):
        psycopg2.connect("postgresql://127.0.0.1:1/none")
    assert "psycopg2.OperationalError" == clew_spans.spans()[0]["tags"]["error.type"]


def test_nothing_is_left_when_taken_out(dsn: str, clew_spans: MemorySender) -> None:
    """After uninstrument a connection is of psycopg2's own type again."""
    clew.uninstrument("psycopg2")
    with closing(psycopg2.connect(dsn)) as connection:
        assert extensions.connection is type(connection)


@pytest.mark.parametrize("way", WAYS)
def test_program_of_its_own_is_traced(way: str, tmp_path: Path, postgres_server: Server) -> None:
    """Turned on before, after the import, or from outside."""
    program = f"""
import psycopg2
{MARK}
db = psycopg2.connect({postgres_server.url("postgresql")!r})
db.cursor().execute("SELECT 1")
import clew
with clew.start_span("work"): db.cursor().execute("SELECT 2"); db.commit()
db.close()
"""
    ended = run_fresh(program, tmp_path, way)
    assert ["SELECT", "COMMIT", "work"] == [span["name"] for span in ended.spans]
