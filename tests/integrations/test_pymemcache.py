"""pymemcache on a real memcached."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pymemcache
import pytest

import clew
from integrations.fresh import MARK, WAYS, run_fresh
from integrations.kit_common import without_times

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from clew.testing import MemorySender
    from integrations.database_servers import Server


@pytest.fixture
def server(memcached_server: Server) -> tuple[str, int]:
    return memcached_server.host, memcached_server.port


@pytest.fixture
def cache(clew_spans: MemorySender, server: tuple[str, int]) -> Iterator[Any]:
    """A client that was made before its library was hooked."""
    client = pymemcache.Client(server)
    client.flush_all()
    clew.instrument("pymemcache")
    with clew.start_span("work"):
        yield client
    client.close()
    clew.uninstrument()


def names(spans: MemorySender) -> list[str]:
    return [str(span["name"]) for span in spans.spans() if span["name"] != "work"]


def test_command_becomes_one_span(cache: Any, clew_spans: MemorySender) -> None:
    """A command is a client span under the active one, without keys and values."""
    with clew.start_span("handler") as handler:
        cache.set("secret", "secret")
        assert b"secret" == cache.get("secret")
    span = clew_spans.spans()[1]
    assert {
        "traceId": handler.trace_id,
        "parentId": handler.span_id,
        "kind": "CLIENT",
        "name": "GET",
        "localEndpoint": {"serviceName": "test"},
        "remoteEndpoint": {"serviceName": "memcached", "ipv4": "127.0.0.1"},
        "tags": {"db.system": "memcached", "db.statement": "GET ?", "db.rows": "1"},
    } == without_times(span)
    assert span["tags"]["code.location"].partition(":")[0].endswith("tests/integrations/test_pymemcache.py")


def test_every_way_to_ask_is_seen(cache: Any, clew_spans: MemorySender) -> None:
    """Of many keys, counters, deletes; by a pool and by a hash of servers; one that fails is an error."""
    cache.set_many({"a": "1", "b": "2"})
    assert {"a": b"1"} == cache.get_many(["a", "secret"])
    assert 3 == cache.incr("a", 2)
    cache.delete("a")
    with pytest.raises(pymemcache.MemcacheClientError):
        cache.incr("secret key", 1)
    pooled, hashed = pymemcache.PooledClient(cache.server), pymemcache.HashClient([cache.server])
    assert None is pooled.get("a") is hashed.get("a")
    pooled.close()
    hashed.close()
    spans = clew_spans.spans()
    assert "secret" not in str(spans)
    assert ["SET", "GET", "INCR", "DELETE", "GET", "GET"] == names(clew_spans)
    assert ("GET ? ?", "1") == (spans[1]["tags"]["db.statement"], spans[1]["tags"]["db.rows"])


def test_server_that_is_away_is_an_error(cache: Any, clew_spans: MemorySender) -> None:
    """The exception reaches the caller and is on the span."""
    with pytest.raises(OSError, match="refused"):
        pymemcache.Client(("127.0.0.1", 1)).get("a")
    assert "ConnectionRefusedError" == clew_spans.spans()[0]["tags"]["error.type"]


def test_nothing_is_left_when_taken_out(cache: Any, clew_spans: MemorySender) -> None:
    """After uninstrument no command is a span."""
    clew.uninstrument("pymemcache")
    cache.get("a")
    assert [] == names(clew_spans)


@pytest.mark.parametrize("way", WAYS)
def test_program_of_its_own_is_traced(way: str, tmp_path: Path, server: tuple[str, int]) -> None:
    """Turned on before, after the client is there, or from outside."""
    program = f"""
import pymemcache
cache = pymemcache.Client({server!r})
{MARK}
cache.get("a")
import clew
with clew.start_span("work"): cache.get("a")
cache.close()
"""
    ended = run_fresh(program, tmp_path, way)
    assert ["GET", "work"] == [span["name"] for span in ended.spans]
