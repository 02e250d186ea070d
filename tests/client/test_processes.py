"""Forks, spawns and exits, each in a process of its own, with a real file or socket that gets every span once."""

from __future__ import annotations

import json
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from client.servers import HttpCollector, UdpCollector

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PRELUDE = """
import atexit, multiprocessing, os, signal, subprocess, sys, threading, time, warnings
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
import clew
REPORTER = sys.argv[1]
def configure(**options):
    clew.configure(**{"service": "test", "reporter": REPORTER, "flush_interval": 600.0, **options})
def finish(name, count=1):
    for _ in range(count):
        with clew.start_span(name):
            pass
def wait_for(pid):
    assert os.waitpid(pid, 0)[1] == 0
"""


@pytest.fixture
def run(run_program: Callable[..., Any], tmp_path: Path) -> Callable[..., Counter[str]]:
    """Run a program that reports to a file; return the names that arrived, and check that all ids differ."""

    def run_and_count(text: str, **options: Any) -> Counter[str]:
        path = tmp_path / "spans.json"
        path.touch()
        run_program(PRELUDE + text, f"file://{path}", **options)
        spans = [json.loads(line) for line in path.read_text().splitlines()]
        assert len(spans) == len({span["id"] for span in spans})
        return Counter(span["name"] for span in spans)

    return run_and_count


Run = "Callable[..., Counter[str]]"

# Forks


@pytest.mark.parametrize("ending", ["os._exit(0)", "sys.exit(0)", "return", "os._exit(os.EX_OK)"])
def test_fork_delivers_once(run: Run, ending: str):
    """What was queued before is the parent's, what comes after is each one's own, however the child ends."""
    text = f"""
configure()
finish("before", 5)
def child():
    finish("child", 3)
    {ending}
pid = os.fork()
if pid:
    finish("parent", 2)
    wait_for(pid)
else:
    child()
"""
    assert {"before": 5, "child": 3, "parent": 2} == run(text)


def test_span_open_over_a_fork_is_the_parents(run: Run):
    """Its copy in the child is not sent; the child's own spans are its children."""
    text = """
configure()
with clew.start_span("open") as span:
    pid = os.fork()
    if pid == 0:
        with clew.start_span("child") as child:
            assert child.parent_id == span.span_id
        assert clew.stats()["queued"] == 1
        sys.exit(0)
    wait_for(pid)
if pid == 0:
    assert False
"""
    assert {"open": 1, "child": 1} == run(text)


def test_fork_of_a_fork(run: Run):
    """Each generation starts its own reporter."""
    text = """
configure()
finish("0")
for generation in "123":
    pid = os.fork()
    if pid:
        finish("parent of " + generation)
        wait_for(pid)
        os._exit(0)
    finish(generation)
"""
    names = ["0", "1", "2", "3", "parent of 1", "parent of 2", "parent of 3"]
    assert dict.fromkeys(names, 1) == run(text)


def test_many_children_have_different_ids(run: Run):
    """Twenty siblings draw from the same state and get different ids; the fixture checks."""
    text = """
configure()
finish("before")
pids = []
for _ in range(20):
    pid = os.fork()
    if not pid:
        finish("child", 10)
        os._exit(0)
    pids.append(pid)
for pid in pids:
    wait_for(pid)
"""
    assert {"before": 1, "child": 200} == run(text)


def test_fork_while_the_queue_is_full(run: Run):
    """The child begins with an empty queue and zero counts."""
    text = """
configure(queue_size=10)
class Away:
    max_message_bytes = 1000
    gate = threading.Event()
    def send(self, messages, kind="spans"):
        self.gate.wait()
    def close(self):
        pass
clew.configure(service="test", reporter=Away(), queue_size=10, flush_interval=0.001, exit_timeout=0.1)
finish("lost", 500)
pid = os.fork()
if not pid:
    counts = clew.stats()
    assert (counts["queued"], counts["dropped"], counts["reported"]) == (0, 0, 0)
    configure()
    finish("child", 3)
    os._exit(0)
wait_for(pid)
Away.gate.set()
"""
    assert {"child": 3} == run(text)


