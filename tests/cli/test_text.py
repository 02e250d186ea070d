"""Text for the terminal: `clew.cli._text`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.cli._text import clock_time, duration, headline, is_failure, offset, plural, target, visible, visible_lines
from clew.cli.tail import span_line


@pytest.mark.parametrize(
    ("hostile", "expected"),
    [
        ("\x1b[2J\x1b[31mred", "\\x1b[2J\\x1b[31mred"),
        ("\x9b31m", "\\x9b31m"),
        ("a\rb\nc\td", "a\\rb\\nc\\td"),
        ("\x00\x07\x08\x7f", "\\x00\\x07\\x08\\x7f"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("zero\u200bwidth\u2028line", "zero\\u200bwidth\\u2028line"),
        ("\ud800", "\\ud800"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_control_characters_are_written_as_escapes(hostile: str, expected: str) -> None:
    """Whatever a terminal would obey or hide is shown as text."""
    assert expected == visible(hostile)


def test_ordinary_text_of_any_language_stays() -> None:
    """Letters, wide characters, wide spaces, emoji and rich's markup are no control characters."""
    text = "naïve [red]订单\u3000完成[/red] 🫖\u00a0ok"
    assert text == visible(text)


@given(st.text())
def test_nothing_unprintable_survives(text: str) -> None:
    """For any text, what is left is printable or a space."""
    assert [] == [c for c in visible(text) if not c.isprintable() and not c.isspace()]


def test_lines_are_split_and_each_made_visible() -> None:
    """Only line ends split; tabs become spaces; a carriage return alone would overwrite the line and is shown."""
    assert ["a", "    b\\rc", "\\x1bd"] == visible_lines("a\r\n\tb\rc\n\x1bd\n")


@pytest.mark.parametrize(
    ("us", "expected"),
    [
        (None, ""),
        (0, "0 µs"),
        (999, "999 µs"),
        (1_000, "1.0 ms"),
        (12_345, "12.3 ms"),
        (999_949, "999.9 ms"),
        (999_950, "1.00 s"),
        (1_240_000, "1.24 s"),
        (59_994_000, "59.99 s"),
        (59_996_000, "1m00s"),
        (3_599_000_000, "59m59s"),
        (7_380_000_000, "2h03m"),
    ],
)
def test_durations_are_written_as_people_say_them(us: int | None, expected: str) -> None:
    """Three figures and a unit, never 1000 of a unit."""
    assert expected == duration(us)


@pytest.mark.parametrize(
    ("traceback", "expected"),
    [
        ('Traceback (most recent call last):\n  File "a.py", line 1, in f\n    g()\nValueError: no', "ValueError: no"),
        (
            'Traceback (most recent call last):\n  File "a.py", line 1, in f\n    g()\n    ^^^\n'
            "sqlalchemy.exc.OperationalError: no such table\n[SQL: SELECT 1]\n(Background on this error at: ...)",
            "sqlalchemy.exc.OperationalError: no such table",
        ),
        (
            'Traceback (most recent call last):\n  File "a.py", line 1, in f\nKeyError: 1\n\n'
            "During handling of the above exception, another exception occurred:\n\n"
            'Traceback (most recent call last):\n  File "b.py", line 2, in g\nValueError: first\n    second\n',
            "ValueError: first",
        ),
        (
            '  | ExceptionGroup: two (2 sub-exceptions)\n  +-+---- 1 ----\n    | File "a"',
            "ExceptionGroup: two (2 sub-exceptions)",
        ),
        ("Traceback:\nDeclined: no", "Declined: no"),
        ("only words", "only words"),
        ("", ""),
    ],
)
def test_the_headline_of_a_traceback_names_the_exception(traceback: str, expected: str) -> None:
    """The first line behind the last frame, for a message may have many."""
    assert expected == headline(traceback)


def test_offsets_have_a_sign() -> None:
    """Before the start of the trace is possible: clocks differ."""
    assert ["+0 µs", "+12.3 ms", "-1.0 ms"] == [offset(0), offset(12_300), offset(-1_000)]


def test_impossible_timestamps_do_not_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hostile timestamp outside the calendar is no traceback."""
    assert ["--:--:--.---"] * 2 == [clock_time(10**30), clock_time(-(10**18))]


def test_plural_counts() -> None:
    """One is singular; thousands have a separator."""
    assert ["1 span", "0 spans", "12,000 spans"] == [plural(1, "span"), plural(0, "span"), plural(12_000, "span")]


@pytest.mark.parametrize(
    ("name", "tags", "expected"),
    [
        ("get", {"http.path": "/x/1"}, "/x/1"),
        ("WS", {"http.path": "/chat"}, "/chat"),
        ("GET", {"http.url": "http://h:80/x?y=1"}, "/x"),
        ("get /x/{id}", {"http.path": "/x/1"}, ""),
        ("work", {"http.path": "/x/1"}, ""),
        ("get", {"http.url": "http://[broken"}, ""),
    ],
)
def test_target_is_what_a_bare_method_is_about(name: str, tags: dict[str, str], expected: str) -> None:
    """A name with a route, or of something else, needs no path."""
    assert expected == target(name, tags)


def test_failure_is_a_status_of_400_and_above() -> None:
    """A 404 is none of its service, and still what one looks for."""
    assert ["400", "404", "503"] == [
        s for s in ("", "200", "302", "400", "404", "503", "OK", "14", "5000") if is_failure(s)
    ]


def test_tail_shows_path_and_status_of_a_request_without_route() -> None:
    """Not just `get`."""
    tags = {"http.path": "/nowhere", "http.status_code": "404"}
    line = span_line({"name": "get", "kind": "SERVER", "tags": tags, "duration": 5, "traceId": "a1"}).plain
    assert line.endswith("get /nowhere 404  a1")
