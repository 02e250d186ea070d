"""What ``CLEW_DEBUG=1`` and ``clew run --explain`` say on standard error: what is hooked, what is not, and why.

Imported only then. Each line names the process, for workers say it, too.
"""

from __future__ import annotations

import atexit
import os
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from clew import _tracer
from clew.integrations import _imports
from clew.senders import DEFAULT_REPORTER

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

# Libraries that people expect a tracer to know, and this one does not yet.
_NOT_KNOWN: Final = (
    *("tornado", "sanic", "celery", "dramatiq", "rq", "kafka"),
    *("aiokafka", "confluent_kafka", "pika", "aio_pika", "pymongo", "elasticsearch"),
    *("boto3", "pycurl"),
)
_waiting: dict[str, tuple[str, ...]] = {}
_said: set[str] = set()


def begin(hooks: Mapping[str, tuple[str, ...]]) -> None:
    """Explain what is about to be hooked: integrations and the modules that they wait for. Once in a process."""
    if _imports.explain is None:
        reporter = os.environ.get("CLEW_REPORTER") or DEFAULT_REPORTER
        say(f"service {_tracer.tracer().service!r}, spans to {reporter}")
        atexit.register(_end)
        for module in _NOT_KNOWN:
            if module not in hooks:
                _imports.when_imported(module, _note_not_known)
        _imports.explain = _note_hook
    _waiting.update(hooks)
    installed = {name: _is_installed(modules[0]) for name, modules in hooks.items()}
    say(f"hooked when the program imports them: {_listed(name for name in hooks if installed[name])}")
    say(f"not installed: {_listed(name for name in hooks if not installed[name])}")


def say(text: str) -> None:
    """Write a line. Never raises: a program may have no standard error."""
    try:
        sys.stderr.write(f"clew[{os.getpid()}]: {text}\n")
    except Exception:  # noqa: BLE001, S110 - a closed or replaced stream is the program's affair
        pass


def _note_not_known(module: ModuleType) -> None:
    _said.add(module.__name__)  # that it is "hooked", by this very function
    say(f"{module.__name__} is not traced: clew has no hook for it yet")


def _note_hook(module: ModuleType, problem: Exception | None) -> None:
    name = f"{module.__name__} {_imports.version(module)}".rstrip()
    if problem is not None:
        say(f"{name} is not traced: {problem!r}")
    elif module.__name__ not in _said:
        _said.add(module.__name__)
        say(f"hooked {name}")


def _end() -> None:
    absent = (name for name, modules in _waiting.items() if not any(module in sys.modules for module in modules))
    say(f"never imported: {_listed(absent)}")


def _is_installed(module: str) -> bool:
    package = module.partition(".")[0]
    return package in sys.modules or find_spec(package) is not None


def _listed(names: Any) -> str:
    return ", ".join(names) or "none"
