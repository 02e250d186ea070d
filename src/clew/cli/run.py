"""``clew run``: a program with tracing turned on, its code unchanged. The work is in `clew.cli._launch`."""

from __future__ import annotations

from typing import Any

import click

from clew.cli import _launch
from clew.cli._client import CommandError

EXAMPLES = """\b
Examples:
  clew run -- python app.py
  clew run --service shop --logs -- uvicorn shop:app --workers 4
  clew run --reporter http://collector:9411 -- gunicorn -w 4 orders:app
  clew run -- celery -A mailer worker

Works for whatever starts a Python interpreter; worker and reloader processes are traced too."""


@click.command(context_settings={"allow_interspersed_args": False}, epilog=EXAMPLES)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(command: tuple[str, ...], **values: Any) -> None:
    """Run a program with tracing turned on, without a line of code."""
    try:
        _launch.launch(values, command)
    except _launch.OptionError as error:
        raise click.UsageError(str(error)) from None
    except _launch.LaunchError as error:
        raise CommandError(str(error)) from None


for _option in reversed(_launch.OPTIONS):  # click lists parameters in the order in which decorators are written
    run.params.insert(
        0,
        click.Option(
            [f"--{_option.name}"],
            metavar=_option.metavar,
            is_flag=_option.metavar is None,
            help=f"{_option.help}  [env var: {_option.variable}]",  # which the client reads, and words the errors of
        ),
    )
