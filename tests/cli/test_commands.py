"""`clew ls`, `trace`, `logs` and `tail` against a real collector process."""

from __future__ import annotations

import itertools
import json
import os
import pty
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import clew
from clew.cli._processes import Processes, free_ports
from command_line import Running, clean_environment, run_clew, start_collector

EVIL = "\x1b]0;pwned\x07\x1b[31m[bold]x[/bold]\u202e"
SHOWN = "\\x1b]0;pwned\\x07\\x1b[31m[bold]x[/bold]\\u202e"
OK, FAILED, HOSTILE = "a" * 32, "ab" + "c" * 30, "d" * 32
NOW = time.time_ns() // 1_000
WAIT_S = 30


def span(
    trace_id: str, number: int, service: str, name: str, start_us: int, duration_us: int, **more: Any
) -> dict[str, Any]:
    """Make a span; every one but the first is a child of the first."""
    made = {
        "traceId": trace_id,
        "id": f"{number:016x}",
        "name": name,
        "timestamp": NOW + start_us,
        "duration": duration_us,
        "localEndpoint": {"serviceName": service},
        **more,
    }
    return made if number == 1 else {**made, "parentId": f"{1:016x}"}


def record(
    trace_id: str, number: int, service: str, at_us: int, level: str, message: str, **more: Any
) -> dict[str, Any]:
    """Make a log record."""
    ids = {"traceId": trace_id, "id": f"{number:016x}"}
    return {
        "timestamp": NOW + at_us,
        "service": service,
        "level": level,
        "logger": "app",
        "message": message,
        **ids,
        **more,
    }


@pytest.fixture(scope="module", autouse=True)
def traces(collector: Running) -> None:
    """Three traces: one that went well, a slow failure, one made to hurt."""
    collector.post(
        "/api/v2/spans",
        [
            span(OK, 1, "gateway", "get /items", -3_000_000, 20_000, kind="SERVER"),
            span(OK, 2, "stock", "select items", -2_990_000, 5_000),
            span(FAILED, 1, "gateway", "post /checkout", -2_000_000, 900_000, kind="SERVER"),
            span(FAILED, 2, "payments", "charge", -1_900_000, 700_000, tags={"error": "card declined"}),
            span(HOSTILE, 1, EVIL, EVIL, -7_200_000_000, 1_000, tags={"error": EVIL, EVIL: EVIL}),
        ],
    )
    logs = [
        record(FAILED, 2, "payments", -1_300_000, "ERROR", "declined", exception="Traceback:\nDeclined: no"),
        record(FAILED, 1, "gateway", -1_999_000, "INFO", "basket of ada"),
        record(HOSTILE, 1, EVIL, -7_199_999_500, "INFO", EVIL, exception=EVIL),
        {"timestamp": NOW - 60_000_000, "service": "stock", "level": "INFO", "logger": "cron", "message": "counted"},
    ]
    collector.post("/api/v1/logs", {"logs": logs})


def listed(collector: Running, *arguments: str) -> list[str]:
    """Return the ids that `clew ls` lists."""
    done = collector.clew("ls", "--json", *arguments)
    assert (0, "") == (done.returncode, done.stderr if done.stdout else "")
    return [json.loads(line)["traceId"] for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ([], [FAILED, OK, HOSTILE]),
        (["--limit", "1"], [FAILED]),
        (["--errors"], [FAILED, HOSTILE]),
        (["--service", "stock"], [OK]),
        (["--service", "payments", "--errors"], [FAILED]),
        (["--service", "gateway", "--errors"], []),
        (["--name", "charge"], [FAILED]),
        (["--min-duration", "100ms"], [FAILED]),
        (["--since", "1h"], [FAILED, OK]),
        (["--service", "nobody"], []),
    ],
)
def test_ls_lists_recent_traces_newest_first(collector: Running, filters: list[str], expected: list[str]) -> None:
    """Every filter on its own, and two together."""
    assert expected == listed(collector, *filters)


