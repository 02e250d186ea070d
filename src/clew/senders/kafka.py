"""Spans and log records to topics of Kafka: one message a trace, with the trace id as its key.

The key has all spans of a trace in one partition, in their order. A message is what Zipkin's own Kafka collector
reads, a JSON array of spans; log records go to a topic of their own, the spans' topic with ``-logs`` behind it.

librdkafka's delivery reports decide what counts as delivered, trace by trace. It gets one batch at a time, so that what
waits for a broker waits in the reporter's bounded queue. A batch whose time is up stays with librdkafka, and the next
try waits for it on: to hand it over a second time would store it twice if it comes through after all.

A handle has threads, which no fork copies: a child makes its own, and never touches (nor frees) its parent's.
"""

from __future__ import annotations

import ctypes
import os
import threading
from functools import partial
from typing import Final

from clew import _clock, wire
from clew.brokers import LOGS_SUFFIX, NEEDED, Brokers, check_topic, parse_brokers
from clew.senders import Kind, SendError

try:
    from confluent_kafka import KafkaError, KafkaException, Producer
except ImportError as missing:
    raise ValueError(NEEDED) from missing


OWN_OPTIONS: Final = ("compression", "linger", "logs_topic", "max_message_bytes")
_COMPRESSIONS: Final = ("none", "gzip", "snappy", "lz4", "zstd")
_MESSAGE_BYTES: Final = 900_000  # a broker's own limit is 1,048,588, unless it was changed
_LINGER_MS: Final = 5  # so many milliseconds librdkafka collects what goes to one partition
_TIMEOUT_S: Final = 5.0  # of one try
_AWAY_S: Final = 0.3  # of a try after one that failed: librdkafka goes on by itself meanwhile
_POLLS_S: Final = (0.001, 0.05)  # first and longest pause between two looks at what was delivered

# What a broker says of the message itself: the same message would be refused again.
_FINAL: Final = frozenset((KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_MSG, KafkaError.INVALID_RECORD))
_ADVICE: Final = {
    KafkaError._UNKNOWN_TOPIC: "; create the topic, or let the brokers do it (auto.create.topics.enable)",
    KafkaError.UNKNOWN_TOPIC_OR_PART: "; create the topic, or let the brokers do it (auto.create.topics.enable)",
    KafkaError.MSG_SIZE_TOO_LARGE: "; the brokers take less: lower max_message_bytes of the reporter",
}


