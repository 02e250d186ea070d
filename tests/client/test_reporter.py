"""The queue and its thread: nothing blocks, nothing is lost without being counted, loss itself is told."""

from __future__ import annotations

import gc
import json
import logging
import signal
import threading
from typing import Any

import pytest

import clew
from clew._tracer import tracer
from clew.senders import SendError
from client.recording import FailingSender, GatedSender, RecordingSender, wait_until
from client.servers import HttpCollector, UdpCollector, free_port


def finish(count: int, name: str = "work") -> None:
    for _ in range(count):
        with clew.start_span(name):
            pass


def accounted() -> int:
    counts = clew.stats()
    return counts["reported"] + counts["dropped"] + counts["queued"]


def configure(sender: Any, **options: Any) -> None:
    clew.configure(service="test", reporter=sender, **{"flush_interval": 0.01, **options})


# Delivery


def test_flush_delivers_what_was_finished_before():
    """And says so; the counts agree."""
    sender = RecordingSender()
    configure(sender, flush_interval=60.0)
    finish(1_000)
    assert clew.flush(10.0)
    assert 1_000 == len(sender.spans)
    assert {"reported": 1_000, "dropped": 0, "queued": 0, "errors": 0}.items() <= clew.stats().items()


def test_span_goes_out_by_itself_after_the_interval():
    """Nobody has to flush."""
    sender = RecordingSender()
    configure(sender, flush_interval=0.01)
    finish(1)
    wait_until(lambda: len(sender.spans) == 1)


def test_half_full_queue_wakes_the_thread():
    """A burst does not wait for the interval."""
    sender = RecordingSender()
    configure(sender, flush_interval=600.0, queue_size=100)
    finish(80)
    wait_until(lambda: len(sender.spans) >= 51)


def test_batches_keep_to_the_senders_size():
    """No message is larger than the sender takes, and spans stay whole and in order."""
    sender = RecordingSender(max_message_bytes=1_000)
    configure(sender)
    for number in range(100):
        with clew.start_span(f"span {number}"):
            pass
    assert clew.flush()
    assert [f"span {number}" for number in range(100)] == [span["name"] for span in sender.spans]
    sizes = [sum(map(len, batch)) + len(batch) + 1 for _, batch in sender.messages]
    assert max(sizes) <= 1_000
    assert len(sender.messages) < 40


def test_oversize_span_is_cut_to_fit_and_an_impossible_one_counted():
    """A span larger than a message loses tags, not its life; below its bones it is dropped as too large."""
    sender = RecordingSender(max_message_bytes=700)
    configure(sender)
    with clew.start_span("large", tags={"body": "x" * 10_000_000}):
        pass
    assert clew.flush()
    assert "too large" in sender.span("large")["tags"]["clew.cut"]
    sender = RecordingSender(max_message_bytes=100)
    configure(sender)
    finish(3)
    assert clew.flush()
    assert (3, 3, 0) == tuple(clew.stats()[name] for name in ("dropped", "too_large", "queued"))


def test_spans_that_cannot_be_encoded_are_counted():
    """One bad span does not take its neighbours along."""
    sender = RecordingSender()
    configure(sender)
    finish(2, "good")
    with clew.start_span("bad") as span:
        span.annotations = [("not a time", "x")]  # type: ignore[list-item]
    finish(2, "good")
    assert clew.flush()
    assert ["good"] * 4 == [found["name"] for found in sender.spans]
    assert (4, 1, 1, 1) == tuple(clew.stats()[name] for name in ("reported", "dropped", "encode_failed", "errors"))


def test_no_reporter_counts_what_it_drops():
    """``reporter="none"`` is a decision, not a loss without a trace."""
    configure("none")
    finish(5)
    assert clew.flush()
    assert (5, 5) == (clew.stats()["dropped"], clew.stats()["no_reporter"])


# Never blocking


