"""redis-py on a real Redis: commands, pipelines, transactions, sync and async, and a cluster."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest
import redis
import redis.asyncio
import redis.asyncio.cluster
import redis.cluster

import clew
from client.recording import wait_until
from integrations.fresh import MARK, WAYS, run_fresh
from integrations.kit_common import without_times

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from clew.testing import MemorySender
    from integrations.database_servers import Server

TIMEOUT_S = 60.0
_ASKED = ("GET",) if redis.__version__.startswith("4") else ()  # what a pool wants to know


@pytest.fixture
def db(clew_spans: MemorySender, redis_server: Server) -> Iterator[Any]:
    """A client that was made before its library was hooked."""
    with redis.Redis(port=redis_server.port, host="127.0.0.1", db=3) as client:
        client.flushall()
        clew.instrument("redis")
        with clew.start_span("work"):
            yield client
        clew.uninstrument()


def names(spans: MemorySender) -> list[str]:
    found = [str(span["name"]) for span in spans.spans() if span["name"] != "work"]
    spans.clear()
    return found


def test_command_becomes_one_span(db: Any, clew_spans: MemorySender) -> None:
    """A command is a client span under the active one, without keys and values."""
    with clew.start_span("handler") as handler:
        db.set("session:secret", "secret", ex=60)
    span = clew_spans.spans()[0]
    assert {
        "traceId": handler.trace_id,
        "parentId": handler.span_id,
        "kind": "CLIENT",
        "name": "SET",
        "localEndpoint": {"serviceName": "test"},
        "remoteEndpoint": {"serviceName": "redis", "ipv4": "127.0.0.1"},
        "tags": {"db.system": "redis", "db.name": "3", "db.statement": "SET ? ? ? ..."},
    } == without_times(span)
    assert span["tags"]["code.location"].partition(":")[0].endswith("tests/integrations/test_redis.py")


def test_names_of_commands_are_all_that_is_shown(db: Any, clew_spans: MemorySender) -> None:
    """Also where the client is given a whole line, bytes, or a command of two words."""
    db.execute_command("SET secret secret")
    db.execute_command(b"get", "secret")
    db.client_setname("secret")
    with pytest.raises(redis.ResponseError):
        db.execute_command("NONSENSE", "secret")
    statements = [span["tags"]["db.statement"] for span in clew_spans.spans()]
    assert ["SET ? ?", "GET ?", "CLIENT SETNAME ?", "NONSENSE ?"] == statements
    assert "secret" not in str(clew_spans.spans())
    assert "ResponseError" in clew_spans.spans()[3]["tags"]["error.type"]


def test_pipeline_is_one_span(db: Any, clew_spans: MemorySender) -> None:
    """With its commands; a transaction says so; what is asked at once while watching is a call of its own."""
    with db.pipeline(transaction=False) as pipeline:
        pipeline.set("a", "secret").get("a")
        assert [True, b"secret"] == pipeline.execute()
    with db.pipeline() as pipeline:
        pipeline.watch("a")
        assert b"secret" == pipeline.get("a")
        pipeline.multi()
        pipeline.lpush("a", "secret")
        with pytest.raises(redis.ResponseError, match="secret"):
            pipeline.execute()
    spans = clew_spans.spans()
    assert ("PIPELINE; SET ? ?; GET ?", "2") == tuple(spans[0]["tags"][key] for key in ("db.statement", "db.commands"))
    assert "secret" not in str(spans)
    assert ["PIPELINE", "WATCH", "GET", "MULTI"] == names(clew_spans)[:4]


def test_command_outside_any_trace_makes_none(db: Any, clew_spans: MemorySender) -> None:
    """It is counted, as SQL is."""
    clew.finish_span()
    before = clew.stats()["orphan_sql"]
    db.get("a")
    assert before + 1 == clew.stats()["orphan_sql"]
    assert [] == names(clew_spans)


def test_wait_for_a_connection_is_a_span(redis_server: Server, clew_spans: MemorySender) -> None:
    """Beneath the command that has to wait."""
    clew.instrument("redis")
    pool = redis.BlockingConnectionPool(max_connections=1, timeout=TIMEOUT_S, host="127.0.0.1", port=redis_server.port)
    with redis.Redis(connection_pool=pool) as client, clew.start_span("work"):
        held = pool.get_connection(*_ASKED)
        waits = threading.Event()
        get = pool.pool.get

        def tell_and_get(*args: Any, **kwargs: Any) -> Any:
            waits.set()
            return get(*args, **kwargs)

        def give_back() -> None:
            wait_until(waits.is_set, "somebody who waits")
            pool.release(held)

        pool.pool.get = tell_and_get
        giver = threading.Thread(target=give_back)
        giver.start()
        client.get("a")
        giver.join(TIMEOUT_S)
        client.get("a")
    pool.disconnect()
    clew.uninstrument()
    assert ["wait for connection", "GET", "GET"] == names(clew_spans)


async def test_async_client_is_as_the_other(redis_server: Server, clew_spans: MemorySender) -> None:
    """Commands, pipelines, the wait of one task; each beneath its own task's span."""
    clew.instrument("redis")
    pool = redis.asyncio.BlockingConnectionPool(max_connections=1, timeout=60, host="127.0.0.1", port=redis_server.port)
    client = redis.asyncio.Redis(connection_pool=pool)

    async def ask(name: str) -> None:
        with clew.start_span(name):
            await client.get("secret")

    with clew.start_span("work"):
        await client.set("secret", "secret")
        async with client.pipeline(transaction=True) as pipeline:
            assert [b"secret"] == await pipeline.get("secret").execute()
    assert ["SET", "MULTI"] == names(clew_spans)
    held = await pool.get_connection(*_ASKED)
    tasks = [asyncio.create_task(ask("one"))]
    while not any(span["name"] == "one" for span in clew_spans.spans()):
        await asyncio.sleep(0)
        if held is not None and _waits(pool):
            await pool.release(held)
            held = None
    await asyncio.gather(*tasks)
    await client.aclose() if hasattr(client, "aclose") else await client.close()
    await pool.disconnect()
    clew.uninstrument()
    spans = {span["name"]: span for span in clew_spans.spans()}
    assert spans["GET"]["id"] == spans["wait for connection"]["parentId"]
    assert spans["one"]["id"] == spans["GET"]["parentId"]


