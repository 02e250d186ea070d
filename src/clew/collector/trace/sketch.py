"""Durations as an exponential histogram: what percentiles over time are read from. Pure.

Bucket ``n`` (from 1) holds the durations from 2^((n-1)/16) microseconds up to the next one's begin. A value is told by
the middle of its bucket, so it is off by at most :data:`ERROR` of itself, whatever the durations are; two histograms
add up to that of both. The engine makes them (``derive_rates.sql``); here they are read.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PER_DOUBLING: Final = 16
ERROR: Final = 2 ** (1 / (2 * PER_DOUBLING)) - 1  # 2.2 %

Sketch = dict[int, int]  # bucket -> how many


def bucket_of(duration_us: int) -> int:
    """Return the bucket of a duration; 0 (no duration) has none and gives 0."""
    return 1 + math.floor(PER_DOUBLING * math.log2(duration_us)) if duration_us > 0 else 0


def begin_of(bucket: int) -> float:
    """Return where a bucket begins, in microseconds; where the one before it ends."""
    return float(2 ** ((bucket - 1) / PER_DOUBLING))


def value_of(bucket: int) -> float:
    """Return the duration, in microseconds, that stands for those of a bucket."""
    return begin_of(bucket) * (1 + ERROR)


def merged(sketches: Iterable[Mapping[int, int]]) -> Sketch:
    """Return the histogram of all durations of several."""
    total: Sketch = {}
    for sketch in sketches:
        for bucket, count in sketch.items():
            total[bucket] = total.get(bucket, 0) + count
    return total


def quantile(sketch: Mapping[int, int], share: float) -> float:
    """Return the duration in microseconds that a share (0 to 1) of all do not exceed, within :data:`ERROR`.

    0 where there are none.
    """
    wanted = max(1, math.ceil(share * sum(sketch.values())))
    found = 0
    for bucket in sorted(sketch):
        found += sketch[bucket]
        if found >= wanted:
            return value_of(bucket)
    return 0.0
