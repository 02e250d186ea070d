"""The terminal that is written to: its width, its colours, its character set, and what happens when it goes away."""

from __future__ import annotations

import os
import sys
from functools import cache
from typing import TYPE_CHECKING, Final, NoReturn

from rich.console import Console

if TYPE_CHECKING:
    from rich.text import Text

PIPE_WIDTH: Final = 120  # columns when standard output is no terminal and COLUMNS does not say otherwise
MIN_WIDTH: Final = 40


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
        stream.reconfigure(errors="backslashreplace")  # a Latin-1 terminal shows an escape instead of a traceback
    found = _Console(stderr=stderr, markup=False, highlight=False, emoji=False, soft_wrap=False)
    if not found.is_terminal and not os.environ.get("COLUMNS", "").isdecimal():
        found.width = PIPE_WIDTH
    return found


def width() -> int:
    """Return the columns to draw in: the terminal's, or `PIPE_WIDTH` in a pipe."""
    return max(MIN_WIDTH, console().width)


def speaks_unicode() -> bool:
    """Tell whether standard output can show bars and tree lines; if not, ASCII stands in."""
    return (sys.stdout.encoding or "ascii").lower().replace("-", "").startswith("utf")


def write(*lines: Text) -> None:
    """Print lines as they are: neither wrapped nor cut, since the renderer has fitted them or they go into a pipe."""
    for line in lines:
        console().print(line, soft_wrap=True)
