"""What a payload may hold: compared with Zipkin 3.5.1, case by case."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from clew.collector.ingest.payload import BadPayload, check, kind_of

SPAN = {"traceId": "000000000000000a", "id": "000000000000000b"}


def _check(**fields: Any) -> Any:
    checked = check("spans", json.dumps([{**SPAN, **fields}]).encode())
    return json.loads(b"[%b]" % checked.rows)[0]


def test_payload_is_written_anew_in_one_form() -> None:
    """Whatever the client's spaces, order, escapes and unknown keys: one form, without the brackets."""
    body = b' [ {"unknown":[1], "id":"b","tags":{"k":"\\u00e9"},"traceId":"a"} , {"traceId":"a","id":"c"} ]\n'

    checked = check("spans", body)

    assert '{"traceId":"a","id":"b","tags":{"k":"é"}},{"traceId":"a","id":"c"}'.encode() == checked.rows
    assert 2 == checked.items


def test_empty_array_is_fine() -> None:
    """No spans are no error."""
    assert 0 == check("spans", b" [ ] ").items


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"traceId": "000000000000000A"}, "span_traceId"),
        ({"traceId": "a" * 33}, "span_traceId"),
        ({"traceId": "0" * 32}, "span_traceId"),
        ({"traceId": ""}, "span_traceId"),
        ({"traceId": None}, "span_traceId"),
        ({"traceId": "x\n\x1b[31m"}, "span_traceId"),
        ({"id": "a" * 17}, "span_id"),
        ({"id": "0x1"}, "span_id"),
        ({"id": "0" * 16}, "span_id"),
        ({"timestamp": 2**63 + 2_000}, "span_timestamp"),
        ({"timestamp": 2**64}, "span_timestamp"),
        ({"timestamp": -(2**64)}, "span_timestamp"),
        ({"timestamp": "9" * 5_000}, "span_timestamp"),
        ({"duration": 10**400}, "span_duration"),
        ({"annotations": [{"timestamp": None, "value": "x"}]}, "span_annotations"),
        ({"localEndpoint": {"port": 2**32 + 80}}, "span_localEndpoint"),
        ({"parentId": ""}, "span_parentId"),
        ({"parentId": "-1"}, "span_parentId"),
        ({"kind": "client"}, "span_kind"),
        ({"kind": ["CLIENT"]}, "span_kind"),
        ({"name": True}, "span_name"),
        ({"name": "n" * 5000}, "span_name"),
        ({"timestamp": "x"}, "span_timestamp"),
        ({"timestamp": 1.5}, "span_timestamp"),
        ({"timestamp": True}, "span_timestamp"),
        ({"duration": 5.5}, "span_duration"),
        ({"debug": "true"}, "span_debug"),
        ({"tags": []}, "span_tags"),
        ({"tags": {"a": None}}, "span_tags"),
        ({"tags": {"a": {}}}, "span_tags"),
        ({"tags": {str(n): "" for n in range(1_025)}}, "span_tags"),
        ({"annotations": [None]}, "span_annotations"),
        ({"annotations": [{"value": "x"}]}, "span_annotations"),
        ({"localEndpoint": "x"}, "span_localEndpoint"),
        ({"localEndpoint": {"port": 70_000}}, "span_localEndpoint"),
        ({"binaryAnnotations": []}, "span_shape"),
    ],
)
def test_bad_field_is_refused_with_index_and_reason(fields: dict[str, Any], reason: str) -> None:
    """The second span is bad: the message names it and the field, and holds no control character."""
    with pytest.raises(BadPayload) as refused:
        check("spans", json.dumps([SPAN, {**SPAN, **fields}]).encode())

    assert reason == refused.value.reason
    assert str(refused.value).startswith("span 1")
    assert str(refused.value).isprintable()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"foo",
        b"{}",
        b'[{"traceId":"a","id":"b"}',
        b'[{"traceId":"a","id":"b"}] x',
        b'[{"traceId":NaN}]',
        b"[" + b"," * 5,
        b"\xef\xbb\xbf[]",
        b"\xff",
    ],
)
def test_what_is_no_array_is_malformed(body: bytes) -> None:
    """Neither other JSON nor half of it nor something behind it passes."""
    with pytest.raises(BadPayload) as refused:
        check("spans", body)

    assert "malformed" == refused.value.reason


