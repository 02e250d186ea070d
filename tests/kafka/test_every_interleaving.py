"""Exactly once, tried out: every interleaving of crash, rebalance, lost answer and retry with two consumers.

A small world around the very code that decides what is stored together (`receivers.claims`): one partition of three
messages, a group coordinator, a table that knows tokens, two consumers. From each state every step that could come next
is taken, until no new state turns up. In every state each message is in the table at most once; and from every state
the rest can be stored, after which each is there exactly once.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest

from clew.collector.receivers.claims import Claim, Message, Range, write_metadata

MESSAGES = 3
CRASHES = 2
REBALANCES = 3


class Work(NamedTuple):
    """What a consumer has in memory: its generation, what it has read, and how far it is with a range."""

    generation: int
    start: int  # the committed offset and metadata that it began with, or got to
    metadata: str
    read: int  # up to this offset
    step: str  # "gathering", "claimed", "inserted"


class World(NamedTuple):
    """Brokers (owner of the partition, generation, committed offset and metadata), table, and the two consumers."""

    owner: int
    generation: int
    offset: int
    metadata: str
    rows: tuple[int, ...]  # how often each message is in the table
    tokens: frozenset[str]
    consumers: tuple[Work | None, Work | None]  # None: knows of no partition
    crashes: int
    rebalances: int


START = World(0, 1, 0, "", (0,) * MESSAGES, frozenset(), (None, None), 0, 0)


def claim_of(work: Work) -> Claim:
    """Rebuild the real claim from what is in memory."""
    claim = Claim("zipkin", 0, work.start, work.metadata)
    for offset in range(work.start, work.read):
        claim.take(Message(offset, b"x"))
    if work.read == MESSAGES:
        claim.pass_by(MESSAGES)
    return claim


class Protocol:
    """What a consumer does with a range: the real one claims, inserts, settles."""

    claims = True

    def next_worlds(self, world: World) -> list[World]:
        found = [*self.rebalanced(world)]
        for who in (0, 1):
            found += self.crashed(world, who)
            work = world.consumers[who]
            if work is None:
                found += self.assigned(world, who)
            elif work.step == "gathering":
                found += self.read(world, who, work) + self.claimed(world, who, work)
            elif work.step == "claimed":
                found += self.inserted(world, who, work)
            else:
                found += self.settled(world, who, work)
        return found

    def rebalanced(self, world: World) -> list[World]:
        """The partition goes to the other consumer; the one that has lost it does not know yet."""
        if world.rebalances == REBALANCES:
            return []
        moved = world._replace(owner=1 - world.owner, generation=world.generation + 1, rebalances=world.rebalances + 1)
        return [moved]

    def crashed(self, world: World, who: int) -> list[World]:
        """All memory is gone; the process is back at once."""
        if world.crashes == CRASHES or world.consumers[who] is None:
            return []
        return [with_work(world, who, None)._replace(crashes=world.crashes + 1)]

    def assigned(self, world: World, who: int) -> list[World]:
        if world.owner != who:
            return []
        return [with_work(world, who, Work(world.generation, world.offset, world.metadata, world.offset, "gathering"))]

    def read(self, world: World, who: int, work: Work) -> list[World]:
        """Messages come as many at a time as they like."""
        return [with_work(world, who, work._replace(read=read)) for read in range(work.read + 1, MESSAGES + 1)]

    def claimed(self, world: World, who: int, work: Work) -> list[World]:
        found = claim_of(work).range
        if found is None:
            return []
        if not self.claims:
            return [with_work(world, who, work._replace(step="claimed"))]
        return self.committed(world, who, work, found.start, write_metadata(found.end, ""), "claimed")

    def inserted(self, world: World, who: int, work: Work) -> list[World]:
        """The insert comes through and is answered; or comes through without an answer; or does not. Then: again."""
        found = claim_of(work).range
        assert found is not None
        stored = insert(world, found)
        return [with_work(stored, who, work._replace(step="inserted")), stored, world]

    def settled(self, world: World, who: int, work: Work) -> list[World]:
        found = claim_of(work).range
        assert found is not None
        return self.committed(world, who, work, found.end, "", "gathering")

    def committed(self, world: World, who: int, work: Work, offset: int, metadata: str, step: str) -> list[World]:
        """Commit: refused when a rebalance came in between; its answer may be lost. In both cases all is forgotten."""
        if world.owner != who or world.generation != work.generation:
            return [with_work(world, who, None)]
        taken = world._replace(offset=offset, metadata=metadata)
        kept = work._replace(step=step)
        if step == "gathering":
            kept = kept._replace(start=offset, metadata="")
        return [with_work(taken, who, kept), with_work(taken, who, None), with_work(world, who, None)]


class WithoutClaims(Protocol):
    """The usual way, for comparison: insert, then commit."""

    claims = False


class WithoutFence(Protocol):
    """Brokers that take commits of whoever comes."""

    def committed(self, world: World, who: int, work: Work, offset: int, metadata: str, step: str) -> list[World]:
        owned = world._replace(owner=who, generation=work.generation)
        return [
            after._replace(owner=world.owner, generation=world.generation)
            for after in super().committed(owned, who, work, offset, metadata, step)
        ]


def with_work(world: World, who: int, work: Work | None) -> World:
    first, second = world.consumers
    return world._replace(consumers=(work, second) if who == 0 else (first, work))


def insert(world: World, found: Range) -> World:
    if found.token in world.tokens:
        return world
    rows = list(world.rows)
    for message in found.messages:
        rows[message.offset] += 1
    return world._replace(rows=tuple(rows), tokens=world.tokens | {found.token})


def explore(protocol: Protocol) -> set[World]:
    """Return every state that can be reached; AssertionError at the first with a message in the table twice."""
    seen, todo = {START}, [START]
    while todo:
        world = todo.pop()
        assert max(world.rows) <= 1, f"twice in the table: {world}"
        for after in protocol.next_worlds(world):
            if after not in seen:
                seen.add(after)
                todo.append(after)
    return seen


def lossy(world: World) -> bool:
    """Whether something is committed as done that is not in the table."""
    return any(count == 0 for count in world.rows[: world.offset])


def test_every_message_is_in_the_table_once():
    """Nothing twice in any state, nothing lost in any, and whatever happened, all can be stored afterwards."""
    protocol = Protocol()
    worlds = explore(protocol)
    assert [] == [world for world in worlds if lossy(world)]
    assert {(1,) * MESSAGES} == {world.rows for world in worlds if world.offset == MESSAGES}
    stuck = [world for world in worlds if world.offset < MESSAGES and not protocol.next_worlds(world)]
    assert [] == stuck
    assert len(worlds) > 10_000


@pytest.mark.parametrize("protocol", [WithoutClaims(), WithoutFence()])
def test_the_search_finds_what_is_wrong_with_less(protocol: Protocol):
    """Without the claim, and with brokers that let anybody commit, messages come twice or get lost."""
    with pytest.raises(AssertionError, match=r"twice in the table|lost"):
        assert not any(lossy(world) for world in explore(protocol)), "lost"
