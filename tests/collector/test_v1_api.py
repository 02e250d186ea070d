"""clew's own read API over a real socket: recent traces, one trace, logs, the live tail."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from served import served
from zipkin_spans import NOON, insert, insert_logs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from clew.collector.store.clickhouse import ClickHouseStore

TRACE = "7180c278b62e8f6a216a2aea45d08fc9"


@pytest.fixture
def client(store: ClickHouseStore, tmp_path: Path) -> Iterator[httpx.Client]:
    """A collector without spans, whose retention reaches back to NOON."""
    with served(store, tmp_path) as client:
        yield client


def span(trace: int | str, id: int, service: str, begin_ms: int = 0, **fields: Any) -> dict[str, Any]:
    """Return span JSON; it begins so many milliseconds after NOON."""
    return {
        "traceId": trace if isinstance(trace, str) else f"{trace:032x}",
        "id": f"{id:016x}",
        "timestamp": (NOON + begin_ms) * 1_000,
        "localEndpoint": {"serviceName": service},
        **fields,
    }


def listed(client: httpx.Client, **parameters: Any) -> list[int]:
    """Return the numbers of the traces listed, in their order."""
    return [int(trace["traceId"], 16) for trace in client.get("/api/v1/traces", params=parameters).json()["traces"]]


class TestRecentTraces:
    """`GET /api/v1/traces`."""

    def test_line_tells_what_a_list_needs(self, client: httpx.Client, store: ClickHouseStore) -> None:
        """Root, begin, length, counts; a span in parts is one; a clock that is behind makes nothing longer."""
        root = span(TRACE, 1, "web", kind="SERVER", name="GET /", duration=50_000)
        insert(
            store,
            root,
            root,
            span(TRACE, 1, "web", tags={"late": "1"}),
            span(TRACE, 2, "app", 10, parentId=f"{1:016x}", duration=90_000, tags={"error": ""}),
            span(TRACE, 3, "db", -5_000, parentId=f"{2:016x}", duration=1_000),
        )
        assert {
            "traces": [
                {
                    "traceId": TRACE,
                    "service": "web",
                    "name": "get /",
                    "hasRoot": True,
                    "timestamp": NOON * 1_000,
                    "durationUs": 100_000,
                    "spans": 3,
                    "errors": 1,
                    "services": ["app", "db", "web"],
                }
            ],
            "before": None,
            "cursor": None,
            "incomplete": None,
        } == {name: value for name, value in client.get("/api/v1/traces").json().items() if name != "cost"}

    def test_line_tells_the_request_that_began_the_trace(self, client: httpx.Client, store: ClickHouseStore) -> None:
        """Its path and status, of a caller's span by its URL; not those of other spans."""
        tags = {"http.path": "/nowhere/1", "http.status_code": "404"}
        insert(
            store,
            span(1, 1, "web", 10, kind="SERVER", name="GET", tags=tags),
            span(1, 2, "web", 10, kind="CLIENT", name="GET", parentId=f"{1:016x}", tags={"http.path": "/inner"}),
            span(2, 1, "app", kind="CLIENT", name="GET", tags={"http.url": "http://h:1/x", "http.status_code": "200"}),
            span("1" + "0" * 31, 1, "job", 1, name="nightly"),
        )
        lines = client.get("/api/v1/traces").json()["traces"]
        assert [("get", "/nowhere/1", "404"), ("nightly", None, None), ("get", "/x", "200")] == [
            (line["name"], line.get("path"), line.get("status")) for line in lines
        ]

    def test_headless_trace_is_named_after_its_first_span(self, client: httpx.Client, store: ClickHouseStore) -> None:
        """And says that its root is missing."""
        insert(
            store,
            span(1, 3, "db", 20, parentId=f"{2:016x}", name="later"),
            span(1, 2, "app", 10, parentId=f"{1:016x}", name="first"),
        )
        line = client.get("/api/v1/traces").json()["traces"][0]
        assert ("app", "first", False) == (line["service"], line["name"], line["hasRoot"])

    def test_filters_hold_together(self, client: httpx.Client, store: ClickHouseStore) -> None:
        """Service, name, errors and least duration, alone and combined."""
        insert(
            store,
            span(1, 1, "web", 1, name="a", duration=1_000),
            span(2, 1, "web", 2, name="b", duration=5_000, tags={"error": "x"}),
            span(3, 1, "app", 3, name="a", duration=9_000),
            span(3, 2, "web", 4, name="c", parentId=f"{1:016x}", tags={"error": "x"}),
        )
        assert [[3, 2, 1], [3], [3, 1], [1], [3, 2], [3, 2], [2], []] == [
            listed(client),
            listed(client, service="APP"),
            listed(client, name="A"),
            listed(client, service="web", name="a"),
            listed(client, errors="true"),
            listed(client, min_duration_ms=5),
            listed(client, service="web", errors=1, min_duration_ms="4.5", name="b"),
            listed(client, service="app", errors="yes"),
        ]

    def test_pages_follow_each_other(self, client: httpx.Client, store: ClickHouseStore) -> None:
        """`before` of one answer asks for the next; each trace comes once, over hours and days."""
        insert(store, *(span(number, 1, "web", -number * number * 600_000) for number in range(1, 24)))
        seen, before = [], None
        while True:
            answer = client.get("/api/v1/traces", params={"limit": 5, **({"before": before} if before else {})}).json()
            seen += [int(trace["traceId"], 16) for trace in answer["traces"]]
            before = answer["before"]
            if before is None:
                break
        assert list(range(1, 24)) == seen

    @pytest.mark.parametrize(
        ("query", "text"),
        [
            ("limit=0", "limit is a number from 1 to 1000"),
            ("limit=x", 'For input string: "x"'),
            ("before=-1", "before is a time in microseconds since 1970, such as the answer's own 'before'"),
            ("errors=perhaps", "errors is true or false, not 'perhaps'"),
            ("min_duration_ms=long", "min_duration_ms is a number of milliseconds, not 'long'"),
            ("min_duration_ms=-1", "min_duration_ms is a number of milliseconds, 0 or more"),
            ("min_duration_ms=nan", "min_duration_ms is a number of milliseconds, 0 or more"),
            ("min_duration_ms=1e300", "min_duration_ms is a number of milliseconds, 0 or more"),
            ("service=%00", "Invalid request path"),
            ("service=" + "a" * 60_000, "The query string is too long"),
        ],
        ids=lambda value: value[:24],
    )
    def test_errors_say_what_would_do(self, client: httpx.Client, query: str, text: str) -> None:
        """As JSON."""
        answer = client.get(f"/api/v1/traces?{query}")
        assert (400, {"error": text}) == (answer.status_code, answer.json())


