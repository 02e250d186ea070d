"""What is derived says what the spans say: exactly once, whatever comes late, twice, or is killed in between."""

from __future__ import annotations

import json
import math
import random
import time
from typing import TYPE_CHECKING, Any

import pytest

from clew.collector.derive import Deriver
from clew.collector.derive.deriver import SPANS_A_PASS
from clew.collector.ingest.payload import check
from clew.collector.patience import Patience
from clew.collector.query import Query, RateFilter
from clew.collector.query.dependencies import derived_links
from clew.collector.query.reader import Reader
from clew.collector.trace import sketch

if TYPE_CHECKING:
    from clew.collector.store.clickhouse import ClickHouseStore

MINUTE_US = 60_000_000
NOON = int(time.time()) // 86_400 * 86_400_000_000 - 43_200_000_000  # yesterday's
DAY = (NOON - 3_600_000_000, NOON + 4 * 3_600_000_000)
SERVICES = ("web", "orders", "stock", "")
BY_OPERATION = RateFilter(by_operation=True)


def _trace(luck: random.Random, begin: int) -> list[dict[str, Any]]:
    """Make a chain of calls; some fail, some go on into the next minutes."""
    trace_id, spans, parent = f"{luck.getrandbits(128):032x}", [], ""
    for depth in range(luck.randint(1, 5)):
        begin += luck.choice((10, 1_000, 40_000_000)) if depth else 0
        span: dict[str, Any] = {
            "traceId": trace_id,
            "id": f"{luck.getrandbits(64):016x}",
            "kind": luck.choice(("SERVER", "CLIENT", "PRODUCER")),
            "name": luck.choice(("get /a", "get /b")),
            "timestamp": begin,
            "duration": luck.choice((0, 1, 900, 25_000, 4_000_000)),
            "localEndpoint": {"serviceName": luck.choice(SERVICES)},
            "remoteEndpoint": {"serviceName": luck.choice(SERVICES)},
            "tags": {"error": "x"} if luck.random() < 0.2 else {},
        }
        spans.append(span | ({"parentId": parent} if parent else {}))
        parent = span["id"]
    return spans


def _insert(store: ClickHouseStore, spans: list[dict[str, Any]]) -> None:
    store.insert("spans", check("spans", json.dumps(spans).encode()).rows, f"{random.random()}")


def _derive(store: ClickHouseStore, deriver: Deriver | None = None) -> None:
    deriver = deriver or Deriver(store)
    reader = Reader(store, Patience(), strict=True)
    while deriver.run_pass(reader) >= SPANS_A_PASS:
        pass


def _rates(store: ClickHouseStore) -> dict[tuple[str, str, str], tuple[int, int, int, dict[int, int], int]]:
    found = Query(store).rates(*DAY, BY_OPERATION)
    return {
        (rate.service, rate.name, rate.kind): (
            rate.measured.calls,
            rate.measured.errors,
            rate.measured.duration_us,
            dict(sorted(rate.measured.durations.items())),
            rate.measured.slow_us,
        )
        for rate in found
    }


def _expected_rates(
    spans: list[dict[str, Any]],
) -> dict[tuple[str, str, str], tuple[int, int, int, dict[int, int], int]]:
    by_operation: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for span in spans:
        service = span["localEndpoint"]["serviceName"]
        if service:
            by_operation.setdefault((service, span["name"], span["kind"]), []).append(span)
    expected = {}
    for operation, those in by_operation.items():
        durations = [span["duration"] for span in those]
        buckets = sketch.merged({sketch.bucket_of(duration): 1} for duration in durations if duration)
        errors = sum("error" in span["tags"] for span in those)
        expected[operation] = len(those), errors, sum(durations), dict(sorted(buckets.items())), max(durations)
    return expected


def _links(store: ClickHouseStore) -> tuple[set[Any], set[Any]]:
    """Return what was derived, and what the spans say."""
    derived = derived_links(Reader(store, Patience(), strict=True), *DAY)
    return set(derived), set(Query(store).links(*DAY)[0])


@pytest.mark.parametrize("seed", range(3))
def test_derived_is_what_spans_say_whatever_the_order(store: ClickHouseStore, seed: int) -> None:
    """Spans arrive in any order, in many inserts, with derivations in between, by several derivers."""
    luck = random.Random(seed)
    spans = [span for _ in range(150) for span in _trace(luck, NOON + luck.randrange(150) * MINUTE_US // 2)]
    luck.shuffle(spans)
    kept = Deriver(store)
    for at in range(0, len(spans), 60):
        _insert(store, spans[at : at + 60])
        _derive(store, luck.choice((None, kept)))

    assert _expected_rates(spans) == _rates(store)
    derived, expected = _links(store)
    assert expected == derived


def test_span_reported_twice_counts_once(store: ClickHouseStore) -> None:
    """A span that was re-sent, or told when it began and again when it ended, is one call with its whole duration."""
    span = {"traceId": "1", "id": "1", "timestamp": NOON, "name": "a", "localEndpoint": {"serviceName": "web"}}
    _insert(store, [span | {"kind": "SERVER"}])
    _derive(store)
    _insert(store, [span | {"kind": "SERVER", "duration": 1_000}] * 2)
    _derive(store)

    assert {("web", "a", "SERVER"): (1, 0, 1_000, {sketch.bucket_of(1_000): 1}, 1_000)} == _rates(store)


def test_derivation_that_sees_less_does_not_count(store: ClickHouseStore) -> None:
    """What was derived outlives its spans, and a span that comes after they have gone takes nothing back."""
    luck = random.Random(7)
    spans = [span for _ in range(20) for span in _trace(luck, NOON)]
    _insert(store, spans)
    _derive(store)
    before = _rates(store), _links(store)[0]

    store._writer.command("TRUNCATE TABLE spans")
    _insert(store, _trace(luck, NOON))
    deriver = Deriver(store)
    for _ in range(3):
        _derive(store, deriver)

    assert before == (_rates(store), _links(store)[0])
    changed = store.select("derived_minutes", {"rates": True, "changed": True, "limit": 10})
    assert [] == changed, "nothing is tried again for ever"


def test_rates_over_time_add_up(store: ClickHouseStore) -> None:
    """Hours and ten minutes say together what the minutes say; a late span changes them, too."""
    luck = random.Random(3)
    spans = [span for n in range(120) for span in _trace(luck, NOON + n * MINUTE_US)]
    _insert(store, spans)
    _derive(store)
    late = _trace(luck, NOON + 5 * MINUTE_US)
    _insert(store, late)
    _derive(store)

    calls = sum(span["localEndpoint"]["serviceName"] == "web" for span in spans + late)
    for every in (0, 60, 600, 3_600):
        found = Query(store).rates(*DAY, RateFilter(service="web", every=every))
        assert calls == sum(rate.measured.calls for rate in found), every
        assert all(rate.measured.begin % (every or 1) == 0 for rate in found)


def test_percentiles_are_within_the_stated_error() -> None:
    """Any durations: the histogram's percentile is at most 2.2 % off the exact one."""
    luck = random.Random(5)
    durations = sorted(int(luck.lognormvariate(9, 2)) + 1 for _ in range(5_000))
    found = sketch.merged({sketch.bucket_of(duration): 1} for duration in durations)

    for share in (0.01, 0.5, 0.95, 0.99, 1.0):
        exact = durations[max(0, math.ceil(share * 5_000) - 1)]
        assert abs(sketch.quantile(found, share) - exact) <= exact * sketch.ERROR + 1
