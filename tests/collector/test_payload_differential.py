"""Two readers of one text are held against each other: the fast way, the careful way, and the engine."""

from __future__ import annotations

import itertools
import json
import os
import re
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import odd_payloads
from clew.collector.ingest.payload import BadPayload, Checked, check, check_carefully
from clew.collector.store import columns as layout

if TYPE_CHECKING:
    from collections.abc import Callable

    from clew.collector.store import Kind
    from clew.collector.store.clickhouse import ClickHouseStore

EXAMPLES = int(os.environ.get("CLEW_TEST_EXAMPLES", "150"))
_tokens = itertools.count()
_run = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
_run_batches = settings(_run, max_examples=max(EXAMPLES // 4, 1))  # of 20 to 40 payloads, one insert each


def _judged(read: Callable[[Kind, bytes], Checked], kind: Kind, payload: bytes) -> Any:
    """Return what a reader understood, or its refusal, which must name an index where the payload is JSON at all."""
    try:
        checked = read(kind, payload)
    except BadPayload as error:
        bad = error
    else:
        items = json.loads(b"[%b]" % checked.rows)
        assert checked.items == len(items)
        return items
    assert bad.reason in ("malformed", "nesting") or re.match(r"(span|log record) \d", str(bad))
    assert str(bad).isprintable()
    return "refused"


def _bare(value: Any) -> Any:
    """Leave out what stands for "absent"."""
    if isinstance(value, dict):
        return {key: bare for key, item in value.items() if (bare := _bare(item)) not in (None, False, 0, "", {}, [])}
    return value


@_run
@given(odd_payloads.span_payloads())
def test_fast_and_careful_way_agree(payload: bytes) -> None:
    """Both refuse it, or both read the same spans."""
    fast, careful = _judged(check, "spans", payload), _judged(check_carefully, "spans", payload)

    assert "refused" not in (fast, careful) or fast == careful
    for one, other in zip(fast, careful, strict=True) if fast != "refused" else ():
        assert {**_bare(other), "tags": other.get("tags", {})} == {**_bare(one), "tags": one.get("tags", {})}


@_run_batches
@given(st.lists(odd_payloads.span_payloads(), min_size=20, max_size=40))
def test_engine_reads_spans_as_the_check_understood_them(store: ClickHouseStore, payloads: list[bytes]) -> None:
    """Whatever was not refused is stored, every field as it was understood."""
    understood = [item for payload in payloads for item in _items("spans", payload)]

    assert _sorted(_span_row(item) for item in understood) == _stored(store, "spans", understood)


@_run_batches
@given(st.lists(odd_payloads.log_payloads(), min_size=20, max_size=40))
def test_engine_reads_log_records_as_the_check_understood_them(store: ClickHouseStore, payloads: list[bytes]) -> None:
    """The same for the lines of logs; a key given twice has its last value."""
    understood = [item for payload in payloads for item in _items("logs", payload)]

    assert _sorted(_record_row(item) for item in understood) == _stored(store, "logs", understood)


def _items(kind: Kind, payload: bytes) -> list[Any]:
    items = _judged(check, kind, payload)
    return [] if items == "refused" else list(items)


def _stored(store: ClickHouseStore, kind: Kind, items: list[Any]) -> list[str]:
    """Store the items through the real engine and read them back."""
    for table in ("spans", "logs"):
        store._writer.command(f"TRUNCATE TABLE {table}")
    if items:
        store.insert(kind, json.dumps(items, ensure_ascii=False).encode(), f"differential-{next(_tokens)}")
    columns = layout.selected(layout.SPANS if kind == "spans" else layout.LOGS)
    return _sorted(store._writer.query(f"SELECT {columns} FROM {kind}").named_results())


def _sorted(rows: Any) -> list[str]:
    return sorted(json.dumps(row, sort_keys=True) for row in rows)


def _hex(text: str, *sizes: int) -> str:
    """Pad an id to its size; a longer one that fits into the smaller size is the smaller."""
    return next(text.lstrip("0").zfill(size) for size in sizes if len(text.lstrip("0")) <= size)


def _end(item: dict[str, Any], side: str) -> dict[str, Any]:
    endpoint = item.get(f"{side}Endpoint", {})
    return {
        f"{side}_service": endpoint.get("serviceName", "").lower(),
        f"{side}_ipv4": endpoint.get("ipv4", ""),
        f"{side}_ipv6": endpoint.get("ipv6", ""),
        f"{side}_port": endpoint.get("port", 0),
    }


def _span_row(item: dict[str, Any]) -> dict[str, Any]:
    parent = item.get("parentId", "").lstrip("0")
    return {
        "trace_id": _hex(item["traceId"], 16, 32),
        "span_id": _hex(item["id"], 16),
        "parent_id": _hex(parent, 16) if parent else "",
        "timestamp": item.get("timestamp", 0),
        "duration": item.get("duration", 0),
        "kind": item.get("kind", ""),
        "name": item.get("name", "").lower(),
        **_end(item, "local"),
        **_end(item, "remote"),
        "debug": item.get("debug", False),
        "shared": item.get("shared", False),
        "tags": item.get("tags", {}),
        "annotation_ts": [annotation["timestamp"] for annotation in item.get("annotations", [])],
        "annotation_values": [annotation["value"] for annotation in item.get("annotations", [])],
    }


def _record_row(item: dict[str, Any]) -> dict[str, Any]:
    trace_id, span_id = item.get("traceId", ""), item.get("id", "")
    return {
        "timestamp": item["timestamp"],
        "service": item["service"].lower(),
        "level": item.get("level", "").upper(),
        "logger": item.get("logger", ""),
        "message": item["message"],
        "trace_id": _hex(trace_id, 16, 32) if trace_id.strip("0") else "",
        "span_id": _hex(span_id, 16) if span_id.strip("0") else "",
        "exception": item.get("exception", ""),
    }
