"""The reporter ``kafka://``: what arrives, what is counted, and that a broker that is away costs nothing."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

import clew
from clew.senders import SendError
from clew.senders.kafka import KafkaSender
from client.conftest import SOURCE
from client.servers import free_port
from collector.collector_process import wait_until
from kafka.broker import PASSWORD, USER, MockBroker, SilentBroker, consume, make_topic

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kafka.broker import Broker


@pytest.fixture(autouse=True)
def ended() -> Iterator[None]:
    """Nothing of a test stays configured."""
    yield
    clew.configure(service="test", reporter="none")
    clew.shutdown()


def finish(count: int, name: str = "work") -> None:
    for number in range(count):
        with clew.start_span(f"{name} {number}"), clew.start_span("within"):
            pass


def test_messages_hold_whole_traces_by_key(address: str):
    """A message is a JSON array of the spans of one trace, its key the trace id: what Zipkin's collector reads."""
    topic = make_topic(address)
    clew.configure(service="test", reporter=f"kafka://{address}/{topic}")
    finish(100)
    assert clew.flush(60)
    messages = consume(address, topic, 100)
    for message in messages:
        spans = json.loads(message.value())
        assert ["within"] == [span["name"] for span in spans if "parentId" in span]
        assert {message.key().decode()} == {span["traceId"] for span in spans}
    assert 200 == clew.stats()["reported"]
    assert 0 == clew.stats()["dropped"]


def test_log_records_have_a_topic_of_their_own(address: str):
    """They go to the topic with -logs behind it, in the form of ``POST /api/v1/logs``, by the key of their trace."""
    topic = make_topic(address)
    program = f"""
import logging
import clew
import clew.logging
clew.configure(service="shop", reporter="kafka://{address}/{topic}", logs=True, exit_timeout=60)
clew.logging.install()
with clew.start_span("work"):
    logging.getLogger("shop").warning("sold out")
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=110)
    (message,) = consume(address, f"{topic}-logs", 1)
    (record,) = json.loads(message.value())["logs"]
    assert "sold out" == record["message"]
    assert message.key().decode() == record["traceId"]


def test_a_broker_that_comes_late_gets_what_waited(tmp_path: object):
    """While it is away the batch is kept, once, and its delivery is waited for."""
    port = free_port()
    clew.configure(service="test", reporter=f"kafka://127.0.0.1:{port}/zipkin")
    finish(10)
    assert not clew.flush(0.5)
    assert {"reported": 0, "queued": 20}.items() <= clew.stats().items()
    relay = subprocess.Popen([sys.executable, "-c", _RELAY, str(port)], stdout=subprocess.PIPE, text=True)
    assert relay.stdout is not None
    try:
        address = relay.stdout.readline().strip()
        wait_until(lambda: clew.flush(5) and clew.stats()["reported"] == 20, 90)
        assert 10 == len(consume(address, "zipkin", 10))
        with pytest.raises(AssertionError, match="10 came"):
            consume(address, "zipkin", 11, timeout_s=2)
    finally:
        relay.kill()
        relay.communicate()


# The mock chooses its own port, so a relay in front of it makes it come up where the reporter looks for it.
_RELAY = """
import socket, sys, threading
from confluent_kafka import Producer
mock = Producer({"test.mock.num.brokers": 1, "log_level": 0})
broker = next(iter(mock.list_topics(timeout=60).brokers.values()))
print(f"{broker.host}:{broker.port}", flush=True)
def pump(a, b):
    while data := a.recv(65536):
        b.sendall(data)
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    near, _ = server.accept()
    far = socket.create_connection((broker.host, broker.port))
    for pair in ((near, far), (far, near)):
        threading.Thread(target=pump, args=pair, daemon=True).start()
