"""Headers to trace position and back: X-, W3C and B3. Between the framework's hook and ``_tracer``.

Pure: text in, values out. Header names are lower-case here; HTTP does not tell cases apart. Each format stands alone:
what is malformed in one is as if absent, and the next in the order of preference is tried. Nothing raises.

Sources: W3C Trace Context level 2 (sections 3.2 to 3.4 and 4.2), https://www.w3.org/TR/trace-context-2/; B3,
https://github.com/openzipkin/b3-propagation.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from clew._context import Node, parse_span_id, parse_trace_id

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

FORMATS: Final = ("x", "w3c", "b3", "b3single")

_X_HEADERS: Final = ("x-trace-id", "x-span-id", "x-parent-id", "x-sampled")
_W3C_HEADERS: Final = ("traceparent", "tracestate")
_B3_HEADERS: Final = ("x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid", "x-b3-sampled", "x-b3-flags")

# The headers that extract() looks at: an adapter need not copy any other. Those of ASGI come as bytes.
HEADERS: Final = frozenset((*_X_HEADERS, *_W3C_HEADERS, *_B3_HEADERS, "b3"))

_TRUE: Final = frozenset(("1", "true", "d"))
_FALSE: Final = frozenset(("0", "false"))

_FLAG_SAMPLED: Final = 0x01
_FLAG_RANDOM: Final = 0x02
# Version, trace id, parent id, flags and, in later versions, more; white space around as in RFC 9110 section 5.5.
_traceparent: Final = re.compile(r"[ \t]*([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?[ \t]*")
_MAX_TRACESTATE_MEMBERS: Final = 32
_MAX_TRACESTATE_CHARS: Final = 32 * (256 + 1 + 256 + 1)  # all members at their longest; a bound for hostile input
_TRACESTATE_KEY: Final = r"[a-z0-9][a-z0-9_*/@-]{0,255}"
_TRACESTATE_VALUE: Final = r"[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
_tracestate_member: Final = re.compile(f"{_TRACESTATE_KEY}={_TRACESTATE_VALUE}")


class Remote(NamedTuple):
    """What a caller told. ``trace_id`` None: only the sampling decision came; ``sampled`` None: no decision came."""

    trace_id: str | None
    span_id: str | None = None
    parent_id: str | None = None
    sampled: bool | None = None
    debug: bool = False
    random: bool = False
    tracestate: str = ""


def extract(headers: Mapping[str, str], order: Sequence[str]) -> Remote | None:
    """Read the caller's position from lower-case headers; ``order`` names the formats, the preferred first.

    None where no format yields a valid trace id or at least a sampling decision. A header that came more than once is
    expected joined by commas, as WSGI servers and RFC 9110 section 5.3 do; ids so joined are invalid.
    """
    if not headers:
        return None
    decision = None
    for name in order:
        found = _EXTRACTORS[name](headers)
        if found is None:
            continue
        if found.trace_id is not None:
            return _with_state(found, headers) if "traceparent" in headers and name != "w3c" else found
        if decision is None:
            decision = found
    return decision


def _with_state(found: Remote, headers: Mapping[str, str]) -> Remote:
    """Keep W3C's flags and state with the trace that they belong to, whichever format was preferred."""
    w3c = _extract_w3c(headers)
    if w3c is None or w3c.trace_id != found.trace_id:
        return found
    sampled = w3c.sampled if found.sampled is None else found.sampled
    span_id = found.span_id or w3c.span_id  # a gateway may add X-Trace-ID alone
    return Remote(found.trace_id, span_id, found.parent_id, sampled, found.debug, w3c.random, w3c.tracestate)


def _extract_x(headers: Mapping[str, str]) -> Remote | None:
    if "x-trace-id" not in headers and "x-sampled" not in headers:
        return None
    sampled = _parse_sampled(headers["x-sampled"]) if "x-sampled" in headers else None
    trace_id = parse_trace_id(_strip(headers["x-trace-id"])) if "x-trace-id" in headers else None
    if trace_id is None:
        return None if sampled is None else Remote(None, sampled=sampled)
    span_id = parse_span_id(_strip(headers["x-span-id"])) if "x-span-id" in headers else None
    parent_id = parse_span_id(_strip(headers["x-parent-id"])) if span_id and "x-parent-id" in headers else None
    return Remote(trace_id, span_id, parent_id, sampled)


def _extract_w3c(headers: Mapping[str, str]) -> Remote | None:
    match = _traceparent.fullmatch(headers["traceparent"]) if "traceparent" in headers else None
    if match is None:
        return None
    version, trace_id, span_id, flags, more = match.groups()
    if version == "ff" or (more and version == "00"):  # only a later version may have more fields
        return None
    if not trace_id.strip("0") or not span_id.strip("0"):
        return None
    bits = int(flags, 16)
    state = parse_tracestate(headers["tracestate"]) if "tracestate" in headers else ""
    return Remote(trace_id, span_id, None, bits & _FLAG_SAMPLED != 0, False, bits & _FLAG_RANDOM != 0, state)


