"""Statements without their values: one row a case, what went in and what a span shows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.integrations._sql import Statement, describe


@pytest.mark.parametrize(
    ("sql", "name", "text"),
    [
        (
            "SELECT * FROM users WHERE mail = 'a@b.c' AND id IN (1, 2, 3)",
            "SELECT users",
            "SELECT * FROM users WHERE mail = ? AND id IN (?)",
        ),
        ("select 1", "SELECT", "select ?"),
        ("insert into t(a, b) values (1, 'x'), (2, 'y')", "INSERT t", "insert into t(a, b) values (?)"),
        ("INSERT OR REPLACE INTO main.t VALUES (?, ?)", "INSERT main.t", "INSERT OR REPLACE INTO main.t VALUES (?)"),
        ("UPDATE ONLY t SET a = -1.5e3, b = X'CAFE'", "UPDATE t", "UPDATE ONLY t SET a = -?, b = ?"),
        ("DELETE FROM \"odd name\" WHERE c = 'it''s'", "DELETE odd name", 'DELETE FROM "odd name" WHERE c = ?'),
        (r"SELECT 'C:\', secret FROM `t`", "SELECT t", "SELECT ?, secret FROM `t`"),
        (r"SELECT E'it\'s', x FROM t", "SELECT t", "SELECT ?, x FROM t"),
        (
            'SELECT a FROM t WHERE b = "secret" AND c IN ("x", "y")',
            "SELECT t",
            "SELECT a FROM t WHERE b = ? AND c IN (?)",
        ),
        ('SELECT "t"."a" FROM "t" ORDER BY "b"', "SELECT t", 'SELECT "t"."a" FROM "t" ORDER BY "b"'),
        ("SELECT 1 /* outer /* inner */ secret */ FROM t", "SELECT", "SELECT ?"),
        ("SELECT $$secret$$, $tag$ it's $$ here $tag$ FROM t", "SELECT t", "SELECT ?, ? FROM t"),
        ("SELECT 0xDEADBEEF, E'a\\nb', _utf8'x' FROM t", "SELECT t", "SELECT ?, ?, ? FROM t"),
        ("/* user 7 */ SELECT a -- mail a@b.c\nFROM t", "SELECT t", "SELECT a FROM t"),
        ("SELECT a FROM t WHERE b = 'never closed, secret", "SELECT t", "SELECT a FROM t WHERE b = ?"),
        ("SELECT a FROM t WHERE b = :mail AND c = %(c)s AND d = $1 AND e = %s", "SELECT t", None),
        ("SELECT t1.col2 FROM t1 WHERE t1.a=5", "SELECT t1", "SELECT t1.col2 FROM t1 WHERE t1.a=?"),
        (
            "WITH x AS (SELECT 1) INSERT INTO y SELECT * FROM x",
            "INSERT y",
            "WITH x AS (SELECT ?) INSERT INTO y SELECT * FROM x",
        ),
        (
            "create table if not exists items (id integer)",
            "CREATE items",
            "create table if not exists items (id integer)",
        ),
        ("SELECT a FROM t WHERE b IN (%s, %s, $3)", "SELECT t", "SELECT a FROM t WHERE b IN (?)"),
        ("BEGIN IMMEDIATE", "BEGIN", "BEGIN IMMEDIATE"),
        ("PRAGMA journal_mode", "PRAGMA journal_mode", "PRAGMA journal_mode"),
        ("SELECT a FROM (SELECT b FROM inner_t) WHERE c = d", "SELECT inner_t", None),
        ("  \n ", "SQL", ""),
        ("'only a secret'", "SQL", "?"),
    ],
)
def test_statement(sql: str, name: str, text: str | None) -> None:
    """Values become ?, lists one ?, comments go; the name is the verb and the first table."""
    assert Statement(name, sql if text is None else text) == describe(sql)


def test_backslash_escapes_where_the_database_says_so() -> None:
    """MySQL's strings end elsewhere."""
    assert "SELECT ?, x FROM t" == describe(r"SELECT 'it\'s secret', x FROM t", escapes=True).text
    assert "SELECT ?, x FROM t" == describe(r'SELECT "it\"s secret", x FROM t', escapes=True).text


def test_long_statement_is_cut() -> None:
    """A tag holds 1,024 characters, however long the statement is."""
    described = describe("INSERT INTO t VALUES " + ", ".join(f"(a{n})" for n in range(100_000)))
    assert ("INSERT t", 1_024, "…") == (described.name, len(described.text), described.text[-1])


@pytest.mark.parametrize("value", [None, b"select 1", 7])
def test_what_is_no_text_is_no_statement(value: object) -> None:
    """A driver's own object has no text that could be shown."""
    assert Statement("SQL", "") == describe(value)


@given(st.text(st.characters(exclude_characters="'", exclude_categories=["Cs"]), min_size=1, max_size=30))
def test_no_text_value_is_shown(secret: str) -> None:
    """Whatever stands between quotes, comment marks and dollars included, does not get out."""
    assert Statement("SELECT t", "SELECT a FROM t WHERE b = ? AND c = ?") == describe(
        f"SELECT a FROM t WHERE b = '{secret}' AND c = 'x'"
    )


@given(st.text(max_size=200))
def test_any_text_is_described(sql: str) -> None:
    """Nothing that a program may pass as SQL makes the scanner fail."""
    assert len(describe(sql).text) <= 1_024
