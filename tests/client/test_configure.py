"""Options: given, by variable, by default; what cannot be right is refused at once and says how it would be."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import pytest

import clew
from clew._tracer import tracer
from clew.senders.file import FileSender
from clew.senders.http import HttpSender
from clew.senders.udp import UdpSender
from client.recording import RecordingSender

if TYPE_CHECKING:
    from collections.abc import Callable

OPTIONS = list(inspect.signature(clew.configure).parameters)


def in_force() -> dict[str, Any]:
    found = tracer()
    reporter = found.reporter
    sender = reporter.sender
    return {
        "service": found.service,
        "reporter": type(sender),
        "sampler": found.decide("f" * 32),
        "propagate": found.propagate,
        "extract": found.extract_order,
        "logs": found.logs,
        "tags": found.tags,
        "token": getattr(sender, "_headers", {}).get("Authorization"),
        "queue_size": reporter.spans._limit,
        "flush_interval": reporter._flush_interval_s,
        "exit_timeout": found.exit_timeout_s,
        "orphan_sql": found.orphan_sql,
        "sqlcommenter": found.sqlcommenter,
        "enabled": found.enabled,
    }


DEFAULTS = {
    "reporter": UdpSender,
    "sampler": True,
    "propagate": ("x", "w3c"),
    "extract": ("x", "w3c", "b3"),
    "logs": False,
    "tags": {},
    "token": None,
    "queue_size": 10_000,
    "flush_interval": 0.5,
    "exit_timeout": 2.0,
    "orphan_sql": False,
    "sqlcommenter": False,
    "enabled": True,
}


def test_defaults():
    """Nothing has to be given."""
    clew.configure(service="test")
    assert {"service": "test", **DEFAULTS} == in_force()


VARIABLES = [
    ("service", "orders", "orders"),
    ("reporter", "http://127.0.0.1:9411", HttpSender),
    ("reporter", "file:///tmp/spans.json", FileSender),
    ("reporter", "none", type(None)),
    ("reporter", " NONE ", type(None)),
    ("sampler", "never", False),
    ("propagate", "b3, B3single", ("b3", "b3single")),
    ("extract", "b3", ("b3",)),
    ("logs", "yes", True),
    ("logs", "0", False),
    ("tags", "env=prod, version=1=2,empty=", {"env": "prod", "version": "1=2", "empty": ""}),
    ("queue_size", "5", 5),
    ("flush_interval", "0.25", 0.25),
    ("exit_timeout", "0", 0.0),
    ("orphan_sql", "yes", True),
    ("sqlcommenter", "yes", True),
    ("enabled", "off", False),
]


@pytest.mark.parametrize(("option", "text", "value"), VARIABLES)
def test_every_option_is_a_variable(option: str, text: str, value: Any, monkeypatch: pytest.MonkeyPatch):
    """``CLEW_<OPTION>``; the argument wins over it."""
    monkeypatch.setenv(f"CLEW_{option.upper()}", text)
    clew.configure()
    assert value == in_force()[option]


def test_every_option_was_tried():
    """An option added later needs a line above; the token is tried with HTTP below."""
    assert set(OPTIONS) == {option for option, _, _ in VARIABLES} | {"token"}


def test_token_by_variable(monkeypatch: pytest.MonkeyPatch):
    """It goes with HTTP."""
    monkeypatch.setenv("CLEW_TOKEN", "secret")
    monkeypatch.setenv("CLEW_REPORTER", "http://127.0.0.1:9411")
    clew.configure()
    assert "Bearer secret" == in_force()["token"]


def test_argument_wins_over_variable(monkeypatch: pytest.MonkeyPatch):
    """What the program says is meant."""
    monkeypatch.setenv("CLEW_SERVICE", "variable")
    monkeypatch.setenv("CLEW_QUEUE_SIZE", "nonsense")
    clew.configure(service="argument", queue_size=7)
    assert ("argument", 7) == (in_force()["service"], in_force()["queue_size"])


def test_empty_variable_is_no_variable(monkeypatch: pytest.MonkeyPatch):
    """As docker-compose leaves them."""
    for option in OPTIONS:
        monkeypatch.setenv(f"CLEW_{option.upper()}", " ")
    clew.configure(service="test")
    assert {"service": "test", **DEFAULTS} == in_force()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"service": 7}, "service=7 is not text"),
        ({"reporter": "tcp://h:1"}, r"reporter='tcp://h:1' is not understood. Known: udp://host:port, http"),
        ({"reporter": "udp://"}, "Known: udp://host:port"),
        ({"reporter": "localhost:9410"}, "Known: udp://host:port"),
        ({"reporter": "udp://h:port"}, "Known: udp://host:port"),
        ({"reporter": "udp://h:99999"}, "Known: udp://host:port"),
        ({"reporter": "http://[::1"}, "Known: udp://host:port"),
        ({"reporter": "file://relative/path"}, "file:///path"),
        ({"reporter": "file:///tmp/x?size=1"}, "unknown option 'size'; known: max_bytes, backups"),
        ({"reporter": object()}, r"neither a URL nor a sender: send\(\), close\(\), max_message_bytes"),
        ({"sampler": "2"}, 'a ratio from 0 to 1 such as "0.1"'),
        ({"propagate": "x,jaeger"}, "known formats are x, w3c, b3, b3single"),
        ({"propagate": []}, "known formats are"),
        ({"extract": ","}, "known formats are"),
        ({"logs": "perhaps"}, r"neither yes nor no \(1/0, true/false, on/off\)"),
        ({"tags": "novalue"}, 'not of the form "key=value,key=value"'),
        ({"queue_size": 0}, "queue_size=0 is not a number of at least 1"),
        ({"queue_size": "many"}, "queue_size='many' is not a number"),
        ({"flush_interval": 0}, r"flush_interval=0 is not a number of at least 0.001"),
        ({"flush_interval": float("nan")}, "is not a number"),
        ({"exit_timeout": -1}, "exit_timeout=-1 is not a number of at least 0"),
        ({"enabled": 2}, "enabled=2 is neither yes nor no"),
        ({"token": "a\nb", "reporter": "http://h"}, "token"),
    ],
)
def test_bad_option_is_refused_with_the_fix(options: dict[str, Any], message: str):
    """At once, and what was in force before stays."""
    sender = RecordingSender()
    clew.configure(service="before", reporter=sender)
    with pytest.raises(ValueError, match=message):
        clew.configure(**options)
    with clew.start_span("work"):
        pass
    assert clew.flush()
    assert "before" == sender.span("work")["localEndpoint"]["serviceName"]


def test_default_tags_are_on_the_first_span_of_each_trace(sender: RecordingSender):
    """And the span's own win."""
    clew.configure(reporter=sender, tags={"env": "prod", "n": 1})
    with clew.start_span("root", tags={"n": "own"}), clew.start_span("child"):
        pass
    assert clew.flush()
    assert ({"env": "prod", "n": "own"}, None) == (sender.span("root")["tags"], sender.span("child").get("tags"))


