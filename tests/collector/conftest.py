"""The real engine for the collector's tests: one a process (it allows no second path), emptied for each test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from clew.collector.store.clickhouse import ClickHouseStore

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseStore]:
    """The one embedded engine of this test process. Autocomplete collects `http.method` and `environment`."""
    store = ClickHouseStore(tmp_path_factory.mktemp("store"), autocomplete_keys=("http.method", "environment"))
    yield store
    store.close()


@pytest.fixture
def store(engine: ClickHouseStore) -> ClickHouseStore:
    """The engine without rows."""
    engine.truncate()
    return engine
