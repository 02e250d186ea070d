"""What a search means: conditions on one span, and what is asked of a trace in terms of them.

A ``Condition`` holds of a span or does not. A ``Query`` holds of a trace: somewhere in it is a span for which a
condition holds, its root is one, or one such span lies beneath another. Only positive comparisons exist: ``!=`` is
``Not`` of ``=``, so it holds of spans that lack the field, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

# What a span has besides its tags, and what is said about it in errors and completion.
FIELDS: Final = {
    "service": "the service that reported the span",
    "name": "the span's name",
    "kind": "CLIENT, SERVER, PRODUCER or CONSUMER",
    "duration": "how long it took: 200ms, 1.5s",
    "remote": "the service at the other end",
    "trace": "the trace's id",
    "span": "the span's id",
}

# Names of one thing in both generations of OpenTelemetry's conventions and in Zipkin: whoever asks for one finds all.
_GENERATIONS: Final = (
    ("http.status_code", "http.response.status_code"),
    ("http.method", "http.request.method"),
    ("http.url", "url.full"),
    ("http.path", "url.path", "http.target"),
    ("http.host", "server.address", "net.peer.name"),
    ("http.user_agent", "user_agent.original"),
    ("db.system", "db.system.name"),
    ("db.statement", "db.query.text", "sql.query"),
    ("db.operation", "db.operation.name"),
    ("db.name", "db.namespace"),
    ("rpc.grpc.status_code", "grpc.status_code", "rpc.response.status_code"),
    ("messaging.destination", "messaging.destination.name"),
    ("error.type", "exception.type"),
)
_ALSO: Final = {name: names for names in _GENERATIONS for name in names}


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a span: a built-in one of ``FIELDS``, or a tag's key."""

    name: str
    builtin: bool

    @property
    def spellings(self) -> tuple[Field, ...]:
        """The same tag under each of its names."""
        return (self,) if self.builtin else tuple(Field(name, False) for name in _ALSO.get(self.name, (self.name,)))


@dataclass(frozen=True, slots=True)
class Compare:
    """``field operator value``; ``operator`` is one of ``= > >= < <= ~``. ``number``: the value, if it is one.

    Of ``duration`` the number is in microseconds. An order holds between numbers where the value is one, else between
    texts.
    """

    field: Field
    operator: str
    value: str
    number: float | None = None


@dataclass(frozen=True, slots=True)
class Exists:
    """The span has this field."""

    field: Field


@dataclass(frozen=True, slots=True)
class Text:
    """The words occur, in any case, in the span's name, a tag, an annotation or a log line written in it."""

    text: str


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite."""

    of: Condition | Query


@dataclass(frozen=True, slots=True)
class And:
    """All of them; of none: always."""

    of: tuple[Condition | Query, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """At least one of them; of none: never."""

    of: tuple[Condition | Query, ...]


@dataclass(frozen=True, slots=True)
class Somewhere:
    """A span of the trace is so."""

    condition: Condition


@dataclass(frozen=True, slots=True)
class AtRoot:
    """The trace's root is so."""

    condition: Condition


@dataclass(frozen=True, slots=True)
class Beneath:
    """A span that is as ``lower`` lies beneath one that is as ``upper``: as its child, or any number of steps down."""

    upper: Condition
    lower: Condition
    directly: bool


Condition: TypeAlias = Compare | Exists | Text | Not | And | Or
Query: TypeAlias = Somewhere | AtRoot | Beneath | Not | And | Or
Node: TypeAlias = Condition | Query
EVERYTHING: Final = And(())


def about_traces(node: Node) -> bool:
    """Tell whether a part of a query speaks of a trace as a whole."""
    if isinstance(node, (And, Or)):
        return any(map(about_traces, node.of))
    if isinstance(node, Not):
        return about_traces(node.of)
    return isinstance(node, (Somewhere, AtRoot, Beneath))


def lift(node: Node) -> Query:
    """Make a query of what was written: plain conditions that stand side by side belong to one span."""
    if node == EVERYTHING:
        return EVERYTHING
    if not about_traces(node):
        return Somewhere(node)  # type: ignore[arg-type]  # a node that is not about traces is a condition
    if isinstance(node, (And, Or)):
        kind = type(node)
        plain = tuple(part for part in node.of if not about_traces(part))
        whole = tuple(lift(part) for part in node.of if about_traces(part))
        together = (Somewhere(plain[0] if len(plain) == 1 else kind(plain)),) if plain else ()  # type: ignore[arg-type]
        return kind((*together, *whole))
    if isinstance(node, Not):
        return Not(lift(node.of))
    return node  # type: ignore[return-value]


def required(query: Query) -> Condition | None:
    """Return a condition that a span of every trace found must meet, the most exacting one; None if there is none.

    A search looks for such spans first, then asks the whole query of their traces.
    """
    if isinstance(query, (Somewhere, AtRoot)):
        return None if query.condition == EVERYTHING else query.condition
    if isinstance(query, Beneath):
        return max((query.upper, query.lower), key=_exactness)
    if isinstance(query, And):
        found = [condition for part in query.of if (condition := required(part)) is not None]  # type: ignore[arg-type]
        return max(found, key=_exactness, default=None)
    if isinstance(query, Or):
        parts = [required(part) for part in query.of]  # type: ignore[arg-type]
        return None if None in parts or not parts else Or(tuple(parts))  # type: ignore[arg-type]
    return None


def needs_tree(query: Query) -> bool:
    """Tell whether the engine's answer must be looked at again with the trace at hand: who lies beneath whom."""
    return any(isinstance(node, Beneath) and not node.directly for node in walk(query))


def walk(node: Node) -> Iterator[Node]:
    """Yield the node and all below it."""
    todo: list[Node] = [node]
    while todo:
        found = todo.pop()
        yield found
        if isinstance(found, (And, Or)):
            todo.extend(found.of)
        elif isinstance(found, Not):
            todo.append(found.of)
        elif isinstance(found, (Somewhere, AtRoot)):
            todo.append(found.condition)
        elif isinstance(found, Beneath):
            todo += [found.upper, found.lower]


def _exactness(condition: Condition) -> int:
    """Guess how few spans meet a condition: equality with a long text is rarer than anything else."""
    if isinstance(condition, Compare):
        exact = condition.operator == "=" and condition.field.name != "kind"
        return (20 if not condition.field.builtin else 10) + min(len(condition.value), 40) if exact else 5
    if isinstance(condition, And):
        return max(map(_exactness, condition.of), default=0)  # type: ignore[arg-type]
    if isinstance(condition, Or):
        return min(map(_exactness, condition.of), default=0)  # type: ignore[arg-type]
    return {Exists: 4, Text: 3}.get(type(condition), 0)
