"""The store's contract, on the real engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from clew.collector.ingest.payload import check
from clew.collector.query import Query
from clew.collector.store import StoreError, UnreadableRows
from clew.collector.store import columns as layout
from clew.collector.store.schema import Keeping

if TYPE_CHECKING:
    from clew.collector.store.clickhouse import ClickHouseStore

KEEPING = Keeping(7 * 86_400, 90 * 86_400, 0)
NO_SPAN = {
    "parent_id": "", "timestamp": 0, "duration": 0, "kind": "", "name": "",
    "local_service": "", "local_ipv4": "", "local_ipv6": "", "local_port": 0,
    "remote_service": "", "remote_ipv4": "", "remote_ipv6": "", "remote_port": 0,
    "debug": False, "shared": False, "tags": {}, "annotation_ts": [], "annotation_values": [],
}  # fmt: skip


def _insert(store: ClickHouseStore, *spans: dict[str, Any], token: str = "t") -> None:
    store.insert("spans", b"[%b]" % check("spans", json.dumps(spans).encode()).rows, token)


def _rows(store: ClickHouseStore, table: str = "spans") -> list[dict[str, Any]]:
    columns = layout.selected(layout.SPANS if table == "spans" else layout.LOGS)
    return list(store._writer.query(f"SELECT {columns} FROM {table} ORDER BY trace_id, span_id").named_results())


def test_whole_span_comes_back(store: ClickHouseStore) -> None:
    """Every field of Zipkin's model is kept; names are in lower case, as Zipkin has them."""
    _insert(
        store,
        {
            "traceId": "463ac35c9f6413ad48485a3953bb6124",
            "id": "a",
            "parentId": "b",
            "kind": "CLIENT",
            "name": "GET /Ä",
            "timestamp": 1_472_470_996_199_000,
            "duration": 207_000,
            "debug": True,
            "shared": True,
            "localEndpoint": {"serviceName": "FrontEnd", "ipv4": "1.2.3.4", "ipv6": "2001:DB8::C001", "port": 8080},
            "remoteEndpoint": {"serviceName": "BackEnd", "ipv4": "5.6.7.8", "port": 65535},
            "tags": {"http.path": "/Api", "": "x"},
            "annotations": [{"timestamp": 5, "value": "Foo"}, {"timestamp": 4, "value": ""}],
        },
    )

    expected = {
        "trace_id": "463ac35c9f6413ad48485a3953bb6124", "span_id": "000000000000000a", "parent_id": "000000000000000b",
        "timestamp": 1_472_470_996_199_000, "duration": 207_000, "kind": "CLIENT", "name": "get /ä",
        "local_service": "frontend", "local_ipv4": "1.2.3.4", "local_ipv6": "2001:db8::c001", "local_port": 8080,
        "remote_service": "backend", "remote_ipv4": "5.6.7.8", "remote_ipv6": "", "remote_port": 65535,
        "debug": True, "shared": True, "tags": {"http.path": "/Api", "": "x"},
        "annotation_ts": [5, 4], "annotation_values": ["Foo", ""],
    }  # fmt: skip
    assert [expected] == _rows(store)


def test_least_span_comes_back_without_what_it_had_not(store: ClickHouseStore) -> None:
    """Two ids are a span; null is absent; a high half of zeros is the same trace as without it."""
    _insert(store, {"traceId": "1a", "id": "b", "tags": None, "localEndpoint": None, "parentId": None})
    _insert(store, {"traceId": "000000000000000000000000000000ff", "id": "c"}, token="u")

    assert [
        {**NO_SPAN, "trace_id": "000000000000001a", "span_id": "000000000000000b"},
        {**NO_SPAN, "trace_id": "00000000000000ff", "span_id": "000000000000000c"},
    ] == _rows(store)


