"""``@clew.traced``: a span around every call of a function, coroutine, generator or async generator."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

from clew._context import Node, current
from clew._span import Span
from clew._tracer import start_span

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator

F = TypeVar("F", bound="Callable[..., Any]")


@overload
def traced(function: F) -> F: ...
@overload
def traced(
    function: str | None = None, *, kind: str | None = None, tags: dict[str, object] | None = None
) -> Callable[[F], F]: ...
def traced(
    function: F | str | None = None, *, kind: str | None = None, tags: dict[str, object] | None = None
) -> F | Callable[[F], F]:
    """Wrap a callable in a span: ``@traced``, ``@traced("name")``, ``@traced(kind="CLIENT", tags={...})``.

    The name is by default the function's qualified name. The signature, the result and every exception stay as they
    are. A generator's span lasts from its first step to its end, and is active only while the generator's own code
    runs: between steps its consumer is in its own context.
    """
    if function is None or isinstance(function, str):
        return lambda wrapped: _wrap(wrapped, function, kind, tags)
    return _wrap(function, None, kind, tags)


def _wrap(function: F, name: str | None, kind: str | None, tags: dict[str, object] | None) -> F:
    span_name = name or getattr(function, "__qualname__", None) or type(function).__qualname__
    if isinstance(function, (staticmethod, classmethod)):  # @traced above @staticmethod
        return cast("F", type(function)(_wrap(function.__func__, name, kind, tags)))
    if not callable(function):
        raise TypeError(f"traced: {function!r} cannot be called; of @property and @traced, @property goes on top")
    return cast("F", _way_around(function)(function, span_name, kind, tags))


def _way_around(function: Callable[..., Any]) -> Callable[..., Any]:
    import inspect  # 10 ms that `import clew` should not cost those who decorate nothing

    for of_this_sort, around in (
        (inspect.iscoroutinefunction, _around_coroutine),
        (inspect.isasyncgenfunction, _around_async_generator),
        (inspect.isgeneratorfunction, _around_generator),
    ):
        if of_this_sort(function) or of_this_sort(type(function).__call__):  # an object may be called by "await", too
            return around
    return _around_function


def _around_function(function: Any, name: str, kind: str | None, tags: dict[str, object] | None) -> Any:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        with start_span(name, kind, tags):
            return function(*args, **kwargs)

    return call


def _around_coroutine(function: Any, name: str, kind: str | None, tags: dict[str, object] | None) -> Any:
    @functools.wraps(function)
    async def call(*args: Any, **kwargs: Any) -> Any:
        with start_span(name, kind, tags):
            return await function(*args, **kwargs)

    return call


class _Steps:
    """Swaps the generator's context in for each of its steps and the consumer's back between them."""

    def __init__(self, name: str, kind: str | None, tags: dict[str, object] | None) -> None:
        self._outside = current.get()
        self.span: Span = start_span(name, kind, tags)
        self._inside: Node | None = self.span
        current.set(self._outside)

    def __enter__(self) -> None:
        self._outside = current.get()
        current.set(self._inside)

    def __exit__(self, *_: object) -> None:
        self._inside = current.get()
        current.set(self._outside)

    def finish(self, error: BaseException | None) -> None:
        with self:
            self.span.__exit__(None if error is None else type(error), error, None)


def _around_generator(function: Any, name: str, kind: str | None, tags: dict[str, object] | None) -> Any:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        generator = function(*args, **kwargs)
        steps = _Steps(name, kind, tags)
        failure: BaseException | None = None
        try:
            resume, value = generator.send, None
            while True:
                try:
                    with steps:
                        item = resume(value)
                except StopIteration as end:
                    return end.value
                try:
                    value = yield item
                    resume = generator.send
                except BaseException as thrown:  # noqa: BLE001 - passed into the generator, which decides; exits too
                    resume, value = generator.throw, thrown
        except BaseException as error:
            failure = error
            raise
        finally:
            steps.finish(failure)
            failure = value = None  # an exception's traceback holds this frame: let no cycle keep both alive

    return call


def _around_async_generator(function: Any, name: str, kind: str | None, tags: dict[str, object] | None) -> Any:
    @functools.wraps(function)
    async def call(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        generator = function(*args, **kwargs)
        steps = _Steps(name, kind, tags)
        failure: BaseException | None = None
        try:
            resume, value = generator.asend, None
            while True:
                try:
                    with steps:
                        item = await resume(value)
                except StopAsyncIteration:
                    return
                try:
                    value = yield item
                    resume = generator.asend
                except BaseException as thrown:  # noqa: BLE001 - passed into the generator, which decides; exits too
                    resume, value = generator.athrow, thrown
        except BaseException as error:
            failure = error
            raise
        finally:
            steps.finish(failure)
            failure = value = None  # an exception's traceback holds this frame: let no cycle keep both alive

    return call
