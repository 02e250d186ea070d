"""The ends of a process: a collector that is there gets everything, one that is away delays nobody, losses are said."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from client.conftest import SOURCE
from client.recording import wait_until
from client.servers import HttpCollector, free_port

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PRELUDE = """
import atexit, multiprocessing, os, pickle, signal, subprocess, sys, threading, time, warnings
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
import clew
def configure(**options):
    clew.configure(**{"service": "test", "reporter": sys.argv[1], "flush_interval": 600.0, **options})
def finish(name, count=1):
    for _ in range(count):
        with clew.start_span(name):
            pass
def wait_for(pid):
    assert os.waitpid(pid, 0)[1] == 0
"""


class Ended:
    """What a program left behind: its exit status, what it wrote, the names of the spans that arrived."""

    def __init__(self, code: int, stdout: str, stderr: str, spans: list[dict[str, Any]]) -> None:
        self.code = code
        self.stdout = stdout
        self.stderr = stderr
        self.names = Counter(span["name"] for span in spans)


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Ended]:
    """Run a program; send it ``number`` once it prints ``ready``; return how it ended. Reports to a file by default."""

    def run_and_end(text: str, reporter: str = "", number: int | None = None, *arguments: str) -> Ended:
        program, spans = tmp_path / "program.py", tmp_path / "spans.json"
        program.write_text(PRELUDE + text)
        command = [sys.executable, str(program), reporter or f"file://{spans}", *arguments]
        env = {"PYTHONPATH": SOURCE, "PATH": "/usr/bin:/bin"}
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": env}
        with subprocess.Popen(command, **pipes) as process:
            try:
                if number is not None:
                    assert process.stdout is not None
                    assert "ready\n" == process.stdout.readline(), process.stderr and process.stderr.read()
                    process.send_signal(number)
                stdout, stderr = process.communicate(timeout=30)
            except BaseException:
                process.kill()
                raise
        lines = spans.read_text().splitlines() if spans.exists() else []
        return Ended(process.returncode, stdout, stderr, [json.loads(line) for line in lines])

    return run_and_end


# The rule

ENDINGS = {
    "normal": "finish('work', 5)",
    "os._exit": "finish('work', 5)\nos._exit(0)",
    "fork": "pid = os.fork()\nif not pid:\n    finish('work', 5)\n    os._exit(0)\nwait_for(pid)",
    "fork, sys.exit": "pid = os.fork()\nif not pid:\n    finish('work', 5)\n    sys.exit(0)\nwait_for(pid)",
    "process": """
