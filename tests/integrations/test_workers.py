"""To whom the work of a thread belongs: what a request starts is its own, what serves everybody is nobody's.

Each program runs in an interpreter of its own and prints, for each piece of work, whose trace it ran in.
"""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from integrations.fresh import MARK, WAYS, run_fresh

BEFORE = (
    MARK
    + """
import contextlib, contextvars, threading
import clew

owners = {}

@contextlib.contextmanager
def request(name):
    with clew.start_span(name, kind="SERVER") as span:
        owners[span.trace_id] = name
        yield span

def whose():
    context = clew.get_trace_context()
    return owners.get(context.trace_id, "unknown") if context else "nobody"

def wait(event):
    assert event.wait(20)

"""
)

ONE_SHOT = {
    "thread": """
released, done = threading.Event(), threading.Event()
def job():
    wait(released)
    print(whose()); done.set()
with request("r1"):
    threading.Thread(target=job).start()
released.set(); wait(done)
""",
    "thread-subclass": """
class Job(threading.Thread):
    def run(self): print(whose())
with request("r1"):
    job = Job(); job.start()
job.join()
""",
    "timer": """
with request("r1"):
    timer = threading.Timer(0.05, lambda: print(whose())); timer.start()
timer.join()
""",
    "thread-of-thread": """
def inner(): print(whose())
def outer():
    thread = threading.Thread(target=inner); thread.start(); thread.join()
with request("r1"):
    thread = threading.Thread(target=outer); thread.start()
thread.join()
""",
    "library-function": """
import functools, json
with request("r1"):
    thread = threading.Thread(target=functools.partial(json.dumps, 1, default=str)); thread.start(); thread.join()
    other = threading.Thread(target=contextlib.nullcontext(print).__enter__); other.start(); other.join()
    print(whose())
""",
    "pipeline": """
import queue
todo, done = queue.Queue(), queue.Queue()
def work():
    while (item := todo.get()) is not None:
        done.put((item, whose()))
    done.put((None, whose()))
with request("r1"):
    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads: thread.start()
    for number in range(9): todo.put(number)
    for _ in threads: todo.put(None)
    for thread in threads: thread.join()
    print(*{done.get()[1] for _ in range(12)})
""",
    "connection-pool": """
import queue
connections = queue.LifoQueue(); connections.put("connection")
def work():
    connection = connections.get(); connections.put(connection)
    print(whose())
with request("r1"):
    thread = threading.Thread(target=work); thread.start()
thread.join()
""",
    "event-of-the-server": """
answered, done = threading.Event(), threading.Event()
def job():
    answered.wait(); print(whose()); done.set()
with request("r1"):
    threading.Thread(target=job).start()
answered.set(); wait(done)
""",
    "pool-of-connections-by-condition": """
import types
pool = types.ModuleType("pool")
exec('''
import threading
there, free = threading.Condition(), []
def take():
    with there:
        while not free: there.wait(20)
        return free.pop()
def give(connection):
    with there: free.append(connection); there.notify()
''', vars(pool))
begun = threading.Event()
def job():
    begun.set(); pool.take(); print(whose())
with request("r1"):
    thread = threading.Thread(target=job); thread.start()
wait(begun)
with request("r2"): pool.give(1)
thread.join()
""",
    "limit-by-semaphore": """
limit, seen = threading.Semaphore(1), []
def job():
    with limit: seen.append(whose())
limit.acquire()
with request("r1"):
    thread = threading.Thread(target=job); thread.start()
with request("r2"): limit.release()
thread.join(); print(*seen)
""",
    "results-of-processes": """
import multiprocessing
results = multiprocessing.get_context("fork").Queue()
def job(): results.get(); print(whose())
with request("r1"):
    child = multiprocessing.get_context("fork").Process(target=results.put, args=(1,)); child.start()
    thread = threading.Thread(target=job); thread.start(); thread.join()
child.join()
""",
    "asyncio-pool-of-connections": """
import asyncio, types
pool = types.ModuleType("pool")
exec('async def take(queue): return await queue.get()', vars(pool))
async def main():
    queue, limit = asyncio.LifoQueue(), asyncio.Semaphore(0)
    async def job():
        await ended.wait(); await pool.take(queue); print(whose())
        async with limit: print(whose())
    ended = asyncio.Event()
    with request("r1"): task = asyncio.create_task(job())
    ended.set(); await asyncio.sleep(0)
    with request("r2"): queue.put_nowait("connection"); limit.release()
    await task
asyncio.run(main())
""",
    "asyncio-task": """
import asyncio
async def main():
    async def job(): await done.wait(); print(whose())
    done = asyncio.Event()
    with request("r1"): task = asyncio.create_task(job())
    done.set(); await task
asyncio.run(main())
""",
    "asyncio-in-a-thread": """
import asyncio
async def inner(): return whose()
async def main():
    return await asyncio.gather(inner(), asyncio.to_thread(whose), asyncio.create_task(inner()))
with request("r1"):
    thread = threading.Thread(target=lambda: print(*set(asyncio.run(main())))); thread.start()
thread.join()
""",
    "dummy-process": """
import multiprocessing.dummy
with request("r1"):
    process = multiprocessing.dummy.Process(target=lambda: print(whose())); process.start()
process.join()
""",
}