def test_deep_nesting_is_refused() -> None:
    """A hundred thousand brackets end in a refusal, not in a crash."""
    with pytest.raises(BadPayload) as refused:
        check("spans", b'[{"traceId":"a","id":"b","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}]")

    assert "nesting" == refused.value.reason


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"id": 12}, {"id": "12"}),
        ({"name": 5}, {"name": "5"}),
        ({"timestamp": "1472470996199000"}, {"timestamp": 1_472_470_996_199_000}),
        ({"timestamp": 1.4724709961990e15}, {"timestamp": 1_472_470_996_199_000}),
        ({"timestamp": 2**63}, {"timestamp": 2**63 - 1}),  # as a double it is the same
        ({"timestamp": -1}, {"timestamp": 0}),
        ({"timestamp": " 5 "}, {"timestamp": 5}),
        ({"timestamp": "1e3"}, {"timestamp": 1_000}),
        ({"duration": -(2**63)}, {"duration": 0}),
        ({"annotations": [{"timestamp": -1, "value": ""}]}, {"annotations": [{"timestamp": -1, "value": ""}]}),
        ({"id": "0"}, {"id": "0"}),
        ({"parentId": "0000000000000000"}, {"parentId": "0000000000000000"}),
        ({"localEndpoint": {"ipv4": "::1.2.3.4"}}, {"localEndpoint": {"ipv4": "1.2.3.4"}}),
        ({"localEndpoint": {"ipv4": "2001:DB8::0:1"}}, {"localEndpoint": {"ipv6": "2001:db8::1"}}),
        ({"localEndpoint": {"ipv6": "1:0:2:3:4:5:6:7"}}, {"localEndpoint": {"ipv6": "1::2:3:4:5:6:7"}}),
        ({"localEndpoint": {"ipv6": "::", "port": 0}}, {"localEndpoint": {"ipv6": "::", "port": 0}}),
        ({"localEndpoint": {"ipv6": "fe80::1%eth0"}}, {"localEndpoint": {}}),
        ({"localEndpoint": {"ipv4": "1.2.3.4", "ipv6": "::5.6.7.8"}}, {"localEndpoint": {"ipv4": "5.6.7.8"}}),
        ({"localEndpoint": {"ipv6": "::5.6.7.8", "ipv4": "1.2.3.4"}}, {"localEndpoint": {"ipv4": "1.2.3.4"}}),
        ({"remoteEndpoint": {"ipv6": "::1", "ipv4": "2::2"}}, {"remoteEndpoint": {"ipv6": "2::2"}}),
        ({"duration": "5"}, {"duration": 5}),
        ({"tags": {"a": 1, "b": 1.5}}, {"tags": {"a": "1", "b": "1.5"}}),
        ({"annotations": [{"timestamp": "5", "value": 7}]}, {"annotations": [{"timestamp": 5, "value": "7"}]}),
        ({"localEndpoint": {"port": "80"}}, {"localEndpoint": {"port": 80}}),
        ({"localEndpoint": {"port": -1}}, {"localEndpoint": {"port": 0}}),
        ({"parentId": None, "tags": None}, {}),
    ],
)
def test_what_zipkin_reads_leniently_is_read_so(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    """Numbers in quotes, whole floats, numbers where text belongs: in plain form afterwards."""
    assert {**SPAN, **expected} == _check(**fields)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (b'"name":"a","name":"b"', {"name": "b"}),
        (b'"name":"a","name":null', {"name": "a"}),
        (b'"name":"a","n\\u0061me":"b"', {"name": "b"}),
        (b'"tags":{"a":"1","b":"2"},"tags":{"b":"3"}', {"tags": {"a": "1", "b": "3"}}),
        (b'"tags":{"a":"1"},"Tags":{"b":"3"},"TAGS":5', {"tags": {"a": "1"}}),
        (b'"tags":{"a":"1"},"tags":null', {"tags": {"a": "1"}}),
        (
            b'"annotations":[{"timestamp":1,"value":"a"}],"annotations":[{"timestamp":1,"value":"b"}]',
            {"annotations": [{"timestamp": 1, "value": "a"}, {"timestamp": 1, "value": "b"}]},
        ),
        (b'"localEndpoint":{"serviceName":"a"},"localEndpoint":{"port":1}', {"localEndpoint": {"port": 1}}),
        (b'"debug":true,"debug":false', {"debug": True}),
        (b'"Annotations":{"owner":"me"},"":1,"x":{"id":[null]}', {}),
        (b'"tags":{"n":1.50,"m":-0,"o":12345678901234567890123}',
         {"tags": {"n": "1.50", "m": "-0", "o": "12345678901234567890123"}}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("spaced", [False, True])
def test_keys_count_as_in_zipkin(fields: bytes, expected: dict[str, Any], spaced: bool) -> None:
    """Twice, null, unknown, in odd case: the last value holds, tags and annotations add up, the rest is nothing."""
    body = b'[{"traceId":"000000000000000a","id":"000000000000000b",%b}]' % fields

    assert [{**SPAN, **expected}] == json.loads(
        b"[%b]" % check("spans", body.replace(b":", b" : ") if spaced else body).rows
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [(b"a\x01b", "a\x01b"), (b"\\ud800", "?"), (b"\xff", "�"), (b"\xed\xa0\x80", "�"), (b"a\\u0000b", "a\x00b")],
)
def test_odd_characters_become_storable(name: bytes, expected: str) -> None:
    """Raw control characters, lone surrogates and bad UTF-8 pass as in Zipkin, as characters that exist."""
    checked = check("spans", b'[{"traceId":"a","id":"b","name":"%b"}]' % name)

    assert expected == json.loads(checked.rows)["name"]


def test_log_records_are_checked() -> None:
    """Records lose their envelope; a bad id and a missing message are refused."""
    good = check("logs", b'{"logs": [{"timestamp":1,"service":"a","message":"m","traceId":"a"}], "more": 1}')
    assert b'{"timestamp":1,"service":"a","message":"m","traceId":"a"}' == good.rows

    for bad, reason in ((b'"traceId":"X","message":""', "log_record_traceId"), (b'"level":"INFO"', "log_field")):
        with pytest.raises(BadPayload) as refused:
            check("logs", b'{"logs":[{"timestamp":1,"service":"a",%b}]}' % bad)
        assert reason == refused.value.reason


def test_half_a_character_in_a_line_becomes_a_question_mark() -> None:
    """As in a span: Python's JSON of an odd file name has such halves."""
    line = b'{"timestamp":1,"service":"a","message":"%b"}'
    got = check("logs", b'{"logs":[%b]}' % line % b"\\udcff and \\ud83e\\uded6")
    assert line % "? and \U0001fad6".encode() == got.rows


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"logs":[{"timestamp":1,"service":"a","message":5}]}', "log record 0, message: Expected `str`, got `int`."),
        (b'{"logs":[{"service":"a","message":""}]}', "log record 0: Object missing required field `timestamp`."),
        (b'{"logs":[5]}', "log record 0: Expected `object`, got `int`."),
        (b'{"logs":{}}', 'Expected {"logs": [...]}: Expected `array`, got `object`.'),
        (b'{"log":[]}', 'Expected {"logs": [...]}: Object missing required field `logs`.'),
        (b"[]", 'Expected {"logs": [...]}: Expected `object`, got `array`.'),
        (b'{"logs":[{"timestamp":1,"service":"a","message":"\xff"}]}', 'Expected {"logs": [...]}: '),
    ],
)
def test_bad_log_records_are_refused_with_index_and_reason(body: bytes, said: str) -> None:
    """Which record, which field, what is wrong."""
    with pytest.raises(BadPayload) as refused:
        check("logs", body)

    assert str(refused.value).startswith(said)


