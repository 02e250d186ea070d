"""Data directories of earlier versions, and damaged ones, on the real engine in processes of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from clew.collector.store import migrations

SCRIPT = Path(__file__).with_name("old_directory.py")
SCHEMAS = sorted(Path(__file__).with_name("schemas").iterdir())
WHOLE = {
    "version": migrations.latest(),
    "spans": 2,
    "line": 1,
    "services": ["orders", "web"],
    "calls": 60,
    "links": [["web", "orders", 30]],
    "damaged": [],
}


def _run(*arguments: object) -> tuple[int, str]:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode in (0, 9), done.stderr
    return done.returncode, done.stdout


def _look(directory: Path) -> dict[str, Any]:
    return dict(json.loads(_run("look", directory)[1]))


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda path: path.stem)
def test_directory_of_an_earlier_version_is_brought_to_todays(schema: Path, tmp_path: Path) -> None:
    """Its spans and lines are found as before, and what is derived is made of them, too."""
    _run("make", tmp_path / "store", schema)

    assert WHOLE == _look(tmp_path / "store")
    assert WHOLE == _look(tmp_path / "store"), "opened once more, nothing is done twice"


@pytest.mark.parametrize("commands", [1, 4, 7, 9])
def test_killed_migration_is_gone_on_with(commands: int, tmp_path: Path) -> None:
    """A kill -9 in the middle leaves what the next start completes."""
    _run("make", tmp_path / "store", SCHEMAS[0])
    assert 9 == _run("die", tmp_path / "store", commands)[0]

    assert WHOLE == _look(tmp_path / "store")


def test_directory_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    """With a sentence that says which versions, and what to do; nothing in it is changed."""
    _run("newer", tmp_path / "store")

    assert {
        "error": f"it was written by a newer clew (schema 999, this one knows up to {migrations.latest()}). "
        "Install that version, or choose another place with --data-dir or --store."
    } == _look(tmp_path / "store")


def test_damaged_parts_are_told_and_what_is_derived_is_made_again(tmp_path: Path) -> None:
    """Truncated parts: the index and the names come back, spans are named with what they held, logs are untouched."""
    _run("make", tmp_path / "store", SCHEMAS[0])
    _look(tmp_path / "store")
    for part in (tmp_path / "store" / "store").glob("*/*/[2a]*_*_*_*"):
        if (part / "primary.cidx").exists() and "key" in (part / "columns.txt").read_text():
            (part / "data.bin").write_bytes(b"")
    assert WHOLE == _look(tmp_path / "store")

    for part in (tmp_path / "store" / "store").glob("*/*/2*_*_*_*"):
        if "`span_id`" in (columns := (part / "columns.txt").read_text()) and "`kind`" in columns:
            (part / "data.bin").write_bytes(b"")
    found = _look(tmp_path / "store")
    assert (0, 1, ["orders", "web"]) == (found["spans"], found["line"], found["services"])
    assert [True] == ["of spans: 60 rows" in text for text in found["damaged"]]
