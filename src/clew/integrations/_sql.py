"""SQL as it may be shown: without its values. The one place that names and cleans statements, for all databases.

``describe`` turns ``SELECT * FROM users WHERE mail = 'a@b.c' AND id IN (1, 2)`` into the span name ``SELECT users`` and
``SELECT * FROM users WHERE mail = ? AND id IN (?)``. Personal data and secrets stay where they are, and statements that
differ in their values only are the same. ``start`` makes the span, by rules that hold for all databases:

* One span a statement, by the outermost of the layers that it passes (ORM, pool, driver): none inside another.
* A statement outside any trace (a poller, a migration) makes no trace of its own but with ``orphan_sql``; it is counted
  (``clew.stats()["orphan_sql"]``).

A scanner, not a parser: what it does not understand (an unclosed quote) it takes for a value to the end, so a mistake
shows less, never more.
"""

from __future__ import annotations

import re
from contextlib import nullcontext
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from clew._context import active, current
from clew._span import Endpoint, Span, to_text
from clew._tracer import start_span, tracer
from clew.integrations._caller import LOCATION, location
from clew.wire import MAX_TAG_VALUE_CHARS, cut

if TYPE_CHECKING:
    from collections.abc import Mapping

    from clew._context import Node

_MAX_SCANNED_CHARS: Final = 16_384  # a dump of a table need not be read to its end for 1,024 characters of a tag
_MAX_KEPT_CHARS: Final = 4_096  # of a statement whose description is remembered

# A nested comment, which only some databases know, is taken to hide all that follows.
_GRAMMAR: Final = r"""
    (?P<comment> --[^\n]* | /\*(?:(?!\*/|/\*).)*(?:\*/|/\*.*|\Z) | \#(?![>\-])[^\n]* )
  | (?P<escaped> (?:\b[eE])'(?:[^'\\]|''|\\.)*(?:'|\Z) )
  | (?P<string>  (?:\b[bBnNuUxX]|\b_[A-Za-z0-9]+\s*)?'(?:[^'{escape}]|''{escaped})*(?:'|\Z) )
  | (?P<dollar>  \$(?P<tag>[A-Za-z_]\w*|)\$ .*? (?:\$(?P=tag)\$|\Z) )
  | (?P<quoted>  "(?:[^"{escape}]|""{escaped})*(?:"|\Z) )
  | (?P<name>    `(?:[^`]|``)*(?:`|\Z) | \[[A-Za-z_][^\]]*\] | [^\W\d][\w$]*(?:\#\w+)? )
  | (?P<holder>  [?:@$%]\(?[A-Za-z0-9_]+\)?s? | \?\d* | %s | :: )
  | (?P<number>  0[xX][0-9a-fA-F]+ | (?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)? )
  | (?P<space>   \s+ )
  | (?P<other>   . )
"""
_FLAGS: Final = re.VERBOSE | re.DOTALL
_token: Final = re.compile(_GRAMMAR.replace("{escape}", "").replace("{escaped}", ""), _FLAGS)
_token_with_escapes: Final = re.compile(_GRAMMAR.replace("{escape}", r"\\").replace("{escaped}", r"|\\."), _FLAGS)
_VALUES: Final = frozenset({"string", "escaped", "dollar", "tag", "number"})
_holder: Final = r"(?:\?|%s|\$\d+)"
_list: Final = re.compile(rf"\(\s*{_holder}(?:\s*,\s*{_holder})+\s*\)")
_rows: Final = re.compile(r"(\(\?\))(?:\s*,\s*\(\?\))+")

