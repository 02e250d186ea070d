"""The page's files: safe by policy, reachable without token, and the ways in for users of Zipkin."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from importlib import resources
from typing import TYPE_CHECKING

import pytest

from clew.collector.settings import Token
from served import served

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from clew.collector.store.clickhouse import ClickHouseStore

FILES = {
    "/": "text/html; charset=utf-8",
    "/ui/page.css": "text/css; charset=utf-8",
    "/ui/page.js": "text/javascript; charset=utf-8",
    "/favicon.ico": "image/svg+xml",
}


@pytest.fixture(scope="module")
def client(engine: ClickHouseStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A collector that wants a token."""
    with served(engine, tmp_path_factory.mktemp("page"), token=(Token("secret"),)) as client:
        yield client


@pytest.mark.parametrize(("path", "kind"), FILES.items())
def test_files_come_without_token_under_a_strict_policy(client: httpx.Client, path: str, kind: str) -> None:
    """They hold no data; nothing inline runs, nothing is loaded from elsewhere, nobody frames them."""
    answer = client.get(path)
    policy = dict(item.strip().split(" ", 1) for item in answer.headers["content-security-policy"].split(";"))
    assert (200, kind, "nosniff", "no-referrer") == (
        answer.status_code,
        answer.headers["content-type"],
        answer.headers["x-content-type-options"],
        answer.headers["referrer-policy"],
    )
    assert {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self'",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    } == policy


def test_data_wants_the_token(client: httpx.Client) -> None:
    """The page asks for it when it is told 401."""
    given = {"Authorization": "Bearer secret"}
    paths = ("/api/v1/traces", "/api/v2/services", "/api/v1/logs")
    assert [(401, 200)] * 3 == [
        (client.get(path).status_code, client.get(path, headers=given).status_code) for path in paths
    ]


def test_unchanged_files_are_not_sent_again(client: httpx.Client) -> None:
    """The browser asks each time and gets 304."""
    first = client.get("/ui/page.js")
    again = client.get("/ui/page.js", headers={"If-None-Match": first.headers["etag"]})
    other = client.get("/ui/page.js", headers={"If-None-Match": '"other"'})
    assert ("no-cache", 304, b"", 200) == (
        first.headers["cache-control"], again.status_code, again.content, other.status_code,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/zipkin", "/"),
        ("/zipkin/", "/"),
        ("/zipkin/traces/7180c278b62e8f6a", "/#/trace/7180c278b62e8f6a"),
        ("/zipkin/traces/ABC", "/#/trace/0000000000000abc"),
        ("/zipkin/traces/%22%3E%3Cscript%3E", "/"),
        ("/zipkin/traces/%0d%0aSet-Cookie:x", "/"),
    ],
)
def test_links_of_zipkin_users_lead_to_the_page(client: httpx.Client, path: str, target: str) -> None:
    """Only what is an id gets into the address."""
    answer = client.get(path, headers={"Authorization": "Bearer secret"}, follow_redirects=False)
    assert (302, target) == (answer.status_code, answer.headers["location"])


class _Markup(HTMLParser):
    """Collects what a strict policy forbids: scripts in the page, handlers, styles, foreign addresses."""

    def __init__(self) -> None:
        super().__init__()
        self.forbidden: list[str] = []
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.forbidden += [name for name in given if name.startswith("on") or name == "style"]
        if tag == "style" or (tag == "script" and "src" not in given):
            self.forbidden.append(tag)
        self.loaded += [given[name] or "" for name in ("src", "href") if name in given]


def test_markup_keeps_to_the_policy() -> None:
    """And every file that it loads is one that is served."""
    markup = _Markup()
    markup.feed((resources.files("clew.collector") / "ui" / "index.html").read_text())
    assert ([], {"favicon.ico", "ui/page.css", "ui/page.js", "#/"}) == (markup.forbidden, set(markup.loaded))


def test_script_builds_the_document_from_text_only() -> None:
    """No way by which names or tags could become markup or code."""
    script = (resources.files("clew.collector") / "ui" / "page.js").read_text()
    ways = r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|Function\(|setTimeout\(|javascript:|srcdoc"
    assert [] == re.findall(ways, script)
