"""``clew demo``: collector and shop as real processes, a few requests, one of them as a picture."""

from __future__ import annotations

import importlib.util
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from clew.brokers import NEEDED, parse_brokers
from clew.cli import _shop
from clew.cli._check import complaints
from clew.cli._client import DEFAULT_COLLECTOR, Collector, CommandError, NotFoundError
from clew.cli._processes import Processes, StartError, free_ports, is_free
from clew.cli.logs import get_logs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from clew.cli._shop import Answer, Service, Visit

READY_S: Final = 60.0  # a cold disk, one core, five interpreters and a database
COMPLETE_S: Final = 30.0
POLL_S: Final = 0.1
PAUSE_S: Final = 2.0  # between the requests of the traffic that goes on
USUAL_HTTP, USUAL_UDP = 9411, 9410
EXAMPLES = """\b
Examples:
  clew demo            keeps running, with light traffic, until Ctrl-C
  clew demo --once     checks that every request is one whole trace, then ends"""


@dataclass(frozen=True, slots=True)
class Stage:
    """What runs: the processes, the shop's front door, and the collector."""

    processes: Processes
    gateway: Service
    collector: Collector


@click.command(epilog=EXAMPLES)
@click.option("--once", is_flag=True, help="Send the requests, check that each is one complete trace, and end.")
@click.option("--http", metavar="HOST:PORT", help="Where the collector answers. Default: 127.0.0.1:9411 if free.")
@click.option("--udp", metavar="HOST:PORT", help="Where the collector takes UDP. Default: 127.0.0.1:9410 if free.")
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep the data there. Default: a temporary folder, removed at the end.",
)
@click.option("--kafka", metavar="BROKERS", help="Let one of the services send by way of Kafka: host:port,host:port.")
def demo(*, once: bool, http: str | None, udp: str | None, data_dir: Path | None, kafka: str | None) -> None:
    """See it work: a shop of five services, traced.

    Starts a collector and five processes in different frameworks (FastAPI, Flask on gunicorn, aiohttp, Starlette,
    plain threads), sends requests, some of which fail or are slow, and draws one of them with its log lines.
    """
    _require_frameworks()
    _require_kafka(kafka)
    try:
        with _terminated_like_interrupted(), _data(data_dir) as data, Processes(data / "output") as processes:
            stage = _set_stage(processes, data, http, udp, kafka)
            incomplete = _perform(stage)
            if not once:
                _keep_running(stage)
    except StartError as error:
        raise CommandError(str(error)) from None
    except KeyboardInterrupt:
        if once:
            raise
        _say("\nStopped.")
        return
    if incomplete:
        raise SystemExit(1)


def _require_frameworks() -> None:
    missing = [name for name in _shop.MODULES if importlib.util.find_spec(name) is None]
    if missing:
        raise CommandError(f"The shop needs {', '.join(missing)}: pip install 'clew[demo]'")


def _require_kafka(brokers: str | None) -> None:
    if not brokers:
        return
    if importlib.util.find_spec("confluent_kafka") is None:
        raise CommandError(NEEDED)
    try:
        parse_brokers(brokers)
    except ValueError as problem:
        raise CommandError(f"--kafka: {problem}") from None


@contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """Make SIGTERM and a closed terminal end the demo as Ctrl-C does, children first."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    numbers = [signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
    before = [(number, signal.signal(number, interrupt)) for number in numbers]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)


@contextmanager
def _data(data_dir: Path | None) -> Iterator[Path]:
    with nullcontext(str(data_dir)) if data_dir else tempfile.TemporaryDirectory(prefix="clew-demo-") as name:
        data = Path(name).resolve()
        (data / "output").mkdir(parents=True, exist_ok=True)
        yield data


def _set_stage(processes: Processes, data: Path, http: str | None, udp: str | None, kafka: str | None) -> Stage:
    """Start everything and return when all of it answers."""
    *ports, spare_http, spare_udp = free_ports(len(_shop.SERVICES) + 2)
    http = _address(http, USUAL_HTTP if is_free(USUAL_HTTP, socket.SOCK_STREAM) else spare_http, spare_http)
    udp = _address(udp, USUAL_UDP if is_free(USUAL_UDP, socket.SOCK_DGRAM) else spare_udp, spare_udp)
    shop = _shop.services(ports, udp, http, data, kafka)
    collector = Collector(f"http://{http}")
    _say("Starting the collector and five services ...")
    up = [sys.executable, "-m", "clew.cli", "up", "--http", http, "--udp", udp]
    up += ["--data-dir", str(data / "collector"), "--tail", str(data / "*.jsonl")]
    environment = _environment()
    if kafka:
        environment |= {"CLEW_KAFKA": kafka, "CLEW_KAFKA_TOPIC": _shop.TOPIC, "CLEW_KAFKA_GROUP": _shop.TOPIC}
    processes.start("collector", up, environment, data, f"{collector.url}/health")
    processes.wait_ready(READY_S)
    for service in shop:
        env = _shop.environment(service, shop, data, None)
        processes.start(service.name, service.command, env, _shop.folder(), f"{service.url}/health")
    processes.wait_ready(READY_S)
    for service in shop:
        how = service.reporter.partition("://")[0]
        _say(f"  {service.name:<9} {service.url}   spans by {how}")
    return Stage(processes, shop[-1], collector)


def _address(given: str | None, default_port: int, spare_port: int) -> str:
    """Return where to listen; port 0 is a free one, which the services must know before the collector has it."""
    if given is None:
        return f"127.0.0.1:{default_port}"
    host, _, port = given.rpartition(":")
    return f"{host}:{spare_port}" if port == "0" else given


def _environment() -> dict[str, str]:
    """Return this environment without CLEW_*: what is set for real services must not reach the demo's collector."""
    return {key: value for key, value in os.environ.items() if not key.startswith("CLEW_")}