process = multiprocessing.get_context("fork").Process(target=finish, args=("work", 5))
process.start()
process.join()
""",
    "exec": "finish('work', 5)\nos.execv('/bin/true', ['true'])",
    "execlp": "finish('work', 5)\nos.execlp('true', 'true')",
    "exit handler": "atexit.register(finish, 'work', 5)",
    "SIGTERM": "finish('work', 5)\nos.kill(os.getpid(), signal.SIGTERM)\nos._exit(1)",
    "raise_signal": "finish('work', 5)\nsignal.raise_signal(signal.SIGTERM)\nos._exit(1)",
}


def code_of(ending: str) -> int:
    return -15 if ending in ("SIGTERM", "raise_signal") else 0


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_end_delivers(run: Callable[..., Ended], ending: str):
    """However a process ends, what is queued arrives once."""
    ended = run("configure()\n" + ENDINGS[ending])
    assert (code_of(ending), "", {"work": 5}) == (ended.code, ended.stderr, ended.names)


@pytest.mark.parametrize("ending", [ending for ending in ENDINGS if ending != "exit handler"])
def test_collector_that_says_later_first_gets_everything(run: Callable[..., Ended], ending: str):
    """It is there: an end waits for it as long as it may."""
    with HttpCollector() as collector:
        collector.answers = [(503, {"Retry-After": "30"}), (503, {})]
        ended = run("configure(exit_timeout=20)\n" + ENDINGS[ending], collector.url)
        assert (code_of(ending), 5) == (ended.code, len(collector.spans) - 5 * 2)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("scheme", ["udp", "http"])
def test_closed_port_delays_nobody_and_the_loss_is_said(run: Callable[..., Ended], ending: str, scheme: str):
    """One line that says how many, why, and what to do; an exit timeout of ten minutes is not waited for."""
    ended = run("configure(exit_timeout=600)\n" + ENDINGS[ending], f"{scheme}://127.0.0.1:{free_port()}")
    assert code_of(ending) == ended.code
    (line,) = ended.stderr.splitlines()
    assert "5 spans could not be sent: " in line
    assert "refused; is `clew up` running?" in line


@pytest.mark.parametrize("ending", ENDINGS)
def test_collector_that_never_answers_is_waited_for_once(run: Callable[..., Ended], ending: str):
    """For ``exit_timeout`` seconds; the loss is said in one line."""
    with HttpCollector() as collector:
        collector.hold = threading.Event()
        ended = run("configure(exit_timeout=0.2)\n" + ENDINGS[ending], collector.url)
        assert (code_of(ending), 1) == (ended.code, len(collector.requests))
    assert "could not be sent" in ended.stderr
    assert 1 == len(ended.stderr.splitlines())


POOL = """
configure(exit_timeout=0.5)
{parent}
def task(n):
    finish("task")
    return n
with multiprocessing.get_context("fork").Pool(1, maxtasksperchild=1) as pool:
    assert list(range(12)) == pool.map(task, range(12), chunksize=1)
    pool.close()
    pool.join()
"""


@pytest.mark.parametrize("parent", ["", "finish('parent')\nclew.flush(0.1)"])
def test_pool_finds_out_once_that_the_collector_never_answers(run: Callable[..., Ended], parent: str):
    """Twelve workers of one task each: one of them waits in vain, the others know of it and do not even ask."""
    with HttpCollector() as collector:
        collector.hold = threading.Event()
        ended = run(POOL.replace("{parent}", parent), collector.url)
        asked = len(collector.requests)
    assert 0 == ended.code
    assert asked <= (3 if parent else 2), asked  # the first, and one more for each five seconds on a slow machine
    assert 1 == len(ended.stderr.splitlines()), ended.stderr


@pytest.mark.parametrize("scheme", ["udp", "http"])
def test_pool_whose_collector_is_away_says_so_once(run: Callable[..., Ended], scheme: str):
    """Not one line for each worker."""
    ended = run(POOL.replace("{parent}", ""), f"{scheme}://127.0.0.1:{free_port()}")
    assert (0, 1) == (ended.code, len(ended.stderr.splitlines())), ended.stderr


def test_collector_that_is_back_gets_what_a_child_has(run: Callable[..., Ended]):
    """What the parent knew of it is tried anew, and once it takes something it is waited for again."""
    reserved = socket.socket()  # bound and not listening: refused, and nobody else gets it
    reserved.bind(("127.0.0.1", 0))
    port = reserved.getsockname()[1]
    text = """
configure(flush_interval=0.01, exit_timeout=20.0)
finish("parent")
while not clew.stats()["errors"]:
    time.sleep(0.01)
print("away", flush=True)
assert input() == "back"
pid = os.fork()
if not pid:
    finish("child", 3_000)
    os._exit(0)
wait_for(pid)
"""
    with tempfile.NamedTemporaryFile("w", suffix=".py") as file:
        file.write(PRELUDE + text)
        file.flush()
        command = [sys.executable, file.name, f"http://127.0.0.1:{port}"]
        env = {**os.environ, "PYTHONPATH": SOURCE}
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        with subprocess.Popen(command, text=True, env=env, **pipes) as process:
            assert process.stdout is not None
            assert "away\n" == process.stdout.readline()
            reserved.close()
            with HttpCollector(port) as collector:
                process.communicate("back\n", timeout=60)
                names = Counter(span["name"] for span in collector.spans)
    assert (0, {"parent": 1, "child": 3_000}) == (process.returncode, names)


# Functions in whose place ours stand


def test_wrapped_functions_behave_as_before(run: Callable[..., Ended]):
    """Same names, same errors, pickled by reference; a call that fails leaves a reporter that works."""
    text = """
