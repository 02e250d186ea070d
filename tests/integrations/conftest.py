"""Have pytest explain failed assertions of the kits as it does those of tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from clew.testing import recorded
from integrations.database_servers import memcached_server as memcached_server
from integrations.database_servers import mysql_server as mysql_server
from integrations.database_servers import postgres_server as postgres_server
from integrations.database_servers import redis_cluster as redis_cluster
from integrations.database_servers import redis_server as redis_server

pytest.register_assert_rewrite("integrations.kit_server", "integrations.kit_client", "integrations.kit_common")

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clew.testing import MemorySender


@pytest.fixture
def clew_spans() -> Iterator[MemorySender]:
    """Collect the spans of one test."""
    with recorded() as sender:
        yield sender