def test_filters_are_variables_of_their_command(collector: Running) -> None:
    """CLEW_LS_SERVICE, and not CLEW_SERVICE, which names a service that is traced."""
    done = collector.clew("ls", "--json", CLEW_LS_SERVICE="stock", CLEW_SERVICE="nobody", CLEW_LOGS="1")
    assert [OK] == [json.loads(line)["traceId"] for line in done.stdout.splitlines()]


def test_ls_shows_a_table(collector: Running) -> None:
    """Time, id, request, duration, spans, errors, services."""
    done = collector.clew("ls", "--since", "1h", COLUMNS="130")
    assert 0 == done.returncode
    assert [
        ["time", "trace", "request", "duration", "spans", "err", "services"],
        [FAILED, "gateway", "post", "/checkout", "900.0", "ms", "2", "1", "gateway", "payments"],
        [OK, "gateway", "get", "/items", "20.0", "ms", "2", "gateway", "stock"],
    ] == [[word for word in line.split() if not re.match(r"\d\d:", word)] for line in done.stdout.splitlines()]


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_ls_fits_the_terminal(collector: Running, width: int) -> None:
    """No line is wider; the id stays long enough to be used."""
    lines = collector.clew("ls", COLUMNS=str(width)).stdout.splitlines()
    assert [] == [line for line in lines if len(line) > width]
    assert 1 == sum(FAILED[:12] in line for line in lines)


def test_ls_says_so_when_nothing_matches(collector: Running) -> None:
    """Not an empty screen, and not an error either."""
    done = collector.clew("ls", "--service", "nobody")
    assert (0, "", "No traces match. Loosen the filters?\n") == (done.returncode, done.stdout, done.stderr)


def test_request_without_a_route_is_listed_with_path_and_status(collector: Running) -> None:
    """Its name is but the method; in the list and in the picture."""
    tags = {"http.method": "GET", "http.path": "/nowhere/\x1b[31m", "http.status_code": "404"}
    trace_id = "9e" + "0" * 29 + "1"
    collector.post(
        "/api/v2/spans", [span(trace_id, 1, "unmatched", "get", -500_000_000, 900, kind="SERVER", tags=tags)]
    )
    listed = collector.clew("ls", "--service", "unmatched", COLUMNS="200").stdout
    assert "unmatched get /nowhere/\\x1b[31m 404 " in listed
    assert "get /nowhere/\\x1b[31m 404" in collector.clew("trace", trace_id, COLUMNS="200").stdout


def test_ls_lists_what_a_search_finds(collector: Running) -> None:
    """In the language of the API; together with the options, in another order."""
    found = collector.clew("ls", 'error = "card declined" and duration > 1us', "--json").stdout.splitlines()
    assert [FAILED] == [json.loads(line)["traceId"] for line in found]
    assert "" == collector.clew("ls", 'error = "card declined"', "--service", "nobody").stdout
    slowest = collector.clew("ls", "--sort", "slowest", "--json").stdout.splitlines()
    lengths = [json.loads(line)["durationUs"] for line in slowest]
    assert sorted(lengths, reverse=True) == lengths


def test_ls_points_at_what_is_wrong_in_a_search(collector: Running) -> None:
    """With a caret, and what to write instead."""
    done = collector.clew("ls", "äh = 1 and duration > 200 or x")
    assert 1 == done.returncode
    assert [
        "clew: A duration has a number and a unit: us, ms, s, m or h:",
        "  äh = 1 and duration > 200 or x",
        "                        ^^^",
        "Perhaps 200ms?",
    ] == done.stderr.splitlines()


def test_logs_finds_lines_by_a_search(collector: Running) -> None:
    """Over lines, and over what the spans of their traces are like."""
    found = collector.clew("logs", "level >= ERROR and declined", "--json").stdout.splitlines()
    assert ["declined"] == [json.loads(line)["message"] for line in found]
    found = collector.clew("logs", 'error = "card declined"', "--json").stdout.splitlines()
    assert {FAILED} == {json.loads(line)["traceId"] for line in found}
    wrong = collector.clew("logs", "root{declined}")
    assert (1, "clew: any, root, -> and child of") == (wrong.returncode, wrong.stderr[:32])


