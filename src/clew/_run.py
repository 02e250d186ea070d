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
from clew import _options, _program, _tracer
from clew import logging as clew_logging
from clew._patch import patch
from clew.integrations import instrument_on_import


def start() -> None:
    """Configure from CLEW_*, stamp log records, hook libraries as they are imported; nothing in helper processes.

    Raises what ``configure`` raises for a wrong option; the caller says so and lets the program go on.
    """
    if _program.is_helper(sys.orig_argv):
        if _options.read_boolean("debug", None, False):
            sys.stderr.write(f"clew[{os.getpid()}]: {' '.join(sys.orig_argv)}: a tool of Python's, not traced\n")
        return
    name = None if os.environ.get("CLEW_SERVICE") else _program.own_name()
    if name:
        os.environ["CLEW_SERVICE"] = name  # workers are started with other command lines, and are the same service
    clew.configure()
    if _tracer.tracer().enabled:
        clew_logging.follow()
        _show_ids()
        instrument_on_import()


def _show_ids() -> None:
    """Show the ids in formats that nobody chose: the last resort's, and what ``basicConfig()`` gives by default."""
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(clew_logging.TraceFormatter())
    patch(logging, "basicConfig", _around_basic_config)


def _around_basic_config(original: Any) -> Any:
    def basic_config(**kwargs: Any) -> None:
        original(**kwargs)
        for handler in logging.getLogger().handlers:
            if clew_logging.is_unformatted(handler):
                handler.setFormatter(clew_logging.InstalledFormatter())

    return basic_config
