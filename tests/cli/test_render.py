"""The waterfall, screen by screen: `clew.cli._tree` and `clew.cli._render`."""

from __future__ import annotations

from typing import Any

import pytest
from rich.cells import cell_len
from rich.text import Text

from clew.cli._render import ASCII, Style, log_line, waterfall
from clew.cli._text import clock_time
from clew.cli._tree import LogLine, parse_logs, parse_spans, rows
from clew.collector.trace.findings import Finding

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
BEGIN = 1_795_356_903_120_000


def span(
    span_id: str, parent: str | None, service: str, name: str, start: int, duration: int, **more: Any
) -> dict[str, Any]:
    """Make a Zipkin v2 span; ids are one hex digit, times microseconds after BEGIN."""
    made = {
        "traceId": TRACE_ID,
        "id": span_id * 16,
        "name": name,
        "timestamp": BEGIN + start,
        "duration": duration,
        "localEndpoint": {"serviceName": service},
        "tags": {},
        **more,
    }
    return {**made, "parentId": parent * 16} if parent else made


def log(span_id: str, at: int, level: str, message: str, **more: str) -> dict[str, Any]:
    """Make a log record of a span."""
    return {
        "timestamp": BEGIN + at,
        "service": "s",
        "level": level,
        "logger": "l",
        "message": message,
        "id": span_id * 16,
        **more,
    }


SHOP = [
    span("1", None, "gateway", "post /checkout", 0, 182_400, kind="SERVER"),
    span("2", "1", "gateway", "get", 2_000, 14_100, kind="CLIENT"),
    span("3", "2", "stock", "get /items/{sku}", 4_000, 10_000, kind="SERVER"),
    span("4", "3", "stock", "select items", 5_000, 3_100, kind="CLIENT"),
    span("5", "1", "gateway", "post", 36_000, 142_000, kind="CLIENT", tags={"error": "402"}),
    span(
        "6",
        "5",
        "orders",
        "post /orders",
        38_000,
        139_000,
        kind="SERVER",
        tags={"error": "card declined", "http.status_code": "402"},
    ),
    span("7", "6", "orders", "delete order", 176_000, 400),
]
SHOP_LOGS = [
    log("3", 5_200, "INFO", "12 on the shelf"),
    log("6", 134_200, "WARNING", "card declined\nsecond line", exception="Traceback ...\nCardDeclined: expired"),
]


def draw(spans: list[dict[str, Any]], records: Any = (), **style: Any) -> list[str]:
    """Draw and return the lines without their colours."""
    lines = waterfall(TRACE_ID, rows(parse_spans(spans)), parse_logs(list(records)), Style(**style))
    return [line.plain for line in lines]


def test_a_trace_is_drawn_as_a_tree_with_bars_to_scale() -> None:
    """The whole screen at 80 columns."""
    expected = f"""\
post /checkout · 182.4 ms · 7 spans · 3 services · 2 errors
trace {TRACE_ID} · {clock_time(BEGIN, date=True)}

                                           0                 91.2 ms    182.4 ms
gateway post /checkout           182.4 ms  ━──━━━━━────────────────────────────━
├─ get                            14.1 ms  ━─━╸              ┊                 ┊
│  └─ stock get /items/{{sku}}      10.0 ms  ╺━━               ┊                 ┊
│     └─ select items              3.1 ms  ┊╸                ┊                 ┊
└─ ✗ post 402                    142.0 ms  ┊      ━───────────────────────────━┊
   └─ ✗ orders post /orders 402  139.0 ms  ┊      ╺━━━━━━━━━━━━━━━━━━━━━━━━━━━━┊
      │  card declined
      └─ delete order              400 µs  ┊                 ┊                ╺┊"""
    assert expected.splitlines() == draw(SHOP, width=80)


