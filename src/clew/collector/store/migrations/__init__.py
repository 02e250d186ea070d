"""What an older version left -> what this one works with; one file a version, applied once each, in order.

The table ``migrations`` holds the versions that were applied. A data directory without it is of version 1, whatever it
is: the first files tolerate that. A file may be applied again, for the version is noted after its last statement and
the process may be killed in between; so each begins by undoing what it may have begun.
"""

from __future__ import annotations

import logging
import re
from importlib import resources
from typing import TYPE_CHECKING, Final

from clew.collector.store.statements import KEY

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

_FILE: Final = re.compile(r"(\d{4})_(\w+)\.sql")
_log = logging.getLogger("clew.collector")


class NewerSchema(Exception):  # noqa: N818 - it says what the directory is
    """The tables are of a version that this program does not know."""


def known() -> dict[int, str]:
    """Return the name of each version's file, in order."""
    names = sorted(file.name for file in resources.files(__package__).iterdir())
    return {int(found[1]): name for name in names if (found := _FILE.fullmatch(name))}


def latest() -> int:
    """Return the version that this program works with."""
    return max(known())


def version_of(client: Client) -> int:
    """Return the version of what is there: 0 for nothing at all."""
    if client.query("EXISTS TABLE migrations").result_rows[0][0]:
        found = client.query("SELECT max(version) FROM migrations").result_rows[0][0]
        if found:
            return int(found)
    return int(bool(client.query("EXISTS TABLE spans").result_rows[0][0]))


def refuse_newer(version: int) -> None:
    """Raise :class:`NewerSchema` for what this program would damage."""
    if version > latest():
        raise NewerSchema(
            f"it was written by a newer clew (schema {version}, this one knows up to {latest()}). "
            "Install that version, or choose another place with --data-dir or --store."
        )


def pending(version: int) -> list[int]:
    """Return the versions that are still to be applied to what is of this version."""
    return [number for number in known() if number > version]


def apply(client: Client, version: int) -> None:
    """Apply what is missing, and note it. The tables of today are there. What is empty has nothing to migrate."""
    for number in pending(version):
        name = known()[number]
        if version:
            _log.warning("store: migrating to schema %d (%s)", number, name)
            text = (resources.files(__package__) / name).read_text(encoding="utf-8").replace("$KEY", KEY)
            for statement in text.split(";\n"):
                if statement.strip():
                    client.command(statement)
        note = "INSERT INTO migrations (version, name) SELECT {number:UInt32}, {name:String}"
        client.command(note, parameters={"number": number, "name": name})