def test_put_takes_no_lock_while_there_is_room():
    """Whoever holds the reporter's lock, for as long as he likes, holds up no application thread."""
    sender = RecordingSender()
    configure(sender, queue_size=1_000, flush_interval=600.0)
    finish(1)
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with tracer().reporter.lock:
            held.set()
            release.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    finish(999)
    release.set()
    holder.join()
    assert clew.flush()
    assert 1_000 == clew.stats()["reported"]


def test_sender_holds_no_lock_while_it_sends():
    """A sender that never returns holds up nobody: spans are queued, then dropped and counted."""
    sender = GatedSender()
    configure(sender, queue_size=100)
    finish(1)
    assert sender.entered.wait(20.0)
    finish(100_000)
    counts = clew.stats()
    assert (0, 100_001) == (counts["reported"], counts["dropped"] + counts["queued"])
    assert 100 < counts["queued"] <= 101 + 64
    assert not clew.flush(0.01)
    sender.gate.set()
    assert clew.flush()
    assert 100_001 == accounted()
    assert counts["queued"] == len(sender.spans)


def test_counts_are_exact_with_eight_threads():
    """Finished = reported + dropped + queued, at every look while it happens and at the end."""
    sender = RecordingSender()
    configure(sender, queue_size=500)
    ready = threading.Barrier(9)

    def work() -> None:
        ready.wait()
        finish(5_000)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    ready.wait()
    last = 0
    while any(thread.is_alive() for thread in threads):
        now = accounted()
        assert last <= now <= 40_000
        last = now
    assert 40_000 == accounted()
    assert clew.flush()
    assert (40_000, len(sender.spans), 0) == (accounted(), clew.stats()["reported"], clew.stats()["queued"])


@pytest.mark.parametrize("collector", ["closed udp", "closed http", "black hole", "503", "400", "no directory"])
def test_hundred_thousand_spans_at_an_unreachable_collector(collector: str, tmp_path: Any):
    """Memory is bounded by the queue, every span is accounted for, and the process may end in time."""
    with HttpCollector() as server:
        server.answer = (int(collector), {"Retry-After": "30"}) if collector.isdigit() else (202, {})
        server.hold = threading.Event() if collector == "black hole" else None
        url = {
            "closed udp": f"udp://127.0.0.1:{free_port()}",
            "closed http": f"http://127.0.0.1:{free_port()}",
            "no directory": f"file://{tmp_path}/missing/spans.json",
        }.get(collector, server.url)
        clew.configure(service="test", reporter=url, queue_size=1_000, flush_interval=0.01)
        finish(100_000)
        counts = clew.stats()
        assert 100_000 == accounted()
        assert 0 == counts["reported"]
        gc.collect()
        living = sum(type(thing) is clew.Span for thing in gc.get_objects())
        assert living < 1_000 + 5_000  # the queue, and a message of at most 1 MiB
        given_up = not clew.shutdown(0.2)
        assert given_up is (collector != "400")  # a final no is not given up
        assert 100_000 == accounted()
        finish(1)
        assert (100_001, 1) == (accounted(), clew.stats()["closed"])


def test_refused_spans_are_not_sent_again():
    """A final no is counted as such, and the next batch is tried."""
    with HttpCollector() as server:
        server.answer = (400, {})
        configure(server.url)
        finish(3)
        assert clew.flush()
        assert (3, 1) == (clew.stats()["refused"], len(server.requests))
        server.answer = (202, {})
        finish(2)
        assert clew.flush()
    assert (2, 3) == (clew.stats()["reported"], clew.stats()["dropped"])


def test_collector_that_comes_back_gets_what_was_queued():
    """Nothing is lost by a restart shorter than the queue is long."""
    port = free_port()
    configure(f"http://127.0.0.1:{port}")
    finish(50)
    wait_until(lambda: clew.stats()["errors"] >= 1)
    assert 50 == clew.stats()["queued"]
    with HttpCollector(port) as server:
        assert clew.flush(20.0)
        assert 50 == len(server.spans)
    assert (50, 0) == (clew.stats()["reported"], clew.stats()["dropped"])


