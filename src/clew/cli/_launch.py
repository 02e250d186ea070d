"""What `clew run` does, without click: the options, the environment they become, and the step into the program.

Apart from `clew.cli.run` because an application's environment has only the client (``pip install clew``, no
dependencies), and ``clew run`` is for just that place. There `main` below reads the same options with argparse.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import clew
from clew._program import service_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

BOOTSTRAP: Final = Path(clew.__file__).parent / "_bootstrap"


class LaunchError(Exception):
    """The command cannot be started; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Option:
    """One option of ``clew run``; its variable is ``CLEW_`` and the name. Without a `metavar` it is a switch."""

    name: str
    metavar: str | None
    help: str

    @property
    def variable(self) -> str:
        """Return the variable that the client reads."""
        return "CLEW_" + self.name.upper().replace("-", "_")


OPTIONS: Final = (
    Option("service", "NAME", "Name of the service. Default: the program's name."),
    Option(
        "reporter",
        "URL",
        "Where spans go: udp://host:port, http://host:port, file:///path or none. Default: udp://127.0.0.1:9410.",
    ),
    Option("logs", None, "Send log records to the collector too."),
    Option("sampler", "RULE", "Which new traces to keep: always, never, 10%, 0.1 or 5/s. Default: always."),
    Option("tags", "K=V,K=V", "Tags for each trace's first span here: env=prod,version=1.2."),
    Option("propagate", "FORMATS", "Headers for outgoing calls, of x, w3c, b3, b3single. Default: x,w3c."),
    Option("token", "TOKEN", "The collector's token, for an http reporter."),
)


def environment(
    values: Mapping[str, str | bool | None], command: Sequence[str], inherited: Mapping[str, str]
) -> dict[str, str]:
    """Return `inherited` with the options as variables, a service name, and the bootstrap first on PYTHONPATH.

    A variable that is set already stands unless its option is given. No service name is made up for a command that
    starts other programs (a shell, honcho): each of those names itself.
    """
    env = dict(inherited)
    for option in OPTIONS:
        value = values.get(option.name)
        if value:
            env[option.variable] = "1" if value is True else str(value)
    name = service_name(command)
    if name:
        env.setdefault("CLEW_SERVICE", name)
    paths = [path for path in env.get("PYTHONPATH", "").split(os.pathsep) if path and path != str(BOOTSTRAP)]
    env["PYTHONPATH"] = os.pathsep.join([str(BOOTSTRAP), *paths])
    return env


def become(command: Sequence[str], env: Mapping[str, str]) -> NoReturn:
    """Replace this process by `command`: same process id, so signals and supervisors see the program itself.

    A script (``app.py``) that is no executable is run with this Python. Raises LaunchError if there is no such command.
    """
    words = list(command)
    program = shutil.which(words[0], path=env.get("PATH"))
    if program is None and words[0].endswith(".py") and Path(words[0]).is_file():
        words.insert(0, sys.executable)
        program = sys.executable
    if program is None:
        raise LaunchError(f"There is no command {words[0]!r}. Check its spelling and that its environment is active.")
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execvpe(program, words, dict(env))  # noqa: S606 # to start what the user names is this command's purpose
    except OSError as error:
        raise LaunchError(f"{words[0]!r} could not be started: {error.strerror}.") from None


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Say what is wrong in the words and with the exit code of the other commands."""
        print(f"clew: {message}\n`{self.prog} --help` lists what there is.", file=sys.stderr)
        raise SystemExit(2)


def main(arguments: Sequence[str]) -> NoReturn:
    """Run ``clew run`` by argparse: the way without click. Exit code 1 if the command cannot start, 2 for usage."""
    parser = _Parser("clew run", description="Run a program with tracing turned on, its code unchanged.")
    for option in OPTIONS:
        text = f"{option.help} [{option.variable}]".replace("%", "%%")
        if option.metavar:
            parser.add_argument(f"--{option.name}", metavar=option.metavar, help=text)
        else:
            parser.add_argument(f"--{option.name}", action="store_true", help=text)
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND [ARGUMENTS]")
    values = vars(parser.parse_args(arguments))
    command = values.pop("command")
    command = command[1:] if command[:1] == ["--"] else command
    if not command:
        parser.error("name the command to run: clew run -- python app.py")
    try:
        become(command, environment(values, command, os.environ))
    except LaunchError as error:
        print(f"clew: {error}", file=sys.stderr)
        raise SystemExit(1) from None
