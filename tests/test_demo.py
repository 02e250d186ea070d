"""`clew demo` for real: collector, five services, requests, and nothing left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from clew.cli.demo import _own_command
from command_line import clean_environment

pytestmark = pytest.mark.timeout(180)  # six interpreters and a database on a machine that runs other things too
SERVICES = ("gateway", "orders", "stock", "payments", "mailer")


def demo(folder: Path, *arguments: str) -> list[str]:
    """Return the command for a demo of our own: free ports, data in the folder."""
    addresses = ["--http", "127.0.0.1:0", "--udp", "127.0.0.1:0"]
    return [sys.executable, "-u", "-m", "clew.cli", "demo", *addresses, "--data-dir", str(folder), *arguments]


def processes_of(folder: Path) -> list[int]:
    """Return the processes that know of the folder by their command line or environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                known = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            except OSError:
                continue
            if str(folder).encode() in known:
                found.append(int(entry.name))
    return found


def test_demo_once_makes_every_request_one_complete_trace(tmp_path: Path) -> None:
    """Exit code 0, a waterfall with all five services, and every request checked."""
    done = subprocess.run(
        demo(tmp_path, "--once"),
        capture_output=True,
        text=True,
        timeout=150,
        env=clean_environment(COLUMNS="120"),
        check=False,
    )
    assert 0 == done.returncode, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    results = [line.split() for line in lines if re.match(r"  (ok|!)  ", line)]
    assert ["200", "200", "404", "200", "402", "502", "409", "200", "200", "200", "200", "200"] == [
        r[2] for r in results
    ]
    assert 12 == len({r[1] for r in results if re.fullmatch("[0-9a-f]{32}", r[1]) and r[0] == "ok"})
    picture = lines[next(i for i, line in enumerate(lines) if line.startswith("post /checkout")) :]
    assert [] == [name for name in SERVICES if not any(re.search(rf"(^|[ ─]){name} ", line) for line in picture)]
    assert [] == [line for line in picture[:50] if len(line) > 120]
    assert "Every one of the 12 requests became one complete trace" in done.stdout
    assert [] == processes_of(tmp_path)


def test_demo_once_fails_when_a_service_leaves_nothing_behind(tmp_path: Path) -> None:
    """Exit code 1, and for each request that should have passed it what is missing."""
    silent = tmp_path / "silent"
    silent.mkdir()
    switch_off = "import os, sys\nif 'mailer.py' in sys.orig_argv: os.environ['CLEW_ENABLED'] = '0'\n"
    (silent / "sitecustomize.py").write_text(switch_off)
    env = clean_environment(PYTHONPATH=str(silent))
    done = subprocess.run(demo(tmp_path, "--once"), capture_output=True, text=True, timeout=150, env=env, check=False)
    assert 1 == done.returncode, done.stdout + done.stderr
    results = re.findall(r"^  (ok|!)  [0-9a-f]{32}  (\d+)  (\w+ /\w+)", done.stdout, re.M)
    assert {("!", "200", "POST /checkout")} == {result for result in results if result[0] == "!"}
    assert 4 == done.stdout.count("      no span of mailer\n") == done.stdout.count("      no log line of mailer\n")
    assert "4 of 12 requests did not become one complete trace." in done.stdout
    assert [] == processes_of(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_demo_runs_until_it_is_told_to_stop_and_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    """It says where to look; Ctrl-C and SIGTERM end every process that it started."""
    with subprocess.Popen(demo(tmp_path), stdout=subprocess.PIPE, text=True, env=clean_environment()) as child:
        assert child.stdout is not None
        said = []
        for line in child.stdout:
            said.append(line)
            if "Ctrl-C ends everything" in line:
                child.send_signal(number)
        assert 0 == child.wait(60), "".join(said)
    assert [line for line in said if line.startswith("Page:    http://127.0.0.1:")]
    assert [] == processes_of(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent is gone")
def test_a_demo_that_is_killed_takes_its_processes_along(tmp_path: Path) -> None:
    """Even SIGKILL, after which it cannot do anything any more."""
    with subprocess.Popen(demo(tmp_path), stdout=subprocess.PIPE, text=True, env=clean_environment()) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if line.startswith("  gateway"):  # the last one to be ready
                break
        assert len(processes_of(tmp_path)) > len(SERVICES)
        child.kill()
    deadline = time.monotonic() + 30
    while processes_of(tmp_path):
        assert time.monotonic() < deadline, processes_of(tmp_path)
        time.sleep(0.1)


def test_a_service_that_cannot_start_is_shown_with_its_last_words(tmp_path: Path) -> None:
    """Exit code 1, the name, the output; and nothing is left running."""
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "flask.py").write_text("raise RuntimeError('this flask is broken')")
    env = clean_environment(PYTHONPATH=str(broken))
    done = subprocess.run(demo(tmp_path, "--once"), capture_output=True, text=True, timeout=150, env=env, check=False)
    assert 1 == done.returncode
    assert "clew: orders ended with code" in done.stderr
    assert "RuntimeError: this flask is broken" in done.stderr
    assert [] == processes_of(tmp_path)


def test_missing_frameworks_are_named_with_the_extra(tmp_path: Path) -> None:
    """Before anything is started."""
    script = (
        "import sys; sys.modules['flask'] = None; sys.argv = ['clew', 'demo']\n"
        "from clew.cli.__main__ import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, env=clean_environment(), check=False
    )
    assert (1, "clew: The shop needs flask: pip install 'clew[demo]'\n") == (done.returncode, done.stderr)


def test_commands_to_try_are_those_that_work_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without an activated environment `clew` is not on the PATH, and the demo says where it is."""
    beside = Path(sys.executable).with_name("clew")
    monkeypatch.setenv("PATH", str(beside.parent))
    assert "clew" == _own_command()
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert str(beside) == _own_command()
    monkeypatch.chdir(beside.parent.parent.parent)
    assert str(beside.relative_to(Path.cwd())) == _own_command()
