"""Merged spans -> the tree of calls.

Who is whose child is not only a matter of ``parentId``: a server that shares its client's id is the client's child,
and a local span of that server names the shared id as its parent and must come beneath the server, not the client. The
rules are those of Zipkin's ``SpanNode``. No function recurses: a chain of 5,000 calls is legal input.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Union

from clew.collector.trace.merge import merge_spans
from clew.collector.trace.span import Endpoint, Span

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# Where a span can be looked up: by its id, or, for the server's side of a shared id, by id and place.
_Key = Union[str, "tuple[str, Endpoint | None]"]


class Node:
    """A span in its place. ``span`` is None only in the root that stands for one that never arrived."""

    __slots__ = ("children", "parent", "span")

    def __init__(self, span: Span | None) -> None:
        self.span = span
        self.parent: Node | None = None
        self.children: list[Node] = []

    def add(self, child: Node) -> None:
        """Take ``child`` beneath this node; it must not have a parent yet."""
        child.parent = self
        self.children.append(child)

    def spans(self) -> Iterator[tuple[Node, Span]]:
        """Yield this node (unless it stands for a missing root) and all beneath it, level by level."""
        queue = deque([self])
        while queue:
            node = queue.popleft()
            queue.extend(node.children)
            if node.span is not None:
                yield node, node.span


class Tree:
    """The root and what is beneath it, and the nodes that the rules leave without a place.

    ``lost`` are spans in a circle of parents, and a second span under an id that is taken. Zipkin does not show them;
    ``adopt_lost`` puts them where a reader finds them.
    """

    __slots__ = ("lost", "root")

    def __init__(self, root: Node, lost: list[Node]) -> None:
        self.root = root
        self.lost = lost

    def adopt_lost(self) -> None:
        """Give every lost node a place: beneath the root, earliest first, circles cut at their earliest span."""
        for node in sorted(self.lost, key=_by_time):
            if _reaches(node, self.root):
                continue
            if node.parent is not None:
                node.parent.children.remove(node)
            self.root.add(node)
        self.lost = []


def build_tree(spans: Sequence[Span]) -> Tree:
    """Merge the spans of one trace and put them into a tree; children are in time order.

    Without a span that has no parent the root is a node without span. Spans whose parent is unknown come beneath the
    root.
    """
    merged = merge_spans(spans)
    places = _Places(merged)
    root = places.root or Node(None)
    for key, parent_key in places.parents.items():
        parent = places.nodes.get(parent_key) if parent_key is not None else None
        (parent or root).add(places.nodes[key])
    reached = _sort_by_time(root)
    return Tree(root, [node for node in places.all if id(node) not in reached])


class _Places:
    """Under which key every span stands, and under which key its parent is to be looked for."""

    def __init__(self, spans: list[Span]) -> None:
        self.root: Node | None = None
        self.all: list[Node] = []
        self.nodes: dict[_Key, Node] = {}
        self.parents: dict[_Key, _Key | None] = {}
        for span in spans:
            self.parents[_key(span)] = span.id if span.shared else span.parent_id
        for span in spans:
            self._place(span)

    def _place(self, span: Span) -> None:
        node = Node(span)
        self.all.append(node)
        if span.shared:
            # Reachable with and without its place: a child may not know the endpoint.
            self.nodes[_key(span)] = self.nodes[(span.id, None)] = node
        elif span.parent_id is None and self.root is None:
            self.root = node
            self.parents.pop(span.id, None)
        else:
            self.nodes[span.id] = node
            self._prefer_server_parent(span)

    def _prefer_server_parent(self, span: Span) -> None:
        """A child of a shared id belongs to the server at its own place, if there is one."""
        if span.parent_id is None:
            return
        server = (span.parent_id, span.local_endpoint)
        if server in self.parents:
            self.parents[span.id] = server


def _key(span: Span) -> _Key:
    return (span.id, span.local_endpoint) if span.shared else span.id


def _by_time(node: Node) -> int:
    return node.span.timestamp if node.span else 0


def _sort_by_time(root: Node) -> set[int]:
    """Sort all children and return the identities of the nodes that hang together with the root."""
    reached = {id(root)}
    queue = deque([root])
    while queue:
        children = queue.popleft().children
        children.sort(key=_by_time)
        queue.extend(children)
        reached.update(map(id, children))
    return reached


def _reaches(node: Node, root: Node) -> bool:
    """Whether the way up from ``node`` ends at the root rather than in a circle or in nothing."""
    seen = set()
    current: Node | None = node
    while current is not None and id(current) not in seen:
        if current is root:
            return True
        seen.add(id(current))
        current = current.parent
    return False