@pytest.mark.parametrize(
    ("given", "ipv4", "ipv6"),
    [
        ({"ipv4": "1.2.3.400"}, "", ""),
        ({"ipv4": "1.2.3"}, "", ""),
        ({"ipv4": "1.2.3.4.5"}, "", ""),
        ({"ipv6": "::ffff:1.2.3.4"}, "1.2.3.4", ""),
        ({"ipv4": "fe80::0:1"}, "", "fe80::1"),
        ({"ipv6": "1.2.3.4"}, "1.2.3.4", ""),
        ({"ipv6": "::"}, "", "::"),
        ({"ipv6": "::1.2.3.4"}, "1.2.3.4", ""),
        ({"ipv4": "01.2.3.4"}, "01.2.3.4", ""),
        ({"ipv6": "::1"}, "", "::1"),
        ({"ipv6": "junk"}, "", ""),
        ({"ipv4": "1.2.3.4", "ipv6": "fe80::0:1"}, "1.2.3.4", "fe80::1"),
    ],
)
def test_addresses_are_canonical_or_dropped(store: ClickHouseStore, given: Any, ipv4: str, ipv6: str) -> None:
    """As Zipkin does: what is no address is ignored, a mapped IPv4 address is one."""
    _insert(store, {"traceId": "1", "id": "1", "localEndpoint": given, "remoteEndpoint": given})

    row = _rows(store)[0]
    assert (ipv4, ipv6, ipv4, ipv6) == tuple(
        row[name] for name in ("local_ipv4", "local_ipv6", "remote_ipv4", "remote_ipv6")
    )


@pytest.mark.parametrize("timestamp", [-5, 0, 1, 2**63 - 1])
def test_any_timestamp_is_storable(store: ClickHouseStore, timestamp: int) -> None:
    """From before the epoch (absent) to far beyond any calendar."""
    _insert(store, {"traceId": "1", "id": "1", "timestamp": timestamp, "duration": timestamp})

    assert [max(timestamp, 0)] * 2 == [_rows(store)[0][name] for name in ("timestamp", "duration")]


def test_same_token_stores_once_in_every_table(store: ClickHouseStore) -> None:
    """A repeated insert changes nothing; another token does."""
    span = {"traceId": "1", "id": "1", "localEndpoint": {"serviceName": "a"}}
    for token in ("t", "t", "u"):
        _insert(store, span, token=token)

    counts = [
        store._writer.query(f"SELECT count() FROM {table}").result_rows[0][0]
        for table in ("spans", "trace_index", "names")
    ]
    assert [2, 2, 2] == counts


def test_unreadable_rows_are_told_from_failure(store: ClickHouseStore) -> None:
    """Bad JSON is their fault and stores nothing; a statement that fails is ours."""
    for rows in (b'[{"traceId":"1","id":"1","timestamp":"x"}]', b'[{"traceId":', b'[{"id":"1","id":"2"}]'):
        with pytest.raises(UnreadableRows):
            store.insert("spans", rows, "t")
    with pytest.raises(StoreError):
        store.select("read_traces", {})

    assert [] == _rows(store)


def test_rows_of_log_records_come_back(store: ClickHouseStore) -> None:
    """With and without a trace; the level is in upper case."""
    store.insert(
        "logs",
        b'[{"timestamp":5,"service":"Orders","level":"info","logger":"app","message":"hi","traceId":"1a","id":"b",'
        b'"exception":"Traceback"},{"timestamp":6,"service":"orders","message":"alone"}]',
        "t",
    )

    assert [
        {"timestamp": 6, "service": "orders", "level": "", "logger": "", "message": "alone", "trace_id": "",
         "span_id": "", "exception": ""},
        {"timestamp": 5, "service": "orders", "level": "INFO", "logger": "app", "message": "hi",
         "trace_id": "000000000000001a", "span_id": "000000000000000b", "exception": "Traceback"},
    ] == _rows(store, "logs")  # fmt: skip


