"""`clew up` as a process: how it starts, what it says when it cannot, how it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from pathlib import Path

import pytest

from clew.collector.retention import bytes_of
from collector.collector_process import CollectorProcess, start, wait_until

SPAN = b'[{"traceId":"%x","id":"b","timestamp":1700000000000000,"duration":1,"name":"x"}]'


def test_five_lines_say_what_listens_where(tmp_path: Path) -> None:
    """And /health is 200 as soon as they are there."""
    with CollectorProcess(tmp_path / "data", "--retain", "36h") as collector:
        assert 5 == len([line for line in collector.lines if line.strip()])
        text = "".join(collector.lines)
        assert f"http://127.0.0.1:{collector.port}/" in text
        assert f"127.0.0.1:{collector.udp_port}" in text
        assert str(tmp_path / "data") in text
        assert "36 hours" in text
        assert 200 == collector.get("/health")[0]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_drains_and_exits_with_zero(tmp_path: Path, number: int) -> None:
    """Datagrams that arrived just before are there after the restart, and stderr is silent."""
    with CollectorProcess(tmp_path / "data") as collector:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for n in range(1, 51):
                sender.sendto(SPAN % n, ("127.0.0.1", collector.udp_port))
        assert 0 == collector.stop(number)
        assert collector.process.stderr is not None
        assert "" == collector.process.stderr.read()

    with CollectorProcess(tmp_path / "data") as collector:
        assert [1] * 50 == [len(collector.trace(f"{n:x}")) for n in range(1, 51)]


def test_files_are_followed_over_a_kill(tmp_path: Path) -> None:
    """Lines before and after a kill -9 are stored once each."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(SPAN % 1 + b"\n")
    options = ("--tail", str(tmp_path / "*.jsonl"))
    with CollectorProcess(tmp_path / "data", *options) as collector:
        wait_until(lambda: len(collector.trace("1")) == 1)
    with path.open("ab") as file:
        file.write(SPAN % 2 + b"\n")
    with CollectorProcess(tmp_path / "data", *options) as collector:
        wait_until(lambda: len(collector.trace("2")) == 1)
        assert 1 == collector.counter('spans_stored_total{source="tail"}')


def test_files_of_spans_and_log_lines_are_stored_once_over_kills(tmp_path: Path) -> None:
    """While they are written, rotated and read, and the collector is killed again and again."""
    paths = [tmp_path / f"{name}.jsonl" for name in "abc"]
    options = ("--tail", str(tmp_path / "*.jsonl*"))
    written = 0
    for turn in range(7):
        with CollectorProcess(tmp_path / "data", *options) as collector:
            for number in range(written + 1, written + 61):
                with paths[number % 3].open("a") as file:
                    file.write((SPAN % number)[1:-1].decode() + "\n")
                    file.write(json.dumps({"logs": [{**RECORD, "message": str(number)}]}) + "\n")
                if number == written + 30:
                    wait_until(lambda: collector.counter('spans_stored_total{source="tail"}') > 0)
                    paths[turn % 3].rename(tmp_path / f"old.jsonl.{turn}")
            written += 60
            collector.kill()
    with CollectorProcess(tmp_path / "data", *options) as collector:
        wait_until(lambda: len(_messages(collector)) >= written and len(collector.trace(f"{written:x}")) == 1)
        assert list(range(1, written + 1)) == sorted(_messages(collector))
        assert {1} == {len(collector.trace(f"{number:x}")) for number in range(1, written + 1)}


RECORD = {"timestamp": time.time_ns() // 1_000, "service": "s", "level": "INFO"}


def _messages(collector: CollectorProcess) -> list[int]:
    return [int(record["message"]) for record in json.loads(collector.get("/api/v1/logs?limit=10000")[1])]


def test_live_tail_ends_with_the_collector(tmp_path: Path) -> None:
    """An open event stream does not hold up the end."""
    with (
        CollectorProcess(tmp_path / "data") as collector,
        socket.create_connection(("127.0.0.1", collector.port), timeout=30) as follower,
    ):
        follower.sendall(b"GET /api/v1/tail HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"200 OK" in follower.recv(1_000)
        assert 0 == collector.stop()


def test_questions_under_way_end_with_the_collector(tmp_path: Path) -> None:
    """Those at work and those that wait for their turn, without a traceback."""
    spans = [{"traceId": f"{n + 1:x}", "id": "1", "kind": "CLIENT", "timestamp": 1_700_000_000_000_000 + n,
              "localEndpoint": {"serviceName": f"s{n % 50}"}, "remoteEndpoint": {"serviceName": f"r{n % 70}"}}
             for n in range(20_000)]  # fmt: skip
    with CollectorProcess(tmp_path / "data") as collector:
        assert 202 == collector.post("/api/v2/spans", json.dumps(spans).encode())[0]
        asked = [socket.create_connection(("127.0.0.1", collector.port)) for _ in range(40)]
        for connection in asked:
            connection.sendall(
                b"GET /api/v2/traces?limit=1000000&lookback=900000000000 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
            )
        assert 0 == collector.stop()
        for connection in asked:
            connection.close()
        assert collector.process.stderr is not None
        assert "Traceback" not in collector.process.stderr.read()


def test_taken_http_port_is_one_sentence(tmp_path: Path) -> None:
    """Exit code 1, the address, what to do; no traceback."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        _assert_refused(tmp_path / "data", ["--http", address], f"{address} is taken", "--http")


def test_taken_udp_port_is_one_sentence(tmp_path: Path) -> None:
    """As for HTTP."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        _assert_refused(tmp_path / "data", ["--udp", address], f"{address} is taken", "--udp")


def test_second_collector_on_the_same_directory_is_refused(tmp_path: Path) -> None:
    """The first one is not disturbed."""
    with CollectorProcess(tmp_path / "data") as collector:
        _assert_refused(tmp_path / "data", [], "in use by another collector", "--data-dir")
        assert 200 == collector.get("/health")[0]


def test_unusable_directory_is_one_sentence(tmp_path: Path) -> None:
    """A file in its place, for example."""
    (tmp_path / "data").write_text("")
    _assert_refused(tmp_path / "data", [], "cannot be used", "--data-dir")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--http", "0.0.0.0:0"], "--token SECRET), or --insecure"),
        (["--retain", "soon"], "retain = 'soon' (from --retain)"),
        (["--config", "missing.toml"], "missing.toml"),
    ],
)
def test_bad_settings_are_one_sentence(tmp_path: Path, options: list[str], said: str) -> None:
    """Before anything is opened; a second line says where the options are listed."""
    _assert_refused(tmp_path / "data", options, said, code=2)
    assert not (tmp_path / "data").exists()


