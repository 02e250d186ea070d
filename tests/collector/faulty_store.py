"""The real store with a fault that can be switched on: a full disk or a server that is away cannot be had on order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clew.collector.store import Kind, StoreError, UnreadableRows

if TYPE_CHECKING:
    from clew.collector.store.clickhouse import ClickHouseStore


class FaultyStore:
    """Passes everything on. Inserts fail while `down`, *after* they came through `mute` times, and on `poison`.

    While they `burn`, the engine notes the token and loses the rows, as on a disk that is full at that moment.
    What an insert with the poison in it raises is `fault`. Then, as for `mute` and while the tables are `broken`, the
    store works for what is not an insert.
    """

    def __init__(self, store: ClickHouseStore) -> None:
        self._store = store
        self.down = False
        self.broken = False
        self.mute = 0
        self.burn = 0
        self.unindexed = 0
        self.poison = b""
        self.fault: Exception = UnreadableRows("poison")
        self.inserts = 0
        self.refused = 0
        self.select = store.select
        self.derive = store.derive
        self.put = store.put
        self.holds = store.holds
        self.damaged = store.damaged
        self.inserted = 0
        self.mend = store.mend
        self.disk_bytes = store.disk_bytes
        self.drop_oldest = store.drop_oldest
        self.close = store.close

    def works(self, room: int = 0) -> bool:
        """As the store; not while `down`."""
        return not self.down and not self.burn and self._store.works(room)

    def insert(self, kind: Kind, rows: bytes, token: str) -> None:
        """As the store, or :class:`StoreError`, or for rows with the poison in them `fault`."""
        if self.down:
            raise StoreError("switched off")
        if self.broken:
            self.refused += 1
            raise StoreError("the table is broken")
        if self.poison and self.poison in rows:
            self.refused += 1
            raise self.fault
        self._store.insert(kind, rows, token)
        if self.burn and self._store._writer.command("SELECT count() FROM spans"):
            self.burn -= 1
            self._store._writer.command("ALTER TABLE spans DELETE WHERE 1 SETTINGS mutations_sync = 1")
            raise StoreError("the token is noted, the rows are not there")
        if self.unindexed:
            self.unindexed -= 1
            for table in ("trace_index", "names"):
                self._store._writer.command(f"ALTER TABLE {table} DELETE WHERE 1 SETTINGS mutations_sync = 1")
            raise StoreError("the index is not there")
        self.inserts += 1
        if self.mute:
            self.mute -= 1
            raise StoreError("the answer was lost")