import copy, inspect
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
configure()
for function in (os._exit, os.execv, os.execve, signal.signal, signal.getsignal, signal.pause, signal.set_wakeup_fd):
    assert pickle.loads(pickle.dumps(function)) is function, function
    assert copy.deepcopy(function) is function
    assert function.__doc__ and "." not in function.__qualname__, function
finish("before")
for wrong in (lambda: os._exit("x"), lambda: os._exit(), lambda: os.execv("/no/such", ["x"]),
              lambda: os.execvp("no-such-command", ["x"]), lambda: signal.signal("x", 1),
              lambda: signal.signal(signal.SIGTERM, 77), lambda: signal.getsignal(1000)):
    try:
        wrong()
    except (TypeError, OSError, ValueError):
        continue
    raise AssertionError
finish("after")
with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
    try:
        pool.submit(os._exit, 3).result()
    except BrokenProcessPool:
        pass
finish("end")
os._exit(status=7)
"""
    ended = run(text)
    assert (7, "", {"before": 1, "after": 1, "end": 1}) == (ended.code, ended.stderr, ended.names)


# SIGTERM without a handler of the program's own

QUERY = "with recursive n(i) as (select 1 union all select i + 1 from n where i < 4000000000) select count(*) from n"
WAITS = {
    "asleep": "time.sleep(60)",
    "busy": "while True: pass",
    "in a lock": "lock = threading.Lock(); lock.acquire(); lock.acquire()",
    "in a thread": "thread = threading.Thread(target=time.sleep, args=(60,)); thread.start(); thread.join()",
    "in pause": "signal.pause()",
    "in select": "import select; select.select([], [], [], 60)",
    "in C code": f"import sqlite3; sqlite3.connect(':memory:').execute('{QUERY}').fetchall()",
    "in asyncio": "import asyncio; asyncio.run(asyncio.sleep(60))",
    "at its end": "threading.Thread(target=time.sleep, args=(60,)).start()",
}
# The program says that it is ready from a thread, when the main one is where it waits, and the signal is caught.
READY = """
def caught():
    (line,) = [line for line in open("/proc/self/status") if line.startswith("SigCgt")]
    return bool(int(line.split()[1], 16) >> 14 & 1)
def say(first=None):
    time.sleep(0.1)
    if first:
        finish(first, 3)
    while not caught():
        time.sleep(0.005)
    time.sleep(0.1)
    os.write(1, b"ready\\n")
"""
MAIN = f"{READY}\nthreading.Thread(target=say, daemon=True).start()\n"
OTHER = f"{READY}\nthreading.Thread(target=say, args=['work'], daemon=True).start()\n"


@pytest.mark.parametrize(
    ("wait", "thread"),
    [*((wait, "main") for wait in WAITS), *((wait, "other") for wait in WAITS if wait != "in C code")],
)
def test_sigterm_delivers_and_kills(run: Callable[..., Ended], wait: str, thread: str):
    """Whatever the main thread does, also if no span was ever finished in it; the exit status is the signal's."""
    first = f"finish('work', 3)\n{MAIN}" if thread == "main" else OTHER
    ended = run(f"configure()\n{first}\n{WAITS[wait]}\n", "", signal.SIGTERM)
    assert (-15, "", {"work": 3}) == (ended.code, ended.stderr, ended.names)


def test_main_thread_in_c_code_that_finished_no_span_dies_as_before(run: Callable[..., Ended]):
    """It cannot be asked to install anything: the one case in which the last spans are lost."""
    text = "configure()\n" + OTHER.replace("while not caught()", "while caught()") + WAITS["in C code"]
    ended = run(text, "", signal.SIGTERM)
    assert (-15, "") == (ended.code, ended.stderr)


