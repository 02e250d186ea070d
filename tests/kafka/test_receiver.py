"""The collector's source `--kafka`: what it reads, what it refuses, and that nothing is lost or comes twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from clew.brokers import parse_brokers
from clew.collector.ingest import Ingest
from clew.collector.metrics import Metrics
from clew.collector.receivers.kafka import KafkaReceiver, Source
from clew.collector.store import StoreError, UnreadableRows
from collector.collector_process import CollectorProcess, start, wait_until
from collector.faulty_store import FaultyStore
from kafka.broker import consume, make_topic, produce

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from clew.collector.store.clickhouse import ClickHouseStore

PATIENCE_S = 100


def span(number: int, **more: Any) -> dict[str, Any]:
    ids = {"traceId": f"{number + 1:032x}", "id": f"{number + 1:016x}"}
    times = {"timestamp": 1_790_000_000_000_000 + number, "duration": 5}
    return {**ids, "name": "work", **times, "localEndpoint": {"serviceName": "shop"}, **more}


def message(*spans: dict[str, Any]) -> tuple[bytes, bytes]:
    return spans[0]["traceId"].encode(), json.dumps(spans).encode()


# ListOfSpans { spans: [{ trace_id: 16 bytes, id: 8 bytes, name: "get" }] }, written by hand from zipkin.proto.
_PROTO = b"\x0a\x21" + b"\x0a\x10" + b"\x33" * 16 + b"\x1a\x08" + b"\x33" * 8 + b"\x2a\x03get"


class Stored:
    """A receiver on the engine of this process."""

    def __init__(self, engine: ClickHouseStore, directory: Path, address: str, topic: str) -> None:
        self.store = FaultyStore(engine)
        self._engine = engine
        self.ingest = Ingest(self.store, directory, Metrics())
        source = Source(parse_brokers(address), topic, f"group-{topic}")
        self.receiver = KafkaReceiver(self.ingest, source)

    def close(self) -> None:
        self.receiver.close()
        self.ingest.close()

    def ids(self) -> list[str]:
        """Return the trace ids of all rows, as often as they are there."""
        found = self._engine._writer.query("SELECT lower(hex(trace_id)) FROM spans").result_rows
        return sorted(row[0] for row in found)

    def value(self, name: str, **labels: str) -> int:
        return self.ingest.metrics.value(name, **labels)


@pytest.fixture
def topic(real_address: str) -> str:
    return make_topic(real_address)


@pytest.fixture
def stored(store: ClickHouseStore, tmp_path: Path, real_address: str, topic: str) -> Iterator[Stored]:
    running = Stored(store, tmp_path / "journal", real_address, topic)
    yield running
    running.close()


def ids(*numbers: int) -> list[str]:
    return [f"{number + 1:032x}" for number in numbers]


def committed(address: str, group: str, topic: str) -> int:
    """Return how many messages of a topic the group has committed as stored."""
    consumer = Consumer({"bootstrap.servers": address, "group.id": group})
    try:
        found = consumer.committed([TopicPartition(topic, partition) for partition in range(4)], timeout=60)
        return sum(max(partition.offset, 0) for partition in found)
    finally:
        consumer.close()


def test_messages_become_rows(stored: Stored, real_address: str, topic: str):
    """Arrays of spans from all partitions are stored, once each, and the group's offsets say so."""
    produce(real_address, topic, [message(span(number), span(number, id="f" * 16)) for number in range(50)])
    wait_until(lambda: len(stored.ids()) == 100, PATIENCE_S)
    assert sorted(ids(*range(50)) * 2) == stored.ids()
    wait_until(lambda: committed(real_address, f"group-{topic}", topic) == 50, PATIENCE_S)
    assert 100 == stored.value("spans_stored_total", source="kafka")
    assert 50 == stored.value("payloads_total", source="kafka")


def test_all_formats_of_zipkin_are_read(stored: Stored, real_address: str, topic: str):
    """JSON v2, JSON v1 and protobuf, as Zipkin's collector tells them apart."""
    v1 = {
        "traceId": "2" * 32,
        "id": "2" * 16,
        "name": "get",
        "timestamp": 1_790_000_000_000_000,
        "duration": 5,
        "binaryAnnotations": [{"key": "a", "value": "b", "endpoint": {"serviceName": "shop"}}],
    }
    values = [json.dumps([span(0)]).encode(), json.dumps([v1]).encode(), _PROTO]
    produce(real_address, topic, [(None, value) for value in values])
    wait_until(lambda: len(stored.ids()) == 3, PATIENCE_S)
    assert sorted([*ids(0), "2" * 32, "3" * 32]) == stored.ids()


