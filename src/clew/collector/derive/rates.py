"""Minutes -> rates of their operations; made in the engine, by one statement."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clew.collector.derive.minutes import Minute, buckets_of, new_attempt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clew.collector.store import SpanStore


def derive_rates(store: SpanStore, minutes: Sequence[Minute]) -> None:
    """Make the rates of these minutes."""
    if not minutes:
        return
    numbers = [minute.number for minute in minutes]
    parameters = {
        "attempt": new_attempt(minutes),
        "buckets": buckets_of(numbers),
        "minutes": numbers,
        "seen": [minute.spans for minute in minutes],
        "covered": [minute.covered for minute in minutes],
    }
    store.derive("derive_rates", parameters)
