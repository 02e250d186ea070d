"""From a search's words to its tree: recursive descent, one function a rule of the grammar."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import Final

from clew.collector.search.tree import (
    EVERYTHING,
    FIELDS,
    And,
    AtRoot,
    Beneath,
    Compare,
    Condition,
    Exists,
    Field,
    Node,
    Not,
    Or,
    Query,
    Somewhere,
    Text,
    about_traces,
    lift,
)
from clew.collector.search.words import OPERATORS, SearchError, Word, split

MAX_CHARS: Final = 4_000
MAX_DEPTH: Final = 50  # of brackets and `not`; each is a few frames of the interpreter and of the engine's parser
MAX_PARTS: Final = 200  # comparisons; the engine evaluates each for every span that it looks at
_UNITS_US: Final = {"ns": 0.001, "us": 1, "µs": 1, "μs": 1, "ms": 1_000, "s": 1e6, "m": 6e7, "min": 6e7, "h": 3.6e9}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)([a-zµμ]+)", re.IGNORECASE)
_NUMBER: Final = re.compile(r"[+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?")
_KINDS: Final = ("CLIENT", "SERVER", "PRODUCER", "CONSUMER")
_KEYWORDS: Final = ("and", "or", "not", "in", "exists")


def parse(text: str) -> Query:
    """Return what a search asks of a trace; of an empty text, nothing. Raises SearchError."""
    return lift(_Parser(text).whole())


def parse_condition(text: str) -> Condition:
    """Return what a search asks of one span or log line. Raises SearchError where it speaks of a trace as a whole."""
    node = _Parser(text).whole()
    if about_traces(node):
        raise SearchError("any, root, -> and child of speak of whole traces, and here single lines are asked for", 0, 0)
    return node  # type: ignore[return-value]


class _Parser:
    """The words of one search, and how far they are read."""

    def __init__(self, text: str) -> None:
        if len(text) > MAX_CHARS:
            raise SearchError(f"A search has at most {MAX_CHARS:,} characters", MAX_CHARS, len(text))
        self._text = text
        self._words = split(text)
        self._at = 0
        self._depth = 0
        self._parts = 0

    def whole(self) -> Node:
        """Read all of it."""
        if self._word.kind == "end":
            return EVERYTHING
        node = self._either()
        if self._word.kind != "end":
            raise self._unexpected()
        return node

    # --- one function a rule ---

    def _either(self) -> Node:
        parts = [self._both()]
        while self._take("or"):
            parts.append(self._both())
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def _both(self) -> Node:
        parts = [self._unary()]
        while self._take("and") or not (self._word.kind == "end" or self._word.says("or", ")", "}", ",")):
            parts.append(self._unary())
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def _unary(self) -> Node:
        if self._word.says("not") and not self._next.says("in"):
            self._deeper()
            self._at += 1
            node = Not(self._unary())
            self._depth -= 1
            return node
        return self._relation()

    def _relation(self) -> Node:
        begin = self._word
        left = self._primary()
        if self._take("->"):
            return Beneath(self._one_span(left, begin), self._end_of_relation(), directly=False)
        if self._word.says("child") and self._next.says("of"):
            self._at += 2
            return Beneath(self._end_of_relation(), self._one_span(left, begin), directly=True)
        return left

    def _end_of_relation(self) -> Condition:
        begin = self._word
        return self._one_span(self._primary(), begin)

    def _one_span(self, node: Node, word: Word) -> Condition:
        """Return a side of a relation; a bare word is a service there."""
        if isinstance(node, Text) and word.kind in ("bare", "quoted"):
            return Compare(Field("service", True), "=", node.text.lower())
        if about_traces(node):
            raise SearchError("On both sides of -> and `child of` stands what one span is like", word.begin, word.end)
        return node  # type: ignore[return-value]

    def _primary(self) -> Node:
        word = self._word
        if word.says("(", "{"):
            return self._enclosed(")" if word.text == "(" else "}")
        if word.says("any", "root") and self._next.says("{"):
            self._at += 1
            inner = self._nothing() if self._next.says("}") else self._enclosed("}")
            if about_traces(inner):
                raise SearchError("In any{...} and root{...} stands what one span is like", word.begin, word.end)
            return (Somewhere if word.says("any") else AtRoot)(inner)  # type: ignore[arg-type]
        return self._comparison()

    def _nothing(self) -> Node:
        self._at += 2
        return EVERYTHING

    def _enclosed(self, closing: str) -> Node:
        opening = self._word
        self._deeper()
        self._at += 1
        node = self._either()
        if not self._take(closing):
            if self._word.kind != "end":
                raise self._unexpected()
            rest = self._text[opening.begin :]
            closed = f"{rest.rstrip()}{closing}"
            raise SearchError(f"The bracket {opening.text} is not closed", opening.begin, len(self._text), closed)
        self._depth -= 1
        return node

    def _comparison(self) -> Node:
        word = self._word
        if word.kind not in ("bare", "key", "quoted") or word.says(*_KEYWORDS):
            raise self._unexpected()
        self._count(word)
        self._at += 1
        if self._word.kind == "sign" and self._word.text in OPERATORS:
            return self._operator(self._field(word))
        if self._word.says("in") or (self._word.says("not") and self._next.says("in")):
            negated = self._take("not")
            self._at += 1
            one_of = self._one_of(self._field(word))
            return Not(one_of) if negated else one_of
        if self._take("exists"):
            return _spelled(Exists(self._field(word)))
        if word.kind == "key" or word.says("error"):
            return _spelled(Exists(self._field(word)))
        return Text(word.text)

    def _operator(self, field: Field) -> Node:
        operator = self._word
        self._at += 1
        if self._word.kind == "sign" and self._word.text in OPERATORS and self._word.begin == operator.end:  # =>, ~=
            turned = self._word.text + operator.text
            known = turned if turned in OPERATORS else operator.text
            raise SearchError(
                f"There is no operator {operator.text}{self._word.text}", operator.begin, self._word.end, known
            )
        negated = operator.text in ("!=", "!~")
        compared = self._compared(field, operator.text[-1:] if negated else operator.text, self._value(operator))
        return Not(compared) if negated else compared

    def _one_of(self, field: Field) -> Node:
        opening = self._word
        if not self._take("("):
            raise SearchError("After in stand the values in brackets", opening.begin, opening.end, "(a, b)")
        parts = [self._compared(field, "=", self._value(opening))]
        while self._take(","):
            self._count(self._word)
            parts.append(self._compared(field, "=", self._value(opening)))
        if not self._take(")"):
            raise self._unexpected(") or ,")
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def _value(self, before: Word) -> Word:
        word = self._word
        if word.kind not in ("bare", "quoted", "key"):
            raise SearchError(f"After {before.text} a value is missing", before.begin, word.end, 'a word or "a text"')
        self._at += 1
        return word

    # --- meaning ---

    def _field(self, word: Word) -> Field:
        if word.kind == "quoted":
            return Field(word.text, False)
        return Field(word.text.lower(), True) if _is_builtin(word) else Field(word.text, False)

    def _compared(self, field: Field, operator: str, value: Word) -> Node:
        text, number = value.text, None
        if operator == "~":
            _check_pattern(value)
        elif field.name == "duration" and field.builtin:
            number = self._duration_us(value)
        elif value.kind == "bare" and not field.builtin and operator != "=" and _NUMBER.fullmatch(text):
            number = float(text)
        if field.builtin and operator != "~":
            text = _canonical(field, value)
        return _spelled(Compare(field, operator, text, number))

    def _duration_us(self, value: Word) -> float:
        found = _DURATION.fullmatch(value.text)
        unit = _UNITS_US.get(found[2].lower()) if found else None
        if found is None or unit is None:
            digits = re.match(r"\d+(?:\.\d+)?", value.text)
            raise SearchError(
                "A duration has a number and a unit: us, ms, s, m or h",
                value.begin,
                value.end,
                f"{digits[0] if digits else 200}ms",
            )
        return float(found[1]) * unit

    # --- words ---

    @property
    def _word(self) -> Word:
        return self._words[self._at]

    @property
    def _next(self) -> Word:
        return self._words[min(self._at + 1, len(self._words) - 1)]

    def _take(self, keyword: str) -> bool:
        if not self._word.says(keyword):
            return False
        self._at += 1
        return True

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise SearchError(f"Brackets and not go {MAX_DEPTH} deep at most", self._word.begin, self._word.end)

    def _count(self, word: Word) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise SearchError(f"A search has at most {MAX_PARTS} comparisons", word.begin, word.end)

    def _unexpected(self, wanted: str = "") -> SearchError:
        word = self._word
        if word.kind == "end":
            text = f"The search ends where {wanted or 'a condition'} should follow"
            return SearchError(text, word.begin, word.end, wanted or "service = ...")
        if word.says(")", "}"):
            return SearchError(f"{word.text} closes nothing", word.begin, word.end)
        if word.says(*OPERATORS):
            return SearchError(f"Before {word.text} stands a field", word.begin, word.end, f"name {word.text}")
        expected = f"{wanted} should stand" if wanted else "a condition should stand"
        quoted = f'"{word.text}"'
        return SearchError(f"{word.text} where {expected}", word.begin, word.end, quoted if word.kind == "bare" else "")


def _is_builtin(word: Word) -> bool:
    return word.kind == "bare" and word.text.lower() in FIELDS


def _spelled(condition: Compare | Exists) -> Node:
    """Return the condition on a tag under each of its names."""
    fields = condition.field.spellings
    if len(fields) == 1:
        return condition
    if isinstance(condition, Exists):
        return Or(tuple(Exists(field) for field in fields))
    return Or(tuple(Compare(field, condition.operator, condition.value, condition.number) for field in fields))


def _canonical(field: Field, value: Word) -> str:
    """Return a value of a built-in field as the store has it."""
    text = value.text
    if field.name in ("service", "name", "remote"):
        return text.lower()
    if field.name in ("trace", "span"):
        return text.lower().replace("-", "")
    if field.name == "kind":
        if text.upper() not in _KINDS:
            near = get_close_matches(text.upper(), _KINDS, 1, 0.3)
            raise SearchError(f"A kind is one of {', '.join(_KINDS)}", value.begin, value.end, near[0] if near else "")
        return text.upper()
    return text


def _check_pattern(value: Word) -> None:
    """Refuse what is no regular expression; the engine knows RE2, which is this without looking around and back."""
    try:
        re.compile(value.text)
    except (re.error, OverflowError, RecursionError) as problem:
        raise SearchError(f"No regular expression: {problem}", value.begin, value.end, re.escape(value.text)) from None
    found = re.search(r"(?<!\\)\((?:\?[=!<](?!P)|\?<[=!]|\?\()|\\[1-9]", value.text)
    if found:
        raise SearchError("Regular expressions cannot look around or refer back here", value.begin, value.end)
