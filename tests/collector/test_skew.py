"""Clock skew: a server that seems to begin before its client is moved into the client's time."""

from __future__ import annotations

import pytest

from clew.collector.trace import Endpoint, Span, build_tree, correct_skew
from clew.collector.trace.skew import same_host
from zipkin_spans import make

FRONTEND, BACKEND = "172.17.0.13", "172.17.0.9"


def corrections(*spans: Span) -> dict[str, int]:
    """Return by service (or id) what is taken off the times."""
    tree = build_tree(spans)
    found = correct_skew(tree)
    return {span.service or span.id: found[id(node)] for node, span in tree.root.spans() if id(node) in found}


def client(timestamp: int = 20, duration: int = 20, ip: str | None = FRONTEND) -> Span:
    return make("3", None, "CLIENT", "frontend", ip=ip, timestamp=timestamp, duration=duration)


def server(timestamp: int = 10, duration: int = 10, ip: str | None = BACKEND, *, shared: bool = True) -> Span:
    return make("3", None, "SERVER", "backend", ip=ip, timestamp=timestamp, duration=duration, shared=shared)


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        (None, None, False),
        (None, Endpoint(ipv4="192.168.99.101"), False),
        (Endpoint("foo"), Endpoint(ipv4="192.168.99.101"), False),
        (Endpoint("foo"), Endpoint(ipv6="2001:db8::c001"), False),
        (Endpoint(ipv4="192.168.99.102"), Endpoint(ipv4="192.168.99.101"), False),
        (Endpoint(ipv6="2001:db8::c002"), Endpoint(ipv6="2001:db8::c001"), False),
        (Endpoint(ipv4="192.168.99.101"), Endpoint(ipv4="192.168.99.101"), True),
        (Endpoint(ipv4="192.168.99.101", ipv6="2001:db8::c001"), Endpoint(ipv4="192.168.99.101"), True),
        (Endpoint(ipv4="192.168.99.101", ipv6="2001:db8::c001"), Endpoint(ipv6="2001:db8::c001"), True),
        (Endpoint("foo"), Endpoint("foo"), True),
        (Endpoint("foo"), Endpoint("bar"), False),
        (Endpoint(), Endpoint(), False),
    ],
)
def test_hosts_are_told_by_address_else_by_name(left: Endpoint | None, right: Endpoint | None, expected: bool) -> None:
    """One equal address is enough; names count only where neither has an address."""
    assert (expected, expected) == (same_host(left, right), same_host(right, left))


def test_server_is_centred_in_its_client() -> None:
    """Half of what the client waited longer than the server worked is taken for the way there."""
    assert {"backend": -15} == corrections(client(), server())


def test_missing_shared_flag_changes_nothing() -> None:
    """The server is recognised by its kind."""
    assert {"backend": -15} == corrections(client(), server(shared=False))


def test_server_with_an_id_of_its_own_is_corrected() -> None:
    """Client and server need not share an id."""
    own = make("4", "3", "SERVER", "backend", ip=BACKEND, timestamp=10, duration=10)
    assert {"backend": -15} == corrections(client(), own)


def test_server_after_client_is_right() -> None:
    """Late is no skew."""
    assert {} == corrections(client(), server(timestamp=30))


def test_one_host_has_one_clock() -> None:
    """What looks odd on one host is the instrumentation's fault."""
    assert {} == corrections(client(), server(ip=FRONTEND))


def test_one_way_call_takes_a_microsecond() -> None:
    """Without durations the server is put just behind its client."""
    assert {"backend": -11} == corrections(client(duration=0), server(duration=0))


def test_call_that_outlives_its_client_takes_a_microsecond() -> None:
    """An asynchronous server works on when the client is done."""
    assert {"backend": -11} == corrections(client(duration=5), server())


def test_hosts_without_address_are_told_by_service() -> None:
    """Python services seldom know their address; the correction works all the same."""
    assert {"backend": -15} == corrections(client(ip=None), server(ip=None))


def test_everything_on_the_skewed_host_moves_along() -> None:
    """Local spans and further calls of the server move, spans of other hosts do not."""
    local = make("5", "3", None, "backend", ip=BACKEND, timestamp=12, duration=2)
    elsewhere = make("6", "3", None, "cache", ip="172.17.0.7", timestamp=13, duration=2)
    moved = corrections(client(), server(), local, elsewhere)
    assert {"backend": -15} == moved


def test_second_hop_is_measured_from_the_corrected_first() -> None:
    """Errors of two clocks do not add up."""
    onward = make("7", "3", "CLIENT", "backend", ip=BACKEND, timestamp=12, duration=6)
    third = make("8", "7", "SERVER", "db", ip="172.17.0.7", timestamp=1_000_000, duration=4)
    tree = build_tree([client(), server(), onward, third])
    found = correct_skew(tree)
    times = {
        span.service: span.timestamp - found.get(id(node), 0) for node, span in tree.root.spans() if span.id[-1] in "78"
    }
    assert {"backend": 27, "db": 1_000_000} == times


def test_no_root_no_reference() -> None:
    """Without a root nobody knows whose clock is right."""
    headless = make("3", "2", "CLIENT", "frontend", ip=FRONTEND, timestamp=20, duration=20)
    assert {} == corrections(headless, server())


def test_two_roots_are_no_reference() -> None:
    """Two roots are two opinions."""
    assert {} == corrections(client(), server(), make("cafe", None, None, "curtain"))