def test_fork_while_another_thread_holds_every_lock(run: Run):
    """The child does not wait for a thread that it does not have."""
    text = """
from clew._tracer import tracer
configure(sampler="1000000/s")
finish("before")
held, release = threading.Event(), threading.Event()
def hold():
    with tracer().reporter.lock, tracer()._sampler.__self__._lock:
        held.set()
        release.wait()
thread = threading.Thread(target=hold)
thread.start()
held.wait()
pid = os.fork()
if not pid:
    signal.alarm(20)
    finish("child", 3)
    assert clew.flush(10.0)
    os._exit(0)
release.set()
wait_for(pid)
"""
    assert {"before": 1, "child": 3} == run(text)


def test_forks_under_load(run: Run):
    """Threads finish spans and the reporter sends while children come and go."""
    text = """
configure(flush_interval=0.001, queue_size=1_000_000)
stop = threading.Event()
counts = []
def work():
    n = 0
    while not stop.is_set():
        finish("parent")
        n += 1
        time.sleep(0)
    counts.append(n)
threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads:
    thread.start()
for _ in range(15):
    pid = os.fork()
    if not pid:
        signal.alarm(20)
        finish("child", 4)
        os._exit(0)
    wait_for(pid)
stop.set()
for thread in threads:
    thread.join()
assert clew.flush(20.0)
assert clew.stats()["reported"] == sum(counts)
finish("sum", 1)
"""
    found = run(text)
    assert (60, 1) == (found["child"], found["sum"])


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(run: Run, method: str):
    """Processes of every start method deliver at their end, which runs no atexit."""
    text = f"""
def child(number):
    configure()
    finish("child", number)
if __name__ == "__main__":
    configure()
    finish("before")
    context = multiprocessing.get_context({method!r})
    processes = [context.Process(target=child, args=(n,)) for n in (1, 2, 3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
"""
    assert {"before": 1, "child": 6} == run(text)


def test_pool_with_max_tasks(run: Run):
    """Workers that are replaced after two tasks each lose nothing."""
    text = """
configure()
def task(n):
    finish("task")
    return n
if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(2, maxtasksperchild=2) as pool:
        assert list(range(20)) == pool.map(task, range(20), chunksize=1)
        pool.close()
        pool.join()
"""
    assert {"task": 20} == run(text)


def test_process_pool_executor(run: Run):
    """The same for concurrent.futures."""
    text = """
from concurrent.futures import ProcessPoolExecutor
configure()
def task(n):
    finish("task")
    return n
if __name__ == "__main__":
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as pool:
        assert list(range(20)) == list(pool.map(task, range(20)))
"""
    assert {"task": 20} == run(text)


def test_subprocesses_are_left_alone(run: Run):
    """Starting a program neither sends twice nor waits."""
    text = """
configure()
finish("before", 3)
assert subprocess.run(["true"]).returncode == 0
assert subprocess.run(["true"], preexec_fn=lambda: None).returncode == 0
assert os.system("true") == 0
finish("after")
"""
    assert {"before": 3, "after": 1} == run(text)


def test_applications_own_fork_hook_may_finish_spans(run: Run):
    """Hooks that were registered after clew's import find a working tracer in the child."""
    text = """
os.register_at_fork(after_in_child=lambda: finish("hook"), after_in_parent=lambda: finish("parent hook"))
configure()
finish("before", 2)
pid = os.fork()
if not pid:
    os._exit(0)
wait_for(pid)
"""
    assert {"before": 2, "hook": 1, "parent hook": 1} == run(text)


@pytest.mark.parametrize("scheme", ["udp", "http"])
def test_fork_over_sockets_delivers_once(run_program: Callable[..., Any], scheme: str):
    """Parent and child do not share a connection."""
    text = (
        PRELUDE
        + """
configure(flush_interval=0.01)
finish("before", 5)
assert clew.flush()
pids = []
for _ in range(4):
    pid = os.fork()
    if not pid:
        finish("child", 5)
        os._exit(0)
    pids.append(pid)
finish("parent", 5)
assert clew.flush()
for pid in pids:
    wait_for(pid)
"""
    )
    with UdpCollector() if scheme == "udp" else HttpCollector() as collector:
        run_program(text, collector.url)
        spans = collector.wait_for(30)
    assert {"before": 5, "child": 20, "parent": 5} == Counter(span["name"] for span in spans)
    assert 30 == len({span["id"] for span in spans})


