"""``clew tail``: requests and log lines as they arrive at the collector."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import click

from clew.cli._client import Collector, UnreachableError
from clew.cli._options import collector_options
from clew.cli._text import clock_time, duration, headline, is_failure, target, visible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.text import Text

SILENCE_S: Final = 60.0  # the collector sends a comment far more often; silence means that the connection is dead
FIRST_RETRY_S: Final = 0.5
MAX_RETRY_S: Final = 5.0
SERVICE_CELLS: Final = 12
MAX_COLOURED_SERVICES: Final = 1_000  # names are hostile input, and a tail may run for weeks
ENTRIES: Final = frozenset({"SERVER", "CONSUMER"})
EXAMPLES = """\b
Examples:
  clew tail
  clew tail --service orders --errors
  clew tail --all --no-logs
  clew tail --json | grep 4bf92f3577b34da6a3ce929d0e0e4736"""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to show of what arrives."""

    service: str | None
    errors: bool
    every_span: bool
    logs: bool

    def span(self, span: dict[str, Any]) -> bool:
        """Tell whether to show a span: requests that came in, failures; with `every_span` all."""
        failed = "error" in (span.get("tags") or {})
        entry = span.get("kind") in ENTRIES or not span.get("parentId")
        return self._service(service_of(span)) and (failed if self.errors else entry or failed or self.every_span)

    def log(self, record: dict[str, Any]) -> bool:
        """Tell whether to show a log record; with `errors` only ERROR and CRITICAL."""
        bad = str(record.get("level", "")).upper() in ("ERROR", "CRITICAL", "FATAL")
        return self.logs and self._service(str(record.get("service", ""))) and (bad or not self.errors)

    def _service(self, name: str) -> bool:
        return self.service is None or name.lower() == self.service.lower()


@click.command(epilog=EXAMPLES)
@click.option("--service", metavar="NAME", help="Only this service.")
@click.option("--errors", is_flag=True, help="Only what failed: spans with an error, log lines of ERROR and above.")
@click.option("--all", "every_span", is_flag=True, help="Every span, not only requests and failures.")
@click.option("--logs/--no-logs", default=True, help="Show log lines too.  [default: logs]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines: spans and log records as they were sent.")
@collector_options
def tail(
    *, service: str | None, errors: bool, every_span: bool, logs: bool, as_json: bool, collector: str, token: str | None
) -> None:
    """Watch requests and log lines as they arrive, until Ctrl-C.

    Finds its way back when the collector is restarted.
    """
    wanted = Wanted(service, errors, every_span, logs)
    try:
        for kind, item in _items(Collector(collector, token), service):
            if not (wanted.span(item) if kind == "spans" else wanted.log(item)):
                continue
            if as_json:
                click.echo(json.dumps(item))
            else:
                _write(span_line(item) if kind == "spans" else log_line(item))
    except KeyboardInterrupt:
        raise SystemExit(0) from None  # the way out that this command has


def service_of(span: dict[str, Any]) -> str:
    """Return a Zipkin span's own service, in lower case as the collector stores it and all other commands show it."""
    return str((span.get("localEndpoint") or {}).get("serviceName") or "").lower()


def _items(collector: Collector, service: str | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield spans and records for ever; CommandError if the collector is not there at the beginning."""
    pause, was_open = FIRST_RETRY_S, False
    while True:
        try:
            for event in collector.events("/api/v1/tail", silence_s=SILENCE_S, service=service):
                if event.name == "open":
                    _note("" if not was_open else "connected again")
                    pause, was_open = FIRST_RETRY_S, True
                elif event.name == "lost":
                    _note("this terminal reads too slowly, some lines were left out")
                elif event.name in ("spans", "logs") and isinstance(event.data, list):
                    yield from ((event.name, item) for item in event.data if isinstance(item, dict))
            _note("connection lost, trying again ...")
        except UnreachableError:
            if not was_open:
                raise
        time.sleep(pause)
        pause = min(2 * pause, MAX_RETRY_S)


def _note(text: str) -> None:
    if text:
        click.secho(f"clew: {text}", err=True, dim=True)


def _write(line: Text) -> None:
    from clew.cli._terminal import write

    write(line)


def span_line(span: dict[str, Any]) -> Text:
    """Write a span: time, service, duration, name, error, the trace id to look it up."""
    from rich.text import Text

    tags = span.get("tags") or {}
    error = tags.get("error")
    line = _head(span.get("timestamp"), service_of(span))
    line.append(f"{duration(_number(span.get('duration')) or None):>8} ", "red" if error is not None else "")
    name = str(span.get("name") or "unnamed").lower()
    line.append(visible(name), "bold red" if error is not None else "bold")
    path = target(name, {key: str(value) for key, value in tags.items()})
    if path:
        line.append(f" {visible(path)}", "red" if error is not None else "dim")
    status = str(tags.get("http.status_code", ""))
    if status:
        style = "bold red" if error is not None else "yellow" if is_failure(status) else "dim"
        line.append(f" {visible(status)}", style)
    if error and str(error) != status:
        line.append(f" {visible(str(error))}", "red")
    return line.append_text(Text(f"  {visible(str(span.get('traceId', '')))}", "dim"))


def log_line(record: dict[str, Any]) -> Text:
    """Write a log record: time, service, level, logger, message, the trace id; of a traceback what was raised."""
    from rich.text import Text

    from clew.cli._render import LEVEL_COLOURS

    level = str(record.get("level", ""))
    line = _head(record.get("timestamp"), str(record.get("service", "")))
    line.append(f"{visible(level):>8} ", LEVEL_COLOURS.get(level, "") or "dim")
    line.append(f"{visible(str(record.get('logger', '')))}: ", "dim")
    line.append(visible(str(record.get("message", ""))), LEVEL_COLOURS.get(level, ""))
    exception = str(record.get("exception", "")).strip()
    if exception:
        line.append(f" ({visible(headline(exception))})", "red")
    trace_id = record.get("traceId")
    return line.append_text(Text(f"  {visible(str(trace_id))}", "dim")) if trace_id else line


def _head(timestamp: Any, service: str) -> Text:
    from rich.cells import set_cell_size
    from rich.text import Text

    line = Text.assemble((f"{clock_time(_number(timestamp))} ", "dim"), no_wrap=True)
    return line.append(set_cell_size(visible(service), SERVICE_CELLS) + " ", colour_of(service))


_colours: dict[str, str] = {}  # of this run: a service keeps the colour with which it first appeared


def colour_of(service: str) -> str:
    """Return the colour of a service: its place in the order of appearance."""
    from clew.cli._render import SERVICE_COLOURS

    if service not in _colours and len(_colours) >= MAX_COLOURED_SERVICES:
        return ""
    return _colours.setdefault(service, SERVICE_COLOURS[len(_colours) % len(SERVICE_COLOURS)])


def _number(value: Any) -> int:
    return int(value) if isinstance(value, (int, float)) and abs(value) < 2**63 else 0
