"""What `clew demo --once` calls a complete trace: `clew.cli._check`."""

from __future__ import annotations

from typing import Any

import pytest

from clew.cli._check import complaints

TRACE_ID = "a" * 32
SQL = {"db.statement": "SELECT ?"}
CALL = {"http.method": "GET"}


def span(span_id: str, parent: str | None, service: str, kind: str | None = None, **tags: str) -> dict[str, Any]:
    """Make a span with what the check looks at."""
    made: dict[str, Any] = {"id": span_id, "name": "n", "localEndpoint": {"serviceName": service}, "tags": tags}
    if parent:
        made["parentId"] = parent
    return {**made, "kind": kind} if kind else made


WHOLE = [
    span("1", None, "gateway", "SERVER", **CALL),
    span("2", "1", "gateway", "CLIENT", **CALL),
    span("3", "2", "stock", "SERVER", **CALL),
    span("4", "3", "stock", "CLIENT", **SQL),
]
LOGS = [{"service": name, "traceId": TRACE_ID} for name in ("gateway", "stock")]


def test_a_complete_trace_gives_no_complaint() -> None:
    """Everything is there."""
    assert [] == complaints(WHOLE, LOGS, TRACE_ID, ("gateway", "stock"))


@pytest.mark.parametrize(
    ("spans", "logs", "expected"),
    [
        ([], LOGS, ["0 roots instead of one", "no span of gateway", "no span of stock", "no SQL of stock"]),
        ([*WHOLE, span("5", None, "stock")], LOGS, ["2 roots instead of one (gateway n, stock n)"]),
        ([*WHOLE, span("5", "gone", "stock")], LOGS, ["1 without their parent (stock n)"]),
        (WHOLE[:2], LOGS, ["no span of stock", "1 calls without the server's side (gateway n)", "no SQL of stock"]),
        ([*WHOLE, span("5", "1", "mailer")], LOGS, ["spans of mailer, which has no part in this"]),
        (WHOLE[:3], LOGS, ["no SQL of stock"]),
        (WHOLE, LOGS[:1], ["no log line of stock"]),
        (WHOLE, [LOGS[0], {**LOGS[1], "traceId": "b" * 32}], ["no log line of stock"]),
        (WHOLE, [LOGS[0], {"service": "stock"}], ["no log line of stock"]),
        (
            [*WHOLE, span("5", "1", "gateway", None, **{"clew.dropped": "queue_full=3"})],
            LOGS,
            ["gateway lost spans (clew.dropped: queue_full=3)"],
        ),
    ],
)
def test_each_thing_that_is_missing_is_named(spans: list[Any], logs: list[Any], expected: list[str]) -> None:
    """In words, by service and span."""
    assert expected == complaints(spans, logs, TRACE_ID, ("gateway", "stock"))
