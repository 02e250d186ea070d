"""The hot HTTP route, and the application around it, over a real socket."""

from __future__ import annotations

import gzip
import http.client
import json
import random
import socket
import threading
from typing import TYPE_CHECKING

import pytest
import uvicorn

from clew.collector.api import open_desk
from clew.collector.doors.connections import Connections
from clew.collector.ingest import Ingest
from clew.collector.metrics import Metrics
from clew.collector.server import build_app
from clew.collector.serving import configured
from clew.collector.settings import Settings, Token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from clew.collector.store.clickhouse import ClickHouseStore

SPANS = b'[{"traceId":"a","id":"b","name":"x"}]'
LOGS = b'{"logs":[{"timestamp":1,"service":"a","message":"m"}]}'


class Served:
    """One application on a free port."""

    def __init__(self, store: ClickHouseStore, directory: Path, settings: Settings) -> None:
        self.metrics = Metrics()
        self.ingest = Ingest(store, directory, self.metrics)
        self._socket = socket.create_server(("127.0.0.1", 0))
        app = build_app(store, self.ingest, settings, open_desk(store, settings))
        self._server = uvicorn.Server(configured(app, Connections(self.metrics)))
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],))
        self._thread.start()

    def request(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, bytes, dict[str, str]]:
        connection = http.client.HTTPConnection("127.0.0.1", self._socket.getsockname()[1], timeout=30)
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        answer = response.status, response.read(), {name.lower(): value for name, value in response.getheaders()}
        connection.close()
        return answer

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join()
        self.ingest.close()


@pytest.fixture
def serve(store: ClickHouseStore, tmp_path: Path) -> Iterator[Callable[..., Served]]:
    opened: list[Served] = []

    def serve_one(**settings: object) -> Served:
        opened.append(Served(store, tmp_path / "journal", Settings(**settings)))  # type: ignore[arg-type]
        return opened[-1]

    yield serve_one
    for served in opened:
        served.close()


def _count(served: Served, store: ClickHouseStore, table: str = "spans") -> int:
    served.ingest.settle(30)
    return int(store._writer.query(f"SELECT count() FROM {table}").result_rows[0][0])


def test_spans_and_logs_are_accepted(serve: Callable[..., Served], store: ClickHouseStore) -> None:
    """202 with nothing in it, and the rows are there."""
    served = serve()
    for path, body in (("/api/v2/spans", SPANS), ("/api/v1/logs", LOGS)):
        status, answer, headers = served.request("POST", path, body)
        assert (202, b"", "0") == (status, answer, headers["content-length"])
    assert (1, 1) == (_count(served, store), _count(served, store, "logs"))


@pytest.mark.parametrize("body", [b"", b"[]", b" [ ] "])
def test_nothing_is_accepted(serve: Callable[..., Served], body: bytes) -> None:
    """No spans are no error, as in Zipkin."""
    assert 202 == serve().request("POST", "/api/v2/spans", body)[0]


def test_gzip_is_unpacked(serve: Callable[..., Served], store: ClickHouseStore) -> None:
    """Also several members in a row, and the header in capitals."""
    served = serve()
    two = gzip.compress(SPANS[:10]) + gzip.compress(SPANS[10:])
    assert 202 == served.request("POST", "/api/v2/spans", two, Content_Encoding="GZIP")[0]
    assert 1 == _count(served, store)


@pytest.mark.parametrize("encoding", ["x-gzip", "gzip, identity", "identity,GZIP", " gzip ,"])
def test_gzip_by_other_names_is_unpacked(serve: Callable[..., Served], store: ClickHouseStore, encoding: str) -> None:
    """As Zipkin's server and proxies write it."""
    served = serve()
    assert 202 == served.request("POST", "/api/v2/spans", gzip.compress(SPANS), Content_Encoding=encoding)[0]
    assert 202 == served.request("POST", "/api/v2/spans", b"[]", Content_Encoding="identity")[0]
    assert 1 == _count(served, store)


