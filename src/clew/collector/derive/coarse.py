"""Minutes that count -> ten minutes and hours, once those are over."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from clew.collector.derive.minutes import Table
    from clew.collector.query.reader import Reader
    from clew.collector.store import SpanStore

COARSE_S: Final = (600, 3_600)
LOOK_BACK_S: Final = 40 * 3_600  # minutes that were derived before may be gone already
_OVER_S: Final = 30
_AT_ONCE: Final = 24


def derive_coarse(store: SpanStore, reader: Reader, table: Table) -> None:
    """Add up what is over and has changed."""
    now = int(time.time())
    for step in COARSE_S:
        given = {
            table: True,
            "steps": [60, step],
            "first": 0,
            "last": (now - _OVER_S) // step * step - 1,
            "recent": 0,
            "coarse": step,
            "lately": (now - LOOK_BACK_S) * 1_000_000_000,
        }
        rows = reader.select("derived_units", given)
        made = {row["begin"]: row for row in rows if row["step"] == step}
        minutes: dict[int, list[dict[str, Any]]] = {}
        for row in rows:
            if row["step"] == 60:
                minutes.setdefault(row["begin"] // step * step, []).append(row)
        due = [start for start, parts in minutes.items() if _is_due(parts, made.get(start))]
        for at in range(0, len(due), _AT_ONCE):
            parts = [row for start in due[at : at + _AT_ONCE] for row in minutes[start]]
            _add_up(store, table, step, parts)


def _is_due(parts: list[dict[str, Any]], made: dict[str, Any] | None) -> bool:
    """Whether something is newer than what was added up, and nothing is missing that it has."""
    if made is None:
        return True
    newest: int = max(row["newest"] for row in parts)
    spans: int = sum(row["spans"] for row in parts)
    return bool(newest > made["newest"] and spans >= made["spans"])


def _add_up(store: SpanStore, table: Table, step: int, parts: list[dict[str, Any]]) -> None:
    """The attempt is that of the newest part: once that is there, the sum is out of date as soon as one is newer."""
    parameters = {
        "step": step,
        "starts": [row["begin"] for row in parts],
        "attempts": [row["newest"] for row in parts],
        "attempt": max(time.time_ns(), *(row["newest"] for row in parts)),
    }
    store.derive(f"derive_coarse_{table}", parameters)
