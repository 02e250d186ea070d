"""gRPC: channels and servers with threads and with asyncio, all four kinds of calls, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import logging
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc import aio
from grpc._cython import cygrpc

import clew
from clew.testing import MemorySender, recorded
from integrations.kit_common import SPAN_ID, TRACE_ID, log_lines, wait_until, without_times
from integrations.kit_server import seen

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger("kit.grpc")
AIO_TELLS_TARGET = hasattr(cygrpc.AioChannel, "target")  # not in the oldest versions
JOINED = (("x-trace-id", TRACE_ID), ("x-span-id", SPAN_ID))


# --- a service without generated code: bytes in, bytes out ---


class Plain:
    """The handlers as a server with threads has them."""

    @staticmethod
    def answer(request: bytes, context: Any) -> bytes:
        log.info("answering")
        if request == b"refuse":
            context.abort(grpc.StatusCode.NOT_FOUND, "no such order")
        if request == b"set":
            context.set_code(grpc.StatusCode.INVALID_ARGUMENT)
            context.set_details("odd")
        if request == b"fail":
            raise RuntimeError("boom")
        if request == b"wait":
            active = getattr(context, "is_active", None) or (lambda: context.time_remaining() > 0)
            wait_until(lambda: not active())
        return seen().encode()

    @staticmethod
    def count(request: bytes, context: Any) -> Iterator[bytes]:
        for number in range(3):
            with clew.start_span(f"step {number}"):
                yield seen().encode()
        if request == b"fail":
            raise RuntimeError("late")

    @staticmethod
    def collect(requests: Iterator[bytes], context: Any) -> bytes:
        return b"|".join(requests) + b"|" + seen().encode()

    @staticmethod
    def echo(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        for request in requests:
            yield request + seen().encode()


class Async:
    """The handlers as coroutines and asynchronous generators."""

    @staticmethod
    async def answer(request: bytes, context: Any) -> bytes:
        log.info("answering")
        if request == b"refuse":
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such order")
        if request == b"set":
            context.set_code(grpc.StatusCode.INVALID_ARGUMENT)
            context.set_details("odd")
        if request == b"fail":
            raise RuntimeError("boom")
        if request == b"wait":
            await asyncio.sleep(20)
        return seen().encode()

    @staticmethod
    async def count(request: bytes, context: Any) -> Any:
        for number in range(3):
            with clew.start_span(f"step {number}"):
                yield seen().encode()
        if request == b"fail":
            raise RuntimeError("late")

    @staticmethod
    async def collect(requests: Any, context: Any) -> bytes:
        return b"|".join([request async for request in requests]) + b"|" + seen().encode()

    @staticmethod
    async def echo(requests: Any, context: Any) -> Any:
        async for request in requests:
            yield request + seen().encode()


class ReadWrite(Async):
    """The streaming handlers as coroutines that read and write by the context."""

    @staticmethod
    async def count(request: bytes, context: Any) -> None:
        for _ in range(3):
            await context.write(seen().encode())
        if request == b"fail":
            raise RuntimeError("late")

    @staticmethod
    async def echo(requests: Any, context: Any) -> None:
        while (request := await context.read()) is not aio.EOF:
            await context.write(request + seen().encode())


def handlers(of: Any) -> grpc.GenericRpcHandler:
    """The service `shop.Orders`."""
    return grpc.method_handlers_generic_handler(
        "shop.Orders",
        {
            "Answer": grpc.unary_unary_rpc_method_handler(of.answer),
            "Count": grpc.unary_stream_rpc_method_handler(of.count),
            "Collect": grpc.stream_unary_rpc_method_handler(of.collect),
            "Echo": grpc.stream_stream_rpc_method_handler(of.echo),
        },
    )


@contextlib.contextmanager
def plain_server(of: Any = Plain, interceptors: Any = ()) -> Iterator[int]:
    server = grpc.server(ThreadPoolExecutor(4), interceptors=interceptors)
    server.add_generic_rpc_handlers((handlers(of),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(None).wait(10)


@contextlib.contextmanager
def async_server(of: Any = Async, interceptors: Any = ()) -> Iterator[int]:
    started: list[Any] = []
    ready = threading.Event()

    async def serve() -> None:
        server = aio.server(interceptors=interceptors)
        server.add_generic_rpc_handlers((handlers(of),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        ended = asyncio.Event()
        started.extend([port, asyncio.get_running_loop(), ended])
        ready.set()
        await ended.wait()
        await server.stop(None)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert ready.wait(20)
    port, loop, ended = started
    try:
        yield port
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(20)


SERVERS = {
    "threads": plain_server,
    "asyncio": async_server,
    "asyncio by context": lambda **more: async_server(ReadWrite, **more),
    "asyncio, plain handlers": lambda **more: async_server(Plain, **more),
}


@pytest.fixture
def spans() -> Iterator[MemorySender]:
    with recorded("kit") as sender:
        clew.instrument("grpc")
        try:
            yield sender
        finally:
            clew.uninstrument()


@pytest.fixture(params=SERVERS)
def port(request: pytest.FixtureRequest, spans: MemorySender) -> Iterator[int]:
    with SERVERS[request.param]() as found:
        yield found


def of_kind(spans: MemorySender, kind: str, count: int = 1) -> list[dict[str, Any]]:
    """The spans of a kind, once they are there."""
    wait_until(lambda: len([span for span in spans.spans() if span.get("kind") == kind]) >= count)
    found = [span for span in spans.spans() if span.get("kind") == kind]
    assert count == len(found)
    return found


def call(port: int, method: str, request: Any, kind: str = "unary_unary", metadata: Any = None, **more: Any) -> Any:
    """Call by a channel with threads; a stream is read to its end."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        answer = getattr(channel, kind)(f"/shop.Orders/{method}")(request, metadata=metadata, timeout=20, **more)
        return list(answer) if kind.endswith("stream") else answer


