"""The clocks, as they are whatever a library has put in the place of ``time.*``. Below everything.

Test libraries stop or move the clocks of the whole process: freezegun looks through all modules for the functions of
``time`` and replaces each one that it finds, others assign to ``time.monotonic`` or ``time.sleep``. A span would then
last for decades or less than nothing, and whoever waits for a deadline would wait for ever. So these functions come
from a second copy of the module ``time``, which nobody else holds: as fast, and not to be found by what they are.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable


def _own_time() -> Any:
    """Make another module object of the interpreter's ``time``, with function objects of its own."""
    for finder in sys.meta_path:  # BuiltinImporter: not by its name, which would mean to import importlib.machinery
        if getattr(finder, "__name__", "") == "BuiltinImporter":
            spec: Any = finder.find_spec("time", None)
            if spec is not None:
                module = spec.loader.create_module(spec)
                spec.loader.exec_module(module)
                return module
    return time  # an interpreter that is built otherwise: the clocks that everybody has


_time: Final = _own_time()

# Durations: monotonic, in nanoseconds.
perf_counter_ns: Final[Callable[[], int]] = _time.perf_counter_ns
# The time of day, in nanoseconds since the epoch.
time_ns: Final[Callable[[], int]] = _time.time_ns
# Deadlines: monotonic, in seconds.
monotonic_s: Final[Callable[[], float]] = _time.perf_counter
