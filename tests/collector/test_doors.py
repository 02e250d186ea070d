"""Who may ask and send: names, other pages, tokens. Over real sockets, as browsers, proxies and attackers do."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from clew.collector.settings import Address, Token
from served import served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import httpx

    from clew.collector.store.clickhouse import ClickHouseStore

SPANS = b'[{"traceId":"a","id":"b","name":"x"}]'
READ_PATHS = (
    "/api/v2/services",
    "/zipkin/api/v2/traces",
    "/api/v2/dependencies?endTs=1",
    "/api/v1/traces",
    "/api/v1/logs",
    "/api/v1/tail",
    "/metrics",
    "/info",
)
WRITE_PATHS = ("/api/v2/spans", "/zipkin/api/v2/spans", "/api/v1/logs")


@pytest.fixture
def serve(store: ClickHouseStore, tmp_path: Path) -> Iterator[Callable[..., httpx.Client]]:
    with contextlib.ExitStack() as stack:
        yield lambda **settings: stack.enter_context(served(store, tmp_path, **settings))


def _statuses(client: httpx.Client, headers: dict[str, str]) -> set[int]:
    """Ask for everything, send to everything, in every method."""
    found = set()
    for path in READ_PATHS:
        for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"):
            with client.stream(method, path, headers=headers) as answer:
                found.add(answer.status_code)
    for path in WRITE_PATHS:
        plain = {"Content-Type": "text/plain", **headers}
        found.add(client.post(path, content=SPANS, headers=plain).status_code)
    return found


def _stored(client: httpx.Client) -> int:
    return len(client.get("/api/v2/trace/a").json()) if client.get("/api/v2/trace/a").status_code == 200 else 0


# --- other pages ---


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "http://localhost:3000"},
        {"Origin": "http://127.0.0.1"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://evil.example", "X-Forwarded-Host": "127.0.0.1"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"},
    ],
    ids=str,
)
def test_other_pages_neither_read_nor_write(serve: Callable[..., httpx.Client], headers: dict[str, str]) -> None:
    """By no method and on no path, also where a browser asks nothing beforehand; nothing is stored."""
    client = serve()
    assert {403} == _statuses(client, headers)
    assert 0 == _stored(client)


def test_preflight_of_another_page_is_refused(serve: Callable[..., httpx.Client]) -> None:
    """And says so without allowing anything."""
    asked = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    answer = serve().options("/api/v2/spans", headers=asked)
    assert (403, None) == (answer.status_code, answer.headers.get("access-control-allow-origin"))
    assert "'http://evil.example'" in answer.text
    assert "--allowed-origins" in answer.text


def test_listed_origins_read_and_write(serve: Callable[..., httpx.Client]) -> None:
    """Their browsers are told so; all others are refused as before."""
    client = serve(allowed_origins=("https://grafana.example",))
    good = {"Origin": "https://Grafana.example"}
    answers = [client.get("/api/v2/services", headers=good), client.post("/api/v2/spans", content=b"[]", headers=good)]
    assert [(200, "https://grafana.example", "origin"), (202, "https://grafana.example", "origin")] == [
        (one.status_code, one.headers["access-control-allow-origin"], one.headers["vary"]) for one in answers
    ]
    asked = client.options("/api/v2/spans", headers={**good, "Access-Control-Request-Method": "POST"})
    assert (200, "https://grafana.example", "GET,POST") == (
        asked.status_code,
        asked.headers["access-control-allow-origin"],
        asked.headers["access-control-allow-methods"],
    )
    assert {403} == _statuses(client, {"Origin": "https://grafana.example.evil.example"})


def test_star_lets_every_page_in(serve: Callable[..., httpx.Client]) -> None:
    """As Zipkin's server does; credentials are never allowed."""
    answer = serve(allowed_origins=("*",)).get("/api/v2/services", headers={"Origin": "http://foo.example"})
    assert (200, "*", None, None) == (
        answer.status_code,
        *map(answer.headers.get, ("access-control-allow-origin", "vary", "access-control-allow-credentials")),
    )


