"""What the collector answers over HTTP: Zipkin's read API, clew's own, the live tail and the page.

The outermost layer of reading: a module here turns a request into a question for ``query``, and the answer into bytes.
``receivers`` take what comes in; ``server`` puts both together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from clew.collector.api import page, tail, unsearchable, v1, vitals, zipkin
from clew.collector.api.answers import TraceMethodRefused
from clew.collector.api.desk import Desk
from clew.collector.api.settled import settled
from clew.collector.derive import Deriver
from clew.collector.query import Query

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

    from clew.collector.ingest import Ingest
    from clew.collector.settings import Settings
    from clew.collector.store import SpanStore

is_public = page.is_public  # holds no data: what a browser must get before it can send a token


def open_desk(store: SpanStore, settings: Settings, deriver: Deriver | None = None) -> Desk:
    """Return where questions are answered; close it when the collector stops."""
    deriver = deriver or Deriver(store)
    query = Query(store, strict_trace_id=settings.strict_trace_id, catch_up=deriver.catch_up, far=deriver.far.catch_up)
    return Desk(query, store)


def routes(store: SpanStore, ingest: Ingest, settings: Settings, desk: Desk) -> list[BaseRoute]:
    """Return all routes but those that receive."""
    return [
        TraceMethodRefused(),
        *vitals.routes(store, ingest, settings),
        *v1.about(),
        *([] if settings.search else unsearchable.routes()),
        *settled([*zipkin.routes(desk, settings), *v1.routes(desk, settings, ingest.metrics)], ingest),
        *tail.routes(ingest),
        *page.routes(),
    ]
