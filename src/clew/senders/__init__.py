"""Transports: each takes one message's worth of encoded spans or log records to a collector, or says why not.

Between the reporter's thread and the socket or file. A sender may block (it has a thread of its own to block in) up to
its own time-out, holds no queue, and is used by one thread at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection

Kind = Literal["spans", "logs"]


class SendError(Exception):
    """A message that was not taken.

    ``retry``: whether the same message may be taken later; ``after_s``: not before. ``answered``: whether the other
    side said so itself, so it is there; else the end of a process does not wait for it. ``delivered``: places in the
    list of what was taken all the same, where a transport can tell.
    """

    def __init__(
        self,
        reason: str,
        retry: bool = True,
        after_s: float = 0.0,
        answered: bool = False,
        delivered: Collection[int] = (),
    ) -> None:
        super().__init__(reason)
        self.retry = retry
        self.after_s = after_s
        self.answered = answered
        self.delivered = delivered


class Sender(Protocol):
    """Carry encoded spans or log records.

    ``max_message_bytes`` bounds one message with all its framing. ``send`` gets what fits into one and returns when the
    transport has it; it raises ``SendError`` or ``OSError`` when it does not. ``close`` is idempotent, and after it, as
    after a fork, ``send`` opens what it needs anew.
    """

    max_message_bytes: int

    def send(self, messages: list[bytes], kind: Kind = "spans") -> None:
        """Send one message's worth of encoded objects."""

    def close(self) -> None:
        """Let go of sockets and files."""


IS_IT_UP: Final = "is `clew up` running?"  # the end of a message about a collector that cannot be reached

DEFAULT_REPORTER: Final = "udp://127.0.0.1:9410"
_SCHEMES: Final = (
    "udp://host:port, http://host:port, https://host:port, file:///path, kafka://broker,broker/topic, none"
)


def parse_reporter(url: str, token: str | None = None) -> Sender | None:
    """Make the sender that a reporter URL names; None for ``none``. Raises ValueError with what would be right.

    ``token`` goes with HTTP only. Opens nothing yet: the first ``send`` does.
    """
    if url.strip().lower() == "none":
        return None
    if url.strip().startswith("kafka://"):  # several hosts, which no URL has
        return _kafka(url.strip())
    from urllib.parse import unquote, urlsplit  # imports are local here: `import clew` is on everyone's start-up

    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError as problem:
        raise ValueError(f"reporter={url!r}: {problem}. Known: {_SCHEMES}") from None
    if parts.scheme == "udp" and parts.hostname:
        from clew.senders.udp import UdpSender

        return UdpSender(parts.hostname, 9410 if port is None else port)
    if parts.scheme in ("http", "https") and parts.hostname:
        from clew.senders.http import HttpSender

        return HttpSender(url.strip(), token)
    if parts.scheme == "file" and parts.path and not parts.netloc:
        from clew.senders.file import FileSender

        return FileSender(unquote(parts.path), **_file_options(url, parts.query))
    raise ValueError(f"reporter={url!r} is not understood. Known: {_SCHEMES}")


def _kafka(url: str) -> Sender:
    try:
        from clew.senders.kafka import KafkaSender

        return KafkaSender(url)
    except ValueError as problem:  # the URL may hold a password
        raise ValueError(f"reporter='kafka://...': {problem}. It reads kafka://broker:9092,broker/topic") from None


def _file_options(url: str, query: str) -> dict[str, int]:
    from urllib.parse import parse_qsl

    options = dict(parse_qsl(query))
    try:
        found: dict[str, int] = {key: int(options.pop(key)) for key in ("max_bytes", "backups") if key in options}
    except ValueError:
        raise ValueError(f"reporter={url!r}: max_bytes and backups are whole numbers") from None
    if found.get("max_bytes", 1) < 1 or found.get("backups", 0) < 0:
        raise ValueError(f"reporter={url!r}: max_bytes is at least 1 and backups at least 0")
    if options:
        raise ValueError(f"reporter={url!r}: unknown option {sorted(options)[0]!r}; known: max_bytes, backups")
    return found
