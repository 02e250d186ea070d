"""The search language: text -> tree -> bound SQL, or a judgement on spans at hand. Between ``api`` and ``query``.

Everything here is pure: no I/O, no clock, no store. The grammar, with examples, is in ``docs/search.md``:

    query      = [ either ]
    either     = both { "or" both }
    both       = unary { [ "and" ] unary }
    unary      = "not" unary | relation
    relation   = primary [ "->" primary | "child" "of" primary ]
    primary    = "(" either ")" | ( "any" | "root" ) "{" [ either ] "}" | "{" either "}" | comparison
    comparison = field operator value | field [ "not" ] "in" "(" value { "," value } ")" | field "exists"
               | "error" | text
    operator   = "=" | "!=" | ">" | ">=" | "<" | "<=" | "~" | "!~"
"""

from clew.collector.search.evaluate import matches, span_matches
from clew.collector.search.parse import parse, parse_condition
from clew.collector.search.sql import Compiled, compile_condition, compile_query
from clew.collector.search.tree import FIELDS, Condition, Query, needs_tree, required
from clew.collector.search.words import SearchError

__all__ = [
    "FIELDS",
    "Compiled",
    "Condition",
    "Query",
    "SearchError",
    "compile_condition",
    "compile_query",
    "matches",
    "needs_tree",
    "parse",
    "parse_condition",
    "required",
    "span_matches",
]