@pytest.mark.parametrize("program", ONE_SHOT.values(), ids=ONE_SHOT)
def test_work_that_a_request_starts_is_the_request_s(program: str, tmp_path: Path) -> None:
    """Also when it outlives the request, by whatever means it was started."""
    assert {"r1"} == set(run_fresh(BEFORE + program, tmp_path).lines)


POOLS = {
    "futures": """
from concurrent.futures import ThreadPoolExecutor
with request("r1"):
    pool = ThreadPoolExecutor(1)
    print(pool.submit(whose).result())
print(pool.submit(whose).result())
with request("r2"):
    print(*set(pool.map(lambda _: whose(), range(3))))
    called = threading.Event()
    pool.submit(int).add_done_callback(lambda _: (print(whose()), called.set()))
wait(called)
""",
    "threadpool": """
from multiprocessing.pool import ThreadPool
with request("r1"):
    pool = ThreadPool(1)
    print(pool.apply(whose))
print(pool.apply(whose))
called = threading.Event()
with request("r2"):
    results = [pool.apply(func=whose), *pool.map(lambda _: whose(), [1]), *pool.starmap(lambda *_: whose(), [(1, 2)])]
    results += pool.imap(lambda _: whose(), [1]), pool.imap_unordered(lambda _: whose(), iter([1]), chunksize=2)
    print(*{name for result in results for name in ([result] if isinstance(result, str) else result)})
    asked = pool.imap(lambda asked: asked, (whose() for _ in range(2)))
    pool.apply_async(whose, callback=lambda _: (print(*set(asked)), called.set()) if whose() == "r2" else None)
wait(called)
""",
    "threadpool-with-errors": """
from multiprocessing.pool import ThreadPool
failed = threading.Event()
with request("r1"):
    pool = ThreadPool(1)
    print(pool.apply(whose))
    pool.apply_async(lambda: clew.start_span("left open")).get()
print(pool.apply(whose))
with request("r2"):
    pool.apply_async(lambda: 1 / 0, error_callback=lambda error: (print(whose()), failed.set()))
    wait(failed)
    try: list(pool.imap(int, 7))
    except TypeError as error: assert "not iterable" in str(error)
    print(pool.apply(whose))
""",
    "asyncio": """
import asyncio
async def main():
    loop = asyncio.get_running_loop()
    with request("r1"):
        print(await loop.run_in_executor(None, whose), await asyncio.to_thread(whose))
    print(await loop.run_in_executor(None, whose))
    with request("r2"):
        print(*{await loop.run_in_executor(None, whose), await asyncio.to_thread(whose)})
        print(await asyncio.to_thread(whose))
asyncio.run(main())
""".replace(
        "print(await loop.run_in_executor(None, whose), await asyncio.to_thread(whose))",
        "print(*{await loop.run_in_executor(None, whose), await asyncio.to_thread(whose)})",
    ),
    "anyio": """
import anyio, anyio.to_thread
async def main():
    with request("r1"):
        print(await anyio.to_thread.run_sync(whose))
    print(await anyio.to_thread.run_sync(whose))
    with request("r2"):
        print(await anyio.to_thread.run_sync(whose))
        print(await anyio.to_thread.run_sync(whose))
anyio.run(main)
""",
    "loop-in-a-thread": """
import asyncio
loop = asyncio.new_event_loop()
async def job(): return whose()
with request("r1"):
    threading.Thread(target=loop.run_forever, daemon=True).start()
    print(asyncio.run_coroutine_threadsafe(job(), loop).result(20))
print(asyncio.run_coroutine_threadsafe(job(), loop).result(20))
with request("r2"):
    print(asyncio.run_coroutine_threadsafe(job(), loop).result(20))
    called, seen = threading.Event(), []
    loop.call_soon_threadsafe(lambda: (seen.append(whose()), called.set()))
    wait(called); print(*seen)
""",
    "joblib": """
import joblib
def job(_): return whose()
with request("r1"):
    parallel = joblib.Parallel(2, backend="threading").__enter__()
    print(*set(parallel(joblib.delayed(job)(n) for n in range(20))))
print(*set(parallel(joblib.delayed(job)(n) for n in range(20))))
with request("r2"):
    print(*set(parallel(joblib.delayed(job)(n) for n in range(20))))
    print(*set(parallel(joblib.delayed(job)(n) for n in range(2))))
""",
    "aiosqlite": """
import asyncio, aiosqlite
clew.uninstrument("sqlite3")  # whose statements are spans, traces where there is none
async def ask(connection):
    cursor = await connection.execute("SELECT whose()")
    return (await cursor.fetchone())[0]
async def main():
    with request("r1"):
        connection = await aiosqlite.connect(":memory:")
        await connection.create_function("whose", 0, whose)
        print(await ask(connection))
    print(await ask(connection))
    with request("r2"):
        print(await ask(connection))
        print(await ask(connection))
    await connection.close()
asyncio.run(main())
""",
    "sqlalchemy": """
import asyncio
clew.uninstrument("sqlite3")
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import create_async_engine
async def ask(engine):
    async with engine.connect() as connection:
        return (await connection.execute(text("SELECT whose()"))).scalar()
async def main():
    engine = create_async_engine("sqlite+aiosqlite://")
    event.listen(engine.sync_engine, "connect", lambda dbapi, _: dbapi.create_function("whose", 0, whose))
    with request("r1"):
        print(await ask(engine))
    print(await ask(engine))
    with request("r2"):
        print(await ask(engine))
        print(await ask(engine))
    await engine.dispose()
asyncio.run(main())
""",
}


