"""``clew store``: look after a data directory while no collector uses it. The work is in `clew.collector.upkeep`."""

from __future__ import annotations

import functools
import logging
import os
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clew.cli._client import CommandError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from clew.collector.settings import Settings

EXAMPLES = """\b
Examples:
  clew store info                        what lies there, and of which version
  clew store check --repair              set damaged parts aside, make again what can be made
  clew store backup /backup/clew-friday  copy the whole data directory

A collector must not use the data directory meanwhile."""


@click.group(epilog=EXAMPLES)
def store() -> None:
    """Look after stored data: info, migrate, check, backup."""


def _of_store(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say which store, and turn its errors into sentences."""

    @click.option("--store", metavar="URL", help="A ClickHouse server: clickhouse://user:pass@host/db.")
    @click.option("--data-dir", metavar="DIR", help="Where spans lie.  [default: ~/.local/share/clew]")
    @functools.wraps(function)
    def command(data_dir: str | None, store: str | None, **values: Any) -> None:
        logging.basicConfig(format="clew: %(message)s", level=logging.WARNING)
        with _settled({"data_dir": data_dir, "store": store}) as settings:
            function(settings, **values)

    return command


@contextmanager
def _settled(flags: dict[str, Any]) -> Iterator[Settings]:
    """Hold the data directory for this command."""
    from clew.collector.server import StartError, locked
    from clew.collector.settings import SettingsError, load
    from clew.collector.store import StoreError

    try:
        settings = load(flags, os.environ, Path.cwd())
        with locked(settings.data_dir):
            yield settings
    except SettingsError as error:
        raise click.UsageError(str(error), click.get_current_context()) from error
    except StartError as error:
        raise CommandError(str(error)) from error
    except StoreError as error:
        raise CommandError(f"The store in {settings.data_dir} cannot be used: {error}".partition("\n")[0]) from error


@store.command(epilog=EXAMPLES)
@_of_store
def info(settings: Settings) -> None:
    """Show version, tables, sizes and times of what is stored; change nothing."""
    from clew.collector import upkeep

    found = upkeep.info(settings)
    state = "as this version has it" if found.version == found.latest else f"this version works with {found.latest}"
    click.echo(f"Schema {found.version} ({state}).")
    for table in found.tables:
        click.echo(f"  {table.name:<12} {table.rows:>15,} rows {table.bytes:>17,} bytes {table.parts:>5} parts")
    if found.newest_us:
        click.echo(f"Spans from {_time(found.oldest_us)} to {_time(found.newest_us)} (UTC).")
    for part in found.damaged:
        click.echo(f"Damaged and set aside: {part}")


@store.command(epilog=EXAMPLES)
@_of_store
def migrate(settings: Settings) -> None:
    """Bring the tables to this version; `clew up` does so, too, when it starts."""
    from clew.collector import upkeep

    before, after = upkeep.migrate(settings)
    click.echo(f"Schema {after}, nothing to do." if before == after else f"Migrated from schema {before} to {after}.")


@store.command(epilog=EXAMPLES)
@click.option("--repair", is_flag=True, help="Set damaged parts aside, make again what can be made of the rest.")
@_of_store
def check(settings: Settings, repair: bool) -> None:
    """Read everything and compare it with its checksums; exit code 1 if something is damaged."""
    from clew.collector import upkeep

    damaged = upkeep.check(settings, repair=repair)
    for part in damaged:
        click.echo(f"Damaged: {part}")
    if not damaged:
        click.echo("All parts are whole.")
    elif not repair:
        raise click.exceptions.Exit(1)


@store.command(epilog=EXAMPLES)
@click.argument("target", type=click.Path(file_okay=False, path_type=Path))
@_of_store
def backup(settings: Settings, target: Path) -> None:
    """Copy the whole data directory to TARGET; `clew up --data-dir TARGET` works on the copy."""
    from clew.collector import upkeep

    try:
        size = upkeep.backup(settings, target)
    except OSError as error:
        raise CommandError(f"{target} cannot be written: {error.strerror}") from error
    click.echo(f"Copied {size:,} bytes to {target}.")


def _time(microseconds: int) -> str:
    try:
        return datetime.fromtimestamp(microseconds / 1_000_000, timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError):
        return f"{microseconds} us"