def test_writing_anew_makes_nothing_longer() -> None:
    """On this rests that a payload of as many bytes has lost no key."""
    spelled = [*(chr(code) for code in (*range(32, 34), *range(35, 92), *range(93, 0xD800), 0x1F600))]
    spelled += [f"\\{char}" for char in '"\\/bfnrt'] + [f"\\u{code:04x}" for code in range(0xD800)]
    for text in spelled:
        body = f'[{{"traceId":"a","id":"b","name":"{text}"}}]'.encode()
        assert len(check("spans", body).rows) + 2 <= len(body)


def test_kind_is_told_by_the_first_byte() -> None:
    """An object is log records; anything else is taken for spans."""
    assert ["logs", "spans", "spans"] == [kind_of(b' {"logs":[]}'), kind_of(b"[]"), kind_of(b"junk")]


HOSTILE = """
import resource
from clew.collector.ingest.payload import BadPayload, check

objects = b"[" + b",".join([b'{"a":[]}'] * 1_800_000) + b"]"
lists = b'[{"traceId":"a","id":"b","x":[' + b",".join([b'{"a":[]}'] * 1_400_000) + b"]}]"
tags = b'[{"traceId":"a","id":"b","tags":{' + b",".join([b'"%d":""' % n for n in range(1_200_000)]) + b"}}]"

def post(body):
    try:
        check("spans", body)
    except BadPayload:
        pass

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for body in (objects, lists, tags):
    post(body)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""


def test_memory_is_bounded_whatever_is_nested() -> None:
    """A body of 16 MiB of the smallest objects takes a few hundred MiB at most; receivers check one at a time."""
    output = subprocess.run([sys.executable, "-c", HOSTILE], capture_output=True, text=True, check=True).stdout

    assert int(output) < 500


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"[" + b"," * 2_000_000 + b"]", "too_many"),
        (b"[" + b'{"traceId":"a","id":"b"},' * 300_000 + b'{"traceId":"a","id":"b"}]', "too_many"),
        (b"[" * 2_000_000, "nesting"),
        (b'[{"traceId":"a","id":"b","tags":{%b}}]' % b",".join(b'"%d":"1"' % n for n in range(300_000)), "too_many"),
        (b'[{"traceId":"a","id":"b","timestamp":' + b"1" * 2_000_000 + b"}]", "span_timestamp"),
    ],
)
def test_work_is_bounded(body: bytes, reason: str) -> None:
    """Commas, spans, brackets and digits without end are refused by count."""
    with pytest.raises(BadPayload) as refused:
        check("spans", body)

    assert reason == refused.value.reason
