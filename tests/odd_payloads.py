"""Payloads as no client should write them, for hypothesis: JSON text whose every part may be wrong."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

SPAN_KEYS = (
    "traceId", "id", "parentId", "kind", "name", "timestamp", "duration", "debug", "shared", "localEndpoint",
    "remoteEndpoint", "tags", "annotations", "binaryAnnotations", "unknown", "",
)  # fmt: skip
RECORD_KEYS = ("timestamp", "service", "level", "logger", "message", "traceId", "id", "exception", "unknown")
ODD_TEXT = (
    "", "a", "Ä", "İ", "😀", "a\x00b", "\x1b[31m", "\\", '"', '":', "\u2028", "null", "1.2.3.4", "::1", "0",
    "F" * 5_000,
)  # fmt: skip
ODD_LITERALS = (
    '"\\ud800"', '"\\u0000"', '"\\ud83d\\ude00"', '"\\/"', '"a\x01b"', "1e3", "1.5", "-0", "-1", "5.0", '"5"', '" 7 "',
    "9223372036854775807", "9223372036854775808", "-9223372036854775809", "18446744073709551616", "1e400", "1" * 5_000,
    "NaN", "Infinity", "TRUE", "null", "true", "false", "[]", "{}", "[[[]]]", "[" * 40 + "]" * 40, '{"a":{"b":[null]}}',
    "",
)  # fmt: skip
ADDRESSES = ("1.2.3.4", "01.2.3.4", "::1", "::", "::1.2.3.4", "2001:DB8::0:1", "1:0:2:3:4:5:6:7", "junk", "")
NUMBERS = (0, 1, 5, 1_472_470_996_199_000, 2**63 - 1)

_text = st.one_of(st.sampled_from(ODD_TEXT), st.text(st.characters(codec="utf-8"), max_size=8))
_space = st.sampled_from(("", "", "", " ", "\n", "\t "))
_hex = st.sampled_from(("a", "1f", "000000000000000a", "463ac35c9f6413ad48485a3953bb6124", "0" * 16, "A", "0"))
_number = st.sampled_from(NUMBERS)
_literal = st.sampled_from(ODD_LITERALS)


def _string(text: SearchStrategy[str]) -> SearchStrategy[str]:
    """A JSON string, plain or with all its characters escaped."""
    return st.builds(
        lambda value, escaped: (
            '"' + "".join(f"\\u{ord(char):04x}" for char in value) + '"'
            if escaped and all(ord(char) < 0xD800 for char in value)
            else json.dumps(value, ensure_ascii=escaped)
        ),
        text,
        st.sampled_from((False, False, False, True)),
    )


def _object(pairs: SearchStrategy[tuple[str, str]], size: int) -> SearchStrategy[str]:
    """An object of these pairs, in any order, a key as often as it comes."""

    def write(items: list[tuple[str, str]], space: str) -> str:
        return "{" + f"{space},{space}".join(f"{key}{space}:{space}{value}" for key, value in items) + "}"

    return st.builds(write, st.lists(pairs, max_size=size), _space)


def _array(items: SearchStrategy[str], size: int = 3) -> SearchStrategy[str]:
    return st.lists(items, max_size=size).map(lambda found: f"[{','.join(found)}]")


def _pair(key: str, value: SearchStrategy[str]) -> SearchStrategy[tuple[str, str]]:
    """A key, now and then in odd case, and its value, now and then of another type."""
    names = st.sampled_from((key,) * 12 + (key.upper(), key.capitalize()))
    return st.tuples(_string(names), st.one_of(*[value] * 15, _literal))


_endpoint = _object(
    st.one_of(
        _pair("serviceName", _string(_text)),
        _pair("ipv4", _string(st.sampled_from(ADDRESSES))),
        _pair("ipv6", _string(st.sampled_from(ADDRESSES))),
        _pair("port", st.sampled_from(("0", "80", "65535"))),
    ),
    4,
)
_tags = _object(st.tuples(_string(_text), st.one_of(*[_string(_text)] * 9, _literal)), 4)
_annotation = st.builds(
    lambda timestamp, value, rest: f'{{"timestamp":{timestamp},"value":{value}{rest}}}',
    st.one_of(*[_number.map(str)] * 9, _literal),
    st.one_of(*[_string(_text)] * 9, _literal),
    st.sampled_from(("", "", "", ',"x":1', ',"value":"second"')),
)
_VALUES: dict[str, SearchStrategy[str]] = {
    **dict.fromkeys(SPAN_KEYS, _literal),
    **dict.fromkeys(("traceId", "id", "parentId"), _string(_hex)),
    "kind": st.sampled_from(('"CLIENT"', '"SERVER"', '"PRODUCER"', '"CONSUMER"', '"client"')),
    **dict.fromkeys(("name", "service", "level", "logger", "message", "exception"), _string(_text)),
    **dict.fromkeys(("timestamp", "duration"), _number.map(str)),
    **dict.fromkeys(("debug", "shared"), st.sampled_from(("true", "false"))),
    **dict.fromkeys(("localEndpoint", "remoteEndpoint"), _endpoint),
    "tags": _tags,
    "annotations": _array(_annotation),
}


def _item(keys: tuple[str, ...], right: str) -> SearchStrategy[str]:
    """An object that has what it must have, and then whatever comes."""
    pairs = _object(st.one_of([_pair(key, _VALUES[key]) for key in keys]), 6)
    return pairs.map(lambda written: "{" + right + ("," if len(written) > 2 else "") + written[1:])


def _mutated(payload: bytes, places: list[tuple[float, bytes]]) -> bytes:
    for place, replacement in places:
        at = int(place * len(payload))
        payload = payload[:at] + replacement + payload[at + 1 :]
    return payload


def _mutations(payload: SearchStrategy[str]) -> SearchStrategy[bytes]:
    """Most as they are; some with bytes taken away or put in their place, a BOM, bad UTF-8, something behind."""
    pieces = st.sampled_from((b"", b"\xff", b"\x00", b'"', b",", b"}", b"[", b"\xef\xbb\xbf", b"\xed\xa0\x80", b" "))
    places: SearchStrategy[Any] = st.one_of(
        st.just([]), st.just([]), st.lists(st.tuples(st.floats(0, 1, exclude_max=True), pieces), max_size=2)
    )
    return st.builds(_mutated, payload.map(lambda text: text.encode("utf-8", "replace")), places)


def span_payloads() -> SearchStrategy[bytes]:
    """Arrays of spans."""
    return _mutations(_array(_item(SPAN_KEYS, '"traceId":"a","id":"b"')))


def log_payloads() -> SearchStrategy[bytes]:
    """Envelopes of log records."""
    records = _array(_item(RECORD_KEYS, '"timestamp":1,"service":"s","message":"m"'))
    return _mutations(records.map(lambda array: f'{{"logs":{array}}}'))
