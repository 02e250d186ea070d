"""The real store with a fault that can be switched on: a full disk or a server that is away cannot be had on order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clew.collector.store import Kind, StoreError, UnreadableRows

if TYPE_CHECKING:
    from clew.collector.store.clickhouse import ClickHouseStore


class FaultyStore:
    """Passes everything on; inserts fail while `down`, *after* they came through while `mute`, and on `poison`."""

    def __init__(self, store: ClickHouseStore) -> None:
        self._store = store
        self.down = False
        self.mute = False
        self.poison = b""
        self.inserts = 0
        self.select = store.select
        self.disk_bytes = store.disk_bytes
        self.drop_oldest = store.drop_oldest
        self.close = store.close

    def insert(self, kind: Kind, rows: bytes, token: str) -> None:
        """As the store, or :class:`StoreError`, or for rows with the poison in them :class:`UnreadableRows`."""
        if self.down:
            raise StoreError("switched off")
        if self.poison and self.poison in rows:
            raise UnreadableRows("poison")
        self._store.insert(kind, rows, token)
        self.inserts += 1
        if self.mute:
            self.mute = False
            raise StoreError("the answer was lost")