def test_diff_against_the_usual(collector: Running) -> None:
    """One trace against others that begin as it does; it takes exactly one."""
    collector.post(
        "/api/v2/spans",
        [
            span(f"{number:x}".zfill(32).replace("0", "e", 1), 1, "usual", "get /", -7_000_000_000 + number, length)
            for number, length in enumerate((100_000, 100_000, 400_000), 1)
        ],
    )
    slow = f"{3:x}".zfill(32).replace("0", "e", 1)
    done = collector.clew("diff", slow, "--usual")
    assert (0, "100.0 ms -> 400.0 ms  +300.0 ms") == (done.returncode, done.stdout.splitlines()[0]), done.stderr
    assert [2, 2] == [collector.clew("diff", *words).returncode for words in ((slow,), (slow, slow, "--usual"))]


def test_trace_draws_the_waterfall(collector: Running) -> None:
    """With the log lines beneath their spans."""
    done = collector.clew("trace", FAILED, "--logs", COLUMNS="80")
    lines = done.stdout.splitlines()
    assert 0 == done.returncode
    assert "post /checkout · 900.0 ms · 2 spans · 2 services · 1 error" == lines[0]
    assert lines[1].startswith(f"trace {FAILED} · ")
    assert [
        "gateway post /checkout",
        "│    +1.0 ms INFO basket of ada",
        "└─ ✗ payments charge",
        "      card declined",
        "      +700.0 ms ERROR declined · Declined: no",
    ] == [re.split(r"\s{2,}\d", line)[0] if "━" in line else line for line in lines[4:9]]
    assert ["", "· payments charge failed: card declined"] == lines[9:11]


@pytest.mark.parametrize(
    "given",
    [FAILED, FAILED.upper(), FAILED[:31], FAILED[:16], "ABCCCC", "abcccccc-cccc-cccc-cccc-cccccccccccc", "last"],
)
def test_a_trace_is_found_by_any_spelling_of_its_id(collector: Running, given: str) -> None:
    """Upper case, dashes, its beginning, or as the last one."""
    done = collector.clew("trace", given)
    assert 0 == done.returncode, done.stderr
    assert f"trace {FAILED}" in done.stdout


def test_trace_as_json_is_zipkins_form(collector: Running) -> None:
    """An array of v2 spans that any Zipkin tool takes."""
    spans = json.loads(collector.clew("trace", OK, "--json").stdout)
    assert [("get /items", None), ("select items", f"{1:016x}")] == [(s["name"], s.get("parentId")) for s in spans]


def test_trace_shows_tags_on_request(collector: Running) -> None:
    """Not without."""
    assert "error = card declined" in collector.clew("trace", FAILED, "--tags").stdout
    assert "error = card declined" not in collector.clew("trace", FAILED).stdout


def test_diff_says_what_made_a_trace_slower(collector: Running) -> None:
    """Added and slower spans with what they explain; nothing that is the same, unless asked for."""
    before, after = "b1" * 16, "b2" * 16
    collector.post(
        "/api/v2/spans",
        [
            span(before, 1, "gateway", "post /checkout", -9_000_000_000, 100_000, kind="SERVER"),
            span(before, 2, "payments", "charge", -8_999_990_000, 50_000),
            span(after, 1, "gateway", "post /checkout", -9_000_000_000, 170_000, kind="SERVER"),
            span(after, 2, "payments", "charge", -8_999_990_000, 90_000),
            span(after, 3, "payments", "audit\x1b[2J", -8_999_890_000, 30_000),
        ],
    )
    done = collector.clew("diff", before, after)
    assert (0, "") == (done.returncode, done.stderr)
    assert [
        "100.0 ms -> 170.0 ms  +70.0 ms",
        "",
        "span                      before    after  change  explains",
        "  payments charge        50.0 ms  90.0 ms  slower  +40.0 ms 57%",
        "  payments audit\\x1b[2j           30.0 ms  added   +30.0 ms 43%",
    ] == done.stdout.splitlines()
    assert "gateway post /checkout" in collector.clew("diff", before, after, "--all").stdout
    assert 70_000 == sum(
        entry["explainsUs"]
        for entry in json.loads(collector.clew("diff", before, after, "--json").stdout)["differences"]
    )