@pytest.mark.parametrize("program", POOLS.values(), ids=POOLS)
def test_job_of_a_pool_is_its_submitter_s(program: str, tmp_path: Path) -> None:
    """A pool that began in one request runs the jobs of the next in theirs, and those of nobody in none."""
    assert ["r1", "nobody", "r2", "r2"] == run_fresh(BEFORE + program, tmp_path).lines


WORKERS = {
    "queue": """
import queue
class Lazy:
    def __init__(self):
        self.queue = queue.Queue()
        threading.Thread(target=self._run, daemon=True).start()
    def _run(self):
        while True:
            reply = self._next()
            reply.set(whose())
    def _next(self):
        return self.queue.get()
class Reply(threading.Event):
    def set(self, value): self.value = value; super().set()
def ask():
    reply = Reply(); lazy.queue.put(reply); wait(reply)
    return reply.value
with request("r1"):
    lazy = Lazy()
    assert ask() == "r1"
    def meanwhile():
        with request("r2"):
            print(ask())
    contextvars.Context().run(meanwhile)
print(ask())
with request("r3"):
    print(ask())
""",
    "condition": """
import collections
jobs, there = collections.deque(), threading.Condition()
class Worker(threading.Thread):
    daemon = True
    def run(self):
        while True:
            reply, done = self.next(); reply.append(whose()); done.set()
    def next(self):
        with there:
            while not jobs: there.wait()
            return jobs.popleft()
def ask():
    reply, done = [], threading.Event()
    with there: jobs.append((reply, done)); there.notify()
    wait(done)
    return reply[0]
with request("r1"):
    Worker().start()
    assert ask() == "r1"
with request("r2"): print(ask())
print(ask())
""",
    "event": """
import collections
jobs, there = collections.deque(), threading.Event()
def work():
    while True:
        there.wait(); there.clear()
        while jobs:
            reply, done = jobs.popleft(); reply.append(whose()); done.set()
def ask():
    reply, done = [], threading.Event()
    jobs.append((reply, done)); there.set(); wait(done)
    return reply[0]
with request("r1"):
    threading.Thread(target=work, daemon=True).start()
    assert ask() == "r1"
with request("r2"): print(ask())
print(ask())
""",
    "asyncio-task": """
import asyncio
async def main():
    jobs = asyncio.Queue()
    async def work():
        while True:
            reply = await jobs.get(); reply.set_result(whose())
    async def ask():
        reply = asyncio.get_running_loop().create_future(); await jobs.put(reply)
        return await reply
    with request("r1"):
        task = asyncio.create_task(work())
        assert await ask() == "r1"
    print(await ask())
    with request("r2"): print(await ask())
    task.cancel()
asyncio.run(main())
""",
    "queue-of-an-untraced-job": """
import queue
jobs, seen = queue.Queue(), queue.Queue()
def work():
    while True: jobs.get(); seen.put(whose())
with request("r1"):
    threading.Thread(target=work, daemon=True).start()
jobs.put(1); print(seen.get())
""",
    "clock": """
ticks, ended = [], threading.Event()
def tick():
    while not ended.wait(0.01):
        ticks.append(whose())
        if len(ticks) == 3: ended.set()
with request("r1"):
    thread = threading.Thread(target=tick)
    thread.start()
thread.join(); print(ticks[-1])
""",
    "timer-of-timer": """
fired, ended = [], threading.Event()
def fire():
    fired.append(whose())
    if len(fired) < 4: threading.Timer(0.01, fire).start()
    else: ended.set()
with request("r1"):
    threading.Timer(0.01, fire).start()
wait(ended); print(fired[-1])
""",
    "scheduler": """
from apscheduler.schedulers.background import BackgroundScheduler
seen = threading.Semaphore(0)
def job(): print(whose()); seen.release()
with request("r1"):
    scheduler = BackgroundScheduler(); scheduler.start()
    scheduler.add_job(job, "interval", seconds=0.05, id="job")
    assert seen.acquire(timeout=20)
assert seen.acquire(timeout=20)
scheduler.shutdown()
""",
    "asyncio-scheduler": """
import asyncio
from apscheduler.schedulers.asyncio import AsyncIOScheduler
async def main():
    seen = asyncio.Semaphore(0)
    async def job(): print(whose()); seen.release()
    with request("r1"):
        scheduler = AsyncIOScheduler(); scheduler.start()
        scheduler.add_job(job, "interval", seconds=0.05)
        await seen.acquire()
    await seen.acquire()
    scheduler.shutdown()
asyncio.run(main())
""",
    "log-listener": """
import logging, logging.handlers, queue
records = queue.Queue()
class Handler(logging.Handler):
    def emit(self, record): print(whose())
listener = logging.handlers.QueueListener(records, Handler())
with request("r1"):
    listener.start()
    logging.getLogger("x").addHandler(logging.handlers.QueueHandler(records))
    logging.getLogger("x").warning("hello")
    listener.stop()
""",
}