@pytest.mark.parametrize("wait", ["asleep", "in C code"])
def test_sigterm_with_a_collector_that_never_answers_kills_in_time(run: Callable[..., Ended], wait: str):
    """After ``exit_timeout``, and the loss is said."""
    with HttpCollector() as collector:
        collector.hold = threading.Event()
        text = f"configure(exit_timeout=0.3)\nfinish('work', 3)\n{MAIN}\n{WAITS[wait]}\n"
        ended = run(text, collector.url, signal.SIGTERM)
    assert -15 == ended.code
    assert "3 spans could not be sent before the process ended: no answer within 0.3 s" in ended.stderr


def test_sigterm_kills_although_a_log_handler_hangs(run: Callable[..., Ended]):
    """What is held up beyond the bound is left behind."""
    text = f"""
import logging
class Hanging(logging.Handler):
    def emit(self, record):
        time.sleep(60)
logging.getLogger().addHandler(Hanging())
configure(exit_timeout=0.1)
finish('work', 3)
{MAIN}
time.sleep(60)
"""
    assert -15 == run(text, f"udp://127.0.0.1:{free_port()}", signal.SIGTERM).code


def test_program_sees_the_default_action(run: Callable[..., Ended]):
    """By everything that Python offers to look; nothing is there before the first span, or without a time-out."""
    text = """
import _signal
def caught():
    (line,) = [line for line in open("/proc/self/status") if line.startswith("SigCgt")]
    return bool(int(line.split()[1], 16) >> 14 & 1)
before = set(os.listdir("/proc/self/fd")), threading.active_count()
configure(exit_timeout=0)
finish("work")
assert not caught()
configure()
assert not caught()
clew.start_span("open")
assert not caught()
finish("work")
assert caught()
assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
assert signal.getsignal(signal.SIGURG) is signal.SIG_DFL
assert signal.set_wakeup_fd(-1) == -1
assert signal.signal(signal.SIGTERM, signal.SIG_DFL) is signal.SIG_DFL
assert signal.signal(signal.SIGTERM, signal.SIG_IGN) is signal.SIG_DFL
assert not caught()
assert signal.signal(signal.SIGTERM, signal.SIG_DFL) is signal.SIG_IGN
assert caught()
names = [thread.name for thread in threading.enumerate()]
assert names == ["MainThread", "clew-reporter"], names
command = ["grep", "SigCgt\\\\|SigBlk\\\\|SigIgn", "/proc/self/status"]
status = subprocess.run(command, capture_output=True, text=True).stdout
assert status
assert all(not int(line.split()[1], 16) >> 14 & 1 for line in status.splitlines()), status
assert subprocess.Popen(["sleep", "60"]).terminate() is None
"""
    ended = run(text)
    assert (0, "") == (ended.code, ended.stderr)


@pytest.mark.parametrize("when", ["before", "after"])
def test_programs_own_handler_is_the_one_that_runs(run: Callable[..., Ended], when: str):
    """Set before the first span or after it."""
    own = "signal.signal(signal.SIGTERM, lambda *_: (finish('in the handler'), sys.exit(5)))\n"
    text = "configure()\n" + (own if when == "before" else "") + "finish('work')\n" + (own if when == "after" else "")
    ended = run(text + MAIN + WAITS["asleep"], "", signal.SIGTERM)
    assert (5, "", {"work": 1, "in the handler": 1}) == (ended.code, ended.stderr, ended.names)


def test_ignored_signal_stays_ignored(run: Callable[..., Ended]):
    """``nohup`` for SIGTERM."""
    text = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nconfigure()\nfinish('work')\n"
    ended = run(text + "os.kill(os.getpid(), signal.SIGTERM)\nfinish('after')\n")
    assert (0, "", {"work": 1, "after": 1}) == (ended.code, ended.stderr, ended.names)