def test_logs_are_in_time_order_over_all_services(collector: Running) -> None:
    """Offset from the first line, service, level, logger, message, traceback."""
    done = collector.clew("logs", FAILED)
    assert 0 == done.returncode
    assert [
        "+0 µs  gateway   INFO    app: basket of ada",
        "+699.0 ms  payments  ERROR   app: declined",
        "Traceback:",
        "Declined: no",
    ] == [re.sub(r"^\d\d:\d\d:\d\d\.\d{3} +", "", line).strip() for line in done.stdout.splitlines()]


def test_logs_of_a_level_and_above(collector: Running) -> None:
    """As JSON lines: the records as they were sent."""
    done = collector.clew("logs", FAILED, "--level", "warning", "--json")
    assert ["declined"] == [json.loads(line)["message"] for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--since", "10m"], ["counted", "basket of ada", "declined"]),
        (["--limit", "1"], ["declined"]),
        (["--service", "Stock"], ["counted"]),
        (["--grep", "BASKET"], ["basket of ada"]),
        (["--since", "10s", "--service", "stock"], []),
        ([FAILED, "--grep", "declined: no"], ["declined"]),
        ([FAILED, "--service", "gateway", "--since", "1h"], ["basket of ada"]),
    ],
)
def test_lines_are_listed_without_a_trace(collector: Running, options: list[str], expected: list[str]) -> None:
    """By service, time and text; lines that belong to no trace, too."""
    done = collector.clew("logs", *options, "--json")
    assert expected == [json.loads(line)["message"] for line in done.stdout.splitlines()]


def test_listed_line_tells_its_trace(collector: Running) -> None:
    """Where it has one."""
    done = collector.clew("logs", "--since", "10m")
    assert [
        "stock     INFO    cron: counted",
        f"gateway   INFO    app: basket of ada  {FAILED}",
        f"payments  ERROR   app: declined  {FAILED}",
    ] == [line[13:] for line in done.stdout.splitlines() if not line.startswith("    ")]


def test_a_trace_without_log_lines_says_how_they_come(collector: Running) -> None:
    """Not an empty screen."""
    done = collector.clew("logs", OK)
    assert (0, "") == (done.returncode, done.stdout)
    assert "CLEW_LOGS=1" in done.stderr


@pytest.mark.parametrize(
    "command", [["ls"], ["trace", HOSTILE, "--logs", "--tags"], ["logs", HOSTILE], ["trace", HOSTILE, "--json"]]
)
@pytest.mark.parametrize("colours", ["", "1"])
def test_hostile_names_cannot_reach_the_terminal(collector: Running, command: list[str], colours: str) -> None:
    """With colours, the only escape sequences are clew's own."""
    done = collector.clew(*command, COLUMNS="200", **({"FORCE_COLOR": colours} if colours else {}))
    plain = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)
    assert 0 == done.returncode, done.stderr
    assert [] == [c for c in plain if not c.isprintable() and c != "\n"]
    assert ("\x1b[" in done.stdout) is (colours == "1" and "--json" not in command)
    assert SHOWN[:18] in plain or "\\u001b]0;pwned" in plain


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["trace", "f" * 32], "has no trace " + "f" * 32),
        (["trace", "ffffff"], "has no trace ffffff"),
        (["trace", "fffff"], "give its hexadecimal characters, the first six or more"),
        (["trace", "a;drop"], "'a;drop' is no trace id"),
        (["trace", "\x1b[31m"], "is no trace id"),
    ],
)
def test_a_wrong_id_is_one_sentence_and_code_1(collector: Running, arguments: list[str], expected: str) -> None:
    """No traceback."""
    done = collector.clew(*arguments)
    assert (1, "") == (done.returncode, done.stdout)
    assert expected in done.stderr
    assert 1 == done.stderr.count("\n")
    assert "\x1b" not in done.stderr


def test_several_ids_that_begin_alike_are_listed(collector: Running) -> None:
    """Like git; also of traces that are long past."""
    ids = [f"beef00{number}" + "0" * 24 + "1" for number in (1, 2)]
    for id in ids:
        collector.post("/api/v2/spans", [span(id, 1, "x", "y", -9_000_000_000, 10)])
    done = collector.clew("trace", "beef00")
    assert 1 == done.returncode
    assert "Several traces begin with beef00:" in done.stderr
    assert [f"  {id}" for id in ids] == done.stderr.splitlines()[1:3]
    assert 0 == collector.clew("trace", ids[0][:30]).returncode