def test_udp_collector_that_comes_back_gets_what_was_queued():
    """The kernel tells of a closed port on the same host, so UDP keeps the batch as well."""
    with UdpCollector() as first:
        port = first.port
    configure(f"udp://127.0.0.1:{port}")
    finish(50)
    wait_until(lambda: clew.stats()["errors"] >= 1)
    assert (0, 50) == (clew.stats()["reported"], clew.stats()["queued"])
    with UdpCollector(port=port) as second:
        assert clew.flush(20.0)
        assert 50 == len(second.wait_for(50))


# Loss is told


def test_loss_is_told_to_the_collector():
    """The next batch carries the counts of the process; a span of the trace those of the trace."""
    sender = GatedSender()
    configure(sender, queue_size=10)
    finish(1, "first")
    assert sender.entered.wait(20.0)
    with clew.start_span("root"):
        finish(10, "kept")
        finish(7, "lost")
        sender.gate.set()
        assert clew.flush()
        finish(1, "after")
    assert clew.flush()
    lost = clew.stats()["queue_full"]
    assert 7 <= lost
    told = [span["tags"] for span in sender.spans if "clew.dropped" in span.get("tags", {})]
    assert [f"queue_full={lost}"] == [tags["clew.dropped"] for tags in told]
    traces = [
        span["tags"]["clew.trace_dropped"] for span in sender.spans if "clew.trace_dropped" in span.get("tags", {})
    ]
    assert [str(lost)] == traces


def test_loss_told_on_a_lost_span_is_told_again():
    """Counts that travelled on a refused batch are not forgotten."""
    sender = FailingSender(SendError("no", retry=False))
    configure(sender)
    with clew.start_span("root"):
        finish(2, "refused")
        assert clew.flush()
        finish(3, "refused with the counts")
        assert clew.flush()
        sender.problem = None
        finish(1, "arrives")
        assert clew.flush()
    tags = sender.span("arrives")["tags"]
    assert {"clew.dropped": "refused=5", "clew.trace_dropped": "5"} == tags


def test_an_applications_own_clew_tags_do_no_harm():
    """Text in clew's own tags is the application's affair; losing such a span raises nothing."""
    sender = FailingSender(SendError("no", retry=False))
    configure(sender, queue_size=1)
    for _ in range(50):
        with clew.start_span("odd", tags={"clew.dropped": "a=b,=,x,\u00b2=\u00b2", "clew.trace_dropped": "many"}):
            pass
    assert clew.flush()
    sender.problem = None
    finish(1, "arrives")
    assert clew.flush()
    assert 51 == accounted()
    assert "arrives" == sender.span("arrives")["name"]


# Senders that misbehave


@pytest.mark.parametrize("problem", [SendError("away"), OSError(5, "input/output"), RuntimeError("bug"), ValueError()])
def test_failing_sender_is_tried_again(problem: Exception):
    """Whatever it raises: counted, retried, delivered once it works."""
    sender = FailingSender(problem)
    configure(sender)
    finish(3)
    wait_until(lambda: sender.failures >= 2)
    sender.problem = None
    assert clew.flush(10.0)
    assert 3 == len(sender.spans)
    assert sender.failures == clew.stats()["errors"]


def test_trouble_is_logged_once(caplog: pytest.LogCaptureFixture):
    """One line at WARNING on the logger ``clew``, however often it fails."""
    sender = FailingSender(SendError("collector is away"))
    configure(sender)
    finish(3)
    wait_until(lambda: sender.failures >= 3)
    sender.problem = None
    assert clew.flush(10.0)
    records = [record for record in caplog.records if record.name == "clew"]
    assert [logging.WARNING] == [record.levelno for record in records]
    assert "collector is away" in records[0].getMessage()


