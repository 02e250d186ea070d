"""Numbers through the real HTTP API, against plain counting over the same spans."""

from __future__ import annotations

import math
import random
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from clew.collector.search import matches, parse, parse_condition, span_matches
from served import served
from zipkin_spans import insert, make

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx

    from clew.collector.store.clickhouse import ClickHouseStore
    from clew.collector.trace import Span

# Of today, for rates by the minute are kept two days; where a minute, and ten, begin.
BEGIN = (time.time_ns() // 1_000 - 3_600_000_000) // 600_000_000 * 600_000_000
END = BEGIN + 1_200_000_000 - 1
WINDOW = {"since": BEGIN, "until": END}


def shop() -> list[list[Span]]:
    """Make 300 requests over twenty minutes: web calls orders, which reads its database; some fail, some are slow."""
    dice = random.Random(7)
    traces = []
    for number in range(1, 301):
        begin = BEGIN + dice.randrange(1_190_000_000)
        slow = dice.random() < 0.1
        length = int(dice.lognormvariate(11, 1)) + (2_000_000 if slow else 0)
        tags = {"customer": str(dice.randrange(9)), "version": "2" if slow or dice.random() < 0.05 else "1"}
        failed = {"error": f"timeout after {dice.randrange(900)} ms"} if dice.random() < 0.2 else {}
        own = {"trace": f"{number:x}"}
        traces.append(
            [
                make("1", None, "SERVER", "web", **own, name="get /", timestamp=begin, duration=length, tags=tags),
                make("2", "1", "CLIENT", "web", "orders", **own, name="get", timestamp=begin, duration=length // 2),
                make("3", "2", "SERVER", "orders", **own, name="get /items", timestamp=begin + 1,
                     duration=length // 3, tags={**tags, **failed}),
                make("4", "3", "CLIENT", "orders", "db", **own, name="select items", timestamp=begin + 2,
                     duration=length // 4),
            ]
        )  # fmt: skip
    return traces


TRACES = shop()


@pytest.fixture(scope="module")
def client(engine: ClickHouseStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A collector with the shop's traces; the first fifty were sent twice."""
    import msgspec

    engine.truncate()
    for traces in (TRACES, TRACES[:50]):
        insert(engine, *(msgspec.to_builtins(span) for spans in traces for span in spans))
    with served(engine, tmp_path_factory.mktemp("served")) as client:
        yield client


def ask(client: httpx.Client, path: str, **parameters: Any) -> Any:
    answer = client.get(f"/api/v1/{path}", params={**WINDOW, **parameters})
    assert 200 == answer.status_code, answer.text
    return answer.json()


def meant(q: str, of: str) -> list[Span]:
    """Return the spans that a search means, by plain evaluation."""
    if of == "traces":
        return [spans[0] for spans in TRACES if matches(parse(q), spans)]
    return [span for spans in TRACES for span in spans if span_matches(parse_condition(q), span)]


def close(exact: list[int], share: float, found: float | None) -> bool:
    """Tell whether a percentile is within 1 % of the exact one (either neighbour where it lies between two)."""
    ordered = sorted(exact)
    place = share * (len(ordered) - 1)
    low, high = ordered[math.floor(place)], ordered[math.ceil(place)]
    return found is not None and low * 0.985 <= found <= high * 1.015


SEARCHES = [
    ("service = orders and kind = server", "spans"),
    ("duration > 100ms", "spans"),
    ("version = 2", "traces"),
    ("any{error} and any{version = 1}", "traces"),
    ("not any{error}", "traces"),
    ("web -> {error}", "traces"),
    ("", "traces"),
]


@pytest.mark.parametrize(("q", "of"), SEARCHES)
def test_series_agree_with_counting(client: httpx.Client, q: str, of: str) -> None:
    """Counts and errors exactly, percentiles within 1 %, in all and in each step."""
    spans = meant(q, of)
    answer = ask(client, "series", q=q, of=of, step=120_000_000)
    total = answer["total"]
    assert (len(spans), sum(span.failed for span in spans)) == (total["count"], total["errors"])
    for share, name in ((0.5, "p50Us"), (0.95, "p95Us"), (0.99, "p99Us")):
        assert close([span.duration for span in spans], share, total[name])
    counted = Counter((span.timestamp - BEGIN) // 120_000_000 for span in spans)
    assert [counted[place] for place in range(10)] == [point["count"] for point in answer["points"]]
    assert total["perSecond"] == pytest.approx(len(spans) / 1_200)


@pytest.mark.parametrize(("q", "of"), SEARCHES[:3])
def test_histogram_and_heatmap_agree_with_counting(client: httpx.Client, q: str, of: str) -> None:
    """Each span is in one stretch; a cell's traces are in it."""
    spans = meant(q, of)
    buckets = ask(client, "histogram", q=q, of=of)["buckets"]
    assert [sum(bucket["fromUs"] <= span.duration < bucket["toUs"] for span in spans) for bucket in buckets] == [
        bucket["count"] for bucket in buckets
    ]
    assert len(spans) == sum(bucket["count"] for bucket in buckets)
    cells = ask(client, "heatmap", q=q, of=of, step=60_000_000)["cells"]
    assert len(spans) == sum(cell["count"] for cell in cells)
    by_id = {spans[0].trace_id: spans for spans in TRACES}
    for cell in cells:
        assert 1 <= len(cell["traceIds"]) <= 3
        assert all(
            any(
                cell["fromUs"] <= span.duration < cell["toUs"]
                and cell["timestamp"] <= span.timestamp < cell["timestamp"] + 60_000_000
                for span in by_id[trace_id]
            )
            for trace_id in cell["traceIds"]
        )


def test_values_agree_with_counting(client: httpx.Client) -> None:
    """The most frequent first; how many spans have the field at all."""
    counted = Counter(span.tags["customer"] for span in meant("service = web", "spans") if "customer" in span.tags)
    answer = ask(client, "values", q="service = web", key="customer", limit=3)
    expected = sorted(counted.items(), key=lambda entry: (-entry[1], entry[0]))[:3]
    assert expected == [(entry["value"], entry["count"]) for entry in answer["values"]]
    assert (600, 300, 9) == (answer["spans"], answer["having"], answer["different"])
    kinds = ask(client, "values", q="duration > 1us", key="kind")["values"]
    assert [("CLIENT", 600), ("SERVER", 600)] == [(entry["value"], entry["count"]) for entry in kinds]


@pytest.mark.parametrize("selection", [{"selected": "duration >= 2s"}, {"min_us": 2_000_000}])
def test_what_is_different_is_found(client: httpx.Client, selection: dict[str, Any]) -> None:
    """What slow requests have in common leads the list, with its shares; by a search or a box."""
    roots = [spans[0] for spans in TRACES]
    slow = [span for span in roots if span.duration >= 2_000_000]
    rest = [span for span in roots if span.duration < 2_000_000]
    answer = ask(client, "difference", **selection)
    assert (len(slow), len(rest)) == (answer["inside"], answer["outside"])
    first, second = answer["differences"][:2]
    assert {("version", "1"), ("version", "2")} == {(first["key"], first["value"]), (second["key"], second["value"])}
    newer = first if first["value"] == "2" else second
    assert 1.0 == newer["inside"]
    assert sum(span.tags["version"] == "2" for span in rest) / len(rest) == pytest.approx(newer["outside"])


def test_services_operations_and_map_have_numbers(client: httpx.Client) -> None:
    """Of the window and of the one before, in which nothing was."""
    services = {line["service"]: line for line in ask(client, "services")["services"]}
    assert ["orders", "web"] == list(services)
    assert (300, 600) == (services["orders"]["now"]["calls"], services["orders"]["spans"])
    assert sum(span.failed for spans in TRACES for span in spans) == services["orders"]["now"]["errors"]
    assert (0, None) == (services["web"]["before"]["calls"], services["web"]["change"]["perSecond"])
    operations = ask(client, "operations", service="orders")["operations"]
    assert [("get /items", "SERVER", 300), ("select items", "CLIENT", 300)] == [
        (line["name"], line["kind"], line["now"]["calls"]) for line in operations
    ]
    exact = sorted(spans[2].duration for spans in TRACES)
    assert operations[0]["now"]["p50Us"] == pytest.approx(exact[149], rel=0.03)
    edges = {(line["caller"], line["callee"]): line["now"]["calls"] for line in ask(client, "map")["edges"]}
    assert {("web", "orders"): 300, ("orders", "db"): 300} == edges


def test_change_is_against_the_period_before(client: httpx.Client) -> None:
    """The second ten minutes against the first."""
    line = ask(client, "services", since=BEGIN + 600_000_000)["services"][1]
    first = sum(spans[0].timestamp < BEGIN + 600_000_000 for spans in TRACES)
    assert (300 - first, first) == (line["now"]["calls"], line["before"]["calls"])
    assert line["change"]["perSecond"] == pytest.approx((300 - first) / first - 1, rel=1e-6)


def test_operation_is_taken_apart(client: httpx.Client) -> None:
    """Who calls it, what it calls, whose own time it is made of."""
    view = ask(client, "operation", service="orders", name="get /items")
    assert (200, 200, 300) == (view["traces"], view["calls"], view["now"]["calls"])
    assert [("web", "get", 1.0)] == [(entry["service"], entry["name"], entry["perCall"]) for entry in view["callers"]]
    assert [("orders", "select items", 1.0)] == [
        (entry["service"], entry["name"], entry["perCall"]) for entry in view["callees"]
    ]
    assert ["select items", "get /items"] == [entry["name"] for entry in view["time"]]
    assert 1.0 == pytest.approx(sum(entry["share"] for entry in view["time"]))
    assert view["meanUs"] == pytest.approx(sum(entry["selfUs"] for entry in view["time"]))


def test_failures_that_are_alike_are_one(client: httpx.Client) -> None:
    """Numbers in their texts differ; counts over time add up."""
    failed = [span for spans in TRACES for span in spans if span.failed]
    (group,) = ask(client, "errors")["errors"]
    assert ("timeout after * ms", ["orders"], len(failed)) == (group["pattern"], group["services"], group["count"])
    times = [span.timestamp for span in failed]
    assert (min(times), max(times)) == (group["first"], group["last"])
    assert len(failed) == sum(point["count"] for point in group["points"])


@pytest.mark.parametrize(
    ("query", "text"),
    [
        (f"series?step=1&since={BEGIN}&until={END}", "step is too short: there would be more than 1000 steps"),
        ("series?of=lines", "of is one of spans, traces, not 'lines'"),
        ("series?since=9&until=5", "since lies after until, or what lies before is not kept any more"),
        ("values?q=", "key is a field such as service, or the key of a tag"),
        ("difference", "selected is a search, or from, to, min_us and max_us are a box of time and durations"),
        ("operation?service=x", "Mandatory parameter/header/attribute is missing: name"),
    ],
)
def test_mistakes_say_what_would_do(client: httpx.Client, query: str, text: str) -> None:
    """As everywhere."""
    answer = client.get(f"/api/v1/{query}")
    assert (400, {"error": text}) == (answer.status_code, answer.json())


def test_lost_spans_are_in_the_ledger(store: ClickHouseStore, tmp_path: Path) -> None:
    """What clients tell by reason and time, and what was refused here."""
    with served(store, tmp_path) as client:
        told = {"clew.dropped": "queue_full=17,too_large=1,junk,=5,x=y"}
        row = {"traceId": "a", "localEndpoint": {"serviceName": "web"}, "tags": told}
        insert(store, *({**row, "id": f"{n:x}", "timestamp": BEGIN + n * 60_000_000} for n in (1, 2)))
        assert 400 == client.post("/api/v2/spans", content=b"[{}]").status_code
        answer = ask(client, "losses", step=60_000_000)
        assert [("web", "queue_full", 34), ("web", "too_large", 2)] == [
            (loss["service"], loss["reason"], loss["count"])
            for loss in client.get("/api/v1/traces/a").json()["missing"]["losses"]
        ]
    assert [("web", "queue_full", 34), ("web", "too_large", 2)] == [
        (loss["service"], loss["reason"], loss["count"]) for loss in answer["clients"]
    ]
    assert [17, 17] == [point["count"] for point in answer["clients"][0]["points"]]
    assert ["payloads_rejected_total"] == [entry["counter"] for entry in answer["receivers"]]
    assert (0, "http", 1) == (
        answer["udpKernelDropped"], answer["receivers"][0]["source"], answer["receivers"][0]["count"],
    )  # fmt: skip