def test_what_cannot_be_read_goes_to_the_dead_letters(stored: Stored, real_address: str, topic: str):
    """Poison stops nothing: it goes on as it came, with place and reason; the messages around it are stored."""
    poison = [b"not JSON", b'[{"traceId":"xyz","id":"1"}]', b"", b"\x0c\x00\x00\x00\x01"]
    around = [message(span(0)), *((None, value) for value in poison), message(span(1))]
    produce(real_address, topic, around, partition=2)
    wait_until(lambda: len(stored.ids()) == 2, PATIENCE_S)
    assert ids(0, 1) == stored.ids()
    dead = sorted(consume(real_address, f"{topic}-dead", 4), key=lambda found: dict(found.headers())["clew.offset"])
    assert poison == [found.value() or b"" for found in dead]
    headers = [{name: value.decode() for name, value in found.headers()} for found in dead]
    assert ["malformed", "span_traceId", "empty", "thrift"] == [found["clew.reason"] for found in headers]
    assert {(topic, "2")} == {(found["clew.topic"], found["clew.partition"]) for found in headers}
    assert ["1", "2", "3", "4"] == [found["clew.offset"] for found in headers]
    assert all(found["clew.error"] for found in headers)
    assert 4 == stored.value("payloads_rejected_total", source="kafka")


def test_a_store_that_is_down_pauses_and_loses_nothing(stored: Stored, real_address: str, topic: str):
    """Fetching pauses, the group is not left, and afterwards everything is stored in order, once."""
    produce(real_address, topic, [message(span(0))])
    wait_until(lambda: len(stored.ids()) == 1, PATIENCE_S)
    stored.store.down = True
    produce(real_address, topic, [message(span(number)) for number in range(1, 40)])
    wait_until(lambda: stored.value("insert_failures_total") >= 2, PATIENCE_S)
    produce(real_address, topic, [message(span(number)) for number in range(40, 60)])
    stored.store.down = False
    wait_until(lambda: len(stored.ids()) == 60, PATIENCE_S)
    assert ids(*range(60)) == stored.ids()
    assert 0 == stored.value("kafka_restarts_total")
    assert stored.value("kafka_ranges_repeated_total") >= 1


def test_an_insert_whose_answer_was_lost_is_not_repeated(stored: Stored, real_address: str, topic: str):
    """It came through: what is there is counted as repeated, not stored again."""
    stored.store.mute = 1
    produce(real_address, topic, [message(span(number)) for number in range(10)], partition=0)
    wait_until(lambda: stored.value("payloads_repeated_total", source="kafka") == 10, PATIENCE_S)
    assert ids(*range(10)) == stored.ids()


@pytest.mark.parametrize("fault", [UnreadableRows("poison"), StoreError("too much for me")])
def test_what_the_store_refuses_alone_holds_nobody_up(stored: Stored, real_address: str, topic: str, fault: Exception):
    """One message that the store does not take becomes a dead letter; those of the same range are stored, once."""
    stored.store.poison, stored.store.fault = b'"poison"', fault
    messages = [message(span(number, name="poison" if number == 9 else "work")) for number in range(20)]
    produce(real_address, topic, messages, partition=0)
    (dead,) = consume(real_address, f"{topic}-dead", 1)
    assert messages[9][1] == dead.value()
    assert ("clew.reason", b"store") in dead.headers()
    wait_until(lambda: committed(real_address, f"group-{topic}", topic) == 20, PATIENCE_S)
    assert ids(*(number for number in range(20) if number != 9)) == stored.ids()


def test_a_promised_range_is_kept_to(store: ClickHouseStore, tmp_path: Path, real_address: str, topic: str):
    """What an earlier owner began and did not settle is stored first, by itself, under the same token."""
    produce(real_address, topic, [message(span(number)) for number in range(10)], partition=0)
    group = Consumer({"bootstrap.servers": real_address, "group.id": f"group-{topic}"})
    group.commit(offsets=[TopicPartition(topic, 0, 2, metadata="clew1 5 another")], asynchronous=False)
    group.close()
    rows = b",".join(json.dumps(span(number), separators=(",", ":")).encode() for number in (2, 3, 4))
    store.insert("spans", rows, f"kafka.{topic}.0.2-5")
    running = Stored(store, tmp_path / "journal", real_address, topic)
    try:
        wait_until(lambda: len(running.ids()) == 8, PATIENCE_S)
        assert ids(*range(2, 10)) == running.ids()
        assert 3 == running.value("payloads_repeated_total", source="kafka")
        assert 1 == running.value("kafka_ranges_from_other_stores_total")
    finally:
        running.close()


