"""Servers that are known and not hooked: whoever imports one is told so, since missing spans tell nobody.

Of ``clew run`` and of ``instrument()`` without names. One WARNING on the logger ``clew``, when the module is imported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from clew.integrations import _imports
from clew.reporter import warn

if TYPE_CHECKING:
    from types import ModuleType

_WRAP_WSGI: Final = "wrap the WSGI application that it serves: clew.integrations.wsgi.TraceMiddleware(app)"
_BY_HAND: Final = "join the caller's trace in the handlers (clew.set_trace_context) and open the span there"

# By the module that a program imports to serve: what to do. Frameworks of WSGI and ASGI are not here, since their
# requests have the server's span.
_ADVICE: Final = {
    "bjoern": _WRAP_WSGI,
    "cheroot.wsgi": _WRAP_WSGI,  # CherryPy's server
    "robyn": _BY_HAND,
    "sanic": "serve it by an ASGI server, such as uvicorn, where its requests are traced",
    "socketify": _BY_HAND,
    "tornado.web": f"{_BY_HAND}, or {_WRAP_WSGI}",
}


def install() -> None:
    """Wait for the imports. Idempotent."""
    for module in _ADVICE:
        _imports.when_imported(module, _warn)


def uninstall() -> None:
    """Wait no more."""
    for module in _ADVICE:
        _imports.forget(module, _warn)


_warned: set[str] = set()


def _warn(module: ModuleType) -> None:
    name = module.__name__
    if name not in _warned:
        _warned.add(name)
        warn("%s is not hooked, so its requests make no server span: %s", name, _ADVICE[name])