def _assert_refused(data_dir: Path, options: list[str], *said: str, code: int = 1) -> None:
    process = start(data_dir, *options)
    out, err = process.communicate(timeout=60)
    assert code == process.returncode
    assert "Traceback" not in err
    assert code == len(err.strip().splitlines())
    assert [] == [text for text in said if text not in err]
    assert "" == out


def test_open_door_is_said_at_start(tmp_path: Path) -> None:
    """A sixth line, where every web page may ask."""
    with CollectorProcess(tmp_path / "data", "--allowed-origins", "*") as collector:
        assert collector.process.stdout is not None
        assert "every web page" in collector.process.stdout.readline()
        assert 200 == collector.request("GET", "/info", None, {"Origin": "http://foo.example"})[0]


def test_token_is_not_in_the_process_list(tmp_path: Path) -> None:
    """What any user may read of a process does not show it, however it was given; nor does its output."""
    options = ("--token", "s3cret-1", "--token=read:s3cret-2")
    with CollectorProcess(tmp_path / "data", *options) as collector:
        arguments = Path(f"/proc/{collector.process.pid}/cmdline").read_bytes()
        assert b"up" in arguments.split(b"\0")
        assert b"s3cret" not in arguments
        assert [401, 200, 200] == [
            collector.request("GET", "/info", None, {"Authorization": f"Bearer {secret}"})[0]
            for secret in ("s3cret", "s3cret-1", "s3cret-2")
        ]
        assert 0 == collector.stop()
        assert collector.process.stdout is not None
        assert collector.process.stderr is not None
        said = "".join(collector.lines) + collector.process.stdout.read() + collector.process.stderr.read()
        assert "s3cret" not in said


def test_disk_bound_is_the_bound_of_the_directory(tmp_path: Path) -> None:
    """With --max-disk everything in it stays under the bound, unique names included, and the newest rows stay."""
    bound, now_us = 20_000_000, time.time_ns() // 1_000
    with CollectorProcess(tmp_path / "data", "--max-disk", "20MB") as collector:
        for batch in range(1, 201):
            noise = [os.urandom(1_000).hex() for _ in range(100)]  # 200 batches are 20 MB that do not compress
            spans = [
                {"traceId": f"{batch:x}", "id": f"{n + 1:x}", "name": text[:600], "tags": {"noise": text}}
                | {"localEndpoint": {"serviceName": "old" if batch < 20 else "new"}, "timestamp": now_us}
                for n, text in enumerate(noise)
            ]
            assert 202 == collector.post("/api/v2/spans", json.dumps(spans).encode())[0]
        assert 100 == len(collector.trace(f"{batch:x}"))  # so all of them are in the table
        wait_until(lambda: bytes_of(collector.data_dir) <= bound, 60)

        assert collector.counter("retention_dropped_bytes_total") > 0
        assert [0, 100] == [len(collector.trace("1")), len(collector.trace(f"{batch:x}"))]
        assert "new" in collector.get("/api/v2/services")[1]
        assert 100 == len(json.loads(collector.get("/api/v2/traces?serviceName=new&limit=1")[1])[0])


@pytest.mark.parametrize("retain", ["90s", "5m"])
def test_short_retention_keeps_what_is_young(tmp_path: Path, retain: str) -> None:
    """The youngest rows stay for their time; none goes because of how its arrival is rounded."""
    with CollectorProcess(tmp_path / "data", "--retain", retain) as collector:
        for n in range(1, 41):  # so many parts are merged, and merging is when expired rows go
            assert 202 == collector.post("/api/v2/spans", SPAN % n)[0]
            assert 1 == len(collector.trace(f"{n:x}"))

        assert [1] * 40 == [len(collector.trace(f"{n:x}")) for n in range(1, 41)]


def test_expired_rows_go(tmp_path: Path) -> None:
    """With a retention of seconds they are gone seconds later, without a new row or a restart."""
    with CollectorProcess(tmp_path / "data", "--retain", "4s") as collector:
        assert 202 == collector.post("/api/v2/spans", SPAN % 1)[0]
        assert 1 == len(collector.trace("1"))
        wait_until(lambda: not collector.trace("1"), 60)
