"""Three collectors in one group on one store, killed at random moments under load; broker and store are killed, too.

At the end the spans in the table are those that the broker has acknowledged, each once, by id. A minute in CI; as long
as ``CLEW_SOAK_S`` says with ``make soak``. ``CLEW_SOAK_SEED`` repeats the schedule of an earlier run.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any

import clickhouse_connect
import pytest
from confluent_kafka import Producer

from collector.collector_process import start
from kafka.broker import make_topic
from kafka.clickhouse_server import ClickHouseServer

if TYPE_CHECKING:
    from pathlib import Path

    from kafka.broker import Broker

SOAK_S = float(os.environ.get("CLEW_SOAK_S", "60"))
SEED = int(os.environ.get("CLEW_SOAK_SEED", str(random.randrange(1_000_000))))
COLLECTORS = 3
PARTITIONS = 6
BETWEEN_KILLS_S = (0.5, 8.0)  # a collector may also be killed while it starts
BETWEEN_MESSAGES_S = 0.01
SPANS_A_MESSAGE = 5
SETTLE_S = 240  # for the rest, after the last kill, on a busy machine


class Load(threading.Thread):
    """Produces spans at a steady rate and remembers the ids of those that the broker has acknowledged."""

    def __init__(self, address: str, topic: str) -> None:
        super().__init__(daemon=True)
        self._topic = topic
        settings = {"bootstrap.servers": address, "log_level": 0, "enable.idempotence": True, "message.timeout.ms": 0}
        self._producer = Producer({**settings, "error_cb": lambda _: None})
        self._ended = threading.Event()
        self.acknowledged: set[str] = set()

    def run(self) -> None:
        number = 0
        while not self._ended.wait(BETWEEN_MESSAGES_S):
            number += 1
            ids = [f"{number * SPANS_A_MESSAGE + place:016x}" for place in range(SPANS_A_MESSAGE)]
            value = json.dumps([span(number, span_id) for span_id in ids]).encode()
            self._producer.produce(self._topic, value, f"{number:032x}", on_delivery=self._delivered(ids))
            self._producer.poll(0)

    def _delivered(self, ids: list[str]) -> Any:
        return lambda error, _: None if error else self.acknowledged.update(ids)

    def end(self) -> None:
        self._ended.set()
        self.join()
        assert self._producer.flush(120) == 0


def span(number: int, span_id: str) -> dict[str, Any]:
    at = {"timestamp": 1_790_000_000_000_000 + number, "duration": 5}
    return {"traceId": f"{number:032x}", "id": span_id, "name": "w", **at, "localEndpoint": {"serviceName": "soak"}}


@pytest.mark.timeout(SOAK_S + SETTLE_S + 240)
def test_nothing_is_lost_and_nothing_comes_twice(broker: Broker, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Whatever dies, at the end every acknowledged span is in the table, once."""
    chance = random.Random(SEED)
    topic = make_topic(broker.address, PARTITIONS)
    server = ClickHouseServer(tmp_path / "server")
    options = ["--store", server.url, "--kafka", f"{broker.address}?session_timeout=6000"]
    options += ["--kafka-topic", topic, "--kafka-group", topic]
    collectors = [start(tmp_path / f"data-{name}", *options) for name in range(COLLECTORS)]
    load = Load(broker.address, topic)
    load.start()
    kills, others = 0, 0
    try:
        began = time.monotonic()
        while (passed_s := time.monotonic() - began) < SOAK_S:
            threading.Event().wait(chance.uniform(*BETWEEN_KILLS_S))
            who = chance.randrange(COLLECTORS)
            kill(collectors[who])
            collectors[who] = start(tmp_path / f"data-{who}", *options)
            kills += 1
            if passed_s > SOAK_S * (others + 1) / (2 * (SOAK_S // 60 + 1)):
                other = (broker, server)[others % 2]
                others += 1
                other.kill()
                other.start()
        load.end()
        for who, collector in enumerate(collectors):
            if collector.poll() is not None:  # it was started while the store was away, which it said and ended
                kill(collector)
                collectors[who] = start(tmp_path / f"data-{who}", *options)
        rows = wait_for(server.url, len(load.acknowledged))
    finally:
        for collector in collectors:
            kill(collector)
        server.kill()
    with capsys.disabled():
        print(f"\nsoak: {len(load.acknowledged)} spans, {kills} kills, {others} of broker and store, seed {SEED}")
    twice = sorted(span_id for span_id, count in rows.items() if count > 1)
    assert ([], []) == (sorted(load.acknowledged - rows.keys())[:5], twice[:5]), f"seed {SEED}"
    assert load.acknowledged == rows.keys()


def kill(collector: subprocess.Popen[str]) -> None:
    collector.kill()
    collector.communicate()


def wait_for(url: str, count: int) -> dict[str, int]:
    """Wait until as many rows are there, and until no more come; return how often each span id is there."""
    client = clickhouse_connect.get_client(dsn=url)
    try:
        deadline = time.monotonic() + SETTLE_S
        before = -1
        while True:
            found = int(client.query("SELECT count() FROM spans").result_rows[0][0])
            if (found >= count and found == before) or time.monotonic() > deadline:
                break
            before = found
            threading.Event().wait(5)  # longer than a range takes that is on its way
        rows = client.query("SELECT lower(hex(span_id)), count() FROM spans GROUP BY span_id").result_rows
        return {str(span_id): int(often) for span_id, often in rows}
    finally:
        client.close()