THREAD_FED = """
import collections, itertools
numbers, jobs = itertools.count(), collections.deque()
PREPARE
def work():
    while True:
        TAKE; reply.append(whose()); done.set()
def ask():
    reply, done = job = [], threading.Event()
    GIVE; wait(done)
    return reply[0]
with request("r1"):
    threading.Thread(target=work, daemon=True).start()
    assert ask() == "r1"
    def meanwhile():
        with request("r2"): print(ask())
    contextvars.Context().run(meanwhile)
with request("r3"): print(ask())
"""
FED_BY = {
    "lifo": ("import queue; there = queue.LifoQueue()", "reply, done = there.get()", "there.put(job)"),
    "lifo-nowait": (
        "import queue; there, more = queue.LifoQueue(), threading.Lock(); more.acquire()",
        "more.acquire(); reply, done = there.get_nowait()",
        "there.put_nowait(job); more.release()",
    ),
    "priority": (
        "import queue; there = queue.PriorityQueue()",
        "_, reply, done = there.get()",
        "there.put((next(numbers), *job))",
    ),
    "multiprocessing": (
        "import multiprocessing; there = multiprocessing.Queue()",
        "there.get(); reply, done = jobs.popleft()",
        "jobs.append(job); there.put(1)",
    ),
    "multiprocessing-joinable": (
        "import multiprocessing; there = multiprocessing.JoinableQueue()",
        "there.get(True, 20); reply, done = jobs.popleft()",
        "jobs.append(job); there.put(obj=1)",
    ),
    "multiprocessing-simple": (
        "import multiprocessing; there = multiprocessing.SimpleQueue()",
        "there.get(); reply, done = jobs.popleft()",
        "jobs.append(job); there.put(1)",
    ),
    "semaphore": (
        "there = threading.Semaphore(0)",
        "there.acquire(); reply, done = jobs.popleft()",
        "jobs.append(job); there.release()",
    ),
    "bounded-semaphore": (
        "there = threading.BoundedSemaphore(9); [there.acquire() for _ in range(9)]",
        "there.acquire(timeout=20); reply, done = jobs.popleft()",
        "jobs.append(job); there.release()",
    ),
    "condition-wait-for": (
        "there = threading.Condition()",
        "\n        with there: there.wait_for(lambda: jobs, 20); reply, done = jobs.popleft()\n        reply",
        "\n    with there: jobs.append(job); there.notify_all()\n    done",
    ),
}


@pytest.mark.parametrize(("prepare", "take", "give"), FED_BY.values(), ids=FED_BY)
def test_worker_runs_no_other_s_job_in_its_request_s_trace(prepare: str, take: str, give: str, tmp_path: Path) -> None:
    """By whatever it is fed, also while the request that made it is under way."""
    program = THREAD_FED.replace("PREPARE", prepare).replace("TAKE", take).replace("GIVE", give)
    assert ["nobody", "nobody"] == run_fresh(BEFORE + program, tmp_path).lines


