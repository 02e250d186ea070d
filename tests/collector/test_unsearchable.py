"""`--search false`: what is left is what has an id."""

from __future__ import annotations

from typing import TYPE_CHECKING

from served import served

if TYPE_CHECKING:
    from pathlib import Path

    from clew.collector.store.clickhouse import ClickHouseStore

SPAN = {"traceId": "c", "id": "d", "name": "n", "timestamp": 1, "localEndpoint": {"serviceName": "shop"}}


def test_lists_are_empty_and_ids_are_found(store: ClickHouseStore, tmp_path: Path) -> None:
    """As Zipkin's server answers with SEARCH_ENABLED=false; clew's own API says why."""
    with served(store, tmp_path, search=False, autocomplete_keys=("env",)) as client:
        assert 202 == client.post("/api/v2/spans", json=[SPAN]).status_code
        lists = ("services", "spans?serviceName=shop", "remoteServices?serviceName=shop", "traces?endTs=1&lookback=1")
        keys = ("autocompleteKeys", "autocompleteValues?key=env")
        for path in (*lists, *keys):
            for prefix in ("/api/v2", "/zipkin/api/v2"):
                assert (200, []) == ((answer := client.get(f"{prefix}/{path}")).status_code, answer.json())
        assert "shop" == client.get("/api/v2/trace/c").json()[0]["localEndpoint"]["serviceName"]
        assert [200] * 4 == [
            client.get(path).status_code
            for path in ("/api/v2/dependencies?endTs=1", "/api/v1/traces/c", "/api/v1/logs?trace_id=c", "/health")
        ]
        for path in ("/api/v1/traces", "/api/v1/logs", "/api/v1/logs?trace_id="):
            answer = client.get(path)
            assert 403 == answer.status_code
            assert "--search false" in answer.json()["error"]
        assert [False, False] == [
            client.get(path).json()["searchEnabled"] for path in ("/config.json", "/zipkin/config.json")
        ]


def test_search_is_on_by_default(store: ClickHouseStore, tmp_path: Path) -> None:
    """And Zipkin's page is told so."""
    with served(store, tmp_path) as client:
        assert 202 == client.post("/api/v2/spans", json=[SPAN]).status_code
        assert ["shop"] == client.get("/api/v2/services").json()
        assert client.get("/config.json").json()["searchEnabled"]