async def call_async(port: int, method: str, request: Any, kind: str = "unary_unary", metadata: Any = None) -> Any:
    """Call by a channel with asyncio; a stream is read to its end."""
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        answer = getattr(channel, kind)(f"/shop.Orders/{method}")(request, metadata=metadata, timeout=20)
        return [part async for part in answer] if kind.endswith("stream") else await answer


def callers() -> list[Any]:
    return [
        pytest.param(call, id="threads"),
        pytest.param(lambda *args, **more: asyncio.run(call_async(*args, **more)), id="asyncio"),
    ]


each_caller = pytest.mark.parametrize("ask", callers())


# --- both sides ---


@each_caller
def test_a_call_is_one_trace_from_client_to_handler(port: int, spans: MemorySender, ask: Any) -> None:
    """Client span, server span beneath it, what the handler sees beneath that."""
    with clew.start_span("request") as root:
        trace_id, span_id, parent_id, sampled = ask(port, "Answer", b"x").decode().split()
    client, server = of_kind(spans, "CLIENT")[0], of_kind(spans, "SERVER")[0]
    assert (root.trace_id, server["id"], client["id"], "True") == (trace_id, span_id, parent_id, sampled)
    assert (root.span_id, client["id"]) == (client["parentId"], server["parentId"])
    tags = {
        "rpc.system": "grpc",
        "rpc.service": "shop.Orders",
        "rpc.method": "Answer",
        "grpc.status_code": "OK",
    }
    common = {"traceId": root.trace_id, "name": "shop.Orders/Answer", "localEndpoint": {"serviceName": "kit"}}
    told = {"remoteEndpoint": {"ipv4": "127.0.0.1"}} if ask is call or AIO_TELLS_TARGET else {}
    assert {
        **common,
        "parentId": root.span_id,
        "kind": "CLIENT",
        **told,
        "tags": tags,
    } == without_times(client)
    assert {
        **common,
        "parentId": client["id"],
        "kind": "SERVER",
        "remoteEndpoint": {"ipv4": "127.0.0.1"},
        "tags": tags,
    } == without_times(server)
    assert clew.get_trace_context() is None


