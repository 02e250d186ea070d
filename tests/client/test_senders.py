"""UDP, HTTP and file against real sockets and real files."""

from __future__ import annotations

import json
import os
import resource
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import clew
from clew.senders import SendError
from clew.senders.file import FileSender
from clew.senders.http import HttpSender
from clew.senders.udp import UdpSender
from client.conftest import SOURCE
from client.recording import wait_until
from client.servers import HttpCollector, UdpCollector, free_port


def finish(count: int, name: str = "work") -> None:
    for number in range(count):
        with clew.start_span(f"{name} {number}"):
            pass


# UDP


def test_udp_datagrams_keep_to_their_size():
    """Spans are packed up to 16 KiB within a host; each datagram is a whole array."""
    with UdpCollector() as collector:
        clew.configure(service="test", reporter=collector.url)
        finish(500)
        assert clew.flush()
        assert [f"work {number}" for number in range(500)] == [span["name"] for span in collector.wait_for(500)]
        assert max(map(len, collector.datagrams)) <= 16_384
        assert len(collector.datagrams) < 12


def test_udp_over_a_network_keeps_below_the_mtu():
    """To another host a datagram fits an Ethernet frame."""
    assert (16_384, 16_384, 16_384, 1_432, 1_432) == tuple(
        UdpSender(host, 9410).max_message_bytes for host in ("127.0.0.1", "localhost", "::1", "10.0.0.1", "collector")
    )


