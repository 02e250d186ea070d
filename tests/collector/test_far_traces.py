"""Traces that go on beyond ten minutes, asked of a running collector, whose table of them is made as they come."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from collector.collector_process import CollectorProcess

if TYPE_CHECKING:
    from pathlib import Path

NOW = int(time.time() * 1_000_000)
HOUR = 3_600_000_000


def _span(trace: int, number: int, timestamp: int | None) -> dict[str, Any]:
    span: dict[str, Any] = {"traceId": f"{trace:x}", "id": f"{number:x}", "tags": {f"n{number}": "x"}}
    span |= {"parentId": "1"} if number > 1 else {}
    return span | {"localEndpoint": {"serviceName": "web"}} | ({"timestamp": timestamp} if timestamp else {})


def _found(collector: CollectorProcess, terms: str) -> list[str]:
    query = f"endTs={NOW // 1_000}&lookback={6 * HOUR // 1_000}&annotationQuery={terms}"
    return [trace[0]["traceId"] for trace in json.loads(collector.get(f"/api/v2/traces?{query}")[1])]


def test_trace_is_found_by_spans_hours_apart_as_soon_as_they_are_acknowledged(tmp_path: Path) -> None:
    """Each span comes after the table was made, hours later or without a time; after a restart as well."""
    with CollectorProcess(tmp_path / "data") as collector:
        for number, timestamp in ((1, NOW - 5 * HOUR), (2, NOW - HOUR), (3, None)):
            assert 202 == collector.post("/api/v2/spans", json.dumps([_span(7, number, timestamp)]).encode())[0]
            terms = "%20and%20".join(f"n{n}" for n in range(1, number + 1))
            assert ["0000000000000007"] == _found(collector, terms)
        collector.stop()
    with CollectorProcess(tmp_path / "data") as collector:
        assert ["0000000000000007"] == _found(collector, "n1%20and%20n2%20and%20n3")
