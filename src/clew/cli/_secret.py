"""Keeps tokens that were given on the command line out of the process list."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

if TYPE_CHECKING:
    from collections.abc import Sequence

TOKEN_FLAG = "--token"  # noqa: S105 - its name, not a token
TOKEN_VARIABLE = "CLEW_TOKEN"  # noqa: S105


def hide_token(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Hide a token that a flag gave; a callback for an option that may come by its variable, too."""
    if value and param.name and ctx.get_parameter_source(param.name) is ParameterSource.COMMANDLINE:
        put_out_of_sight(value)
    return value


def put_out_of_sight(token: str) -> None:
    """Start this very process again with the token in its variable: every user of a machine may read arguments.

    Returns only where that cannot be done: the arguments are not this process's own.
    """
    arguments = without_option(sys.orig_argv, TOKEN_FLAG)
    if arguments != sys.orig_argv and sys.executable:
        os.environ[TOKEN_VARIABLE] = token
        os.execv(sys.executable, [sys.executable, *arguments[1:]])  # noqa: S606 - the same program, no shell


def without_option(arguments: Sequence[str], flag: str) -> list[str]:
    """Return the arguments without an option that takes a value, however often it comes: ``--x 1`` and ``--x=1``."""
    kept, skip = [], False
    for argument in arguments:
        if not skip and argument != flag and not argument.startswith(f"{flag}="):
            kept.append(argument)
        skip = not skip and argument == flag
    return kept
