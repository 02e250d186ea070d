"""``clew logs``: every log line of one trace, over all services, in time order."""

from __future__ import annotations

import json
from typing import Any, Final

import click

from clew.cli._client import Collector
from clew.cli._options import collector_options, full_trace_id

LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
MAX_LINES: Final = 10_000  # what the API gives at most
EXAMPLES = """\b
Examples:
  clew logs 4bf92f3577b34da6a3ce929d0e0e4736
  clew logs last --level WARNING
  clew logs 4bf92f --json > lines.json"""


@click.command(epilog=EXAMPLES)
@click.argument("trace_id", metavar="ID")
@click.option("--level", type=click.Choice(LEVELS, case_sensitive=False), help="Only lines of this level and above.")
@click.option("--json", "as_json", is_flag=True, help="Print the records as JSON lines.")
@collector_options
def logs(trace_id: str, *, level: str | None, as_json: bool, collector: str, token: str | None) -> None:
    """Print every log line of one trace, over all services, in time order.

    ID is a trace id in any spelling, the beginning of one, or `last`. Services send their lines with `logs=True`
    (CLEW_LOGS=1, `clew run --logs`).
    """
    source = Collector(collector, token)
    found = full_trace_id(source, trace_id)
    records = get_logs(source, found, level)
    if as_json:
        for record in records:
            click.echo(json.dumps(record))
    elif records:
        _print(records)
    else:
        wanted = f" of level {level} and above" if level else ""
        click.echo(f"No log lines{wanted} for trace {found}. Do its services send them (CLEW_LOGS=1)?", err=True)


def get_logs(source: Collector, trace_id: str, level: str | None = None) -> list[dict[str, Any]]:
    """Return the log records of a trace in time order, of `level` and above, at most `MAX_LINES`."""
    records: list[dict[str, Any]] = source.get("/api/v1/logs", trace_id=trace_id, level=level, limit=MAX_LINES)
    return records


def _print(records: list[dict[str, Any]]) -> None:
    from rich.cells import cell_len

    from clew.cli._render import colours_of, log_line
    from clew.cli._terminal import write
    from clew.cli._text import visible
    from clew.cli._tree import parse_logs

    lines = parse_logs(records)
    colours = colours_of(line.service for line in lines)
    cells = min(20, max(cell_len(visible(name)) for name in colours))
    for line in lines:
        write(*log_line(line, lines[0].timestamp_us, cells, colours[line.service]))
