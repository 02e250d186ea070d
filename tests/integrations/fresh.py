"""Programs in an interpreter of their own, which import what their user would and nothing else.

A test of a hook that runs beside other tests finds modules that those have imported, and so cannot see that the hook
waits for an import that never comes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

IN_CODE = "import clew\nclew.configure()\nclew.instrument()\n"
MARK = "# instrument here\n"
WAYS = ("first", "last", "run")
TIMEOUT_S = 60


@dataclass(frozen=True)
class Ended:
    """What a program left: its lines on standard output, what it said on standard error, its spans."""

    lines: list[str]
    errors: str
    spans: list[dict[str, Any]]


def run_fresh(program: str, folder: Path, way: str = "first", *options: str, **variables: str) -> Ended:
    """Run a program to its end and expect it to succeed.

    ``way``: turned on in code before everything else (``first``) or where the program has ``MARK`` (``last``), or from
    outside by ``clew run``; with any other word not at all.
    """
    code = {"first": IN_CODE + program, "last": program.replace(MARK, IN_CODE)}.get(way, program)
    path, spans = folder / "program.py", folder / "spans.jsonl"
    path.write_text(code)
    drop = ("CLEW_", "PYTHONPATH")
    env = {key: value for key, value in os.environ.items() if not key.startswith(drop)}
    env |= {"CLEW_SERVICE": "fresh", "CLEW_REPORTER": f"file://{spans}", "PYTHONWARNINGS": "ignore"} | variables
    launcher = [sys.executable, "-m", "clew.cli", "run", *options, "--"] if way == "run" else []
    done = subprocess.run(
        [*launcher, sys.executable, str(path)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        env=env,
        cwd=folder,
        check=False,
    )
    assert 0 == done.returncode, done.stdout + done.stderr
    return Ended(done.stdout.splitlines(), done.stderr, read_spans(spans))


def read_spans(path: Path) -> list[dict[str, Any]]:
    """Read what a file reporter wrote."""
    found: list[dict[str, Any]] = []
    for line in path.read_text().splitlines() if path.exists() else []:
        decoded = json.loads(line)
        if not isinstance(decoded, dict) or "logs" not in decoded:
            found += decoded if isinstance(decoded, list) else [decoded]
    return found
