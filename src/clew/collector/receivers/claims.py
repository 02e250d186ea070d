"""Which messages of a partition make the next insert, so that it is the same insert whoever makes it. Pure.

A consumer that stores and then commits repeats, after a crash in between, *about* what it had stored: from the same
first message, but hardly to the same last one. No token recognises that. So the end is fixed first, and the place
where it is fixed is the group's committed offset itself, which the brokers give to exactly one consumer at a time:

1. **claim**: commit the offset where the range begins, and write where it ends into the commit's metadata;
2. insert the range, under a token made of topic, partition, beginning and end;
3. **settle**: commit the end, with empty metadata.

Whoever comes next, after a crash or a rebalance, reads offset and metadata. Is there an end, that range is repeated
first, exactly, under the same token. Commits of a consumer that has lost its partition are refused by the brokers, and
what it still inserts is a range that was claimed, under the token that the next one uses.

RATIONALE.md says why this is enough; ``tests/kafka/test_every_interleaving.py`` tries it out, with this very code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

_MARK: Final = "clew1"
_MESSAGE_BYTES: Final = 200


class Message(NamedTuple):
    """What of a message is needed."""

    offset: int
    value: bytes


class Range(NamedTuple):
    """Messages from offset ``start`` up to, not including, ``end``; between them may be offsets without a message.

    ``again``: another try of it may have come through.
    """

    topic: str
    partition: int
    start: int
    end: int
    messages: Sequence[Message]
    again: bool

    @property
    def token(self) -> str:
        """The name under which the store knows this range for ever."""
        return f"kafka.{self.topic}.{self.partition}.{self.start}-{self.end}"


class Claim:
    """One partition in the hands of one consumer, from its assignment to its revocation.

    ``start`` and ``metadata`` are what the group has committed.
    """

    def __init__(self, topic: str, partition: int, start: int, metadata: str = "") -> None:
        self.topic = topic
        self.partition = partition
        self.start = start
        promised = read_metadata(metadata)
        self.claimed_by = promised[1] if promised and promised[0] > start else ""
        self._promised = promised[0] if promised and promised[0] > start else 0
        self._seen = start  # the offset behind the last one that was seen, with a message or without
        self._messages: list[Message] = []
        self.size = 0  # bytes that messages take here

    def take(self, message: Message) -> None:
        """Take the next message; what was taken before is left out."""
        if message.offset < self._seen:
            return
        self._seen = message.offset + 1
        self._messages.append(message)
        self.size += size_of(message)

    def pass_by(self, offset: int) -> None:
        """Note that up to this offset there is nothing more: the end of the partition, for now."""
        self._seen = max(self._seen, offset)

    @property
    def is_new(self) -> bool:
        """Whether nothing was seen yet."""
        return self._seen == self.start

    @property
    def is_ready(self) -> bool:
        """Whether there is a range: something, and all of what was promised."""
        return self._seen >= self._promised if self._promised else bool(self._messages)

    @property
    def range(self) -> Range | None:
        """The range that is next; None when there is none."""
        if not self.is_ready:
            return None
        end = self._promised or self._messages[-1].offset + 1
        messages = [message for message in self._messages if message.offset < end]
        return Range(self.topic, self.partition, self.start, end, messages, bool(self._promised))

    def settle(self, done: Range) -> None:
        """Go on behind a range that is stored and whose end is committed."""
        self._messages = [message for message in self._messages if message.offset >= done.end]
        self.size = sum(map(size_of, self._messages))
        self.start, self._promised, self.claimed_by = done.end, 0, ""


def size_of(message: Message) -> int:
    """Return about what a message takes in memory: millions of empty ones are no small thing."""
    return len(message.value) + _MESSAGE_BYTES


def write_metadata(end: int, store: str) -> str:
    """Return what is committed with a claim: where it ends, and which store it goes to."""
    return f"{_MARK} {end} {store}"


def read_metadata(text: str) -> tuple[int, str] | None:
    """Return end and store of a claim; None for anything else, such as what other programs commit."""
    mark, _, rest = (text or "").partition(" ")
    end, _, store = rest.partition(" ")
    return (int(end), store) if mark == _MARK and end.isdecimal() else None