@pytest.mark.parametrize(
    "headers",
    [
        {},  # curl, clients, Grafana's proxy (it takes Origin off)
        {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"},  # the page; Lens behind a proxy
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},  # a link on another page
        {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"},  # typed
        {"Origin": "http://localhost", "Host": "localhost"},
        {"Origin": "http://localhost", "Host": "localhost:80"},
        {"Origin": "https://localhost:443", "Host": "localhost"},
        {"Origin": "http://[::1]:9411", "Host": "[::1]:9411"},
        {"Origin": "https://zipkin.example", "X-Forwarded-Host": "zipkin.example"},  # a proxy that asks as 127.0.0.1
        {"Origin": "https://zipkin.example", "X-Forwarded-Host": "zipkin.example, inner:9411"},
        {"X-Grafana-Referer": "http://grafana:3000/explore", "X-Forwarded-For": "10.0.0.7"},
    ],
    ids=str,
)
def test_own_page_clients_and_proxies_pass(serve: Callable[..., httpx.Client], headers: dict[str, str]) -> None:
    """To read and to send."""
    client = serve()
    assert 200 == client.get("/api/v2/services", headers=headers).status_code
    assert 202 == client.post("/api/v2/spans", content=b"[]", headers=headers).status_code


# --- names ---


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:9411",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "localhost:1, evil",
        "[::2]",
        "10.0.0.1",
        "0.0.0.0:9411",
        "x" * 5_000,
        "<script>",
    ],
)
def test_loopback_answers_to_no_foreign_name(serve: Callable[..., httpx.Client], host: str) -> None:
    """A name that somebody had resolved to 127.0.0.1 gets one sentence, for reading, sending and following."""
    client = serve()
    assert {403} == _statuses(client, {"Host": host})
    text = client.get("/", headers={"Host": host}).text
    assert "--allowed-hosts" in text
    assert 1 == len(text.splitlines())
    assert len(text) < 300
    assert 0 == _stored(client)


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:1", "127.0.0.1:80", "127.9.9.9", "[::1]:9411", "clew.localhost:9411", "localhost."],
)
def test_names_of_loopback_pass(serve: Callable[..., httpx.Client], host: str) -> None:
    """With any port: a tunnel may lie between."""
    assert 200 == serve().get("/api/v2/services", headers={"Host": host}).status_code


def test_listed_names_pass(serve: Callable[..., httpx.Client]) -> None:
    """A name with any port, or with the one it is listed with."""
    client = serve(allowed_hosts=("traces.example", "other.example:81"))
    hosts = ("Traces.example:9411", "traces.example", "other.example:81", "other.example", "localhost", "evil.example")
    assert [200, 200, 200, 403, 200, 403] == [client.get("/info", headers={"Host": host}).status_code for host in hosts]


def test_other_addresses_answer_to_any_name_unless_some_are_listed(serve: Callable[..., httpx.Client]) -> None:
    """What a collector on a network is called is not known beforehand."""
    network = Address("0.0.0.0", 9411)
    assert 200 == serve(http=network).get("/info", headers={"Host": "collector.internal"}).status_code
    listed = serve(http=network, allowed_hosts=("traces.example",))
    assert [200, 403] == [
        listed.get("/info", headers={"Host": host}).status_code for host in ("traces.example", "evil.example")
    ]


# --- tokens ---


def _bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


@pytest.fixture
def guarded(serve: Callable[..., httpx.Client]) -> httpx.Client:
    """A collector with a token for each purpose."""
    return serve(token=(Token("both"), Token("reads", write=False)), token_file=(Token("writes", read=False),))


@pytest.mark.parametrize(
    "secret", ["-", "bot", "bothh", "both\u00e9", "BOTH", "read:reads", "Token(***)", "x" * 10_000]
)
def test_wrong_tokens_open_nothing(guarded: httpx.Client, secret: str) -> None:
    """And the answer repeats nothing of them."""
    headers = {"Authorization": f"Bearer {secret}".encode("latin-1")}
    assert {401} == _statuses(guarded, headers)  # type: ignore[arg-type]
    answer = guarded.get("/api/v2/services", headers=headers)
    assert "Bearer" == answer.headers["www-authenticate"]
    assert not secret or secret not in answer.text


def test_each_token_is_good_for_its_purpose(guarded: httpx.Client) -> None:
    """Services may send and not read; whoever looks may read and not write."""
    read = [guarded.get("/api/v2/services", headers=_bearer(name)).status_code for name in ("both", "reads", "writes")]
    sent = [
        guarded.post(path, content=b"", headers=_bearer(name)).status_code
        for path in WRITE_PATHS
        for name in ("both", "reads", "writes")
    ]
    assert [200, 200, 403] == read
    assert [202, 403, 202] * 3 == sent


