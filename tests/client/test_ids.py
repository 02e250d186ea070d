"""Ids: random where made here, canonical where they came in, harmless whatever they are."""

from __future__ import annotations

import re
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

import clew
from clew import _context
from clew._context import new_span_id, new_trace_id, parse_span_id, parse_trace_id

TRACE = "0123456789abcdef0123456789abcdef"


def test_trace_id_is_a_uuid4_as_32_lower_case_hex():
    """A root's trace id is a UUID of version 4, variant 10, without dashes."""
    made = [new_trace_id() for _ in range(1_000)]
    assert {4} == {uuid.UUID(text).version for text in made}
    assert {uuid.RFC_4122} == {uuid.UUID(text).variant for text in made}
    assert all(re.fullmatch("[0-9a-f]{32}", text) for text in made)
    assert 1_000 == len(set(made))


def test_span_id_is_16_lower_case_hex():
    """A span id is 64 random bits as 16 hex characters."""
    made = [new_span_id() for _ in range(1_000)]
    assert all(re.fullmatch("[0-9a-f]{16}", text) for text in made)
    assert 1_000 == len(set(made))


def test_zero_is_never_a_span_id():
    """Sixty-four zero bits, which mean "no span" on the wire, are not handed out."""
    _context.use_sources(bits=lambda _: 0)
    try:
        assert "0000000000000001" == new_span_id()
    finally:
        _context.use_sources()


def test_seeding_the_application_does_not_repeat_ids():
    """``random.seed()`` of the application leaves ids random."""
    import random

    random.seed(7)
    first = new_span_id()
    random.seed(7)
    assert first != new_span_id()


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        (TRACE, TRACE),
        (TRACE.upper(), TRACE),
        ("01234567-89AB-cdef-0123-456789abcdef", TRACE),
        ("0123456789ABCDEF", "0123456789abcdef"),
        ("00000000000000000000000000000001", "00000000000000000000000000000001"),
    ],
)
def test_trace_id_becomes_canonical(text: str, canonical: str):
    """32 or 16 hex in any case and a dashed UUID are the same id in one form."""
    assert canonical == parse_trace_id(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0" * 32,
        "0" * 16,
        "00000000-0000-0000-0000-000000000000",
        TRACE[:-1],
        TRACE + "0",
        TRACE[:-1] + "g",
        TRACE[:-1] + "\n",
        TRACE[:-1] + "\0",
        TRACE[:-1] + "\u0660",
        TRACE[:-1] + "\uff11",
        TRACE[:-2] + "\U0001d7d8",
        "\u0130" * 32,
        "-" * 36,
        "0123456-789ab-cdef-0123-456789abcdef0",
        "01234567-89ab-cdef-0123-456789abcd-f",
        "01234567_89ab_cdef_0123_456789abcdef",
        "{01234567-89ab-cdef-0123-456789abcdef}",
        "0x" + TRACE[:30],
        "+" + TRACE[:31],
        "_".join(("0123456789abcdef", "0123456789abcde")),
        " " + TRACE[:30] + " ",
        "a" * 1_000_000,
        None,
        7,
        b"0123456789abcdef0123456789abcdef",
    ],
)
def test_anything_else_is_no_trace_id(text: object):
    """Wrong length, wrong characters, zeros, control characters and digits of other scripts are refused."""
    assert parse_trace_id(text) is None


@pytest.mark.parametrize(
    "text", ["", "0" * 16, "0123456789abcde", "0123456789abcdef0", "0123456789abcdeg", TRACE, None]
)
def test_anything_else_is_no_span_id(text: object):
    """A span id is 16 hex and not zero."""
    assert parse_span_id(text) is None


@given(st.text())
def test_no_text_makes_parsing_raise(text: str):
    """Every text is an id in canonical form, or is none."""
    for found in (parse_trace_id(text), parse_span_id(text)):
        assert found is None or re.fullmatch("[0-9a-f]{32}|[0-9a-f]{16}", found)


@given(st.uuids())
def test_every_form_of_a_uuid_is_the_same_trace(value: uuid.UUID):
    """Dashed or not, upper or lower case, the id is one."""
    if value.int:
        assert {value.hex} == {parse_trace_id(form) for form in (str(value), str(value).upper(), value.hex)}


def test_context_given_by_hand_is_made_canonical():
    """``set_trace_context`` takes what a header may hold."""
    token = clew.set_trace_context("01234567-89AB-CDEF-0123-456789ABCDEF", "00000000000000AB", "00000000000000CD")
    assert (TRACE, "00000000000000ab", "00000000000000cd", True) == clew.get_trace_context()
    clew.reset_trace_context(token)
    assert clew.get_trace_context() is None


@pytest.mark.parametrize("bad", ["", "zz", "0" * 32, "\0" * 32, None, 12])
def test_bad_context_given_by_hand_begins_a_new_trace(bad: object):
    """An invalid trace id is replaced by a fresh one, without a parent, and nothing is raised."""
    clew.set_trace_context(bad, "00000000000000ab", "00000000000000cd")
    context = clew.get_trace_context()
    assert context is not None
    assert 4 == uuid.UUID(context.trace_id).version
    assert context.parent_id is None


def test_bad_span_id_given_by_hand_is_replaced():
    """The trace goes on under a fresh span id."""
    clew.set_trace_context(TRACE, "nonsense", "also nonsense")
    context = clew.get_trace_context()
    assert context is not None
    assert TRACE == context.trace_id
    assert re.fullmatch("[0-9a-f]{16}", context.span_id)
    assert context.parent_id is None
