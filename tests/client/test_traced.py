"""``@clew.traced``: every kind of callable keeps its signature, result and exceptions, and gets one span a call."""

from __future__ import annotations

import asyncio
import functools
import inspect
import sys
import traceback
from typing import TYPE_CHECKING, Any

import pytest

import clew

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator, Iterator

    from client.recording import RecordingSender


def names(sender: RecordingSender) -> list[str]:
    clew.flush()
    return [span["name"] for span in sender.spans]


def test_function(sender: RecordingSender):
    """One span around the call, named by the qualified name."""

    @clew.traced
    def work(a: int, *, b: int = 2) -> int:
        """Its own words."""
        assert clew.get_trace_context() is not None
        return a + b

    assert 5 == work(3)
    assert (["test_function.<locals>.work"], "work", "Its own words.", "(a: 'int', *, b: 'int' = 2) -> 'int'") == (
        names(sender),
        work.__name__,
        work.__doc__,
        str(inspect.signature(work)),
    )


def test_every_form_of_the_decorator(sender: RecordingSender):
    """Bare, called, with a name, with kind and tags."""

    def work() -> None: ...

    clew.traced(work)()
    clew.traced()(work)()
    clew.traced("named")(work)()
    clew.traced("tagged", kind="CLIENT", tags={"n": 1})(work)()
    own = "test_every_form_of_the_decorator.<locals>.work"
    assert [own, own, "named", "tagged"] == names(sender)
    assert ("CLIENT", {"n": "1"}) == (sender.span("tagged")["kind"], sender.span("tagged")["tags"])


async def test_coroutine_function(sender: RecordingSender):
    """The span lasts until the coroutine ends, and the wrapper still is a coroutine function."""

    @clew.traced("work")
    async def work(a: int) -> int:
        await asyncio.sleep(0)
        with clew.start_span("inner"):
            await asyncio.sleep(0)
        return a

    assert inspect.iscoroutinefunction(work)
    assert 7 == await work(7)
    assert ["inner", "work"] == names(sender)
    assert sender.span("work")["id"] == sender.span("inner")["parentId"]


def test_methods_of_every_kind(sender: RecordingSender):
    """Instance, class and static methods, the decorator above or below."""

    class Shop:
        @clew.traced("method")
        def method(self) -> Shop:
            return self

        @clew.traced("above class")
        @classmethod
        def above_class(cls) -> type:
            return cls

        @classmethod
        @clew.traced("below class")
        def below_class(cls) -> type:
            return cls

        @clew.traced("above static")
        @staticmethod
        def above_static(value: int) -> int:
            return value

        @staticmethod
        @clew.traced("below static")
        def below_static(value: int) -> int:
            return value

    shop = Shop()
    assert shop is shop.method()
    assert [Shop, Shop, Shop] == [Shop.above_class(), shop.above_class(), Shop.below_class()]
    assert [1, 2, 3] == [Shop.above_static(1), shop.above_static(2), shop.below_static(3)]
    assert [
        "method",
        "above class",
        "above class",
        "below class",
        "above static",
        "above static",
        "below static",
    ] == names(sender)


@pytest.mark.parametrize("bad", [7, property(lambda self: None), object()])
def test_what_cannot_be_called_is_refused_at_once(bad: Any):
    """A mistake at import is better than one at the first call."""
    with pytest.raises(TypeError, match="traced"):
        clew.traced(bad)


async def test_partial_and_callable_objects(sender: RecordingSender):
    """Anything that can be called can be traced, also where its call is a coroutine."""

    class Adder:
        def __call__(self, a: int, b: int) -> int:
            return a + b

    class AsyncAdder:
        async def __call__(self, a: int, b: int) -> int:
            await asyncio.sleep(0)
            return a + b

    async def add(a: int, b: int) -> int:
        await asyncio.sleep(0)
        return a + b

    assert 3 == clew.traced(Adder())(1, 2)
    assert 3 == clew.traced(functools.partial(Adder(), 1))(2)
    assert 3 == await clew.traced("async partial")(functools.partial(add, 1))(2)
    slow = clew.traced("async object")(AsyncAdder())
    assert inspect.iscoroutinefunction(slow)
    assert 3 == await slow(1, 2)
    assert ["test_partial_and_callable_objects.<locals>.Adder", "partial", "async partial", "async object"] == names(
        sender
    )


