"""``clew ls``: recent traces as a table, the newest first."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import click

from clew.cli._client import Collector
from clew.cli._options import collector_options, since_option, time_option, traces
from clew.cli._text import clock_time, duration, visible

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

SHORT_ID_CHARS: Final = 12  # 48 bits: enough to tell recent traces apart, and `clew trace` takes it
WIDTH_FOR_WHOLE_IDS: Final = 120
WIDTH_FOR_SERVICES: Final = 90
EXAMPLES = """\b
Examples:
  clew ls
  clew ls --errors --since 15m
  clew ls --service orders --min-duration 500ms
  clew ls --name "POST /checkout" --limit 100 --json"""


@click.command(epilog=EXAMPLES)
@click.option("--service", metavar="NAME", help="Only traces that passed this service.")
@click.option("--name", metavar="NAME", help="Only traces with a span of this name.")
@click.option("--errors", is_flag=True, help="Only traces in which something failed (with --service: there).")
@click.option(
    "--min-duration", callback=time_option, metavar="TIME", help="Only traces this long or longer: 250ms, 2s."
)
@click.option("--since", callback=since_option, metavar="WHEN", help="Only newer ones: 15m, 2h, 2026-11-22T14:00.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="How many at most.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines instead of a table.")
@collector_options
def ls(
    *,
    service: str | None,
    name: str | None,
    errors: bool,
    min_duration: int | None,
    since: int | None,
    limit: int,
    as_json: bool,
    collector: str,
    token: str | None,
) -> None:
    """List recent traces, the newest first."""
    filters = {
        "service": service,
        "name": name,
        "errors": "true" if errors else None,
        "min_duration_ms": min_duration / 1_000 if min_duration else None,
    }
    found = traces(Collector(collector, token), limit, since, **filters)
    if as_json:
        for line in found:
            click.echo(json.dumps(line))
    elif found:
        from clew.cli._terminal import console, width

        console().print(_table(found, width()))
    else:
        narrowed = since is not None or any(filters.values())
        hint = "match. Loosen the filters?" if narrowed else "here yet. `clew demo` shows how they come about."
        click.echo(f"No traces {hint}", err=True)


def _table(lines: list[dict[str, Any]], width: int) -> Table:
    """Fit the table to the width: whole ids where there is room, the end of long names cut, numbers never."""
    from rich.table import Table

    from clew.cli._render import colours_of

    whole = width >= WIDTH_FOR_WHOLE_IDS
    table = Table(box=None, pad_edge=False, header_style="dim", width=width if width < WIDTH_FOR_WHOLE_IDS else None)
    table.add_column("time", no_wrap=True, style="dim")
    table.add_column("trace", no_wrap=True, min_width=32 if whole else SHORT_ID_CHARS)
    table.add_column("request", no_wrap=True, overflow="ellipsis", ratio=3)
    table.add_column("duration", no_wrap=True, justify="right", min_width=8)
    table.add_column("spans", no_wrap=True, justify="right")
    table.add_column("err", no_wrap=True, justify="right")
    if width >= WIDTH_FOR_SERVICES:
        table.add_column("services", no_wrap=True, overflow="ellipsis", ratio=2)
    colours = colours_of(name for line in lines for name in _services(line))
    for line in lines:
        table.add_row(*_cells(line, colours, whole=whole)[: len(table.columns)])
    return table


def _services(line: dict[str, Any]) -> list[str]:
    return [str(name) for name in line.get("services") or ()]


def _cells(line: dict[str, Any], colours: dict[str, str], *, whole: bool) -> list[Text]:
    from rich.text import Text

    errors = int(line.get("errors") or 0)
    services = [Text(visible(name), colours[name]) for name in _services(line)]
    root = Text(visible(str(line.get("name") or "")), "red" if errors else "bold")
    return [
        Text(clock_time(int(line["timestamp"]))[:8]),
        Text(visible(line["traceId"] if whole else line["traceId"][:SHORT_ID_CHARS])),
        Text(" ").join(
            [Text(visible(str(line.get("service") or "?")), colours.get(str(line.get("service")), "")), root]
        ),
        Text(duration(int(line.get("durationUs") or 0))),
        Text(str(line["spans"])),
        Text(str(errors) if errors else "", "bold red"),
        Text(" ").join(services),
    ]
