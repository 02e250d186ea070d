"""A trace as lines for a terminal: tree, durations, bars to scale, errors, log lines.

Pure: rows in, `rich.text.Text` out, nothing printed; every line fits the given width unless all is wanted whole.
Foreign text passes `clew.cli._text.visible` here and is only ever appended as text, so that rich's markup stays text
too.

A line is: tree and name, duration, bar. A bar is heavy where the trace waited for this very span (the critical path)
and light elsewhere. The name column takes what it needs up to about half of the width. A tree too
deep for its column moves to the left edge and says its depth as a number instead.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Final

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from clew.cli._text import ELLIPSIS, clock_time, duration, headline, is_failure, offset, plural, visible, visible_lines
from clew.cli._tree import MAX_PATH

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from clew.cli._tree import LogLine, Row
    from clew.collector.trace.findings import Finding

SERVICE_COLOURS: Final = ("cyan", "magenta", "green", "blue", "yellow", "bright_cyan", "bright_magenta", "bright_green")
FINDING_COLOURS: Final = {"error": "red", "missing": "yellow", "lost": "yellow"}
LEVEL_COLOURS: Final = {"DEBUG": "dim", "INFO": "", "WARNING": "yellow", "ERROR": "red", "CRITICAL": "bold red"}
DURATION_CELLS: Final = 8  # "123.4 ms", the longest that `duration` writes
GAP_CELLS: Final = 2  # before and after the duration
MIN_BAR_CELLS: Final = 16
DATE_TIME_CELLS: Final = 23
MAX_LABEL_SHARE: Final = 0.55  # of the width; the rest is for duration and bar
MAX_LABEL_CELLS: Final = 64
MIN_NAME_CELLS: Final = 14  # what stays for the name however deep the tree
TICK_EVERY_CELLS: Final = 16  # about
MAX_LOG_LINES: Final = 12  # beneath one span; `clew logs` has them all
MAX_FINDINGS: Final = 6  # beneath one picture; the weightiest come first
HANGING_CELLS: Final = 4  # before what continues a line, so that no text can look like the beginning of a line


@dataclass(frozen=True, slots=True)
class Glyphs:
    """The characters that draw: `UNICODE`, or `ASCII` where the terminal cannot."""

    branch: str
    last: str
    through: str
    critical: str  # of a bar, three characters: a whole cell, its left half, its right half
    aside: str  # the same where nobody waited for it
    tick: str
    error: str
    between: str


UNICODE: Final = Glyphs("├─ ", "└─ ", "│  ", "━╸╺", "─╴╶", "┊", "✗", "·")
ASCII: Final = Glyphs("|- ", "`- ", "|  ", "===", "---", ".", "!", "-")


@dataclass(frozen=True, slots=True)
class Style:
    """How to draw: `width` in columns, what to show beneath the spans, which characters.

    `whole`: nothing is cut or left out, however wide the lines become: for a pipe, where `grep` and people with a
    pager want all of it.
    """

    width: int = 100
    tags: bool = False
    logs: bool = False
    whole: bool = False
    glyphs: Glyphs = UNICODE


@dataclass(slots=True)
class _Layout:
    """The columns of one picture: where each begins and what a microsecond is in cells."""

    style: Style
    begin_us: int
    total_us: int
    label: int
    bar: int
    max_depth: int
    colours: dict[str, str]
    ticks: list[int] = field(default_factory=list)


def waterfall(
    trace_id: str, rows: Sequence[Row], logs: Sequence[LogLine], style: Style, findings: Sequence[Finding] = ()
) -> list[Text]:
    """Draw a trace: a summary, a ruler, a line per span with what `style` wants beneath it, what is worth a look."""
    layout = _lay_out(rows, style)
    beneath = _logs_by_span(rows, logs) if style.logs else {}
    lines = [*_summary(trace_id, rows, style), Text(), _ruler(layout)]
    for row, following in zip(rows, [*rows[1:], None], strict=True):
        lines.append(_span_line(row, layout))
        stem = _stem(row, following, layout)
        lines.extend(_details(row, stem, layout))
        lines.extend(_log_lines(beneath.get(row.id, ()), stem, layout))
    return [*lines, *_worth_a_look(findings, style)]


def _worth_a_look(findings: Sequence[Finding], style: Style) -> Iterable[Text]:
    """Say beneath the picture what the spans tell, the weightiest first."""
    shown = len(findings) if style.whole else MAX_FINDINGS
    for number, finding in enumerate(findings[:shown]):
        if number == 0:
            yield Text()
        line = Text.assemble(
            (f"{style.glyphs.between} ", "dim"), (visible(finding.text), FINDING_COLOURS.get(finding.kind, ""))
        )
        yield from [line] if style.whole else folded(line, style.width)
    if len(findings) > shown:
        yield Text(f"{style.glyphs.between} {len(findings) - shown} more", "dim")


def log_line(log: LogLine, begin_us: int | None, service_cells: int, colour: str) -> list[Text]:
    """Write one log record for `clew logs`: time, offset, service, level, logger, message; a traceback beneath it.

    Without `begin_us`, in a list of lines of many traces, the trace's id is at the end instead of the offset.
    """
    first, *more = visible_lines(log.message) or [""]
    head = Text(no_wrap=True)
    head.append(f"{clock_time(log.timestamp_us)} ", "dim")
    if begin_us is not None:
        head.append(f"{offset(log.timestamp_us - begin_us):>10}  ", "dim")
    head.append(f"{set_cell_size(visible(log.service), service_cells)}  ", colour)
    head.append(f"{visible(log.level):<8}", LEVEL_COLOURS.get(log.level, ""))
    head.append(f"{visible(log.logger)}: ", "dim")
    head.append(first, LEVEL_COLOURS.get(log.level, ""))
    if begin_us is None and log.trace_id:
        head.append(f"  {visible(log.trace_id)}", "dim")
    rest = [Text(f"    {line}") for line in more]
    trace = [Text(f"    {line}", "red") for line in visible_lines(log.exception)] if log.exception else []
    return [head, *rest, *trace]


def colours_of(services: Iterable[str]) -> dict[str, str]:
    """Give each service a colour, in order of appearance; red is left to errors."""
    names = dict.fromkeys(services)
    return {name: SERVICE_COLOURS[index % len(SERVICE_COLOURS)] for index, name in enumerate(names)}


def _lay_out(rows: Sequence[Row], style: Style) -> _Layout:
    starts = [row.start_us for row in rows if row.start_us is not None]
    ends = [row.start_us + (row.duration_us or 0) for row in rows if row.start_us is not None]
    begin = min(starts, default=0)
    most = min(MAX_LABEL_CELLS, int(style.width * MAX_LABEL_SHARE))
    most = min(most, style.width - MIN_BAR_CELLS - DURATION_CELLS - 2 * GAP_CELLS)
    max_depth = MAX_PATH if style.whole else max(1, (most - MIN_NAME_CELLS) // 3)
    layout = _Layout(style, begin, max(1, max(ends, default=0) - begin), most, 0, max_depth, {})
    layout.colours = colours_of(row.service for row in rows)
    longest = max((_label(row, layout).cell_len for row in rows), default=0)
    layout.label = longest if style.whole else min(most, longest)
    layout.bar = max(MIN_BAR_CELLS, style.width - layout.label - DURATION_CELLS - 2 * GAP_CELLS)
    parts = max(1, layout.bar // TICK_EVERY_CELLS)
    layout.ticks = [round(i * (layout.bar - 1) / parts) for i in range(parts + 1)]
    return layout


def _summary(trace_id: str, rows: Sequence[Row], style: Style) -> list[Text]:
    """Say in two lines what the trace is: name, time, how much of it, how much of it failed or is missing."""
    layout_begin = min((row.start_us for row in rows if row.start_us is not None), default=0)
    end = max((row.start_us + (row.duration_us or 0) for row in rows if row.start_us is not None), default=0)
    errors = sum(row.error is not None for row in rows)
    lost = sum(row.lost for row in rows)
    dot = f" {style.glyphs.between} "
    title = Text(no_wrap=True)
    title.append(visible(rows[0].name) if rows else "empty trace", "bold")
    facts = Text.assemble((dot, "dim")).join(
        [
            Text(duration(end - layout_begin), "bold"),
            Text(plural(len(rows), "span")),
            Text(plural(len({row.service for row in rows}), "service")),
            *([Text(plural(errors, "error"), "bold red")] if errors else []),
            *([Text(f"{plural(lost, 'span')} lost", "bold yellow")] if lost else []),
        ]
    )
    head = Text.assemble(("trace ", "dim"), visible(trace_id), (dot, "dim"))
    begun = clock_time(layout_begin, date=head.cell_len + DATE_TIME_CELLS <= style.width)
    second = Text.assemble(head, (begun, "dim"))
    if style.whole:
        return [Text.assemble(title, (dot, "dim"), facts), second]
    room = style.width - facts.cell_len - cell_len(dot)
    title.truncate(max(8, room), overflow="ellipsis")
    first = Text.assemble(title, (dot, "dim"), facts)
    return [_fitted(first, style), _fitted(second, style)]


def _fitted(line: Text, style: Style) -> Text:
    """Cut a line at the width, unless all of it is wanted."""
    if not style.whole:
        line.truncate(style.width, overflow="ellipsis")
    return line


def _ruler(layout: _Layout) -> Text:
    """Write the time at each tick, as long as there is room before the next."""
    cells = [" "] * (layout.bar + 1)
    for index, tick in enumerate(layout.ticks):
        text = duration(round(layout.total_us * index / max(1, len(layout.ticks) - 1))) if index else "0"
        last = index == len(layout.ticks) - 1
        start = max(0, tick + 1 - len(text)) if last else tick
        if start == 0 or cells[start - 1] == " ":
            cells[start : start + len(text)] = list(text)
    text = "".join(cells)[: layout.bar].rstrip()
    return Text(" " * (layout.label + DURATION_CELLS + 2 * GAP_CELLS) + text, "dim")


def _span_line(row: Row, layout: _Layout) -> Text:
    line = _label(row, layout)
    line.truncate(layout.label, overflow="ellipsis", pad=True)
    failed = row.error is not None
    line.append(f"  {duration(row.duration_us):>{DURATION_CELLS}}  ", "red" if failed else "")
    line.append_text(_bar(row, layout))
    line.rstrip()
    return line


def _label(row: Row, layout: _Layout) -> Text:
    """Tree lines, the service where it changes, the name; a status of 400 and above; a mark for errors."""
    glyphs = layout.style.glyphs
    failed = row.error is not None
    label = Text.assemble((_tree_prefix(row, layout), "dim"), no_wrap=True)
    if failed:
        label.append(f"{glyphs.error} ", "bold red")
    if row.service != row.parent_service:
        label.append(f"{visible(row.service) or '?'} ", f"bold {layout.colours.get(row.service, '')}")
    label.append(visible(row.name) or "unnamed", "red" if failed else "")
    if row.target:
        label.append(f" {visible(row.target)}", "red" if failed else "dim")
    status = _status(row)
    if status and (failed or is_failure(status)):
        label.append(f" {visible(status)}", "bold red" if failed else "yellow")
    if row.orphan:
        label.append(" (parent missing)", "yellow")
    return label


def _status(row: Row) -> str:
    """Return the status of a failed call; some clients write it as the error's message instead of a tag of its own."""
    return row.status or (row.error if row.error and row.error.isdigit() else "")


