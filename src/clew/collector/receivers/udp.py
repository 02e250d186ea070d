"""Spans and log records over UDP: a datagram is a payload. Nobody is answered, so everything is counted instead.

One thread reads the socket; the kernel's buffer takes the bursts. What the kernel had to drop all the same it tells
with the next datagram (``SO_RXQ_OVFL``, Linux), so no loss is silent.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import struct
import threading
import time
from typing import TYPE_CHECKING, Final

from clew.collector.ingest import Ingest, Unavailable
from clew.collector.ingest.payload import BadPayload, kind_of

if TYPE_CHECKING:
    from clew.collector.settings import Address

RECEIVE_BUFFER: Final = 16 << 20  # about 0.3 s of 150,000 spans/s; the kernel caps it at net.core.rmem_max
POLL_S: Final = 0.2  # how soon closing is noticed
DRAIN_S: Final = 2.0  # at the end, for what the kernel holds: senders may go on meanwhile
MAX_DATAGRAM: Final = 65_535
SO_RXQ_OVFL: Final = 40  # Linux; not in Python's socket module
_COUNTER_SIZE: Final = socket.CMSG_SPACE(4) if hasattr(socket, "CMSG_SPACE") else 0

_log = logging.getLogger("clew.collector")


class UdpReceiver:
    """Listens from construction until :meth:`close`. ``OSError`` if the address cannot be had."""

    def __init__(self, ingest: Ingest, address: Address) -> None:
        self._ingest = ingest
        self._metrics = ingest.metrics
        self._kernel_dropped = 0
        self._closing = False
        self._socket = _open(address)
        self._thread = threading.Thread(target=self._run, name="clew-udp")
        self._thread.start()

    @property
    def port(self) -> int:
        """The port listened on."""
        return int(self._socket.getsockname()[1])

    def close(self) -> None:
        """Take what the kernel still holds, then stop. Idempotent."""
        self._closing = True
        self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        self._socket.settimeout(POLL_S)
        while not self._closing:
            self._guarded_receive()
        self._socket.settimeout(0)
        end = time.monotonic() + DRAIN_S
        while time.monotonic() < end and self._guarded_receive():
            pass

    def _guarded_receive(self) -> bool:
        """Take a datagram if there is one; the thread outlives whatever is wrong with it."""
        try:
            self._receive()
        except (TimeoutError, BlockingIOError):
            return False
        except Exception:  # noqa: BLE001 - one datagram, or a moment's lack of memory, must not end all others
            self._metrics.count("udp_errors_total")
            _log.exception("udp: unexpected failure of one datagram")
        return True

    def _receive(self) -> None:
        datagram, ancillary, _, _ = self._socket.recvmsg(MAX_DATAGRAM, _COUNTER_SIZE)
        self._metrics.count("udp_datagrams_total")
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == SO_RXQ_OVFL:
                self._note_dropped(struct.unpack("=I", data[:4])[0])
        try:
            self._ingest.offer(kind_of(datagram), datagram, "udp")
        except (BadPayload, Unavailable):
            pass  # counted by ingest, by reason; there is nobody to tell

    def _note_dropped(self, total: int) -> None:
        """The kernel counts since the socket was opened, in 32 bits."""
        new = (total - self._kernel_dropped) & 0xFFFF_FFFF
        if new:
            self._kernel_dropped = total
            self._metrics.count("udp_kernel_dropped_total", new)


def _open(address: Address) -> socket.socket:
    family = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_DGRAM)[0][0]
    opened = socket.socket(family, socket.SOCK_DGRAM)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        with contextlib.suppress(OSError):  # not Linux
            opened.setsockopt(socket.SOL_SOCKET, SO_RXQ_OVFL, 1)
        opened.bind((address.host, address.port))
    except OSError:
        opened.close()
        raise
    return opened
