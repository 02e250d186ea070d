"""Where it runs: the peers' virtual environment, the processes of a run, the machine as the document names it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "src"
VENV = ROOT / ".bench-venv"
PYTHON = VENV / "bin" / "python"
COMPILED = VENV / "compiled"  # a copy of clew whose core is compiled; put before the sources
_REQUIREMENTS = ROOT / "benchmarks" / "requirements.txt"
SHOWN = ("opentelemetry-sdk", "opentelemetry-instrumentation", "ddtrace", "py_zipkin", "asgi-correlation-id")
_SHOWN_ALSO = ("Flask", "starlette", "httpx", "requests", "mypy")


def say(text: str) -> None:
    """Tell the person who waits what is going on."""
    print(f"==> {text}", flush=True)


def prepare() -> None:
    """Make ``.bench-venv`` if it is not there or its requirements have changed."""
    stamp = VENV / ".ready"
    wanted = hashlib.sha256(_REQUIREMENTS.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    say("Making .bench-venv with the peers (once; about 40 s)")
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)], check=True)
    pip = [str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar", "on"]
    subprocess.run([*pip, "--requirement", str(_REQUIREMENTS)], check=True)
    stamp.write_text(wanted)


def environ(compiled: bool = False, **more: str) -> dict[str, str]:
    """Return the environment of a child process: clew from the tree, or its compiled copy; no option from outside."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("CLEW_", "OTEL_", "DD_"))}
    return {**kept, "PYTHONPATH": str(COMPILED if compiled else SOURCES), "PYTHONDONTWRITEBYTECODE": "", **more}


@contextlib.contextmanager
def sink() -> Iterator[dict[str, str]]:
    """Run the sink in a process of its own; gives the variables by which the libraries find it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.sink"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    http, udp = process.stdout.readline().split()
    try:
        yield {"BENCH_HTTP": f"127.0.0.1:{http}", "BENCH_UDP": f"127.0.0.1:{udp}"}
    finally:
        process.communicate()  # the end of its standard input is the end of it


def machine() -> dict[str, str]:
    """Return what a reader needs to judge the figures."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "memory": f"{memory:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "date": time.strftime("%Y-%m-%d"),
        "load": f"{load():.1f} when the run began",
    }


def load() -> float:
    """Return how many processes wanted a core, on average of the last minute."""
    return os.getloadavg()[0]


def versions(python: Path, names: tuple[str, ...] = SHOWN + _SHOWN_ALSO) -> dict[str, str]:
    """Return the versions of distributions in the environment of ``python``; those that are missing are left out."""
    script = (
        "import sys; from importlib.metadata import version, PackageNotFoundError\n"
        "for name in sys.argv[1:]:\n"
        "    try: print(name, version(name))\n"
        "    except PackageNotFoundError: pass"
    )
    lines = subprocess.run([str(python), "-c", script, *names], capture_output=True, text=True, check=True).stdout
    return dict(line.split(" ", 1) for line in lines.splitlines())


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