def _tree_prefix(row: Row, layout: _Layout) -> str:
    """Draw the branches that lead to this row; beyond the room for them the depth as a number."""
    glyphs = layout.style.glyphs
    if row.depth > layout.max_depth:
        return f"{row.depth:>{3 * layout.max_depth - 1}} "
    return "".join({"├": glyphs.branch, "└": glyphs.last, "│": glyphs.through, " ": "   "}[step] for step in row.path)


def _stem(row: Row, following: Row | None, layout: _Layout) -> str:
    """Continue the tree through the lines beneath a span, so that log lines do not cut it."""
    glyphs = layout.style.glyphs
    if row.depth > layout.max_depth:
        return " " * (3 * layout.max_depth)
    outer = row.path.replace("├", "│").replace("└", " ")
    has_children = following is not None and following.depth > row.depth
    steps = outer + ("│" if has_children and row.depth < layout.max_depth else " ")
    return "".join(glyphs.through if step == "│" else "   " for step in steps)


def _bar(row: Row, layout: _Layout) -> Text:
    """Draw the span's time in half cells; ticks show through where there is nothing."""
    colour = "bold red" if row.error is not None else layout.colours.get(row.service, "")
    halves = _half_cells(row.start_us, row.duration_us or 0, layout)
    critical = {half for begin, end in row.critical for half in _half_cells(begin, end - begin, layout)}
    drawn = [_bar_cell(cell, halves, critical, layout) for cell in range(layout.bar)]
    text = Text(no_wrap=True)
    for is_bar, run in groupby(drawn, key=lambda cell: cell[0]):
        text.append("".join(glyph for _, glyph in run), colour if is_bar else "dim")
    return text


