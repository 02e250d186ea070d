"""clew.testing: what users assert with."""

from __future__ import annotations

import subprocess
import sys

import clew
from clew.testing import FixedClock, MemorySender, SequentialIds, recorded


def test_whole_trace_can_be_asserted() -> None:
    """With a clock that stands and ids that count, a trace is a literal."""
    clock = FixedClock(1_700_000_000)
    with recorded("shop", clock=clock, ids=SequentialIds()) as spans:
        with clew.start_span("order"):
            clock.advance(0.001)
            with clew.start_span("db", kind="CLIENT", tags={"rows": 2}):
                clock.advance(0.25)
        assert [
            {
                "traceId": "00000000000040008000000000000001",
                "id": "0000000000000003",
                "parentId": "0000000000000002",
                "kind": "CLIENT",
                "name": "db",
                "timestamp": 1_700_000_000_001_000,
                "duration": 250_000,
                "localEndpoint": {"serviceName": "shop"},
                "tags": {"rows": "2"},
            },
            {
                "traceId": "00000000000040008000000000000001",
                "id": "0000000000000002",
                "name": "order",
                "timestamp": 1_700_000_000_000_000,
                "duration": 251_000,
                "localEndpoint": {"serviceName": "shop"},
            },
        ] == spans.spans()


def test_everything_is_put_back() -> None:
    """Afterwards the tracer, the context and the sources of time and ids are those from before."""
    before = clew.stats()
    with recorded(clock=FixedClock(), ids=SequentialIds()):
        clew.start_span("left open")
    assert clew.get_trace_context() is None
    assert before == clew.stats()
    with recorded() as spans:
        clew.start_span("x").finish()
        assert not spans.spans()[0]["id"].startswith("000000000000")


def test_traces_and_clear(clew_spans: MemorySender) -> None:
    """Spans by trace, and a fresh start within a test."""
    for name in ("a", "b"):
        with clew.start_span(name), clew.start_span(f"{name}.child"):
            pass
    assert [["a.child", "a"], ["b.child", "b"]] == [
        [span["name"] for span in trace] for trace in clew_spans.traces().values()
    ]
    clew_spans.clear()
    assert [] == clew_spans.spans()


def test_pytest_is_not_imported() -> None:
    """A program that uses the parts without pytest does not get pytest."""
    program = "import sys, clew.testing; print('pytest' in sys.modules, hasattr(clew.testing, 'clew_spans'))"
    assert "False False\n" == subprocess.check_output([sys.executable, "-c", program], text=True)


def test_fixture_is_a_plugin(tmp_path: object) -> None:
    """``pytest_plugins`` in a conftest is all that a user writes."""
    from pathlib import Path

    folder = Path(str(tmp_path))
    (folder / "conftest.py").write_text('pytest_plugins = ["clew.testing"]\n')
    (folder / "test_it.py").write_text(
        "import clew\n\ndef test_it(clew_spans):\n    clew.start_span('a').finish()\n"
        "    assert ['a'] == [span['name'] for span in clew_spans.spans()]\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_it.py"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert 0 == done.returncode, done.stdout
