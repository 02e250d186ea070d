"""Keeps the data directory under ``--max-disk``: everything in it counts, and the oldest rows go. Beside all else.

The age of rows (``--retain``) is the store's business. Here one thread looks at the directory every few seconds and has
the store drop its oldest part as long as it is too large. What is dropped leaves the disk a moment later, and merges
need room for the same rows twice, so it aims at :data:`AIM` of the bound.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from typing import TYPE_CHECKING, Final

from clew.collector.store import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from clew.collector.metrics import Metrics
    from clew.collector.store import SpanStore

AIM: Final = 0.8  # of the bound
_SMALL: Final = 1_000_000_000  # such a bound is reached within seconds, so it is looked at more often
_LOOK_S: Final = (2.0, 10.0)

_log = logging.getLogger("clew.collector")


@contextlib.contextmanager
def kept_under(store: SpanStore, directory: Path, max_disk: int, metrics: Metrics) -> Iterator[None]:
    """Keep the directory under ``max_disk`` bytes for the time of the ``with``; 0 is no bound. Starts one thread."""
    if not max_disk:
        yield
        return
    ended = threading.Event()
    arguments = (store, directory, max_disk, metrics, ended)
    thread = threading.Thread(target=_run, args=arguments, name="clew-retention")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def bytes_of(directory: Path | str) -> int:
    """Return what a directory takes on the disk, with all that lies in it. What goes meanwhile does not count."""
    total = 0
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    total += bytes_of(entry.path)
                with contextlib.suppress(OSError):
                    total += entry.stat(follow_symlinks=False).st_blocks * 512
    except OSError:
        pass
    return total


def _run(store: SpanStore, directory: Path, max_disk: int, metrics: Metrics, ended: threading.Event) -> None:
    look_s = _LOOK_S[0] if max_disk < _SMALL else _LOOK_S[1]
    while not ended.wait(look_s):
        try:
            _drop(store, bytes_of(directory) - int(max_disk * AIM), metrics)
        except StoreError as error:
            _log.warning("retention: %s", str(error).partition("\n")[0])


def _drop(store: SpanStore, excess: int, metrics: Metrics) -> None:
    while excess > 0 and (dropped := store.drop_oldest()):
        excess -= dropped
        metrics.count("retention_dropped_bytes_total", dropped)
