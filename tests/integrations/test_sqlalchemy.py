"""SQLAlchemy on a real PostgreSQL and on SQLite, sync and async: one span a statement, whatever the driver."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session, declarative_base

import clew
from client.recording import wait_until
from integrations.fresh import MARK, WAYS, run_fresh
from integrations.kit_common import without_times

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from clew.testing import MemorySender
    from integrations.database_servers import Server

TIMEOUT_S = 60
Base: Any = declarative_base()


class Item(Base):
    __tablename__ = "things"
    id = sa.Column(sa.Integer, primary_key=True)
    name = sa.Column(sa.String)


@pytest.fixture(params=["postgresql+psycopg", "postgresql+psycopg2", "sqlite"])
def engine(
    request: pytest.FixtureRequest, clew_spans: MemorySender, postgres_server: Server, tmp_path: Path
) -> Iterator[sa.engine.Engine]:
    """An engine that was made before its library was hooked; its driver is traced as well."""
    if request.param == "postgresql+psycopg" and sa.__version__ < "2":
        pytest.skip("psycopg 3 needs SQLAlchemy 2")
    url = f"sqlite:///{tmp_path}/shop.db" if request.param == "sqlite" else postgres_server.url(request.param)
    made = sa.create_engine(url, poolclass=sa.pool.QueuePool)
    Base.metadata.drop_all(made)
    Base.metadata.create_all(made)
    made.dispose()
    clew.instrument()
    yield made
    made.dispose()
    clew.uninstrument()


def names(spans: MemorySender) -> list[str]:
    found = [str(span["name"]) for span in spans.spans() if span["name"] != "work"]
    spans.clear()
    return found


def test_statement_becomes_one_span(engine: sa.engine.Engine, clew_spans: MemorySender) -> None:
    """Of SQLAlchemy, none of the driver's; without its values, with the line of the program."""
    with engine.connect() as db, clew.start_span("handler") as handler:
        db.execute(sa.text("SELECT name FROM things WHERE id = 7 AND name = :name"), {"name": "secret"}).fetchall()
    span = without_times(clew_spans.spans()[0])
    assert (handler.trace_id, handler.span_id) == (span["traceId"], span["parentId"])
    assert ("CLIENT", "SELECT things", engine.dialect.name) == (span["kind"], span["name"], span["tags"]["db.system"])
    assert engine.dialect.name == span["remoteEndpoint"]["serviceName"]
    assert span["tags"]["db.statement"].startswith("SELECT name FROM things WHERE id = ? AND name = ")
    location = clew_spans.spans()[0]["tags"]["code.location"]
    assert location.partition(":")[0].endswith("tests/integrations/test_sqlalchemy.py")
    if engine.dialect.name == "postgresql":
        assert ("shop", "127.0.0.1") == (span["tags"]["db.name"], span["remoteEndpoint"]["ipv4"])


def test_first_connection_is_one_span(engine: sa.engine.Engine, clew_spans: MemorySender) -> None:
    """With all that a dialect asks when it meets a database; an idle connection is taken without one."""
    with clew.start_span("work"):
        for _ in range(2):
            with engine.connect():
                pass
    assert ["CONNECT"] == names(clew_spans)


def test_session_shows_what_it_does(engine: sa.engine.Engine, clew_spans: MemorySender) -> None:
    """A flush in batches is one span with its rows, and the commit is another."""
    engine.connect().close()
    with clew.start_span("work"), Session(engine) as session:
        session.add_all(Item(id=number, name="secret") for number in range(5))
        session.commit()
        session.query(Item).update({"name": "secret"})
        session.rollback()
    spans = {span["name"]: span for span in clew_spans.spans()}
    assert "secret" not in str(spans)
    assert ["INSERT things", "COMMIT", "UPDATE things", "ROLLBACK"] == names(clew_spans)
    assert "5" == spans["UPDATE things"]["tags"]["db.rows"]


def test_blocks_and_savepoints_are_spans(engine: sa.engine.Engine, clew_spans: MemorySender) -> None:
    """What a block sends at its end is seen, and the failure that ends it is on the statement."""
    engine.connect().close()
    with clew.start_span("work"):
        with engine.begin() as db, db.begin_nested():
            db.execute(sa.text("INSERT INTO things VALUES (1, 'x')"))
        with pytest.raises(sa.exc.SQLAlchemyError), engine.begin() as db:
            db.execute(sa.text("INSERT INTO things VALUES (1, 'secret')"))
    failed = [span for span in clew_spans.spans() if "error" in span.get("tags", {})]
    assert ["INSERT things"] == [span["name"] for span in failed]
    assert "secret" not in str(clew_spans.spans())
    commit = [] if engine.dialect.name == "sqlite" else ["COMMIT"]  # which RELEASE has done there
    assert ["SAVEPOINT", "INSERT things", "RELEASE", *commit, "INSERT things", "ROLLBACK"] == names(clew_spans)


def test_without_a_transaction_nothing_ends(engine: sa.engine.Engine, clew_spans: MemorySender) -> None:
    """With AUTOCOMMIT there is neither commit nor rollback to wait for."""
    with clew.start_span("work"), engine.connect() as db:
        clew_spans.clear()
        db.execution_options(isolation_level="AUTOCOMMIT").execute(sa.text("SELECT 1"))
    if sa.__version__ >= "2":
        assert {"SELECT", "PRAGMA read_uncommitted"} >= set(names(clew_spans))


