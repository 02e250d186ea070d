"""The terminal that is written to: its width, its colours, its character set, and what happens when it goes away."""

from __future__ import annotations

import codecs
import os
import sys
from functools import cache
from typing import TYPE_CHECKING, Final, NoReturn

from rich.console import Console

from clew.cli._render import folded

if TYPE_CHECKING:
    from rich.text import Text

PIPE_WIDTH: Final = 120  # columns when standard output is no terminal and COLUMNS does not say otherwise
MIN_WIDTH: Final = 40
STAND_INS: Final = {"µ": "u", "…": "~", "·": "-", "×": "x"}  # what clew itself writes, each one cell in ASCII as well


def _stand_in(error: UnicodeError) -> tuple[str | bytes, int]:
    """Write what the terminal's character set lacks by a letter that stands for it, or as an escape."""
    if isinstance(error, UnicodeEncodeError) and error.object[error.start] in STAND_INS:
        return STAND_INS[error.object[error.start]], error.start + 1
    return codecs.backslashreplace_errors(error)


codecs.register_error("clew.terminal", _stand_in)


class _Console(Console):
    def on_broken_pipe(self) -> NoReturn:
        """End quietly when the reader has gone (``clew ls | head -1``)."""
        leave_broken_pipe()


def leave_broken_pipe() -> NoReturn:
    """End the process with code 0; standard output goes nowhere, so that the flush at exit cannot complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise SystemExit(0)


@cache
def console(*, stderr: bool = False) -> Console:
    """Return the console for standard output or standard error.

    Colours only where there is a terminal, never with ``NO_COLOR``. Markup, highlighting and emoji codes are off:
    foreign text is printed as it is.
    """
    stream = sys.stderr if stderr else sys.stdout
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="clew.terminal")  # an ASCII terminal shows something instead of a traceback
    found = _Console(stderr=stderr, markup=False, highlight=False, emoji=False, soft_wrap=False)
    if not found.is_terminal and not _told_width():
        found.width = PIPE_WIDTH
    return found


def _told_width() -> bool:
    return os.environ.get("COLUMNS", "").isdecimal()


def has_width() -> bool:
    """Tell whether lines should fit a width: in a terminal, and where COLUMNS asks for it; not in a pipe or file."""
    return console().is_terminal or _told_width()


def width() -> int:
    """Return the columns to draw in: the terminal's, or `PIPE_WIDTH` in a pipe."""
    return max(MIN_WIDTH, console().width)


def speaks_unicode() -> bool:
    """Tell whether standard output can show bars and tree lines; if not, ASCII stands in."""
    return (sys.stdout.encoding or "ascii").lower().replace("-", "").startswith("utf")


def write(*lines: Text) -> None:
    """Print lines: those longer than the terminal is wide go on indented beneath; into a pipe they go as they are.

    A terminal would go on at its left edge, where foreign text of the right length could pass for a line of clew's.
    """
    for line in lines:
        for piece in folded(line, console().width) if console().is_terminal else [line]:
            console().print(piece, soft_wrap=True)
