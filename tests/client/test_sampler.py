"""Which traces are kept: always, never, a share, a rate, a function; the caller's decision stands."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

import clew
from clew._context import new_trace_id
from clew._sampler import RateSampler, parse_sampler, ratio_sampler

if TYPE_CHECKING:
    from client.recording import RecordingSender

LOW, HIGH = "f" * 18 + "0" * 13 + "1", "0" * 18 + "f" * 14


@pytest.mark.parametrize(
    ("option", "low", "high"),
    [
        ("always", True, True),
        ("never", False, False),
        ("0", False, False),
        (0.0, False, False),
        (1, True, True),
        ("100%", True, True),
        ("0.5", True, False),
        (" 50% ", True, False),
        (lambda trace_id: trace_id == HIGH, False, True),
    ],
)
def test_options(option: object, low: bool, high: bool):
    """Words, shares as number, text or percent, and functions of the trace id."""
    sampler = parse_sampler(option)
    assert (low, high) == (sampler(LOW), sampler(HIGH))


@pytest.mark.parametrize(
    "bad", ["sometimes", "", "-0.1", "1.5", "101%", "nan", "inf", "0/s", "-1/s", "x/s", "nan/s", "%"]
)
def test_bad_option_is_refused_with_the_good_ones(bad: str):
    """The error says what would be right."""
    with pytest.raises(ValueError, match=r'not one of "always", "never", a ratio .*"10%", or a rate such as "5/s"'):
        parse_sampler(bad)


def test_ratio_keeps_its_share():
    """A tenth is a tenth."""
    keep = ratio_sampler(0.1)
    assert 1_700 < sum(keep(new_trace_id()) for _ in range(20_000)) < 2_300


def test_ratio_of_any_service_keeps_the_same_traces():
    """The decision is in the id; a greater share holds all of a smaller one."""
    tenth, half = ratio_sampler(0.1), ratio_sampler(0.5)
    kept = [trace_id for trace_id in (new_trace_id() for _ in range(2_000)) if tenth(trace_id)]
    assert kept
    assert all(half(trace_id) for trace_id in kept)


def test_ratio_takes_old_short_ids():
    """Sixteen characters are enough to decide by."""
    assert ratio_sampler(0.5)("0000000000000001")


def test_rate_counts_by_the_clock():
    """Five a second: five at once, then one every 200 ms, never more than five saved up."""
    now = [100.0]
    sampler = RateSampler(5.0, lambda: now[0])
    assert 5 == sum(sampler.keep("") for _ in range(100))
    now[0] += 0.25
    assert 1 == sum(sampler.keep("") for _ in range(100))
    now[0] += 3_600
    assert 5 == sum(sampler.keep("") for _ in range(100))


def test_rate_below_one_lets_single_traces_through():
    """One in ten seconds."""
    now = [0.0]
    sampler = RateSampler(0.1, lambda: now[0])
    assert [True, False] == [sampler.keep(""), sampler.keep("")]
    now[0] += 10.0
    assert [True, False] == [sampler.keep(""), sampler.keep("")]


def test_rate_holds_over_threads():
    """Eight threads together get no more than one would."""
    sampler = RateSampler(50.0, lambda: 0.0)
    kept: list[bool] = []
    threads = [threading.Thread(target=lambda: kept.extend([sampler.keep("") for _ in range(1_000)])) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 50 == sum(kept)


def test_trace_is_whole_or_absent(sender: RecordingSender):
    """The sampler is asked once per trace, for its root."""
    asked: list[str] = []
    clew.configure(reporter=sender, sampler=lambda trace_id: bool(asked.append(trace_id)))
    with clew.start_span("root") as root, clew.start_span("child"), clew.start_span("grandchild"):
        pass
    clew.flush()
    assert [root.trace_id] == asked
    assert [] == sender.spans
    assert (0, 0, 0) == tuple(clew.stats()[name] for name in ("reported", "dropped", "queued"))


def test_failing_sampler_keeps_the_trace(sender: RecordingSender):
    """An application's own sampler that raises is counted and costs no span."""
    clew.configure(reporter=sender, sampler=lambda trace_id: 1 / 0 > 0)
    with clew.start_span("root"):
        pass
    clew.flush()
    assert (1, 1) == (len(sender.spans), clew.stats()["errors"])


def test_callers_decision_stands():
    """A sampler that says no has no say where the caller said yes."""
    clew.configure(reporter="none", sampler="never")
    from clew._tracer import start_entry_span

    with start_entry_span("GET /", {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}) as span:
        assert span.sampled
    with start_entry_span("GET /", {"x-trace-id": "a" * 32}) as span:
        assert not span.sampled
