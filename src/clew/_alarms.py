"""Exceptions that a signal handler of the program raises while it interrupts code of clew: time limits, alarms.

Where clew catches what an application's own ``__str__`` or sampler raises, such an exception may come by, too, for a
handler runs between any two bytecodes of the main thread. It is meant for the program, and is passed on to it.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # what signal is made of, without its enums
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from types import CodeType

_SIGNALS: Final = range(1, getattr(_signal, "NSIG", 65))
_MAX_LAYERS: Final = 10  # of methods, partials and wrappers around a handler


def is_alarm(error: BaseException) -> bool:
    """Tell whether a handler of the program raised this, by the frames that it came through. Slow; rarely called."""
    codes = {code for number in _SIGNALS if (code := _code_of(_handler(number))) is not None}
    step = error.__traceback__
    while step is not None:
        if step.tb_frame.f_code in codes:
            return True
        step = step.tb_next
    return False


def _handler(number: int) -> Any:
    try:
        return _signal.getsignal(number)
    except (ValueError, OSError):  # a number that no signal has
        return None


def _code_of(handler: Any) -> CodeType | None:
    for _ in range(_MAX_LAYERS):
        code = getattr(handler, "__code__", None)
        if code is not None:
            return code  # type: ignore[no-any-return]
        inner = getattr(handler, "__func__", None) or getattr(handler, "func", None)
        if inner is None and callable(handler) and not isinstance(handler, type):
            inner = getattr(type(handler).__call__, "__code__", None) and type(handler).__call__
        if inner is None:
            return None
        handler = inner
    return None