def test_token_in_the_address_becomes_a_cookie_at_once(guarded: httpx.Client) -> None:
    """The browser is led on to the address without it; script, referrer and other sites get nothing of it."""
    answer = guarded.get("/api/v1/traces?limit=3&token=reads&service=a%26b", follow_redirects=False)
    cookie = answer.headers["set-cookie"]
    assert (303, "./traces?limit=3&service=a%26b", "no-referrer", "no-store") == (
        answer.status_code, answer.headers["location"], answer.headers["referrer-policy"],
        answer.headers["cache-control"],
    )  # fmt: skip
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} == set(cookie.split("; ")[1:])
    assert "reads" not in cookie
    guarded.cookies.clear()
    assert 401 == guarded.get("/api/v1/traces").status_code
    assert 200 == guarded.get("/api/v1/traces", headers={"Cookie": f"other=1; {cookie.split(';')[0]}"}).status_code


def test_cookie_is_secure_behind_tls(guarded: httpx.Client) -> None:
    """As the proxy says."""
    answer = guarded.get("/?token=both", headers={"X-Forwarded-Proto": "https"}, follow_redirects=False)
    assert answer.headers["set-cookie"].endswith("; Secure")


def test_page_changes_its_token_for_a_cookie(guarded: httpx.Client) -> None:
    """By the header; a token that may not read gets none."""
    answers = [guarded.post("/api/v1/session", headers=_bearer(name)) for name in ("reads", "writes", "wrong")]
    assert [204, 403, 401] == [answer.status_code for answer in answers]
    assert [True, False, False] == ["set-cookie" in answer.headers for answer in answers]
    assert 200 == guarded.get("/api/v2/services").status_code  # the client keeps cookies, as a browser


def test_cookie_never_writes_and_never_serves_another_page(serve: Callable[..., httpx.Client]) -> None:
    """Not even where every page may ask: a browser adds cookies by itself."""
    client = serve(token=(Token("both"),), allowed_origins=("*",))
    client.post("/api/v1/session", headers=_bearer("both"))
    assert 401 == client.post("/api/v2/spans", content=SPANS).status_code
    for foreign in ({"Origin": "http://localhost:3000"}, {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"}):
        assert 401 == client.get("/api/v2/services", headers=foreign).status_code
    own = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}
    assert 200 == client.get("/api/v2/services", headers=own).status_code


def test_forged_cookies_open_nothing(guarded: httpx.Client) -> None:
    """Neither the token itself nor another value."""
    named = guarded.get("/?token=both", follow_redirects=False).headers["set-cookie"].partition("=")[0]
    guarded.cookies.clear()
    for value in ("both", "", "0" * 64, "\u00e9"):
        headers: Any = {"Cookie": f"{named}={value}".encode("latin-1")}
        assert 401 == guarded.get("/api/v2/services", headers=headers).status_code


@pytest.mark.parametrize(
    ("address", "location"),
    [
        ("//evil.example/x?token=both", "./x"),
        ("//evil.example?token=both", "./evil.example"),
        ("///\\evil.example?token=both", "./%5Cevil.example"),
        ("/a//evil.example/?token=both", "./"),
        ("/%2F%2Fevil.example?token=both&a", "./%2F%2Fevil.example?a"),
        ("/http://evil.example?token=both", "./evil.example"),
        ("/javascript:x?token=both", "./javascript:x"),
        ("/?token=both&token=wrong&to%6ben=x&tokens=1", "./?tokens=1"),
        ("/?token=both", "./"),
        ("/a%0d%0aSet-Cookie:x=1?token=both", "./a%0d%0aSet-Cookie:x=1"),
    ],
)
def test_way_on_never_leads_elsewhere(guarded: httpx.Client, address: str, location: str) -> None:
    """Whatever the address looks like: another host, another header, a second token."""
    request = guarded.build_request("GET", "/")
    request.url = request.url.copy_with(raw_path=address.encode())
    answer = guarded.send(request, follow_redirects=False)
    assert (303, location) == (answer.status_code, answer.headers["location"])


def test_wrong_token_in_the_address_is_not_repeated(guarded: httpx.Client) -> None:
    """401, no cookie, no way on."""
    answer = guarded.get("/?token=s3cret-of-another", follow_redirects=False)
    assert (401, False, False) == (answer.status_code, "set-cookie" in answer.headers, "location" in answer.headers)
    assert "s3cret" not in answer.text


def test_health_and_the_page_need_no_token(guarded: httpx.Client) -> None:
    """They hold no data; nor do the ways that lead to a trace's page."""
    paths = ("/health", "/", "/ui/page.js", "/zipkin/", "/zipkin/traces/abc")
    assert [200, 200, 200, 302, 302] == [guarded.get(path, follow_redirects=False).status_code for path in paths]


def test_token_shows_in_no_text_form() -> None:
    """Settings end up in logs and tracebacks."""
    token = Token("s3cret", write=False)
    assert "s3cret" not in repr(token) + str(token) + f"{[token]}"
