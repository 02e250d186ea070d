"""The context in other processes' pools."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import clew
from clew.integrations.processes import _Job

PROGRAM = """
import asyncio, multiprocessing, sys
from concurrent.futures import ProcessPoolExecutor

import clew

clew.configure(service="pool", reporter="file://" + sys.argv[1])
clew.instrument("processes")


def trace_id(number=0):
    with clew.start_span("job"):
        return clew.get_trace_context().trace_id


def outside():
    return clew.get_trace_context()


def main():
    with clew.start_span("first") as first:
        pool = ProcessPoolExecutor(1, multiprocessing.get_context(sys.argv[2]))
        assert pool.submit(trace_id).result() == first.trace_id  # the worker begins here, inside the first trace
    assert pool.submit(outside).result() is None
    with clew.start_span("second") as second:
        assert list(pool.map(trace_id, range(3))) == [second.trace_id] * 3

    async def later():
        with clew.start_span("third") as third:
            return third.trace_id == await asyncio.get_running_loop().run_in_executor(pool, trace_id)

    assert asyncio.run(later())
    pool.shutdown()
    print("right")


if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_job_runs_in_the_trace_of_its_submitter(tmp_path: Path, method: str) -> None:
    """A worker that began inside one trace runs the next trace's jobs in theirs, and reports its spans."""
    program, spans = tmp_path / "pool.py", tmp_path / "spans.jsonl"
    program.write_text(textwrap.dedent(PROGRAM))
    source = str(Path(clew.__file__).parent.parent)
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", str(program), str(spans), method],
        capture_output=True,
        text=True,
        timeout=60,
        env={"PYTHONPATH": source, "PATH": "/usr/bin:/bin"},
        check=False,
    )
    assert ("right\n", "") == (done.stdout, done.stderr)
    names = sorted(json.loads(line)["name"] for line in spans.read_text().splitlines())
    assert ["first", *["job"] * 5, "second", "third"] == names


def test_job_passes_results_and_errors_unchanged() -> None:
    """What the function gives or raises is what the pool gets; what was active before is so again."""
    with clew.start_span("work") as work:
        job = _Job(int, None)
        assert 7 == job("7")
        with pytest.raises(ValueError, match="invalid literal"):
            job("seven")
        assert work.span_id == clew.get_trace_context().span_id  # type: ignore[union-attr]