def test_a_kill_loses_nothing_and_repeats_nothing(tmp_path: Path, real_address: str, topic: str):
    """kill -9 of a whole collector while it stores; the next one on the same data goes on exactly there."""
    options = ["--kafka", f"{real_address}?session_timeout=6000", "--kafka-topic", topic, "--kafka-group", topic]
    total = 0
    for _ in range(3):
        with CollectorProcess(tmp_path / "data", *options) as collector:
            produce(real_address, topic, [message(span(number)) for number in range(total, total + 200)])
            total += 200
            wait_until(lambda: collector.counter('spans_stored_total{source="kafka"}') > 0, PATIENCE_S)
            collector.kill()
    with CollectorProcess(tmp_path / "data", *options) as collector:
        wait_until(lambda: len(all_ids(collector)) >= total, PATIENCE_S)
        assert ids(*range(total)) == sorted(all_ids(collector))
        assert 0 == collector.stop(signal.SIGTERM)


def all_ids(collector: CollectorProcess) -> list[str]:
    """Return the trace id of every row, by way of the API."""
    window = "endTs=1790000100000&lookback=200000000&limit=5000"
    traces = json.loads(collector.get(f"/api/v2/traces?{window}")[1])
    return [found["traceId"].zfill(32) for trace in traces for found in trace]


def test_log_records_come_from_their_own_topic(tmp_path: Path, real_address: str, topic: str):
    """What the client's reporter writes is what the collector reads: spans and log lines of one trace."""
    options = ["--kafka", real_address, "--kafka-topic", topic, "--kafka-group", topic]
    env = {**os.environ, "CLEW_REPORTER": f"kafka://{real_address}/{topic}"}
    with CollectorProcess(tmp_path / "data", *options) as collector:
        done = subprocess.run(
            [sys.executable, "-c", _SHOP], env=env, capture_output=True, text=True, timeout=110, check=False
        )
        assert 0 == done.returncode, done.stderr
        trace_id = done.stdout.strip()
        wait_until(lambda: len(collector.trace(trace_id)) == 1, PATIENCE_S)
        wait_until(lambda: "sold out" in collector.get(f"/api/v1/logs?traceId={trace_id}")[1], PATIENCE_S)
        assert 0 == collector.stop(signal.SIGTERM)


_SHOP = """
import logging
import clew
import clew.logging
clew.configure(service="shop", logs=True, exit_timeout=60)
clew.logging.install()
with clew.start_span("work") as work:
    logging.getLogger("shop").warning("sold out")
print(work.trace.trace_id)
"""


def test_an_orderly_end_hands_its_partitions_over_at_once(tmp_path: Path, real_address: str, topic: str):
    """SIGTERM stores what is in hand and leaves the group: others need not wait for a session to run out."""
    options = ["--kafka", f"{real_address}?session_timeout=300000", "--kafka-topic", topic, "--kafka-group", topic]
    with CollectorProcess(tmp_path / "first", *options) as first:
        wait_until(lambda: first.counter("kafka_partitions") == 5, PATIENCE_S)
        with CollectorProcess(tmp_path / "second", *options) as second:
            wait_until(lambda: second.counter("kafka_partitions") > 0, PATIENCE_S)
            wait_until(lambda: first.counter("kafka_partitions") + second.counter("kafka_partitions") == 5, PATIENCE_S)
            produce(real_address, topic, [message(span(number)) for number in range(50)])
            assert 0 == first.stop(signal.SIGTERM)
            wait_until(lambda: second.counter("kafka_partitions") == 5, PATIENCE_S)
            wait_until(lambda: committed(real_address, topic, topic) == 50, PATIENCE_S)
            stored = all_ids(second)
    with CollectorProcess(tmp_path / "first") as first:
        stored += all_ids(first)
    assert ids(*range(50)) == sorted(stored)


def test_brokers_that_are_away_are_waited_for(tmp_path: Path):
    """The collector starts, serves everything else, and ends at once."""
    with CollectorProcess(tmp_path / "data", "--kafka", "127.0.0.1:1") as collector:
        assert 200 == collector.get("/health")[0]
        assert "Kafka 127.0.0.1:1, zipkin" in "".join(collector.lines)
        assert 0 == collector.stop(signal.SIGTERM)


@pytest.mark.parametrize("wrong", ["b1:port", "b1/zipkin", "b1?color=blue", "b1?session_timeout=soon"])
def test_a_wrong_setting_says_so_and_shows_no_secret(tmp_path: Path, wrong: str):
    """In one sentence, and the text, which may hold a password, is not repeated."""
    process = start(tmp_path / "data", "--kafka", wrong)
    _, problem = process.communicate(timeout=PATIENCE_S)
    assert 2 == process.returncode
    assert "kafka = *** (from --kafka)" in problem
