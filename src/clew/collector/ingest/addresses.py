"""IP addresses as Zipkin reads them: which text is one, whether it is v4 or v6, and how it is written. Pure.

Compared with Zipkin 3.5.1. What differs from the standard library's idea of an address: leading zeros are fine in v4
(``01.2.3.4`` stays so), an IPv4 address inside IPv6 is known by its dots (``::1.2.3.4``, ``::ffff:1.2.3.4``, also
``::0000:1.2.3.4``; any other with dots is none), and a single group of zeros is shortened to ``::``, too.
"""

from __future__ import annotations

import functools
import re
from typing import Final

_WORD = r"(?:[01][0-9]{2}|2[0-4][0-9]|25[0-5]|[0-9]{1,2})"
_IPV4: Final = re.compile(rf"(?:::(?:[fF0]{{4}}:)?)?({_WORD}(?:\.{_WORD}){{3}})")
_IPV6: Final = re.compile(r"[0-9a-fA-F:]*:[0-9a-fA-F:]*")
_GROUPS: Final = 8


class OrderMattersError(ValueError):
    """Both fields hold an address of one kind; Zipkin keeps the one that was written last."""


@functools.lru_cache(maxsize=65_536)
def canonical_addresses(ipv4: str | None, ipv6: str | None) -> tuple[str | None, str | None]:
    """Return both addresses in their right place and form; None for what is none.

    Either field may hold either kind; :class:`OrderMattersError` when both hold the same.
    """
    of_v4, of_v6 = parse_address(ipv4 or ""), parse_address(ipv6 or "")
    if (of_v4[0] and of_v6[0]) or (of_v4[1] and of_v6[1]):
        raise OrderMattersError(f"{ipv4} and {ipv6} are addresses of one kind")
    return of_v4[0] or of_v6[0], of_v4[1] or of_v6[1]


def parse_address(text: str) -> tuple[str | None, str | None]:
    """Return text as an IPv4 or as an IPv6 address; one of the two is None, both where it is neither."""
    if match := _IPV4.fullmatch(text):
        return match[1], None
    return None, _canonical_ipv6(text) if _IPV6.fullmatch(text) else None


def packed_address(raw: bytes) -> tuple[str | None, str | None]:
    """Return four or sixteen bytes as (IPv4 text, IPv6 text), of which one is None; both are for any other size.

    IPv4-compatible addresses (``::1.2.3.4``, but not ``::1``) are IPv4.
    """
    if len(raw) == 16 and not any(raw[:12]) and raw[12:] != b"\0\0\0\1":
        raw = raw[12:]
    if len(raw) == 4:
        return ".".join(map(str, raw)), None
    if len(raw) == 16:
        return None, _write_ipv6([int.from_bytes(raw[start : start + 2], "big") for start in range(0, 16, 2)])
    return None, None


def _canonical_ipv6(text: str) -> str | None:
    if len(text) > 45:  # eight groups of four and what may stand between; leading zeros could go on for ever
        return None
    head, gap, tail = text.partition("::")
    if (gap and "::" in tail) or ":::" in text:
        return None
    high, low = _groups(head), _groups(tail)
    if high is None or low is None:
        return None
    missing = _GROUPS - len(high) - len(low)
    if missing < 1 if gap else missing != 0:
        return None
    return _write_ipv6([*high, *([0] * missing), *low])


def _groups(text: str) -> list[int] | None:
    if not text:
        return []
    parts = text.split(":")
    if "" in parts:
        return None
    numbers = [int(part, 16) for part in parts]
    return numbers if max(numbers) <= 0xFFFF else None


def _write_ipv6(groups: list[int]) -> str:
    """Write the groups; the longest run of zeros, of those as long the first, becomes ``::``.

    A run at the end counts only where there is no other.
    """
    if not any(groups):
        return "::"
    runs = _runs_of_zeros(groups)
    if not runs:
        return ":".join(f"{group:x}" for group in groups)
    inner = [run for run in runs if run.stop < _GROUPS] or runs
    gap = max(inner, key=len)
    head = ":".join(f"{group:x}" for group in groups[: gap.start])
    tail = ":".join(f"{group:x}" for group in groups[gap.stop :])
    return f"{head}::{tail}"


def _runs_of_zeros(groups: list[int]) -> list[range]:
    runs: list[range] = []
    for place, group in enumerate(groups):
        if group:
            continue
        if runs and runs[-1].stop == place:
            runs[-1] = range(runs[-1].start, place + 1)
        else:
            runs.append(range(place, place + 1))
    return runs
