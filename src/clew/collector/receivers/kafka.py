"""Spans and log records from Kafka: one consumer of a group, so that collectors are added by starting more of them.

The message is that of Zipkin's own Kafka collector: an array of spans as JSON (v2 or v1), or Zipkin's protobuf. Log
records have a topic of their own (``{"logs": [...]}``). A message that cannot be read goes to the topic with ``-dead``
behind it, with the reason in its headers, and everything else goes on.

One thread goes round: gather messages, claim what has come of each partition, insert it, settle
(:mod:`clew.collector.receivers.claims` says why in this order). It never forgets a message before the brokers know that
it is stored; is the store down, fetching pauses and the same ranges are tried again, in order. Whatever else goes
wrong, the consumer is closed and another one begins at what the brokers know.
"""

from __future__ import annotations

import logging
import math
import re
import threading
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Producer, TopicPartition

from clew.brokers import LOGS_SUFFIX
from clew.collector.ingest.payload import BadPayload, Checked, check
from clew.collector.receivers.claims import Claim, Message, size_of, write_metadata
from clew.collector.store import StoreError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clew.brokers import Brokers
    from clew.collector.ingest import Ingest
    from clew.collector.ingest.payload import Format
    from clew.collector.receivers.claims import Range
    from clew.collector.store import Kind

DEAD_SUFFIX: Final = "-dead"
GATHER_S: Final = 0.9  # how long messages gather, as payloads over HTTP do: an insert costs the same for few
GATHER_PARTITION_S: Final = 0.1  # ... and so long for each partition, for each has an insert of its own
BATCH_BYTES: Final = 16_000_000  # of all partitions together
POLL_S: Final = 0.1
OWNED_S: Final = 5.0  # so long a commit is trusted to have come from the owner; then the claim is made anew
RETRY_S: Final = (0.5, 10.0)  # the store is down, or the brokers: first and longest wait
ASK_S: Final = 60.0  # for brokers to tell what is committed
DEAD_S: Final = 30.0  # for brokers to take a dead letter; then it is set aside on disk
SESSION_MS: Final = 10_000  # after a death so long until the partitions go to others
_PROTOBUF: Final = b"\x0a"  # how a ListOfSpans begins: field 1, length-delimited
_THRIFT: Final = frozenset((b"\x0c", b"\x0b", b"\x08"))
_V1: Final = re.compile(rb'"binaryAnnotations"\s*:\s*\[|"endpoint"\s*:\s*\{')  # no key of v2 has such a value

_ELSEWHERE: Final = "a collector with another store had begun a range; it is stored here, and perhaps there"

_log = logging.getLogger("clew.collector")


class Source(NamedTuple):
    """What to read: ``store`` names the store that it goes to, for others of the group."""

    brokers: Brokers
    topic: str
    group: str
    logs_topic: str = ""
    store: str = ""