"""


def test_a_broker_that_is_away_fills_nothing():
    """A bounded number of spans waits; the rest is dropped and counted; the end does not wait."""
    clew.configure(service="test", reporter=f"kafka://127.0.0.1:{free_port()}/zipkin", queue_size=100)
    finish(1_000)
    wait_until(lambda: clew.stats()["errors"] > 0, 60)
    finish(1_000)
    stats = clew.stats()
    assert 4_000 == stats["queued"] + stats["dropped"]
    assert stats["queued"] <= 200
    assert not clew.shutdown(timeout=30)
    stats = clew.stats()
    assert (0, 0, 4_000) == (stats["reported"], stats["queued"], stats["dropped"])


def test_a_network_that_swallows_packets_delays_the_end_by_no_more_than_was_allowed():
    """A broker that takes connections and never answers: counted as send_failed after the time given."""
    with SilentBroker() as silent:
        program = f"""
import clew
clew.configure(service="test", reporter="kafka://{silent.address}/zipkin", exit_timeout=1)
with clew.start_span("work"):
    pass
"""
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
        assert 0 == done.returncode
        assert "1 span could not be sent before the process ended" in done.stderr


@pytest.mark.parametrize("end", ["pass", "os._exit(0)", "os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)"])
def test_every_end_of_a_process_delivers(address: str, end: str):
    """A normal end, os._exit and SIGTERM deliver what is queued, in parents and in forked children."""
    topic = make_topic(address)
    program = f"""
import os, signal, sys, time
import clew
clew.configure(service="test", reporter="kafka://{address}/{topic}", exit_timeout=50)
with clew.start_span("before the fork"):
    pass
assert clew.flush(50)
child = os.fork()
with clew.start_span("child" if child == 0 else "parent"):
    pass
if child:
    os.waitpid(child, 0)
{end}
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=110, check=False)
    assert "" == done.stderr
    names = sorted(json.loads(message.value())[0]["name"] for message in consume(address, topic, 3))
    assert ["before the fork", "child", "parent"] == names


def test_a_child_that_uses_nothing_ends_as_usual(address: str):
    """The parent's producer is neither used nor freed by a child: both would wait for threads that are not there."""
    topic = make_topic(address)
    program = f"""
import os, sys
import clew
clew.configure(service="test", reporter="kafka://{address}/{topic}", exit_timeout=50)
with clew.start_span("before the fork"):
    pass
assert clew.flush(50)
child = os.fork()
if child == 0:
    clew.shutdown()
    sys.exit(3)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=110, check=False)
    assert ("3\n", "") == (done.stdout, done.stderr)


def test_what_a_broker_refuses_is_counted_apart(real_address: str):
    """A topic that takes small messages only: the one large trace is refused, the others are reported."""
    topic = make_topic(real_address, **{"max.message.bytes": "2000"})
    clew.configure(service="test", reporter=f"kafka://{real_address}/{topic}?compression=none")
    finish(5)
    with clew.start_span("large", tags={str(key): "x" * 900 for key in range(10)}):
        pass
    assert clew.flush(60)
    assert {"reported": 10, "refused": 1, "dropped": 1}.items() <= clew.stats().items()
    assert 5 == len(consume(real_address, topic, 5))


def test_sasl_is_spoken(broker: Broker):
    """User and password in the URL; a wrong one is said without showing it."""
    topic = make_topic(broker.address)
    clew.configure(service="test", reporter=f"kafka://{USER}:{PASSWORD}@127.0.0.1:{broker.sasl_port}/{topic}")
    finish(1)
    assert clew.flush(60)
    sender = KafkaSender(f"kafka://{USER}:wrong-one@127.0.0.1:{broker.sasl_port}/{topic}")
    try:
        wait_until(lambda: "uthentication" in problem_of(sender), 60)  # the broker answers a wrong password late
        assert "wrong-one" not in problem_of(sender)
    finally:
        sender.close()


def test_tls_is_spoken(broker: Broker):
    """With the broker's certificate it works; without, the reason is said, and nothing goes out."""
    topic = make_topic(broker.address)
    secured = f"kafka://{USER}:{PASSWORD}@127.0.0.1:{broker.tls_port}/{topic}?sasl=SCRAM-SHA-512"
    clew.configure(service="test", reporter=f"{secured}&ca={broker.certificate}")
    finish(1)
    assert clew.flush(60)
    sender = KafkaSender(f"{secured}&tls=yes")
    try:
        wait_until(lambda: "certificate verify failed" in problem_of(sender), 60)
    finally:
        sender.close()


