"""The store as one question sees it: every statement runs within the question's patience."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from clew.collector.patience import Patience
    from clew.collector.store import SpanStore


class Reader:
    """Selects for one question. ``strict`` false: traces are what agrees in the lower 64 bits of its id.

    ``far`` brings the table ``far_traces`` up to date and says whether it may be asked instead of ``trace_index``.

    Raises what the store raises, :class:`~clew.collector.patience.GaveUp` and
    :class:`~clew.collector.patience.TooCostly`.
    """

    def __init__(
        self, store: SpanStore, patience: Patience, *, strict: bool, far: Callable[[Reader], bool] | None = None
    ) -> None:
        self.patience = patience
        self.strict = strict
        self._far = far
        self._store = store

    def select(
        self, statement: str, parameters: Mapping[str, Any], parts: Mapping[str, str] | None = None
    ) -> list[dict[str, Any]]:
        """Return the rows of a statement; ``parts``: compiled conditions that stand in it."""
        return self._store.select(statement, {**parameters, **self.modes()}, self.patience, parts)

    def modes(self) -> dict[str, bool]:
        """Return what chooses between the forms of a statement."""
        return {"strict": self.strict, "loose": not self.strict}

    def far_is_derived(self) -> bool:
        """Say whether ``far_traces`` may be asked; see :mod:`clew.collector.derive.far`."""
        return bool(self._far and self._far(self))

    def key(self, trace_id: str) -> str:
        """Return what makes a trace: its id, or the lower half of it."""
        return trace_id if self.strict else trace_id[-16:]