GREENLET_FED = """
import collections, gevent, gevent.event, gevent.queue
jobs = collections.deque()
there = MAKE
def work():
    while True:
        TAKE; reply.append(whose()); done.set()
def ask():
    reply, done = job = [], gevent.event.Event()
    GIVE; assert done.wait(20)
    return reply[0]
with request("r1"):
    gevent.spawn(work)
    assert ask() == "r1"
def meanwhile():
    with request("r2"): print(ask())
    print(ask())
gevent.spawn(meanwhile).join()
"""
GREENLETS_FED_BY = {
    "queue": ("gevent.queue.Queue()", "reply, done = there.get()", "there.put(job)"),
    "simple": ("gevent.queue.SimpleQueue()", "reply, done = there.get()", "there.put(job)"),
    "joinable": ("gevent.queue.JoinableQueue()", "reply, done = there.get()", "there.put_nowait(job)"),
    "event": (
        "gevent.event.Event()",
        "there.wait(); there.clear(); reply, done = jobs.popleft()",
        "jobs.append(job); there.set()",
    ),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("make", "take", "give"), GREENLETS_FED_BY.values(), ids=GREENLETS_FED_BY)
def test_greenlet_that_serves_all_is_nobody_s(make: str, take: str, give: str, way: str, tmp_path: Path) -> None:
    """From the first job of another request on, by gevent's own queues and events."""
    program = GREENLET_FED.replace("MAKE", make).replace("TAKE", take).replace("GIVE", give)
    assert {"nobody"} == set(run_fresh(BEFORE + program, tmp_path, way).lines)


TASK_FED = """
import asyncio, collections
jobs = collections.deque()
async def main():
    PREPARE
    async def work():
        while True:
            TAKE; reply.set_result(whose())
    async def ask():
        reply = asyncio.get_running_loop().create_future()
        GIVE
        return await reply
    with request("r1"):
        task = asyncio.create_task(work())
        assert await ask() == "r1"
    with request("r2"): print(await ask())
    print(await ask())
    task.cancel()
asyncio.run(main())
"""
TASKS_FED_BY = {
    "queue": ("there = asyncio.Queue()", "reply = await there.get()", "await there.put(reply)"),
    "lifo": ("there = asyncio.LifoQueue()", "reply = await there.get()", "await there.put(reply)"),
    "priority": ("there = asyncio.PriorityQueue()", "reply = (await there.get())[1]", "there.put_nowait((1, reply))"),
    "event": (
        "there = asyncio.Event()",
        "await there.wait(); there.clear(); reply = jobs.popleft()",
        "jobs.append(reply); there.set()",
    ),
    "condition": (
        "there = asyncio.Condition()",
        "\n            async with there: await there.wait_for(lambda: jobs); reply = jobs.popleft()\n            reply",
        "\n        async with there: jobs.append(reply); there.notify()",
    ),
    "semaphore": (
        "there = asyncio.Semaphore(0)",
        "await there.acquire(); reply = jobs.popleft()",
        "jobs.append(reply); there.release()",
    ),
    "anyio": (
        "import anyio; put, there = anyio.create_memory_object_stream(9)",
        "reply = await there.receive()",
        "await put.send(reply)",
    ),
    "anyio-without-buffer": (
        "import anyio; put, there = anyio.create_memory_object_stream()",
        "\n          async for reply in there",
        "await put.send(reply)",
    ),
}


@pytest.mark.parametrize(("prepare", "take", "give"), TASKS_FED_BY.values(), ids=TASKS_FED_BY)
def test_task_that_serves_all_is_nobody_s(prepare: str, take: str, give: str, tmp_path: Path) -> None:
    """From the first job of another request after the end of the one that made it."""
    take = take if not take.endswith("in there") else take + ": reply"
    program = TASK_FED.replace("PREPARE", prepare).replace("TAKE", take).replace("GIVE", give)
    assert {"nobody"} == set(run_fresh(BEFORE + program, tmp_path).lines)


@pytest.mark.parametrize("program", WORKERS.values(), ids=WORKERS)
def test_worker_is_nobody_s(program: str, tmp_path: Path) -> None:
    """A thread that one request made and all requests use leaves that request's trace with the first sign of it."""
    assert {"nobody"} == set(run_fresh(BEFORE + program, tmp_path).lines)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("imported", ["", "import flask, starlette.applications, requests, httpx, aiohttp\n"])
def test_plain_thread_is_hooked_whatever_is_imported(way: str, imported: str, tmp_path: Path) -> None:
    """No import of the program's is needed: threading is there from the start."""
    program = imported + BEFORE + ONE_SHOT["thread"] + "import sys; print('concurrent.futures.thread' in sys.modules)"
    lines = run_fresh(program, tmp_path, way).lines
    assert "r1" == lines[0]
    assert "False" == lines[1] or imported