def problem_of(sender: KafkaSender) -> str:
    """Return what a try to send says."""
    with pytest.raises(SendError) as caught:
        sender.send([b'{"traceId":"1"}'])
    return str(caught.value)


def test_a_broker_that_restarts_loses_nothing_and_gets_nothing_twice(broker: Broker):
    """Killed in the middle of the traffic: at the end every span is in the topic once."""
    topic = make_topic(broker.address)
    clew.configure(service="test", reporter=f"kafka://{broker.address}/{topic}", queue_size=100_000)
    finish(500, "before")
    broker.kill()
    finish(500, "while")
    broker.start()
    finish(500, "after")
    wait_until(lambda: clew.flush(5), 100)
    assert {"reported": 3_000, "dropped": 0}.items() <= clew.stats().items()
    keys = [message.key() for message in consume(broker.address, topic, 1_500)]
    assert 1_500 == len(set(keys))
    with pytest.raises(AssertionError, match="1500 came"):
        consume(broker.address, topic, 1_501, timeout_s=5)


def test_configuring_opens_nothing():
    """No thread before the first span, so a preloading server forks without any."""
    program = """
import os
import clew
clew.configure(service="test", reporter="kafka://127.0.0.1:1/zipkin")
print(len(os.listdir("/proc/self/task")))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert "1\n" == done.stdout


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("kafka://b1/", "no name of a topic"),
        ("kafka://b1/a b", "no name of a topic"),
        ("kafka:///zipkin", "expected brokers as host:port"),
        ("kafka://b1:0/zipkin", "expected brokers as host:port"),
        ("kafka://b1/zipkin?compression=lzma", "compression='lzma': one of none, gzip, snappy, lz4, zstd"),
        ("kafka://b1/zipkin?linger=soon", "linger='soon' is not a whole number"),
        ("kafka://b1/zipkin?color=blue", "unknown option 'color'; known: compression, linger"),
        ("kafka://u:pa55@b1/zipkin?sasl=MD5", "sasl is one of PLAIN"),
        ("kafka://b1/zipkin?sasl=PLAIN", "needs username and password"),
        ("kafka://b1/zipkin?ca=/nowhere.pem", "ca='/nowhere.pem' cannot be read"),
        ("kafka://b1/zipkin?tls=perhaps", "tls is yes or no"),
    ],
)
def test_wrong_urls_say_what_would_be_right(url: str, words: str):
    """Misuse raises at once, in words, and shows no password."""
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        clew.configure(service="test", reporter=url)
    assert "pa55" not in str(caught.value)


def test_without_the_package_the_message_says_what_to_install():
    """``pip install 'clew[kafka]'``."""
    program = f"""
import sys
sys.path.insert(0, {str(SOURCE)!r})
import clew
clew.configure(service="test", reporter="kafka://b1/zipkin")
"""
    done = subprocess.run(
        [sys.executable, "-S", "-E", "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert "pip install 'clew[kafka]'" in done.stderr.splitlines()[-1]


def test_a_closed_sender_opens_again(address: str):
    """After close() the next message makes a new producer; close() twice is fine."""
    topic = make_topic(address)
    sender = KafkaSender(f"kafka://{address}/{topic}")
    for number in range(2):
        sender.send([b'{"traceId":"%d"}' % number])
        sender.close()
        sender.close()
    assert 2 == len(consume(address, topic, 2))


def test_a_batch_that_was_given_up_does_not_come_later():
    """What the reporter has dropped and counted is purged, and not delivered behind its back."""
    with SilentBroker() as silent:
        sender = KafkaSender(f"kafka://{silent.address}/zipkin")
        sender.timeout_s = 0.2
        with pytest.raises(SendError):
            sender.send([b'{"traceId":"1"}'])
        began = time.monotonic()
        sender.close()
        assert time.monotonic() - began < 30


def test_mock_serves_where_no_real_broker_is():
    """The mock of librdkafka starts and names its address."""
    with MockBroker() as mock:
        assert mock.address.startswith("127.0.0.1:")