@pytest.mark.parametrize("command", [["ls"], ["trace", OK], ["trace", "last"], ["logs", OK], ["tail"]])
def test_no_collector_is_one_sentence_and_code_1(command: list[str]) -> None:
    """It says how to start one."""
    (port,) = free_ports(1)
    done = run_clew(*command, "--collector", f"http://127.0.0.1:{port}")
    assert (1, "") == (done.returncode, done.stdout)
    assert (
        f"clew: No collector answers at http://127.0.0.1:{port} (Connection refused). Start one with `clew up`"
        in done.stderr
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["bogus"],
        ["ls", "--limit", "0"],
        ["ls", "--since", "soon"],
        ["ls", "--min-duration", "5"],
        ["trace"],
        ["logs", "x", "--level", "LOUD"],
        ["ls", "--collector", "ftp://x"],
        ["ls", "--token", "a\nb"],
        ["up", "--retain", "soon"],
        ["up", "--http", "nowhere"],
        ["up", "--config", "/nonexistent.toml"],
        ["up", "--bogus"],
        ["run"],
        ["demo", "--bogus"],
    ],
)
def test_wrong_usage_is_code_2(arguments: list[str]) -> None:
    """Said in one style, whoever found it, with the way to the help."""
    done = run_clew(*arguments)
    assert (2, "") == (done.returncode, done.stdout)
    assert done.stderr.startswith("clew: ")
    assert done.stderr.endswith(" --help` lists what there is.\n")


def test_clew_alone_shows_the_help() -> None:
    """A newcomer's first look, without escapes where there are no colours."""
    done = run_clew()
    shown = done.stdout + done.stderr
    assert "Usage: clew [OPTIONS] COMMAND" in shown
    assert "\\x1b" not in shown


def test_a_store_that_cannot_be_reached_is_one_sentence(tmp_path: Path) -> None:
    """Not what the driver logs on its way."""
    store = "clickhouse://127.0.0.1:1/db"
    done = run_clew("up", "--store", store, "--http", "127.0.0.1:0", "--udp", "none", "--data-dir", str(tmp_path))
    expected = "clew: The store cannot be opened: 127.0.0.1:1 does not answer (Connection refused).\n"
    assert (1, "", expected) == (done.returncode, done.stdout, done.stderr)


def test_python_m_clew_is_the_command() -> None:
    """For places where the script is not on the PATH."""
    command = [sys.executable, "-m", "clew", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=clean_environment(), check=False)
    assert (0, f"clew {clew.__version__}\n", "") == (done.returncode, done.stdout, done.stderr)


def test_a_pipe_gets_all_of_a_trace(collector: Running) -> None:
    """Names, messages and stack traces whole, however long."""
    name, message, trace_id = "n" * 300, "m" * 300 + "\nand more", "1f" * 16
    stack = 'File "app.py", line 3, in charge\n  pay()\n' + "s" * 300
    tags = {"error": message, "error.stack": stack}
    collector.post("/api/v2/spans", [span(trace_id, 1, "whole", name, -9_000_000_000, 10, tags=tags)])
    drawn = collector.clew("trace", trace_id).stdout
    assert [] == [part for part in (name, *message.split("\n"), *stack.split("\n")) if part not in drawn]
    fitted = collector.clew("trace", trace_id, COLUMNS="80").stdout
    assert 80 == max(map(len, fitted.splitlines()))


def test_a_terminal_without_unicode_shows_stand_ins(collector: Running) -> None:
    """A micro sign becomes a u; what has no stand-in is an escape, never a traceback."""
    done = collector.clew("logs", FAILED, PYTHONIOENCODING="ascii")
    assert (0, "") == (done.returncode, done.stderr)
    assert "+0 us  gateway" in done.stdout