def test_builtin(sender: RecordingSender):
    """A function written in C has no signature of its own to keep, and works."""
    assert 3 == clew.traced(len)([1, 2, 3])
    assert ["len"] == names(sender)


def test_bare_decorator_above_classmethod(sender: RecordingSender):
    """Without parentheses, too."""

    class Shop:
        @clew.traced
        @classmethod
        def open(cls) -> type:
            return cls

    assert Shop is Shop.open()
    assert ["test_bare_decorator_above_classmethod.<locals>.Shop.open"] == names(sender)


def test_recursion(sender: RecordingSender):
    """Each call is a child of the one that made it."""

    @clew.traced("down")
    def down(n: int) -> int:
        return n and down(n - 1)

    assert 0 == down(5)
    clew.flush()
    by_id = {span["id"]: span for span in sender.spans}
    depth, span = 0, sender.spans[0]
    while "parentId" in span:
        depth, span = depth + 1, by_id[span["parentId"]]
    assert (6, 5) == (len(by_id), depth)


class Broken(Exception):
    """An application's own."""


def test_exception_passes_unchanged(sender: RecordingSender):
    """The same object with its frames, cause and context; the span tells of it."""
    original = Broken("no stock")

    @clew.traced("work")
    def work() -> None:
        try:
            raise KeyError("inner")
        except KeyError as inner:
            raise original from inner

    with pytest.raises(Broken) as caught:
        work()
    assert original is caught.value
    assert isinstance(caught.value.__cause__, KeyError)
    assert "work" == traceback.extract_tb(caught.value.__traceback__)[-1].name
    clew.flush()
    tags = sender.span("work")["tags"]
    assert ("no stock", f"{__name__}.Broken") == (tags["error"], tags["error.type"])
    assert "KeyError: 'inner'" in tags["error.stack"]
    assert tags["error.stack"].rstrip().endswith("Broken: no stock")


async def test_exception_of_a_coroutine_passes_unchanged(sender: RecordingSender):
    """The same object through an await."""
    original = Broken("x")

    @clew.traced("work")
    async def work() -> None:
        raise original

    with pytest.raises(Broken) as caught:
        await work()
    assert original is caught.value
    clew.flush()
    assert "x" == sender.span("work")["tags"]["error"]


# Generators


def test_generator_yields_takes_and_returns(sender: RecordingSender):
    """What goes in by ``send`` and comes out by ``return`` is the generator's own."""

    @clew.traced("echo")
    def echo() -> Generator[int, int, str]:
        got = yield 1
        got = yield got + 1
        return f"got {got}"

    assert inspect.isgeneratorfunction(echo)
    generator = echo()
    assert (1, 11) == (next(generator), generator.send(10))
    with pytest.raises(StopIteration) as end:
        generator.send(20)
    assert "got 20" == end.value.value
    assert ["echo"] == names(sender)
    assert "tags" not in sender.span("echo")


def test_generator_in_yield_from(sender: RecordingSender):
    """``yield from`` gets the returned value."""

    @clew.traced("inner")
    def inner() -> Generator[int, None, str]:
        yield from range(3)
        return "end"

    def outer() -> Generator[int, None, str]:
        return (yield from inner())

    found = []

    def run() -> Generator[int, None, None]:
        found.append((yield from outer()))

    assert [0, 1, 2] == list(run())
    assert ["end"] == found


def test_generator_handles_what_is_thrown_in(sender: RecordingSender):
    """An exception thrown in may be answered by another value; unanswered it comes out as it is."""
    original = Broken("second")

    @clew.traced("work")
    def work() -> Iterator[str]:
        try:
            yield "first"
        except Broken:
            yield "answered"
        yield "last"

    generator = work()
    next(generator)
    assert "answered" == generator.throw(Broken("first"))
    with pytest.raises(Broken) as caught:
        generator.throw(original)
    assert original is caught.value
    clew.flush()
    assert "second" == sender.span("work")["tags"]["error"]


def test_generator_closed_early_is_no_error(sender: RecordingSender):
    """``close`` runs the generator's own clean-up inside its span."""
    cleaned: list[str] = []

    @clew.traced("work")
    def work() -> Iterator[int]:
        try:
            yield 1
        finally:
            cleaned.append(clew.get_trace_context().span_id)

    generator = work()
    next(generator)
    generator.close()
    generator.close()
    clew.flush()
    assert [sender.span("work")["id"]] == cleaned
    assert "tags" not in sender.span("work")