def _perform(stage: Stage) -> int:
    """Send the requests, draw the first trace, say of each whether it is complete; return how many are not."""
    answers = [answer for together in _shop.VISITS for answer in _send(stage.gateway, together)]
    unfinished = _wait_complete(stage, answers)
    stage.processes.check()
    _draw(stage.collector, answers[0])
    _say(f"{len(answers)} requests, each one trace:")
    for answer in answers:
        _report(answer, unfinished.get(answer.trace_id or str(answer.visit), []))
    if unfinished:
        _say(f"\n{len(unfinished)} of {len(answers)} requests did not become one complete trace.")
    else:
        _say(f"\nEvery one of the {len(answers)} requests became one complete trace: one root, no span without its")
        _say("parent, every service there, each with its log lines under the same trace id.")
    return len(unfinished)


def _send(gateway: Service, together: Sequence[Visit]) -> list[Answer]:
    """Send requests at once and wait for all; StartError if the gateway does not answer."""
    with ThreadPoolExecutor(len(together)) as pool:
        try:
            return list(pool.map(lambda visit: _shop.pay_visit(visit, gateway), together))
        except OSError as broken:
            raise StartError(f"The shop does not answer: {broken}") from None


def _wait_complete(stage: Stage, answers: Sequence[Answer]) -> dict[str, list[str]]:
    """Ask the collector until every trace is complete; return what is still missing when time is up, by trace id."""
    deadline = time.monotonic() + COMPLETE_S
    missing = {answer.trace_id or str(answer.visit): ["not asked yet"] for answer in answers}
    while missing and time.monotonic() < deadline:
        for answer in answers:
            key = answer.trace_id or str(answer.visit)
            if key in missing:
                missing[key] = _missing(stage.collector, answer)
                if not missing[key]:
                    del missing[key]
        if missing:
            time.sleep(POLL_S)
    return missing


def _missing(collector: Collector, answer: Answer) -> list[str]:
    if not answer.trace_id:
        return ["the response carried no X-Trace-ID"]
    if answer.status not in answer.visit.passes:
        return [f"the answer was {answer.status}"]
    spans, logs = _trace(collector, answer.trace_id)
    return complaints(spans, logs, answer.trace_id, answer.services)


def _trace(collector: Collector, trace_id: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return spans and log records of a trace, both empty if nothing has arrived."""
    try:
        spans = collector.get(f"/api/v2/trace/{trace_id}")
    except NotFoundError:
        spans = []
    return spans, get_logs(collector, trace_id)


def _draw(collector: Collector, answer: Answer) -> None:
    from clew.cli._terminal import write
    from clew.cli.trace import picture

    spans, logs = _trace(collector, answer.trace_id)
    if spans:
        _say("")
        write(*picture(answer.trace_id, spans, logs, logs=True))
        _say("")


def _report(answer: Answer, missing: Sequence[str]) -> None:
    from rich.text import Text

    from clew.cli._terminal import write
    from clew.cli._text import visible

    mark = ("!", "bold red") if missing else ("ok", "green")
    status = (str(answer.status), "red" if answer.status >= 400 else "")
    write(
        Text.assemble(
            "  ", mark, "  ", (answer.trace_id or "no trace id".ljust(32), "dim"), "  ", status, f"  {answer.visit}"
        )
    )
    for complaint in missing:
        write(Text(f"      {visible(complaint)}", "red"))


def _keep_running(stage: Stage) -> None:
    """Say where to look, then send a request now and then until Ctrl-C or until a process ends."""
    elsewhere = stage.collector.url != DEFAULT_COLLECTOR
    _say(f"\nPage:    {stage.collector.url}/")
    _say(f"Try:     {f'export CLEW_COLLECTOR={stage.collector.url}' if elsewhere else 'in another terminal'}")
    clew = _own_command()
    _say(f"         {clew} ls --errors")
    _say(f"         {clew} trace last --logs")
    _say(f"         {clew} tail")
    _say(f"         curl -i {stage.gateway.url}/items/tea")
    _say("Light traffic goes on. Ctrl-C ends everything.")
    visits = [visit for together in _shop.VISITS for visit in together]
    chance = random.Random(_shop.SEED)
    while True:
        time.sleep(PAUSE_S)
        stage.processes.check()
        _send(stage.gateway, [chance.choice(visits)])


def _own_command() -> str:
    """Return what to type for `clew` here: after `make demo` it is in an environment that nobody activated."""
    beside = Path(sys.executable).with_name("clew")
    if shutil.which("clew") or not beside.exists():
        return "clew"
    return os.path.relpath(beside) if beside.is_relative_to(Path.cwd()) else str(beside)


def _say(text: str) -> None:
    click.echo(text)
    sys.stdout.flush()
