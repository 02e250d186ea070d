"""Datagrams over a real socket."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from clew.collector.ingest import Ingest
from clew.collector.metrics import Metrics
from clew.collector.receivers.udp import UdpReceiver
from clew.collector.settings import Address
from collector.collector_process import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from clew.collector.store.clickhouse import ClickHouseStore

LOGS = b'{"logs":[{"timestamp":1,"service":"a","message":"m"}]}'


@pytest.fixture
def ingest(store: ClickHouseStore, tmp_path: Path) -> Iterator[Ingest]:
    opened = Ingest(store, tmp_path / "journal", Metrics())
    yield opened
    opened.close()


@pytest.fixture
def sender() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        yield opened


def _span(number: int) -> bytes:
    return b'[{"traceId":"%x","id":"b"}]' % number


def test_good_datagrams_are_stored_beside_bad_ones(
    ingest: Ingest, store: ClickHouseStore, sender: socket.socket
) -> None:
    """Spans, logs and junk in any order: the junk is counted by reason and harms nobody."""
    receiver = UdpReceiver(ingest, Address("127.0.0.1", 0))
    for datagram in (_span(1), b"junk", LOGS, b'[{"traceId":"X","id":"b"}]', b"", b"\xff\x00", b'{"logs":1}', _span(2)):
        sender.sendto(datagram, ("127.0.0.1", receiver.port))
    wait_until(lambda: ingest.metrics.value("payloads_stored_total", source="udp") == 3)
    receiver.close()
    ingest.settle(30)

    rows = store._writer.query("SELECT (SELECT count() FROM spans), (SELECT count() FROM logs)").result_rows
    assert [(2, 1)] == rows
    assert 1 == ingest.metrics.value("payloads_rejected_total", source="udp", reason="span_traceId")
    assert 5 == ingest.metrics.value("payloads_rejected_total", source="udp")
    assert 8 == ingest.metrics.value("udp_datagrams_total")


def test_closing_takes_what_the_kernel_holds(ingest: Ingest, store: ClickHouseStore, sender: socket.socket) -> None:
    """Datagrams that arrived before the end are stored."""
    receiver = UdpReceiver(ingest, Address("127.0.0.1", 0))
    for number in range(1, 301):
        sender.sendto(_span(number), ("127.0.0.1", receiver.port))
    receiver.close()
    ingest.close()

    assert [(300,)] == store._writer.query("SELECT uniqExact(trace_id) FROM spans").result_rows


def test_kernel_drops_are_counted(ingest: Ingest, sender: socket.socket) -> None:
    """The kernel's 32-bit total becomes differences, over its wrap, too."""
    receiver = UdpReceiver(ingest, Address("127.0.0.1", 0))
    receiver.close()
    for total in (0, 5, 5, 2**32 - 1, 4):
        receiver._note_dropped(total)

    assert 2**32 - 1 + 5 == ingest.metrics.value("udp_kernel_dropped_total")


def test_overflow_of_the_kernels_buffer_is_noticed(ingest: Ingest, sender: socket.socket) -> None:
    """A tiny buffer and a receiver that does not read meanwhile: sent = received + dropped by the kernel."""
    receiver = UdpReceiver(ingest, Address("127.0.0.1", 0))
    receiver._closing = True
    receiver._thread.join()
    receiver._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    for number in range(1, 201):
        sender.sendto(_span(number), ("127.0.0.1", receiver.port))
    received = 0
    receiver._socket.settimeout(0)
    while True:
        try:
            receiver._receive()
        except BlockingIOError:
            break
        received += 1
    sender.sendto(_span(201), ("127.0.0.1", receiver.port))  # carries the total
    receiver._socket.settimeout(5)
    receiver._receive()
    receiver.close()

    assert 0 < received < 200
    assert 200 == received + ingest.metrics.value("udp_kernel_dropped_total")


def test_taken_port_is_an_error(ingest: Ingest) -> None:
    """The second one on an address is told so."""
    receiver = UdpReceiver(ingest, Address("127.0.0.1", 0))
    try:
        with pytest.raises(OSError, match="in use"):
            UdpReceiver(ingest, Address("127.0.0.1", receiver.port))
    finally:
        receiver.close()
