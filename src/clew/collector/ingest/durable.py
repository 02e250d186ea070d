"""``--durable``: an answer waits until the disk has the journal, so that a power cut loses nothing that was answered.

One ``fdatasync`` serves all payloads that were written while the last one ran. One thread, between ingest and the disk.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Durable:
    """Answers when the disk has what is written. ``failed`` makes the exception of an answer from an ``OSError``.

    Thread-safe; starts one thread.
    """

    def __init__(self, failed: Callable[[OSError], Exception]) -> None:
        self._failed = failed
        self._changed = threading.Condition()
        self._waiting: list[Future[None]] = []
        self._files: dict[str, int] = {}  # name -> a duplicate of its descriptor, ours to close
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="clew-durable")
        self._thread.start()

    def written(self, name: str, fd: int) -> Future[None]:
        """Return what is done once everything that was written to this file is on the disk."""
        answer: Future[None] = Future()
        answer.set_running_or_notify_cancel()  # nobody can cancel it: the client may go away
        with self._changed:
            if name not in self._files:
                self._files[name] = os.dup(fd)
            self._waiting.append(answer)
            self._changed.notify()
        return answer

    def close(self) -> None:
        """Sync what waits, then end. Idempotent."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not (self._waiting or self._closing):
                    self._changed.wait()
                if not self._waiting:
                    return
                answers, self._waiting = self._waiting, []
                files, self._files = self._files, {}
            _answer(answers, self._sync(list(files.values())))

    def _sync(self, fds: list[int]) -> Exception | None:
        try:
            for fd in fds:
                os.fdatasync(fd)
        except OSError as error:
            return self._failed(error)
        finally:
            for fd in fds:
                os.close(fd)
        return None


def _answer(answers: list[Future[None]], failed: Exception | None) -> None:
    for answer in answers:
        if failed:
            answer.set_exception(failed)
        else:
            answer.set_result(None)