class KafkaReceiver:
    """Consumes from construction until :meth:`close`. Brokers that are away are waited for."""

    def __init__(self, ingest: Ingest, source: Source) -> None:
        self._ingest = ingest
        self._metrics = ingest.metrics
        self._source = source
        self._kinds: dict[str, Kind] = {source.topic: "spans", source.logs_topic or source.topic + LOGS_SUFFIX: "logs"}
        self._claims: dict[tuple[str, int], Claim] = {}
        self._dead = DeadLetters(ingest, source.brokers)
        self._batch_bytes = min(BATCH_BYTES, ingest.group_bytes)
        self._lag = 0
        self._closing = threading.Event()
        self._metrics.gauge("kafka_lag", lambda: self._lag)
        self._metrics.gauge("kafka_partitions", lambda: len(self._claims))
        self._thread = threading.Thread(target=self._run, name="clew-kafka")
        self._thread.start()

    def close(self) -> None:
        """Store and commit what is in hand, leave the group. Idempotent."""
        self._closing.set()
        self._thread.join()

    def _run(self) -> None:
        wait_s = RETRY_S[0]
        while not self._closing.is_set():
            began = time.monotonic()
            try:
                self._consume()
            except Exception as error:  # noqa: BLE001 - brokers that are away, a lost partition: begin where they know of
                self._metrics.count("kafka_restarts_total")
                _log.warning("kafka: begins anew at what is committed: %s", _said(error))
                wait_s = RETRY_S[0] if time.monotonic() - began > ASK_S else min(wait_s * 2, RETRY_S[1])
                self._closing.wait(wait_s)
        self._dead.close()

    def _consume(self) -> None:
        """Live one life of a consumer, from joining the group to leaving it."""
        options = self._source.brokers.options
        consumer = Consumer(
            {
                **self._source.brokers.settings,
                "group.id": self._source.group,
                "client.id": "clew",
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",  # a committed offset that retention has removed; see _note_gap
                "partition.assignment.strategy": "range,roundrobin",  # eager: nobody holds on to what goes to others
                "session.timeout.ms": int(options.get("session_timeout", SESSION_MS)),
                "topic.metadata.refresh.interval.ms": 10_000,  # a topic that is made later
                "queued.max.messages.kbytes": self._batch_bytes // 1_000,
                "fetch.max.bytes": max(self._batch_bytes, 1_000_000),
                "log_level": 0,
                "error_cb": lambda error: _log.warning("kafka: %s", error.str()),
            }
        )
        try:
            consumer.subscribe(
                list(self._kinds), on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked
            )
            while not self._closing.is_set():
                self._gather(consumer)
                self._store(consumer)
        finally:
            self._claims.clear()
            consumer.close()

    # --- what is ours ---

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Begin each partition where the group is. Called within ``poll``."""
        committed = consumer.committed(list(partitions), timeout=ASK_S) if partitions else []
        for found in committed:
            if found.error:
                raise KafkaException(found.error)
            start = max(found.offset, 0)
            claim = Claim(found.topic, found.partition, start, found.metadata or "")
            self._claims[found.topic, found.partition] = claim
            found.offset = found.offset if found.offset >= 0 else OFFSET_BEGINNING
            if claim.claimed_by not in ("", self._source.store):
                self._metrics.count("kafka_ranges_from_other_stores_total")
                _log.warning("kafka: %s[%d]: %s", found.topic, found.partition, _ELSEWHERE)
        consumer.assign(committed)

    def _revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Forget what is no longer ours; others read it from the brokers."""
        self._claims.clear()
        consumer.unassign()

    # --- going round ---

    def _gather(self, consumer: Consumer) -> None:
        """Take messages until there is enough, or time is up since a range was there to store."""
        deadline = math.inf
        size = 0
        while not self._closing.is_set() and size < self._batch_bytes and time.monotonic() < deadline:
            if deadline == math.inf and any(claim.is_ready for claim in self._claims.values()):
                deadline = time.monotonic() + max(GATHER_S, GATHER_PARTITION_S * len(self._claims))
            message = consumer.poll(POLL_S)
            if message is None:
                size = sum(claim.size for claim in self._claims.values())
            else:  # an empty one is False
                size += self._take(consumer, message)

    def _take(self, consumer: Consumer, message: Any) -> int:
        """Put a message, or the news that there is none, where it belongs; return its bytes."""
        error = message.error()
        claim = self._claims.get((message.topic(), message.partition()))
        if error is None and claim is not None:
            if claim.is_new and message.offset() > claim.start > 0:
                self._note_gap(consumer, claim)
            found = Message(message.offset(), message.value() or b"")
            claim.take(found)
            return size_of(found)
        if error is None or error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:  # one that is not there yet
            return 0
        if error.code() != KafkaError._PARTITION_EOF:
            raise KafkaException(error)
        if claim is not None:
            claim.pass_by(message.offset())
        return 0

    def _note_gap(self, consumer: Consumer, claim: Claim) -> None:
        """Say what the brokers have removed before it was read; no collector can have it."""
        partition = TopicPartition(claim.topic, claim.partition)
        first, _ = consumer.get_watermark_offsets(partition, timeout=ASK_S)
        if first > claim.start:
            self._metrics.count("kafka_messages_lost_total", first - claim.start)
            lost = first - claim.start
            _log.error("kafka: %d messages of %s were removed by the brokers before they were read", lost, claim.topic)

    def _store(self, consumer: Consumer) -> None:
        """Claim, insert and settle what has come; less when it is not ours any more, or at the end."""
        ready = [(claim, found) for claim in self._claims.values() if (found := claim.range)]
        if not ready:
            return
        self._claim(consumer, [found for _, found in ready])
        owned_at = time.monotonic()
        for place, (claim, found) in enumerate(ready):
            work = self._checked(found)
            wait_s = RETRY_S[0]
            while True:
                if time.monotonic() - owned_at > OWNED_S:
                    self._claim(consumer, [left for _, left in ready[place:]])
                    owned_at = time.monotonic()
                if self._insert(work):
                    break
                self._wait(consumer, wait_s)
                wait_s = min(wait_s * 2, RETRY_S[1])
                if self._closing.is_set() or self._claims.get((found.topic, found.partition)) is not claim:
                    return
        self._settle(consumer, ready)

    def _claim(self, consumer: Consumer, ranges: Sequence[Range]) -> None:
        """Fix where each range ends. An exception when we are not the owner any more."""
        store = self._source.store
        _commit(
            consumer,
            [TopicPartition(r.topic, r.partition, r.start, metadata=write_metadata(r.end, store)) for r in ranges],
        )

    def _settle(self, consumer: Consumer, ready: Sequence[tuple[Claim, Range]]) -> None:
        _commit(consumer, [TopicPartition(found.topic, found.partition, found.end) for _, found in ready])
        lag = 0
        for claim, found in ready:
            claim.settle(found)
            self._metrics.count("kafka_ranges_total")
        for claim in self._claims.values():
            watermarks = consumer.get_watermark_offsets(TopicPartition(claim.topic, claim.partition), cached=True)
            lag += max(watermarks[1] - claim.start, 0) if watermarks else 0
        self._lag = lag

    def _wait(self, consumer: Consumer, wait_s: float) -> None:
        """Fetch nothing, stay in the group, and take what comes all the same."""
        consumer.pause(consumer.assignment())
        deadline = time.monotonic() + wait_s
        while time.monotonic() < deadline and not self._closing.is_set():
            message = consumer.poll(POLL_S)
            if message is not None:
                self._take(consumer, message)
        consumer.resume(consumer.assignment())

    # --- one range ---

    def _checked(self, found: Range) -> _Work:
        """Read the messages of a range; those that cannot be read become dead letters."""
        work = _Work(found)
        for message in found.messages:
            try:
                work.payloads.append(_check(self._kinds[found.topic], message.value))
                work.messages.append(message)
            except BadPayload as bad:
                self._metrics.count("payloads_total", source="kafka")
                self._metrics.count("payload_bytes_total", len(message.value), source="kafka")
                self._metrics.count("payloads_rejected_total", source="kafka", reason=bad.reason)
                self._dead.send(found, message, bad.reason, str(bad))
        return work

    def _insert(self, work: _Work) -> bool:
        """Store a range; False when the store does not take it now."""
        try:
            bad = self._ingest.insert_range(work.payloads, work.range.token, "kafka", failures=work.failures)
        except StoreError as error:
            self._metrics.count("insert_failures_total")
            _log.warning("kafka: the store failed, fetching pauses until it is back: %s", _said(error))
            work.failures += 1
            return False
        for place, reason in bad:
            self._dead.send(work.range, work.messages[place], "store", reason)
        if work.failures:
            self._metrics.count("kafka_ranges_repeated_total")
        return True