_BEFORE_TABLE: Final = {
    "SELECT": frozenset({"FROM"}),
    "WITH": frozenset({"FROM"}),
    "INSERT": frozenset({"INTO"}),
    "REPLACE": frozenset({"INTO"}),
    "DELETE": frozenset({"FROM"}),
    "UPDATE": frozenset({"UPDATE"}),
    "MERGE": frozenset({"INTO"}),
    "CREATE": frozenset({"TABLE", "INDEX", "VIEW", "TRIGGER"}),
    "DROP": frozenset({"TABLE", "INDEX", "VIEW", "TRIGGER"}),
    "ALTER": frozenset({"TABLE", "INDEX", "VIEW"}),
    "TRUNCATE": frozenset({"TRUNCATE", "TABLE"}),
    "PRAGMA": frozenset({"PRAGMA"}),
    "CALL": frozenset({"CALL"}),
    "COPY": frozenset({"COPY"}),
    "FETCH": frozenset({"FROM"}),
    "PREPARE": frozenset({"FROM", "INTO", "UPDATE"}),
}
# What stands in double quotes is a name to the standard and a value to MySQL and, at times, SQLite. It is shown where
# only a name can be: after one of these, or before a dot.
_BEFORE_NAME: Final = frozenset(
    {
        "FROM",
        "JOIN",
        "INTO",
        "UPDATE",
        "COPY",
        "TABLE",
        "INDEX",
        "VIEW",
        "TRIGGER",
        "EXISTS",
        "ONLY",
        "ON",
        "AS",
        "BY",
        ".",
    }
)
_SKIPPED: Final = frozenset(
    {"IF", "NOT", "EXISTS", "ONLY", "OR", "ROLLBACK", "ABORT", "REPLACE", "FAIL", "IGNORE", "LOW_PRIORITY", "TABLE"}
)


STATEMENT: Final = "db.statement"  # the tag by which a statement's span is known
CONNECT: Final = "CONNECT"  # stands for a statement where a connection is being made
WAIT: Final = "wait for connection"  # the collector's findings know a pool's wait by this name
_no_span: Final = nullcontext()
_NO_TAGS: Final[Mapping[str, str]] = {}
_ROW_COMMANDS: Final = ("SELECT ", "INSERT ", "UPDATE ", "DELETE ", "MERGE ", "COPY ", "MOVE ", "FETCH ")


class Database(NamedTuple):
    """What a span says of the database itself: remote endpoint, tags, and whether a backslash escapes in strings."""

    remote: Endpoint
    tags: Mapping[str, str]
    escapes: bool = False


@lru_cache(256)
def database(system: str, name: object, host: object, port: object, escapes: bool = False) -> Database:
    """Describe a database by what its driver tells: any of them text, bytes or None; a socket's path is no host."""
    tags = {"db.system": system}
    if name:
        tags["db.name"] = _text(name)
    address = _text(host)
    is_address = address.replace(".", "").isdigit() or ":" in address
    if address and not is_address and not address.startswith(("/", "@")):
        tags["server.address"] = address
    return Database(Endpoint(system, address if is_address else None, _port(_text(port))), tags, escapes)


def start(sql: object, of: Database) -> Span | nullcontext[None]:
    """Start the span of a statement: ``with start(...) as span``, where None stands for no span. Never raises."""
    if not is_wanted():
        return _no_span
    text = sql if type(sql) is str else _text(sql)
    statement = describe(text, of.escapes)
    span = start_span(statement.name, "CLIENT")
    span.tags.update(of.tags)
    span.tags[STATEMENT] = statement.text
    place = location(text) if span.trace.sampled else ""
    if place:
        span.tags[LOCATION] = place
    span.remote = of.remote
    return span


def is_wanted() -> bool:
    """Tell whether a statement that begins now is a span: it is in a trace, and no other layer has made it one."""
    above = active()
    if above is None:
        return tracer().allows_orphan_sql()
    return STATEMENT not in _tags_of(above)


def _tags_of(node: Node) -> Mapping[str, str]:
    """Return a span's tags, also where a job runs under it in another thread, as aiosqlite's do."""
    return getattr(node, "tags", _NO_TAGS)


def start_aside(sql: object, of: Database) -> Span | nullcontext[None]:
    """Start the span of a statement that the program's own code runs inside of (COPY, a stream of rows).

    It is not the active one: what that code does meanwhile is its own business, other statements among it.
    """
    span = start(sql, of)
    if type(span) is Span:
        current.set(span.previous)
        span.previous = span.token = None
    return span


def start_wait(of: Database) -> Span | nullcontext[None]:
    """Start the span of waiting for a connection of a pool; none outside any trace, nor inside another's.

    A pool that did not get what it waited for may ask itself again.
    """
    above = active()
    if above is None or (type(above) is Span and above.name == WAIT):
        return _no_span
    span = start_span(WAIT, "CLIENT")
    span.tags.update(of.tags)
    span.remote = of.remote
    return span


def note_rows(span: Span | None, rows: object) -> None:
    """Note how many rows a statement changed or found, where the driver counts them: -1 says that it does not."""
    if span is not None and isinstance(rows, int) and rows >= 0:
        span.tags["db.rows"] = str(rows)


