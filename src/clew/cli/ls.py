"""``clew ls``: traces as a table, recent ones or what a search finds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import click

from clew.cli._client import Collector
from clew.cli._options import collector_options, since_option, time_option, traces
from clew.cli._text import clock_time, duration, is_failure, target, visible

if TYPE_CHECKING:
    from rich.text import Text

SHORT_ID_CHARS: Final = 12  # 48 bits: enough to tell recent traces apart, and `clew trace` takes it
WIDTH_FOR_WHOLE_IDS: Final = 120
WIDTH_FOR_SERVICES: Final = 90
SORTS: Final = ("newest", "slowest", "spans", "errors")
HEADS: Final = ("time", "trace", "request", "duration", "spans", "err", "services")
REQUEST, SERVICES = 2, 6  # the columns that give way
NUMBERS: Final = (3, 4, 5)
GAP: Final = "  "
EXAMPLES = """\b
Examples:
  clew ls
  clew ls --errors --since 15m
  clew ls 'service = orders and duration > 200ms'
  clew ls 'http.status_code >= 500 and not http.route ~ "/health"' --sort slowest
  clew ls --service orders --min-duration 500ms
  clew ls --name "POST /checkout" --limit 100 --json"""


@click.command(epilog=EXAMPLES)
@click.argument("search", metavar="[SEARCH]", required=False)
@click.option("--service", metavar="NAME", help="Only traces that passed this service.")
@click.option("--name", metavar="NAME", help="Only traces with a span of this name.")
@click.option("--errors", is_flag=True, help="Only traces in which something failed (with --service: there).")
@click.option(
    "--min-duration", callback=time_option, metavar="TIME", help="Only traces this long or longer: 250ms, 2s."
)
@click.option("--since", callback=since_option, metavar="WHEN", help="Only newer ones: 15m, 2h, 2026-11-22T14:00.")
@click.option("--sort", type=click.Choice(SORTS), default="newest", show_default=True, help="What comes first.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="How many at most.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines instead of a table.")
@collector_options
def ls(
    search: str | None,
    *,
    service: str | None,
    name: str | None,
    errors: bool,
    min_duration: int | None,
    since: int | None,
    sort: str,
    limit: int,
    as_json: bool,
    collector: str,
    token: str | None,
) -> None:
    """List traces, the newest first: recent ones, or those that a search finds.

    SEARCH says what a trace is like: fields and tags with = != > < ~ in exists, joined by and, or, not; a bare word is
    looked for everywhere. It is one argument, so put it in quotes. The guide to searching (docs/search.md) has all.
    """
    filters = {
        "q": search or None,
        "sort": sort if sort != SORTS[0] else None,
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
        from clew.cli._terminal import width, write

        write(*_table(found, width()))
    else:
        narrowed = since is not None or any(filters.values())
        hint = "match. Loosen the filters?" if narrowed else "here yet. `clew demo` shows how they come about."
        click.echo(f"No traces {hint}", err=True)


def _table(lines: list[dict[str, Any]], width: int) -> list[Text]:
    """Fit the lines to the width: whole ids where there is room, the ends of long names cut, numbers never."""
    from rich.text import Text

    from clew.cli._render import colours_of

    whole = width >= WIDTH_FOR_WHOLE_IDS
    colours = colours_of(name for line in lines for name in _services(line))
    heads = [Text(head, "dim") for head in HEADS]
    rows = [heads, *(_cells(line, colours, whole=whole) for line in lines)]
    if width < WIDTH_FOR_SERVICES:
        rows = [row[:SERVICES] for row in rows]
    widths = [max(cell.cell_len for cell in column) for column in zip(*rows, strict=True)]
    room = width - sum(widths) - len(GAP) * (len(widths) - 1) + widths[REQUEST]
    if len(widths) > SERVICES:
        room += widths[SERVICES]
        widths[SERVICES] = min(widths[SERVICES], max(room - widths[REQUEST], room // 2))
        room -= widths[SERVICES]
    widths[REQUEST] = min(widths[REQUEST], room)
    return [_joined(row, widths) for row in rows]


def _joined(row: list[Text], widths: list[int]) -> Text:
    from rich.text import Text

    for place, (cell, cells) in enumerate(zip(row, widths, strict=True)):
        cell.truncate(cells, overflow="ellipsis")
        if place in NUMBERS:
            cell.pad_left(cells - cell.cell_len)
        else:
            cell.pad_right(cells - cell.cell_len)
    line = Text(GAP).join(row)
    line.rstrip()
    return line


def _services(line: dict[str, Any]) -> list[str]:
    return [str(name) for name in line.get("services") or ()]


def _cells(line: dict[str, Any], colours: dict[str, str], *, whole: bool) -> list[Text]:
    from rich.text import Text

    errors = int(line.get("errors") or 0)
    root = str(line.get("service") or "?")
    request = Text.assemble((visible(root), colours.get(root, "")), " ")
    name = str(line.get("name") or "unnamed")
    request.append(visible(name), "red" if errors else "bold")
    path, status = target(name, {"http.path": str(line.get("path") or "")}), str(line.get("status") or "")
    if path:
        request.append(f" {visible(path)}", "red" if errors else "dim")
    if is_failure(status):
        request.append(f" {status}", "bold red" if errors else "yellow")
    return [
        Text(clock_time(int(line["timestamp"]))[:8], "dim"),
        Text(visible(line["traceId"] if whole else line["traceId"][:SHORT_ID_CHARS])),
        request,
        Text(duration(int(line.get("durationUs") or 0))),
        Text(str(line["spans"])),
        Text(str(errors) if errors else "", "bold red"),
        Text(" ").join(Text(visible(name), colours[name]) for name in _services(line)),
    ]
