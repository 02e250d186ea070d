"""From a search's text to its words: quoted, bare, signs; each knows where it stood."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

OPERATORS: Final = ("=", "!=", ">", ">=", "<", "<=", "~", "!~")
_SIGNS: Final = {"==": "=", "&&": "and", "||": "or", "!": "not"}  # what people of other languages type
_WORD: Final = re.compile(
    r"""\s*(?:
      (?P<quoted> "(?:[^"\\]|\\.)*" | '(?:[^'\\]|\\.)*' )
    | `(?P<key>[^`]+)`
    | (?P<sign> -> | == | != | >= | <= | !~ | && | \|\| | [=<>~!(){},] )
    | (?P<bare> (?: -(?!>) | &(?!&) | \|(?!\|) | [^\s"'`=<>~!(){},&|-] )+ )
    | (?P<open> ["'`] )
    )""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r"}


class SearchError(ValueError):
    """What is wrong with a search, where (``begin`` to ``end``, in characters), and what to write in its place."""

    def __init__(self, message: str, begin: int, end: int, suggestion: str = "") -> None:
        super().__init__(message)
        self.message, self.begin, self.end, self.suggestion = message, begin, end, suggestion


@dataclass(frozen=True, slots=True)
class Word:
    """``kind`` is sign, quoted, key (in backticks: always a tag's key), bare or end; ``text`` has no quotes."""

    kind: str
    text: str
    begin: int
    end: int

    def says(self, *keywords: str) -> bool:
        """Tell whether it is one of these keywords, in any case, or signs."""
        return self.kind in ("bare", "sign") and self.text.lower() in keywords


def split(text: str) -> list[Word]:
    """Return the words of a search and a last one of kind end. Raises SearchError for a quote that is not closed."""
    return list(_words(text))


def _words(text: str) -> Iterator[Word]:
    position = 0
    while found := _WORD.match(text, position):
        kind = found.lastgroup or ""
        begin, end = found.start(kind), found.end()
        if kind == "open":
            quote = found[kind]
            raise SearchError(f"The quote {quote} is not closed", begin, len(text), f"{text[begin:].rstrip()}{quote}")
        yield Word(kind, _content(kind, found[kind]), begin, end)
        position = end
    yield Word("end", "", len(text), len(text))


def _content(kind: str, text: str) -> str:
    if kind == "quoted":
        return _ESCAPE.sub(lambda found: _ESCAPES.get(found[1], found[1]), text[1:-1])
    return _SIGNS.get(text, text) if kind == "sign" else text
