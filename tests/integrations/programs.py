"""Servers in processes of their own, started as their users start them; spans go to a file, lines to another."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from integrations.fresh import read_spans
from integrations.kit_common import fetch, wait_until

if TYPE_CHECKING:
    from types import TracebackType

    from integrations.kit_common import Response

TESTS = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
END_S = 30.0


class Program:
    """``with Program(folder, "gunicorn", "-b", "127.0.0.1:{port}", "app:app", run=True) as program: ...``.

    It runs in ``folder``. ``run``: under ``clew run``. When the block ends it has ended, too, by SIGTERM.
    """

    def __init__(self, folder: Path, *command: str, run: bool = True, ready: str = "/", **variables: str) -> None:
        self.spans_file = folder / "spans.jsonl"
        self.log_file = folder / "log"
        self._ready = ready
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("CLEW_")}
        environment |= {
            "PYTHONPATH": os.pathsep.join([str(folder), str(TESTS)]),
            "CLEW_REPORTER": f"file://{self.spans_file}",
            **variables,
        }
        launcher = [str(BIN / "clew"), "run", "--"] if run else []
        program = [str(BIN / command[0]), *(part.replace("{port}", str(self.port)) for part in command[1:])]
        with self.log_file.open("wb") as log:
            self._process = subprocess.Popen(
                [*launcher, *program],
                env=environment,
                stdout=log,
                stderr=log,
                cwd=folder,
                start_new_session=True,
            )

    def __enter__(self) -> Program:
        try:
            wait_until(self._answers)
        except BaseException:
            self._kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGTERM)
        try:
            self._process.wait(END_S)
        finally:
            self._kill()

    def _kill(self) -> None:
        """End what is left of it: workers that nobody waits for."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait()

    def _answers(self) -> bool:
        assert self._process.poll() is None, self.log()
        try:
            return bool(fetch(self.port, self._ready).status)
        except OSError:
            return False

    def get(self, path: str, *headers: tuple[str, str]) -> Response:
        return fetch(self.port, path, *headers)

    def log(self) -> str:
        return self.log_file.read_text()

    def spans(self, trace_id: str) -> list[dict]:  # type: ignore[type-arg]
        """The spans of one trace; after the end all are there."""
        return [span for span in read_spans(self.spans_file) if span["traceId"] == trace_id]

    def all_spans(self) -> list[dict]:  # type: ignore[type-arg]
        return read_spans(self.spans_file)