def test_handler_of_c_code_stays(run: Callable[..., Ended]):
    """The interpreter does not know of it; the system does."""
    text = """
import faulthandler
faulthandler.register(signal.SIGTERM, open(os.devnull, "w"))
configure()
finish("work")
os.kill(os.getpid(), signal.SIGTERM)
finish("after")
"""
    ended = run(text)
    assert (0, "", {"work": 1, "after": 1}) == (ended.code, ended.stderr, ended.names)


def test_event_loops_own_handler_and_what_comes_after_it(run: Callable[..., Ended]):
    """asyncio takes the wakeup descriptor and the handler, and gives both back."""
    text = """
import asyncio
configure()
finish("work")
async def main():
    loop = asyncio.get_running_loop()
    got = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, got.set)
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(got.wait(), 20)
asyncio.run(main())
finish("after the loop")
signal.raise_signal(signal.SIGTERM)
"""
    ended = run(text)
    assert (-15, "", {"work": 1, "after the loop": 1}) == (ended.code, ended.stderr, ended.names)


def test_server_that_dies_of_the_signal_it_caught(run: Callable[..., Ended]):
    """uvicorn's way: it catches the signal, shuts down, restores what was there and raises the signal again."""
    text = f"""
got = threading.Event()
before = signal.signal(signal.SIGTERM, lambda *_: got.set())
configure()
finish("work")
{MAIN}
while not got.wait(0.05):
    pass
finish("shutdown")
signal.signal(signal.SIGTERM, before)
signal.raise_signal(signal.SIGTERM)
"""
    ended = run(text, "", signal.SIGTERM)
    assert (-15, "", {"work": 1, "shutdown": 1}) == (ended.code, ended.stderr, ended.names)


def test_pause_waits_for_the_programs_signals_only(run: Callable[..., Ended]):
    """A first span in another thread does not end it."""
    text = """
configure()
got = []
signal.signal(signal.SIGUSR1, lambda *_: got.append(1))
def work():
    finish("work")
    assert clew.flush(20)
    os.kill(os.getpid(), signal.SIGUSR1)
threading.Timer(0.2, work).start()
signal.pause()
assert got == [1]
"""
    ended = run(text)
    assert (0, "", {"work": 1}) == (ended.code, ended.stderr, ended.names)


def test_children_die_at_once_until_they_have_spans(run: Callable[..., Ended]):
    """A forked child has the default action; killing it is not told to the parent; with spans it delivers its own."""
    text = """
configure()
finish("parent")
import _signal
for number in range(30):
    pid = os.fork()
    if not pid:
        if _signal.getsignal(signal.SIGTERM) != 0:
            os._exit(9)
        while True:
            time.sleep(60)
    os.kill(pid, signal.SIGTERM)
    assert os.waitpid(pid, 0)[1] == signal.SIGTERM
reader, writer = os.pipe()
pid = os.fork()
if not pid:
    finish("child", 2)
    os.write(writer, b"1")
    time.sleep(60)
assert os.read(reader, 1) == b"1"
os.kill(pid, signal.SIGTERM)
assert os.waitpid(pid, 0)[1] == signal.SIGTERM
with multiprocessing.get_context("fork").Pool(2) as pool:
    pool.map(finish, ["pool"] * 4, chunksize=1)
    pool.terminate()
    pool.join()
finish("parent")
"""
    ended = run(text)
    assert (0, "") == (ended.code, ended.stderr)
    assert {"parent": 2, "child": 2, "pool": 4} == ended.names


