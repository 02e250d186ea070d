"""Wrappers around foreign functions: for whoever calls, subclasses or patches them, they are what they wrap."""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
import pickle
import sys
import types
from typing import TYPE_CHECKING, Any

import pytest

from clew._patch import patch, unpatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def noting(original: Any) -> Any:
    """A wrapper that says that it was there."""

    def note(*args: Any, **kwargs: Any) -> Any:
        return ("ours", original(*args, **kwargs))

    return note


@pytest.fixture
def library() -> Iterator[types.ModuleType]:
    """A library of its own for each test, importable."""
    module = types.ModuleType("clew_patched_library")
    source = """
import functools

class Callable:
    def __call__(self, number): return number

class Base:
    def run(self, number=1, *, word="w"):
        "Run it."
        return (type(self).__name__, number, word)
    @classmethod
    def make(cls): return cls.__name__
    @staticmethod
    def plain(x): return x
    async def wait(self): return "waited"
    size = property(lambda self: 3)
    called = Callable()

class Child(Base): pass

def function(x): return x
"""
    exec(source, module.__dict__)
    sys.modules[module.__name__] = module
    yield module
    del sys.modules[module.__name__]


def test_wrapper_looks_like_the_original(library: types.ModuleType) -> None:
    """Name, text, signature; a method of an instance and of the class; by place and by keyword."""
    signature = inspect.signature(library.Base.run)
    patch(library.Base, "run", noting)
    assert ("run", "Base.run", "Run it.") == (
        library.Base.run.__name__,
        library.Base.run.__qualname__,
        library.Base.run.__doc__,
    )
    assert signature == inspect.signature(library.Base.run)
    assert (
        ("ours", ("Base", 2, "x"))
        == library.Base().run(number=2, word="x")
        == library.Base.run(library.Base(), 2, word="x")
    )


def test_kinds_of_methods_stay_what_they_are(library: types.ModuleType) -> None:
    """A class method, a static method, a coroutine function, a callable that is no function."""
    for name in ("make", "plain", "wait", "called"):
        patch(library.Base, name, noting)
    assert ("ours", "Child") == library.Child.make()
    assert ("ours", 5) == library.Base.plain(5) == library.Base().plain(5)
    assert isinstance(vars(library.Base)["plain"], staticmethod)
    assert asyncio.iscoroutinefunction(library.Base.wait)
    assert ("ours", 7) == library.Base().called(7)
    for name in ("make", "plain", "wait", "called"):
        unpatch(library.Base, name)
    assert ("Child", 5, 7) == (library.Child.make(), library.Base.plain(5), library.Base().called(7))
    assert "waited" == asyncio.run(library.Base().wait())


@pytest.mark.filterwarnings("ignore:functools.partial will be a method descriptor:FutureWarning")  # 3.13, of itself
def test_partial_is_called_as_python_calls_it(library: types.ModuleType) -> None:
    """Without the object before 3.14, with it since."""
    library.Base.part = functools.partial(lambda *args: len(args))
    before = library.Base().part(1)
    patch(library.Base, "part", noting)
    assert ("ours", before) == library.Base().part(1)


def test_what_is_no_function_is_refused(library: types.ModuleType) -> None:
    """A property, a missing name, a class in C: an error for whoever hooks, and nothing is changed."""
    before = dict(vars(library.Base))
    with pytest.raises(TypeError, match="size is a property"):
        patch(library.Base, "size", noting)
    with pytest.raises(AttributeError):
        patch(library.Base, "absent", noting)
    with pytest.raises(TypeError):
        patch(dict, "get", noting)
    with pytest.raises(TypeError, match="closes over"):
        patch(library.Base, "run", lambda original: functools.wraps(original)(_closing_over(original, 7)))
    assert before == dict(vars(library.Base))


def _closing_over(original: Any, more: int) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        return original(*args, **kwargs), more

    return call


def test_twice_in_is_once_and_once_out_is_the_very_original(library: types.ModuleType) -> None:
    """Idempotent both ways, as often as one likes."""
    original = library.Base.run
    for _ in range(2):
        patch(library.Base, "run", noting)
        patch(library.Base, "run", noting)
        assert ("ours", ("Base", 1, "w")) == library.Base().run()
        unpatch(library.Base, "run")
        unpatch(library.Base, "run")
        assert library.Base.run is original


def test_inherited_method_is_looked_up_at_each_call(library: types.ModuleType) -> None:
    """What is patched on the base later is called too; nothing of ours is left on the class."""
    patch(library.Child, "run", noting)
    library.Base.run = lambda self: "new"
    assert ("ours", "new") == library.Child().run()
    unpatch(library.Child, "run")
    assert "run" not in vars(library.Child)
    assert "new" == library.Child().run()


@pytest.mark.parametrize("taken", ["inherited", "without self"])
def test_keywords_may_have_any_name(library: types.ModuleType, taken: str) -> None:
    """Also `self`, where the original takes its own by position only."""

    def call(*args: Any, **words: Any) -> Any:
        return words

    library.Base.call = call if taken == "inherited" else functools.partial(call)
    owner = library.Child if taken == "inherited" else library.Base
    patch(owner, "call", noting)
    assert ("ours", {"self": 1, "original": 2}) == owner().call(self=1, original=2)
    unpatch(owner, "call")
    assert {"self": 1, "original": 2} == owner().call(self=1, original=2)


