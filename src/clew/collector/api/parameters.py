"""The query string as Zipkin reads it: the first of equal names counts, empty numbers are none, errors in its words."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl

_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})|%00")
_INTEGER = re.compile(r"[+-]?[0-9]+", re.ASCII)
_INT_MAX = 2**31 - 1
_LONG_MAX = 2**63 - 1
_MAX_QUERY_BYTES = 50_000  # a thousand trace ids take 33,000
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"", "0", "false", "no", "off"})


class Parameters:
    """The parameters of one request. All errors are ValueErrors whose text is for the client."""

    def __init__(self, query: bytes) -> None:
        if len(query) > _MAX_QUERY_BYTES:
            raise ValueError("The query string is too long")
        if _BAD_ESCAPE.search(query):
            raise ValueError("Invalid request path")
        self._values: dict[str, str] = {}
        # Bytes that are no UTF-8 become U+FFFD, which nothing stored contains.
        for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True, errors="replace"):
            self._values.setdefault(name, value)

    def text(self, name: str) -> str:
        """Return a parameter, '' if it is not there."""
        return self._values.get(name, "")

    def mandatory(self, name: str) -> str:
        """Return a parameter that must be there; it may be empty."""
        if name not in self._values:
            raise ValueError(f"Mandatory parameter/header/attribute is missing: {name}")
        return self._values[name]

    def long(self, name: str) -> int | None:
        """Return a 64-bit number, None if it is not there or empty."""
        text = self.text(name)
        return _parse_integer(text, _LONG_MAX) if text else None

    def mandatory_long(self, name: str) -> int:
        """Return a 64-bit number that must be there."""
        return _parse_primitive(name, self.mandatory(name), _LONG_MAX)

    def int(self, name: str, default: int) -> int:
        """Return a 32-bit number, the default if it is not there; unlike others it must not be empty."""
        return _parse_primitive(name, self._values[name], _INT_MAX) if name in self._values else default

    def flag(self, name: str) -> bool:
        """Return whether a parameter says yes; not there or empty is no."""
        text = self.text(name).lower()
        if text in _TRUE:
            return True
        if text in _FALSE:
            return False
        raise ValueError(f"{name} is true or false, not {self.text(name)!r}")


def _parse_primitive(name: str, text: str, maximum: int) -> int:
    if not text:
        raise ValueError(f"Cannot set null to primitive type parameter: {name}")
    return _parse_integer(text, maximum)


def _parse_integer(text: str, maximum: int) -> int:
    if len(text) <= 64 and _INTEGER.fullmatch(text):
        number = int(text)
        if -maximum - 1 <= number <= maximum:
            return number
    raise ValueError(f'For input string: "{text}"')
