"""Hooks into libraries."""

from __future__ import annotations


def instrument(*names: str) -> list[str]:
    """Patch what is installed."""
    return []


def uninstrument(*names: str) -> None:
    """Undo."""