@each_caller
@pytest.mark.parametrize(
    ("method", "kind", "request_", "sent", "received"),
    [
        ("Count", "unary_stream", b"x", 1, 3),
        ("Collect", "stream_unary", [b"a", b"b"], 2, 1),
        ("Echo", "stream_stream", [b"a", b"b", b"c"], 3, 3),
    ],
)
def test_messages_of_a_stream_are_counted(
    port: int, spans: MemorySender, ask: Any, method: str, kind: str, request_: Any, sent: int, received: int
) -> None:
    """On both sides, with the times of the first and the last one each way."""
    answers = ask(port, method, iter(request_) if isinstance(request_, list) else request_, kind)
    client, server = of_kind(spans, "CLIENT")[0], of_kind(spans, "SERVER")[0]
    last = answers[-1] if isinstance(answers, list) else answers
    assert client["traceId"] in last.decode()
    assert ("OK", str(sent), str(received)) == _counts(client, "sent", "received")
    assert ("OK", str(received), str(sent)) == _counts(server, "sent", "received")
    notes = [note["value"] for note in sorted(client["annotations"], key=lambda note: note["timestamp"])]
    assert {"first message sent", "first message received"} <= set(notes)
    assert ("last message received" in notes, "last message sent" in notes) == (received > 1, sent > 1)


def _counts(span: dict[str, Any], *ways: str) -> tuple[str, ...]:
    tags = span["tags"]
    return tags["grpc.status_code"], *(tags[f"rpc.messages_{way}"] for way in ways)


@each_caller
@pytest.mark.parametrize(
    ("request_", "status", "details", "server_error"),
    [
        (b"refuse", "NOT_FOUND", "no such order", None),
        (b"set", "INVALID_ARGUMENT", "odd", None),
        (b"fail", "UNKNOWN", None, ("boom", "RuntimeError")),
    ],
)
def test_a_status_is_a_failure_of_whose_fault_it_is(
    port: int, spans: MemorySender, ask: Any, request_: bytes, status: str, details: str | None, server_error: Any
) -> None:
    """Any status but OK is a failed call; a server failed only by its own doing."""
    with pytest.raises(grpc.RpcError) as caught:
        ask(port, "Answer", request_)
    assert status == caught.value.code().name
    client, server = of_kind(spans, "CLIENT")[0]["tags"], of_kind(spans, "SERVER")[0]["tags"]
    assert [status, status] == [client["grpc.status_code"], server["grpc.status_code"]]
    assert status == client["error.type"]
    assert client["error"] == f"{status}: {details or caught.value.details()}"
    assert server_error == ((server["error"], server["error.type"]) if "error" in server else None)


@each_caller
def test_a_stream_that_fails_half_way_is_a_failure(port: int, spans: MemorySender, ask: Any) -> None:
    """On both sides; what of the messages still reaches the client after a failure is up to the library."""
    with pytest.raises(grpc.RpcError):
        ask(port, "Count", b"fail", "unary_stream")
    client, server = of_kind(spans, "CLIENT")[0], of_kind(spans, "SERVER")[0]
    assert "UNKNOWN" == client["tags"]["error.type"]
    assert ("UNKNOWN", "3") == _counts(server, "sent")
    assert "late" == server["tags"]["error"]


@pytest.mark.parametrize("method", ["Answer"])
def test_deadlines_are_told_from_other_failures(port: int, spans: MemorySender, method: str) -> None:
    """The client's span says DEADLINE_EXCEEDED."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel, pytest.raises(grpc.RpcError):
        channel.unary_unary(f"/shop.Orders/{method}")(b"wait", timeout=0.3)
    assert "DEADLINE_EXCEEDED" == of_kind(spans, "CLIENT")[0]["tags"]["error.type"]
    assert of_kind(spans, "SERVER")[0]["tags"]["grpc.status_code"] in ("DEADLINE_EXCEEDED", "CANCELLED")


def test_a_cancelled_call_says_so(port: int, spans: MemorySender) -> None:
    """A stream left in the middle; a server with asyncio may see nothing but the end of its requests, which is OK."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stream = channel.stream_stream("/shop.Orders/Echo")(_endless())
        next(stream)
        stream.cancel()
        by_asyncio = "asyncio" in os.environ["PYTEST_CURRENT_TEST"]
        assert "CANCELLED" == of_kind(spans, "CLIENT")[0]["tags"]["grpc.status_code"]
    assert of_kind(spans, "SERVER")[0]["tags"]["grpc.status_code"] in ("CANCELLED", "OK" if by_asyncio else "")