def test_gzip_of_any_shape_is_unpacked(serve: Callable[..., Served], store: ClickHouseStore) -> None:
    """Members that end anywhere in the pieces in which a body is read; data that does not pack."""
    served = serve()
    noise = random.Random(1).randbytes(40_000).hex()
    body = b'[{"traceId":"a","id":"b","tags":{"noise":"%b"}}]' % noise.encode()
    for size in (1_000, 16_384, 50_000):
        parts = [gzip.compress(body[start : start + size]) for start in range(0, len(body), size)]
        packed = b"".join([gzip.compress(b""), *parts, gzip.compress(b"")])
        assert 202 == served.request("POST", "/api/v2/spans", packed, Content_Encoding="gzip")[0]
    _count(served, store)
    assert [(noise,)] == store._writer.query("SELECT tags['noise'] FROM spans LIMIT 1").result_rows


def test_protobuf_is_read(serve: Callable[..., Served], store: ClickHouseStore) -> None:
    """By its content type."""
    span = b"\x0a\x08" + b"\0" * 7 + b"\x0a" + b"\x1a\x08" + b"\0" * 7 + b"\x0b"
    body = b"\x0a" + bytes([len(span)]) + span
    served = serve()
    assert 202 == served.request("POST", "/api/v2/spans", body, Content_Type="application/x-protobuf")[0]
    assert 1 == _count(served, store)


@pytest.mark.parametrize("path", ["/api/v1/spans", "/zipkin/api/v1/spans"])
def test_old_json_is_read(serve: Callable[..., Served], store: ClickHouseStore, path: str) -> None:
    """At its own address; there today's format is refused, and the other way round."""
    endpoint = b'"endpoint":{"serviceName":"a"}'
    body = b'[{"traceId":"a","id":"b","annotations":[{"timestamp":5,"value":"sr",%b}]}]' % endpoint
    served = serve()
    assert 202 == served.request("POST", path, body)[0]
    assert 1 == _count(served, store)
    assert 400 == served.request("POST", path, b'[{"traceId":"a","id":"b","tags":{}}]')[0]
    assert 400 == served.request("POST", "/api/v2/spans", b'[{"traceId":"a","id":"b","binaryAnnotations":[]}]')[0]


def test_what_two_parsers_read_differently_stops_nothing(serve: Callable[..., Served], store: ClickHouseStore) -> None:
    """Keys in odd case, twice, null, of odd types: stored or refused, and what comes behind is stored, too."""
    odd = [
        b'[{"traceId":"a","id":"1","Annotations":{"owner":"me"}}]',
        b'[{"traceId":"a","id":"2","Timestamp":[],"TAGS":7,"localendpoint":"x"}]',
        b'[{"traceId":"a","id":"3","name":"a","name":"b"}]',
        b'[{"binaryAnnotations":null,"traceId":"1","id":"1","name":"a","name":"b"}]',
        b'[{"traceId":"a","id":"4","timestamp":1%b,"timestamp":1}]' % (b"0" * 5_000),
    ]
    served = serve()
    assert [202, 202, 202, 400, 400] == [served.request("POST", "/api/v2/spans", body)[0] for body in odd]
    record = b'{"logs":[{"timestamp":1,"service":"a","message":"m","message":"n","Message":1}]}'
    assert 202 == served.request("POST", "/api/v1/logs", record)[0]
    assert 202 == served.request("POST", "/api/v2/spans", SPANS)[0]

    assert (4, 1) == (_count(served, store), _count(served, store, "logs"))
    assert served.ingest.store_works


@pytest.mark.parametrize(
    ("body", "headers", "status", "said"),
    [
        (b"nope", {}, 400, "JSON array"),
        (b'[{"traceId":"a","id":"b"},{"traceId":"a"}]', {}, 400, "span 1, id: is missing"),
        (b"nope", {"Content_Encoding": "gzip"}, 400, "not gzip"),
        (gzip.compress(SPANS)[:-9], {"Content_Encoding": "gzip"}, 400, "too early"),
        (gzip.compress(SPANS) + b"xx", {"Content_Encoding": "gzip"}, 400, "not gzip"),
        (gzip.compress(SPANS) + gzip.compress(SPANS)[:5], {"Content_Encoding": "gzip"}, 400, "too early"),
        (SPANS, {"Content_Encoding": "br"}, 415, "must be gzip"),
        (gzip.compress(gzip.compress(SPANS)), {"Content_Encoding": "gzip, gzip"}, 415, "once"),
        (b"\x0a\x05", {"Content_Type": "application/x-protobuf"}, 400, "protobuf"),
        (b"[" + b" " * 2_000 + b"]", {}, 413, "larger than 1000 bytes"),
        (gzip.compress(b"[" + b" " * 500_000 + b"]"), {"Content_Encoding": "gzip"}, 413, "larger than 1000 bytes"),
    ],
)
def test_refusals_say_what_is_wrong(
    serve: Callable[..., Served], store: ClickHouseStore, body: bytes, headers: dict[str, str], status: int, said: str
) -> None:
    """A sentence as text, counted, and nothing is stored."""
    served = serve(max_body=1_000)
    found, answer, got = served.request("POST", "/api/v2/spans", body, **headers)

    assert status == found
    assert said in answer.decode()
    assert "text/plain; charset=utf-8" == got["content-type"]
    counted = served.metrics.value("http_rejected_total") + served.metrics.value("payloads_rejected_total")
    assert (1, 0) == (counted, _count(served, store))


