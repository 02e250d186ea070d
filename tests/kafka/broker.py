"""A real Apache Kafka broker on loopback (KRaft mode, jars from Maven Central), and librdkafka's mock beside it."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from clew.cli._processes import free_ports

if TYPE_CHECKING:
    from collections.abc import Sequence

START_S = 120  # a JVM on a busy machine
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "clew-tests"
POM = Path(__file__).with_name("pom.xml")
USER, PASSWORD = "clew", "secret-of-clew"

_PROPERTIES = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller},SASL://127.0.0.1:{sasl_port},TLS://127.0.0.1:{tls_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},SASL://127.0.0.1:{sasl_port},TLS://127.0.0.1:{tls_port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL:SASL_PLAINTEXT,TLS:SASL_SSL
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.name.sasl.sasl.enabled.mechanisms=PLAIN
listener.name.sasl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
 user_{user}="{password}";
listener.name.tls.sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.tls.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.tls.ssl.keystore.type=PKCS12
listener.name.tls.ssl.keystore.location={directory}/broker.p12
listener.name.tls.ssl.keystore.password={password}
log.dirs={directory}/data
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
num.partitions=4
"""


def why_none() -> str:
    """Say why no real broker can be started here; '' if one can."""
    missing = [name for name in ("java", "mvn") if shutil.which(name) is None]
    return f"no real broker: {', '.join(missing)} missing (apt-get install default-jre-headless maven)" * bool(missing)


def jars() -> Path:
    """Return the folder of the jars, fetched by Maven if they are not there."""
    folder = CACHE / f"kafka-{hashlib.sha256(POM.read_bytes()).hexdigest()[:12]}"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        fetched = Path(tempfile.mkdtemp(dir=folder.parent))
        command = ["mvn", "-q", "-B", "-f", str(POM), "dependency:copy-dependencies", "-DincludeScope=runtime"]
        subprocess.run([*command, f"-DoutputDirectory={fetched}"], check=True, timeout=600, stdout=sys.stderr)
        try:
            fetched.rename(folder)
        except OSError:  # another run was faster
            shutil.rmtree(fetched)
    return folder


class Broker:
    """One broker that can be killed and started again on the same data. Use as ``with``."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.port, self.sasl_port, self.tls_port, controller = free_ports(4)
        self.address = f"127.0.0.1:{self.port}"
        self._properties = directory / "server.properties"
        ports = {"port": self.port, "sasl_port": self.sasl_port, "tls_port": self.tls_port, "controller": controller}
        text = _PROPERTIES.format(**ports, directory=directory, user=USER, password=PASSWORD)
        self._properties.write_text(text, encoding="utf-8")
        self.certificate = _certificate(directory)
        user = f"SCRAM-SHA-512=[name={USER},password={PASSWORD}]"
        format_ = ["format", "-t", "MkU3OEVBNTcwNTJENDM2Qk", "--add-scram", user, "-c"]
        self._java("kafka.tools.StorageTool", *format_).wait(timeout=START_S)
        self.start()

    def __enter__(self) -> Broker:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it, and return when it answers."""
        self._process = self._java("kafka.Kafka")
        deadline = time.monotonic() + START_S
        while True:
            try:
                admin(self.address).list_topics(timeout=5)
                return
            except KafkaException:
                log = (self._directory / "broker.log").read_text(errors="replace")[-2_000:]
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError(f"the broker does not come up:\n{log}") from None

    def kill(self) -> None:
        """kill -9."""
        self._process.kill()
        self._process.wait()

    def _java(self, main: str, *arguments: str) -> subprocess.Popen[bytes]:
        java = ["java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{jars()}/*", main]
        with (self._directory / "broker.log").open("ab") as log:
            return subprocess.Popen([*java, *arguments, str(self._properties)], stdout=log, stderr=subprocess.STDOUT)


