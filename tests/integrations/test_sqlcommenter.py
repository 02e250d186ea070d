"""The comment that carries a statement's position to the database."""

from __future__ import annotations

import pytest

import clew
from clew.integrations._sql import commented
from clew.testing import recorded

POSITION = "/*traceparent='00-463ac35c9f6413ad48485a3953bb6124-a2fb4a1d1a96d312-01'*/"


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT 1", f"SELECT 1 {POSITION}"),
        ("SELECT 1 ; \n", f"SELECT 1  {POSITION};"),
        ("SELECT 1 /* mine */", "SELECT 1 /* mine */"),
        ("SELECT 1 -- mine", "SELECT 1 -- mine"),
        (b"SELECT 1", b"SELECT 1"),
        (None, None),
    ],
)
def test_comment_stands_behind_the_statement(sql: object, expected: object) -> None:
    """Before its semicolon; what has a comment, or is no text, stays as it is."""
    with recorded(sqlcommenter=True):
        token = clew.set_trace_context("463ac35c9f6413ad48485a3953bb6124", "a2fb4a1d1a96d312")
        assert expected == commented(sql)
        clew.reset_trace_context(token)
        assert sql == commented(sql)


def test_without_the_option_nothing_is_added() -> None:
    """The database sees what the program wrote."""
    with recorded(), clew.start_span("work"):
        assert "SELECT 1" == commented("SELECT 1")
