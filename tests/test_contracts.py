"""What users rely on beyond behaviour: imports, names, documentation, layers, and how far a span travels."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import clew
from client.recording import RecordingSender

ROOT = Path(__file__).parent.parent
SOURCE = Path(clew.__file__).parent

# What `import clew` may load beyond a bare interpreter: nothing slow (no logging, asyncio, json, socket, inspect).
IMPORTS = {
    "__future__",
    "_bisect",
    "_collections",
    "_collections_abc",
    "_contextvars",
    "_functools",
    "_json",
    "_opcode",
    "_operator",
    "_random",
    "_sha2",
    "_sha512",
    "_sre",
    "_stat",
    "_struct",
    "_tokenize",
    "_typing",
    "_weakrefset",
    "atexit",
    "bisect",
    "collections",
    "contextlib",
    "contextvars",
    "copyreg",
    "enum",
    "functools",
    "gc",
    "genericpath",
    "importlib",
    "itertools",
    "keyword",
    "math",
    "operator",
    "os",
    "posixpath",
    "random",
    "re",
    "reprlib",
    "stat",
    "threading",
    "types",
    "typing",
    "warnings",
    "weakref",
}

CLIENT_MODULES = {
    "clew",
    "clew._clock",
    "clew._context",
    "clew._exits",
    "clew._options",
    "clew._outage",
    "clew._propagation",
    "clew._sampler",
    "clew._alarms",
    "clew._secrets",
    "clew._span",
    "clew._stack",
    "clew._traced",
    "clew._tracer",
    "clew.integrations",
    "clew.integrations._imports",
    "clew.reporter",
    "clew.senders",
    "clew.wire",
}
if sys.version_info < (3, 13):  # whose context variables need a guard
    CLIENT_MODULES.add("clew._guarded")

MAX_CALLS = 35
MAX_FILES = 8


def loaded_by(statement: str) -> set[str]:
    """Name the modules that a statement loads in a bare interpreter: no site, no environment."""
    program = (
        f"import sys; sys.path.insert(0, {str(SOURCE.parent)!r}); before = set(sys.modules)\n"
        f"{statement}\nprint(*sorted(set(sys.modules) - before))"
    )
    command = [sys.executable, "-S", "-E", "-c", program]
    return set(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.split())


def test_import_loads_little():
    """Only small modules of the standard library; the list is literal so that each addition is a decision."""
    found = {name for name in loaded_by("import clew") if not name.startswith("clew")}
    tops = {name.split(".")[0] for name in found}
    assert tops <= IMPORTS, sorted(tops - IMPORTS)


def test_import_loads_the_client_only():
    """No collector, no command line, no integration, no sender that was not asked for."""
    assert {name for name in loaded_by("import clew") if name.startswith("clew")} == CLIENT_MODULES


def test_client_needs_no_third_party_module():
    """All client modules import in an interpreter without site-packages."""
    modules = "clew.logging, clew.senders.udp, clew.senders.http, clew.senders.file"
    found = {name.split(".")[0] for name in loaded_by(f"import clew, {modules}")}
    assert found <= sys.stdlib_module_names | {"clew"}, sorted(found - sys.stdlib_module_names)


def test_public_names_are_exact():
    """What the documentation promises, and nothing by accident."""
    assert sorted(clew.__all__) == [
        "Span",
        "TraceContext",
        "configure",
        "finish_span",
        "flush",
        "get_trace_context",
        "instrument",
        "reset_trace_context",
        "set_trace_context",
        "shutdown",
        "start_span",
        "stats",
        "traced",
        "uninstrument",
    ]
    assert all(getattr(clew, name).__doc__ for name in clew.__all__)


def test_trace_context_is_what_was_promised():
    """Four fields in this order."""
    assert clew.TraceContext._fields == ("trace_id", "span_id", "parent_id", "sampled")
    parameters = list(inspect.signature(clew.set_trace_context).parameters)
    assert parameters == ["trace_id", "span_id", "parent_id"]


@pytest.mark.parametrize("readme", ["README.md", "README.zh-CN.md"])
def test_every_option_is_documented(readme: str):
    """The configuration table has a line for each option, with its variable."""
    text = (ROOT / readme).read_text(encoding="utf-8")
    rows = "\n".join(line for line in text.splitlines() if line.startswith("|"))
    missing = [
        name for name in inspect.signature(clew.configure).parameters if not re.search(rf"`CLEW_{name.upper()}`", rows)
    ]
    assert missing == []


def test_layers_point_one_way():
    """The contracts of pyproject.toml, as ``make lint`` checks them."""
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert result.returncode == 0, result.stdout


def test_types_are_shipped():
    """``py.typed`` lies beside the code."""
    assert (SOURCE / "py.typed").is_file()


def test_span_path_is_short():
    """From start_span over two tags and finish to send(): at most 35 own calls in 8 files, both threads together."""
    calls: list[tuple[str, str]] = []

    def note(frame: object, event: str, _: object) -> None:
        code = frame.f_code  # type: ignore[attr-defined]
        if event == "call" and code.co_filename.startswith(str(SOURCE)):
            calls.append((Path(code.co_filename).name, code.co_name))

    class Sender(RecordingSender):
        def send(self, messages: list[bytes], kind: str = "spans") -> None:
            if b'"work"' in messages[0]:
                sys.setprofile(None)
            super().send(messages, kind)

    import threading

    sender = Sender()
    threading.setprofile(note)
    try:
        clew.configure(service="test", reporter=sender, flush_interval=600)  # the thread wakes for flush(), once
        clew.start_span("first").finish()  # starts the thread, once in a process
        assert clew.flush()
        calls.clear()
        sys.setprofile(note)
        with clew.start_span("work", tags={"a": "b"}) as span:
            span.tag("c", "d")
        sys.setprofile(None)
        assert clew.flush()
    finally:
        threading.setprofile(None)
        sys.setprofile(None)
        clew.shutdown()
    assert ["first", "work"] == [span["name"] for span in sender.spans]
    assert len(calls) <= MAX_CALLS, calls
    assert len({file for file, _ in calls}) <= MAX_FILES, calls