@pytest.mark.skipif(sys.version_info < (3, 12), reason="3.12 began to warn")
def test_preloading_master_forks_without_a_warning(run_program: Callable[..., Any]):
    """A master that configures and finishes no span has no thread that a fork could lose."""
    run_program(
        """
        import os, sys, warnings
        warnings.simplefilter("error")
        import clew
        clew.configure(reporter=sys.argv[1])
        clew.start_span("open")
        pid = os.fork()
        if not pid:
            os._exit(0)
        os.waitpid(pid, 0)
        """,
        "udp://127.0.0.1:9",
    )


# Exits


@pytest.mark.parametrize(
    ("ending", "exit_code"),
    [
        ("", 0),
        ("sys.exit(0)", 0),
        ("sys.exit(3)", 3),
        ("raise ValueError", 1),
        ("raise KeyboardInterrupt", -2),
        ("os._exit(4)", 4),
        ("os.kill(os.getpid(), signal.SIGINT); time.sleep(20)", -2),
    ],
)
def test_exit_delivers_what_is_queued(run: Run, ending: str, exit_code: int):
    """Whatever ends the program, short of a signal that kills it."""
    text = f"""
configure()
finish("work", 100)
{ending}
"""
    assert {"work": 100} == run(text, exit_code=exit_code)


def test_exit_with_threads(run: Run):
    """Threads that the interpreter waits for are heard; daemon threads do not hold up the end."""
    text = """
configure()
def late():
    time.sleep(0.2)
    finish("late")
def forever():
    while True:
        time.sleep(0.01)
threading.Thread(target=late).start()
threading.Thread(target=forever, daemon=True).start()
finish("main")
"""
    assert {"late": 1, "main": 1} == run(text)


def test_spans_of_exit_handlers_are_delivered(run: Run):
    """Handlers registered after ``configure`` run before clew's."""
    text = """
configure()
finish("main")
atexit.register(finish, "at exit")
"""
    assert {"main": 1, "at exit": 1} == run(text)


def test_first_span_in_an_exit_handler_is_delivered(run: Run):
    """Also where the interpreter gives no new thread any more, as since 3.12."""
    text = """
configure()
atexit.register(finish, "at exit")
"""
    assert {"at exit": 1} == run(text)


def test_sigterm_handler_of_the_application_delivers(run: Run):
    """A server that exits on SIGTERM by ``sys.exit`` loses nothing."""
    text = """
configure()
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
finish("work", 10)
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(20)
"""
    assert {"work": 10} == run(text)


# gevent


@pytest.mark.parametrize("when", ["before import", "after import", "after configure"])
def test_gevent(run_program: Callable[..., Any], tmp_path: Path, when: str):
    """Spans of concurrent greenlets do not mix, the reporter works, and nothing holds up the loop."""
    pytest.importorskip("gevent")
    path = tmp_path / "spans.json"
    patch = "import gevent.monkey; gevent.monkey.patch_all()\n"
    text = f"""
import sys
{patch if when == "before import" else ""}
import clew
{patch if when == "after import" else ""}
clew.configure(service="test", reporter=sys.argv[1], flush_interval=1.0)
{patch if when == "after configure" else ""}
import time
import gevent

def request(number):
    with clew.start_span(f"root {{number}}") as root:
        for step in range(5):
            with clew.start_span(f"step {{number}}"):
                gevent.sleep(0.001)
                context = clew.get_trace_context()
                assert (context.trace_id, context.parent_id) == (root.trace_id, root.span_id)
        time.sleep(0.001)
        assert clew.get_trace_context().span_id == root.span_id

ticks = []
def ticker():
    while True:
        ticks.append(1)
        gevent.sleep(0.001)
ticking = gevent.spawn(ticker)
gevent.joinall([gevent.spawn(request, number) for number in range(50)], raise_error=True)
before = len(ticks)
gevent.sleep(0.5)
assert len(ticks) - before > 5, len(ticks) - before  # a reporter that blocks the loop for its interval leaves one
ticking.kill()
assert clew.flush(10.0)
assert clew.stats()["reported"] == 300, clew.stats()
assert clew.get_trace_context() is None
"""
    run_program(text, f"file://{path}")
    spans = [json.loads(line) for line in path.read_text().splitlines()]
    roots = {span["traceId"]: span for span in spans if "parentId" not in span}
    assert (50, 300) == (len(roots), len(spans))
    for span in spans:
        assert roots[span["traceId"]]["name"].split()[1] == span["name"].split()[1]
