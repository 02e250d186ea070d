"""``clew trace``: one trace as a waterfall in the terminal."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from clew.cli._client import Collector, CommandError, NotFoundError
from clew.cli._options import collector_options, full_trace_id, not_found
from clew.cli.logs import get_logs

if TYPE_CHECKING:
    from rich.text import Text

EXAMPLES = """\b
Examples:
  clew trace 4bf92f3577b34da6a3ce929d0e0e4736
  clew trace 4bf92f --logs       the beginning of an id will do
  clew trace last --tags         the newest trace
  clew trace last --json | jq    its spans as Zipkin v2 JSON"""


@click.command(epilog=EXAMPLES)
@click.argument("trace_id", metavar="ID")
@click.option("--logs", is_flag=True, help="Show each span's log lines beneath it.")
@click.option("--tags", is_flag=True, help="Show each span's tags, annotations and stack trace beneath it.")
@click.option("--json", "as_json", is_flag=True, help="Print the spans as Zipkin v2 JSON instead of drawing them.")
@collector_options
def trace(trace_id: str, *, logs: bool, tags: bool, as_json: bool, collector: str, token: str | None) -> None:
    """Draw one trace as a waterfall.

    ID is a trace id in any spelling, the beginning of one, or `last`. Errors are red, and each service has its colour.
    A bar is heavy where the whole trace waited for that very span; beneath the picture stands what is worth a look. A
    terminal gets lines that fit its width; a pipe gets all of it, stack traces too.
    """
    source = Collector(collector, token)
    found = full_trace_id(source, trace_id)
    spans = get_spans(source, found)
    if as_json:
        click.echo(json.dumps(spans, indent=2))  # ASCII only: control characters arrive as \\u escapes
        return
    from clew.cli._terminal import write

    records = get_logs(source, found) if logs else []
    write(*picture(found, spans, records, logs=logs, tags=tags))


def get_spans(source: Collector, trace_id: str) -> list[dict[str, Any]]:
    """Return the spans of a trace from the Zipkin v2 API; CommandError if there is no such trace."""
    try:
        spans: list[dict[str, Any]] = source.get(f"/api/v2/trace/{trace_id}")
    except NotFoundError:
        raise not_found(source, trace_id) from None
    return spans


def picture(trace_id: str, spans: Any, records: Any, *, logs: bool, tags: bool = False) -> list[Text]:
    """Draw decoded answers of the collector for this terminal; CommandError if they are no spans."""
    from clew.cli import _render, _terminal, _tree

    glyphs = _render.UNICODE if _terminal.speaks_unicode() else _render.ASCII
    style = _render.Style(_terminal.width(), tags, logs, whole=not _terminal.has_width(), glyphs=glyphs)
    try:
        parsed = _tree.parse_spans(spans)
    except ValueError as error:
        raise CommandError(f"The answer holds something that is no Zipkin v2 span: {error}.") from None
    found = _tree.findings(parsed)
    return _render.waterfall(trace_id, _tree.rows(parsed), _tree.parse_logs(records), style, found)
