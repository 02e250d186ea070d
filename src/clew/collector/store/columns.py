"""The columns of ``spans`` and ``logs``: the one list that creates the tables, fills them and reads them.

A :class:`Column` says how the column is stored (``type``), how it is made from the JSON that the check wrote
(``source``, an expression over the columns of ``spans_in`` or ``logs_in``) and how it is read back (``select``). The
statements in ``sql/`` take them by the placeholders ``$COLUMNS`` (schema) and ``$SPAN``, ``$LOG`` (reading).

What is absent is stored as the empty value of its type: a parent id of eight zero bytes, timestamp 0, port 0, ''.
None of them is a value that a span can have, so nothing is lost and no column needs a null map.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Column(NamedTuple):
    """One stored column; see the module's docstring. An empty ``select`` means that it is not part of a row read."""

    name: str
    type: str
    source: str
    select: str = ""


# What the JSON holds, key for key as clew.collector.ingest.canonical writes it. No LowCardinality: the parser would
# look up value by value, 3.0 us a span instead of 1.3; columns go faster (measured 2026-11).
ENDPOINT: Final = "Tuple(serviceName String, ipv4 String, ipv6 String, port UInt16)"
SPAN_JSON: Final = f"""
    traceId String, id String, parentId String, kind String, name String,
    timestamp Int64, duration Int64, debug Bool, shared Bool, localEndpoint {ENDPOINT}, remoteEndpoint {ENDPOINT},
    tags Map(String, String), annotations Array(Tuple(timestamp Int64, value String))"""
LOG_JSON: Final = """
    timestamp Int64, service String, level String, logger String,
    message String, traceId String, id String, exception String"""


# When a row arrived, rounded up, so that none goes before its time. $GRANULE is a number of seconds.
RECEIVED: Final = "toDateTime(intDiv(toUnixTimestamp(now('UTC')) + $GRANULE - 1, $GRANULE) * $GRANULE, 'UTC')"


def _id(name: str, size: int) -> str:
    """Hex of any length up to the whole to bytes, padded on the left as Zipkin does."""
    return f"toFixedString(unhex(leftPad({name}, {size * 2}, '0')), {size})"


def _dictionary(text: str) -> str:
    """Collect the values of a column: what is computed from it is then computed once a value, not once a row."""
    return f"toLowCardinality({text})"


def _lower(text: str) -> str:
    return f"lowerUTF8({_dictionary(text)})"


def _trace_id_text() -> str:
    """Hex as Zipkin shows it: 16 digits where the high half is zero, 32 otherwise."""
    return "lower(hex(if(startsWith(trace_id, toFixedString('', 8)), substring(trace_id, 9), trace_id)))"


SPANS: Final = (
    Column("trace_id", "FixedString(16) CODEC(ZSTD(1))", _id("traceId", 16), f"{_trace_id_text()} AS trace_id"),
    Column("span_id", "FixedString(8) CODEC(ZSTD(1))", _id("id", 8), "lower(hex(span_id)) AS span_id"),
    Column(
        "parent_id",
        "FixedString(8) CODEC(ZSTD(1))",
        _id("parentId", 8),
        "if(parent_id = toFixedString('', 8), '', lower(hex(parent_id))) AS parent_id",
    ),
    Column("timestamp", "UInt64 CODEC(Delta, ZSTD(1))", "toUInt64(timestamp)", "timestamp"),
    Column("duration", "UInt64 CODEC(T64, ZSTD(1))", "toUInt64(duration)", "duration"),
    Column("kind", "LowCardinality(String) CODEC(ZSTD(1))", _dictionary("kind"), "kind"),
    Column("name", "LowCardinality(String) CODEC(ZSTD(1))", _lower("name"), "name"),
    Column(
        "local_service",
        "LowCardinality(String) CODEC(ZSTD(1))",
        _lower("localEndpoint.serviceName"),
        "local_service",
    ),
    Column("local_ipv4", "LowCardinality(String) CODEC(ZSTD(1))", _dictionary("localEndpoint.ipv4"), "local_ipv4"),
    Column("local_ipv6", "LowCardinality(String) CODEC(ZSTD(1))", _dictionary("localEndpoint.ipv6"), "local_ipv6"),
    Column("local_port", "UInt16 CODEC(ZSTD(1))", "localEndpoint.port", "local_port"),
    Column(
        "remote_service",
        "LowCardinality(String) CODEC(ZSTD(1))",
        _lower("remoteEndpoint.serviceName"),
        "remote_service",
    ),
    Column("remote_ipv4", "LowCardinality(String) CODEC(ZSTD(1))", _dictionary("remoteEndpoint.ipv4"), "remote_ipv4"),
    Column("remote_ipv6", "LowCardinality(String) CODEC(ZSTD(1))", _dictionary("remoteEndpoint.ipv6"), "remote_ipv6"),
    Column("remote_port", "UInt16 CODEC(ZSTD(1))", "remoteEndpoint.port", "remote_port"),
    Column("debug", "Bool CODEC(ZSTD(1))", "debug", "debug"),
    Column("shared", "Bool CODEC(ZSTD(1))", "shared", "shared"),
    Column("tags", "Map(LowCardinality(String), String) CODEC(ZSTD(1))", "tags", "tags"),
    Column(  # may lie before the epoch, as in Zipkin: stored as its two's complement
        "annotation_ts",
        "Array(UInt64) CODEC(ZSTD(1))",
        "annotations.timestamp",
        "CAST(annotation_ts, 'Array(Int64)') AS annotation_ts",
    ),
    Column("annotation_values", "Array(String) CODEC(ZSTD(1))", "annotations.value", "annotation_values"),
    Column("received", "DateTime('UTC') CODEC(ZSTD(1))", RECEIVED),
)

LOGS: Final = (
    Column("timestamp", "UInt64 CODEC(Delta, ZSTD(1))", "toUInt64(timestamp)", "timestamp"),
    Column("service", "LowCardinality(String) CODEC(ZSTD(1))", _lower("service"), "service"),
    Column("level", "LowCardinality(String) CODEC(ZSTD(1))", f"upperUTF8({_dictionary('level')})", "level"),
    Column("logger", "LowCardinality(String) CODEC(ZSTD(1))", _dictionary("logger"), "logger"),
    Column("message", "String CODEC(ZSTD(1))", "message", "message"),
    Column(
        "trace_id",
        "FixedString(16) CODEC(ZSTD(1))",
        _id("traceId", 16),
        f"if(trace_id = toFixedString('', 16), '', {_trace_id_text()}) AS trace_id",
    ),
    Column(
        "span_id",
        "FixedString(8) CODEC(ZSTD(1))",
        _id("id", 8),
        "if(span_id = toFixedString('', 8), '', lower(hex(span_id))) AS span_id",
    ),
    Column("exception", "String CODEC(ZSTD(1))", "exception", "exception"),
    Column("received", "DateTime('UTC') CODEC(ZSTD(1))", RECEIVED),
)


def declared(columns: tuple[Column, ...]) -> str:
    """Return the columns as CREATE TABLE wants them."""
    return ",\n    ".join(f"{column.name} {column.type}" for column in columns)


def sourced(columns: tuple[Column, ...]) -> str:
    """Return the expressions that make the columns from JSON."""
    return ",\n    ".join(f"{column.source} AS {column.name}" for column in columns)


def selected(columns: tuple[Column, ...]) -> str:
    """Return the expressions that read the columns back."""
    return ", ".join(column.select for column in columns if column.select)