def test_spans_of_many_days_are_one_insert(store: ClickHouseStore) -> None:
    """Clients' clocks do not make partitions: a payload over 400 days is stored as any other."""
    day_us = 86_400_000_000
    _insert(store, *({"traceId": "1", "id": f"{n:x}", "timestamp": n * day_us} for n in range(1, 401)))

    assert 400 == len(_rows(store))


def test_oldest_rows_can_be_dropped(store: ClickHouseStore) -> None:
    """Part by part, each tells its bytes; the newest of a table stays."""
    store._writer.command("SYSTEM STOP MERGES spans")
    try:
        _insert(store, {"traceId": "1", "id": "1"}, token="t")
        _insert(store, {"traceId": "2", "id": "2"}, token="u")
        before = store.disk_bytes()
        dropped = store.drop_oldest()
        assert 0 < dropped < before
        assert ["0000000000000002"] == [row["trace_id"] for row in _rows(store)]
        while store.drop_oldest():
            pass
        assert ["0000000000000002"] == [row["trace_id"] for row in _rows(store)]
    finally:
        store._writer.command("SYSTEM START MERGES spans")


def test_columns_are_what_the_tables_have(store: ClickHouseStore) -> None:
    """The one list and the tables do not drift apart."""
    for table, columns in (("spans", layout.SPANS), ("logs", layout.LOGS)):
        found = store._writer.query("SELECT name FROM system.columns WHERE table = {t:String}", parameters={"t": table})
        assert [column.name for column in columns] == [row[0] for row in found.result_rows]


def test_rows_are_made_by_this_version_in_a_directory_of_an_older_one(store: ClickHouseStore) -> None:
    """What turns JSON into rows is renewed at the start; a moment before 1970 comes back as it was."""
    older = layout.sourced(layout.SPANS).replace("localEndpoint.port AS", "toUInt16(7) AS").replace("$GRANULE", "600")
    store._writer.command(f"ALTER TABLE spans_view MODIFY QUERY SELECT {older} FROM spans_in")
    store.prepare(KEEPING, ("http.method", "environment"))

    _insert(
        store,
        {
            "traceId": "1",
            "id": "1",
            "localEndpoint": {"port": 80},
            "annotations": [{"timestamp": -1, "value": "x"}],
        },
    )
    assert (80, [-1]) == tuple(_rows(store)[0][name] for name in ("local_port", "annotation_ts"))


def test_retention_follows_the_setting(store: ClickHouseStore) -> None:
    """Tables that are there already keep their rows as long as the latest start said."""
    store.prepare(KEEPING._replace(retain_s=3_600), ())
    try:
        assert "toIntervalSecond(3600)" in str(store._writer.command("SHOW CREATE TABLE spans"))
    finally:
        store.prepare(KEEPING, ("http.method", "environment"))
    assert "toIntervalSecond(604800)" in str(store._writer.command("SHOW CREATE TABLE spans"))


def test_damaged_part_is_set_aside(store: ClickHouseStore, caplog: pytest.LogCaptureFixture) -> None:
    """One flipped byte on disk costs its part, not every question; the log names the part and what it held."""
    store._writer.command("SYSTEM STOP MERGES spans")
    try:
        _insert(store, {"traceId": "1", "id": "1"}, {"traceId": "1", "id": "2"}, token="t")
        _insert(store, {"traceId": "2", "id": "1"}, token="u")
        sql = "SELECT name, path FROM system.parts WHERE table = 'spans' AND active ORDER BY name LIMIT 1"
        name, path = store._writer.query(sql).result_rows[0]
        data = Path(path, "data.bin")
        damaged = bytearray(data.read_bytes())
        damaged[len(damaged) // 2] ^= 4
        data.write_bytes(damaged)

        spans = [span.trace_id for id in "12" for page in Query(store).trace(id.zfill(16)) for span in page]

        assert ["0000000000000002"] == spans
        assert f"part {name} of spans is damaged and was set aside with its 2 rows" in caplog.text
    finally:
        store._writer.command("SYSTEM START MERGES spans")
