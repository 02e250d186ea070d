"""Between the span and the sender: spans and log records as Zipkin v2 JSON, and the limits that both sides keep.

The one module that client and collector share, so it imports nothing but the standard library and does no I/O, reads
no clock and holds no state that matters. JSON names (``traceId``) live here and nowhere else in the client.

What travels:

* **spans**: a JSON array of Zipkin v2 span objects (the ``ListOfSpans`` of Zipkin's OpenAPI page). In a file each line
  is one span object.
* **log records**: an object ``{"logs": [...]}``, so that the first bytes of a datagram or line tell what it holds.
  A record: ``timestamp`` (microseconds since the epoch), ``service``, ``level``, ``logger``, ``message``, and where
  there is one ``traceId``, ``id`` (the span) and ``exception`` (a traceback as text).

Loss travels too. A span dropped by its process is counted, and the next span that is sent carries the counts as tags:
``clew.dropped`` (by reason, since the last batch, this process: ``queue_full=17,too_large=1``) and
``clew.trace_dropped`` (spans of this very trace).
"""

from __future__ import annotations

import re
from json.encoder import encode_basestring as _quote  # the C version where there is one; leaves non-ASCII as it is
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from clew._span import Span

SPANS_PATH: Final = "/api/v2/spans"
LOGS_PATH: Final = "/api/v1/logs"
LOGS_PREFIX: Final = b'{"logs":'  # how a datagram or a line of log records begins

KINDS: Final = frozenset({"CLIENT", "SERVER", "PRODUCER", "CONSUMER"})

# Limits. Longer text is cut and ends in CUT_MARK; what is over a count is left out and counted in the tag CUT_TAG.
MAX_NAME_CHARS: Final = 200
MAX_TAG_KEY_CHARS: Final = 100
MAX_TAG_VALUE_CHARS: Final = 1_024
MAX_STACK_CHARS: Final = 4_096
MAX_TAGS: Final = 64
MAX_ANNOTATIONS: Final = 64
MAX_MESSAGE_CHARS: Final = 8_192  # of one log record
CUT_MARK: Final = "…"

CUT_TAG: Final = "clew.cut"
DROPPED_TAG: Final = "clew.dropped"
TRACE_DROPPED_TAG: Final = "clew.trace_dropped"
ERROR_STACK_TAG: Final = "error.stack"
