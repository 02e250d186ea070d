"""``/api/v1/complete``: what may stand at the cursor of a search, of what is stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from clew.collector.api.v1 import asking
from clew.collector.api.v1.operation import Operation, Parameter
from clew.collector.query import completion
from clew.collector.search.complete import Expected, expected, written
from clew.collector.search.tree import FIELDS, Field
from clew.collector.search.words import OPERATORS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clew.collector.api.v1.operation import Call

_DURATIONS: Final = ("10ms", "100ms", "500ms", "1s", "5s")
_KINDS: Final = ("CLIENT", "SERVER", "PRODUCER", "CONSUMER")
_DAY_US: Final = 86_400_000_000


class Suggestion(msgspec.Struct):
    """What may be written; what it is; how many of the spans looked at have it, null where that is no question."""

    text: str
    about: str
    count: int | None


class Completion(msgspec.Struct):
    """Suggestions to stand at ``begin`` to ``end`` (characters of the search), the likeliest first.

    ``expected``: field, operator, value (of ``field``) or joint.
    """

    expected: str
    field: str
    begin: int
    end: int
    suggestions: list[Suggestion]


def complete(call: Call) -> Completion:
    """Answer what may stand at the cursor."""
    text = call.parameters.text("q")
    at = asking.moment(call.parameters, "at")
    limit = asking.limit(call.parameters, 20, 200)
    place = expected(text, len(text) if at is None else at)
    found = [*_fixed(place), *_stored(call, place, limit)]
    return Completion(place.kind, place.field, place.begin, place.end, found[: limit + len(OPERATORS)])


def _fixed(place: Expected) -> Iterator[Suggestion]:
    """Yield what belongs to the language."""
    prefix = place.prefix.lower()
    words: list[tuple[str, str]] = []
    if place.kind == "operator":
        words = [*((sign, "operator") for sign in OPERATORS), ("in (", "one of"), ("exists", "is there")]
    if place.kind in ("operator", "joint"):
        words += [("and", "both hold"), ("or", "one holds")]
    if place.kind in ("field", "joint"):
        words += [*FIELDS.items(), ("error", "failed spans"), ("not", "the opposite")]
        words += [("any{", "somewhere in the trace"), ("root{", "the trace's root")]
    if place.field == "kind":
        words = [(kind, "kind") for kind in _KINDS]
    if place.field == "duration":
        words = [(duration, "duration") for duration in _DURATIONS]
    yield from (Suggestion(word, about, None) for word, about in words if word.lower().startswith(prefix))


def _stored(call: Call, place: Expected, limit: int) -> list[Suggestion]:
    """Return what the spans of the window have."""
    if place.kind == "operator" or place.field in ("kind", "duration"):
        return []
    since, until = asking.short_window(call, _DAY_US)
    if place.kind == "value":
        field = Field(place.field, place.field in FIELDS)
        values = completion.values(call.reader, field, place.prefix, since, until, limit)
        return [Suggestion(written(text), place.field, count) for text, count in values.items()]
    keys = completion.keys(call.reader, place.prefix, since, until, limit)
    return [
        Suggestion(f"`{key}`" if key in FIELDS else written(key, of_field=True), "tag", count)
        for key, count in keys.items()
    ]


OPERATIONS: Final = (
    Operation(
        "/api/v1/complete",
        "What may stand at the cursor of a search: fields, operators, services, operations, keys and values of tags of "
        "what is stored, with counts over the newest spans of the window (a day).",
        (
            Parameter("q", "The search as far as it is written."),
            Parameter("at", "Where the cursor stands, in characters; by default at the end.", "integer"),
            *asking.WINDOW,
            asking.limit_parameter(20, 200),
        ),
        Completion,
        complete,
    ),
)
