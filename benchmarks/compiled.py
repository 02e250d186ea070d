"""Build clew's core with mypyc into ``.bench-venv/compiled``: how much would a compiled wheel gain?

The package itself stays pure Python; this is a measurement, of the very same source. If it cannot be compiled the
document says why, and the row is left out.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from benchmarks.environment import COMPILED, PYTHON, SOURCES, say

MODULES = ("_context", "_stack", "_span", "_propagation", "_sampler", "_tracer", "wire", "reporter")
_TIMEOUT_S = 240


def build() -> str | None:
    """Build, unless the sources are as they were. Returns None, or in one line why there is no compiled core."""
    sources = [Path(__file__), *(SOURCES / "clew").rglob("*.py")]
    newest = max(path.stat().st_mtime for path in sources)
    stamp = COMPILED / ".ready"
    if not stamp.exists() or stamp.stat().st_mtime < newest:
        say("Compiling the client core with mypyc (about 30 s)")
        _copy()
        problem = _compile() or _try_out()
        stamp.write_text(problem or "")
    return stamp.read_text() or None


def _copy() -> None:
    shutil.rmtree(COMPILED, ignore_errors=True)
    ignored = shutil.ignore_patterns("collector", "cli", "__pycache__")
    shutil.copytree(SOURCES / "clew", COMPILED / "clew", ignore=ignored)


def _compile() -> str | None:
    paths = [f"clew/{name}.py" for name in MODULES]
    environ = {**os.environ, "CFLAGS": "-w"}
    done = _run([str(PYTHON.parent / "mypyc"), "--ignore-missing-imports", *paths], environ)
    if done.returncode == 0:
        return None
    errors = [line for line in (done.stdout + done.stderr).splitlines() if "error:" in line]
    return f"mypyc: {errors[0].strip() if errors else 'failed'}"


def _try_out() -> str | None:
    """Do what the benchmark does once: some things compile and then do not work."""
    script = (
        "import clew, clew._tracer; assert clew._tracer.__file__.endswith('.so')\n"
        "clew.configure('x', 'none')\n"
        "with clew.start_span('a', kind='CLIENT', tags={'b': 'c'}): clew.get_trace_context()"
    )
    done = _run([str(PYTHON), "-c", script], {**os.environ, "PYTHONPATH": str(COMPILED)})
    return None if done.returncode == 0 else f"compiles, but: {done.stderr.strip().splitlines()[-1]}"


def _run(command: list[str], environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command, cwd=COMPILED, env=environ, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(command, 1, "", f"error: {error}")
