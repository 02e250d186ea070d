"""``clew logs``: the log lines of one trace over all services, or those that a search finds, in time order."""

from __future__ import annotations

import json
from typing import Any, Final

import click

from clew.cli._client import Collector
from clew.cli._options import collector_options, full_trace_id, is_trace_id, since_option

LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
MAX_LINES: Final = 10_000  # what the API gives at most
NEWEST_LINES: Final = 100  # of a list that no trace bounds
EXAMPLES = """\b
Examples:
  clew logs 4bf92f3577b34da6a3ce929d0e0e4736
  clew logs last --level WARNING
  clew logs --service orders --since 10m
  clew logs 'level >= WARNING and timeout'
  clew logs 'customer.id = 42'   what was logged in traces of this customer
  clew logs --grep "card declined" --limit 1000 --json > lines.json"""


@click.command(epilog=EXAMPLES)
@click.argument("wanted", metavar="[ID | SEARCH]", required=False)
@click.option("--service", metavar="NAME", help="Only lines of this service.")
@click.option("--level", type=click.Choice(LEVELS, case_sensitive=False), help="Only lines of this level and above.")
@click.option("--grep", metavar="TEXT", help="Only lines with this text in message or traceback, in any case.")
@click.option("--since", callback=since_option, metavar="WHEN", help="Only newer ones: 15m, 2h, 2026-11-22T14:00.")
@click.option(
    "--limit",
    type=click.IntRange(1, MAX_LINES),
    help=f"How many at most.  [default: the newest {NEWEST_LINES}; all of a trace]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the records as JSON lines.")
@collector_options
def logs(
    wanted: str | None,
    *,
    service: str | None,
    level: str | None,
    grep: str | None,
    since: int | None,
    limit: int | None,
    as_json: bool,
    collector: str,
    token: str | None,
) -> None:
    """Print log lines in time order: those of one trace over all services, those that a search finds, or the newest.

    ID is a trace id in any spelling, the beginning of one, or `last`. SEARCH is one argument, in quotes: service,
    level, logger, message and text of lines, or what a span of their trace is like. Without an ID lines outside of any
    trace are listed, too. Services send their lines with `logs=True` (CLEW_LOGS=1, `clew run --logs`).
    """
    source = Collector(collector, token)
    found = full_trace_id(source, wanted) if wanted and is_trace_id(wanted) else None
    search = wanted if wanted and not found else None
    limit = limit or (MAX_LINES if found else NEWEST_LINES)
    records = _get(source, q=search, trace_id=found, service=service, level=level, grep=grep, since=since, limit=limit)
    if found and since is not None:  # the API takes a window for lists only: the lines of a trace are few
        records = [record for record in records if record["timestamp"] >= since]
    if as_json:
        for record in records:
            click.echo(json.dumps(record))
    elif records:
        _print(records, of_one_trace=found is not None)
    else:
        which = " like that" if search or service or level or grep or since is not None else ""
        where = f" for trace {found}" if found else f" at {source.url}"
        click.echo(f"No log lines{which}{where}. Do the services send them (CLEW_LOGS=1)?", err=True)


def get_logs(source: Collector, trace_id: str) -> list[dict[str, Any]]:
    """Return the log records of a trace in time order, at most `MAX_LINES`."""
    return _get(source, trace_id=trace_id, limit=MAX_LINES)


def _get(source: Collector, **parameters: str | int | None) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = source.get("/api/v1/logs", **parameters)
    return records


def _print(records: list[dict[str, Any]], *, of_one_trace: bool) -> None:
    from rich.cells import cell_len

    from clew.cli._render import colours_of, log_line
    from clew.cli._terminal import write
    from clew.cli._text import visible
    from clew.cli._tree import parse_logs

    lines = parse_logs(records)
    colours = colours_of(line.service for line in lines)
    cells = min(20, max(cell_len(visible(name)) for name in colours))
    for line in lines:
        begin_us = lines[0].timestamp_us if of_one_trace else None
        write(*log_line(line, begin_us, cells, colours[line.service]))
