"""The cases of W3C Trace Context level 2 as headers in and what must come out, one line each.

They follow the W3C's own validation suite (https://github.com/w3c/trace-context/tree/main/test) case by case, at its
strictest level, and say in values what it says in code.
"""

from __future__ import annotations

from typing import NamedTuple

TRACE = "12345678901234567890123456789012"
PARENT = "1234567890123456"
VALID = f"00-{TRACE}-{PARENT}-01"
UNSAMPLED = f"00-{TRACE}-{PARENT}-00"


class Case(NamedTuple):
    """``kept``: the caller's trace goes on, else a new one begins. ``state``: the tracestate that goes out."""

    name: str
    headers: list[tuple[str, str]]
    kept: bool
    state: str = ""


def parents(*values: str, kept: bool, name: str) -> list[Case]:
    return [Case(f"{name}-{i}", [("traceparent", value)], kept) for i, value in enumerate(values)]


def states(*values: tuple[list[str], str], name: str) -> list[Case]:
    return [
        Case(f"{name}-{i}", [("traceparent", UNSAMPLED), *(("tracestate", line) for line in lines)], True, state)
        for i, (lines, state) in enumerate(values)
    ]


_KEY = "abcdefghijklmnopqrstuvwxyz0123456789_-*/"
_VALUE = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) not in ",=")
_TENS = [",".join(f"bar{n:02}={n:02}" for n in range(first, first + 10)) for first in (1, 11, 21)]

