"""The stack of an exception as text, for the tag ``error.stack``. Between ``_span`` and ``_secrets``, which cleans it.

An exception that leaves three hundred spans asks for three hundred stacks, each a frame or two longer than the one
before. ``traceback.format_exception`` takes milliseconds for one. Here only the innermost frames are rendered, without
positions in the line, and the last text is kept: soon no further frame fits, and it serves for all spans further out.
What is kept are code objects and text, nothing of the exception, of its frames or of the application's objects.
"""

from __future__ import annotations

import os
from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

from clew._alarms import is_alarm
from clew._secrets import clean_end
from clew.wire import MAX_STACK_CHARS, cut_head

if TYPE_CHECKING:
    from types import CodeType, FrameType, TracebackType

_MAX_FRAMES: Final = 50  # enough for the way through a web framework; a recursion error has a thousand
_MAX_CAUSES: Final = 10
_MAX_CLEANED_CHARS: Final = 4 * MAX_STACK_CHARS  # what is cleaned is a bit shorter afterwards
_OWN_FILES: Final = os.path.dirname(__file__) + os.sep  # frames of clew itself say nothing of the failure
_NOT_OWN: Final = os.path.join(_OWN_FILES, "_shop")  # the demonstration, an application like any other
_HEADER: Final = "Traceback (most recent call last):\n"
_BECAUSE: Final = "\nThe above exception was the direct cause of the following exception:\n\n"
_MEANWHILE: Final = "\nDuring handling of the above exception, another exception occurred:\n\n"


class _Step(NamedTuple):
    """One exception of a chain: what stands after it, its last lines, where its innermost frames are."""

    link: str
    message: str
    places: tuple[tuple[CodeType, int | None], ...]


_last: tuple[list[_Step], str] = ([], "")


def stack_of(error: BaseException) -> str:
    """Render an exception's innermost frames, without the values of variables, which may be secret. Never raises.

    Written as Python's own, with the exceptions that led to this one before it; cut at the beginning, for the innermost
    frame and the message are at the end. Frames of clew are left out.
    """
    global _last
    try:
        if hasattr(error, "exceptions"):  # a group, whose members have stacks of their own
            import traceback  # only now: `import clew` should not have to

            lines = traceback.format_exception(type(error), error, error.__traceback__, limit=-_MAX_FRAMES)
            return _bounded("".join(lines))
        frames: list[list[FrameType]] = []
        steps = _steps(error, frames)
        known, text = _last
        if steps != known:
            text = _render(steps, frames)
            _last = steps, text
        return text
    except Exception as failure:
        if is_alarm(failure):
            raise
        return f"<no stack: {type(failure).__name__}>"


def _steps(error: BaseException, frames: list[list[FrameType]]) -> list[_Step]:
    """Describe an exception and those that led to it, and append each one's frames, the innermost first."""
    steps: list[_Step] = []
    seen: set[int] = set()
    step: BaseException | None = error
    link = ""
    while step is not None and id(step) not in seen and len(steps) < _MAX_CAUSES:
        seen.add(id(step))
        innermost = _innermost(step.__traceback__)
        frames.append([frame for frame, _ in innermost])
        steps.append(_Step(link, _message(step), tuple((frame.f_code, line) for frame, line in innermost)))
        if step.__cause__ is not None:
            step, link = step.__cause__, _BECAUSE
        else:
            step, link = None if step.__suppress_context__ else step.__context__, _MEANWHILE
    return steps


def _message(error: BaseException) -> str:
    """Render the last lines, as ``traceback.format_exception_only``, which would look at every cause's frames, too."""
    kind = type(error)
    if isinstance(error, SyntaxError):
        import traceback

        return "".join(traceback.format_exception_only(kind, error))
    name = (
        kind.__qualname__ if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}.{kind.__qualname__}"
    )
    try:
        text = str(error)
    except Exception as failure:
        if is_alarm(failure):
            raise
        text = "<exception str() failed>"
    notes = getattr(error, "__notes__", None)
    more = "".join(f"{note}\n" for note in notes) if isinstance(notes, list) else ""
    return f"{name}: {text}\n{more}" if text else f"{name}\n{more}"


def _innermost(tb: TracebackType | None) -> list[tuple[FrameType, int | None]]:
    found: deque[tuple[FrameType, int | None]] = deque(maxlen=_MAX_FRAMES)
    while tb is not None:
        file = tb.tb_frame.f_code.co_filename
        if not file.startswith(_OWN_FILES) or file.startswith(_NOT_OWN):
            found.append((tb.tb_frame, tb.tb_lineno))
        tb = tb.tb_next
    return list(reversed(found))


def _render(steps: list[_Step], frames: list[list[FrameType]]) -> str:
    """Write from the end to the beginning, until the text is as long as it may be."""
    text = ""
    for step, frames_of_step in zip(steps, frames, strict=True):
        text = step.message + step.link + text
        for frame, (code, line) in zip(frames_of_step, step.places, strict=True):
            if len(text) > MAX_STACK_CHARS:
                break
            text = _place(frame, code, line) + text
        if len(text) > MAX_STACK_CHARS:
            break
        if frames_of_step:
            text = _HEADER + text
    return _bounded(text)


def _bounded(text: str) -> str:
    return cut_head(clean_end(text, _MAX_CLEANED_CHARS), MAX_STACK_CHARS)


def _place(frame: FrameType, code: CodeType, line: int | None) -> str:
    import linecache

    source = linecache.getline(code.co_filename, line or 0, frame.f_globals).strip()
    return f'  File "{code.co_filename}", line {line}, in {code.co_name}\n' + (f"    {source}\n" if source else "")
