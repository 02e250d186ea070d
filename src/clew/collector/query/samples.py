"""Some traces of an operation, spread over a window: for what is usual."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clew.collector.query.spans import pages
from clew.collector.rows import short_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clew.collector.query.reader import Reader
    from clew.collector.trace.span import Span

MAX_SPANS = 5_000  # of one trace; a longer one is left out, for nobody's usual is like that


def traces_of(
    reader: Reader, service: str, name: str, since: int, until: int, limit: int, *, root: bool = False
) -> Iterator[list[Span]]:
    """Yield the spans of some traces with a span of this operation in the window; ``root``: one that begins them."""
    given = {"since": since, "until": until, "service": service, "name": name, "limit": limit, "root": root}
    ids = [short_id(row["id"]) for row in reader.select("sample_traces", given)]
    spans: list[Span] = []
    last = ""
    for key, page in pages(reader, ids):
        if key != last and spans:
            yield spans
            spans = []
        last = key
        spans = spans + page if len(spans) < MAX_SPANS else spans
    if spans:
        yield spans