@pytest.mark.parametrize("command", ["up", "store", "run", "demo", "ls", "trace", "diff", "logs", "tail"])
def test_every_command_has_help_with_examples(command: str) -> None:
    """And without needing a collector."""
    done = run_clew(command, "--help")
    assert 0 == done.returncode
    assert "Usage: clew" in done.stdout


def test_a_reader_that_goes_away_is_no_error(collector: Running) -> None:
    """`clew logs ... | head -1` ends quietly."""
    for number in range(20):
        batch = [
            record("e" * 32, 1, "noisy", -(10**7) + number * 500 + i, "INFO", "line " + "x" * 200) for i in range(400)
        ]
        collector.post("/api/v1/logs", {"logs": batch})
    command = f"{sys.executable} -m clew.cli logs {'e' * 32} | head -n 1; exit ${{PIPESTATUS[0]}}"
    env = clean_environment(CLEW_COLLECTOR=collector.url)
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, env=env, check=False)
    assert (0, "", 1) == (done.returncode, done.stderr, done.stdout.count("\n"))


def test_colours_need_a_terminal_and_obey_no_color(collector: Running) -> None:
    """On a terminal yes, with NO_COLOR or in a pipe no."""
    command = [sys.executable, "-m", "clew.cli", "trace", FAILED]
    env = clean_environment(CLEW_COLLECTOR=collector.url, TERM="xterm-256color")
    assert "\x1b[" in _on_terminal(command, env)
    assert "\x1b[3" not in _on_terminal(command, {**env, "NO_COLOR": "1"})
    assert "\x1b" not in collector.clew("trace", FAILED).stdout


