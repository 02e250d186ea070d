"""Any driver by hand, tried with one that the standard library brings and that is not hooked here."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pytest

import clew
from clew.integrations import dbapi
from integrations.kit_common import without_times

if TYPE_CHECKING:
    from clew.testing import MemorySender


def names(spans: MemorySender) -> list[str]:
    found = [str(span["name"]) for span in spans.spans() if span["name"] != "work"]
    spans.clear()
    return found


def test_module_makes_traced_connections(clew_spans: MemorySender) -> None:
    """Everything else of the module is as before."""
    driver = dbapi.wrap(sqlite3, system="oracle", name="shop", host="db.internal", port=1521)
    assert sqlite3.OperationalError is driver.OperationalError
    with clew.start_span("work") as work:
        db = driver.connect(":memory:")
        cursor = db.cursor()
        cursor.execute("CREATE TABLE items (id INTEGER, name TEXT)")
        assert cursor is cursor.execute("INSERT INTO items VALUES (7, 'secret')")
        cursor.executemany("INSERT INTO items VALUES (?, ?)", [(1, "x"), (2, "y")])
        db.commit()
        assert [(7,), (1,), (2,)] == list(db.execute("SELECT id FROM items"))
        db.rollback()
        db.close()
    insert = next(span for span in clew_spans.spans() if span["name"] == "INSERT items")
    assert {
        "traceId": work.trace_id,
        "parentId": work.span_id,
        "kind": "CLIENT",
        "name": "INSERT items",
        "localEndpoint": {"serviceName": "test"},
        "remoteEndpoint": {"serviceName": "oracle"},
        "tags": {
            "db.system": "oracle",
            "db.name": "shop",
            "server.address": "db.internal",
            "db.statement": "INSERT INTO items VALUES (?)",
            "db.rows": "1",
        },
    } == without_times(insert)
    expected = ["CONNECT", "CREATE items", "INSERT items", "INSERT items", "COMMIT", "SELECT items", "ROLLBACK"]
    assert expected == names(clew_spans)


def test_connection_is_wrapped_once(clew_spans: MemorySender) -> None:
    """It passes on what is set, called and entered, and raises what the driver raises."""
    plain = sqlite3.connect(":memory:")
    db = dbapi.wrap(plain)
    assert dbapi.wrap(db) is db
    assert (repr(plain), plain.in_transaction) == (repr(db), db.in_transaction)
    db.row_factory = sqlite3.Row
    with clew.start_span("work"):
        with db as entered:
            assert entered is db
            assert 1 == db.cursor().execute("SELECT 1 AS one").fetchone()["one"]
        with pytest.raises(sqlite3.OperationalError, match="no such table"):
            db.execute("SELECT * FROM absent")
    assert "sqlite3.OperationalError" == clew_spans.spans()[2]["tags"]["error.type"]
    assert ["SELECT", "COMMIT", "SELECT absent"] == names(clew_spans)
    plain.close()


def test_driver_that_is_traced_as_well_makes_no_second_span(clew_spans: MemorySender) -> None:
    """The outermost layer makes it."""
    clew.instrument("sqlite3")
    db = dbapi.wrap(sqlite3.connect(":memory:"), system="outer")
    with clew.start_span("work"):
        db.cursor().execute("SELECT 1")
    db.close()
    clew.uninstrument()
    assert ["outer"] == [span["tags"]["db.system"] for span in clew_spans.spans()[:-1]]


def test_what_is_no_driver_is_refused() -> None:
    """With what it lacks."""
    with pytest.raises(TypeError, match="neither connect\\(\\) nor cursor\\(\\)"):
        dbapi.wrap(object())
