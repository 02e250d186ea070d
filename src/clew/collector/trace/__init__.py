"""What a trace is, apart from where it is kept: spans, merging, the tree, clock skew, dependency links.

Everything here is pure: values in, values out, no I/O, no clock, no global. Between ``query`` (which brings spans from
the store) and ``api`` (which hands them out). The rules are Zipkin's, so that both give the same answer to the same
spans; where a module departs from them it says so.
"""

from clew.collector.trace.links import Link, Linker
from clew.collector.trace.merge import merge_spans
from clew.collector.trace.skew import correct_skew
from clew.collector.trace.span import (
    Annotation,
    Endpoint,
    Span,
    encode_spans,
    normalize_span_id,
    normalize_trace_id,
    without_duplicates,
)
from clew.collector.trace.tree import Node, Tree, build_tree
from clew.collector.trace.view import view_trace

__all__ = [
    "Annotation",
    "Endpoint",
    "Link",
    "Linker",
    "Node",
    "Span",
    "Tree",
    "build_tree",
    "correct_skew",
    "encode_spans",
    "merge_spans",
    "normalize_span_id",
    "normalize_trace_id",
    "view_trace",
    "without_duplicates",
]