class TestOneTrace:
    """`GET /api/v1/traces/{id}`; the view has its own tests."""

    @pytest.mark.parametrize("id", [TRACE, TRACE.upper(), "7180c278-b62e-8f6a-216a-2aea45d08fc9", f"%20{TRACE}%20"])
    def test_id_may_be_written_in_other_ways(self, client: httpx.Client, store: ClickHouseStore, id: str) -> None:
        """Upper-case, as a dashed UUID, with blanks from copying."""
        insert(store, span(TRACE, 1, "web"))
        assert (TRACE, 1) == (lambda view: (view["traceId"], len(view["spans"])))(
            client.get(f"/api/v1/traces/{id}").json()
        )

    def test_unknown_and_impossible_ids(self, client: httpx.Client) -> None:
        """404 and 400, with advice."""
        answers = [client.get(f"/api/v1/traces/{id}") for id in ("abc", "xyz")]
        assert [
            (404, {"error": "There is no trace 0000000000000abc; /api/v1/traces lists the newest ones"}),
            (
                400,
                {"error": "A trace id is 16 or 32 hex characters; xyz should be lower-hex encoded with no prefix"},
            ),
        ] == [(answer.status_code, answer.json()) for answer in answers]

    def test_endless_trace_is_cut(
        self, client: httpx.Client, store: ClickHouseStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """And says so."""
        monkeypatch.setattr("clew.collector.api.v1.trace.MAX_VIEW_SPANS", 10)
        insert(store, *(span(TRACE, number, "web", number) for number in range(1, 13)))
        view = client.get(f"/api/v1/traces/{TRACE}").json()
        assert (10, True) == (len(view["spans"]), view["truncated"])


class TestLogs:
    """`GET /api/v1/logs`."""

    @pytest.fixture(autouse=True)
    def _records(self, store: ClickHouseStore) -> None:
        one = {"logger": "shop", "service": "web"}
        insert_logs(
            store,
            {**one, "timestamp": NOON * 1_000 + 2, "level": "warning", "message": "b", "traceId": TRACE, "id": "1"},
            {**one, "timestamp": NOON * 1_000 + 1, "level": "DEBUG", "message": "a", "traceId": TRACE},
            {**one, "timestamp": NOON * 1_000 + 3, "level": "ERROR", "message": "c", "exception": "boom",
             "service": "app", "traceId": TRACE},
            {**one, "timestamp": NOON * 1_000 + 4, "level": "AUDIT", "message": "d"},
        )  # fmt: skip

    def _messages(self, client: httpx.Client, **parameters: Any) -> list[str]:
        return [record["message"] for record in client.get("/api/v1/logs", params=parameters).json()]

    def test_records_of_a_trace_come_in_time_order(self, client: httpx.Client) -> None:
        """As they travel, without what they do not have."""
        assert [
            {
                "timestamp": NOON * 1_000 + 1, "service": "web", "level": "DEBUG", "logger": "shop", "message": "a",
                "traceId": TRACE,
            },
            {
                "timestamp": NOON * 1_000 + 2, "service": "web", "level": "WARNING", "logger": "shop", "message": "b",
                "traceId": TRACE, "id": "0000000000000001",
            },
            {
                "timestamp": NOON * 1_000 + 3, "service": "app", "level": "ERROR", "logger": "shop", "message": "c",
                "traceId": TRACE, "exception": "boom",
            },
        ] == client.get("/api/v1/logs", params={"trace_id": TRACE.upper()}).json()  # fmt: skip

    def test_filters(self, client: httpx.Client) -> None:
        """A usual level means it and worse ones, another only itself; the newest are taken, in time order."""
        assert [["b", "c"], ["c"], ["c"], ["a", "b"], ["a"], []] == [
            self._messages(client, trace_id=TRACE, level="warning"),
            self._messages(client, trace_id=TRACE, level="ERROR"),
            self._messages(client, trace_id=TRACE, service="APP"),
            self._messages(client, trace_id=TRACE, service="web"),
            self._messages(client, trace_id=TRACE, limit=1),
            self._messages(client, trace_id="abc"),
        ]
        assert [["a", "b", "c", "d"], ["c", "d"], ["d"]] == [
            self._messages(client),
            self._messages(client, limit=2),
            self._messages(client, level="audit"),
        ]

    def test_text_is_found_in_message_and_exception(self, client: httpx.Client, store: ClickHouseStore) -> None:
        """In any case, as it is written: neither a pattern nor SQL; with and without a trace."""
        record = {"service": "web", "level": "INFO", "logger": "x", "timestamp": NOON * 1_000 + 9}
        insert_logs(store, {**record, "message": "50%_off 'quoted' Ärger"})
        assert [["c"], ["c"], [], ["b"]] == [
            self._messages(client, grep="BOOM"),
            self._messages(client, trace_id=TRACE, grep="oo"),
            self._messages(client, grep="%" * 2),
            self._messages(client, trace_id=TRACE, grep="b", service="web"),
        ]
        for text in ("%_off", "'quoted'", "ärger", "50%_OFF '"):
            assert ["50%_off 'quoted' Ärger"] == self._messages(client, grep=text)

    def test_window_is_of_time(self, client: httpx.Client) -> None:
        """`since` and `until` include their moments; `lookback` counts from `until`."""
        noon = NOON * 1_000
        assert [["c", "d"], ["a", "b"], ["b", "c"], ["b", "c"], ["d"], []] == [
            self._messages(client, since=noon + 3),
            self._messages(client, until=noon + 2),
            self._messages(client, since=noon + 2, until=noon + 3),
            self._messages(client, lookback=1, until=noon + 3),
            self._messages(client, since=noon, limit=1),
            self._messages(client, lookback=60_000_000),
        ]

    @pytest.mark.parametrize(
        ("query", "text"),
        [
            ("since=x", 'For input string: "x"'),
            ("until=-1", "until is a number of microseconds, 0 or more"),
            ("lookback=-5", "lookback is a number of microseconds, 0 or more"),
        ],
    )
    def test_impossible_window_is_refused(self, client: httpx.Client, query: str, text: str) -> None:
        """With what would do."""
        answer = client.get(f"/api/v1/logs?{query}")
        assert (400, {"error": text}) == (answer.status_code, answer.json())

    def test_impossible_id_is_refused(self, client: httpx.Client) -> None:
        """Rather than answered with nothing."""
        answer = client.get("/api/v1/logs?trace_id=zz")
        assert (400, "A trace id is 16 or 32 hex characters") == (answer.status_code, answer.json()["error"][:37])


class TestTail:
    """`GET /api/v1/tail`."""

    def test_stored_spans_and_records_arrive_at_once(self, client: httpx.Client) -> None:
        """Each as an event with what was received; the service parameter picks."""
        ours, theirs = span(TRACE, 1, "Web"), span(TRACE, 2, "app")
        record = {"timestamp": NOON * 1_000, "service": "web", "level": "INFO", "message": "line one\nline two"}
        events: list[tuple[str, Any]] = []
        follows, done = threading.Event(), threading.Event()

        def follow() -> None:
            kind = ""
            with httpx.stream("GET", f"{client.base_url}/api/v1/tail?service=web", timeout=30) as answer:
                for line in answer.iter_lines():
                    name, _, value = line.partition(": ")
                    if name == "":
                        follows.set()
                    elif name == "event":
                        kind = value
                    elif name == "data":
                        events.append((kind, json.loads(value)))
                    if len(events) == 2:
                        break
            done.set()

        thread = threading.Thread(target=follow)
        thread.start()
        assert follows.wait(20)
        body = json.dumps([theirs, ours], indent=2).encode()
        assert 202 == client.post("/api/v2/spans", content=body).status_code
        assert 202 == client.post("/api/v1/logs", content=json.dumps({"logs": [record]}).encode()).status_code
        assert done.wait(20)
        thread.join()
        assert [("spans", [ours]), ("logs", [record])] == events

    def test_bad_parameters_are_refused(self, client: httpx.Client) -> None:
        """Before the stream begins."""
        answer = client.get("/api/v1/tail?service=%zz")
        assert (400, {"error": "Invalid request path"}) == (answer.status_code, answer.json())
