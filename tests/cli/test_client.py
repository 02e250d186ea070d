"""The commands' HTTP client against real sockets: what it says when the other side is not what it should be."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator

import click
import pytest

from clew.cli._client import Collector, CommandError, Event, NotFoundError, UnreachableError, _parse_events

Serve = Callable[[bytes], str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Give a function that answers the next connection with these bytes and returns the address."""
    listeners: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def start(answer: bytes) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)
        threads.append(threading.Thread(target=_answer_once, args=(listener, answer)))
        threads[-1].start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield start
    for listener in listeners:
        listener.close()
    for thread in threads:
        thread.join(10)


def _answer_once(listener: socket.socket, answer: bytes) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.recv(65_536)
        connection.sendall(answer)


def response(status: str, body: bytes, headers: str = "") -> bytes:
    """Write an HTTP response."""
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


def test_json_is_decoded(serve: Serve) -> None:
    """The ordinary case."""
    assert {"a": [1]} == Collector(serve(response("200 OK", b'{"a": [1]}'))).get("/x", limit=1, nothing=None)


def test_nothing_listening_says_how_to_start_a_collector() -> None:
    """The most frequent mistake gets the most helpful sentence."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(UnreachableError) as caught:
        Collector(f"http://127.0.0.1:{port}").get("/")
    message = caught.value.message
    assert message.startswith(f"No collector answers at http://127.0.0.1:{port} (")
    assert message.endswith("Start one with `clew up`, or name another with --collector.")


@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden"])
def test_a_refused_token_names_the_option(serve: Serve, status: str) -> None:
    """401 and 403 are about the token."""
    url = serve(response(status, b"no"))
    with pytest.raises(CommandError) as caught:
        Collector(url, "wrong").get("/")
    assert f"{url} wants the right token. Give it with --token or CLEW_TOKEN." == caught.value.message


def test_not_found_is_an_error_of_its_own(serve: Serve) -> None:
    """Commands say what it is that was not found."""
    with pytest.raises(NotFoundError):
        Collector(serve(response("404 Not Found", b"nope"))).get("/")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (response("400 Bad Request", b"limit is too high"), "answered 400: limit is too high."),
        (response("500 Oops", b""), "answered 500: Oops."),
        (response("200 OK", b"<html>"), "answered something that is not JSON. Is it a clew collector?"),
        (b"SSH-2.0-OpenSSH\r\n", "No collector answers at"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n[1,", "broke"),
        (b"", "No collector answers at"),
    ],
)
def test_strange_answers_are_one_sentence(serve: Serve, answer: bytes, expected: str) -> None:
    """Errors, other programs on that port, connections that break."""
    with pytest.raises(CommandError) as caught:
        Collector(serve(answer)).get("/")
    assert expected in caught.value.message


def test_an_answer_cannot_speak_to_the_terminal(serve: Serve, capfd: pytest.CaptureFixture[str]) -> None:
    """Control characters in an error's text are shown as escapes."""
    with pytest.raises(CommandError) as caught:
        Collector(serve(response("400 Bad Request", b"\x1b[2J[bold]evil[/bold]"))).get("/")
    caught.value.show()
    assert "\\x1b[2J[bold]evil[/bold]" in capfd.readouterr().err


def test_an_address_may_lack_its_scheme() -> None:
    """As people type it."""
    assert "http://127.0.0.1:9411" == Collector("127.0.0.1:9411/").url


@pytest.mark.parametrize("url", ["127.0.0.1:port", "", "127.0.0.1:99999", "ftp://x", "http://", "file:///etc/passwd"])
def test_what_is_no_http_address_is_wrong_usage(url: str) -> None:
    """A usage error, exit code 2."""
    with pytest.raises(click.BadParameter):
        Collector(url)


def test_events_are_decoded_and_the_end_of_the_stream_ends_them(serve: Serve) -> None:
    """Comments are passed over, data of several lines is joined, what is no JSON is None."""
    stream = b': hello\n\nevent: spans\ndata: [{"a":\ndata: 1}]\n\ndata: oops\n\n'
    stream += b"event: logs\r\ndata:[]\r\n\r\nevent: cut\ndata: [1"
    url = serve(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + stream)
    assert [
        Event("open", None),
        Event("spans", [{"a": 1}]),
        Event("message", None),
        Event("logs", []),
    ] == list(Collector(url).events("/tail", silence_s=5))


def test_fields_without_a_colon_are_no_error() -> None:
    """The standard allows them."""
    assert [Event("message", 1)] == list(_parse_events(iter([b"retry\n", b"data: 1\n", b"\n"])))


def test_a_proxy_is_not_asked_for_loopback(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """HTTP_PROXY in the environment must not stand between the command and a collector on this machine."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert [] == Collector(serve(response("200 OK", b"[]"))).get("/")
