"""IP addresses: what Zipkin 3.5.1 was seen to make of each of these texts."""

from __future__ import annotations

import pytest

from clew.collector.ingest.addresses import OrderMattersError, canonical_addresses, packed_address, parse_address

IPV4 = {
    "1.2.3.4": "1.2.3.4", "01.2.3.4": "01.2.3.4", "001.002.003.004": "001.002.003.004", "0.0.0.0": "0.0.0.0",
    "255.255.255.255": "255.255.255.255", "::1.2.3.4": "1.2.3.4", "::ffff:1.2.3.4": "1.2.3.4",
    "::FFFF:1.2.3.4": "1.2.3.4", "::0000:1.2.3.4": "1.2.3.4", "::f0f0:1.2.3.4": "1.2.3.4",
}  # fmt: skip
IPV6 = {
    "::": "::", "::1": "::1", "0:0:0:0:0:0:0:0": "::", "0:0:0:0:0:0:0:1": "::1", "2001:DB8::C001": "2001:db8::c001",
    "2001:db8:0:0:0:0:0:1": "2001:db8::1", "::ffff:102:304": "::ffff:102:304", "00001::": "1::",
    "0:0:1::": "::1:0:0:0:0:0",
    "2001:0:0:4:0:0:0:0": "2001::4:0:0:0:0", "2001:0:0:4:0:0:0:8": "2001:0:0:4::8", "1:0:2:3:4:5:6:7": "1::2:3:4:5:6:7",
    "1:2:3:4:5:6:7::": "1:2:3:4:5:6:7::", "::2:3:4:5:6:7:8": "::2:3:4:5:6:7:8", "1:0:0:2:0:0:0:3": "1:0:0:2::3",
    "1:0:0:0:2:0:0:3": "1::2:0:0:3", "1:2:3:4:5:6:7:8": "1:2:3:4:5:6:7:8", "a:b:c:d:e:f:0:0": "a:b:c:d:e:f::",
}  # fmt: skip
NEITHER = (
    "", "0", "junk", "...", "1.2.3", "1.2.3.400", "1.2.3.4.5", "256.1.1.1", "1.2.3.4 ", "1.2.3.4:80", "::fff:1.2.3.4",
    "0:0:0:0:0:ffff:1.2.3.4", "64:ff9b::1.2.3.4", "::1.2.3.256", "::a.b.c.d", ":::", "1:::2", "1::2::3", "1:", "g::",
    ":1:2:3:4:5:6:7", "1:2:3:4:5:6:7:", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "1::2:3:4:5:6:7:8", "12345::",
    "fe80::1%eth0", "[::1]", " ::1",
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *((text, (address, None)) for text, address in IPV4.items()),
        *((text, (None, address)) for text, address in IPV6.items()),
        *((text, (None, None)) for text in NEITHER),
    ],
)
def test_text_is_an_address_as_in_zipkin(text: str, expected: tuple[str | None, str | None]) -> None:
    """Of which kind, and how it is written."""
    assert expected == parse_address(text)


def test_an_address_goes_to_the_field_of_its_kind() -> None:
    """Whichever field it came in; two of one kind cannot be told apart without their order."""
    assert ("1.2.3.4", "::1") == canonical_addresses("::1", "1.2.3.4")
    assert (None, "::1") == canonical_addresses("::1", "junk")
    assert (None, None) == canonical_addresses(None, "")
    for pair in (("1.2.3.4", "::5.6.7.8"), ("::1", "::2")):
        with pytest.raises(OrderMattersError):
            canonical_addresses(*pair)


def test_packed_addresses_are_written_as_zipkin_writes_them() -> None:
    """Four bytes, sixteen, or none; sixteen that stand for four, but not ::1."""
    assert ("1.2.3.4", None) == packed_address(b"\1\2\3\4")
    assert ("1.2.3.4", None) == packed_address(bytes(12) + b"\1\2\3\4")
    assert ("0.0.0.0", None) == packed_address(bytes(16))
    assert (None, "::1") == packed_address(bytes(15) + b"\1")
    assert (None, "::ffff:102:304") == packed_address(bytes(10) + b"\xff\xff\1\2\3\4")
    assert (None, None) == packed_address(b"\1\2\3")
