"""Spans and log records as UDP datagrams: the cheapest way to a collector on the same host or network.

A datagram that nobody receives is lost, and UDP does not tell. On the same host the kernel does tell when the port is
closed, at once, so a collector that is down or restarting costs nothing but waiting: the reporter keeps the batch.
"""

from __future__ import annotations

import encodings.idna  # noqa: F401 - getaddrinfo() would, on the reporter's thread: see Reporter on logging
import errno
import os
import socket
from typing import Final

from clew import wire
from clew.senders import IS_IT_UP, Kind, SendError

# 1500 Ethernet MTU - 40 IPv6 - 8 UDP - 20 slack for tunnels: a larger datagram is sent in fragments, and one lost
# fragment loses all. Within a host there are no fragments; 16 KiB is where larger ones stop being cheaper per span.
_NETWORK_BYTES: Final = 1_432
_LOOPBACK_BYTES: Final = 16_384
_SEND_BUFFER_BYTES: Final = 1 << 20
_TIMEOUT_S: Final = 1.0  # a full send buffer blocks no longer


class UdpSender:
    """Send to one UDP address, resolved at the first message and again after an error. IPv4 and IPv6."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._socket: socket.socket | None = None
        self._failures = 0
        local = host == "localhost" or host == "::1" or host.startswith("127.")
        self.max_message_bytes = _LOOPBACK_BYTES if local else _NETWORK_BYTES

    def send(self, messages: list[bytes], kind: Kind = "spans") -> None:
        """Send one datagram; ``SendError`` where the port is known to be closed."""
        try:
            connected = self._socket or self._connect()
            connected.send(wire.join(messages, kind))
            # Within a host the answer "port unreachable" is there when send() returns, but is only told at the next
            # call: ask for it now, or the first datagram after the collector went away would count as delivered.
            pending = connected.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        except OSError as problem:
            self.close()
            self._failures += 1
            raise self._error(problem.errno, problem.strerror or str(problem)) from problem
        if pending:
            self.close()
            self._failures += 1
            raise self._error(pending, os.strerror(pending)) from OSError(pending, os.strerror(pending))

    def _error(self, number: int | None, reason: str) -> SendError:
        question = f"; {IS_IT_UP}" if number == errno.ECONNREFUSED else ""
        return SendError(f"udp://{self._host}:{self._port}: {reason}{question}", retry=number != errno.EMSGSIZE)

    def close(self) -> None:
        """Close the socket. The next message opens another."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _connect(self) -> socket.socket:
        # "localhost" may mean ::1 first although the collector listens on 127.0.0.1: after a failure take the next one.
        found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_DGRAM)
        family, kind, protocol, _, address = found[self._failures % len(found)]
        opened = socket.socket(family, kind, protocol)
        try:
            opened.settimeout(_TIMEOUT_S)
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
            opened.connect(address)
        except OSError:
            opened.close()
            raise
        self._socket = opened
        return opened