def _certificate(directory: Path) -> Path:
    """Make a key for the broker, and return the file of its certificate, which clients are to trust."""
    store = ["-alias", "broker", "-keystore", str(directory / "broker.p12"), "-storepass", PASSWORD]
    name = ["-dname", "CN=127.0.0.1", "-ext", "SAN=ip:127.0.0.1", "-keyalg", "RSA", "-validity", "3650"]
    path = directory / "broker.pem"
    for command in (["-genkeypair", "-storetype", "PKCS12", *name], ["-exportcert", "-rfc", "-file", str(path)]):
        subprocess.run(["keytool", *command, *store], check=True, timeout=START_S, capture_output=True)
    return path


_MOCK = """
import sys
from confluent_kafka import Producer
mock = Producer({"test.mock.num.brokers": 1, "log_level": 0})
broker = next(iter(mock.list_topics(timeout=60).brokers.values()))
print(f"{broker.host}:{broker.port}", flush=True)
sys.stdin.read()
"""


_MOCKS: set[str] = set()  # addresses


class MockBroker:
    """librdkafka's mock of a cluster, in a process of its own, so that tests can fork without it."""

    def __init__(self) -> None:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen([sys.executable, "-c", _MOCK], stdin=pipe, stdout=pipe, text=True)
        assert self._process.stdout is not None
        self.address = self._process.stdout.readline().strip()
        _MOCKS.add(self.address)

    def __enter__(self) -> MockBroker:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


class SilentBroker:
    """Takes connections and never answers: what a network looks like that loses packets."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"

    def __enter__(self) -> SilentBroker:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()


def admin(address: str) -> AdminClient:
    return AdminClient({"bootstrap.servers": address, "log_level": 0, "error_cb": lambda _: None})


def make_topic(address: str, partitions: int = 4, name: str = "", **config: str) -> str:
    """Make a topic of its own for a test, with its topics for log records; return its name."""
    name = name or f"zipkin-{uuid.uuid4().hex[:8]}"
    topics = [NewTopic(name, partitions, 1, config=config), NewTopic(f"{name}-logs", 1, 1, config=config)]
    if address in _MOCKS:  # which makes topics as they are named, and cannot be asked to
        return name
    client = admin(address)
    for made in client.create_topics(topics, request_timeout=60).values():
        made.result(timeout=60)
    return name


def produce(
    address: str, topic: str, messages: Sequence[tuple[bytes | None, bytes | None]], partition: int = -1
) -> None:
    """Produce (key, value) pairs, and return when the broker has them."""
    producer = Producer({"bootstrap.servers": address, "log_level": 0})
    errors: list[Any] = []
    for key, value in messages:
        producer.produce(
            topic,
            value,
            key,
            **({"partition": partition} if partition >= 0 else {}),
            on_delivery=lambda e, _: errors.append(e),
        )
        producer.poll(0)
    assert producer.flush(60) == 0
    assert [error for error in errors if error] == []


def consume(address: str, topic: str, count: int, timeout_s: float = 60) -> list[Any]:
    """Return the first messages of a topic; AssertionError when fewer come."""
    consumer = Consumer(
        {"bootstrap.servers": address, "group.id": uuid.uuid4().hex, "log_level": 0, "enable.auto.commit": False}
    )
    found: list[Any] = []
    deadline = time.monotonic() + timeout_s
    try:
        partitions: list[int] = []
        while not partitions:
            assert time.monotonic() < deadline, f"no topic {topic}"
            about = consumer.list_topics(topic, timeout=30).topics[topic]
            partitions = [] if about.error else list(about.partitions)
        consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
        while len(found) < count:
            assert time.monotonic() < deadline, f"{count} messages in {topic}, {len(found)} came"
            message = consumer.poll(0.2)
            if message is not None and message.error() is None:
                found.append(message)
    finally:
        consumer.close()
    return found


if __name__ == "__main__":  # before the tests, for a download may take longer than one of them
    print(why_none() or jars())