def test_subclass_that_overrides_calls_ours_once(library: types.ModuleType) -> None:
    """By super(), made before or after."""

    class Own(library.Base):  # type: ignore[name-defined, misc]
        def run(self) -> Any:
            return ("own", super().run())

    patch(library.Base, "run", noting)
    assert ("own", ("ours", ("Own", 1, "w"))) == Own().run()


def foreign(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        return ("foreign", original(*args, **kwargs))

    return call


def unmarked(original: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args, **kwargs: ("foreign", original(*args, **kwargs))


class Callable_:
    def __init__(self, original: Callable[..., Any]) -> None:
        self.__wrapped__ = original

    def __get__(self, instance: Any, owner: Any) -> Any:
        return functools.partial(self, instance)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return ("foreign", self.__wrapped__(*args, **kwargs))


@pytest.mark.parametrize("other", [foreign, unmarked, Callable_])
def test_foreign_patch_above_stays_and_ours_goes(library: types.ModuleType, other: Any) -> None:
    """Taken out beneath a foreign patch ours does nothing; put in again it works in its old place, once."""
    plain = ("Base", 1, "w")
    patch(library.Base, "run", noting)
    theirs = library.Base.run = other(library.Base.run)
    patch(library.Base, "run", noting)
    assert ("foreign", ("ours", plain)) == library.Base().run()
    unpatch(library.Base, "run")
    assert vars(library.Base)["run"] is theirs
    assert ("foreign", plain) == library.Base().run()
    assert ("foreign", ("Base", 4, "x")) == library.Base().run(4, word="x")
    patch(library.Base, "run", noting)
    assert ("foreign", ("ours", plain)) == library.Base().run()
    unpatch(library.Base, "run")


def test_foreign_patch_taken_out_by_its_owner_leaves_the_original(library: types.ModuleType) -> None:
    """They put back what they found, which is ours, switched off."""
    patch(library.Base, "run", noting)
    ours = library.Base.run
    library.Base.run = foreign(ours)
    unpatch(library.Base, "run")
    library.Base.run = ours
    assert ("Base", 1, "w") == library.Base().run()


def test_foreign_patch_below_is_called_and_found_again(library: types.ModuleType) -> None:
    """What was there before us is what we call, and what stays."""
    theirs = library.Base.run = foreign(library.Base.run)
    patch(library.Base, "run", noting)
    assert ("ours", ("foreign", ("Base", 1, "w"))) == library.Base().run()
    unpatch(library.Base, "run")
    assert library.Base.run is theirs


def test_ours_thrown_away_by_somebody_comes_again(library: types.ModuleType) -> None:
    """A library that assigns the method anew is hooked anew, and left without a trace of us."""
    patch(library.Base, "run", noting)
    library.Base.run = lambda self: "new"
    patch(library.Base, "run", noting)
    assert ("ours", "new") == library.Base().run()
    unpatch(library.Base, "run")
    assert "new" == library.Base().run()


def test_alias_of_ours_is_the_original_after_uninstall(library: types.ModuleType) -> None:
    """A method that somebody kept does not go on tracing."""
    patch(library.Base, "run", noting)
    bound, kept = library.Base().run, library.Base.run
    unpatch(library.Base, "run")
    assert ("Base", 1, "w") == bound() == kept(library.Base())


def test_async_wrapper_is_switched_off_as_a_coroutine_function(library: types.ModuleType) -> None:
    """A foreign patch that looks at what it wraps sees the same as before."""

    def around(original: Any) -> Any:
        async def wait(self: Any, timeout: float = 1.0) -> Any:
            return ("ours", await original(self))

        return wait

    patch(library.Base, "wait", around)
    kept = library.Base.wait
    assert ("ours", "waited") == asyncio.run(kept(library.Base()))
    unpatch(library.Base, "wait")
    assert inspect.iscoroutinefunction(kept)
    assert "waited" == asyncio.run(kept(library.Base()))


def test_functions_and_methods_are_found_by_pickle_and_copy(library: types.ModuleType) -> None:
    """By their names, patched or not."""
    library.function.__module__ = "_in_c"
    patch(library, "function", noting)
    patch(library.Base, "run", noting)
    library.Base.__module__ = library.__name__
    assert pickle.loads(pickle.dumps(library.function)) is library.function
    assert copy.deepcopy(library.Base.run) is library.Base.run
    assert ("ours", ("Base", 1, "w")) == pickle.loads(pickle.dumps(library.Base().run))()


def test_logging_calls_what_was_patched_before_and_leaves_what_was_patched_after() -> None:
    """Another tool's wrapper of Logger.handle, below ours and above it."""
    import logging

    from clew import logging as clew_logging

    calls: list[str] = []
    plain = logging.Logger.handle

    def around(name: str, original: Any) -> Any:
        @functools.wraps(original)
        def handle(self: logging.Logger, record: logging.LogRecord) -> None:
            calls.append(f"{name} {hasattr(record, 'trace_id')}")
            original(self, record)

        return handle

    clew_logging.uninstall()
    try:
        logging.Logger.handle = around("below", plain)  # type: ignore[method-assign]
        clew_logging.follow()
        above = logging.Logger.handle = around("above", logging.Logger.handle)  # type: ignore[method-assign]
        logging.getLogger("clew.test.patch").warning("once")
        clew_logging.uninstall()
        assert logging.Logger.handle is above
        logging.getLogger("clew.test.patch").warning("twice")
    finally:
        logging.Logger.handle = plain  # type: ignore[method-assign]
    assert ["above False", "below True", "above False", "below False"] == calls
