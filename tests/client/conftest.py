"""A clean tracer for each test, reporting to memory, and processes of their own for what ends or forks one."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import clew
from clew._context import current
from client.recording import RecordingSender

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SOURCE = str(Path(clew.__file__).parent.parent)


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    """Begin outside any trace; end with nothing queued and no reporter's thread."""
    for name in [name for name in os.environ if name.startswith("CLEW_")]:
        del os.environ[name]
    current.set(None)
    yield
    current.set(None)
    clew.shutdown(0.0)


@pytest.fixture
def sender() -> RecordingSender:
    """Configure clew to report into memory; ``clew.flush()`` makes it arrive."""
    recording = RecordingSender()
    clew.configure(service="test", reporter=recording, flush_interval=0.01)
    return recording


@pytest.fixture
def run_program(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a program's text in a process of its own; fail unless it ends with ``exit_code``."""

    def run(text: str, *arguments: str, exit_code: int = 0, **env: str) -> subprocess.CompletedProcess[str]:
        path = tmp_path / "program.py"
        path.write_text(textwrap.dedent(text))
        clean = {name: value for name, value in os.environ.items() if not name.startswith("CLEW_")}
        process = subprocess.run(
            [sys.executable, str(path), *arguments],
            env={**clean, "PYTHONPATH": SOURCE, **env},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (exit_code, "") == (process.returncode, process.stderr if exit_code == 0 else ""), process.stderr
        return process

    return run


def stack_free(tags: dict[str, Any]) -> dict[str, Any]:
    """Leave out the traceback, which holds line numbers."""
    return {key: value for key, value in tags.items() if key != "error.stack"}
