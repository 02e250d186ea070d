"""Senders that keep, hold back or refuse what they get, and a way to wait without sleeping blindly."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any

from clew.senders import SendError

if TYPE_CHECKING:
    from collections.abc import Callable

DEADLINE_S = 20.0  # nothing here takes a second on a quiet machine; a busy one must not fail the tests


def wait_until(holds: Callable[[], bool], what: str = "the condition") -> None:
    """Poll until it holds; fail after DEADLINE_S."""
    deadline = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline, f"waited {DEADLINE_S:g} s for {what}"
        time.sleep(0.002)


class RecordingSender:
    """Keeps every message."""

    def __init__(self, max_message_bytes: int = 1 << 20) -> None:
        self.max_message_bytes = max_message_bytes
        self.messages: list[tuple[str, list[bytes]]] = []
        self.closed = 0

    def send(self, messages: list[bytes], kind: str = "spans") -> None:
        self.messages.append((kind, list(messages)))

    def close(self) -> None:
        self.closed += 1

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        return [json.loads(encoded) for found, batch in self.messages if found == kind for encoded in batch]

    @property
    def spans(self) -> list[dict[str, Any]]:
        return self.of_kind("spans")

    def span(self, name: str) -> dict[str, Any]:
        found = [span for span in self.spans if span["name"] == name]
        assert len(found) == 1, f"{len(found)} spans named {name!r}"
        return found[0]


class GatedSender(RecordingSender):
    """Blocks inside ``send`` until the gate is opened, as a collector that accepts and never answers."""

    def __init__(self, max_message_bytes: int = 1 << 20) -> None:
        super().__init__(max_message_bytes)
        self.gate = threading.Event()
        self.entered = threading.Event()

    def send(self, messages: list[bytes], kind: str = "spans") -> None:
        self.entered.set()
        assert self.gate.wait(DEADLINE_S)
        super().send(messages, kind)


class FailingSender(RecordingSender):
    """Raises ``problem`` until it is set to None."""

    def __init__(self, problem: BaseException | None = None) -> None:
        super().__init__()
        self.problem = problem or SendError("away")
        self.failures = 0

    def send(self, messages: list[bytes], kind: str = "spans") -> None:
        if self.problem is not None:
            self.failures += 1
            raise self.problem
        super().send(messages, kind)
