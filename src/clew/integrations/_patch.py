"""Replace a method of a library's class or module, once, and put it back. Between the integrations and the libraries.

Methods of classes are replaced, not objects' attributes: clients, sessions and apps that were made before are covered.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_ORIGINAL: Final = "__clew_original__"
_ABSENT: Final = object()


def patch(owner: Any, name: str, make: Callable[[Any], Any]) -> None:
    """Set ``owner.name`` to ``make(original)``. Idempotent; AttributeError where the library has no such name."""
    original = getattr(owner, name)
    if hasattr(original, _ORIGINAL) and name in vars(owner):
        return
    wrapper = functools.wraps(original)(make(original))
    setattr(wrapper, _ORIGINAL, vars(owner).get(name, _ABSENT))
    setattr(owner, name, wrapper)


def unpatch(owner: Any, name: str) -> None:
    """Put the original back. Idempotent; where somebody else patched on top of us, theirs and ours stay."""
    original = getattr(vars(owner).get(name), _ORIGINAL, None)
    if original is None:
        return
    if original is _ABSENT:
        delattr(owner, name)  # it was inherited
    else:
        setattr(owner, name, original)
