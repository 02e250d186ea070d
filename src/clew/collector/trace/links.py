"""Traces -> who calls whom, how often, with how many errors.

A link is counted where a call is best known: at the server, and at a client only when nothing beneath it answered (an
uninstrumented database). A producer and a consumer link with their broker, never with each other. The rules are those
of Zipkin's ``DependencyLinker``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from clew.collector.patience import Patience
from clew.collector.trace.tree import build_tree

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clew.collector.trace.span import Span
    from clew.collector.trace.tree import Node

_Pair = tuple[str, str]


class Link(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """``parent`` called ``child``: so often, and so many of the calls failed."""

    parent: str
    child: str
    call_count: int = 0
    error_count: int = 0


class Linker:
    """Counts links over many traces. Not thread-safe; memory grows with the pairs of services only."""

    def __init__(self) -> None:
        self._calls: dict[_Pair, int] = {}
        self._errors: dict[_Pair, int] = {}

    def put_trace(self, spans: Sequence[Span], times: int = 1, patience: Patience | None = None) -> None:
        """Count the links of one trace (all of ``spans`` belong to it), or of ``times`` traces that look alike.

        A trace may be long: with ``patience`` this ends in the middle, by what that raises, when it is over.
        """
        if not spans:
            return
        patience = patience or Patience()
        root = build_tree(spans).root
        remote_above: dict[int, Span | None] = {}  # by node: the nearest span above it that is no local one
        for node, span in patience.each(root.spans()):
            above = _remote_above(node, remote_above)
            remote_above[id(node)] = above
            for parent, child, failed in _links_of(node, span, above, is_root=node is root):
                self.put_link(parent, child, times, times if failed else 0)

    def put_link(self, parent: str, child: str, calls: int, errors: int) -> None:
        """Count a link that is known already."""
        pair = (parent, child)
        self._calls[pair] = self._calls.get(pair, 0) + calls
        self._errors[pair] = self._errors.get(pair, 0) + errors

    def links(self) -> list[Link]:
        """Return what was counted, in the order in which the pairs were first seen."""
        return [Link(*pair, calls, self._errors[pair]) for pair, calls in self._calls.items()]


def _remote_above(node: Node, known: dict[int, Span | None]) -> Span | None:
    """Return the nearest ancestor with a kind. ``known`` has it for the parent: parents are visited first."""
    parent = node.parent
    if parent is None or parent.span is None:
        return None
    return parent.span if parent.span.kind is not None else known[id(parent)]


def _links_of(node: Node, span: Span, above: Span | None, *, is_root: bool) -> list[tuple[str, str, bool]]:
    """Return the links that this one span proves, as (parent, child, failed)."""
    kind = span.kind
    if kind == "CLIENT" and node.children:
        return []  # the server beneath knows better
    if kind is None:
        if span.service is None or span.remote_service is None:
            return []
        kind = "CLIENT"  # both sides are named: treated as a client
    if kind in ("SERVER", "CONSUMER"):
        parent, child = span.remote_service, span.service
    else:
        parent, child = span.service, span.remote_service
    if kind in ("PRODUCER", "CONSUMER"):
        return _complete(parent, child, span.failed)
    if kind == "SERVER" and is_root and parent is None:
        return []  # its client is unknown
    return _rpc_links(span, kind, parent, child, above)


def _rpc_links(
    span: Span, kind: str, parent: str | None, child: str | None, above: Span | None
) -> list[tuple[str, str, bool]]:
    failed = span.failed
    links: list[tuple[str, str, bool]] = []
    caller = above.service if above else None
    if above is not None and caller is not None:
        if kind == "CLIENT" and span.service is not None and span.service != caller:
            # A span between the two is missing, so whether that call failed is unknown.
            links.append((caller, span.service, False))
        if kind == "SERVER" or parent is None:
            parent = caller
        if above.kind == "CLIENT" and span.parent_id is not None and span.parent_id == above.id:
            failed = failed or above.failed  # one call, reported by both sides under two ids
    return links + _complete(parent, child, failed)


def _complete(parent: str | None, child: str | None, failed: bool) -> list[tuple[str, str, bool]]:
    return [(parent, child, failed)] if parent is not None and child is not None else []
