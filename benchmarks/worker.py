"""One process of one round: set one library up for one row, measure, print the sample as JSON.

``python -m benchmarks.worker LIBRARY ROW SLICES SLICE_S`` or ``... profile`` in place of the numbers.
"""

from __future__ import annotations

import cProfile
import importlib
import json
import logging
import pstats
import sys
import threading
import time
from dataclasses import asdict
from typing import Any

from benchmarks.measure import Case, measure

_PROFILED = 5_000  # operations
_SHOWN = 10  # functions of a profile


def load_case(library: str, row: str) -> Case:
    """Set the library up for the row."""
    case: Case = getattr(importlib.import_module(f"benchmarks.libraries.{library}"), row)()
    return case


def profile(case: Case) -> list[dict[str, Any]]:
    """Return clew's functions that cost most by themselves: calls an operation, share of clew's own time.

    What they call of C counts as theirs, for that is where an own line spends its time.
    """
    if case.switch is not None:
        case.switch(True)
    case.operate(_PROFILED)  # warm
    profilers = [cProfile.Profile(time.thread_time, builtins=False)]
    if case.whole_process:
        case.settle()
        threading.setprofile(lambda *_: _profile_thread(profilers))
        load_case("clew", "total")  # configured anew: a new reporter's thread, which is profiled, too
    profilers[0].enable()
    case.operate(_PROFILED)
    if case.whole_process:
        importlib.import_module(
            "clew"
        ).shutdown()  # a function that has not returned when its profile is read has no time of its own
    profilers[0].disable()
    case.settle()
    stats: dict[tuple[str, int, str], tuple[int, int, float, float, Any]] = pstats.Stats(*profilers).stats  # type: ignore[attr-defined]
    ours = {where: (calls, own) for where, (_, calls, own, _, _) in stats.items() if "/clew/" in where[0]}
    total = sum(own for _, own in ours.values())
    costly = sorted(ours.items(), key=lambda item: -item[1][1])[:_SHOWN]
    return [
        {"function": _place(where), "calls": round(calls / _PROFILED, 2), "share": own / total}
        for where, (calls, own) in costly
    ]


def _profile_thread(profilers: list[cProfile.Profile]) -> None:
    """Take the place of ``threading.setprofile``'s function in a thread that has just begun."""
    profiler = cProfile.Profile(time.thread_time, builtins=False)
    try:
        profiler.enable()
    except ValueError:  # since 3.12 one profiler sees all threads
        threading.setprofile(None)
        return
    profilers.append(profiler)


def _place(where: tuple[str, int, str]) -> str:
    path, line, name = where
    return f"{path.rpartition('/clew/')[2]}:{line} {name}"


def main(library: str, row: str, *how: str) -> None:
    """Measure or profile, and print."""
    logging.getLogger().setLevel(logging.CRITICAL)  # what the peers say of the sink is not of interest
    case = load_case(library, row)
    answer: Any = profile(case) if how == ("profile",) else asdict(measure(case, int(how[0]), float(how[1])))
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
