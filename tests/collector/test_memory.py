"""--max-memory: what arrives at once is bounded, and who is refused is told to come again."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import time
from pathlib import Path

from clew.collector.memory import Room, shares
from collector.collector_process import CollectorProcess, wait_until

SPAN = b'[{"traceId":"%x","id":"b","timestamp":1700000000000000,"duration":1,"name":"x"}]'


def _peak_mb(pid: int) -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) // 1_000


def test_room_is_given_and_taken_back() -> None:
    """Who is alone gets what it asks for, however much; with others it must fit."""
    room = Room(10)
    assert room.take(25)
    assert not room.take(1)
    room.give_back(25)
    assert [True, True, False] == [room.take(5), room.take(5), room.take(1)]


def test_shares_stay_within_the_whole() -> None:
    """What is received and what the engine counts are together no more than was allowed."""
    for size in (500_000_000, 1_500_000_000, 64_000_000_000):
        part = shares(size)
        assert part.engine + part.bodies <= size
        assert part.question < part.engine


def test_bodies_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    """Forty half-sent bodies of 16 MB: some are told 503 and when to come again; small ones are taken afterwards."""
    with CollectorProcess(tmp_path / "data", "--max-memory", "500MB") as collector, contextlib.ExitStack() as stack:
        head = b"POST /api/v2/spans HTTP/1.1\r\nHost: localhost\r\nContent-Length: 16000000\r\n\r\n["
        refused = b""
        for _ in range(40):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", collector.port), timeout=30))
            with contextlib.suppress(ConnectionError):  # it hangs up on whom it refused
                connection.sendall(head + b" " * 12_000_000)
            connection.setblocking(False)
            with contextlib.suppress(BlockingIOError, ConnectionError):
                refused = refused or connection.recv(1_000)
        assert b"503" in refused.splitlines()[0]
        assert b"retry-after" in refused.lower()
        assert _peak_mb(collector.process.pid) < 600
        stack.close()
        wait_until(lambda: collector.post("/api/v2/spans", SPAN % 1)[0] == 202)
        assert collector.counter('http_rejected_total{reason="memory"}') > 0


def test_large_bodies_and_a_burst_stay_within_memory(tmp_path: Path) -> None:
    """Twenty bodies of 10 MB one after the other: the groups that they make are cut to the share of an insert."""
    with CollectorProcess(tmp_path / "data", "--max-memory", "700MB") as collector:
        now_us = time.time_ns() // 1_000
        for batch in range(1, 21):
            spans = [
                {"traceId": f"{batch:x}", "id": f"{n + 1:x}", "timestamp": now_us, "tags": {"k": "v" * 400}}
                for n in range(20_000)
            ]
            assert 202 == collector.post("/api/v2/spans", json.dumps(spans).encode())[0]
        assert 200 == collector.get("/api/v2/services")[0]
        wait_until(lambda: collector.counter("spool_bytes") == 0, 60)
        assert _peak_mb(collector.process.pid) < 800
        assert 400_000 == collector.counter('spans_stored_total{source="http"}')
