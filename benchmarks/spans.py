"""Spans as real services report them: 12 a trace, 5 tags each, over 24 hours, of 20 services. The same for one seed.

A trace is a request that passes six services: the first one's server span, five calls (client and server span each),
and a query. What is random in real spans is random here (ids, users, times), what repeats repeats (names, hosts).
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import NamedTuple

SPANS_A_TRACE = 12
HOPS = 6
SERVICES = (
    "gateway", "accounts", "basket", "billing", "catalog", "checkout", "coupons", "delivery", "fraud", "images",
    "inventory", "mailer", "orders", "payments", "pricing", "ratings", "search", "sessions", "stock", "users",
)  # fmt: skip
DAY_US = 86_400_000_000
_SEED = 20_240_501
_USERS = 50_000
_ERRORS = 0.02  # of traces
_HOSTS = 8  # of each service


class Data(NamedTuple):
    """``traces`` traces that end at ``end_us`` (microseconds since the epoch) and span a day."""

    traces: int
    end_us: int

    def trace(self, number: int) -> list[str]:
        """Return the spans of one trace, each as Zipkin v2 JSON; the order of numbers is that of time."""
        rng = random.Random(_SEED + number)
        at = self.end_us - DAY_US + number * DAY_US // self.traces
        return _trace(rng, trace_id(number), at)

    def user_of(self, number: int) -> str:
        """Return the tag value ``user.id`` of a trace."""
        return _user(random.Random(_SEED + number).getrandbits(30))

    def batches(self, spans_each: int, first: int = 0, last: int | None = None) -> Iterator[bytes]:
        """Return JSON arrays of this many spans (the last may be shorter), of the traces first <= number < last."""
        waiting: list[str] = []
        for number in range(first, self.traces if last is None else last):
            waiting += self.trace(number)
            while len(waiting) >= spans_each:
                yield f"[{','.join(waiting[:spans_each])}]".encode()
                del waiting[:spans_each]
        if waiting:
            yield f"[{','.join(waiting)}]".encode()


def trace_id(number: int) -> str:
    """Return the id of a trace."""
    return f"{random.Random(~number & 0xFFFF_FFFF).getrandbits(128) | 1:032x}"


def _user(number: int) -> str:
    return f"u{random.Random(number).randrange(_USERS)}"


def _way(number: int) -> list[str]:
    """Return the services that a trace passes, in order: a few usual ways, as in a real system."""
    way = random.Random(number % 200)
    return [SERVICES[0], *way.sample(SERVICES[1:], HOPS - 1)]


def _trace(rng: random.Random, trace: str, at: int) -> list[str]:
    number = rng.getrandbits(30)
    ids = [f"{rng.getrandbits(64) | 1:016x}" for _ in range(SPANS_A_TRACE)]
    failed = rng.random() < _ERRORS
    return _spans(rng, trace, at, number, ids, failed)


def _spans(rng: random.Random, trace: str, at: int, number: int, ids: list[str], failed: bool) -> list[str]:
    way, person = _way(number), _user(number)
    lasts = rng.randrange(20_000, 400_000)
    spans = [_span(trace, ids[0], "", "SERVER", way[0], "", at, lasts, rng, person, number, failed)]
    for hop in range(1, HOPS):
        client, server = ids[2 * hop - 1], ids[2 * hop]
        at += rng.randrange(500, 4_000)  # after the server span that it is a child of, which begins at + 300
        lasts = lasts * 4 // 5
        caller, callee = way[hop - 1], way[hop]
        bad = failed and hop < 3
        spans.append(
            _span(trace, client, ids[2 * hop - 2], "CLIENT", caller, callee, at, lasts, rng, person, number, bad)
        )
        spans.append(
            _span(trace, server, client, "SERVER", callee, "", at + 300, lasts - 600, rng, person, number, bad)
        )
    spans.append(_query(trace, ids[-1], ids[-2], way[-1], at + 500, rng))
    return spans


def _span(
    trace: str,
    span: str,
    parent: str,
    kind: str,
    service: str,
    remote: str,
    at: int,
    lasts: int,
    rng: random.Random,
    person: str,
    number: int,
    failed: bool,
) -> str:
    parent = f',"parentId":"{parent}"' if parent else ""
    peer = f',"remoteEndpoint":{{"serviceName":"{remote}","port":8080}}' if remote else ""
    route = f"/{remote or service}/{('items', 'lists', 'parts')[number % 3]}/{{id}}"
    status = "500" if failed else "200"
    error = ',"error":"500"' if failed else ""
    return (
        f'{{"traceId":"{trace}","id":"{span}"{parent},"kind":"{kind}","name":"GET {route}","timestamp":{at},'
        f'"duration":{lasts},"localEndpoint":{{"serviceName":"{service}"}}{peer},"tags":{{"http.method":"GET",'
        f'"http.path":"{route[:-4]}{number % 10_000}","http.status_code":"{status}","user.id":"{person}",'
        f'"host":"{service}-{rng.randrange(_HOSTS)}"{error}}}}}'
    )


def _query(trace: str, span: str, parent: str, service: str, at: int, rng: random.Random) -> str:
    table = f"{service}_rows"
    return (
        f'{{"traceId":"{trace}","id":"{span}","parentId":"{parent}","kind":"CLIENT","name":"SELECT {table}",'
        f'"timestamp":{at},"duration":{rng.randrange(300, 9_000)},"localEndpoint":{{"serviceName":"{service}"}},'
        f'"remoteEndpoint":{{"serviceName":"postgresql","port":5432}},"tags":{{"db.system":"postgresql",'
        f'"db.statement":"SELECT * FROM {table} WHERE id = ? LIMIT ?","db.rows":"{rng.randrange(50)}",'
        f'"host":"{service}-{rng.randrange(_HOSTS)}","pool":"{rng.randrange(4)}"}}}}'
    )
