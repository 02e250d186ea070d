"""The command `clew` itself: which commands there are, each loaded when it is called, and how help looks."""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

import clew

if TYPE_CHECKING:
    from collections.abc import Iterable

# Command -> (section of the help page, what it does). The module `clew.cli.<command>` has a command of that name.
COMMANDS: Final = {
    "up": ("Collect", "Start the collector and its web page."),
    "store": ("Collect", "Look after stored data: info, migrate, check, backup."),
    "run": ("Collect", "Run a program with tracing turned on, its code unchanged."),
    "demo": ("Collect", "See it work: a shop of five services, traced."),
    "ls": ("Look", "List recent traces."),
    "trace": ("Look", "Draw one trace as a waterfall."),
    "diff": ("Look", "Compare two traces: what made one slower?"),
    "logs": ("Look", "Print every log line of one trace, over all services."),
    "tail": ("Look", "Watch requests and log lines as they arrive."),
}

EPILOG: Final = """\b
Examples:
  clew demo                          see all of it in one minute
  clew up                            collector on http://127.0.0.1:9411
  clew run -- uvicorn shop:app       trace a program
  clew ls --errors                   which requests failed?
  clew trace last --logs             the newest trace with its log lines

\b
Every option is a variable too: --collector is CLEW_COLLECTOR, --token CLEW_TOKEN,
the filters carry their command: CLEW_LS_LIMIT. `clew COMMAND --help` has more.
Completion: eval "$(_CLEW_COMPLETE=bash_source clew)", or zsh_source, fish_source."""


class _Formatter(click.HelpFormatter):
    """Help with headings and names in colour; click strips the colours where they do not belong."""

    def write_heading(self, heading: str) -> None:
        super().write_heading(click.style(heading, bold=True))

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        super().write_usage(click.style(prog, fg="cyan", bold=True), args, prefix or click.style("Usage: ", bold=True))

    def write_dl(self, rows: Iterable[tuple[str, str]], *args: Any, **options: Any) -> None:
        super().write_dl([(click.style(name, fg="cyan"), text) for name, text in rows], *args, **options)


class _Context(click.Context):
    formatter_class = _Formatter


click.Command.context_class = _Context  # of this process's commands; nobody imports this module as a library


class _Root(click.Group):
    """A group that imports a command when it is called: help and completion of names stay quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        try:
            module = importlib.import_module(f"clew.cli.{cmd_name}")
        except ModuleNotFoundError as missing:
            if missing.name is None or missing.name.startswith("clew."):
                raise
            from clew.cli._client import CommandError

            raise CommandError(f"`clew {cmd_name}` needs {missing.name}: pip install 'clew[collector]'") from None
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for section in dict.fromkeys(section for section, _ in COMMANDS.values()):
            with formatter.section(section):
                formatter.write_dl([(name, text) for name, (of, text) in COMMANDS.items() if of == section])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS:
            ctx.fail(f"There is no command {args[0]!r}. Commands: {', '.join(COMMANDS)}.")
        return super().resolve_command(ctx, args)


@click.group(
    cls=_Root,
    epilog=EPILOG,
    context_settings={
        "auto_envvar_prefix": "CLEW",
        "help_option_names": ["-h", "--help"],
        "max_content_width": 110,
    },
)
@click.version_option(clew.__version__, message="%(prog)s %(version)s")
def cli() -> None:
    """Follow one request through all your Python services."""


def _complain(error: click.ClickException) -> None:
    """Say in one style what went wrong, on standard error: red where there are colours; it may quote foreign text."""
    from rich.text import Text

    from clew.cli._terminal import console
    from clew.cli._text import visible_lines

    if isinstance(error, click.exceptions.NoArgsIsHelpError):  # no mistake: a first look
        error.show()
        return
    text = "\n".join(visible_lines(error.format_message()))
    if isinstance(error, click.UsageError) and error.ctx is not None:
        text += f"\n`{error.ctx.command_path} --help` lists what there is."
    console(stderr=True).print(Text.assemble(("clew: ", "bold red"), text), soft_wrap=True)


def main() -> NoReturn:
    """Run `cli`: 0 done, 1 it failed, 2 it was called wrongly; Ctrl-C ends quietly with 130, a reader gone with 0."""
    colour = False if os.environ.get("NO_COLOR") else None  # None: click looks whether there is a terminal
    try:
        code = cli.main(prog_name="clew", standalone_mode=False, color=colour)
        sys.stdout.flush()
    except click.ClickException as error:
        _complain(error)
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        code = 130
    except BrokenPipeError:
        from clew.cli._terminal import leave_broken_pipe

        leave_broken_pipe()
    raise SystemExit(code if isinstance(code, int) else 0)
