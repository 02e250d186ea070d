"""The guide to searching: what it shows can be written."""

from __future__ import annotations

import re

import pytest

from clew.collector.search import parse
from documents import REPOSITORY

TEXT = (REPOSITORY / "docs/search.md").read_text(encoding="utf-8")
SHOWN = [
    searched for row in re.findall(r"^\| (`.*?) \| ", TEXT, re.M) for searched in re.findall(r"`([^`]+)`", row)
] + re.findall(r"^```text\n(service.*)\n```", TEXT, re.M)


@pytest.mark.parametrize("text", SHOWN)
def test_every_search_shown_is_understood(text: str) -> None:
    """All examples of the tables, and the first one."""
    assert parse(text)


def test_the_guide_shows_something() -> None:
    """The examples are found where they are looked for."""
    assert len(SHOWN) > 15