def test_generator_that_refuses_to_close(sender: RecordingSender):
    """Python's own RuntimeError, as without the decorator."""

    @clew.traced("stubborn")
    def stubborn() -> Iterator[int]:
        try:
            yield 1
        except GeneratorExit:
            yield 2

    generator = stubborn()
    next(generator)
    with pytest.raises(RuntimeError, match="ignored GeneratorExit"):
        generator.close()


@pytest.mark.skipif(sys.version_info < (3, 13), reason="close() returns a value since 3.13")
def test_generator_close_returns_what_the_generator_returns(sender: RecordingSender):
    """Python 3.13's ``close`` hands on a return value."""

    @clew.traced
    def work() -> Generator[int, None, str]:
        try:
            yield 1
        except GeneratorExit:
            return "closed"
        return "ended"

    generator = work()
    next(generator)
    assert "closed" == generator.close()


def test_generator_error(sender: RecordingSender):
    """An exception of the generator's own ends the span with it."""

    @clew.traced("work")
    def work() -> Iterator[int]:
        yield 1
        raise Broken("later")

    with pytest.raises(Broken):
        list(work())
    clew.flush()
    assert "later" == sender.span("work")["tags"]["error"]


def test_generator_failure_leaves_no_cycle(sender: RecordingSender):
    """An exception that passed through is freed by its last reference, not by the garbage collector."""
    import gc
    import weakref

    @clew.traced("work")
    def work() -> Iterator[int]:
        yield 1
        raise Broken("later")

    gc.disable()
    try:
        try:
            list(work())
        except Broken as error:
            gone = weakref.ref(error)
        assert gone() is None
    finally:
        gc.enable()


def test_generator_never_started_makes_no_span(sender: RecordingSender):
    """A generator that nobody asked for a value did no work."""

    @clew.traced("idle")
    def idle() -> Iterator[int]:
        yield 1

    idle().close()
    assert [] == names(sender)


async def test_async_generator(sender: RecordingSender):
    """``asend``, ``athrow`` and the end go through."""

    @clew.traced("echo")
    async def echo() -> AsyncIterator[Any]:
        got = yield 1
        try:
            yield got + 1
        except Broken:
            yield "answered"

    assert inspect.isasyncgenfunction(echo)
    generator: Any = echo()
    assert 1 == await generator.__anext__()
    assert 11 == await generator.asend(10)
    assert "answered" == await generator.athrow(Broken())
    with pytest.raises(StopAsyncIteration):
        await generator.__anext__()
    assert ["echo"] == names(sender)


async def test_async_generator_is_in_its_span_only_while_it_runs(sender: RecordingSender):
    """Between steps the consumer is where it was; the clean-up is inside the span."""
    inside: list[str] = []

    @clew.traced("stream")
    async def stream() -> AsyncIterator[int]:
        try:
            for number in range(5):
                await asyncio.sleep(0)
                inside.append(clew.get_trace_context().span_id)
                yield number
        finally:
            await asyncio.sleep(0)
            inside.append(clew.get_trace_context().span_id)

    with clew.start_span("consumer") as consumer:
        generator = stream()
        async for number in generator:
            assert consumer.span_id == clew.get_trace_context().span_id
            if number == 2:
                break
        await generator.aclose()
        assert consumer.span_id == clew.get_trace_context().span_id
    clew.flush()
    assert [sender.span("stream")["id"]] * 4 == inside
    assert "tags" not in sender.span("stream")


async def test_async_generator_error_and_cancellation(sender: RecordingSender):
    """Failure and cancellation end the span with their names."""

    @clew.traced("fails")
    async def fails() -> AsyncIterator[int]:
        yield 1
        raise Broken("later")

    @clew.traced("hangs")
    async def hangs() -> AsyncIterator[int]:
        await asyncio.Event().wait()
        yield 1

    async def consume() -> None:
        async for _ in hangs():
            pass

    with pytest.raises(Broken):
        async for _ in fails():
            pass
    task = asyncio.create_task(consume())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    clew.flush()
    assert "later" == sender.span("fails")["tags"]["error"]
    assert "asyncio.exceptions.CancelledError" == sender.span("hangs")["tags"]["error.type"]