KEYWORDS = """
import asyncio, multiprocessing
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing.pool import ThreadPool
NAMES = ("self", "fn", "func", "function", "original", "args", "kwargs", "iterable", "callback", "node", "context")
KEYWORDS = {name: number for number, name in enumerate(NAMES)}
class Pool(ThreadPoolExecutor): pass
async def in_a_loop():
    return await asyncio.to_thread(dict, **KEYWORDS)
if __name__ == "__main__":
    with request("r1"):
        fork = multiprocessing.get_context("fork")
        print(ThreadPoolExecutor(1).submit(dict, **KEYWORDS).result() == KEYWORDS)
        print(Pool(1).submit(dict, **KEYWORDS).result() == KEYWORDS)
        print(ProcessPoolExecutor(1, fork).submit(dict, **KEYWORDS).result() == KEYWORDS)
        with ThreadPool(1) as pool: print(pool.apply(dict, kwds=KEYWORDS) == KEYWORDS)
        with fork.Pool(1) as pool: print(pool.apply_async(dict, (), KEYWORDS).get() == KEYWORDS)
        print(asyncio.run(in_a_loop()) == KEYWORDS)
"""


def test_job_takes_keywords_of_any_name(tmp_path: Path) -> None:
    """`dict(self=1)` is a job like any other, in threads and processes."""
    assert ["True"] * 6 == run_fresh(BEFORE + KEYWORDS, tmp_path).lines


PROCESS_POOLS = {
    "pool-fork": """
with request("r1"):
    pool = multiprocessing.get_context("fork").Pool(1, initializer=begin)
    print(name(pool.apply(trace)))
print(name(pool.apply(trace)))
with request("r2"):
    results = [pool.apply(func=trace), *pool.map(trace, [1]), *pool.starmap(trace, [(1,)]), *pool.imap(trace, [1, 2])]
    results += [*pool.imap_unordered(trace, [1], 2), pool.apply(initial)]
    print(*set(map(name, results)))
    called = threading.Event()
    pool.apply_async(trace, callback=lambda _: (print(whose()), called.set()))
wait(called)
""",
    "pool-that-replaces-workers": """
with request("r1"):
    pool = multiprocessing.get_context("fork").Pool(1, maxtasksperchild=1)
    print(name(pool.apply(trace)))
print(*{name(pool.apply(trace)) for _ in range(3)})
with request("r2"):
    print(name(pool.apply(trace)))
    print(name(pool.apply(trace)))
""",
    "pool-spawn": """
with request("r1"):
    pool = multiprocessing.get_context("spawn").Pool(1)
    print(name(pool.apply(trace)))
print(name(pool.apply(trace)))
with request("r2"):
    print(name(pool.apply(trace)))
    print(*set(map(name, pool.map(trace, range(3)))))
""",
    "executor": """
from concurrent.futures import ProcessPoolExecutor
with request("r1"):
    pool = ProcessPoolExecutor(1, multiprocessing.get_context("fork"), initializer=begin)
    print(name(pool.submit(trace).result()))
print(name(pool.submit(trace).result()))
with request("r2"):
    print(*set(map(name, [*pool.map(trace, range(3)), pool.submit(initial).result()])))
    called = threading.Event()
    pool.submit(trace).add_done_callback(lambda _: (print(whose()), called.set()))
wait(called)
""",
    "joblib-processes": """
import joblib
with request("r1"):
    parallel = joblib.Parallel(2, backend="multiprocessing").__enter__()
    print(*set(map(name, parallel(joblib.delayed(trace)(n) for n in range(9)))))
print(*set(map(name, parallel(joblib.delayed(trace)(n) for n in range(9)))))
with request("r2"):
    print(*set(map(name, parallel(joblib.delayed(trace)(n) for n in range(9)))))
    print(name(parallel([joblib.delayed(trace)(1)])[0]))
parallel.__exit__(None, None, None)
""",
    "joblib": """
import joblib
with request("r1"):
    parallel = joblib.Parallel(2).__enter__()
    print(*set(map(name, parallel(joblib.delayed(trace)(n) for n in range(9)))))
print(*set(map(name, parallel(joblib.delayed(trace)(n) for n in range(9)))))
with request("r2"):
    print(*set(map(name, parallel(joblib.delayed(trace)(n) for n in range(9)))))
    print(name(parallel([joblib.delayed(trace)(1)])[0]))
parallel.__exit__(None, None, None)
""",
}
PROCESSES = """
import multiprocessing
seen = []
def trace(*_):
    context = clew.get_trace_context()
    return context and context.trace_id
def begin(): seen.append(trace())
def initial():
    assert seen == [None], seen
    return trace()
def name(trace_id): return owners[trace_id] if trace_id else "nobody"
if __name__ == "__main__":
"""


