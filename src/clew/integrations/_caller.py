"""Where in the application's own code a library was called: ``shop/orders.py:42``, for the tag ``code.location``.

Own is what lies neither in the standard library nor among installed packages nor in clew. Each file is judged once.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from types import CodeType, FrameType

LOCATION: Final = "code.location"
_MAX_FRAMES: Final = 80  # an ORM above a driver takes thirty
_MAX_FILES: Final = 4_096  # code may be generated under ever new names
_MAX_WAYS: Final = 1_024
_MAX_KEPT_CHARS: Final = 4_096  # of a statement whose way is remembered
_CLEW: Final = os.path.dirname(os.path.dirname(__file__)) + os.sep
_SHOP: Final = os.path.join(_CLEW, "_shop")  # the demonstration, an application like any other
_LIBRARY: Final = os.path.dirname(os.__file__) + os.sep
_PACKAGES: Final = ("site-packages", "dist-packages")
# A task begins here. What started the loop is further out, and has not asked for anything.
_LOOPS: Final = (
    os.path.join("asyncio", "events.py"),
    os.path.join("asyncio", "base_events.py"),
    os.path.join("asyncio", "runners.py"),
    os.path.join("trio", "_core", "_run.py"),
    os.path.join("uvicorn", "server.py"),
)
_LOOP: Final = "loop"  # stands for a file of theirs

_places: dict[str, str] = {}  # by file name, what is shown of it; empty where it is not its own
_ways: dict[str, tuple[int, CodeType, CodeType]] = {}  # by statement: how deep below whose frame, by which entry


def location(sql: str) -> str:
    """Return file and line of the innermost frame of the application's own code, empty where there is none.

    A walk pays 100 to 200 ns a frame, for Python makes each into an object. So the way is remembered by the statement:
    the same statement, as deep below the same function, which calls the same of the library, has come it again.
    """
    way = _ways.get(sql)
    if way is not None:
        depth, code, entry = way
        try:
            frame = sys._getframe(depth)
            if frame.f_code is code and sys._getframe(depth - 1).f_code is entry:
                return f"{_places[code.co_filename]}:{frame.f_lineno}"
        except (ValueError, KeyError):  # the stack is not as deep now; the places have been cleared
            pass
    found = _walk(sys._getframe(1), sql)
    if not found and "greenlet" in sys.modules:
        found = _walk(_frame_of_parent(sys.modules["greenlet"]), None)
    return found


def _walk(frame: FrameType | None, sql: str | None) -> str:
    entry: CodeType | None = None
    for depth in range(1, _MAX_FRAMES):
        if frame is None:
            break
        code = frame.f_code
        place = _places.get(code.co_filename)
        if place is None:
            place = _judge(code.co_filename)
        if place:
            if place is _LOOP:
                break
            if sql is not None and entry is not None:
                _remember(sql, (depth, code, entry))
            return f"{place}:{frame.f_lineno}"
        entry = code
        frame = frame.f_back
    return ""


def _remember(sql: str, way: tuple[int, CodeType, CodeType]) -> None:
    if len(_ways) >= _MAX_WAYS:
        _ways.clear()
    if len(sql) <= _MAX_KEPT_CHARS:
        _ways[sql] = way


def _frame_of_parent(greenlet: Any) -> FrameType | None:
    """Return where this greenlet's parent waits: SQLAlchemy runs in one of its own what is async on the outside."""
    try:
        parent = greenlet.getcurrent().parent
        frame: FrameType | None = None if parent is None else parent.gr_frame
    except Exception:  # noqa: BLE001 - the boundary to another library, of any version
        return None
    return frame


def _judge(name: str) -> str:
    if len(_places) >= _MAX_FILES:
        _places.clear()
    if name.endswith(_LOOPS):
        _places[name] = _LOOP
        return _LOOP
    own = (
        not name.startswith(("<", _LIBRARY))
        and (not name.startswith(_CLEW) or name.startswith(_SHOP))
        and not any(f"{os.sep}{packages}{os.sep}" in name for packages in _PACKAGES)
    )
    place = _places[name] = _short(name) if own else ""
    return place


def _short(name: str) -> str:
    """Show a file from the working directory on, where it lies below that."""
    try:
        here = os.getcwd() + os.sep
    except OSError:  # it has been removed
        return name
    return name.removeprefix(here)
