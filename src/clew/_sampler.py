"""Whether to keep a new trace. Asked once per trace, by the process where it begins or where no decision came in.

A decision of the caller stands: the parent decides, so a trace is whole or absent. Pure but for the per-second one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from clew import _clock

Sampler = Callable[[str], bool]  # trace id -> keep?

_RANDOM_HEX: Final = 14  # the right-most 7 bytes of a trace id are the random ones: W3C level 2, section 3.2.2.3
_ALL: Final = 1 << 4 * _RANDOM_HEX


def parse_sampler(value: str | float | Sampler) -> Sampler:
    """Make a sampler of ``"always"``, ``"never"``, a ratio 0.0 to 1.0 (``"0.1"``, ``"10%"``) or a rate (``"5/s"``).

    A callable is taken as it is: ``f(trace_id) -> bool``. Raises ValueError for anything else.
    """
    if callable(value):
        return value
    text = str(value).strip().lower()
    if text == "always":
        return _always
    if text == "never":
        return _never
    try:
        if text.endswith("/s"):
            return RateSampler(float(text[:-2])).keep
        return ratio_sampler(float(text[:-1]) / 100 if text.endswith("%") else float(text))
    except ValueError:
        raise ValueError(
            f'sampler={value!r} is not one of "always", "never", a ratio from 0 to 1 such as "0.1" or "10%", '
            'or a rate such as "5/s"'
        ) from None


def ratio_sampler(ratio: float) -> Sampler:
    """Keep this share of traces, decided by the trace id: all services with one ratio keep the same ones."""
    if not 0.0 <= ratio <= 1.0:
        raise ValueError(f"ratio {ratio} is not from 0 to 1")
    if ratio == 1.0:
        return _always
    if ratio == 0.0:
        return _never
    bound = int(ratio * _ALL)
    return lambda trace_id: int(trace_id[-_RANDOM_HEX:], 16) < bound


class RateSampler:
    """Keep at most ``per_second`` traces a second: a bucket that holds one second's worth. Safe in any thread."""

    def __init__(self, per_second: float, monotonic: Callable[[], float] = _clock.monotonic_s) -> None:
        if not 0.0 < per_second < 1e9:
            raise ValueError(f"rate {per_second} is not above 0")
        self._per_second = per_second
        self._burst = max(1.0, per_second)  # less than one a second still lets single traces through
        self._tokens = self._burst
        self._monotonic = monotonic
        self._at = monotonic()
        self._lock = threading.Lock()

    def keep(self, trace_id: str) -> bool:
        """Take a token if there is one."""
        with self._lock:
            now = self._monotonic()
            self._tokens = min(self._burst, self._tokens + max(0.0, now - self._at) * self._per_second)
            self._at = now
            if self._tokens < 1.0:
                return False
            self._tokens -= 1.0
            return True


def _always(trace_id: str) -> bool:
    return True


def _never(trace_id: str) -> bool:
    return False
