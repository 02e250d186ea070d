"""Clocks of two hosts differ; a server then seems to begin before its client called. This moves it back.

The reference is the root's clock. Only a client with a server beneath it on another host can show a difference: the
server is put into the middle of the client's time, and everything beneath it on the same host moves along. The rules
are those of Zipkin's Lens (``clock-skew.js``), with one addition: hosts without any address are told apart by service
name, because a Python service seldom knows the address it is reached at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from clew.collector.trace.span import Endpoint, Span
    from clew.collector.trace.tree import Node, Tree


class Skew(NamedTuple):
    """How far (microseconds, negative: behind) the clock at ``endpoint`` is from its caller's corrected clock."""

    endpoint: Endpoint
    amount_us: int


def correct_skew(tree: Tree) -> dict[int, int]:
    """Return, by ``id(node)``, how many microseconds to take off the times of each node; the tree is not changed.

    Nodes that need nothing are not in the answer. A trace whose root is missing, or that has two roots, has no
    reference clock and is not corrected.
    """
    if tree.root.span is None or any(_is_second_root(child) for child in tree.root.children):
        return {}
    corrections: dict[int, int] = {}
    todo: list[tuple[Node, Skew | None]] = [(tree.root, None)]
    while todo:
        node, inherited = todo.pop()
        skew = _correct_node(node, inherited, corrections)
        todo.extend((child, skew) for child in node.children)
    return corrections


def _is_second_root(node: Node) -> bool:
    return node.span is not None and node.span.parent_id is None and not node.span.shared


def _correct_node(node: Node, inherited: Skew | None, corrections: dict[int, int]) -> Skew | None:
    """Note what this node needs and return the skew that its children begin with."""
    span = node.span
    if span is None:
        return inherited
    if inherited is not None and same_host(inherited.endpoint, span.local_endpoint):
        _add(corrections, node, inherited.amount_us)
    own = find_skew(node, corrections)
    if own is None:
        return inherited
    _add(corrections, node, own.amount_us)
    return own


def _add(corrections: dict[int, int], node: Node, amount_us: int) -> None:
    corrections[id(node)] = corrections.get(id(node), 0) + amount_us


def find_skew(node: Node, corrections: dict[int, int]) -> Skew | None:
    """Return the skew between a server's node and its client, or None where none shows."""
    client = node.parent.span if node.parent else None
    server = node.span
    if client is None or server is None or (client.kind, server.kind) != ("CLIENT", "SERVER"):
        return None
    if not client.timestamp or not server.timestamp:
        return None
    if client.local_endpoint is None or server.local_endpoint is None:
        return None
    if same_host(client.local_endpoint, server.local_endpoint):
        return None  # one clock: whatever looks odd is the instrumentation's doing, and moving it makes it worse
    called = client.timestamp - corrections.get(id(node.parent), 0)
    began = server.timestamp - corrections.get(id(node), 0)
    amount_us = began - called - _latency_us(client, server) if began <= called else 0
    return Skew(server.local_endpoint, amount_us) if amount_us else None


def _latency_us(client: Span, server: Span) -> int:
    """Guess the way there: half of what the client waited longer than the server worked, else the least there is."""
    if not client.duration or not server.duration or client.duration < server.duration:
        return 1
    return (client.duration - server.duration) // 2


def same_host(left: Endpoint | None, right: Endpoint | None) -> bool:
    """Whether both endpoints are on one host, as far as can be known: an equal address, or no address and one name."""
    if left is None or right is None:
        return False
    if left.ipv6 and left.ipv6 == right.ipv6:
        return True
    if left.ipv4 or right.ipv4:
        return left.ipv4 == right.ipv4
    if left.ipv6 or right.ipv6:
        return False
    return left.service_name is not None and left.service_name == right.service_name
