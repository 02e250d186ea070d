"""The application's own line that called a library: what is own, and what is no caller."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import pytest

from clew.integrations import _caller

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = "tests/integrations/test_caller.py"
LIBRARY = """
def locate(sql, depth):
    return location(sql) if not depth else locate(sql, depth - 1)
def call(function):
    return function()
"""


@pytest.fixture(autouse=True)
def _afresh(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """A file is shown from the working directory on when it is first met."""
    monkeypatch.chdir(request.config.rootpath)
    monkeypatch.setattr(_caller, "_places", {})
    monkeypatch.setattr(_caller, "_ways", {})


def library(file: str = "/v/lib/site-packages/orm/session.py") -> dict[str, Any]:
    """Return the functions of a module as if it lay there."""
    names: dict[str, Any] = {"location": _caller.location}
    exec(compile(LIBRARY, file, "exec"), names)
    return names


def line() -> int:
    return sys._getframe(1).f_lineno


@pytest.mark.parametrize("file", ["/v/lib/site-packages/x.py", "/usr/lib/python3/dist-packages/x.py", "<string>"])
@pytest.mark.parametrize("depth", [0, 20])
def test_innermost_own_line_is_told(file: str, depth: int) -> None:
    """Installed packages and generated code are passed over, the standard library too, each time anew."""
    locate = library(file)["locate"]
    found = [locate("SELECT 1", depth) for _ in range(3)]
    assert [f"{HERE}:{line() - 1}"] * 3 == found


def test_same_statement_from_elsewhere_has_another_line() -> None:
    """The way that is remembered is not believed where the stack has changed."""
    names = library()

    def first() -> tuple[str, int]:
        return names["locate"]("SELECT 1", 5), line()

    def second() -> tuple[str, int]:
        return names["locate"]("SELECT 1", 5), line()

    def deeper() -> tuple[str, int]:
        return names["locate"]("SELECT 1", 9), line()

    calls: list[Callable[[], tuple[str, int]]] = [first, second, first, deeper, first, deeper]
    for call in calls:
        place, at = names["call"](call)
        assert f"{HERE}:{at}" == place
        place, at = call()
        assert f"{HERE}:{at}" == place


async def test_what_started_the_loop_has_not_called() -> None:
    """A task of a library without own code in it has no caller; one with own code has."""
    names = library()

    async def own() -> tuple[str, int]:
        return names["locate"]("SELECT 2", 3), line()

    place, at = await asyncio.create_task(own())
    assert f"{HERE}:{at}" == place
    bare = dict(names)
    exec(compile("async def task():\n    return locate('SELECT 3', 3)\n", "/v/site-packages/pool.py", "exec"), bare)
    assert "" == await asyncio.create_task(bare["task"]())


def test_code_that_is_ever_new_takes_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files and statements are forgotten when they are too many, and places are right all the same."""
    monkeypatch.setattr(_caller, "_MAX_FILES", 8)
    monkeypatch.setattr(_caller, "_MAX_WAYS", 8)
    for number in range(50):
        place = library(f"/v/site-packages/{number}.py")["locate"](f"SELECT {number}", 3)
        assert f"{HERE}:{line() - 1}" == place
    assert (True, True) == (len(_caller._places) <= 8, len(_caller._ways) <= 8)
