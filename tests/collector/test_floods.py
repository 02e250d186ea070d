"""The same line a thousand times."""

from __future__ import annotations

import logging

from clew.collector.floods import EVERY_S, FEW, Floods


def _record(created: float, template: str = "%s failed", error: type[Exception] | None = None) -> logging.LogRecord:
    info = (error, error(), None) if error else None
    record = logging.LogRecord("clew", logging.ERROR, "x.py", 1, template, (created,), info)
    record.created = created
    return record


def test_few_of_a_kind_pass_and_the_next_says_how_many_did_not() -> None:
    """Whatever their arguments."""
    floods = Floods()
    assert FEW == sum(floods.filter(_record(1 + n / 1_000)) for n in range(1_000))
    later = _record(1 + EVERY_S)
    assert floods.filter(later)
    assert f"{1 + EVERY_S} failed ({1_000 - FEW} more like this)" == later.getMessage()
    after = _record(2 + EVERY_S)
    assert floods.filter(after)
    assert f"{2 + EVERY_S} failed" == after.getMessage()


def test_other_kinds_pass_meanwhile() -> None:
    """Another template, another exception."""
    floods = Floods()
    for _ in range(100):
        floods.filter(_record(1, error=ValueError))
    assert not floods.filter(_record(1, error=ValueError))
    assert floods.filter(_record(1, error=KeyError))
    assert floods.filter(_record(1, "%s ended"))


def test_memory_is_bounded() -> None:
    """Templates that are made up each time are many kinds."""
    floods = Floods()
    assert all(floods.filter(_record(1, f"{n} %s")) for n in range(5_000))
    assert len(floods._seen) <= 1_000