def _extract_b3(headers: Mapping[str, str]) -> Remote | None:
    if "b3" in headers:  # the single header wins over the multiple ones: B3, "single header format"
        found = _extract_b3_single(headers)
        if found is not None:
            return found
    debug = _strip(headers.get("x-b3-flags")) == "1"
    sampled = True if debug else _parse_sampled(headers.get("x-b3-sampled"))
    trace_id = parse_trace_id(_strip(headers.get("x-b3-traceid")))
    span_id = parse_span_id(_strip(headers.get("x-b3-spanid")))
    if trace_id is None or span_id is None:
        return None if sampled is None else Remote(None, sampled=sampled, debug=debug)
    parent_id = parse_span_id(_strip(headers.get("x-b3-parentspanid")))
    return Remote(trace_id, span_id, parent_id, sampled, debug)


def _extract_b3_single(headers: Mapping[str, str]) -> Remote | None:
    text = _strip(headers.get("b3"))
    if not text:
        return None
    parts = text.split("-")
    if len(parts) == 1:
        sampled = _parse_sampled(text)
        return None if sampled is None else Remote(None, sampled=sampled, debug=text == "d")
    if len(parts) > 4:
        return None
    trace_id, span_id = parse_trace_id(parts[0]), parse_span_id(parts[1])
    if trace_id is None or span_id is None:
        return None
    state = parts[2] if len(parts) > 2 else ""
    parent_id = parse_span_id(parts[3]) if len(parts) > 3 else None
    return Remote(trace_id, span_id, parent_id, _parse_sampled(state), state == "d")


def parse_tracestate(text: str | None) -> str:
    """Return a valid ``tracestate`` as it came but for empty members and blanks around them; "" for an invalid one.

    Members are joined by ",". More than 32, or a character out of place, makes the whole invalid. A key that comes
    twice is passed on twice, as the W3C's test suite allows: it is no reason to drop what other vendors wrote.
    """
    if not text or len(text) > _MAX_TRACESTATE_CHARS:
        return ""
    members = [member for part in text.split(",") if (member := part.strip(" \t"))]
    if len(members) > _MAX_TRACESTATE_MEMBERS or not all(map(_tracestate_member.fullmatch, members)):
        return ""
    return ",".join(members)


def _parse_sampled(text: str | None) -> bool | None:
    value = _strip(text)
    if value is None:
        return None
    value = value.lower()
    return True if value in _TRUE else False if value in _FALSE else None


def _strip(text: str | None) -> str | None:
    return None if text is None else text.strip(" \t")  # RFC 9110's optional white space, which some servers leave


_EXTRACTORS: Final[dict[str, Callable[[Mapping[str, str]], Remote | None]]] = {
    "x": _extract_x,
    "w3c": _extract_w3c,
    "b3": _extract_b3,
    "b3single": _extract_b3_single,
}


def inject(node: Node, formats: Sequence[str]) -> dict[str, str]:
    """Return the headers that tell the callee of ``node`` as its parent. Names as they are usually written."""
    headers: dict[str, str] = {}
    for name in formats:
        _INJECTORS[name](node, headers)
    return headers


def _inject_x(node: Node, headers: dict[str, str]) -> None:
    headers["X-Trace-ID"] = node.trace.trace_id
    headers["X-Span-ID"] = node.span_id
    if node.parent_id:
        headers["X-Parent-ID"] = node.parent_id
    if not node.trace.sampled:
        headers["X-Sampled"] = "0"


def _inject_w3c(node: Node, headers: dict[str, str]) -> None:
    trace = node.trace
    flags = (_FLAG_SAMPLED if trace.sampled else 0) | (_FLAG_RANDOM if trace.random else 0)
    # A 16 character id of an older caller is padded on the left, as section 3.2.2.3's note on interoperability has it.
    headers["traceparent"] = f"00-{trace.trace_id:0>32}-{node.span_id}-0{flags}"
    if trace.tracestate:
        headers["tracestate"] = trace.tracestate


def _inject_b3(node: Node, headers: dict[str, str]) -> None:
    headers["X-B3-TraceId"] = node.trace.trace_id
    headers["X-B3-SpanId"] = node.span_id
    if node.parent_id:
        headers["X-B3-ParentSpanId"] = node.parent_id
    if node.trace.debug:
        headers["X-B3-Flags"] = "1"  # debug implies sampled, which then must not be sent
    else:
        headers["X-B3-Sampled"] = "1" if node.trace.sampled else "0"


def _inject_b3_single(node: Node, headers: dict[str, str]) -> None:
    state = "d" if node.trace.debug else "1" if node.trace.sampled else "0"
    parent = f"-{node.parent_id}" if node.parent_id else ""
    headers["b3"] = f"{node.trace.trace_id}-{node.span_id}-{state}{parent}"


_INJECTORS: Final[dict[str, Callable[[Node, dict[str, str]], None]]] = {
    "x": _inject_x,
    "w3c": _inject_w3c,
    "b3": _inject_b3,
    "b3single": _inject_b3_single,
}
