"""What is expected at a place in a search: a field, an operator, a value of which field. Pure."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from clew.collector.search.parse import MAX_CHARS
from clew.collector.search.words import OPERATORS, SearchError, Word, split

_BARE: Final = re.compile(r"[\w.\-/:@?%+*]+")
_WORDS: Final = ("and", "or", "not", "in", "exists", "child", "of", "any", "root")


class Expected(NamedTuple):
    """What may stand at ``begin`` to ``end`` (characters): ``kind`` is field, operator, value or joint.

    ``prefix`` is what is written there already; ``field`` the one whose value is expected, else "". A joint joins
    conditions: and, or; a field may stand there, too.
    """

    kind: str
    field: str
    prefix: str
    begin: int
    end: int


def expected(text: str, at: int) -> Expected:
    """Tell what is expected where the cursor stands; never raises, whatever was typed."""
    at = max(0, min(at, len(text), MAX_CHARS))
    words, prefix, begin = _before(text[:at])
    state, field = "field", ""
    for place, word in enumerate(words):
        following = words[place + 1] if place + 1 < len(words) else None
        state, field = _after(state, field, word, following)
    kind = _KINDS.get(state, state)
    return Expected(kind, field if kind == "value" else "", prefix, begin, at)


_KINDS: Final = {"named": "operator", "opening": "operator", "child": "operator", "values": "value"}


def _before(text: str) -> tuple[list[Word], str, int]:
    """Return the finished words before the cursor, and the word that is being typed with where it begins."""
    try:
        words = split(text)[:-1]
    except SearchError as wrong:  # a quote is open: its text is being typed
        return split(text[: wrong.begin])[:-1], text[wrong.begin + 1 :], wrong.begin
    if words and words[-1].end == len(text) and words[-1].kind == "bare":
        return words[:-1], words[-1].text, words[-1].begin
    return words, "", len(text)


def _after(state: str, field: str, word: Word, following: Word | None) -> tuple[str, str]:
    """Return the state after a word, and the field that it is about."""
    is_word = word.kind != "sign"
    if word.says("->") or (state == "child" and word.says("of")):
        return "value", "service"
    if word.says("(", "{"):
        return ("values", field) if state == "opening" else ("field", "")
    if word.says(")", "}"):
        return "joint", ""
    if word.says("and", "or") or (word.says("any", "root") and following is not None and following.says("{")):
        return "field", ""
    if state in ("value", "values"):
        return (state, field) if state == "values" or not is_word else ("joint", "")
    if state == "named":
        return _after_name(field, word)
    if word.says("not"):
        return "field", field
    if state == "field" and field and word.says("in"):
        return "opening", field
    if word.says("child"):
        return "child", ""
    return ("named", word.text) if is_word else (state, field)


def _after_name(field: str, word: Word) -> tuple[str, str]:
    if word.kind == "sign" and word.text in OPERATORS:
        return "value", field
    if word.says("exists"):
        return "joint", ""
    if word.says("in"):
        return "opening", field
    if word.says("not"):
        return "field", field
    return ("child", "") if word.says("child") else ("named", word.text)


def written(text: str, *, of_field: bool = False) -> str:
    """Return a name or value as it is written in a search: in quotes where it must be."""
    if _BARE.fullmatch(text) and text.lower() not in _WORDS:
        return text
    if of_field and "`" not in text:
        return f"`{text}`"
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
