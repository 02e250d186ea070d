"""The rows of the tables and the budget of each, as DESIGN states them.

Budgets in microseconds were set on a machine whose floor was 0.9 to 1.1 us. A core that is slower, or shared, makes
everything slower alike; so a figure is judged as a multiple of the floor of its own moment, with 1.0 us for the floor.
"""

from __future__ import annotations

from typing import NamedTuple


class Budget(NamedTuple):
    """One row: at most so many floors (a budget in microseconds is the same number, at a floor of 1.0 us)."""

    row: str
    title: str
    limit: float
    text: str
    compiled_limit: float | None = None


CLIENT = (
    Budget("span", "child span, two tags, finished and queued", 2.2, "≤ 2.2 × floor; compiled ≤ 1.0", 1.0),
    Budget("total", "the same with all CPU of the process, encoded and sent", 5.0, "≤ 5 µs; compiled ≤ 2.5", 2.5),
    Budget("asgi", "ASGI request, server span", 8.0, "≤ 8 µs"),
    Budget("flask", "Flask request, server span", 15.0, "≤ 15 µs"),
    Budget("httpx", "httpx call, client span", 15.0, "≤ 15 µs"),
    Budget("requests", "requests call, client span", 15.0, "≤ 15 µs"),
    Budget("sql", "database statement, client span", 8.0, "≤ 8 µs"),
    Budget("log", "log record stamped", 0.4, "≤ 0.4 µs"),
)
IMPORT_MS = 15.0
SPANS_A_CORE_SECOND = 150_000
BYTES_A_SPAN = 32.0
TRACE_P99_MS = 20.0
RECENT_MS = 50.0
SEARCH_MS = 200.0
MEMORY_MB = 1_500.0

NAMES = {
    "clew": "clew",
    "compiled": "clew, compiled",
    "opentelemetry": "OpenTelemetry",
    "ddtrace": "ddtrace",
    "py_zipkin": "py_zipkin",
    "correlation": "asgi-correlation-id",
}
