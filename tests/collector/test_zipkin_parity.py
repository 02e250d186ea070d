"""Status and text of every answer that Zipkin's server 3.5.1 was seen to give to odd requests (2026-11)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from served import served

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from clew.collector.store.clickhouse import ClickHouseStore

MISSING = "Mandatory parameter/header/attribute is missing: "

SEEN = [
    ("/spans", 400, MISSING + "serviceName"),
    ("/spans?serviceName=", 200, "[]"),
    ("/remoteServices", 400, MISSING + "serviceName"),
    ("/traces?limit=0", 400, "limit <= 0"),
    ("/traces?limit=-1", 400, "limit <= 0"),
    ("/traces?limit=abc", 400, 'For input string: "abc"'),
    ("/traces?limit=", 400, "Cannot set null to primitive type parameter: limit"),
    ("/traces?limit=99999999999", 400, 'For input string: "99999999999"'),
    ("/traces?limit=2147483647", 200, "[]"),
    ("/traces?endTs=0", 400, "endTs <= 0"),
    ("/traces?endTs=-5", 400, "endTs <= 0"),
    ("/traces?endTs=abc", 400, 'For input string: "abc"'),
    ("/traces?endTs=", 200, "[]"),
    ("/traces?endTs=9223372036854775807", 200, "[]"),
    ("/traces?endTs=9223372036854775808", 400, 'For input string: "9223372036854775808"'),
    ("/traces?lookback=0", 400, "lookback <= 0"),
    ("/traces?lookback=abc", 400, 'For input string: "abc"'),
    ("/traces?lookback=9223372036854775807", 200, "[]"),
    ("/traces?minDuration=0", 400, "minDuration <= 0"),
    ("/traces?minDuration=5&maxDuration=4", 400, "maxDuration < minDuration"),
    ("/traces?maxDuration=4", 400, "maxDuration is only valid with minDuration"),
    ("/traces?minDuration=x", 400, 'For input string: "x"'),
    ("/traces?minDuration=1.5", 400, 'For input string: "1.5"'),
    ("/traces?minDuration=%205", 400, 'For input string: " 5"'),
    ("/traces?minDuration=%2B5", 200, "[]"),
    ("/traces?annotationQuery=%ff%fe", 200, "[]"),
    ("/traces?serviceName=%27%20OR%201=1", 200, "[]"),
    ("/traces?bogus=1", 200, "[]"),
    ("/trace/zz", 400, "zz should be lower-hex encoded with no prefix"),
    ("/trace/ABC", 400, "ABC should be lower-hex encoded with no prefix"),
    ("/trace/0", 400, "traceId is all zeros"),
    ("/trace/000000000000000000000000000000000001", 400, "traceId.length > 32"),
    ("/trace/abc", 404, "0000000000000abc not found"),
    ("/trace/0e8b46e1-81b", 400, "0e8b46e1-81b should be lower-hex encoded with no prefix"),
    ("/trace/%ff", 400, "\ufffd should be lower-hex encoded with no prefix"),
    ("/traceMany", 400, MISSING + "traceIds"),
    ("/traceMany?traceIds=", 400, "traceIds parameter is empty"),
    ("/traceMany?traceIds=1", 400, "Use /api/v2/trace/{traceId} endpoint to retrieve a single trace"),
    ("/traceMany?traceIds=1&traceIds=2", 400, "Use /api/v2/trace/{traceId} endpoint to retrieve a single trace"),
    ("/traceMany?traceIds=1,1", 400, "redundant traceId: 1"),
    ("/traceMany?traceIds=1,01", 400, "redundant traceId: 01"),
    ("/traceMany?traceIds=1,2,", 400, "traceId is empty"),
    ("/traceMany?traceIds=,", 400, "traceId is empty"),
    ("/traceMany?traceIds=1,%202", 400, " 2 should be lower-hex encoded with no prefix"),
    ("/traceMany?traceIds=abcd,0e8b46e1-81b", 400, "0e8b46e1-81b should be lower-hex encoded with no prefix"),
    ("/traceMany?traceIds=abcd,efff", 200, "[]"),
    ("/dependencies", 400, MISSING + "endTs"),
    ("/dependencies?lookback=5", 400, MISSING + "endTs"),
    ("/dependencies?endTs=", 400, "Cannot set null to primitive type parameter: endTs"),
    ("/dependencies?endTs=x", 400, 'For input string: "x"'),
    ("/dependencies?endTs=0", 400, "endTs <= 0"),
    ("/dependencies?endTs=1&lookback=0", 400, "lookback <= 0"),
    ("/dependencies?endTs=1&lookback=x", 400, 'For input string: "x"'),
    ("/dependencies?endTs=1700000000000", 200, "[]"),
    ("/autocompleteKeys", 200, "[]"),
    ("/autocompleteValues", 400, MISSING + "key"),
    ("/autocompleteValues?key=", 400, "key was empty"),
    ("/autocompleteValues?key=k", 200, "[]"),
    ("/services", 200, "[]"),
]


@pytest.fixture(scope="module")
def client(engine: ClickHouseStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A collector without spans."""
    engine.truncate()
    with served(engine, tmp_path_factory.mktemp("parity")) as client:
        yield client


@pytest.mark.parametrize("prefix", ["/api/v2", "/zipkin/api/v2"])
@pytest.mark.parametrize(("path", "status", "text"), SEEN, ids=[path for path, _, _ in SEEN])
def test_answer_is_zipkins(client: httpx.Client, prefix: str, path: str, status: int, text: str) -> None:
    """Errors are plain text, word for word."""
    answer = client.get(prefix + path)
    kind = "application/json" if status == 200 else "text/plain; charset=utf-8"
    assert (status, text, kind) == (answer.status_code, answer.text, answer.headers["content-type"])


@pytest.mark.parametrize(
    "path",
    ["/api/v2/trace/%00", "/api/v2/traces?serviceName=%00", "/api/v2/traces?annotationQuery=%zz", "/api/v2/traces?%"],
)
def test_broken_addresses_are_400(client: httpx.Client, path: str) -> None:
    """Zero bytes and escapes that are none."""
    answer = client.send(_raw(client, path))
    assert (400, "Invalid request path") == (answer.status_code, answer.text)


def _raw(client: httpx.Client, path: str) -> httpx.Request:
    """Return a request whose path reaches the server as it stands."""
    request = client.build_request("GET", "/")
    request.url = request.url.copy_with(raw_path=path.encode())
    return request


@pytest.mark.parametrize(
    "path",
    ["/api/v2", "/api/v2/nope", "/api/v2/trace", "/api/v2/trace/", "/api/v2/trace/1/", "/api/v2/services/", "/nope"],
)
def test_unknown_paths_are_404(client: httpx.Client, path: str) -> None:
    """No redirect to a path without its slash."""
    assert 404 == client.get(path).status_code


@pytest.mark.parametrize("path", ["/", "/api/v2/traces", "/whatever/and/not"])
def test_method_trace_is_405_everywhere(client: httpx.Client, path: str) -> None:
    """It would echo what it is sent."""
    assert 405 == client.request("TRACE", path).status_code


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_wrong_method_is_405(client: httpx.Client, method: str) -> None:
    """Zipkin says 404 here; the path is there, though."""
    assert 405 == client.request(method, "/api/v2/traces").status_code