def test_failing_log_handler_does_not_stop_the_reporter():
    """The application's logging may be broken; the thread goes on."""

    def broken(record: logging.LogRecord) -> bool:
        raise RuntimeError("a filter with a bug")

    logger = logging.getLogger("clew")
    logger.addFilter(broken)
    try:
        sender = FailingSender()
        configure(sender)
        finish(1)
        wait_until(lambda: sender.failures >= 1)
        sender.problem = None
        assert clew.flush(10.0)
    finally:
        logger.removeFilter(broken)
    assert 1 == len(sender.spans)


def test_sender_that_flushes_does_not_wait_for_itself():
    """A call from the reporter's own thread returns at once."""
    answers: list[bool] = []

    class Flushing(RecordingSender):
        def send(self, messages: list[bytes], kind: str = "spans") -> None:
            answers.append(clew.flush(60.0))
            super().send(messages, kind)

    configure(Flushing())
    finish(1)
    assert clew.flush(10.0)
    assert [False] == answers


def test_spans_of_the_sender_itself_belong_to_no_request():
    """What a traced sender does is not in the trace of whoever started the thread."""
    contexts: list[object] = []

    class Looking(RecordingSender):
        def send(self, messages: list[bytes], kind: str = "spans") -> None:
            contexts.append(clew.get_trace_context())
            super().send(messages, kind)

    configure(Looking())
    with clew.start_span("root"):
        finish(1)
    assert clew.flush()
    assert {None} == set(contexts)


# Shutdown


def test_shutdown_delivers_and_takes_no_more():
    """What comes later is counted as closed; the sender is closed; doing it twice is one."""
    sender = RecordingSender()
    configure(sender, flush_interval=600.0)
    finish(10)
    assert clew.shutdown()
    assert clew.shutdown()
    finish(2)
    assert 10 == len(sender.spans)
    assert 1 <= sender.closed
    assert (10, 2, 2) == tuple(clew.stats()[name] for name in ("reported", "dropped", "closed"))


def test_shutdown_gives_up_in_time_and_says_so():
    """What is in a sender that does not return is neither delivered nor forgotten."""
    sender = GatedSender()
    configure(sender)
    finish(1)
    assert sender.entered.wait(20.0)
    assert not clew.shutdown(0.01)
    assert (1, 0) == (clew.stats()["queued"], clew.stats()["dropped"])
    finish(1)
    assert not clew.shutdown(0.01)
    assert 2 == accounted()
    sender.gate.set()
    assert clew.shutdown(10.0)
    assert 1 == clew.stats()["reported"]


def test_shutdown_counts_what_it_gives_up():
    """With the collector away."""
    sender = FailingSender()
    configure(sender)
    finish(100)
    assert not clew.shutdown(10.0)
    assert (100, 100, 0) == tuple(clew.stats()[name] for name in ("dropped", "send_failed", "queued"))


def test_flush_with_nothing_to_do():
    """Before the first span and after the last."""
    configure(RecordingSender())
    assert clew.flush(0.0)
    finish(1)
    assert clew.flush(10.0)
    assert clew.flush(0.0)


def test_flush_shortens_the_back_off():
    """Who flushes when the collector is back does not wait out Retry-After."""
    with HttpCollector() as server:
        server.answer = (503, {"Retry-After": "60"})
        configure(server.url)
        finish(1)
        wait_until(lambda: len(server.requests) >= 1)
        server.answer = (202, {})
        assert clew.flush(20.0)


def test_flush_from_many_threads():
    """All of them are told."""
    sender = RecordingSender()
    configure(sender, flush_interval=600.0)
    answers: list[bool] = []

    def work() -> None:
        finish(10)
        answers.append(clew.flush(10.0))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [True] * 8 == answers
    assert 80 == len(sender.spans)


# Configured again


def test_configure_again_delivers_what_was_queued_first():
    """The old reporter gets its own, the new one what comes after."""
    first, second = RecordingSender(), RecordingSender()
    configure(first, flush_interval=600.0)
    finish(3)
    configure(second)
    finish(2)
    assert clew.flush()
    assert (3, 2) == (len(first.spans), len(second.spans))


