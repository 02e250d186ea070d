"""sqlite3 on real files and in memory."""

from __future__ import annotations

import contextlib
import pickle
import sqlite3
from typing import TYPE_CHECKING

import pytest

import clew
from clew.integrations import _sql
from clew.testing import recorded
from integrations.fresh import MARK, run_fresh
from integrations.kit_common import without_times

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from clew.testing import MemorySender


@pytest.fixture
def clew_spans() -> Iterator[MemorySender]:
    """Collect the spans of one test, of statements outside any trace as well."""
    with recorded(orphan_sql=True) as sender:
        yield sender


@pytest.fixture
def db(clew_spans: MemorySender, tmp_path: Path) -> Iterator[sqlite3.Connection]:
    clew.instrument("sqlite3")
    connection = sqlite3.connect(tmp_path / "shop.db")
    connection.execute("CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT)")
    clew_spans.clear()
    yield connection
    connection.close()
    clew.uninstrument()


def test_statement_becomes_one_span(db: sqlite3.Connection, clew_spans: MemorySender) -> None:
    """A statement is a client span under the active one, without its values."""
    with clew.start_span("work") as work:
        rows = db.execute("SELECT name FROM items WHERE id = 7 AND name = ?", ("secret",)).fetchall()
    assert [] == rows
    assert {
        "traceId": work.trace_id,
        "parentId": work.span_id,
        "kind": "CLIENT",
        "name": "SELECT items",
        "localEndpoint": {"serviceName": "test"},
        "remoteEndpoint": {"serviceName": "sqlite"},
        "tags": {"db.system": "sqlite", "db.statement": "SELECT name FROM items WHERE id = ? AND name = ?"},
    } == without_times(clew_spans.spans()[0])


def test_end_of_a_transaction_is_a_span(db: sqlite3.Connection, clew_spans: MemorySender) -> None:
    """By commit, by rollback, by `with`; not where there is no transaction to end."""
    db.commit()
    db.rollback()
    for end in (db.commit, db.rollback):
        db.execute("INSERT INTO items VALUES (NULL, 'x')")
        end()
    with db:
        db.execute("INSERT INTO items VALUES (NULL, 'x')")
    with pytest.raises(sqlite3.OperationalError), db:
        db.executescript("BEGIN; absent")
    ends = [span["name"] for span in clew_spans.spans() if span["name"] in ("COMMIT", "ROLLBACK")]
    assert ["COMMIT", "ROLLBACK", "COMMIT", "ROLLBACK"] == ends
    assert [(2,)] == db.execute("SELECT count(*) FROM items").fetchall()


def test_every_way_to_run_a_statement_is_seen(db: sqlite3.Connection, clew_spans: MemorySender) -> None:
    """On the connection and on a cursor: execute, executemany, executescript; each once."""
    for runs in (db, db.cursor()):
        runs.execute("INSERT INTO items VALUES (NULL, 'x')")
        runs.executemany("INSERT INTO items VALUES (NULL, ?)", [("y",), ("z",)])
        runs.executescript("DELETE FROM items; VACUUM")
    spans = clew_spans.spans()
    assert ["INSERT items", "INSERT items", "DELETE items"] * 2 == [span["name"] for span in spans]
    assert ["1", "2", None] * 2 == [span["tags"].get("db.rows") for span in spans]


def test_statement_outside_any_trace_is_counted(tmp_path: Path) -> None:
    """A poller's statements make no one-span traces unless asked; inside a trace they are spans as ever."""
    clew.instrument("sqlite3")
    with recorded() as spans, contextlib.closing(sqlite3.connect(":memory:")) as connection:
        assert [(1,)] == connection.execute("SELECT 1").fetchall()
        connection.execute("CREATE TABLE items (id INTEGER)")
        connection.executescript("SELECT 1")
        assert (3, []) == (clew.stats()["orphan_sql"], spans.spans())
        with clew.start_span("work"):
            connection.execute("SELECT 1")
        assert ["SELECT", "work"] == [span["name"] for span in spans.spans()]
        assert 3 == clew.stats()["orphan_sql"]
    clew.uninstrument()


def test_statement_that_passes_several_layers_is_one_span(db: sqlite3.Connection, clew_spans: MemorySender) -> None:
    """The outermost layer makes it, an ORM say; the driver beneath it adds nothing."""
    with _sql.start("SELECT name FROM items", _sql.database("orm", None, None, None)):
        db.execute("SELECT name FROM items")
    db.execute("SELECT id FROM items")
    assert ["orm", "sqlite"] == [span["remoteEndpoint"]["serviceName"] for span in clew_spans.spans()]


def test_cursor_is_the_application_s_to_iterate(db: sqlite3.Connection, clew_spans: MemorySender) -> None:
    """execute returns the cursor itself, which goes on to be one."""
    cursor = db.cursor()
    assert cursor is cursor.execute(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n LIMIT 3"
    )
    assert [(1,), (2,), (3,)] == list(cursor)


def test_failed_statement_is_an_error(db: sqlite3.Connection, clew_spans: MemorySender) -> None:
    """The exception is on the span and reaches the caller."""
    with pytest.raises(sqlite3.OperationalError, match="no such table: absent"):
        db.execute("SELECT * FROM absent")
    tags = clew_spans.spans()[0]["tags"]
    assert ("no such table: absent", "sqlite3.OperationalError") == (tags["error"], tags["error.type"])