def test_work_is_in_proportion_to_the_body(serve: Callable[..., Served]) -> None:
    """Megabytes of empty gzip members are refused after the first thousand; others are answered meanwhile."""
    served = serve()
    bomb = gzip.compress(b"") * 800_000
    threads = [
        threading.Thread(
            target=served.request, args=("POST", "/api/v2/spans", bomb), kwargs={"Content_Encoding": "gzip"}
        )
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    assert 202 == served.request("POST", "/api/v2/spans", gzip.compress(SPANS), Content_Encoding="gzip")[0]
    for thread in threads:
        thread.join()
    assert 8 == served.metrics.value("http_rejected_total", reason="gzip")


def test_protobuf_of_empty_spans_is_refused_by_their_count(serve: Callable[..., Served]) -> None:
    """Two bytes each, eight million of them: nothing is made of the others."""
    status, answer, _ = serve().request(
        "POST", "/api/v2/spans", b"\x0a\x00" * 8_000_000, Content_Type="application/x-protobuf"
    )
    assert 400 == status
    assert answer.decode().startswith("More than 300000 spans in one payload.")


def test_chunked_body_is_bounded(serve: Callable[..., Served]) -> None:
    """A body that does not tell its size is cut off at the limit."""
    served = serve(max_body=1_000)
    connection = http.client.HTTPConnection("127.0.0.1", served._socket.getsockname()[1], timeout=30)
    connection.request("POST", "/api/v2/spans", iter([b"[" * 600, b"[" * 600]), encode_chunked=True)
    assert 413 == connection.getresponse().status
    connection.close()


def test_token_is_wanted_everywhere_but_at_health(serve: Callable[..., Served]) -> None:
    """401 tells how; the right token opens, a wrong one does not."""
    served = serve(token=(Token("s3cret"),))
    for method, path in (("POST", "/api/v2/spans"), ("GET", "/api/v2/services"), ("GET", "/metrics"), ("GET", "/info")):
        status, answer, headers = served.request(method, path, SPANS if method == "POST" else b"")
        assert (401, "Bearer") == (status, headers["www-authenticate"])
        assert b"Authorization: Bearer" in answer
        assert 401 == served.request(method, path, Authorization="Bearer wrong")[0]
    assert 200 == served.request("GET", "/health")[0]
    assert 202 == served.request("POST", "/api/v2/spans", SPANS, Authorization="Bearer s3cret")[0]
    assert 200 == served.request("GET", "/metrics", Authorization="bearer s3cret")[0]


def test_health_info_and_metrics(serve: Callable[..., Served]) -> None:
    """Zipkin's shape of health; metrics in Prometheus' format."""
    served = serve()
    served.request("POST", "/api/v2/spans", SPANS)
    assert "UP" == json.loads(served.request("GET", "/health")[1])["status"]
    assert 604_800 == json.loads(served.request("GET", "/info")[1])["clew"]["retain_s"]
    status, text, headers = served.request("GET", "/metrics")
    assert (200, "text/plain; version=0.0.4; charset=utf-8") == (status, headers["content-type"])
    assert b'\nclew_collector_spans_stored_total{source="http"} 1\n' in text


def test_other_methods_are_not_allowed(serve: Callable[..., Served], store: ClickHouseStore) -> None:
    """405, not a stored payload."""
    served = serve()
    statuses = [served.request("PUT", path, SPANS)[0] for path in ("/api/v2/spans", "/api/v1/logs", "/health")]

    assert [405, 405, 405] == statuses
    assert 0 == _count(served, store)