def test_span_in_flight_over_a_second_configure_is_delivered():
    """Begun under the old reporter, finished under the new: sent by the new."""
    first, second = RecordingSender(), RecordingSender()
    configure(first)
    span = clew.start_span("in flight")
    configure(second)
    with clew.start_span("child"):
        pass
    span.finish()
    assert clew.flush()
    assert [] == first.spans
    assert ["child", "in flight"] == [found["name"] for found in second.spans]
    assert 2 == clew.stats()["reported"]


# Odd places


def test_spans_from_a_signal_handler_are_counted_exactly():
    """A handler that interrupts anything, a drop as well, may finish spans."""
    sender = GatedSender()
    configure(sender, queue_size=50)
    finish(1)
    assert sender.entered.wait(20.0)
    by_handler = 0

    def handler(*_: object) -> None:
        nonlocal by_handler
        finish(1)
        by_handler += 1

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
    try:
        finish(30_000)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
    assert by_handler > 10
    assert 30_001 + by_handler == accounted()
    sender.gate.set()


def test_first_span_in_a_signal_handler_starts_one_thread():
    """Interrupting the start of the thread does not make a second one."""
    for _ in range(20):
        others = set(threading.enumerate())
        sender = RecordingSender()
        configure(sender)
        before = signal.signal(signal.SIGALRM, lambda *_: finish(1))
        signal.setitimer(signal.ITIMER_REAL, 0.0001, 0.0001)
        try:
            finish(50)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            signal.signal(signal.SIGALRM, before)
        assert ["clew-reporter"] == [thread.name for thread in threading.enumerate() if thread not in others]
        assert clew.shutdown(10.0)


def test_spans_finished_by_the_garbage_collector():
    """``__del__`` may run anywhere, inside clew as well."""
    sender = RecordingSender()
    configure(sender)

    class Holder:
        def __init__(self) -> None:
            self.me = self
            self.span = clew.start_span("held")

        def __del__(self) -> None:
            self.span.finish()

    before = gc.get_threshold()
    gc.set_threshold(5)
    try:
        for _ in range(2_000):
            Holder()
    finally:
        gc.set_threshold(*before)
    gc.collect()
    assert clew.flush()
    assert (2_000, 2_000) == (len(sender.spans), accounted())


def test_queue_of_one(sender: RecordingSender):
    """The smallest queue works."""
    configure(sender, queue_size=1)
    for _ in range(20):
        finish(1)
        assert clew.flush()
    assert (20, 0) == (len(sender.spans), clew.stats()["dropped"])


def test_log_records_have_their_own_queue_and_counts(sender: RecordingSender):
    """A flood of log lines drops no span, and the other way round."""
    from clew.wire import LogLine

    configure(sender, queue_size=100)
    logs = tracer().reporter.logs
    logs.put(LogLine(1, None, None, "test", "INFO", "app", "hello", None))
    finish(1)
    assert clew.flush()
    assert (["hello"], 1) == ([record["message"] for record in sender.of_kind("logs")], len(sender.spans))
    assert {"logs_reported": 1, "logs_dropped": 0, "logs_queued": 0}.items() <= clew.stats().items()


def test_log_record_is_cut_to_fit_a_message():
    """A long line over UDP arrives shortened rather than not at all."""
    from clew.wire import LogLine

    sender = RecordingSender(max_message_bytes=1_432)
    configure(sender)
    tracer().reporter.logs.put(LogLine(1, None, None, "test", "INFO", "app", "\0é" * 4_000, "t" * 8_000 + "end"))
    assert clew.flush()
    (record,) = sender.of_kind("logs")
    assert all(len(b'{"logs":[]}') + len(batch[0]) <= 1_432 for _, batch in sender.messages)
    assert record["message"].startswith("\0é")
    assert record["exception"].endswith("end")


def test_message_is_valid_json_as_sent():
    """What a sender joins is what a collector parses."""
    with HttpCollector() as server:
        configure(server.url)
        finish(3)
        assert clew.flush()
        (_, _, body) = server.requests[0]
    assert 3 == len(json.loads(body))
