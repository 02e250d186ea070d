"""What ``clew run`` turns on inside the program, before its first line. Called by ``_bootstrap/sitecustomize.py``.

The program does not know of it, so nothing here may show: no handler is added to any logger (``logging.basicConfig()``
does nothing once there is one), no library is imported that the program does not import itself.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

import clew
from clew import _program, _tracer
from clew import logging as clew_logging
from clew.integrations import instrument_on_import


def start() -> None:
    """Configure from CLEW_*, stamp log records, hook libraries as they are imported; nothing in helper processes.

    Raises what ``configure`` raises for a wrong option; the caller says so and lets the program go on.
    """
    if _program.is_helper(sys.orig_argv):
        return
    name = None if os.environ.get("CLEW_SERVICE") else _program.own_name()
    if name:
        os.environ["CLEW_SERVICE"] = name  # workers are started with other command lines, and are the same service
    clew.configure()
    if _tracer.tracer().enabled:
        _follow_logging()
        instrument_on_import()


def _follow_logging() -> None:
    """Stamp every record, send it where wanted, and show the ids in formats that nobody chose."""
    logging.Logger.handle = clew_logging._handle_stamped  # type: ignore[method-assign]
    if _tracer.tracer().logs:
        _ship()
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(clew_logging.TraceFormatter())
    configure_plainly = logging.basicConfig

    def configure_with_ids(**options: Any) -> None:
        configure_plainly(**options)
        for handler in logging.getLogger().handlers:
            if clew_logging._is_unformatted(handler):
                handler.setFormatter(clew_logging.TraceFormatter())

    logging.basicConfig = configure_with_ids


def _ship() -> None:
    """Send what any logger hands to its handlers, also of loggers that do not propagate (uvicorn's, gunicorn's)."""
    shipper = clew_logging.ShippingHandler()
    call_handlers = logging.Logger.callHandlers

    def call_handlers_and_ship(self: logging.Logger, record: logging.LogRecord) -> None:
        call_handlers(self, record)
        if not any(isinstance(handler, clew_logging.ShippingHandler) for handler in logging.getLogger().handlers):
            shipper.handle(record)  # unless the program ships by itself

    logging.Logger.callHandlers = call_handlers_and_ship  # type: ignore[method-assign]