def test_program_that_closes_all_descriptors(run: Callable[..., Ended], tmp_path: Path):
    """A daemon in the making: nothing is written to the files that take the numbers, and SIGTERM still kills."""
    text = """
configure()
finish("work")
assert clew.flush(20)
os.closerange(3, 256)
files = [os.open(sys.argv[2] + str(n), os.O_CREAT | os.O_RDWR) for n in range(20)]
while [line for line in open("/proc/self/status") if line[:7] == "SigCgt:" and int(line[7:], 16) >> 14 & 1]:
    time.sleep(0.01)
signal.signal(signal.SIGUSR1, lambda *_: None)
for _ in range(10):
    os.kill(os.getpid(), signal.SIGUSR1)
assert all(os.fstat(file).st_size == 0 for file in files)
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(60)
"""
    ended = run(text, "", None, str(tmp_path / "file"))
    assert (-15, "", {"work": 1}) == (ended.code, ended.stderr, ended.names)


def test_many_signals_of_the_program(run: Callable[..., Ended]):
    """A timer at 2 kHz runs as before, and SIGTERM is still noticed."""
    text = f"""
configure()
ticks = []
signal.signal(signal.SIGALRM, lambda *_: ticks.append(1))
finish("work")
signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
while len(ticks) < 200:
    time.sleep(0.01)
{MAIN}
{WAITS["asleep"]}
"""
    ended = run(text, "", signal.SIGTERM)
    assert (-15, "", {"work": 1}) == (ended.code, ended.stderr, ended.names)


@pytest.mark.parametrize("scheme", ["udp", "http", "file"])
def test_reporter_imports_nothing_on_its_thread(run: Callable[..., Ended], scheme: str):
    """A child forked during an import would hold the module's lock for ever: all is there once it is configured."""
    text = """
configure(flush_interval=0.001)
before = set(sys.modules)
finish("work")
while not clew.stats()["errors"]:
    time.sleep(0.001)
pid = os.fork()
if not pid:
    signal.alarm(20)
    import logging, socket
    os._exit(0)
wait_for(pid)
late = {name for name in set(sys.modules) - before if not name.startswith("clew.")}
assert not late, late
os.kill(os.getpid(), signal.SIGKILL)
"""
    url = "file:///no/such/folder/spans" if scheme == "file" else f"{scheme}://localhost:{free_port()}"
    ended = run(text, url)
    assert -9 == ended.code, ended.stderr


SERVERS = {
    "flask": ["-m", "flask", "--app", "service", "run", "--port", "PORT"],
    "flask without threads": ["-m", "flask", "--app", "service", "run", "--port", "PORT", "--without-threads"],
    "uvicorn": ["-m", "uvicorn", "service:app", "--port", "PORT", "--interface", "INTERFACE"],
    "gunicorn": ["-m", "gunicorn", "service:app", "--bind", "127.0.0.1:PORT"],
}
SERVICE = """
import os
import clew
clew.configure(service="test", reporter=os.environ["REPORTER"], flush_interval=600.0)
clew.instrument()
from flask import Flask
app = Flask(__name__)
@app.get("/")
def index():
    return "here"
"""


@pytest.mark.parametrize("server", SERVERS)
def test_server_that_gets_sigterm_delivers_its_last_request(server: str, tmp_path: Path):
    """As ``docker stop`` does it, right after an answer."""
    for module in ("flask", "uvicorn", "gunicorn"):
        pytest.importorskip(module)
    (tmp_path / "service.py").write_text(SERVICE)
    port, spans = free_port(), tmp_path / "spans.json"
    words = [word.replace("PORT", str(port)).replace("INTERFACE", "wsgi") for word in SERVERS[server]]
    env = {**os.environ, "PYTHONPATH": SOURCE, "REPORTER": f"file://{spans}"}
    command = [sys.executable, *words]
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, cwd=tmp_path, env=env, **quiet) as process:
        try:
            wait_until(lambda: answers(port), "the server")
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == (0 if server == "gunicorn" else -15)
        finally:
            process.kill()
    names = [json.loads(line)["name"] for line in spans.read_text().splitlines()]
    assert ["get /"] == [name.lower() for name in names]


def answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as response:
            return bool(response.read() == b"here")
    except OSError:
        return False