def test_udp_splits_exactly_at_the_limit():
    """A message of exactly the limit goes in one datagram, one byte more in two."""
    from clew.reporter import Channel, Reporter

    with UdpCollector() as collector:
        sender = UdpSender("127.0.0.1", collector.port)
        room = sender.max_message_bytes - 16
        reporter = Reporter(sender, "test", 100, 0.01)
        for sizes in ((room // 2, room - room // 2 - 1), (room // 2, room - room // 2)):
            channel = Channel("logs", 100, lambda size: b'"' + b"x" * (size - 2) + b'"', reporter)
            reporter.logs = channel
            for size in sizes:
                channel.put(size)
            assert reporter.flush(10.0)
        reporter.shutdown(1.0)
        wait_until(lambda: len(collector.datagrams) == 3)
        assert [2, 1, 1] == [len(json.loads(datagram)["logs"]) for datagram in collector.datagrams]


def test_udp_to_a_closed_port_is_an_error():
    """The first datagram already: the kernel tells, and the sender asks."""
    sender = UdpSender("127.0.0.1", free_port(socket.SOCK_DGRAM))
    with pytest.raises(SendError, match=r"ECONNREFUSED|refused"):
        sender.send([b"{}"])
    sender.close()
    sender.close()


def test_udp_finds_the_address_that_listens(monkeypatch: pytest.MonkeyPatch):
    """``localhost`` may mean ::1 first although the collector listens on 127.0.0.1 only."""
    with UdpCollector() as collector:
        addresses = [
            (socket.AF_INET, socket.SOCK_DGRAM, 17, "", ("127.0.0.1", free_port(socket.SOCK_DGRAM))),
            (socket.AF_INET, socket.SOCK_DGRAM, 17, "", ("127.0.0.1", collector.port)),
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: addresses)
        clew.configure(service="test", reporter=f"udp://localhost:{collector.port}", flush_interval=0.01)
        finish(3)
        assert clew.flush(10.0)
        assert 3 == len(collector.wait_for(3))


def test_udp_oversize_message_is_final():
    """What no datagram holds will not fit next time either."""
    with UdpCollector() as collector:
        sender = UdpSender("127.0.0.1", collector.port)
        with pytest.raises(SendError) as caught:
            sender.send([b"x" * 100_000])
        assert not caught.value.retry
        sender.send([b"{}"])
        sender.close()
        wait_until(lambda: [b"[{}]"] == collector.datagrams)


def test_udp_unknown_host_is_tried_again():
    """A name that does not resolve is an error like any other."""
    with pytest.raises(SendError, match=r"no-such-host\.invalid:9410: ") as caught:
        UdpSender("no-such-host.invalid", 9410).send([b"{}"])
    assert caught.value.retry


# HTTP


def test_http_keeps_its_connection():
    """Many batches, one connection, JSON by POST."""
    with HttpCollector() as collector:
        sender = HttpSender(collector.url, "secret")
        for _ in range(5):
            sender.send([b"{}"])
        sender.send([b"{}"], "logs")
        sender.close()
        assert 1 == collector.connections
        path, headers, body = collector.requests[0]
        assert ("/api/v2/spans", "application/json", "Bearer secret", b"[{}]") == (
            path,
            headers["Content-Type"],
            headers["Authorization"],
            body,
        )
        assert ("/api/v1/logs", b'{"logs":[{}]}') == (collector.requests[5][0], collector.requests[5][2])


@pytest.mark.parametrize(
    ("path", "spans", "logs"),
    [
        ("", "/api/v2/spans", "/api/v1/logs"),
        ("/", "/api/v2/spans", "/api/v1/logs"),
        ("/zipkin/api/v2/spans", "/zipkin/api/v2/spans", "/zipkin/api/v1/logs"),
    ],
)
def test_http_path_may_be_given(path: str, spans: str, logs: str):
    """A server may listen below a path."""
    with HttpCollector() as collector:
        sender = HttpSender(collector.url + path)
        sender.send([b"{}"])
        sender.send([b"{}"], "logs")
        sender.close()
        assert [spans, logs] == [request[0] for request in collector.requests]


def test_http_survives_a_server_that_closes_idle_connections():
    """The batch goes out again on a new connection, without an error."""
    with HttpCollector() as collector:
        collector.close_after_answer = True
        sender = HttpSender(collector.url)
        for _ in range(3):
            sender.send([b"{}"])
        sender.close()
        assert 3 == len(collector.requests)


@pytest.mark.parametrize(
    ("status", "retry", "after_s"),
    [(503, True, 7.0), (429, True, 7.0), (500, True, 7.0), (400, False, 7.0), (401, False, 7.0), (301, False, 7.0)],
)
def test_http_status_says_whether_to_try_again(status: int, retry: bool, after_s: float):
    """5xx and 429 later, anything else that is not 2xx never."""
    with HttpCollector() as collector:
        collector.answer = (status, {"Retry-After": "7"})
        sender = HttpSender(collector.url)
        with pytest.raises(SendError, match=str(status)) as caught:
            sender.send([b"{}"])
        sender.close()
    assert (retry, after_s) == (caught.value.retry, caught.value.after_s)


@pytest.mark.parametrize("header", ["soon", "-1", "\u00b2", "9" * 400, "Wed, 21 Oct 2026 07:28:00 GMT", ""])
def test_http_odd_retry_after_is_no_trouble(header: str):
    """At most a minute, whatever the server says."""
    with HttpCollector() as collector:
        collector.answer = (503, {"Retry-After": header})
        sender = HttpSender(collector.url)
        with pytest.raises(SendError) as caught:
            sender.send([b"{}"])
        sender.close()
    assert 0.0 <= caught.value.after_s <= 60.0


def test_http_server_that_hangs_up_is_tried_again():
    """No answer at all is an error, not a delivery."""
    with HttpCollector() as collector:
        collector.answer = None
        sender = HttpSender(collector.url)
        with pytest.raises(SendError):
            sender.send([b"{}"])
        sender.close()


def test_https_to_a_plain_port_is_refused_cleanly():
    """A TLS failure is an error to try again after."""
    with HttpCollector() as collector:
        with pytest.raises(SendError) as caught:
            HttpSender(collector.url.replace("http:", "https:")).send([b"{}"])
        assert caught.value.retry


def test_http_error_names_no_secret():
    """User and password in the URL and the token stay out of messages."""
    sender = HttpSender(f"http://user:hidden@127.0.0.1:{free_port()}", "secret")
    with pytest.raises(SendError) as caught:
        sender.send([b"{}"])
    assert "hidden" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_http_ipv6_without_port():
    """An address in brackets is not taken for a port."""
    with pytest.raises((SendError, OSError)) as caught:
        HttpSender("http://[::1]").send([b"{}"])
    assert "nonnumeric" not in str(caught.value)


# File


def test_file_is_one_span_a_line(tmp_path: Path):
    """Appended to what is there; log records are a line of their own kind; others cannot read it."""
    path = tmp_path / "spans.json"
    sender = FileSender(str(path))
    sender.send([b'{"a":1}', b'{"a":2}'])
    sender.send([b'{"b":1}'], "logs")
    sender.close()
    sender.send([b'{"a":3}'])
    sender.close()
    assert '{"a":1}\n{"a":2}\n{"logs":[{"b":1}]}\n{"a":3}\n' == path.read_text()
    assert 0o640 == path.stat().st_mode & 0o777 | 0o040


def test_missing_directory_is_waited_for(tmp_path: Path):
    """Counted while it is missing, delivered when it is made."""
    path = tmp_path / "later" / "spans.json"
    clew.configure(service="test", reporter=f"file://{path}", flush_interval=0.01)
    finish(3)
    wait_until(lambda: clew.stats()["errors"] >= 1)
    assert 3 == clew.stats()["queued"]
    path.parent.mkdir()
    assert clew.flush(10.0)
    assert ["work 0", "work 1", "work 2"] == [json.loads(line)["name"] for line in path.read_text().splitlines()]


def test_file_moved_away_is_begun_anew(tmp_path: Path):
    """logrotate's way."""
    path = tmp_path / "spans.json"
    sender = FileSender(str(path))
    sender.send([b'"old"'])
    path.rename(tmp_path / "moved")
    sender.send([b'"new"'])
    sender.close()
    assert ('"old"\n', '"new"\n') == ((tmp_path / "moved").read_text(), path.read_text())


def test_file_rotates_at_its_size(tmp_path: Path):
    """At ``max_bytes`` it becomes .1, then .2; the oldest goes."""
    path = tmp_path / "spans.json"
    sender = FileSender(str(path), max_bytes=30, backups=2)
    for number in range(10):
        sender.send([b'"%09d"' % number])
    sender.close()
    assert ["000000008", "000000009", "000000006", "000000007", "000000004", "000000005"] == [
        json.loads(line)
        for name in ("spans.json", "spans.json.1", "spans.json.2")
        for line in (tmp_path / name).read_text().splitlines()
    ]
    assert 3 == len(list(tmp_path.iterdir()))


def test_file_rotation_that_fails_holds_up_no_other_process(tmp_path: Path):
    """The lock is let go of, so that another process may still write."""
    import fcntl

    path = tmp_path / "spans.json"
    (tmp_path / "spans.json.1").mkdir()
    sender = FileSender(str(path), max_bytes=10)
    sender.send([b'"1234567890"'])
    with pytest.raises(IsADirectoryError):
        sender.send([b'"x"'])
    with path.open() as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    sender.close()


@pytest.mark.parametrize("query", ["max_bytes=0", "max_bytes=-5", "backups=-1", "max_bytes=x", "mode=0644"])
def test_bad_file_options_are_refused(query: str, tmp_path: Path):
    """At once, with the option's name."""
    with pytest.raises(ValueError, match=query.split("=")[0]):
        clew.configure(reporter=f"file://{tmp_path}/spans.json?{query}")


WRITER = """
import clew, sys
clew.configure(service=sys.argv[1], reporter=sys.argv[2], flush_interval=0.001, queue_size=100_000)
for number in range(2_000):
    with clew.start_span(str(number), tags={"padding": "x" * (number % 700)}):
        pass
    if number % 97 == 0:
        clew.flush()
assert clew.shutdown(20.0)
assert 2_000 == clew.stats()["reported"], clew.stats()
"""


@pytest.mark.parametrize("query", ["", "?max_bytes=100000&backups=100"])
def test_four_processes_on_one_file(query: str, tmp_path: Path):
    """Every line is whole, every span is there once, also while the file rotates."""
    path = tmp_path / "spans.json"
    arguments = [sys.executable, "-c", WRITER]
    processes = [
        subprocess.Popen([*arguments, f"writer-{n}", f"file://{path}{query}"], env={**os.environ, "PYTHONPATH": SOURCE})
        for n in range(4)
    ]
    assert [0] * 4 == [process.wait(60) for process in processes]
    lines = [json.loads(line) for file in tmp_path.iterdir() for line in file.read_bytes().splitlines()]
    found = {(line["localEndpoint"]["serviceName"], int(line["name"])) for line in lines}
    assert 8_000 == len(lines)
    assert {(f"writer-{n}", number) for n in range(4) for number in range(2_000)} == found
    assert (len(list(tmp_path.iterdir())) > 5) is bool(query)


def test_full_disk_leaves_whole_lines(tmp_path: Path):
    """A write that does not fit leaves no half line, and goes through when there is room."""
    path = tmp_path / "spans.json"
    sender = FileSender(str(path))
    sender.send([b'"' + b"x" * 1_000 + b'"'])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_500, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            sender.send([b'"' + b"y" * 1_000 + b'"'])
        size = path.stat().st_size
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert 1_003 == size
    sender.send([b'"z"'])
    sender.close()
    assert ["x" * 1_000, "z"] == [json.loads(line) for line in path.read_text().splitlines()]
