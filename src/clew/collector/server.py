"""The collector, wired together: sockets, store, ingest, receivers, API, retention, and the order in which they end.

Up: data directory locked, HTTP socket bound, store opened, journal replayed, UDP and tails started; then HTTP
answers, so ``/health`` says 200 only when everything listens. Down (SIGINT, SIGTERM): HTTP finishes the requests it
has, the receivers drain and stop, ingest stores what waits, the store closes. A second signal does not wait for
requests.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gc
import hashlib
import logging
import socket
from importlib import metadata
from typing import TYPE_CHECKING, Final

from starlette.applications import Starlette

from clew import wire
from clew.brokers import NEEDED
from clew.collector import api, serving
from clew.collector.derive import Deriver
from clew.collector.doors import Doors
from clew.collector.doors.connections import Connections
from clew.collector.ingest import GROUP_BYTES, Ingest
from clew.collector.memory import Room, shares
from clew.collector.metrics import Metrics
from clew.collector.receivers import otlp
from clew.collector.receivers.http import SPANS_V1_PATH, Receiver
from clew.collector.receivers.tail import Tail
from clew.collector.receivers.udp import UdpReceiver
from clew.collector.retention import kept_under
from clew.collector.settings import OTLP_ADDRESS
from clew.collector.store import SpanStore, StoreError
from clew.collector.store.clickhouse import ClickHouseStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import IO

    from starlette.types import ASGIApp, Receive, Scope, Send

    from clew.brokers import Brokers
    from clew.collector.api.desk import Desk
    from clew.collector.receivers.kafka import KafkaReceiver
    from clew.collector.settings import Address, Settings

HOT_PATHS: Final = frozenset(
    {wire.SPANS_PATH, wire.LOGS_PATH, f"/zipkin{wire.SPANS_PATH}", SPANS_V1_PATH, f"/zipkin{SPANS_V1_PATH}"}
)

_log = logging.getLogger("clew.collector")


class StartError(Exception):
    """The collector cannot start; the text is one sentence for the person who tried."""


def serve(settings: Settings, announce: Callable[[list[str]], None]) -> None:
    """Run the collector until SIGINT or SIGTERM; return when everything is stored. Main thread only.

    ``announce`` gets the start-up lines once everything listens. Raises :class:`StartError`.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(locked(settings.data_dir))
        listening = stack.enter_context(_listening(settings.http, "--http"))
        for_otlp = _listening_for_otlp(settings)
        if for_otlp:
            stack.enter_context(for_otlp)
        store = _opened(settings)
        stack.callback(store.close)
        ingest = _ingest(store, settings)
        stack.callback(ingest.close)
        udp = _udp(settings, ingest)
        if udp:
            stack.callback(udp.close)
        if settings.tail:
            stack.callback(Tail(ingest, settings.tail).close)
        if settings.kafka:
            stack.callback(_kafka(settings, settings.kafka, ingest).close)
        stack.enter_context(kept_under(store, settings.data_dir, settings.max_disk, ingest.metrics))
        deriver = Deriver(store)
        stack.callback(deriver.close)
        deriver.start()
        desk = api.open_desk(store, settings, deriver)
        app = build_app(store, ingest, settings, desk)
        lines = _start_lines(settings, listening, udp, for_otlp)
        _calm_gc()

        def stopping() -> None:
            ingest.close_feed()
            desk.close()

        connections = Connections(ingest.metrics)
        sockets = [listening, for_otlp] if for_otlp else [listening]
        serving.run(app, connections, sockets, lambda: announce(lines), stopping)


def build_app(store: SpanStore, ingest: Ingest, settings: Settings, desk: Desk) -> ASGIApp:
    """Return the ASGI application: who may ask, the hot route, everything else."""
    rest = Starlette(routes=api.routes(store, ingest, settings, desk))
    rest.router.redirect_slashes = False  # Zipkin answers 404, too
    room = Room(shares(settings.max_memory).bodies)
    receiver = Receiver(ingest, settings.max_body, room)
    opentelemetry = otlp.OtlpReceiver(receiver, ingest, settings.max_body, room)
    takers: dict[str, ASGIApp] = dict.fromkeys(HOT_PATHS, receiver) | dict.fromkeys(otlp.PATHS, opentelemetry)
    return Doors(_Front(takers, rest), settings, _writes, _is_open)


class _Front:
    """The short way to the receivers, past all other routes. ``takers``: who takes what is posted to a path."""

    def __init__(self, takers: dict[str, ASGIApp], rest: ASGIApp) -> None:
        self._takers = takers
        self._rest = rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._takers.get(scope["path"], self._rest) if scope["method"] == "POST" else self._rest
        await app(scope, receive, send)


def _writes(method: str, path: str) -> bool:
    return method == "POST" and (path in HOT_PATHS or path in otlp.PATHS)


def _is_open(path: str) -> bool:
    """Say whether a path holds no data, so that it takes no token to see it."""
    return path == "/health" or api.is_public(path)


# --- up and down ---


