"""Zipkin's read API over a real socket: what its own storage and HTTP kits ask of a server."""

from __future__ import annotations

import gzip
import json
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from served import served
from zipkin_spans import NOON, insert

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from clew.collector.store.clickhouse import ClickHouseStore

DAY = 86_400_000
T1 = "7180c278b62e8f6a216a2aea45d08fc1"
T2 = "7180c278b62e8f6a216a2aea45d08fc2"
T3 = "7180c278b62e8f6a216a2aea45d08fc3"
T4 = "7180c278b62e8f6a216a2aea45d08fc4"


@pytest.fixture
def client(store: ClickHouseStore, tmp_path: Path) -> Iterator[httpx.Client]:
    """A collector without spans that collects the values of two tags."""
    with served(store, tmp_path, autocomplete_keys=("http.method", "environment")) as client:
        yield client


def span(trace: str, id: str = "1", service: str | None = "frontend", **fields: Any) -> dict[str, Any]:
    """Return span JSON; it begins at NOON unless told otherwise."""
    local = {"localEndpoint": {"serviceName": service}} if service else {}
    return {"traceId": trace, "id": id, "timestamp": NOON * 1_000, **local, **fields}


def found(client: httpx.Client, **parameters: Any) -> list[str]:
    """Return the ids of the traces that a search around NOON finds, in the order of the answer."""
    answer = client.get("/api/v2/traces", params={"endTs": NOON + DAY // 2, "limit": 1_000, **parameters})
    assert 200 == answer.status_code
    return [trace[0]["traceId"] for trace in answer.json()]


def names(client: httpx.Client, path: str, **parameters: str) -> Any:
    return client.get(f"/api/v2/{path}", params=parameters).json()


class TestTrace:
    """`/trace/{traceId}` and `/traceMany`."""

    def test_span_is_answered_as_zipkin_writes_it(self, client: httpx.Client, store: ClickHouseStore) -> None:
        """Normalised, sorted, without what is empty, in Zipkin's order of members."""
        insert(
            store,
            {
                "traceId": "1", "id": "2", "parentId": "1", "name": "GET", "kind": "CLIENT", "timestamp": NOON * 1_000,
                "duration": 5, "localEndpoint": {"serviceName": "Web", "ipv4": "1.2.3.4", "port": 80},
                "remoteEndpoint": {"serviceName": "", "ipv6": "2001:DB8::C001"},
                "annotations": [
                    {"timestamp": 9, "value": "b"}, {"timestamp": 9, "value": "a"}, {"timestamp": 9, "value": "a"},
                ],
                "tags": {"z": "1", "a": "", "http.path": "/\u2028\"<"}, "shared": True, "debug": False,
            },
        )  # fmt: skip
        answer = client.get("/api/v2/trace/1")
        expected = (
            '[{"traceId":"0000000000000001","parentId":"0000000000000001","id":"0000000000000002","kind":"CLIENT",'
            f'"name":"get","timestamp":{NOON}000,"duration":5,'
            '"localEndpoint":{"serviceName":"web","ipv4":"1.2.3.4","port":80},'
            '"remoteEndpoint":{"ipv6":"2001:db8::c001"},'
            '"annotations":[{"timestamp":9,"value":"a"},{"timestamp":9,"value":"b"}],'
            '"tags":{"a":"","http.path":"/\u2028\\"<","z":"1"}}]'
        )
        assert (200, "application/json", expected) == (
            answer.status_code, answer.headers["content-type"], answer.text,
        )  # fmt: skip

    def test_emptiness_is_absence(self, client: httpx.Client, store: ClickHouseStore) -> None:
        """Zero times, empty names, empty endpoints and a parent that is the span itself are not there."""
        insert(
            store,
            {
                "traceId": "0000000000000000000000000000000a", "id": "b", "parentId": "b", "name": "", "timestamp": 0,
                "duration": 0, "localEndpoint": {}, "remoteEndpoint": {"serviceName": "", "port": 0}, "tags": {},
                "annotations": [], "shared": False,
            },
        )  # fmt: skip
        assert [{"traceId": "000000000000000a", "id": "000000000000000b"}] == names(client, "trace/a")

    def test_unknown_trace_is_404(self, client: httpx.Client) -> None:
        """With the normalised id in the text."""
        answer = client.get("/api/v2/trace/abc")
        assert (404, "0000000000000abc not found") == (answer.status_code, answer.text)

    def test_blanks_around_the_id_are_ignored(self, client: httpx.Client, store: ClickHouseStore) -> None:
        """As they are copied."""
        insert(store, span(T1))
        assert [200, 200] == [client.get(f"/api/v2/trace/{text}").status_code for text in (f"{T1}%20", f"%20{T1}")]

    def test_half_an_id_finds_nothing(self, client: httpx.Client, store: ClickHouseStore) -> None:
        """Ids are compared whole."""
        insert(store, span(T1))
        assert 404 == client.get(f"/api/v2/trace/{T1[16:]}").status_code

    def test_same_report_twice_is_one_span(self, client: httpx.Client, store: ClickHouseStore) -> None:
        """A message processed again adds nothing; parts and the two sides of an id stay as reported."""
        client_side, server_side = span(T1, kind="CLIENT", debug=True), span(T1, kind="SERVER", shared=True)
        for _ in range(2):
            insert(store, client_side, server_side)
        assert [("CLIENT", True, None), ("SERVER", None, True)] == sorted(
            (one["kind"], one.get("debug"), one.get("shared")) for one in names(client, f"trace/{T1}")
        )

    def test_large_values_come_back_whole(self, client: httpx.Client, store: ClickHouseStore) -> None:
        """Long tags and names that look like JSON are data."""
        insert(store, span(T1, name='{"foo":"bar"}', tags={"a": "a" * 100_000, "http.path.more": "/api"}))
        answer = names(client, f"trace/{T1}")[0]
        assert ('{"foo":"bar"}', 100_000, "/api") == (
            answer["name"], len(answer["tags"]["a"]), answer["tags"]["http.path.more"],
        )  # fmt: skip

    def test_many_are_answered_in_the_order_asked(self, client: httpx.Client, store: ClickHouseStore) -> None:
        """Those that are not there are left out."""
        insert(store, span(T1), span(T2), span(T3))
        answer = names(client, "traceMany", traceIds=f"{T3},abcd,{T1}")
        assert [T3, T1] == [trace[0]["traceId"] for trace in answer]

    def test_not_strict_finds_by_either_half(self, store: ClickHouseStore, tmp_path: Path) -> None:
        """With strict_trace_id off the lower 64 bits decide."""
        insert(store, span(T1, "1"), span(T1[16:], "2", "backend", tags={"error": ""}))
        with served(store, tmp_path, strict_trace_id=False) as client:
            by_long, by_short = (len(names(client, f"trace/{text}")) for text in (T1, T1[16:]))
            many = names(client, "traceMany", traceIds=f"{T1},{T2}")
            search = client.get(
                "/api/v2/traces", params={"endTs": NOON, "serviceName": "backend", "annotationQuery": "error"}
            ).json()
        assert (2, 2, [2], [2]) == (by_long, by_short, list(map(len, many)), list(map(len, search)))


class TestSearch:
    """`/traces`."""

    def test_no_parameter_is_needed(self, client: httpx.Client, store: ClickHouseStore) -> None:
        """The last day, ten traces, newest first."""
        now = time.time_ns() // 1_000
        insert(store, *(span(f"{number:032x}", timestamp=now - number * 1_000_000) for number in range(1, 13)))
        insert(store, span(T1, timestamp=now - 2 * DAY * 1_000))
        answer = client.get("/api/v2/traces").json()
        assert [f"{number:016x}" for number in range(1, 11)] == [trace[0]["traceId"] for trace in answer]

    def test_traces_are_grouped_by_the_whole_id(self, client: httpx.Client, store: ClickHouseStore) -> None:
        """A 64-bit id, and two that end in it, are three traces."""
        ids = [T1[16:], T1, "1" + T1[16:]]
        insert(store, *(span(trace, tags={"foo": str(number)}) for number, trace in enumerate(ids)))
        assert [[ids[0]], [ids[1]], [ids[2].zfill(32)]] == [
            found(client, serviceName="frontend", annotationQuery=f"foo={number}") for number in range(3)
        ]

    def test_names_are_compared_in_lower_case(self, client: httpx.Client, store: ClickHouseStore) -> None:
        """Of service, remote service and span."""
        insert(store, span(T1, service="Web", name="Get", remoteEndpoint={"serviceName": "DB"}))
        assert [T1] == found(client, serviceName="WEB", remoteServiceName="dB", spanName="GET")

    @pytest.mark.parametrize(
        ("parameters", "expected"),
        [
            ({"serviceName": "web"}, [T2, T1]),
            ({"serviceName": "web1"}, []),
            ({"remoteServiceName": "db"}, [T1]),
            ({"serviceName": "app", "remoteServiceName": "db"}, []),
            ({"spanName": "get"}, [T1]),
            ({"spanName": "all"}, [T2, T1]),
            ({"spanName": ""}, [T2, T1]),
            ({"serviceName": "app", "spanName": "get"}, []),
            ({"serviceName": "web", "spanName": "get", "annotationQuery": "a and late=2"}, [T1]),
            ({"annotationQuery": "late"}, [T1]),
            ({"annotationQuery": "late=2"}, [T1]),
            ({"annotationQuery": "late="}, [T1]),
            ({"annotationQuery": "late=3"}, []),
            ({"annotationQuery": " late = 2 "}, [T1]),
            ({"annotationQuery": "error"}, [T2]),
            ({"annotationQuery": "error=1"}, []),
            ({"annotationQuery": "a and b"}, [T1]),
            ({"serviceName": "app", "annotationQuery": "a and b"}, []),
            ({"serviceName": "app", "annotationQuery": "b"}, [T1]),
            ({"serviceName": "web", "annotationQuery": "b"}, []),
            ({"annotationQuery": "k=x and k"}, []),
            ({"annotationQuery": "late and late=3"}, []),
            ({"annotationQuery": "late=3 and late"}, []),
            ({"annotationQuery": "error and "}, []),
            ({"annotationQuery": "=2"}, []),
            ({"annotationQuery": "q=1=2"}, [T2]),
            ({"minDuration": 200}, [T1]),
            ({"minDuration": 201}, []),
            ({"minDuration": 50, "maxDuration": 150}, [T1]),
            ({"serviceName": "app", "minDuration": 100}, [T1]),
            ({"serviceName": "app", "minDuration": 101}, []),
            ({"serviceName": "web", "minDuration": 50, "maxDuration": 150}, []),
            ({"minDuration": ""}, [T2, T1]),
        ],
    )
    def test_conditions(
        self, client: httpx.Client, store: ClickHouseStore, parameters: dict[str, Any], expected: list[str]
    ) -> None:
        """All conditions hold on spans of the service, not necessarily on one span."""
        insert(
            store,
            span(T1, "1", "web", name="get", duration=200, tags={"a": "1"}, remoteEndpoint={"serviceName": "db"}),
            span(T1, "1", "web", tags={"late": "2"}),
            span(T1, "2", "app", parentId="1", duration=100, annotations=[{"timestamp": 1, "value": "b"}]),
            span(T2, "3", "web", timestamp=NOON * 1_000 + 1, tags={"error": "", "q": "1=2"}),
        )
        assert expected == found(client, **parameters)

    @pytest.mark.parametrize(
        ("end", "lookback", "expected"),
        [
            (0, DAY, []),
            (1, DAY, [T1]),
            (2, DAY, [T2, T1]),
            (1, 1, [T1]),
            (2, 1, [T2, T1]),
            (3, 1, [T2]),
            (DAY * 400, 1, []),
        ],
    )
    def test_window_includes_both_ends(
        self, client: httpx.Client, store: ClickHouseStore, end: int, lookback: int, expected: list[str]
    ) -> None:
        """`endTs` and `lookback` bound the time at which a trace began, in milliseconds."""
        insert(store, span(T1, timestamp=(NOON + 1) * 1_000), span(T2, timestamp=(NOON + 2) * 1_000))
        assert expected == found(client, endTs=NOON + end, lookback=lookback)

    def test_trace_that_ends_after_the_window_is_whole(self, client: httpx.Client, store: ClickHouseStore) -> None:
        """Only its begin has to lie in the window; later spans count for conditions, too."""
        insert(
            store, span(T1, "1"), span(T1, "2", "app", parentId="1", timestamp=(NOON + 1_200_000) * 1_000, name="late")
        )
        answer = client.get("/api/v2/traces", params={"endTs": NOON, "lookback": 1_000, "spanName": "late"}).json()
        assert [2] == list(map(len, answer))

    def test_root_decides_when_a_trace_began(self, client: httpx.Client, store: ClickHouseStore) -> None:
        """A child whose clock is behind does not move its trace."""
        insert(store, span(T1, "1"), span(T1, "2", parentId="1", timestamp=NOON * 1_000 - 5_000_000))
        assert ([T1], []) == (found(client, endTs=NOON, lookback=1), found(client, endTs=NOON - 1, lookback=DAY))

    def test_limit_takes_the_newest(self, client: httpx.Client, store: ClickHouseStore) -> None:
        """Over any distance in time."""
        hours = {T1: 3, T2: 0, T3: 30, T4: 1}
        insert(store, *(span(trace, timestamp=(NOON - hour * 3_600_000) * 1_000) for trace, hour in hours.items()))
        answer = [found(client, limit=limit, lookback=30 * DAY) for limit in (1, 2, 3, 4)]
        assert [[T2], [T2, T4], [T2, T4, T1], [T2, T4, T1, T3]] == answer

    def test_trace_without_time_is_not_found(self, client: httpx.Client, store: ClickHouseStore) -> None:
        """Until a part with a time arrives; then the part without counts as well."""
        insert(store, span(T1, timestamp=0, tags={"a": "b"}))
        before = found(client, serviceName="frontend")
        insert(store, span(T1))
        assert ([], [T1]) == (before, found(client, serviceName="frontend", annotationQuery="a=b"))

    def test_late_duration_is_found(self, client: httpx.Client, store: ClickHouseStore) -> None:
        """A part that brings only the duration makes the trace slow enough."""
        insert(store, span(T1, name="get"))
        insert(store, span(T1, duration=77))
        assert ([T1], []) == (found(client, minDuration=77), found(client, minDuration=78))

    @pytest.mark.parametrize(
        "text",
        [
            "' OR 1=1 --",
            "'); DROP TABLE spans; --",
            "\\' OR 1=1",
            "{service:String}",
            "%",
            "x\u0001\u007f",
            "\ufffd",
            "a" * 4_096,
        ],
    )
    @pytest.mark.parametrize("name", ["serviceName", "remoteServiceName", "spanName", "annotationQuery"])
    def test_hostile_text_is_only_text(
        self, client: httpx.Client, store: ClickHouseStore, name: str, text: str
    ) -> None:
        """It finds what is called so and nothing else."""
        insert(store, span(T1))
        fields = {
            "serviceName": span(T2, service=text),
            "remoteServiceName": span(T2, remoteEndpoint={"serviceName": text}),
            "spanName": span(T2, name=text),
            "annotationQuery": span(T2, annotations=[{"timestamp": 1, "value": text}]),
        }
        if "=" not in text and text != "%":
            insert(store, fields[name])
        expected = [T2] if "=" not in text and text != "%" else []
        assert expected == found(client, **{name: text})
        assert [T1] == found(client, serviceName="frontend", limit=1_000, annotationQuery="")[-1:]


class TestNames:
    """`/services`, `/spans`, `/remoteServices` and autocomplete."""

    def test_names_of_a_service(self, client: httpx.Client, store: ClickHouseStore) -> None:
        """Local and remote services are told apart; empty names are none; each name comes once."""
        for number in range(3):
            insert(store, span(T1, str(number + 1), name="Get", remoteEndpoint={"serviceName": "backend"}))
        insert(store, span(T2, service=None), span(T3, service="only"))
        assert (["frontend", "only"], ["get"], ["backend"], [], [], []) == (
            names(client, "services"),
            names(client, "spans", serviceName="FrontEnd"),
            names(client, "remoteServices", serviceName="FRONTEND"),
            names(client, "spans", serviceName="backend"),
            names(client, "remoteServices", serviceName="only"),
            names(client, "spans", serviceName=""),
        )

    def test_all_names_come_in_order(self, client: httpx.Client, store: ClickHouseStore) -> None:
        """Fifty span names and fifty remote services, of which none is left out."""
        insert(
            store,
            *(
                span(
                    T1,
                    f"{number + 1:x}",
                    name=f"yak{number:02}",
                    remoteEndpoint={"serviceName": f"yam{49 - number:02}"},
                )
                for number in range(50)
            ),
        )
        assert ([f"yak{number:02}" for number in range(50)], [f"yam{number:02}" for number in range(50)]) == (
            names(client, "spans", serviceName="frontend"),
            names(client, "remoteServices", serviceName="frontend"),
        )

    def test_services_are_in_order_of_their_own_name(self, client: httpx.Client, store: ClickHouseStore) -> None:
        """Whatever their spans are called; control characters and other scripts included."""
        insert(
            store,
            span(T1, service="web", name="a"),
            span(T2, service='w"\teb', name="z"),
            span(T3, service="个人信息服务", name="b"),
        )
        assert ['w"\teb', "web", "个人信息服务"] == names(client, "services")

    def test_many_names_may_be_cached(self, client: httpx.Client, store: ClickHouseStore) -> None:
        """Not before there are more than three services: a beginner wants to see the next one at once."""
        insert(store, span(T1, service="a"), span(T1, service="b"), span(T1, service="c"))
        paths = ("services", "spans?serviceName=a", "remoteServices?serviceName=a")
        before = [client.get(f"/api/v2/{path}").headers.get("cache-control") for path in paths]
        insert(store, span(T1, service="d"))
        after = [client.get(f"/api/v2/{path}").headers.get("cache-control") for path in paths]
        assert ([None] * 3, ["max-age=300, must-revalidate"] * 3) == (before, after)

    def test_autocomplete_knows_the_configured_tags(self, client: httpx.Client, store: ClickHouseStore) -> None:
        """Keys in order; values of other tags are not kept."""
        insert(store, span(T1, tags={"environment": "prod", "http.method": "GET", "user": "u1"}))
        insert(store, span(T2, tags={"environment": "dev", "http.method": "GET"}))
        keys = client.get("/api/v2/autocompleteKeys")
        assert (["environment", "http.method"], "max-age=300, must-revalidate", ["dev", "prod"], ["GET"], []) == (
            keys.json(),
            keys.headers["cache-control"],
            names(client, "autocompleteValues", key="environment"),
            names(client, "autocompleteValues", key="http.method"),
            names(client, "autocompleteValues", key="user"),
        )


class TestDependencies:
    """`/dependencies`; the rules have their own tests."""

    def test_links_in_the_window(self, client: httpx.Client, store: ClickHouseStore) -> None:
        """Errors are left out when there are none; the look-back is a day unless told otherwise."""
        insert(
            store,
            span(T1, "1", "web", kind="CLIENT", tags={"error": ""}),
            span(T1, "2", "app", kind="SERVER", parentId="1", remoteEndpoint={"serviceName": "x"}),
            span(T2, "3", "app", kind="CLIENT", remoteEndpoint={"serviceName": "db"}),
        )
        links = names(client, "dependencies", endTs=str(NOON + 1_000))
        assert [
            {"parent": "app", "child": "db", "callCount": 1},
            {"parent": "web", "child": "app", "callCount": 1, "errorCount": 1},
        ] == sorted(links, key=lambda link: link["parent"])
        assert [] == names(client, "dependencies", endTs=str(NOON + 1_000), lookback="999")


class TestHttp:
    """What has nothing to do with spans."""

    def test_ui_paths_answer_the_same(self, client: httpx.Client, store: ClickHouseStore) -> None:
        """Zipkin's UI asks beneath /zipkin, and for its configuration."""
        insert(store, span(T1))
        config = client.get("/zipkin/config.json")
        assert (["frontend"], 10, "max-age=600", config.json()) == (
            client.get("/zipkin/api/v2/services").json(),
            config.json()["queryLimit"],
            config.headers["cache-control"],
            client.get("/config.json").json(),
        )

    def test_large_answers_are_compressed_on_request(self, client: httpx.Client, store: ClickHouseStore) -> None:
        """And only then."""
        insert(store, span(T1, tags={"a": "a" * 10_000}))
        with client.stream("GET", f"/api/v2/trace/{T1}", headers={"Accept-Encoding": "gzip"}) as answer:
            raw = b"".join(answer.iter_raw())
            packed = (
                answer.headers["content-encoding"],
                answer.headers["vary"],
                json.loads(gzip.decompress(raw))[0]["id"],
            )
        plain = client.get(f"/api/v2/trace/{T1}", headers={"Accept-Encoding": "identity"})
        assert ("gzip", "Accept-Encoding", "0000000000000001", None) == (*packed, plain.headers.get("content-encoding"))
        assert len(raw) < 1_000 < len(plain.content)