def test_disabled_keeps_ids_and_reports_nothing(sender: RecordingSender):
    """Headers and log lines still carry ids; nothing is sent or counted as lost."""
    clew.configure(reporter=sender, enabled=False)
    with clew.start_span("root") as root:
        assert root.trace_id == clew.get_trace_context().trace_id
    assert clew.flush()
    assert ([], 0) == (sender.spans, clew.stats()["dropped"])


def test_configure_opens_nothing_and_starts_nothing(run_program: Callable[..., Any]):
    """Neither a thread nor a socket before the first span is finished."""
    run_program("""
        import os, threading
        import clew
        before = os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd") else []
        for reporter in ("udp://127.0.0.1:9", "http://127.0.0.1:9", "file:///tmp/missing/x"):
            clew.configure(reporter=reporter)
            clew.start_span("open")
        assert threading.active_count() == 1
        assert len(before) == (len(os.listdir("/proc/self/fd")) if before else 0)
    """)


def test_service_is_named_after_the_program(run_program: Callable[..., Any]):
    """The script's file name without .py, or the module of ``python -m``."""
    run_program("""
        import clew
        from clew._tracer import tracer
        clew.configure(reporter="none")
        assert tracer().service == "program", tracer().service
    """)


def test_own_sender_is_taken():
    """Any object with the three names."""
    sender = RecordingSender()
    clew.configure(service="test", reporter=sender)
    with clew.start_span("work"):
        pass
    assert clew.flush()
    assert [("spans", 1)] == [(kind, len(batch)) for kind, batch in sender.messages]
