"""The tag ``error.stack``: what it shows, what it costs, and that nothing of it stays."""

from __future__ import annotations

import contextlib
import gc
import weakref
from typing import TYPE_CHECKING

import pytest

import clew

if TYPE_CHECKING:
    from collections.abc import Iterator

    from client.recording import RecordingSender


def stack(sender: RecordingSender, name: str) -> str:
    """Without file names and source lines."""
    text: str = sender.span(name)["tags"]["error.stack"]
    return "\n".join(line.rpartition(", ")[2] if line.startswith("  File") else line for line in text.splitlines())


def test_stack_has_no_frames_of_clew(sender: RecordingSender):
    """What a wrapped function raises is shown as if nothing were around it."""

    @clew.traced("inner")
    def inner() -> None:
        raise ValueError("no")

    @clew.traced("outer")
    def outer() -> None:
        inner()

    def generate() -> Iterator[int]:
        outer()
        yield 1

    with pytest.raises(ValueError, match="no"):
        next(clew.traced("generator")(generate)())
    clew.flush()
    header, raised = "Traceback (most recent call last):\n", 'in inner\n    raise ValueError("no")\nValueError: no'
    assert header + raised == stack(sender, "inner")
    assert f"{header}in outer\n    inner()\n{raised}" == stack(sender, "outer")
    assert f"{header}in generate\n    outer()\nin outer\n    inner()\n{raised}" == stack(sender, "generator")


def test_stack_shows_what_led_to_the_exception(sender: RecordingSender):
    """Causes, contexts that were not suppressed, notes, and an exception that is its own cause."""

    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    def fail(name: str, error: BaseException, cause: BaseException | None) -> None:
        with contextlib.suppress(type(error)), clew.start_span(name):
            try:
                raise KeyError("first")
            except KeyError:
                if cause is None:
                    raise error from None
                raise error from cause

    noted = ValueError("noted")
    noted.__notes__ = ["a note"]  # type: ignore[attr-defined]
    circular = ValueError("circular")
    for number, (error, cause, expected) in enumerate(
        (
            (ValueError("second"), None, ["ValueError: second"]),
            (noted, None, ["ValueError: noted", "a note"]),
            (ValueError("second"), OSError("cause"), ["OSError: cause", "ValueError: second"]),
            (circular, circular, ["ValueError: circular"]),
            (Broken(), None, [f"{__name__}.{Broken.__qualname__}: <exception str() failed>"]),
        )
    ):
        fail(str(number), error, cause)
        clew.flush()
        lines = [
            line for line in stack(sender, str(number)).splitlines() if line[:1] not in (" ", "") and "in fail" != line
        ]
        shown = [line for line in lines if not line.startswith(("Traceback", "The above"))]
        assert expected == shown


def test_exception_that_leaves_many_spans_is_rendered_quickly(sender: RecordingSender, monkeypatch: pytest.MonkeyPatch):
    """Three hundred deep: each source line is looked up for the spans whose stack still grows, and no more."""
    import linecache

    looked_up = []
    getline = linecache.getline
    monkeypatch.setattr(linecache, "getline", lambda *place: looked_up.append(place) or getline(*place))

    @clew.traced
    def deep(left: int) -> None:
        if left:
            deep(left - 1)
        raise ValueError("deep down")

    with pytest.raises(ValueError, match="deep down"):
        deep(200)
    clew.flush()
    assert (
        201 == len(sender.spans) == sum("ValueError: deep down" in span["tags"]["error.stack"] for span in sender.spans)
    )
    assert len(looked_up) < 51 * 50


def test_exception_is_neither_kept_nor_marked(sender: RecordingSender):
    """Nothing of clew hangs on it, and it lives no longer than it would."""

    class Payload:
        pass

    attributes: dict[str, object] = {}

    def fail() -> weakref.ref[Payload]:
        payload = Payload()
        found = weakref.ref(payload)
        try:
            with clew.start_span("a"), clew.start_span("b"):
                raise ValueError(payload)
        except ValueError as error:
            attributes.update(vars(error))
        return found

    payload = fail()
    clew.flush()
    gc.collect()
    assert (None, {}) == (payload(), attributes)
