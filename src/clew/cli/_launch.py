"""What `clew run` does, without click: the options, the environment they become, and the step into the program.

Apart from `clew.cli.run` because an application's environment has only the client (``pip install clew``, no
dependencies), and ``clew run`` is for just that place. There `main` below reads the same options with argparse.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import clew
from clew._options import read_boolean
from clew._program import service_name, why_untraced

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

BOOTSTRAP: Final = Path(clew.__file__).parent / "_bootstrap"


class LaunchError(Exception):
    """The command cannot be started; the message says why and what to do."""


class OptionError(LaunchError):
    """An option has a value that cannot be right: wrong usage."""


@dataclass(frozen=True, slots=True)
class Option:
    """One option of ``clew run``; its variable is ``CLEW_`` and the name. Without a `metavar` it is a switch."""

    name: str
    metavar: str | None
    help: str

    @property
    def variable(self) -> str:
        """Return the variable that the client reads."""
        return "CLEW_DEBUG" if self.name == "explain" else "CLEW_" + self.name.upper().replace("-", "_")


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
    Option("explain", None, "Say which libraries are hooked, which are not, and why."),
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
    inherited_path = env.get("PYTHONPATH")
    paths = inherited_path.split(os.pathsep) if inherited_path else []  # an empty part means the current directory
    env["PYTHONPATH"] = os.pathsep.join([str(BOOTSTRAP), *(path for path in paths if path != str(BOOTSTRAP))])
    return env


def check_options(env: Mapping[str, str]) -> None:
    """Refuse options that the program's `configure` would refuse: here somebody is looking. Raises OptionError.

    Takes over this process's own CLEW_* variables, which is no matter: it will be the program.
    """
    os.environ.update({name: value for name, value in env.items() if name.startswith("CLEW_")})
    try:
        clew.configure()
        read_boolean("debug", None, False)
    except ValueError as error:
        raise OptionError(f"{error}. Nothing was started.") from None


def launch(values: Mapping[str, str | bool | None], command: Sequence[str]) -> NoReturn:
    """Check the options and replace this process by the traced `command`. Raises LaunchError."""
    env = environment(values, command, os.environ)
    check_options(env)
    become(command, env)


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
    reason = why_untraced(words) or why_untraced(_interpreter(program))
    if reason:
        print(f"clew run: this program is not traced: {reason}", file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execvpe(program, words, dict(env))  # noqa: S606 # to start what the user names is this command's purpose
    except OSError as error:
        raise LaunchError(f"{words[0]!r} could not be started: {error.strerror}.") from None


def _interpreter(program: str) -> list[str]:
    """Return the command in a script's first line; nothing for what is no script."""
    try:
        with open(program, "rb") as file:
            line = file.readline(256)
        return shlex.split(line[2:].decode()) if line.startswith(b"#!") else []
    except (OSError, ValueError):  # not readable, not text, an odd quote: the system will say what it thinks of it
        return []


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
        launch(values, command)
    except LaunchError as error:
        print(f"clew: {error}", file=sys.stderr)
        raise SystemExit(2 if isinstance(error, OptionError) else 1) from None