def _waits(pool: Any) -> bool:
    return bool(pool._condition._waiters) if hasattr(pool, "_condition") else bool(pool.pool._getters)


def test_cluster_is_asked_by_one_span(redis_cluster: Server, clew_spans: MemorySender) -> None:
    """Whatever nodes the client asks."""
    clew.instrument("redis")
    client = redis.cluster.RedisCluster(host="127.0.0.1", port=redis_cluster.port)
    with clew.start_span("work"):
        client.set("secret", "secret")
        assert b"secret" == client.get("secret")
        with client.pipeline() as pipeline:
            pipeline.set("a", "secret")
            pipeline.get("a")
            assert [True, b"secret"] == pipeline.execute()
    client.close()
    clew.uninstrument()
    assert "secret" not in str(clew_spans.spans())
    assert "PIPELINE; SET ? ?; GET ?" == clew_spans.spans()[2]["tags"]["db.statement"]
    assert ["SET", "GET", "PIPELINE"] == names(clew_spans)


async def test_async_cluster_is_asked_by_one_span(redis_cluster: Server, clew_spans: MemorySender) -> None:
    """Whatever nodes the client asks."""
    clew.instrument("redis")
    client = redis.asyncio.cluster.RedisCluster(host="127.0.0.1", port=redis_cluster.port)
    with clew.start_span("work"):
        await client.set("secret", "secret")
        async with client.pipeline() as pipeline:
            assert [b"secret"] == await pipeline.get("secret").execute()
    await client.aclose() if hasattr(client, "aclose") else await client.close()
    clew.uninstrument()
    assert "secret" not in str(clew_spans.spans())
    assert ["SET", "PIPELINE"] == names(clew_spans)


def test_nothing_is_left_when_taken_out(db: Any, clew_spans: MemorySender) -> None:
    """After uninstrument no command is a span."""
    clew.uninstrument("redis")
    db.get("a")
    db.pipeline().get("a").execute()
    assert [] == names(clew_spans)
    assert not hasattr(redis.Redis.execute_command, "__wrapped__")


@pytest.mark.parametrize("way", WAYS)
def test_program_of_its_own_is_traced(way: str, tmp_path: Path, redis_server: Server) -> None:
    """Turned on before, after the client is there, or from outside."""
    program = f"""
import redis
db = redis.Redis(port={redis_server.port})
{MARK}
db.get("a")
import clew
with clew.start_span("work"): db.get("a")
db.close()
"""
    ended = run_fresh(program, tmp_path, way)
    assert ["GET", "work"] == [span["name"] for span in ended.spans]
