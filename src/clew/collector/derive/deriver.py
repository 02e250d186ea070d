"""The thread that derives, and the step it takes, which a question may take as well."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Final

from clew.collector.derive.coarse import derive_coarse
from clew.collector.derive.far import Far
from clew.collector.derive.links import derive_links, homes_of
from clew.collector.derive.minutes import Minutes
from clew.collector.derive.rates import derive_rates
from clew.collector.patience import GaveUp, Patience, TooCostly
from clew.collector.query.reader import Reader
from clew.collector.store import StoreError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clew.collector.derive.minutes import Minute, Table
    from clew.collector.store import SpanStore

EVERY_S: Final = 10.0
SELDOM_S: Final = 60.0  # ... where the last pass found so little that a question derives it in no time
LITTLE: Final = 25_000  # spans: 400 a second in one minute
REST: Final = 4  # so many times as long as a pass took it rests after it: a fifth of a core at most
SPANS_A_PASS: Final = 750_000
SPANS_A_QUESTION: Final = 150_000  # what a question has derived before it is answered; takes 0.2 s

_log = logging.getLogger("clew.collector")


class Deriver:
    """Keeps what is derived up to date. Thread-safe; starts one thread with :meth:`start`."""

    def __init__(self, store: SpanStore) -> None:
        self._store = store
        self.far = Far(store)
        self._turn = threading.Lock()
        self._of_rates, self._of_links = Minutes("rates"), Minutes("links")
        self._ended = threading.Event()
        self._patience = Patience()
        self._thread = threading.Thread(target=self._run, name="clew-derive")

    def start(self) -> None:
        """Derive every :data:`EVERY_S` from now on, every :data:`SELDOM_S` while little arrives."""
        self._thread.start()

    def close(self) -> None:
        """End the thread; a pass under way is given up, which loses nothing."""
        self._ended.set()
        self._patience.end()
        try:
            self._store.stop(self._patience)
        except StoreError as error:
            _log.debug("derive: %s", error)
        if self._thread.is_alive():
            self._thread.join()

    def catch_up(self, patience: Patience) -> bool:
        """Derive the newest that has changed, at most what a question may wait for; whether that was all."""
        with self._turn:
            return self.step(self._reader(patience), SPANS_A_QUESTION) < SPANS_A_QUESTION

    def _reader(self, patience: Patience) -> Reader:
        return Reader(self._store, patience, strict=True, far=self.far.catch_up)

    def step(self, reader: Reader, spans: int) -> int:
        """Derive minutes of so many spans in each table, the newest first; return how many, fewer when that is all."""
        return max(self._rates(reader, spans), self._links(reader, spans))

    def _rates(self, reader: Reader, spans: int) -> int:
        changed = self._of_rates.changed(reader, spans)
        derive_rates(self._store, [minute for minute in changed if minute.is_whole])
        self._cover("rates", changed)
        return sum(minute.spans for minute in changed)

    def _links(self, reader: Reader, spans: int) -> int:
        changed = self._of_links.changed(reader, spans)
        if not changed:
            return 0
        numbers = {minute.number for minute in changed}
        beside = self._of_links.known(reader, homes_of(reader, numbers) - numbers)
        derive_links(self._store, reader, [minute for minute in (*changed, *beside) if minute.is_whole])
        self._cover("links", changed)
        return sum(minute.spans for minute in changed)

    def _cover(self, table: Table, changed: Sequence[Minute]) -> None:
        """Note the arrivals of minutes whose derivation stays, for spans have gone since."""
        gone = [minute for minute in changed if not minute.is_whole]
        if gone:
            parameters = {
                table: True,
                "minutes": [minute.number for minute in gone],
                "attempts": [minute.newest for minute in gone],
                "covered": [minute.covered for minute in gone],
            }
            self._store.derive("derived_covered", parameters)

    def _run(self) -> None:
        rest_s = 0.5
        reader = self._reader(self._patience)
        while not self._ended.wait(rest_s):
            begun = time.monotonic()
            try:
                found = self.run_pass(reader)
            except GaveUp:
                return
            except (StoreError, TooCostly) as error:
                found = LITTLE
                _log.warning("derive: %s", str(error).partition("\n")[0])
            rest_s = max(_rest_s(found), REST * (time.monotonic() - begun))

    def run_pass(self, reader: Reader) -> int:
        """Take a step, and add up what is over; return the spans of it.

        One at a time: a sum is newer than all its parts.
        """
        self.far.make(reader)
        with self._turn:
            found = self.step(reader, SPANS_A_PASS)
            derive_coarse(self._store, reader, "rates")
            derive_coarse(self._store, reader, "links")
        return found


def _rest_s(found: int) -> float:
    """Return how long to rest after a pass over so many spans: the minute that goes on is derived anew each time."""
    if found >= SPANS_A_PASS:
        return 0.0
    return EVERY_S if found >= LITTLE else SELDOM_S
