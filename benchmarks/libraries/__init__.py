"""One module a library; in each, one function a row of the table, which sets the library up and returns a ``Case``.

A module has the rows that its library can do. Each runs in a process of its own, so they may patch and configure at
will. Where spans go: ``BENCH_HTTP`` and ``BENCH_UDP`` name a sink in another process, which answers and forgets.
"""

from __future__ import annotations

import os


def http_sink() -> tuple[str, int]:
    """Return host and port of the HTTP sink."""
    host, _, port = os.environ["BENCH_HTTP"].partition(":")
    return host, int(port)


def udp_sink() -> str:
    """Return ``host:port`` of the UDP sink."""
    return os.environ["BENCH_UDP"]