def note_status(span: Span | None, status: object) -> None:
    """Note the rows that PostgreSQL tells when it has finished: ``UPDATE 3``, ``INSERT 0 3``."""
    if span is not None and isinstance(status, str) and status.startswith(_ROW_COMMANDS):
        count = status.rpartition(" ")[2]
        if count.isdecimal():
            span.tags["db.rows"] = count


def commented(sql: Any) -> Any:
    """Return a statement with the trace's position behind it, with the option ``sqlcommenter``; else as it is.

    The form is that of sqlcommenter: ``/*traceparent='00-...'*/``. What is no text, or has a comment, stays as it is.
    """
    if not tracer().sqlcommenter or not isinstance(sql, str) or "/*" in sql or "--" in sql:
        return sql
    node = active()
    if node is None:
        return sql
    body = sql.rstrip()
    end = ";" if body.endswith(";") else ""
    trace_id, flags = node.trace.trace_id.rjust(32, "0"), "01" if node.trace.sampled else "00"
    return f"{body.removesuffix(';')} /*traceparent='00-{trace_id}-{node.span_id}-{flags}'*/{end}"


def _text(value: object) -> str:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).decode("utf-8", "replace")
    return "" if value is None else to_text(value)


def _port(port: str) -> int | None:
    return int(port) if port.isdecimal() else None


class Statement(NamedTuple):
    """A statement as a span shows it: ``name`` (verb and table), ``text`` (no values, at most a tag long)."""

    name: str
    text: str


def describe(sql: object, escapes: bool = False) -> Statement:
    """Name and clean a statement; anything that is no text is named ``SQL``. Remembers the statements that recur.

    ``escapes``: whether a backslash in a plain string escapes the next character, as in MySQL; by the standard it does
    not. A wrong answer makes the end of a string unknown, so every database has to give its own.
    """
    if not isinstance(sql, str):
        return Statement("SQL", "")
    if len(sql) <= _MAX_KEPT_CHARS:
        return _describe_kept(sql, escapes)
    return _describe(sql[:_MAX_SCANNED_CHARS], escapes)


def _describe(sql: str, escapes: bool) -> Statement:
    words: list[str] = []  # names and punctuation, for the statement's name
    parts: list[str] = []
    for match in (_token_with_escapes if escapes else _token).finditer(sql):
        kind, text = match.lastgroup, match[0]
        if kind == "quoted" and not (sql[match.end() :][:1] == "." or (words and words[-1].upper() in _BEFORE_NAME)):
            kind = "string"
        if kind == "comment" or kind == "space":
            if parts and parts[-1] != " ":
                parts.append(" ")
        elif kind in _VALUES:
            parts.append("?")
            words.append("?")
        else:
            parts.append(text)
            words.append(text)
    text = _rows.sub(r"\1", _list.sub("(?)", "".join(parts).strip()))
    return Statement(_name(words), cut(text, MAX_TAG_VALUE_CHARS))


_describe_kept = lru_cache(1_024)(_describe)


def _name(words: list[str]) -> str:
    """Return the verb and the first table that it is about."""
    verb = next((word.upper() for word in words if word[0].isalpha()), "")
    if not verb:
        return "SQL"
    if verb == "WITH":  # the statement proper follows the common table expressions
        verb = _verb_after_with(words)
    markers = _BEFORE_TABLE.get(verb, frozenset())
    for index, word in enumerate(words):
        if word.upper() in markers:
            table = _table(words[index + 1 :])
            if table:
                return f"{verb} {table}"
    return verb


def _verb_after_with(words: list[str]) -> str:
    depth = 0
    for word in words[1:]:
        depth += (word == "(") - (word == ")")
        if depth == 0 and word.upper() in ("SELECT", "INSERT", "UPDATE", "DELETE", "REPLACE", "MERGE"):
            return word.upper()
    return "WITH"


def _table(words: list[str]) -> str:
    """Read ``schema.table`` in any quotes."""
    parts: list[str] = []
    for word in words:
        if not parts and word.upper() in _SKIPPED:
            continue
        if word == "." and parts:
            parts.append(word)
        elif (word[0].isalpha() or word[0] in '_"`[') and (not parts or parts[-1] == "."):
            parts.append(word.strip('"`[]'))
        else:
            break
    return "".join(parts)