def test_what_is_worth_a_look_stands_beneath_the_picture() -> None:
    """The weightiest six, each within the width; all of them where nothing is cut."""
    found = [Finding("gap", f"{number} " + "words " * 20 + "\x1b[2J", ()) for number in range(9)]
    spans = parse_spans(SHOP)
    drawn = [line.plain for line in waterfall(TRACE_ID, rows(spans), [], Style(width=60), found)]
    beneath = drawn[drawn.index("", 3) + 1 :]
    assert [6, 60] == [sum(line.startswith("· ") for line in beneath[:-1]), max(map(len, beneath))]
    assert "· 3 more" == beneath[-1]
    whole = [line.plain for line in waterfall(TRACE_ID, rows(spans), [], Style(width=60, whole=True), found)]
    assert ["· " + finding.text.replace("\x1b", "\\x1b") for finding in found] == whole[-9:]


def test_log_lines_stand_beneath_their_span() -> None:
    """Time since the begin, level, the first line of the message; of a traceback the line that says what happened."""
    drawn = draw(SHOP, SHOP_LOGS, width=80, logs=True)
    assert [
        "│     │    +5.2 ms INFO 12 on the shelf",
        "      │  +134.2 ms WARNING card declined · CardDeclined: expired",
    ] == [line for line in drawn if " INFO " in line or " WARNING " in line]


def test_tags_and_annotations_are_listed_on_request() -> None:
    """In the order of their names, beneath the span."""
    spans = [
        span(
            "1",
            None,
            "a",
            "x",
            0,
            1_000,
            tags={"b": "2", "a": "1"},
            annotations=[{"timestamp": BEGIN + 500, "value": "half"}],
        )
    ]
    assert ["   a = 1", "   b = 2", "   +500 µs half"] == draw(spans, width=80, tags=True)[-3:]