def _bar_cell(cell: int, halves: range, critical: set[int], layout: _Layout) -> tuple[bool, str]:
    """Return whether this cell is of the bar, and its character."""
    glyphs = layout.style.glyphs
    left, right = 2 * cell in halves, 2 * cell + 1 in halves
    if left or right:
        stroke = glyphs.critical if {2 * cell, 2 * cell + 1} & critical else glyphs.aside
        return True, stroke[0 if left and right else 1 if left else 2]
    return False, glyphs.tick if cell in layout.ticks else " "


def _half_cells(start_us: int | None, duration_us: int, layout: _Layout) -> range:
    """Return the half cells that a stretch of time takes, at least one."""
    if start_us is None:
        return range(0)
    scale = 2 * layout.bar / layout.total_us
    begin = min(int((start_us - layout.begin_us) * scale), 2 * layout.bar - 1)
    end = round((start_us - layout.begin_us + duration_us) * scale)
    return range(begin, min(max(end, begin + 1), 2 * layout.bar))


def _details(row: Row, stem: str, layout: _Layout) -> Iterable[Text]:
    """Say beneath a span why it failed and, on request, where, its tags and its annotations."""
    if row.error and row.error != _status(row):
        for line in row.error.split("\n") if layout.style.whole else row.error.split("\n")[:1]:
            yield _beneath(stem, line, "red", layout)
    if layout.style.tags or layout.style.whole:
        for line in row.stack.split("\n") if row.stack else ():
            yield _beneath(stem, line, "red dim", layout)
    if not layout.style.tags:
        return
    for key, value in sorted(row.tags.items()):
        yield _beneath(stem, f"{key} = {value}", "dim", layout)
    for timestamp_us, value in row.annotations:
        yield _beneath(stem, f"{offset(timestamp_us - layout.begin_us)} {value}", "dim", layout)


