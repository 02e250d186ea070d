"""``python -m benchmarks.kafka HOST:PORT``: from a topic of a running broker into the table. A minute; prints a table.

The topic is filled first, so what is measured is the collector alone: fetching, checking, inserting, committing.
"""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Iterator

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from benchmarks.environment import say
from benchmarks.measure import measure_floor
from benchmarks.process import collector
from benchmarks.spans import SPANS_A_TRACE, Data

_SPANS = 240_000
_PARTITIONS = 6
_WAYS = (SPANS_A_TRACE, 120, 1_200)  # spans a message; the first is what clew's own reporter sends: a trace
_LIMIT_S = 300.0


def main(brokers: str) -> None:
    """Measure each size of message in a collector of its own."""
    print("| spans a message | spans | seconds | spans/s | CPU a span | floor |")
    print("| --- | --- | --- | --- | --- | --- |")
    for size in _WAYS:
        topic = f"bench-{uuid.uuid4().hex[:8]}"
        say(f"Kafka: {_SPANS:,} spans, {size} a message")
        _fill(brokers, topic, Data(_SPANS // SPANS_A_TRACE, time.time_ns() // 1_000).batches(size))
        print(_measure(brokers, topic, size), flush=True)


def _fill(brokers: str, topic: str, messages: Iterator[bytes]) -> None:
    admin = AdminClient({"bootstrap.servers": brokers})
    for made in admin.create_topics([NewTopic(topic, _PARTITIONS, 1)]).values():
        made.result(60)
    producer = Producer({"bootstrap.servers": brokers, "compression.type": "lz4", "linger.ms": 5})
    for number, message in enumerate(messages):
        producer.produce(topic, message, partition=number % _PARTITIONS)
        producer.poll(0)
        if len(producer) > 2_000:
            producer.flush()
    producer.flush()


def _measure(brokers: str, topic: str, size: int) -> str:
    floor_us = measure_floor(0.05)
    options = ("--kafka", brokers, "--kafka-topic", topic, "--kafka-group", topic)
    with collector(*options) as running:
        deadline = time.monotonic() + _LIMIT_S
        while not running.metric("kafka_partitions"):  # the group is joined
            time.sleep(0.05)
        began, cpu = time.monotonic(), running.cpu_s()
        while (stored := running.metric("spans_stored_total", 'source="kafka"')) < _SPANS:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{stored:,.0f} of {_SPANS:,} spans in {_LIMIT_S:g} s")
            time.sleep(0.1)
        seconds, spent = time.monotonic() - began, running.cpu_s() - cpu
    rate, each_us = _SPANS / seconds, spent / _SPANS * 1e6
    return f"| {size:,} | {_SPANS:,} | {seconds:.1f} | {rate:,.0f} | {each_us:.1f} us | {floor_us:.2f} us |"


if __name__ == "__main__":
    main(sys.argv[1])
