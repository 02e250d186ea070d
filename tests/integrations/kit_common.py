"""What the conformance kits share: plain HTTP without any library that is traced, log lines as they were written."""

from __future__ import annotations

import contextlib
import copy
import http.client
import logging
import pickle
import re
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from clew.logging import stamp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

TRACE_ID = "463ac35c9f6413ad48485a3953bb6124"
SPAN_ID = "a2fb4a1d1a96d312"
DEADLINE_S = 20.0


class Response(NamedTuple):
    """An answer as it came; a connection cut in the middle of the body leaves what came until then."""

    status: int
    headers: list[tuple[str, str]]
    body: str

    def header(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]


class Connection:
    """A keep-alive connection that sends just the headers it is given, repeated ones too."""

    def __init__(self, port: int) -> None:
        self._http = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_S)

    def get(self, path: str, *headers: tuple[str, str], method: str = "GET", body: bytes = b"") -> Response:
        try:
            return self._exchange(path, headers, method, body)
        except (
            http.client.RemoteDisconnected,
            ConnectionResetError,
        ):  # servers close after a failure, not always at once
            self._http.close()
            return self._exchange(path, headers, method, body)

    def _exchange(self, path: str, headers: Iterable[tuple[str, str]], method: str, body: bytes) -> Response:
        self._http.putrequest(method, path, skip_accept_encoding=True)
        for name, value in headers:
            self._http.putheader(name, value)
        if body:
            self._http.putheader("Content-Length", str(len(body)))
        self._http.endheaders(body or None)
        answer = self._http.getresponse()
        try:
            text = answer.read()
        except http.client.IncompleteRead as cut:
            text = cut.partial
            self._http.close()
        return Response(answer.status, answer.getheaders(), text.decode())

    def close(self) -> None:
        self._http.close()


def fetch(port: int, path: str, *headers: tuple[str, str], method: str = "GET", body: bytes = b"") -> Response:
    """Send one request on a connection of its own."""
    with contextlib.closing(Connection(port)) as connection:
        return connection.get(path, *headers, method=method, body=body)


class LogLines(logging.Handler):
    """Keeps ``(logger, level, trace id)`` of every record, with the id that was active where it was written."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[tuple[str, int, str]] = []
        self.errors: list[BaseException] = []

    def emit(self, record: logging.LogRecord) -> None:
        stamp(record)
        self.lines.append((record.name, record.levelno, record.trace_id))  # type: ignore[attr-defined]
        if record.exc_info and record.exc_info[1]:
            self.errors.append(record.exc_info[1])

    def trace_ids(self, logger: str, level: int = logging.INFO) -> set[str]:
        return {trace_id for name, its_level, trace_id in list(self.lines) if name == logger and its_level >= level}


@contextlib.contextmanager
def log_lines(*loggers: str) -> Iterator[LogLines]:
    """Listen to these loggers, which then write to nobody else."""
    handler = LogLines()
    saved = []
    for name in loggers:
        logger = logging.getLogger(name)
        saved.append((logger, logger.level, logger.propagate, logger.handlers[:], logger.disabled))
        logger.setLevel(logging.INFO)
        logger.propagate = False
        logger.handlers[:] = [handler]
        logger.disabled = False
    try:
        yield handler
    finally:
        for logger, level, propagate, handlers, disabled in saved:
            logger.setLevel(level)
            logger.propagate, logger.handlers[:], logger.disabled = propagate, handlers, disabled


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread does after its response; fail when it does not come."""
    deadline = time.monotonic() + DEADLINE_S
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        pause.wait(0.01)


def without_times(span: dict) -> dict:  # type: ignore[type-arg]
    """A span without what differs from run to run: its own id and times, the caller's port, places in code."""
    kept = {key: value for key, value in span.items() if key not in ("id", "timestamp", "duration")}
    if "remoteEndpoint" in kept:
        kept["remoteEndpoint"] = {key: value for key, value in kept["remoteEndpoint"].items() if key != "port"}
    if "tags" in kept:
        kept["tags"] = {
            key: value for key, value in kept["tags"].items() if key not in ("error.stack", "code.location")
        }
    return kept


def conduct(found: object) -> dict[str, object]:
    """How an object takes what programs do with objects of libraries: to be compared with one that is not traced."""
    return {
        "attributes": sorted(getattr(found, "__dict__", {})),
        "repr": _without_addresses(repr(found)),
        "type": type(found),
        "copy": _outcome(lambda: copy.copy(found)),
        "deepcopy": _outcome(lambda: copy.deepcopy(found)),
        "pickle": _outcome(lambda: pickle.loads(pickle.dumps(found))),
    }


def _outcome(act: Callable[[], object]) -> object:
    try:
        made = act()
    except Exception as problem:
        return _without_addresses(f"{type(problem).__name__}: {problem}")
    return type(made), sorted(getattr(made, "__dict__", {}))


def _without_addresses(text: str) -> str:
    return re.sub(r"'Date': '[^']*'|0x[0-9a-f]+|127\.0\.0\.1:\d+|port=?,? ?\d+|<Task.*|id='?\d+", "...", text)


def stays_itself(values: Any) -> str:
    """Tell in one word whether what clew put among a request's values can be copied and pickled, and stays equal."""
    own = [value for value in values if type(value).__module__.startswith("clew.")]
    made = [copy.copy(own), copy.deepcopy(own), pickle.loads(pickle.dumps(own))]
    return "equal" if own and made == [own] * 3 else f"not equal: {own} {made}"