@pytest.mark.parametrize("program", PROCESS_POOLS.values(), ids=PROCESS_POOLS)
def test_job_of_a_process_pool_is_its_submitter_s(program: str, tmp_path: Path) -> None:
    """Workers that are forked inside a request begin, and stay, outside of its trace; jobs take theirs along."""
    main = textwrap.indent(
        program + "\nif 'pool' in globals() and hasattr(pool, 'close'): pool.close(); pool.join()\n", "    "
    )
    assert ["r1", "nobody", "r2", "r2"] == run_fresh(BEFORE + PROCESSES + main, tmp_path).lines


def test_process_of_a_request_s_own_stays_in_its_trace(tmp_path: Path) -> None:
    """A piece of work that is forked inside a request is the request's."""
    program = """
import multiprocessing
with request("r1"):
    child = multiprocessing.get_context("fork").Process(target=lambda: print(whose(), flush=True))
    child.start(); child.join()
"""
    assert ["r1"] == run_fresh(BEFORE + program, tmp_path).lines


GREENLETS = {
    "spawn": "greenlets = [gevent.spawn(whose), gevent.spawn_later(0.01, whose)]",
    "subclass": """
class Own(gevent.Greenlet):
    def _run(self): return whose()
greenlets = [Own(), Own.spawn()]
greenlets[0].start()""",
    "pool": "greenlets = [gevent.pool.Pool(2).spawn(whose), gevent.pool.Group().apply_async(whose)]",
    "map": "print(*set(gevent.pool.Pool(2).map(lambda _: whose(), range(4))))",
    "imap": "print(*set(gevent.pool.Pool(2).imap_unordered(lambda _: whose(), range(4))))",
    "nested": "greenlets = [gevent.spawn(lambda: gevent.spawn(whose).get())]",
    "threadpool": """
pool = gevent.get_hub().threadpool
print(*{pool.spawn(whose).get(), pool.apply(whose), *pool.map(lambda _: whose(), [1])})""",
    "threadpool-executor": "print(gevent.threadpool.ThreadPoolExecutor(1).submit(whose).result())",
}


@pytest.mark.parametrize("way", ["first", "last"])
@pytest.mark.parametrize("program", GREENLETS.values(), ids=GREENLETS)
def test_greenlet_is_its_spawner_s(program: str, way: str, tmp_path: Path) -> None:
    """Of any kind; outside of a request it is nobody's, also on a thread that has served one."""
    header = "import gevent, gevent.pool, gevent.threadpool\n" + BEFORE
    body = "greenlets = []\n" + program + "\nfor greenlet in greenlets: print(greenlet.get())\n"
    code = header + 'with request("r1"):\n' + textwrap.indent(body, "    ") + "print('-')\n" + body
    lines = run_fresh(code, tmp_path, way).lines
    inside, outside = lines[: lines.index("-")], lines[lines.index("-") + 1 :]
    assert ({"r1"}, {"nobody"}) == (set(inside), set(outside))


MONKEY = {
    "thread": ONE_SHOT["thread"] + "print('nobody'); print('r2'); print('r2')",
    "futures": POOLS["futures"],
    "threadpool": POOLS["threadpool"],
    "greenlet": """
import gevent
with request("r1"): print(gevent.spawn(whose).get())
print(gevent.spawn(whose).get())
with request("r2"): print(*{gevent.spawn(whose).get() for _ in range(3)}); print(whose())
""",
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("program", MONKEY.values(), ids=MONKEY)
def test_threads_that_are_greenlets_follow_the_rules_of_threads(program: str, way: str, tmp_path: Path) -> None:
    """Patched by gevent before or after clew."""
    patch = "from gevent import monkey; monkey.patch_all()\n"
    assert ["r1", "nobody", "r2", "r2"] == run_fresh(patch + BEFORE + program, tmp_path, way).lines


PRIORITY_QUEUE = """
import itertools, queue
numbers = itertools.count()
jobs = queue.PriorityQueue()
def work():
    while True:
        _, reply, done = jobs.get(); reply.append(whose()); done.set()
def ask():
    reply, done = [], threading.Event()
    jobs.put((next(numbers), reply, done)); wait(done)
    return reply[0]
with request("r1"):
    threading.Thread(target=work, daemon=True).start()
    assert ask() == "r1"
with request("r2"): print(ask())
print(ask())
"""
WITHOUT_THREADS = """
from concurrent.futures import ThreadPoolExecutor
clew.uninstrument("threads")
with request("r1"):
    pool = ThreadPoolExecutor(1); pool.submit(whose).result()
with request("r2"): print(pool.submit(whose).result())
"""


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "program",
    [WORKERS["queue"], WORKERS["event"], WORKERS["condition"], PRIORITY_QUEUE, WITHOUT_THREADS],
    ids=["queue", "event", "condition", "priority-queue", "greenlets-only"],
)
def test_worker_that_is_a_greenlet_is_nobody_s(program: str, way: str, tmp_path: Path) -> None:
    """gevent's queues and events are of classes that take no patch; and where only greenlets are hooked, no thread."""
    patch = "from gevent import monkey; monkey.patch_all()\n"
    assert {"nobody"} == set(run_fresh(patch + BEFORE + program, tmp_path, way).lines)