class _Work:
    """A range on its way into the store."""

    def __init__(self, found: Range) -> None:
        self.range = found
        self.failures = int(found.again)  # tries that may have come through
        self.payloads: list[Checked] = []
        self.messages: list[Message] = []  # where each payload is from


class DeadLetters:
    """The topic for messages that cannot be read: as they came, with place and reason in their headers.

    What the brokers do not take either is set aside in the journal's directory. A range that is repeated sends its dead
    letters again; their place tells that they are the same.
    """

    def __init__(self, ingest: Ingest, brokers: Brokers) -> None:
        self._ingest = ingest
        self._brokers = brokers
        self._producer: Producer | None = None

    def send(self, found: Range, message: Message, reason: str, text: str) -> None:
        """Send one message; returns when it is kept somewhere."""
        place = f"{found.topic}[{found.partition}] at {message.offset}"
        _log.warning("kafka: %s cannot be read and goes to %s: %s", place, found.topic + DEAD_SUFFIX, text)
        headers: dict[str, str | bytes | None] = {
            "clew.reason": reason,
            "clew.error": text,
            "clew.topic": found.topic,
            "clew.partition": str(found.partition),
            "clew.offset": str(message.offset),
        }
        self._ingest.metrics.count("kafka_dead_letters_total", reason=reason)
        try:
            self._produce(found.topic + DEAD_SUFFIX, message.value, headers)
        except (KafkaException, BufferError) as error:
            name = f"{found.topic}.{found.partition}.{message.offset}.bad"
            kept = self._ingest.set_aside(name, text.encode() + b"\n" + message.value)
            _log.error(
                "kafka: %s: no broker takes the dead letter (%s); it is set aside as %s", place, _said(error), kept
            )

    def close(self) -> None:
        """Let go of the connection."""
        if self._producer is not None:
            self._producer.close()

    def _produce(self, topic: str, value: bytes, headers: dict[str, str | bytes | None]) -> None:
        if self._producer is None:
            settings = {"message.timeout.ms": int(DEAD_S * 1_000), "log_level": 0, "enable.idempotence": True}
            quiet = {"error_cb": lambda error: None, "message.max.bytes": 100_000_000}
            self._producer = Producer({**self._brokers.settings, **settings, **quiet})
        failed: list[KafkaError] = []
        self._producer.produce(
            topic, value, headers=headers, on_delivery=lambda error, _: failed.append(error) if error else None
        )
        left = self._producer.flush(DEAD_S + 5)
        if failed or left:
            raise KafkaException(failed[0] if failed else KafkaError(KafkaError._TIMED_OUT))


def _commit(consumer: Consumer, offsets: list[TopicPartition]) -> None:
    """Commit, and return when the brokers have it; an exception when one of them refuses."""
    if not offsets:
        return
    for done in consumer.commit(offsets=offsets, asynchronous=False) or []:
        if done.error:
            raise KafkaException(done.error)


def _check(kind: Kind, value: bytes) -> Checked:
    """Read one message. Raises :class:`BadPayload`."""
    if not value:
        raise BadPayload("empty", "The message is empty. Expected an array of spans.")
    if kind == "spans" and value[:1] in _THRIFT:
        raise BadPayload(
            "thrift", "The message is Thrift, Zipkin's oldest format. Have the client send JSON or protobuf."
        )
    return check(kind, value, _format(kind, value))


def _format(kind: Kind, value: bytes) -> Format:
    if kind == "spans" and value[:1] == _PROTOBUF and value.lstrip()[:1] != b"[":  # 0x0A is a newline, too
        return "proto3"
    return "json_v1" if kind == "spans" and _V1.search(value) else "json"


def _said(error: Exception) -> str:
    first = error.args[0] if error.args else error
    text = first.str() if isinstance(first, KafkaError) else str(first)
    return text.partition("\n")[0][:300] or type(error).__name__
