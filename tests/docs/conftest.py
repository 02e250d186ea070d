"""One collector for the documents' examples, with the trace of the README's picture in it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from clew.cli._processes import Processes, free_ports
from command_line import Running, start_collector
from documents import REPOSITORY


@pytest.fixture(scope="session")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Give a running collector that holds the sample trace, begun a minute ago."""
    folder = tmp_path_factory.mktemp("collector")
    http, udp = free_ports(2)
    with Processes(folder) as processes:
        url = start_collector(processes, folder, http, "--udp", f"127.0.0.1:{udp}")
        running = Running(url, f"127.0.0.1:{udp}")
        trace = sample_trace()
        running.post("/api/v2/spans", trace["spans"])
        running.post("/api/v1/logs", {"logs": trace["logs"]})
        yield running


def sample_trace() -> dict[str, list[dict[str, Any]]]:
    """Return the trace of the picture, moved to a minute ago: the collector looks back no further than a week."""
    trace: dict[str, list[dict[str, Any]]] = json.loads((REPOSITORY / "docs/trace.json").read_text(encoding="utf-8"))
    begin = min(span["timestamp"] for span in trace["spans"])
    moved_us = time.time_ns() // 1_000 - 60_000_000 - begin
    for item in [*trace["spans"], *trace["logs"]]:
        item["timestamp"] += moved_us
    return trace