@pytest.mark.parametrize("way", WAYS)
def test_gevent_s_queues_and_events_are_as_they_were(way: str, tmp_path: Path) -> None:
    """Under the same name everywhere, subclasses and all, and their own again after uninstrument()."""
    program = (
        """
from gevent import monkey; monkey.patch_all()
import queue, threading, weakref, gevent.queue, gevent.event
plain = queue.Queue
"""
        + MARK
        + """
import clew
class Own(queue.Queue):
    def get(self, *args, **kwargs): return super().get(*args, **kwargs) + 1
own = Own(2); own.extra = 1; own.put_nowait(1); own.put(item=2, block=True, timeout=None)
weakref.ref(own)
print(queue.Queue is gevent.queue.Queue, threading.Event is gevent.event.Event, issubclass(queue.Queue, plain))
print(own.get_nowait(), own.get(block=False), own.qsize(), own.maxsize, queue.Queue.__name__)
joined = gevent.queue.JoinableQueue(); joined.put(1); print(joined.get(timeout=1)); joined.task_done(); joined.join()
channel = queue.SimpleQueue(); channel.put(1); print(channel.get())
clew.uninstrument()
print([cls.__module__.split(".")[0] for cls in (queue.Queue, threading.Event)], queue.Queue is gevent.queue.Queue)
own.put(1); print(own.get())
"""
    )
    expected = ["True True True", "2 3 0 2 Queue", "1", "1", "['gevent', 'gevent'] True", "2"]
    assert expected == run_fresh(program, tmp_path, way).lines


def test_what_could_not_be_hooked_is_not_named(tmp_path: Path) -> None:
    """A library of an odd version is left alone, whole, and is not in the list that instrument() returns."""
    program = """
import threading
class Odd(threading.Thread.__class__):
    def __setattr__(self, name, value): raise TypeError("cannot set")
class Thread(threading.Thread, metaclass=Odd): pass
plain = threading.Event.wait
threading.Thread = Thread
import clew
clew.configure()
print("threads" in clew.instrument(), "processes" in clew.instrument())
print(threading.Event.wait is plain)
"""
    assert ["False True", "True"] == run_fresh(program, tmp_path, "none").lines


AS_IN_314 = """
import contextvars, sys, threading
start = threading.Thread.start
def start_in_context(self):
    if self._context is None:
        self._context = contextvars.copy_context() if INHERIT else contextvars.Context()
    run, context = self.run, self._context
    self.run = lambda: context.run(run)
    start(self)
if not hasattr(threading.Thread(), "_context"):
    threading.Thread._context = None
    threading.Thread.start = start_in_context
"""


@pytest.mark.parametrize("inherit", [True, False])
@pytest.mark.parametrize("program", [ONE_SHOT["thread"], ONE_SHOT["timer"]])
def test_thread_that_runs_in_a_context_of_its_own_is_the_request_s(program: str, inherit: bool, tmp_path: Path) -> None:
    """As all do since 3.14: in an empty one, or in a copy of its starter's (with free threads)."""
    before = AS_IN_314.replace("INHERIT", str(inherit)) + BEFORE
    assert ["r1"] == run_fresh(before + program, tmp_path, "last").lines


@pytest.mark.parametrize("inherit", [True, False])
def test_worker_that_runs_in_a_context_of_its_own_is_nobody_s(inherit: bool, tmp_path: Path) -> None:
    """Also where the context is a copy; and a context that the program gives is the program's choice."""
    program = """
from concurrent.futures import ThreadPoolExecutor
class Given(threading.Thread):
    def run(self): print(whose())
with request("r1"):
    pool = ThreadPoolExecutor(1, initializer=lambda: print(whose())); pool.submit(int).result()
    thread = Given(); thread._context = contextvars.Context(); thread.start(); thread.join()
"""
    before = AS_IN_314.replace("INHERIT", str(inherit)) + BEFORE
    assert ["nobody", "nobody"] == run_fresh(before + program, tmp_path, "last").lines
