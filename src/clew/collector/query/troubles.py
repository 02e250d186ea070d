"""Failures grouped by what they are, and what processes had to drop: both told by spans."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from clew.collector.rows import short_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clew.collector.query.numbers import Chosen
    from clew.collector.query.reader import Reader


class Count(msgspec.Struct):
    """How many in the step that begins at ``timestamp``."""

    timestamp: int
    count: int


class Failure(msgspec.Struct, rename="camel"):
    """Failures that are alike: type, pattern of the message (* stands for what differs), innermost own frame.

    ``first`` and ``last`` in the window; ``example`` is the last one's message, ``trace_id`` its trace.
    """

    type: str
    pattern: str
    frame: str
    count: int
    first: int
    last: int
    services: list[str]
    example: str
    trace_id: str
    points: list[Count]


class Loss(msgspec.Struct, rename="camel"):
    """What processes of a service dropped for a reason, as they told with later spans."""

    service: str
    reason: str
    count: int
    first: int
    last: int
    points: list[Count]


def failures(reader: Reader, chosen: Chosen, step: int, limit: int) -> list[Failure]:
    """Return the groups of failures among the spans chosen, the most frequent first; ``step`` in microseconds."""
    rows = reader.select("group_errors", {**chosen.parameters, "step": step, "limit": limit}, chosen.parts)
    since = chosen.parameters["since"]
    return [
        Failure(
            type=row["type"],
            pattern=row["pattern"],
            frame=row["frame"],
            count=row["count"],
            first=row["first"],
            last=row["last"],
            services=row["services"],
            example=row["example"],
            trace_id=short_id(row["id"]),
            points=_points(row["points"], since, step),
        )
        for row in rows
    ]


def losses(reader: Reader, chosen: Chosen, step: int, limit: int, services: Sequence[str] = ()) -> list[Loss]:
    """Return what was dropped, the most first; of these services, or of all."""
    given = {**chosen.parameters, "step": step, "limit": limit, "services": list(services)}
    rows = reader.select("read_losses", given, chosen.parts)
    since = chosen.parameters["since"]
    return [
        Loss(
            row["service"], row["reason"], row["count"], row["first"], row["last"], _points(row["points"], since, step)
        )
        for row in rows
    ]


def _points(points: Any, since: int, step: int) -> list[Count]:
    return [Count(since + place * step, count) for place, count in zip(*points, strict=True)]