class KafkaSender:
    """Produce to the topic of a ``kafka://`` URL. Makes its producer with the first message. One thread at a time.

    Raises ValueError for what cannot be right, and where confluent-kafka is not installed.
    """

    def __init__(self, url: str) -> None:
        brokers = parse_brokers(url, OWN_OPTIONS)
        topic = check_topic(brokers.topic)
        self._name = f"kafka://{brokers.names}/{topic}"
        self._topics = {"spans": topic, "logs": check_topic(brokers.options.get("logs_topic", topic + LOGS_SUFFIX))}
        self.max_message_bytes = _number(brokers, "max_message_bytes", _MESSAGE_BYTES, 1_000, 1_000_000_000)
        self._settings = {
            **brokers.settings,
            "client.id": "clew",
            "compression.type": _compression(brokers),
            "linger.ms": _number(brokers, "linger", _LINGER_MS, 0, 60_000),
            "enable.idempotence": True,  # what librdkafka sends again is stored once, in order, by all replicas
            "message.timeout.ms": 0,  # a message waits for its broker as long as the reporter does
            "batch.size": self.max_message_bytes,  # the brokers' limit is one of batches
            "message.max.bytes": max(self.max_message_bytes + 1_000, 1_000_000),
            "reconnect.backoff.max.ms": 1_000,
            "log_level": 0,  # librdkafka would write to the host's stderr; error_cb tells as much
            "error_cb": self._failed,
        }
        self.timeout_s = _TIMEOUT_S + int(str(self._settings["linger.ms"])) / 1_000
        self._producer: Producer | None = None
        self._owner = 0  # the process that made it
        self._batch: list[bytes] | None = None
        self._kind: Kind = "spans"
        self._to_send: list[list[int]] = []  # messages of Kafka, each as places in the batch
        self._to_send_alone: list[list[int]] = []
        self._failed_before = self._fatal = False
        self._forget()

    def send(self, messages: list[bytes], kind: Kind = "spans") -> None:
        """Produce one batch and wait for its delivery reports. After ``SendError`` the same list is waited for on."""
        self._leave_to_parent()
        if self._batch is not messages:
            self._drop_rest()
            self._batch, self._kind = messages, kind
            self._to_send = _by_trace(messages)
        try:
            producer = self._producer or self._open()
            self._produce(producer)
            self._wait(producer)
        except KafkaException as problem:
            raise self._error(str(problem.args[0])) from problem
        self._batch_is_over(len(messages))

    def close(self) -> None:
        """Let go of the producer and of what it still holds. In a forked child: of the parent's, untouched."""
        self._leave_to_parent()
        if self._producer is not None:
            self._drop_rest()
            producer, self._producer = self._producer, None
            producer.close()
        self._forget()

    def _open(self) -> Producer:
        self._pause = threading.Lock()  # held for ever, to wait for it is to sleep; here, for gevent may have come
        self._pause.acquire()
        producer = Producer(self._settings)
        # Never freed by the interpreter: in a forked child that would wait for threads that are not there.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(producer))
        self._producer, self._owner = producer, os.getpid()
        return producer

    def _leave_to_parent(self) -> None:
        if self._producer is not None and self._owner != os.getpid():
            self._producer = None
            self._forget()

    def _forget(self) -> None:
        self._batch, self._to_send, self._to_send_alone = None, [], []
        self._alone: set[int] = set()  # places of what was sent by itself
        self._pending = 0  # messages of Kafka that librdkafka has
        self._delivered: set[int] = set()
        self._refused: set[int] = set()
        self._round = object()  # reports of an earlier batch are none of this one
        self._problem = ""
        self._away = False

    def _drop_rest(self) -> None:
        """Have librdkafka forget what the reporter has given up."""
        if self._producer is not None and self._pending:
            self._producer.purge()
            self._producer.poll(0)
        self._forget()

    def _produce(self, producer: Producer) -> None:
        """Hand over what is to be sent: all at once, and what was refused in company by itself, one after the other."""
        while self._to_send:
            self._produce_one(producer, self._to_send[-1])
            self._to_send.pop()
        if self._to_send_alone and not self._pending:
            self._alone.update(self._to_send_alone[-1])
            self._produce_one(producer, self._to_send_alone[-1])
            self._to_send_alone.pop()

    def _produce_one(self, producer: Producer, places: list[int]) -> None:
        messages = self._batch or []
        value = wire.join([messages[place] for place in places], self._kind)
        report = partial(self._reported, self._round, places)
        try:
            producer.produce(self._topics[self._kind], value, _trace_id(messages[places[0]]), on_delivery=report)
        except BufferError:  # no batch of ours fills librdkafka's queue; it says so of a purge under way, too
            raise self._error("librdkafka's queue is full") from None
        self._pending += 1

    def _reported(self, batch: object, places: list[int], error: KafkaError | None, message: object) -> None:
        """Note what became of one message; called by librdkafka within ``poll``."""
        if batch is not self._round:
            return
        self._pending -= 1
        if error is None:
            self._delivered.update(places)
            return
        self._problem = f"{error.str()}{_ADVICE.get(error.code(), '')}"
        if error.code() not in _FINAL:
            self._to_send.append(places)
        elif places[0] in self._alone:
            self._refused.update(places)
        else:  # it may have been refused for the company that it came in: brokers judge whole batches of librdkafka
            self._to_send_alone.append(places)

    def _failed(self, error: KafkaError) -> None:
        """Note that brokers are away; called by librdkafka within ``poll``."""
        self._fatal = self._fatal or error.fatal()
        self._away = self._away or self._fatal or error.code() == KafkaError._ALL_BROKERS_DOWN
        if error.code() != KafkaError._ALL_BROKERS_DOWN or not self._problem:
            self._problem = error.str()

    def _wait(self, producer: Producer) -> None:
        """Look for reports until all are there. Without blocking in C, so that greenlets run meanwhile."""
        self._away = False
        pause_s, longest_s = _POLLS_S
        deadline = _clock.monotonic_s() + (_AWAY_S if self._failed_before else self.timeout_s)
        while producer.poll(0) or self._pending or self._to_send_alone:
            if self._to_send or self._away or _clock.monotonic_s() >= deadline:
                break
            if self._to_send_alone and not self._pending:
                self._produce(producer)
            self._pause.acquire(timeout=pause_s)
            pause_s = min(pause_s * 2, longest_s)
        if self._fatal:
            self._renew(producer)
        if self._pending or self._to_send or self._to_send_alone:
            raise self._error(self._problem or "no broker has confirmed the message yet")

    def _renew(self, producer: Producer) -> None:
        """Give up a producer that cannot go on (a broker lost what it had confirmed); what it holds is sent by another.

        The reports of what is purged put it back among what is to be sent.
        """
        producer.purge()
        producer.poll(0)
        producer.close()
        self._producer, self._fatal = None, False

    def _batch_is_over(self, count: int) -> None:
        self._failed_before = False
        delivered, refused, problem = self._delivered, self._refused, self._problem
        self._forget()
        if refused:
            text = f"{self._name} refused {len(refused)} of {count}: {problem}"
            raise SendError(text, retry=False, answered=True, delivered=delivered)

    def _error(self, problem: str) -> SendError:
        self._failed_before = True
        error = SendError(f"{self._name}: {problem}", delivered=self._delivered)
        if "Connection refused" in problem:
            error.__cause__ = ConnectionRefusedError(problem)
        return error


def _by_trace(messages: list[bytes]) -> list[list[int]]:
    """Return the places of what goes together, last first; log records outside of any trace are one message."""
    traces: dict[bytes | None, list[int]] = {}
    for place, message in enumerate(messages):
        traces.setdefault(_trace_id(message), []).append(place)
    return list(reversed(traces.values()))


def _trace_id(message: bytes) -> bytes | None:
    """Cut the id out of what ``wire`` has encoded: it stands at the beginning of a span, and second in a log record."""
    start = message.find(b'"traceId":"', 0, 60)
    return message[start + 11 : message.index(b'"', start + 11)] if start >= 0 else None


def _compression(brokers: Brokers) -> str:
    found = brokers.options.get("compression", "lz4").lower()
    if found not in _COMPRESSIONS:
        raise ValueError(f"compression={found!r}: one of {', '.join(_COMPRESSIONS)}")
    return found


def _number(brokers: Brokers, name: str, default: int, least: int, most: int) -> int:
    text = brokers.options.get(name, str(default))
    if not text.isdecimal() or not least <= int(text) <= most:
        raise ValueError(f"{name}={text!r} is not a whole number from {least} to {most}")
    return int(text)
