"""The name by which the collector is asked.

A page of any site may have its own name resolved to 127.0.0.1 and then ask the collector as if it were its own server
(DNS rebinding): to the browser that is no foreign origin. The browser still sends the name, as ``Host``. So a collector
on loopback answers to names of loopback alone, and to those that its user lists.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^\s:,\[\]]+)(?::\d*)?")  # a name or an address, perhaps a port
_SHOWN_CHARS = 100
_KNOWN = 100  # values remembered


class Hosts:
    """``allowed``: names, with or without a port. ``loopback_only``: whether names of loopback are the only others.

    On other addresses, where names are not known beforehand, every name will do unless some are listed.
    """

    def __init__(self, allowed: Iterable[str], *, loopback_only: bool) -> None:
        self._allowed = frozenset(allowed)
        self._any = not loopback_only and not self._allowed
        self._known: set[bytes] = set()  # values that have passed: a client sends the same each time

    def refuse(self, headers: Mapping[bytes, bytes]) -> str:
        """Return why this Host is refused, '' if it is not. A client that sends none (HTTP/1.0) is no browser."""
        host = headers.get(b"host", b"")
        if self._any or not host or host in self._known:
            return ""
        text = host.decode("latin-1").lower()
        if self._passes(text):
            if len(self._known) < _KNOWN:
                self._known.add(host)
            return ""
        return (
            f"This collector does not go by the name {text[:_SHOWN_CHARS]!a}. "
            "If it should, start it with --allowed-hosts and that name."
        )

    def _passes(self, host: str) -> bool:
        match = _HOST.fullmatch(host)
        return match is not None and (_is_loopback(match[1]) or not self._allowed.isdisjoint((host, match[1])))


def _is_loopback(name: str) -> bool:
    """Say whether only this machine can be meant. ``localhost`` and what ends with it is never resolved elsewhere."""
    name = name.rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False
