"""``clew diff``: two traces side by side, and what makes one slower than the other."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import click
import msgspec

from clew.cli._client import Collector, CommandError
from clew.cli._options import collector_options, full_trace_id
from clew.cli._text import duration, visible
from clew.cli.trace import get_spans
from clew.collector.trace.compare import Comparison, compare

if TYPE_CHECKING:
    from rich.text import Text

    from clew.collector.trace.compare import Difference, Side

COLOURS: Final = {"added": "yellow", "missing": "yellow", "slower": "red", "faster": "green", "same": "dim"}
HEADS: Final = ("span", "before", "after", "change", "explains")
EXAMPLES = """\b
Examples:
  clew diff 4bf92f 77ac01        what made the second one slower?
  clew diff 4bf92f last --all    every span, also those that are the same
  clew diff 77ac01 --usual       what made it slower than others of its kind?"""


@click.command(epilog=EXAMPLES)
@click.argument("before", metavar="BEFORE")
@click.argument("after", metavar="AFTER", required=False)
@click.option("--usual", is_flag=True, help="Compare one trace with others that begin with the same operation.")
@click.option("--all", "everything", is_flag=True, help="Show spans that are the same on both sides, too.")
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON.")
@collector_options
def diff(
    before: str, after: str | None, *, usual: bool, everything: bool, as_json: bool, collector: str, token: str | None
) -> None:
    """Compare two traces: what came, what went, what got slower or faster.

    BEFORE and AFTER are trace ids in any spelling, the beginning of one, or `last`. What a span explains is its share
    of the difference, by its time on the critical path: those of all spans add up to the whole difference. With
    --usual the one trace given is held against a sample of those that begin as it does, of a day before and after.
    """
    source = Collector(collector, token)
    if usual == (after is not None):
        raise click.UsageError("Give two traces, or one and --usual.")
    result = _compared(source, before, after) if after else _against_usual(source, before)
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(result), indent=2))
        return
    from clew.cli._terminal import write

    write(*_picture(result, everything=everything))


def _compared(source: Collector, before: str, after: str) -> Comparison:
    from clew.cli._tree import parse_spans

    try:
        left, right = (parse_spans(get_spans(source, full_trace_id(source, given))) for given in (before, after))
    except ValueError as error:
        raise CommandError(f"The answer holds something that is no Zipkin v2 span: {error}.") from None
    return compare([left], [right])


def _against_usual(source: Collector, given: str) -> Comparison:
    answer = source.get("/api/v1/compare", right=full_trace_id(source, given))
    try:
        return msgspec.convert(answer, Comparison)
    except msgspec.ValidationError:
        raise CommandError(f"{source.url} compares traces in another way. Is it a clew collector of today?") from None


def _picture(result: Comparison, *, everything: bool) -> list[Text]:
    """Draw a line of summary and a line for each place that differs."""
    from rich.text import Text

    change_us = result.right_us - result.left_us
    summary = Text.assemble(
        (f"{duration(round(result.left_us))} -> {duration(round(result.right_us))}", "bold"),
        f"  {_signed(change_us)}",
    )
    shown = [entry for entry in result.differences if everything or entry.change != "same"]
    if not shown:
        return [summary, Text("The same spans, and none much slower or faster.", "dim")]
    rows = [[Text(head, "dim") for head in HEADS], *(_cells(entry, change_us) for entry in shown)]
    widths = [max(row[column].cell_len for row in rows) for column in range(len(HEADS))]
    return [summary, Text(), *(_line(row, widths) for row in rows)]


def _cells(entry: Difference, change_us: float) -> list[Text]:
    from rich.text import Text

    colour = COLOURS[entry.change]
    name = f"{'  ' * min(entry.depth, 12)}{visible(entry.service) or '?'} {visible(entry.name) or 'unnamed'}"
    share = f" {entry.explains_us / change_us:.0%}" if change_us and entry.explains_us else ""
    return [
        Text(name, colour),
        Text(_length(entry.left)),
        Text(_length(entry.right)),
        Text(entry.change, colour),
        Text(f"{_signed(entry.explains_us)}{share}" if entry.explains_us else "", colour),
    ]


def _line(row: list[Text], widths: list[int]) -> Text:
    from rich.text import Text

    for column, cell in enumerate(row):
        if column in (1, 2):
            cell.pad_left(widths[column] - cell.cell_len)
        else:
            cell.pad_right(widths[column] - cell.cell_len)
    line = Text("  ").join(row)
    line.rstrip()
    return line


def _length(side: Side) -> str:
    """Write how often and how long; nothing where the place is not on this side."""
    if not side.count:
        return ""
    times = f"{side.count:g} x " if side.count != 1 else ""
    return f"{times}{duration(round(side.duration_us / side.count))}"


def _signed(us: float) -> str:
    return f"{'+' if us >= 0 else '-'}{duration(abs(round(us)))}"