def _endless() -> Iterator[bytes]:
    yield b"a"
    threading.Event().wait(0.5)
    yield b"b"


def test_an_asyncio_call_that_is_cancelled_says_so(port: int, spans: MemorySender) -> None:
    """The task that waits for it is cancelled."""

    async def run() -> None:
        async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stream = channel.stream_stream("/shop.Orders/Echo")()
            await stream.write(b"a")
            await stream.read()
            stream.cancel()
            with pytest.raises(asyncio.CancelledError):
                await stream.read()

    asyncio.run(run())
    assert "CANCELLED" == of_kind(spans, "CLIENT")[0]["tags"]["grpc.status_code"]


@each_caller
def test_nothing_listens(spans: MemorySender, ask: Any) -> None:
    """A failed connection is UNAVAILABLE, with its reason."""
    with pytest.raises(grpc.RpcError):
        ask(1, "Answer", b"x")
    tags = of_kind(spans, "CLIENT")[0]["tags"]
    assert "UNAVAILABLE" == tags["error.type"]
    assert tags["error"].startswith("UNAVAILABLE: ")


# --- the server's side ---


def test_a_caller_s_trace_is_joined(port: int, spans: MemorySender) -> None:
    """By the X- headers in the metadata, from a client that is not traced."""
    clew.uninstrument("grpc")
    answer = call(port, "Answer", b"x", metadata=JOINED).decode().split()
    assert [TRACE_ID, SPAN_ID] == answer[::2]


def test_w3c_and_unsampled_are_joined(port: int, spans: MemorySender) -> None:
    """A traceparent alone is enough; a caller's decision is kept."""
    clew.uninstrument("grpc")
    answer = call(port, "Answer", b"x", metadata=(("traceparent", f"00-{TRACE_ID}-{SPAN_ID}-00"),)).decode().split()
    assert [TRACE_ID, SPAN_ID, "False"] == [answer[0], *answer[2:]]
    assert [] == spans.spans()


@pytest.mark.parametrize("value", ["not-hex", "0" * 32, TRACE_ID + "0", "<script>"])
def test_hostile_metadata_starts_a_new_trace(port: int, spans: MemorySender, value: str) -> None:
    """Malformed, all zeros, too long."""
    clew.uninstrument("grpc")
    answer = call(port, "Answer", b"x", metadata=(("x-trace-id", value), ("x-span-id", SPAN_ID))).decode().split()
    assert (32, "None") == (len(answer[0]), answer[2])


def test_log_lines_of_handler_carry_the_id(port: int, spans: MemorySender) -> None:
    """Also in the thread pool of a server with asyncio."""
    with log_lines("kit.grpc") as lines:
        call(port, "Answer", b"x", metadata=JOINED)
    trace_id = of_kind(spans, "SERVER")[0]["traceId"]
    assert {trace_id} == lines.trace_ids("kit.grpc")


class Refusing(grpc.ServerInterceptor):
    """An interceptor of the user's own that answers itself."""

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        log.info("intercepting")
        handler = continuation(details)
        assert handler is not None

        def refuse(request: bytes, context: Any) -> bytes:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "who are you?")
            return b""

        return grpc.unary_unary_rpc_method_handler(refuse)


def test_interceptors_of_the_user_s_own_run_in_the_trace(spans: MemorySender) -> None:
    """Their log lines carry the ids; what they answer is the span's status."""
    with (
        log_lines("kit.grpc") as lines,
        plain_server(interceptors=[Refusing()]) as port,
        pytest.raises(grpc.RpcError),
    ):
        call(port, "Answer", b"x")
    server = of_kind(spans, "SERVER")[0]
    assert "UNAUTHENTICATED" == server["tags"]["grpc.status_code"]
    assert {server["traceId"]} == lines.trace_ids("kit.grpc")


