"""Run in an interpreter of its own, for the engine opens one directory a process: `make`, `open` or `look`, as JSON."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from clew.collector.derive import Deriver
from clew.collector.derive.deriver import SPANS_A_PASS
from clew.collector.ingest.payload import check
from clew.collector.patience import Patience
from clew.collector.query import Query, RateFilter
from clew.collector.query.reader import Reader
from clew.collector.store import StoreError, clickhouse, migrations

NOON = 1_795_000_000_000_000


def make(directory: Path, schema: Path) -> None:
    """Make a directory as an older version did, and put spans and a log line into it."""
    client = clickhouse.connect(directory, "", 1_200_000_000, clickhouse.INSERT_SETTINGS)
    for statement in schema.read_text().split("\n;\n"):
        client.command(statement)
    services = ("web", "orders")
    spans = [
        {
            "traceId": f"{trace:016x}{trace + 1:016x}",
            "id": f"{number + 1:x}",
            **({"parentId": "1"} if number else {}),
            "kind": ("CLIENT", "SERVER")[number],
            "name": "get",
            "timestamp": NOON + trace * 60_000_000 + number,
            "duration": 1_000,
            "localEndpoint": {"serviceName": services[number]},
        }
        for trace in range(30)
        for number in range(2)
    ]
    client.raw_insert(
        "spans_in", insert_block=b"[%b]" % check("spans", json.dumps(spans).encode()).rows, fmt="JSONEachRow"
    )
    line = {"timestamp": NOON, "message": "hello", "traceId": "ff", "service": "web"}
    client.raw_insert("logs_in", insert_block=json.dumps([line]).encode(), fmt="JSONEachRow")
    client.close()


class Dying:
    """A handle whose process is gone before its n-th command."""

    def __init__(self, client: Any, left: int) -> None:
        self._client = client
        self._left = left
        self.query = client.query

    def command(self, *arguments: Any, **options: Any) -> Any:
        """As the handle's."""
        if not self._left:
            os._exit(9)
        self._left -= 1
        return self._client.command(*arguments, **options)


def open_and_die(directory: Path, commands: int) -> None:
    """Open the directory; be gone after so many commands of the migrations."""
    original = migrations.apply
    migrations.apply = lambda client, version: original(Dying(client, commands), version)  # type: ignore[arg-type]
    clickhouse.ClickHouseStore(directory).close()


def look(directory: Path) -> dict[str, Any]:
    """Return what is found in the directory."""
    try:
        store = clickhouse.ClickHouseStore(directory)
    except StoreError as error:
        return {"error": str(error)}
    query = Query(store)
    reader = Reader(store, Patience(), strict=True)
    deriver = Deriver(store)
    while deriver.run_pass(reader) >= SPANS_A_PASS:
        pass
    day = (NOON - 1, NOON + 3_600_000_000)
    found = {
        "version": migrations.version_of(store._writer),
        "spans": sum(len(page) for page in query.trace(f"{7:016x}{8:016x}")),
        "line": len(store.select("trace_buckets", {"trace_ids": ["ff".zfill(32)]})),
        "services": list(query.services()),
        "calls": sum(rate.measured.calls for rate in query.rates(*day, RateFilter())),
        "links": [(edge.caller, edge.callee, edge.measured.calls) for edge in query.edges(*day)],
        "damaged": list(store.damaged),
    }
    store.close()
    return found


def newer(directory: Path) -> None:
    """Make the directory one of a version to come."""
    store = clickhouse.ClickHouseStore(directory)
    store._writer.command("INSERT INTO migrations (version, name) VALUES (999, 'from the future')")
    store.close()


if __name__ == "__main__":
    what, directory, *rest = sys.argv[1:]
    if what == "make":
        make(Path(directory), Path(rest[0]))
    elif what == "die":
        open_and_die(Path(directory), int(rest[0]))
    elif what == "newer":
        newer(Path(directory))
    else:
        print(json.dumps(look(Path(directory))))
