"""How one case is measured inside one process: slices of floor, bare and traced in turn, medians over the slices.

CPU time, not wall: the machine is shared, and time spent waiting for a processor is nobody's cost. The clock is that of
the measuring thread (what the application's own thread pays), or of the whole process where everything counts,
encoding and sending on other threads included.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from benchmarks import floor


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Case:
    """One workload of one library.

    ``operate(n)`` does the thing n times. ``switch(on)`` turns tracing on and off for the very same thing; with it the
    result is the difference. ``settle`` delivers or forgets what is queued; it is timed only for ``whole_process``.
    """

    operate: Callable[[int], None]
    switch: Callable[[bool], None] | None = None
    settle: Callable[[], None] = _nothing
    whole_process: bool = False

    def operate_and_settle(self, count: int) -> None:
        """Do the thing n times, and wait until it is delivered."""
        self.operate(count)
        self.settle()


@dataclass(frozen=True)
class Sample:
    """Medians of one process: microseconds of CPU an operation, ``cost`` being traced less bare; and cost by floor.

    The ratio is taken slice by slice: what disturbs the machine for longer than a slice disturbs both sides of it.
    """

    floor: float
    bare: float
    cost: float
    ratio: float


def measure(case: Case, slices: int, slice_s: float) -> Sample:
    """Measure a case in so many slices of about ``slice_s`` seconds each; the first is thrown away."""
    count = _operations(case, slice_s)
    floors, bares, costs = [], [], []
    for _ in range(slices + 1):
        floors.append(measure_floor(slice_s))
        bares.append(_bare(case, count))
        costs.append(_traced(case, count) - bares[-1])
    ratios = [cost / floor for cost, floor in zip(costs[1:], floors[1:], strict=True)]
    return Sample(median(floors[1:]), median(bares[1:]), median(costs[1:]), median(ratios))


def measure_floor(slice_s: float) -> float:
    """Return the floor now, in microseconds, by as many spans as take about half of a slice."""
    spent = _time(floor.spans, max(round(slice_s * 500_000), 100), time.thread_time_ns)
    floor.discard()
    return spent


def _operations(case: Case, slice_s: float) -> int:
    """Find how many operations fill a slice; whole hundreds, for spans come in traces of a hundred."""
    _traced(case, 100)
    each_s = max(_traced(case, 200), 0.1) / 1e6
    return min(max(round(slice_s / each_s / 100), 1), 200) * 100


def _bare(case: Case, count: int) -> float:
    if case.switch is None:
        return 0.0
    case.switch(False)
    return _time(case.operate, count, time.thread_time_ns)


def _traced(case: Case, count: int) -> float:
    if case.switch is not None:
        case.switch(True)
    if case.whole_process:
        return _time(case.operate_and_settle, count, time.process_time_ns)
    spent = _time(case.operate, count, time.thread_time_ns)
    case.settle()
    return spent


def _time(operate: Callable[[int], object], count: int, clock: Callable[[], int]) -> float:
    begun = clock()
    operate(count)
    return (clock() - begun) / 1_000 / count
