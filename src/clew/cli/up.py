"""``clew up``: start the collector. Its options are the settings of :mod:`clew.collector.settings`, one for one."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import click

from clew.cli._secret import put_out_of_sight
from clew.collector.settings import OPTIONS, Option, SettingsError, flag_of, load


def _run(**flags: Any) -> None:
    from clew.collector.floods import Floods
    from clew.collector.server import StartError, serve  # the engine takes a while to load: not for --help

    if flags.get("token"):
        put_out_of_sight(",".join(flags["token"]))
    logging.basicConfig(format="clew: %(message)s", level=logging.WARNING)
    for driver in ("urllib3", "clickhouse_connect"):  # of a ClickHouse server; the collector itself says what fails
        logging.getLogger(driver).setLevel(logging.CRITICAL)
    for handler in logging.root.handlers:
        handler.addFilter(Floods())
    try:
        serve(load(flags, os.environ, Path.cwd()), _announce)
    except SettingsError as error:
        raise click.UsageError(str(error), click.get_current_context()) from error
    except StartError as error:
        raise click.ClickException(str(error)) from error


def _announce(lines: list[str]) -> None:
    click.secho(lines[0], fg="cyan", bold=True)
    for line in lines[1:]:
        click.echo(line)


def _click_option(name: str, option: Option) -> click.Option:
    """Defaults and variables are the settings' own business, so click is given neither, only told to show them."""
    about = option.help if not option.default else f"{option.help}  [default: {option.default}]"
    if not option.metavar:
        return click.Option([flag_of(name)], is_flag=True, default=None, help=about)
    return click.Option([flag_of(name)], metavar=option.metavar, multiple=option.repeatable, help=about)


up = click.Command(
    "up",
    callback=_run,
    params=[
        *(_click_option(name, option) for name, option in OPTIONS.items()),
        click.Option(
            ["--config"], metavar="FILE", help="A TOML file of settings.  [default: clew.toml, if there is one]"
        ),
    ],
    help="Start the collector: it takes spans and logs, stores them, and answers the API and a web page. "
    "Every option is also a variable (--max-disk is CLEW_MAX_DISK) and a key of the TOML file (max_disk).",
    short_help="Start the collector and its web page.",
)