def test_wait_for_a_connection_is_a_span(clew_spans: MemorySender, postgres_server: Server) -> None:
    """Only while all that the pool may have are in use."""
    engine = sa.create_engine(postgres_server.url("postgresql+psycopg2"), pool_size=1, max_overflow=0)
    clew.instrument("sqlalchemy", "psycopg2")
    taken, asked = threading.Event(), threading.Event()

    def hold() -> None:
        with engine.connect():
            taken.set()
            wait_until(asked.is_set, "somebody who waits")

    holder = threading.Thread(target=hold)
    holder.start()
    assert taken.wait(TIMEOUT_S)
    get = engine.pool._pool.get

    def tell_and_get(*args: Any) -> Any:
        asked.set()
        return get(*args)

    engine.pool._pool.get = tell_and_get
    with clew.start_span("work"):
        for _ in range(2):
            with engine.connect() as db:
                db.execute(sa.text("SELECT 1"))
    holder.join(TIMEOUT_S)
    engine.dispose()
    clew.uninstrument()
    assert ["wait for connection", "SELECT", "ROLLBACK", "SELECT", "ROLLBACK"] == names(clew_spans)


@pytest.mark.parametrize("driver", ["postgresql+asyncpg", "postgresql+psycopg", "sqlite+aiosqlite"])
async def test_async_engine_is_as_the_others(
    driver: str, clew_spans: MemorySender, postgres_server: Server, tmp_path: Path
) -> None:
    """One span a statement, beneath the task's own, at the program's own line; the wait of one task is its own."""
    if driver == "postgresql+psycopg" and sa.__version__ < "2":
        pytest.skip("psycopg 3 needs SQLAlchemy 2")
    url = f"{driver}:///{tmp_path}/shop.db" if driver.startswith("sqlite") else postgres_server.url(driver)
    clew.instrument()
    engine = (
        create_async_engine(url, pool_size=1, max_overflow=0) if "sqlite" not in driver else create_async_engine(url)
    )
    try:
        async with engine.begin() as db:
            await db.run_sync(Base.metadata.drop_all)
            await db.run_sync(Base.metadata.create_all)
        clew_spans.clear()
        with clew.start_span("work"):
            async with AsyncSession(engine) as session:
                session.add(Item(id=1, name="secret"))
                await session.commit()
                assert 1 == len((await session.execute(sa.select(Item))).all())
        assert "secret" not in str(clew_spans.spans())
        insert = next(span for span in clew_spans.spans() if span["name"] == "INSERT things")
        location = insert["tags"]["code.location"]
        assert location.partition(":")[0].endswith("tests/integrations/test_sqlalchemy.py")
        found = [name for name in names(clew_spans) if name != "CONNECT"]
        assert ["INSERT things", "COMMIT", "SELECT things"] == found[:3]

        async def ask(name: str) -> None:
            with clew.start_span(name):
                async with engine.connect() as db:
                    await db.execute(sa.text(f"SELECT 1 AS {name}"))

        await asyncio.gather(*(ask(f"task{number}") for number in range(3)))
        tasks = {span["id"]: span["name"] for span in clew_spans.spans() if span["name"].startswith("task")}
        asked = [span for span in clew_spans.spans() if span["name"] == "SELECT"]
        assert sorted(tasks.values()) == sorted(tasks[span["parentId"]] for span in asked)
        assert all(tasks[span["parentId"]] in span["tags"]["db.statement"] for span in asked)
        clew_spans.clear()
        if "sqlite" not in driver:
            async with engine.connect():
                waiting = asyncio.create_task(ask("late"))
                while not engine.pool._pool._queue._getters:
                    await asyncio.sleep(0)
            await waiting
            waits = [span for span in clew_spans.spans() if span["name"] in ("wait for connection", "late")]
            assert waits[1]["id"] == waits[0]["parentId"]
        assert clew.get_trace_context() is None
    finally:
        await engine.dispose()
        clew.uninstrument()


def test_nothing_is_left_when_taken_out(engine: sa.engine.Engine, clew_spans: MemorySender) -> None:
    """After uninstrument the engine works as ever, untraced."""
    clew.uninstrument()
    with clew.start_span("work"), contextlib.closing(engine.connect()) as db:
        db.execute(sa.text("SELECT 1"))
    assert [] == [name for name in names(clew_spans) if name != "CONNECT"]


@pytest.mark.parametrize("way", WAYS)
def test_program_of_its_own_is_traced(way: str, tmp_path: Path) -> None:
    """Turned on before, after the import, or from outside."""
    program = f"""
import sqlalchemy as sa
{MARK}
engine = sa.create_engine("sqlite://")
with engine.connect() as db: db.execute(sa.text("SELECT 1"))
import clew
with clew.start_span("work"), engine.connect() as db: db.execute(sa.text("SELECT 2"))
"""
    ended = run_fresh(program, tmp_path, way)
    assert ["SELECT", "work"] == [span["name"] for span in ended.spans]
