"""What is taken out of an exception's text before it travels, and what is not."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew._secrets import clean, clean_url

if TYPE_CHECKING:
    pass

URLLIB3 = "HTTPConnectionPool(host='h', port=80): Max retries exceeded with url: {} (Caused by NewConnectionError('x'))"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (URLLIB3.format("/x?token=s3cret"), URLLIB3.format("/x")),
        (URLLIB3.format("/x?s3cret"), URLLIB3.format("/x")),
        (URLLIB3.format("/x?a='s3cret'&b=s3cret"), URLLIB3.format("/x")),
        ("404, message='Not Found', url='http://h/x?token=s3cret'", "404, message='Not Found', url='http://h/x'"),
        ("404 Client Error: Gone for url: http://h:8/x?q=s3cret", "404 Client Error: Gone for url: http://h:8/x"),
        ("error '401' for url 'https://h/x?q=it's s3cret'\nFor more", "error '401' for url 'https://h/x'\nFor more"),
        ("Invalid URL 'h/x?token=s3cret': No scheme supplied. Perhaps you meant https://h/x?token=s3cret?",
         "Invalid URL 'h/x': No scheme supplied. Perhaps you meant https://h/x"),
        ("URL can't contain control characters. '/x?a=s3cret s3cret' (found at least ' ')",
         "URL can't contain control characters. '/x' (found at least ' ')"),
        ("http://ada:s3cret@h/x", "http://h/x"),
        ("http://ada:s3/cr?et@h/x", "http://h/x"),
        ("http://ada:s3cr@et@h/x", "http://h/x"),
        ("http://s3cret@h:80/x, then", "http://h:80/x, then"),
        ("Cannot connect to host ada:s3cret@h:80 ssl:default", "Cannot connect to host h:80 ssl:default"),
        ("postgres://u:s3cret@db:5432/shop?sslkey=s3cret", "postgres://db:5432/shop"),
        ("https://h/cb#access_token=s3cret", "https://h/cb"),
        ('  get("http://h/x?token=s3cret", timeout=1)  # why?', '  get("http://h/x", timeout=1)  # why?'),
        ("Invalid header value b'Bearer s3cret\\n'", "Invalid header value ?"),
        ("Illegal header value b's3cret\\n'", "Illegal header value ?"),
        ("return character(s) in header value: 's3cret\\n'", "return character(s) in header value: ?"),
        ("{'Authorization': 'Basic s3cret', 'Accept': '*/*'}", "{'Authorization': ?, 'Accept': '*/*'}"),
        ("Authorization: Bearer s3cret", "Authorization: ?"),
        ("(b'authorization', b'Bearer s3cret')", "(b'authorization', ?)"),
        ("Cookie: session=s3cret; b=s3cret", "Cookie: ?"),
        ("token is Bearer s3cret, sent", "token is Bearer ?, sent"),
        ("sent Basic czNjcmV0OnMzY3JldA== to h", "sent Basic ? to h"),
        ("DETAIL:  Key (mail)=(s3cret (s3cret)) already exists.", "DETAIL:  Key (mail)=(?) already exists."),
        ("(1062, \"Duplicate entry 's3c's3cret' for key 'mail'\")", "(1062, \"Duplicate entry ? for key 'mail'\")"),
        ('invalid input syntax for type integer: "s3cret"', "invalid input syntax for type integer: ?"),
        ('unrecognized token: "\'s3cret"', "unrecognized token: ?"),
        ("bad\nLINE 12: select 's3cret'\n  ^", "bad\nLINE 12: ?\n  ^"),
        ("DETAIL:  Failing row contains (1, s3cret).", "DETAIL:  Failing row contains (?)"),
        ("syntax error at or near \"'s3cret'\"", "syntax error at or near ?"),
        ("Command # 2 (SET a s3cret) of pipeline caused error: no", "Command # 2 (?) of pipeline caused error: no"),
        ("unknown command 'X', with args beginning with: 's3cret'", "unknown command 'X', with args beginning with: ?"),
        ("in your SQL syntax near ''s3cret' x' at line 1", "in your SQL syntax near ? at line 1"),
        ("Incorrect integer value: 's3cret' for column 'a'", "Incorrect integer value: ? for column 'a'"),
        (
            "(x.Error) no\n[SQL: select 1,\n\n's3cret']\n[parameters: ('s3cret]',)]\n(Background on this error at: h)",
            "(x.Error) no\n[SQL: ?]\n(Background on this error at: h)",
        ),
        ("(x.Error) no\n[SQL: select 's3cret'\n\nand", "(x.Error) no\n[SQL: ?]"),
    ],
)  # fmt: skip
def test_secrets_are_taken_out(text: str, expected: str) -> None:
    """Of messages as requests, urllib3, httpx, aiohttp, h11 and drivers of databases write them."""
    assert expected == clean(text, 16_384)
    assert "s3cret" not in clean(text, 16_384)


@pytest.mark.parametrize(
    "text",
    [
        "boom",
        "why? because",
        "is it there? a=b",
        "/etc/passwd: really?",
        "SELECT * FROM users WHERE id = ? AND mail = ?",
        "ada@example.org is taken",
        "@app.get('/items') # a comment",
        "Basic authentication failed",
        "http://h:8080/users/@me",
        "x = a if b else c  # TODO?",
        "invalid literal for int() with base 10: 'x'",
        'near "FORM": syntax error',
        "KeyError: 'id'",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    """An error that cannot be read helps nobody."""
    assert text == clean(text, 16_384)


@given(
    st.text(alphabet="ab/?#@:='\" &.%", max_size=60),
    st.text(alphabet="stuvwxyzSTUV019%&;+-_~", min_size=4, max_size=30),
)
def test_query_value_is_never_left(around: str, secret: str) -> None:
    """Whatever stands around the URL, and whatever the value is made of."""
    cleaned = clean(f"{around.replace(chr(39), '')} http://host/x?token=S3{secret}S3", 16_384)
    assert f"S3{secret}S3" not in cleaned


@given(st.sampled_from(["http://u:{}@h/x", "GET http://{}@h/x failed", "url: /a?b={}", "'http://h/?{}'"]))
def test_cut_text_shows_no_half_secret(form: str) -> None:
    """The limit is a bound on work, so it may not cut a URL in front of what marks its parts."""
    text = form.format("s3cret" * 20)
    for limit in range(1, len(text) + 5):
        assert "s3cret" not in clean("word " + text, limit).removeprefix("word ")[:6] or limit > len(text) + 5


@pytest.mark.parametrize(
    "piece", ["a", "a?", "//a:", "a:b@", "header value '", "'?", "Bearer ", "?=", "#://", "authorization: "]
)
def test_long_text_takes_no_long_time(piece: str) -> None:
    """An error may quote what a stranger sent. Doubling the text about doubles the work."""
    took = []
    for length in (8_000, 16_000):
        text = (piece * length)[:length]
        begin = time.process_time()
        clean(text, 16_384)
        took.append(time.process_time() - begin)
    assert took[1] < max(3.2 * took[0], 0.3)
    print(piece, took)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://h/x?a=1#b", "http://h/x"),
        ("http://u:p@h/x", "http://h/x"),
        ("http://u:p/q@h/x", "http://h/x"),
        ("http://u:p?q@h/x?a", "http://h/x"),
        ("http://h/users/@me", "http://h/users/@me"),
        ("/x?y", "/x"),
    ],
)
def test_url_is_shown_without_its_secrets(url: str, expected: str) -> None:
    """Also one whose password should have been escaped."""
    assert expected == clean_url(url)