@pytest.mark.filterwarnings("ignore:Passing more than 1 positional:DeprecationWarning")  # since 3.13
def test_classes_of_the_application_keep_working(clew_spans: MemorySender) -> None:
    """A connection and a cursor of the application's own are used, by place or by name, and traced once."""

    class Cursor(sqlite3.Cursor):
        def execute(self, *args: object) -> sqlite3.Cursor:
            return super().execute(*args)  # type: ignore[arg-type]

    class Connection(sqlite3.Connection):
        def cursor(self) -> Cursor:  # type: ignore[override]
            return super().cursor(Cursor)

    clew.instrument("sqlite3")
    for connection in (
        sqlite3.connect(":memory:", 5.0, 0, "DEFERRED", True, Connection),
        sqlite3.connect(":memory:", factory=Connection),
    ):
        assert isinstance(connection, Connection)
        assert isinstance(connection.cursor(), Cursor)
        assert [(1,)] == connection.execute("SELECT 1").fetchall()
        connection.close()
    clew.uninstrument()
    assert ["SELECT", "SELECT"] == [span["name"] for span in clew_spans.spans()]


OVERRIDING = """
import sqlite3
log = []
def noting(*names):
    def method(name):
        def call(self, *args, **kwargs):
            log.append(f"{type(self).__name__}.{name}")
            return getattr(super(namespace["own"], self), name)(*args, **kwargs)
        return call
    namespace = {name: method(name) for name in names}
    return namespace
def own(title, base, *names):
    namespace = noting(*names)
    namespace["own"] = type(title, (base,), dict(namespace))
    return namespace["own"]
K = own("K", sqlite3.Cursor, "execute", "executemany", "executescript", "fetchone")
class Making(sqlite3.Connection):
    def cursor(self, factory=K):
        log.append("cursor"); return super().cursor(factory)
factories = [Making, sqlite3.Connection, own("X", sqlite3.Connection, "execute", "executemany", "executescript")]
factories.append(own("Y", sqlite3.Connection, "commit", "rollback", "cursor", "__enter__", "__exit__"))
MARKED
for factory in factories:
    db = sqlite3.connect(":memory:", factory=factory); db.row_factory = sqlite3.Row
    made = [db.execute("CREATE TABLE t(x)"), db.executemany("INSERT INTO t VALUES (?)", [(1,)])]
    made += [db.executescript("SELECT 1"), db.cursor(), db.cursor().execute("SELECT 1")]
    print([type(cursor).__name__ for cursor in made], type(db.execute("SELECT 1").fetchone()).__name__)
    with db: db.execute("INSERT INTO t VALUES (2)")
    try:
        with db: db.execute("INSERT INTO t VALUES (3)"); 1 / 0
    except ZeroDivisionError: pass
    db.commit(); db.rollback()
    for wrong in ((), (3,), ("SELECT ?", (1,), 3), ("SELECT",)):
        for call in (db.execute, db.executemany, db.cursor().execute):
            try: call(*wrong)
            except Exception as problem: print(repr(problem))
print(log)
"""


def test_subclass_s_own_methods_are_called_as_sqlite3_calls_them(tmp_path: Path) -> None:
    """Whichever it overrides: what is called, what comes back and what is complained of are the same without clew."""
    plain = run_fresh(OVERRIDING.replace("MARKED", ""), tmp_path, "none").lines
    for way in ("first", "last"):
        assert plain == run_fresh(OVERRIDING.replace("MARKED", MARK), tmp_path, way).lines
    assert len(plain) > 4


def test_cursor_that_a_connection_made_goes_on_to_be_traced(db: sqlite3.Connection, clew_spans: MemorySender) -> None:
    """What `connection.execute()` returns is a cursor like any other."""
    db.execute("SELECT 1").execute("SELECT 2 FROM items")
    assert ["SELECT", "SELECT items"] == [span["name"] for span in clew_spans.spans()]


def test_nothing_is_left_when_taken_out(clew_spans: MemorySender) -> None:
    """After uninstrument a connection is of sqlite3's own type again."""
    clew.instrument("sqlite3")
    clew.uninstrument("sqlite3")
    connection = sqlite3.connect(":memory:")
    assert sqlite3.Connection is type(connection)
    connection.close()


class Refusing(sqlite3.Connection):
    """A class that lets nobody subclass it."""

    def __init_subclass__(cls) -> None:
        raise TypeError("final")


class Factory:
    """A callable that cannot be a key of a dict."""

    __hash__ = None  # type: ignore[assignment]

    def __call__(self, *args: object, **kwargs: object) -> sqlite3.Connection:
        return sqlite3.Connection(*args, **kwargs)  # type: ignore[arg-type]


@pytest.mark.parametrize("factory", [Refusing, Factory()])
def test_factory_that_cannot_be_traced_is_used_as_it_is(clew_spans: MemorySender, factory: object) -> None:
    """A final class, a callable that has no hash: the connection is what the program asked for."""
    clew.instrument("sqlite3")
    connection = sqlite3.connect(":memory:", factory=factory)  # type: ignore[arg-type]
    assert [(1,)] == connection.execute("SELECT 1").fetchall()
    connection.close()
    clew.uninstrument()


def test_names_are_those_of_sqlite3(clew_spans: MemorySender) -> None:
    """repr, log lines and pickle by name know nothing of clew."""
    clew.instrument("sqlite3")
    assert pickle.loads(pickle.dumps(sqlite3.connect)) is sqlite3.connect
    connection = sqlite3.connect(database=":memory:", timeout=1.0)
    for shown, name in ((connection, "sqlite3.Connection"), (connection.cursor(), "sqlite3.Cursor")):
        assert repr(shown).startswith(f"<{name} object at")
    connection.close()
    clew.uninstrument()