CASES = [
    Case("nothing", [], False),
    Case("traceparent", [("traceparent", VALID)], True),
    Case("traceparent-twice", [("traceparent", VALID), ("traceparent", VALID.replace("9012-", "9011-"))], False),
    Case("traceparent-twice-the-same", [("traceparent", VALID), ("traceparent", VALID)], False),
    Case("name-with-dash", [("trace-parent", VALID)], False),
    Case("name-with-dot", [("trace.parent", VALID)], False),
    Case("name-mixed-case", [("TraceParent", VALID)], True),
    Case("name-odd-case", [("TrAcEpArEnT", VALID)], True),
    Case("name-upper-case", [("TRACEPARENT", VALID)], True),
    *parents(f"{VALID}.", f"{VALID}-what-the-future-will-be-like", kept=False, name="version-00-with-more"),
    *parents(f"cc{VALID[2:]}", f"cc{VALID[2:]}-what-the-future-will-be-like", kept=True, name="version-cc"),
    *parents(f"cc{VALID[2:]}.what-the-future-will-be-like", kept=False, name="version-cc-no-dash"),
    *parents(f"ff{VALID[2:]}", kept=False, name="version-ff"),
    *parents(f".0{VALID[2:]}", f"0.{VALID[2:]}", kept=False, name="version-characters"),
    *parents(f"000{VALID[2:]}", f"0000{VALID[2:]}", f"0{VALID[2:]}", kept=False, name="version-length"),
    *parents(
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-.{TRACE[1:]}-{PARENT}-01",
        f"00-{TRACE[:-1]}.-{PARENT}-01",
        f"00-{TRACE}3-{PARENT}-01",
        f"00-{TRACE[:-1]}-{PARENT}-01",
        f"00-{TRACE.replace('1', 'A')}-{PARENT}-01",
        kept=False,
        name="trace-id",
    ),
    *parents(
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-.{PARENT[1:]}-01",
        f"00-{TRACE}-{PARENT[:-1]}.-01",
        f"00-{TRACE}-{PARENT}7-01",
        f"00-{TRACE}-{PARENT[:-1]}-01",
        f"00-{TRACE}-{PARENT.replace('1', 'A')}-01",
        kept=False,
        name="parent-id",
    ),
    *parents(
        *(f"00-{TRACE}-{PARENT}-{flags}" for flags in (".0", "0.", "001", "1", "0A")), kept=False, name="trace-flags"
    ),
    *parents(f" {VALID}", f"\t{VALID}", f"{VALID} ", f"{VALID}\t", f"\t {VALID} \t", kept=True, name="blanks-around"),
    Case("state-without-parent", [("tracestate", "foo=1")], False),
    Case("states-without-parent", [("tracestate", "foo=1,bar=2")], False),
    Case("state-with-invalid-parent", [("traceparent", f"{VALID}."), ("tracestate", "foo=1")], False),
    *states((["foo=1,bar=2"], "foo=1,bar=2"), name="state"),
    Case("state-name-with-dash", [("traceparent", UNSAMPLED), ("trace-state", "foo=1")], True),
    Case("state-name-with-dot", [("traceparent", UNSAMPLED), ("trace.state", "foo=1")], True),
    Case("state-name-mixed-case", [("traceparent", UNSAMPLED), ("TraceState", "foo=1")], True, "foo=1"),
    Case("state-name-odd-case", [("traceparent", UNSAMPLED), ("TrAcEsTaTe", "foo=1")], True, "foo=1"),
    Case("state-name-upper-case", [("traceparent", UNSAMPLED), ("TRACESTATE", "foo=1")], True, "foo=1"),
    *states(([""], ""), (["foo=1", ""], "foo=1"), (["", "foo=1"], "foo=1"), name="state-empty"),
    *states(
        (["foo=1,bar=2", "rojo=1,congo=2", "baz=3"], "foo=1,bar=2,rojo=1,congo=2,baz=3"), name="state-in-three-headers"
    ),
    *states(
        (["foo=1,foo=1"], "foo=1,foo=1"),
        (["foo=1,foo=2"], "foo=1,foo=2"),
        (["foo=1", "foo=1"], "foo=1,foo=1"),
        (["foo=1", "foo=2"], "foo=1,foo=2"),
        (["foo=1,bar=2,foo=3"], "foo=1,bar=2,foo=3"),
        name="state-key-twice",
    ),
    *states(
        ([f"{_KEY}={_VALUE}"], f"{_KEY}={_VALUE}"),
        ([f"{_KEY}@a-z0-9_-*/={_VALUE}"], f"{_KEY}@a-z0-9_-*/={_VALUE}"),
        name="state-all-characters",
    ),
    *states(
        (["foo=1 \t , \t bar=2, \t baz=3"], "foo=1,bar=2,baz=3"),
        (["foo=1\t \t,\t \tbar=2,\t \tbaz=3"], "foo=1,bar=2,baz=3"),
        ([" foo=1"], "foo=1"),
        (["\tfoo=1"], "foo=1"),
        (["foo=1 "], "foo=1"),
        (["foo=1\t"], "foo=1"),
        (["\t foo=1 \t"], "foo=1"),
        name="state-blanks",
    ),
    *states((["foo =1"], ""), (["FOO=1"], ""), (["foo.bar=1"], ""), name="state-key-characters"),
    *states(
        (["foo@=1,bar=2"], "foo@=1,bar=2"),
        (["@foo=1,bar=2"], ""),
        (["foo@@bar=1,bar=2"], "foo@@bar=1,bar=2"),
        (["foo@bar@baz=1,bar=2"], "foo@bar@baz=1,bar=2"),
        name="state-key-with-at",
    ),
    *states(
        ([*_TENS, "bar31=31,bar32=32"], ",".join([*_TENS, "bar31=31,bar32=32"])),
        ([*_TENS, "bar31=31,bar32=32,bar33=33"], ""),
        name="state-members",
    ),
    *states(
        (["foo=1", f"{'z' * 256}=1"], f"foo=1,{'z' * 256}=1"),
        (["foo=1", f"{'z' * 257}=1"], ""),
        (["foo=1", f"{'t' * 241}@{'v' * 14}=1"], f"foo=1,{'t' * 241}@{'v' * 14}=1"),
        (["foo=1", f"{'t' * 242}@v=1"], f"foo=1,{'t' * 242}@v=1"),
        (["foo=1", f"t@{'v' * 15}=1"], f"foo=1,t@{'v' * 15}=1"),
        (["foo=1", f"{'t' * 128}@{'v' * 127}=1"], f"foo=1,{'t' * 128}@{'v' * 127}=1"),
        (["foo=1", f"{'t' * 128}@{'v' * 128}=1"], ""),
        (["foo=1", f"bar={'v' * 256}"], f"foo=1,bar={'v' * 256}"),
        (["foo=1", f"bar={'v' * 257}"], ""),
        name="state-lengths",
    ),
]
