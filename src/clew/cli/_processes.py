"""Child processes that never outlive their parent's command, and what they said when they fail. For `clew demo`."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

STOP_S: Final = 10.0  # the collector drains its queue after SIGTERM; what still runs then is killed
LAST_LINES: Final = 80  # two workers of a server may fail at once, each with a traceback
PR_SET_PDEATHSIG: Final = 1  # <linux/prctl.h>
POLL_S: Final = 0.05


# Looked up before the fork: between fork and exec nothing may be loaded.
_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


class StartError(Exception):
    """A process ended or did not answer in time; the message has the last lines of its output."""


@dataclass(frozen=True, slots=True)
class Process:
    """A started program, the file that has its output, and the address that says whether it is ready."""

    name: str
    child: subprocess.Popen[bytes]
    output: Path
    health: str


class Processes:
    """Starts programs, each the leader of its own process group, and ends all of them, workers too, on leaving.

    A context manager. The groups of their own keep Ctrl-C away from the children: they are stopped in order, the last
    one started first, so that the collector outlives those who send to it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: list[Process] = []

    def start(self, name: str, command: Sequence[str], env: Mapping[str, str], cwd: Path, health: str) -> None:
        """Start a program, its output in ``<name>.log`` in the folder. `health` answers 200 when it is ready."""
        output = self._folder / f"{name}.log"
        with output.open("wb") as file:
            child = subprocess.Popen(  # noqa: S603 # commands of our own
                command,
                env=dict(env),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )
        self._running.append(Process(name, child, output, health))

    def wait_ready(self, timeout_s: float) -> None:
        """Return when every program answers; StartError with its last words if one ends or is not ready in time."""
        deadline = time.monotonic() + timeout_s
        for process in self._running:
            while not _answers(process.health):
                self.check()
                if time.monotonic() > deadline:
                    raise StartError(f"{process.name} does not answer at {process.health}.\n{_last_lines(process)}")
                time.sleep(POLL_S)

    def check(self) -> None:
        """Raise StartError if a program has ended by itself."""
        for process in self._running:
            code = process.child.poll()
            if code is not None:
                raise StartError(f"{process.name} ended with code {code}.\n{_last_lines(process)}")

    def stop(self) -> None:
        """End everything, in reverse order; returns when all of it is gone. Ctrl-C meanwhile kills the rest at once."""
        try:
            for process in reversed(self._running):
                _signal_group(process, signal.SIGTERM)
                try:
                    process.child.wait(STOP_S)
                except subprocess.TimeoutExpired:
                    pass
        finally:
            for process in self._running:
                _signal_group(process, signal.SIGKILL)  # a worker may outlive its leader
                process.child.wait()
            self._running.clear()

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()


def free_ports(count: int, host: str = "127.0.0.1") -> list[int]:
    """Return different ports that nobody listens on, for TCP; all are held until the last is found."""
    sockets = [socket.create_server((host, 0)) for _ in range(count)]
    try:
        return [found.getsockname()[1] for found in sockets]
    finally:
        for held in sockets:
            held.close()


def is_free(port: int, kind: socket.SocketKind, host: str = "127.0.0.1") -> bool:
    """Tell whether a port can be listened on."""
    with socket.socket(socket.AF_INET, kind) as probe:
        if kind == socket.SOCK_STREAM:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def _end_with_parent() -> None:
    """Have Linux send SIGTERM to this new process when its parent is gone, killed perhaps before it could clean up."""
    if _prctl is not None:
        _prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _answers(url: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        # Whether a service is ready is nothing to trace: the header tells it not to report this request.
        with opener.open(urllib.request.Request(url, headers={"X-Sampled": "0"}), timeout=2) as answer:  # noqa: S310
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def _signal_group(process: Process, number: signal.Signals) -> None:
    try:
        os.killpg(process.child.pid, number)
    except (ProcessLookupError, PermissionError):  # macOS answers with the second for a group of zombies
        return


def _last_lines(process: Process) -> str:
    with process.output.open(encoding="utf-8", errors="replace") as file:
        return "".join(deque(file, LAST_LINES)).rstrip() or "(it said nothing)"