def _calm_gc() -> None:
    """Look for cycles rarely: a decoded payload is a thousand objects without one, and looking cost 0.5 us a span."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


@contextlib.contextmanager
def locked(data_dir: Path) -> Iterator[IO[str]]:
    """Hold the data directory for this process alone; the kernel lets go of it however the process ends."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = (data_dir / "lock").open("w")
    except OSError as error:
        raise StartError(f"The data directory {data_dir} cannot be used: {error.strerror}. See --data-dir.") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StartError(
                f"The data directory {data_dir} is in use by another collector. See --data-dir."
            ) from error
        yield lock


def _listening(address: Address, flag: str) -> socket.socket:
    """Listen at once, so that a taken port is known before anything else starts; answers come later."""
    try:
        return _listen(address)
    except OSError as error:
        raise _cannot_listen(flag, address, error) from error


def _listen(address: Address) -> socket.socket:
    family = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0][0]
    return socket.create_server((address.host, address.port), family=family, backlog=4_096)


def _listening_for_otlp(settings: Settings) -> socket.socket | None:
    """Listen where OpenTelemetry's clients send to by default; nobody asked for it, so it may be taken already."""
    if settings.otlp is None or settings.otlp == settings.http:
        return None
    if settings.otlp != OTLP_ADDRESS:
        return _listening(settings.otlp, "--otlp")
    try:
        return _listen(settings.otlp)
    except OSError:
        return None


def _udp(settings: Settings, ingest: Ingest) -> UdpReceiver | None:
    if settings.udp is None:
        return None
    try:
        return UdpReceiver(ingest, settings.udp)
    except OSError as error:
        raise _cannot_listen("--udp", settings.udp, error) from error


def _kafka(settings: Settings, brokers: Brokers, ingest: Ingest) -> KafkaReceiver:
    try:
        from clew.collector.receivers.kafka import KafkaReceiver, Source
    except ImportError as error:  # an extra of its own, librdkafka is large
        raise StartError(f"--kafka: {NEEDED}") from error
    source = Source(
        brokers, settings.kafka_topic, settings.kafka_group, settings.kafka_logs_topic, _store_name(settings)
    )
    return KafkaReceiver(ingest, source)


def _store_name(settings: Settings) -> str:
    """Name the store so that collectors of one group can tell whether they share it; shows neither host nor path."""
    place = settings.store.rpartition("@")[2] or f"{socket.gethostname()}:{settings.data_dir.resolve()}"
    return hashlib.sha256(place.encode()).hexdigest()[:12]


def _cannot_listen(flag: str, address: Address, error: OSError) -> StartError:
    if error.errno == errno.EADDRINUSE:
        return StartError(f"{address} is taken, perhaps by another collector. Stop it or choose another with {flag}.")
    return StartError(f"Cannot listen on {address}: {error.strerror or error}. See {flag}.")


def _opened(settings: Settings) -> ClickHouseStore:
    try:
        return ClickHouseStore(
            settings.data_dir / "store",
            url=settings.store,
            retain_s=settings.retain,
            retain_rates_s=settings.retain_rates,
            max_disk=settings.max_disk,
            autocomplete_keys=settings.autocomplete_keys,
            max_memory=shares(settings.max_memory).engine,
            max_question_memory=shares(settings.max_memory).question,
        )
    except StoreError as error:
        where = "The store" if settings.store else f"The store in {settings.data_dir}"
        raise StartError(f"{where} cannot be opened: {error}") from error


def _ingest(store: SpanStore, settings: Settings) -> Ingest:
    """With a bound on the disk groups are small beside it: what is dropped at once is a part, made of whole groups."""
    bound = settings.max_disk
    return Ingest(
        store,
        settings.data_dir / "journal",
        Metrics(),
        max_spool=min(settings.max_spool, bound // 5) if bound else settings.max_spool,
        group_bytes=min(GROUP_BYTES, shares(settings.max_memory).group, bound // 20 if bound else GROUP_BYTES),
        durable=settings.durable,
    )


def _start_lines(
    settings: Settings, listening: socket.socket, udp: UdpReceiver | None, for_otlp: socket.socket | None
) -> list[str]:
    otlp_text = f", OTLP also on port {for_otlp.getsockname()[1]}" if for_otlp else ""
    http = settings.http._replace(port=listening.getsockname()[1])
    udp_text = str(settings.udp._replace(port=udp.port)) if settings.udp and udp else "off"
    tails = f"; files {', '.join(settings.tail)}" if settings.tail else ""
    kafka = f"; Kafka {settings.kafka.names}, {settings.kafka_topic}" if settings.kafka else ""
    place = "a ClickHouse server" if settings.store else settings.data_dir
    disk = f", at most {settings.max_disk:,} bytes" if settings.max_disk else ""
    return [
        f"clew {metadata.version('clew')} collects traces; Ctrl-C ends it and loses nothing.",
        f"  HTTP  http://{http} (spans, logs, API{otlp_text})",
        f"  UDP   {udp_text}{tails}{kafka}",
        f"  Data  {place}, kept for {_days(settings.retain)}{disk}",
        f"  Page  http://{http}/",
        *(
            ["  Open  to every web page that a browser here shows (--allowed-origins *)"]
            if _is_open_to_all(settings)
            else []
        ),
    ]


def _is_open_to_all(settings: Settings) -> bool:
    return "*" in settings.allowed_origins


def _days(seconds: int) -> str:
    for unit, name in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds % unit == 0:
            return f"{seconds // unit} {name}{'s' if seconds != unit else ''}"
    return f"{seconds} seconds"
