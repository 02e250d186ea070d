"""Clocks that stand still, jump or are replaced: nothing in clew waits for them or measures by them."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

import clew
from clew import _context
from clew._sampler import RateSampler
from clew.testing import FixedClock, recorded
from client.recording import FailingSender, RecordingSender

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# Each stops or moves the clocks of a whole process from here on, in the way of some library or test suite.
FREEZERS = {
    "freezegun": "import freezegun; freezegun.freeze_time('1999-12-31').start()",
    "freezegun with tick": "import freezegun; freezegun.freeze_time('1999-12-31', tick=True).start()",
    "freezegun that ignores nothing": (
        "import freezegun; freezegun.configure(default_ignore_list=[]); freezegun.freeze_time('1999-12-31').start()"
    ),
    "time-machine": "import time_machine; time_machine.travel(0, tick=False).start()",
    "assigned": """
import time
for name in ("time", "monotonic", "perf_counter"):
    setattr(time, name, lambda: 5.0)
    setattr(time, name + "_ns", lambda: 5_000_000_000)
def refuse(seconds):
    raise AssertionError("the program counts its own sleeps")
time.sleep = refuse
""",
    "backwards": """
import time
now = [1e9]
def back():
    now[0] -= 1000.0
    return now[0]
time.time = time.monotonic = time.perf_counter = back
time.time_ns = time.monotonic_ns = time.perf_counter_ns = lambda: int(back() * 1e9)
""",
    "replaced in all modules": """
import sys, time
real = {id(getattr(time, name)) for name in ("monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "time_ns")}
for module in list(sys.modules.values()):
    for name, value in list(vars(module).items()):
        if id(value) in real:
            setattr(module, name, lambda: 0)
""",
}

PROGRAM = """
import os, sys, threading, warnings
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
{before}
import clew
clew.configure(service="test", reporter=sys.argv[1], flush_interval=0.01)
with clew.start_span("before"):
    pass
span = clew.start_span("over")
{after}
with clew.start_span("within"):
    pass
span.finish()
span.finish()
assert not clew.flush(0.01) or clew.stats()["reported"] == 3
assert clew.flush(10.0)
assert clew.stats()["reported"] == 3, clew.stats()
pid = os.fork()
with clew.start_span("child" if pid == 0 else "parent"):
    pass
if pid == 0:
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
"""


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("freezer", FREEZERS)
def test_clocks_of_the_program_do_not_matter(run_program: Callable[..., Any], tmp_path: Path, freezer: str, when: str):
    """Stopped before clew is imported or within a span: everything arrives, everything lasts as long as it did."""
    pytest.importorskip("time_machine") if freezer == "time-machine" else None
    parts = {"before": "", "after": "", when: FREEZERS[freezer]}
    path = tmp_path / "spans.json"
    text = PROGRAM.replace("{before}", parts["before"]).replace("{after}", parts["after"])
    run_program(text, f"file://{path}")
    spans = [json.loads(line) for line in path.read_text().splitlines()]
    assert ["before", "child", "over", "parent", "within"] == sorted(span["name"] for span in spans)
    for span in spans:
        assert 0 < span["duration"] < 60_000_000, span


@pytest.mark.parametrize("freezer", FREEZERS)
def test_reporter_tries_again_while_the_programs_clocks_stand_still(run_program: Callable[..., Any], freezer: str):
    """A collector that comes back gets what waited for it; a flush in vain comes to its end, and so does the exit."""
    pytest.importorskip("time_machine") if freezer == "time-machine" else None
    run_program(
        """
import logging, threading
import clew
logging.getLogger("clew").addHandler(logging.NullHandler())
logging.getLogger("clew").propagate = False
tried = threading.Semaphore(0)
class Away:
    max_message_bytes = 1000
    def send(self, messages, kind="spans"):
        tried.release()
        raise OSError("away")
    def close(self):
        pass
clew.configure(service="test", reporter=Away(), flush_interval=0.01)
FREEZER
with clew.start_span("work"):
    pass
for _ in range(3):
    assert tried.acquire(timeout=20)
assert not clew.flush(0.05)
""".replace("FREEZER", FREEZERS[freezer])
    )


def test_sleep_of_the_program_is_not_called(monkeypatch: pytest.MonkeyPatch, sender: RecordingSender):
    """Tests count the sleeps of the code under test."""
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    for _ in range(2_000):
        with clew.start_span("work"):
            pass
    assert clew.flush(10.0)
    assert (2_000, []) == (len(sender.spans), slept)


def test_flush_ends_under_a_fixed_clock():
    """The clock of ``clew.testing`` stamps spans; nobody waits by it."""
    sender = FailingSender()
    clew.configure(service="test", reporter=sender, flush_interval=0.01)
    clock = FixedClock()
    _context.use_sources(ticks=clock.ticks_ns, epoch=clock.epoch_ns)
    try:
        with clew.start_span("work"):
            pass
        assert not clew.flush(0.01)
    finally:
        _context.use_sources()


def test_span_that_ends_before_it_began_lasts_no_time():
    """Of a clock that is set back, as only a test's can be; it is reported once."""
    clock = FixedClock()
    with recorded(clock=clock) as spans:
        span = clew.start_span("work")
        clock.advance(-5.0)
        span.finish()
        span.finish()
        assert [("work", 1)] == [(found["name"], found["duration"]) for found in spans.spans()]


def test_rate_sampler_goes_on_after_its_clock_was_set_back():
    """A jump costs at most what is in the bucket."""
    now = [1e6]
    keep = RateSampler(2.0, lambda: now[0]).keep
    assert [True, True, False] == [keep("f" * 32) for _ in range(3)]
    now[0] = 0.0
    assert not keep("f" * 32)
    now[0] = 1.0
    assert [True, True, False] == [keep("f" * 32) for _ in range(3)]