def _on_terminal(command: list[str], env: dict[str, str]) -> str:
    """Run a command on a pseudo terminal and return what it wrote there."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, stdout=theirs, stdin=theirs, stderr=subprocess.DEVNULL, env=env) as child:
        os.close(theirs)
        written = b""
        try:
            while chunk := os.read(ours, 65_536):
                written += chunk
        except OSError:  # Linux says EIO when the other end is closed
            pass
        assert 0 == child.wait(60)
    os.close(ours)
    return written.decode()


class Tail:
    """A running `clew tail`, whose lines can be waited for."""

    def __init__(self, *arguments: str, url: str) -> None:
        command = [sys.executable, "-u", "-m", "clew.cli", "tail", "--collector", url, *arguments]
        self.child = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=clean_environment()
        )
        self.lines: queue.Queue[str] = queue.Queue()
        self.thread = threading.Thread(target=self._read)
        self.thread.start()

    def _read(self) -> None:
        assert self.child.stdout is not None
        for line in self.child.stdout:
            self.lines.put(line.rstrip("\n"))

    def until(self, text: str) -> list[str]:
        """Return the lines up to the one that holds `text`."""
        seen = []
        while True:
            seen.append(self.lines.get(timeout=WAIT_S))
            if text in seen[-1]:
                return seen


@contextmanager
def tailing(url: str, *arguments: str) -> Iterator[Tail]:
    """Run `clew tail` and end it by Ctrl-C, which must be clean."""
    tail = Tail(*arguments, url=url)
    try:
        yield tail
        tail.child.send_signal(signal.SIGINT)
        assert 0 == tail.child.wait(WAIT_S)
    finally:
        tail.child.kill()
        tail.child.wait()
        tail.thread.join(WAIT_S)
        assert tail.child.stdout is not None
        tail.child.stdout.close()
    left = [tail.lines.get_nowait() for _ in range(tail.lines.qsize())]
    assert [] == [line for line in left if "Traceback" in line]


def send_until_seen(collector: Running, tail: Tail, mark: str) -> None:
    """Send spans until the tail shows one: then it listens, and what is sent from now on must arrive."""
    deadline = time.monotonic() + WAIT_S
    for number in itertools.count(1):  # a batch that was sent before is stored, and shown, once
        assert time.monotonic() < deadline, "the tail shows nothing"
        made = span("9" * 32, 1, "marker", mark, 0, number, kind="SERVER", tags={"error": "x"})
        collector.post("/api/v2/spans", [made])
        try:
            while mark not in tail.lines.get(timeout=0.3):
                pass
            return
        except queue.Empty:
            continue


def test_tail_shows_requests_failures_and_log_lines_as_they_arrive(collector: Running) -> None:
    """Entry spans and failures; inner spans only with --all."""
    with tailing(collector.url) as tail:
        send_until_seen(collector, tail, "first mark")
        batch = [
            span("7" * 32, 1, "gateway", "get /live", 0, 12_300, kind="SERVER", tags={"http.status_code": "200"}),
            span("7" * 32, 2, "gateway", "inner", 0, 10),
            span("7" * 32, 3, "stock", EVIL, 0, 10, tags={"error": "broken"}),
        ]
        collector.post("/api/v2/spans", batch)
        collector.post("/api/v1/logs", {"logs": [record("7" * 32, 1, "gateway", 0, "WARNING", "shelf is empty")]})
        seen = [line for line in tail.until("shelf is empty") if "mark" not in line]
    assert [
        f"gateway       12.3 ms get /live 200  {'7' * 32}",
        f"stock           10 µs {SHOWN} broken  {'7' * 32}",
        f"gateway       WARNING app: shelf is empty  {'7' * 32}",
    ] == [re.sub(r"^\d\d:\d\d:\d\d\.\d{3} ", "", line) for line in seen]


def test_tail_filters_by_service_and_error(collector: Running) -> None:
    """Only what was asked for."""
    with tailing(collector.url, "--service", "marker", "--errors", "--json") as tail:
        send_until_seen(collector, tail, "second mark")
        collector.post("/api/v2/spans", [span("6" * 32, 1, "marker", "fine", 0, 10, kind="SERVER")])
        collector.post("/api/v2/spans", [span("6" * 32, 2, "other", "bad elsewhere", 0, 10, tags={"error": "x"})])
        collector.post("/api/v1/logs", {"logs": [record("6" * 32, 1, "marker", 0, "ERROR", "the end")]})
        seen = [json.loads(line) for line in tail.until("the end")]
    assert [("the end", "ERROR")] == [
        (line["message"], line["level"]) for line in seen if line.get("name") != "second mark"
    ]


def test_tail_comes_back_after_a_restart(tmp_path: Path) -> None:
    """It says that the connection was lost, and goes on when the collector is there again."""
    port, udp = free_ports(2)
    with Processes(tmp_path) as processes:
        url = start_collector(processes, tmp_path, port, "--udp", f"127.0.0.1:{udp}")
        with tailing(url) as tail:
            send_until_seen(Running(url, ""), tail, "before")
            processes.stop()
            tail.until("connection lost, trying again")
            start_collector(processes, tmp_path, port, "--udp", f"127.0.0.1:{udp}")
            tail.until("connected again")
            send_until_seen(Running(url, ""), tail, "after")


def test_a_collector_with_a_token_wants_it(tmp_path: Path) -> None:
    """Without it one sentence and code 1; with it, by option or variable, an answer."""
    port, udp = free_ports(2)
    with Processes(tmp_path) as processes:
        url = start_collector(processes, tmp_path, port, "--udp", f"127.0.0.1:{udp}", "--token", "s3cret")
        refused = run_clew("ls", "--collector", url)
        assert (1, f"clew: {url} wants the right token. Give it with --token or CLEW_TOKEN.\n") == (
            refused.returncode,
            refused.stderr,
        )
        assert 1 == run_clew("tail", "--collector", url, "--token", "wrong").returncode
        assert 0 == run_clew("ls", "--collector", url, "--token", "s3cret").returncode
        assert 0 == run_clew("ls", CLEW_COLLECTOR=url, CLEW_TOKEN="s3cret").returncode


def test_looking_does_not_load_the_engine(collector: Running) -> None:
    """`clew trace` answers at once: neither the engine nor its driver is imported."""
    script = (
        "import sys; sys.argv = ['clew', 'trace', 'last']\n"
        "from clew.cli.__main__ import main\n"
        "try: main()\n"
        "finally: print([m for m in ('chdb', 'clickhouse_connect', 'starlette', 'numpy') if m in sys.modules])"
    )
    env = clean_environment(CLEW_COLLECTOR=collector.url)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, env=env, check=False
    )
    assert "[]" == done.stdout.splitlines()[-1], done.stderr