def test_an_unknown_method_is_a_span_too(port: int, spans: MemorySender) -> None:
    """The server's UNIMPLEMENTED."""
    with pytest.raises(grpc.RpcError):
        call(port, "Nothing", b"x")
    assert "UNIMPLEMENTED" == of_kind(spans, "SERVER")[0]["tags"]["grpc.status_code"]


def test_concurrent_calls_do_not_mix(port: int, spans: MemorySender) -> None:
    """Forty at a time, each in its own trace."""

    def one(number: int) -> tuple[str, str]:
        with clew.start_span(f"caller {number}") as span:
            return span.trace_id, call(port, "Answer", b"x").decode().split()[0]

    with ThreadPoolExecutor(8) as pool:
        assert [] == [pair for pair in pool.map(one, range(40)) if pair[0] != pair[1]]


# --- the client's side ---


class Retrying(grpc.UnaryUnaryClientInterceptor):
    """An interceptor of the user's own that tries once more."""

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        answer = continuation(details, request)
        return continuation(details, b"x") if answer.code() is not grpc.StatusCode.OK else answer


def test_an_interceptor_that_tries_again_makes_a_span_each_time(port: int, spans: MemorySender) -> None:
    """Retries are seen as what they are, and the second one's answer is the caller's."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel, clew.start_span("request") as root:
        traced = grpc.intercept_channel(channel, Retrying())
        assert root.trace_id in traced.unary_unary("/shop.Orders/Answer")(b"refuse").decode()
    first, second = sorted(of_kind(spans, "CLIENT", 2), key=lambda span: span["timestamp"])
    assert ["NOT_FOUND", "OK"] == [span["tags"]["grpc.status_code"] for span in (first, second)]


@pytest.mark.parametrize("how", ["with_call", "future", "keywords", "positions"])
def test_every_way_to_call_is_one_span(port: int, spans: MemorySender, how: str) -> None:
    """And the caller's own metadata arrives, and is not changed."""
    metadata = [("own", "1"), ("X-Other".lower(), "2")]
    given = copy.deepcopy(metadata)
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        ask = channel.unary_unary("/shop.Orders/Answer")
        if how == "with_call":
            answer, ended = ask.with_call(b"x", metadata=metadata)
            assert grpc.StatusCode.OK is ended.code()
        elif how == "future":
            answer = ask.future(b"x", metadata=metadata).result(20)
        elif how == "keywords":
            answer = ask(request=b"x", metadata=metadata, timeout=20)
        else:
            answer = ask(b"x", 20, metadata)
    assert given == metadata
    assert answer.decode().split()[2] == of_kind(spans, "CLIENT")[0]["id"]


def test_a_channel_made_before_is_traced_and_none_after(spans: MemorySender) -> None:
    """instrument() and uninstrument() work on channels that exist."""
    clew.uninstrument("grpc")
    with plain_server() as port, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        ask = channel.unary_unary("/shop.Orders/Answer")
        assert b"none" == ask(b"x")
        clew.instrument("grpc")
        ask(b"x")
        of_kind(spans, "CLIENT")
        clew.uninstrument("grpc")
        ask(b"x")
    of_kind(spans, "CLIENT")


def test_a_failed_unpickled_error_is_as_it_was(port: int, spans: MemorySender) -> None:
    """Nothing of ours hangs on the errors of a call."""
    with pytest.raises(grpc.RpcError) as caught:
        call(port, "Answer", b"refuse")
    assert [] == [name for name in vars(caught.value) if "clew" in name]


def test_reads_by_hand_are_counted(port: int, spans: MemorySender) -> None:
    """A stream of grpc.aio that is read and written message by message."""

    async def run() -> None:
        async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stream = channel.stream_stream("/shop.Orders/Echo")()
            for message in (b"a", b"b"):
                await stream.write(message)
                assert (await stream.read()).startswith(message)
            await stream.done_writing()
            assert aio.EOF is await stream.read()

    asyncio.run(run())
    assert ("OK", "2", "2") == _counts(of_kind(spans, "CLIENT")[0], "sent", "received")