@pytest.mark.parametrize("width", [40, 60, 61, 80, 100, 133, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    """At any width, with long names, wide characters, logs and tags."""
    spans = [
        *SHOP,
        span("8", "1", "结算服务" * 9, "创建订单 " * 30, 9_000, 80_000, tags={"k" * 90: "v" * 300, "error": "e" * 400}),
    ]
    drawn = draw(spans, [*SHOP_LOGS, log("8", 1, "INFO", "长" * 200)], width=width, logs=True, tags=True)
    assert [] == [line for line in drawn if cell_len(line) > width]


@pytest.mark.parametrize("width", [60, 120])
def test_a_very_deep_trace_is_drawn_whole(width: int) -> None:
    """A thousand calls in a chain: nothing recurses, names stay readable, the depth is said as a number."""
    chain = [span("1", None, "s", "root", 0, 1_000_000)]
    for depth in range(1, 1_000):
        made = span("1", None, "s", f"call {depth}", depth, 1_000_000 - depth)
        parent = chain[-1]["id"]
        chain.append({**made, "id": f"{depth + 16:016x}", "parentId": parent})
    drawn = draw(chain, width=width)
    assert 4 + 1_000 == len(drawn)
    assert [] == [line for line in drawn if cell_len(line) > width]
    assert ["999", "call", "999"] == drawn[-1].split()[:3]


def test_hostile_names_tags_and_log_lines_cannot_reach_the_terminal() -> None:
    """Escape sequences are shown, rich's markup is text."""
    evil = "\x1b]0;pwned\x07[bold red]\u202e"
    spans = [span("1", None, evil, evil, 0, 10, tags={evil: evil, "error": evil, "http.status_code": evil})]
    drawn = draw(spans, [log("1", 1, evil, evil, exception=evil)], width=200, logs=True, tags=True)
    text = "\n".join(drawn)
    assert [] == [c for c in text if not c.isprintable() and c != "\n"]
    assert 9 == text.count("\\x1b]0;pwned\\x07[bold red]\\u202e")


def test_errors_are_red_and_nothing_else_is() -> None:
    """Red is kept for failure: names, durations and bars of failed spans."""
    lines = waterfall(TRACE_ID, rows(parse_spans(SHOP)), [], Style(width=80))
    failed = [
        line.plain for line in lines if "✗" in line.plain or "card declined" in line.plain or "2 errors" in line.plain
    ]
    assert failed == [line.plain for line in lines if _has_red(line)]


def _has_red(line: Text) -> bool:
    return any("red" in str(part.style) for part in line.spans)


def test_a_call_named_by_its_method_shows_its_path() -> None:
    """Three calls named `get` are told apart; a name with a route says enough; a query is never shown."""
    url = {"http.url": "http://stock:80/items/tea?key=1", "http.path": "/items/tea"}
    spans = [
        span("1", None, "a", "get /items/{sku}", 0, 100, tags=url),
        span("2", "1", "a", "GET", 1, 10, tags=url),
        span("3", "1", "b", "post", 2, 10, tags={"http.path": "/mails"}),
        span("4", "1", "c", "get", 3, 10, tags={"http.url": "http://[broken"}),
    ]
    drawn = [line.split("  ")[0] for line in draw(spans, width=100)[4:]]
    assert ["a get /items/{sku}", "├─ GET /items/tea", "├─ b post /mails", "└─ c get"] == drawn


def test_a_span_whose_parent_never_came_says_so() -> None:
    """It is drawn beneath the root and marked; a trace without any root is drawn too."""
    spans = [span("1", None, "a", "root", 0, 100), span("3", "2", "b", "orphan", 10, 20)]
    assert "└─ b orphan (parent missing)" in draw(spans, width=100)[-1]
    assert draw(spans[1:], width=100)[-1].startswith("b orphan (parent missing)")


def test_spans_lost_by_their_process_are_counted_in_the_summary() -> None:
    """No loss is silent."""
    spans = [span("1", None, "a", "root", 0, 100, tags={"clew.trace_dropped": "3"})]
    assert "root · 100 µs · 1 span · 1 service · 3 spans lost" == draw(spans, width=100)[0]


def test_spans_without_times_have_no_bar() -> None:
    """An unfinished or careless span is drawn as far as it is known."""
    bare = {"traceId": TRACE_ID, "id": "2" * 16, "parentId": "1" * 16}
    assert draw([span("1", None, "a", "root", 0, 100), bare], width=60)[-1].startswith("└─ ? unnamed  ")


def test_a_terminal_without_unicode_gets_ascii() -> None:
    """All that clew itself draws can be encoded."""
    drawn = "\n".join(draw(SHOP, SHOP_LOGS, width=80, logs=True, glyphs=ASCII))
    assert "|  `- stock get /items/{sku}" in drawn
    assert drawn == drawn.encode("latin-1").decode("latin-1")


def test_a_log_line_of_clew_logs_has_time_service_level_logger_and_message() -> None:
    """A message of several lines and a traceback follow indented."""
    record = LogLine(
        BEGIN + 12_300,
        "orders",
        "ERROR",
        "app",
        "first\nsecond \x1b[2J",
        exception="Traceback:\n  File x\nValueError: no",
    )
    assert [
        f"{clock_time(BEGIN + 12_300)}   +12.3 ms  orders    ERROR   app: first",
        "    second \\x1b[2J",
        "    Traceback:",
        "      File x",
        "    ValueError: no",
    ] == [line.plain for line in log_line(record, BEGIN, 8, "cyan")]


def test_more_log_lines_than_a_screen_holds_are_counted() -> None:
    """Beneath one span there are at most twelve."""
    logs = [log("1", at, "INFO", f"line {at}") for at in range(20)]
    drawn = draw([span("1", None, "a", "root", 0, 100)], logs, width=80, logs=True)
    assert "   … 8 more lines" == drawn[-1]
    assert 4 + 1 + 12 + 1 == len(drawn)


def test_records_that_are_no_records_are_left_out() -> None:
    """A strange answer is drawn as far as it makes sense."""
    assert [] == parse_logs({"error": "x"})
    assert [LogLine(0, "", "", "", "None")] == parse_logs([1, None, {"message": None}])
