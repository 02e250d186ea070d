"""A real collector for the commands: one process a module, on free ports, with data of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from clew.cli._processes import Processes, free_ports
from command_line import Running, start_collector


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Give a running collector, stopped when the module is done."""
    folder = tmp_path_factory.mktemp("collector")
    http, udp = free_ports(2)
    with Processes(folder) as processes:
        url = start_collector(processes, folder, http, "--udp", f"127.0.0.1:{udp}")
        yield Running(url, f"127.0.0.1:{udp}")
