"""The load generator: a process of its own, with every body encoded before the first is sent.

``python -m benchmarks.load http PORT BATCH CONNECTIONS TRACES END_US FIRST LAST`` or
``... udp PORT SPANS_A_SECOND TRACES END_US FIRST LAST``. Prints ``ready``, waits for a line on standard input, sends,
prints a JSON object. What it costs itself is not counted: the collector's own CPU is read from outside.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

from benchmarks.spans import Data

_DATAGRAM_SPANS = 30  # 16 KB, as clew's client sends them on one host
_HEAD = (
    b"POST /api/v2/spans HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
)


def post(port: int, bodies: list[bytes], connections: int) -> dict[str, Any]:
    """Post all bodies over so many connections, each with one request under way; 202 means durable."""
    requests = iter([(_HEAD % len(body)) + body for body in bodies])
    lock = threading.Lock()
    waits: list[float] = []
    refused: list[str] = []

    def work() -> None:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            while (request := _next(requests, lock)) is not None:
                begun = time.perf_counter()
                connection.sendall(request)
                answer = connection.recv(65_536)
                waits.append(time.perf_counter() - begun)
                if not answer.startswith(b"HTTP/1.1 202"):
                    refused.append(answer[:100].decode("latin-1"))

    threads = [threading.Thread(target=work) for _ in range(connections)]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - begun
    waits.sort()
    return {
        "seconds": seconds,
        "requests": len(waits),
        "refused": len(refused),
        "p50_ms": waits[len(waits) // 2] * 1e3,
        "p99_ms": waits[len(waits) * 99 // 100] * 1e3,
    }


def _next(requests: Iterator[bytes], lock: threading.Lock) -> bytes | None:
    with lock:
        return next(requests, None)


def throw(port: int, bodies: list[bytes], a_second: float) -> dict[str, Any]:
    """Send datagrams, so many a second, in bursts of 10 ms."""
    begun = time.perf_counter()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect(("127.0.0.1", port))
        for number, body in enumerate(bodies):
            ahead = number / a_second - (time.perf_counter() - begun)
            if ahead > 0.01:
                time.sleep(ahead)
            sender.send(body)
    return {"seconds": time.perf_counter() - begun, "requests": len(bodies), "refused": 0}


def main(how: str, port: str, *numbers: str) -> None:
    """Encode, wait, send, tell."""
    *way, traces, end_us, first, last = map(int, numbers)
    spans_each = way[0] if how == "http" else _DATAGRAM_SPANS
    bodies = list(Data(traces, end_us).batches(spans_each, first, last))
    print("ready", flush=True)
    sys.stdin.readline()
    a_second = way[0] / _DATAGRAM_SPANS
    result = post(int(port), bodies, way[1]) if how == "http" else throw(int(port), bodies, a_second)
    print(json.dumps({**result, "bytes": sum(map(len, bodies))}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
