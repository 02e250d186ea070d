"""The broker for the tests: a real one where ``CLEW_TEST_KAFKA`` asks for it, else librdkafka's mock of one.

``CLEW_TEST_KAFKA=start`` starts one (``make test-kafka``); an address names one that runs; unset: the mock serves what
it can, and what needs a real one says so.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from collector.conftest import engine, store  # noqa: F401 - fixtures
from kafka.broker import Broker, MockBroker, why_none

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
WANTED = os.environ.get("CLEW_TEST_KAFKA", "")


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A real broker of our own, which may be killed."""
    if WANTED != "start":
        pytest.skip("needs a broker of its own: make test-kafka")
    if reason := why_none():
        pytest.skip(reason)
    with Broker(tmp_path_factory.mktemp("kafka")) as started:
        yield started


@pytest.fixture(scope="session")
def address(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a broker: the real one, or the mock."""
    if WANTED not in ("", "start"):
        yield WANTED
    elif WANTED == "start" and not why_none():
        yield request.getfixturevalue("broker").address
    else:
        with MockBroker() as mock:
            yield mock.address


@pytest.fixture(scope="session")
def real_address(request: pytest.FixtureRequest) -> str:
    """The address of a real broker: the mock knows neither metadata of offsets nor groups of several members."""
    if WANTED not in ("", "start"):
        return WANTED
    return str(request.getfixturevalue("broker").address)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give tests time for the start of a broker, which is the first one's."""
    for item in items:
        if item.path.parent == HERE and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(300))
