"""A trace as a person looks at it: order, depth, corrected clocks, loss."""

from __future__ import annotations

from clew.collector.trace import view_trace
from zipkin_spans import make


def rows(view: dict, *names: str) -> list[tuple]:  # type: ignore[type-arg]
    return [tuple(row[name] for name in names) for row in view["spans"]]


def test_view_holds_everything_in_reading_order() -> None:
    """Depth first, children by time; raw and corrected times side by side; counts by service."""
    view = view_trace(
        [
            make("2", "1", "CLIENT", "web", ip="10.0.0.1", timestamp=1_020, duration=20, name="call"),
            make(
                "3", "2", "SERVER", "app", ip="10.0.0.2", timestamp=510, duration=10, name="serve", notes=((512, "x"),)
            ),
            make("1", None, "SERVER", "web", ip="10.0.0.1", timestamp=1_000, duration=100, error=True, name="root"),
            make("4", "1", None, "web", timestamp=1_010, duration=5, name="local"),
        ]
    )
    assert [
        ("root", 0, 1_000, 1_000, 0, False),
        ("local", 1, 1_010, 1_010, 0, False),
        ("call", 1, 1_020, 1_020, 0, False),
        ("serve", 2, 1_025, 510, -515, False),
    ] == rows(view, "name", "depth", "timestamp", "rawTimestamp", "skewUs", "orphan")
    assert [{"timestamp": 1_027, "value": "x"}] == view["spans"][3]["annotations"]
    assert [(75, 75), (5, 5), (10, 10), (10, 10)] == rows(view, "selfUs", "pathUs")
    assert [(1, 1_010), (4, 1_015), (1, 1_020), (2, 1_025), (3, 1_035), (2, 1_040), (1, 1_100)] == [
        (int(segment["spanId"], 16), segment["endUs"]) for segment in view["criticalPath"]
    ]
    assert ["error"] == [finding.kind for finding in view["findings"]]
    for name in ("spans", "criticalPath", "findings"):
        del view[name]
    assert {
        "traceId": "000000000000000a",
        "timestamp": 1_000,
        "durationUs": 100,
        "services": [{"name": "web", "spans": 3, "errors": 1}, {"name": "app", "spans": 1, "errors": 0}],
        "errors": 1,
        "missing": {"root": False, "parents": [], "atLeast": 0},
        "dropped": {},
        "traceDropped": 0,
        "truncated": False,
    } == view


def test_missing_spans_are_named() -> None:
    """A headless trace says so, and which parents never came."""
    view = view_trace([make("b", "a", timestamp=1), make("c", "a", timestamp=2), make("d", "b", timestamp=3)])
    assert {"root": True, "parents": ["000000000000000a"], "atLeast": 1} == view["missing"]
    assert [("b", 0, True), ("d", 1, False), ("c", 0, True)] == [
        (id.lstrip("0"), depth, orphan) for id, depth, orphan in rows(view, "id", "depth", "orphan")
    ]


def test_reported_loss_is_summed() -> None:
    """By reason over all spans; nonsense from elsewhere is passed over."""
    view = view_trace(
        [
            make("1", tags={"clew.dropped": "queue_full=17,send_failed=2", "clew.trace_dropped": "3"}),
            make("2", "1", tags={"clew.dropped": "queue_full=1", "clew.trace_dropped": "4"}),
            make("3", "1", tags={"clew.dropped": "=5,x,y=-1,z=1e9,w=" + "9" * 30, "clew.trace_dropped": "many"}),
        ]
    )
    assert ({"queue_full": 18, "send_failed": 2}, 7) == (view["dropped"], view["traceDropped"])


def test_no_span_is_left_out() -> None:
    """Circles, second spans under an id and second roots all appear, once."""
    view = view_trace(
        [
            make("1", timestamp=1),
            make("2", "3", timestamp=5),
            make("3", "2", timestamp=9),
            make("4", "1", None, "web", timestamp=6),
            make("4", "1", None, "app", timestamp=7),
            make("5", timestamp=8),
        ]
    )
    assert ["1", "2", "3", "4", "4", "5"] == sorted(id.lstrip("0") for (id,) in rows(view, "id"))


def test_spans_without_time_have_no_extent() -> None:
    """Nothing is made up."""
    view = view_trace([make("1"), make("2", "1")])
    assert (0, 0, [0, 0]) == (view["timestamp"], view["durationUs"], [time for (time,) in rows(view, "timestamp")])


def test_large_and_deep_traces_are_shown() -> None:
    """Ten thousand spans, five thousand of them in one chain."""
    chain = [make("1", timestamp=1), *(make(f"{n:x}", f"{n - 1:x}", timestamp=n) for n in range(2, 5_001))]
    flat = [make(f"{n:x}", "1", timestamp=n) for n in range(5_001, 10_001)]
    view = view_trace(chain + flat)
    assert (10_000, 4_999) == (len(view["spans"]), max(depth for (depth,) in rows(view, "depth")))
