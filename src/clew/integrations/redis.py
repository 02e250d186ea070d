"""redis-py: commands, pipelines and transactions, sync and async, also of a cluster.

Hooked, on the classes, so that clients and pools made before are covered: ``execute_command`` of ``Redis`` and
``RedisCluster``, ``execute`` and ``immediate_execute_command`` of their pipelines, and the wait of a
``BlockingConnectionPool`` that has no connection to give. A ``PubSub`` that listens waits for others and is no call.

Span: ``CLIENT``, the command (``GET``), ``PIPELINE`` or ``MULTI``; remote service ``redis``. Tags: ``db.system``,
``db.name`` (the number of the database), ``server.address``, ``db.statement`` (the commands, with ``?`` in the place of
every key and value), ``code.location``. What a cluster's client asks several nodes is one span. Outside any trace a
command makes none, as SQL does not.

Tested with redis 4.6 and 8.1.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

from clew.integrations import _sql
from clew.integrations._hooks import Hooks

_SYSTEM: Final = "redis"
_MAX_ARGUMENTS: Final = 3  # that are shown, each as a question mark
_MAX_COMMANDS: Final = 20  # of a pipeline that are shown
# What is two words: the second is no key.
_CONTAINERS: Final = frozenset(
    (
        *("ACL", "CLIENT", "CLUSTER", "COMMAND", "CONFIG", "FUNCTION", "LATENCY", "MEMORY", "MODULE", "OBJECT"),
        *("PUBSUB", "SCRIPT", "SLOWLOG", "XGROUP", "XINFO"),
    )
)
_anywhere: Final = _sql.database(_SYSTEM, None, None, None)


def install() -> None:
    """Trace all clients, also those that exist."""
    _hooks.install()
    _more_hooks.install()


def uninstall() -> None:
    """Undo ``install``."""
    _more_hooks.uninstall()
    _hooks.uninstall()


@lru_cache(1_024)
def _shown(command: object, count: int) -> str:
    """Write a command without its arguments: ``SET ? ?``. A client may be given all of it as one text."""
    text = command.decode("utf-8", "replace") if isinstance(command, bytes) else str(command)
    words = text.split()[: _MAX_ARGUMENTS + 2] or ["?"]
    names = 2 if words[0].upper() in _CONTAINERS and words[1:] and words[1].isalpha() else 1
    count += len(words) - 1 - names
    shown = " ".join(word.upper() for word in words[:names])
    return shown + " ?" * min(count, _MAX_ARGUMENTS) + (" ..." if count > _MAX_ARGUMENTS else "")


def _show(command: Any) -> str:
    try:
        return _shown(command[0], len(command))
    except Exception:  # noqa: BLE001 - whatever it is, the client will say
        return "REDIS"


def _database(client: Any) -> _sql.Database:
    try:
        known = client.connection_pool.connection_kwargs
        return _sql.database(_SYSTEM, known.get("db", 0), known.get("host"), known.get("port"))
    except Exception:  # noqa: BLE001 - a cluster, which has many; a pool of the application's own
        return _anywhere


def _around_command(original: Any) -> Any:
    def execute_command(self: Any, *args: Any, **options: Any) -> Any:
        with _sql.start(_show(args), _database(self)):
            return original(self, *args, **options)

    return execute_command


def _around_command_async(original: Any) -> Any:
    async def execute_command(self: Any, *args: Any, **options: Any) -> Any:
        with _sql.start(_show(args), _database(self)):
            return await original(self, *args, **options)

    return execute_command


# Pipelines.


def _start_pipeline(pipeline: Any) -> Any:
    commands = _commands(pipeline)
    shown = "; ".join(_show(command) for command in commands[:_MAX_COMMANDS])
    more = "; ..." if len(commands) > _MAX_COMMANDS else ""
    flags = ("explicit_transaction", "is_transaction", "transaction")  # the last is a method, where there is no flag
    name = "MULTI" if any(getattr(pipeline, flag, False) is True for flag in flags) else "PIPELINE"
    span = _sql.start(f"{name}; {shown}{more}", _database(pipeline))
    return span, len(commands)


def _commands(pipeline: Any) -> list[Any]:
    """Return the commands that are queued, as sequences; each kind of pipeline keeps them in its own way."""
    try:
        if getattr(pipeline, "command_stack", None):
            queued = pipeline.command_stack
        else:
            strategy = getattr(pipeline, "_execution_strategy", pipeline)
            queued = next(
                found
                for found in (getattr(strategy, name, None) for name in ("command_queue", "_command_queue"))
                if found is not None
            )
        return [getattr(entry, "args", None) or entry[0] for entry in queued]
    except Exception:  # noqa: BLE001 - kept otherwise in this version
        return []


def _note_count(span: Any, count: int) -> None:
    if span is not None:
        span.tags["db.commands"] = str(count)


def _around_pipeline(original: Any) -> Any:
    def execute(self: Any, *args: Any, **kwargs: Any) -> Any:
        started, count = _start_pipeline(self)
        with started as span:
            _note_count(span, count)
            return original(self, *args, **kwargs)

    return execute


def _around_pipeline_async(original: Any) -> Any:
    async def execute(self: Any, *args: Any, **kwargs: Any) -> Any:
        started, count = _start_pipeline(self)
        with started as span:
            _note_count(span, count)
            return await original(self, *args, **kwargs)

    return execute


# Pools.


def _must_wait(pool: Any) -> bool:
    try:
        return not pool.can_get_connection() if hasattr(pool, "can_get_connection") else bool(pool.pool.empty())
    except Exception:  # noqa: BLE001 - kept otherwise in this version
        return False


def _around_get_connection(original: Any) -> Any:
    def get_connection(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not _must_wait(self):
            return original(self, *args, **kwargs)
        with _sql.start_wait(_anywhere):
            return original(self, *args, **kwargs)

    return get_connection


def _around_get_connection_async(original: Any) -> Any:
    async def get_connection(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not _must_wait(self):
            return await original(self, *args, **kwargs)
        with _sql.start_wait(_anywhere):
            return await original(self, *args, **kwargs)

    return get_connection


_pipeline: Final = {"execute": _around_pipeline, "immediate_execute_command": _around_command}
_pipeline_async: Final = {"execute": _around_pipeline_async, "immediate_execute_command": _around_command_async}
_hooks: Final = Hooks(
    {
        "redis.client": ("Redis", {"execute_command": _around_command}),
        "redis.cluster": ("RedisCluster", {"execute_command": _around_command}),
        "redis.connection": ("BlockingConnectionPool", {"get_connection": _around_get_connection}),
        "redis.asyncio.connection": ("BlockingConnectionPool", {"get_connection": _around_get_connection_async}),
        "redis.asyncio.client": ("Redis", {"execute_command": _around_command_async}),
        "redis.asyncio.cluster": ("RedisCluster", {"execute_command": _around_command_async}),
    }
)
_more_hooks: Final = Hooks(
    {
        "redis.client": ("Pipeline", _pipeline),
        "redis.cluster": ("ClusterPipeline", {"execute": _around_pipeline}),
        "redis.asyncio.client": ("Pipeline", _pipeline_async),
        "redis.asyncio.cluster": ("ClusterPipeline", {"execute": _around_pipeline_async}),
    }
)