def _beneath(stem: str, text: str, colour: str, layout: _Layout) -> Text:
    return _fitted(Text.assemble((stem, "dim"), (visible(text), colour), no_wrap=True), layout.style)


def _log_lines(logs: Sequence[LogLine], stem: str, layout: _Layout) -> Iterable[Text]:
    shown = len(logs) if layout.style.whole else MAX_LOG_LINES
    for log in logs[:shown]:
        yield _log_beneath(log, stem, layout)
    if len(logs) > shown:
        yield _beneath(stem, f"{ELLIPSIS} {plural(len(logs) - shown, 'more line')}", "dim", layout)


def _log_beneath(log: LogLine, stem: str, layout: _Layout) -> Text:
    colour = LEVEL_COLOURS.get(log.level, "")
    line = Text.assemble((stem, "dim"), (f"{offset(log.timestamp_us - layout.begin_us):>9} ", "dim"), no_wrap=True)
    line.append(f"{visible(log.level)} ", colour or "dim")
    line.append(visible(log.message.rstrip("\n").split("\n")[0]), colour or "italic")
    if log.exception:
        line.append(f" {layout.style.glyphs.between} {visible(headline(log.exception))}", "red")
    return _fitted(line, layout.style)


def _logs_by_span(rows: Sequence[Row], logs: Sequence[LogLine]) -> dict[str, list[LogLine]]:
    """Sort log lines beneath their spans; a line of a span that is not here goes beneath the first."""
    known = {row.id for row in rows}
    sorted_out: dict[str, list[LogLine]] = {}
    for log in logs:
        owner = log.span_id if log.span_id in known else rows[0].id if rows else ""
        sorted_out.setdefault(owner, []).append(log)
    return sorted_out


def folded(line: Text, width: int) -> list[Text]:
    """Break a line into pieces of at most `width` cells, all but the first indented."""
    pieces = []
    room = max(width, 2 * HANGING_CELLS)
    while line.cell_len > room:
        head, line = line.divide([_characters_within(line.plain, room)])
        pieces.append(head)
        line.pad_left(HANGING_CELLS)
    return [*pieces, line]


def _characters_within(text: str, cells: int) -> int:
    """Return how many characters from the beginning fit into `cells`; at least one."""
    used = 0
    for index, character in enumerate(text):
        used += cell_len(character)
        if used > cells:
            return max(1, index)
    return len(text)
