"""What ``clew store`` does with a data directory that no collector uses: look at it, migrate, check, copy.

Beside ``server``, above ``store``. Everything here opens the engine itself; the caller holds the directory's lock.
"""

from __future__ import annotations

import shutil
from contextlib import closing
from typing import TYPE_CHECKING, Any, NamedTuple

from clew.collector.store import StoreError, damage, migrations
from clew.collector.store.clickhouse import ClickHouseStore, connect, translated
from clew.collector.store.statements import read_statement

if TYPE_CHECKING:
    from pathlib import Path

    from clickhouse_connect.driver.client import Client

    from clew.collector.settings import Settings


class Table(NamedTuple):
    """One table: rows, bytes on disk with indexes, parts."""

    name: str
    rows: int
    bytes: int
    parts: int


class Info(NamedTuple):
    """What lies there. ``version`` is 0 for nothing at all; times of spans in microseconds, 0 if there are none."""

    version: int
    latest: int
    tables: list[Table]
    oldest_us: int
    newest_us: int
    damaged: list[str]


def info(settings: Settings) -> Info:
    """Look, and change nothing. Raises :class:`StoreError`."""
    with translated(), closing(_client(settings)) as client:
        version = migrations.version_of(client)
        tables = [Table(*row) for row in client.query(read_statement("tables")).result_rows]
        oldest, newest = client.query(read_statement("span_times")).result_rows[0] if version else (0, 0)
        damaged = [str(part) for part in damage.found(client)]
        return Info(version, migrations.latest(), tables, oldest, newest, damaged)


def migrate(settings: Settings) -> tuple[int, int]:
    """Bring it to this version; return the version before and after. Raises :class:`StoreError`."""
    before = info(settings).version
    ClickHouseStore(
        _path(settings),
        url=settings.store,
        retain_s=settings.retain,
        retain_rates_s=settings.retain_rates,
        max_disk=settings.max_disk,
        autocomplete_keys=settings.autocomplete_keys,
    ).close()
    return before, migrations.latest()


def check(settings: Settings, *, repair: bool) -> list[str]:
    """Compare all bytes with their checksums; return the parts that are damaged or were set aside earlier.

    ``repair`` sets damaged ones aside and makes again what can be made of the rest. Raises :class:`StoreError`.
    """
    with translated(), closing(_client(settings)) as client:
        broken = damage.broken(client)
        if repair:
            damage.set_aside(client, broken)
            return [str(part) for part in damage.found(client)]
        told = [f"{part} of {table}: {rows:,} rows" for table, part, rows in broken]
        return told + [f"{part} (set aside)" for part in damage.found(client)]


def backup(settings: Settings, target: Path) -> int:
    """Copy the whole data directory; return the bytes of the copy. Raises :class:`StoreError`, ``OSError``."""
    if settings.store:
        raise StoreError("a server has backups of its own (BACKUP DATABASE); this command copies a data directory")
    if target.exists() and any(target.iterdir()):
        raise StoreError(f"{target} is not empty; name a directory that is new")
    if target.resolve().is_relative_to(settings.data_dir.resolve()):
        raise StoreError(f"{target} lies in the data directory itself")
    shutil.copytree(settings.data_dir, target, dirs_exist_ok=True, symlinks=True, ignore=shutil.ignore_patterns("lock"))
    return sum(path.stat().st_size for path in target.rglob("*") if path.is_file())


def _client(settings: Settings) -> Client:
    return connect(_path(settings), settings.store, settings.max_memory, {})


def _path(settings: Settings) -> Any:
    path = settings.data_dir / "store"
    if not settings.store and not path.exists():
        raise StoreError("there is nothing; `clew up` makes it when it starts")
    return path
