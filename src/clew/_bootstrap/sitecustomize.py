"""What ``clew run`` puts in front of a program: Python imports this file by its name before the program's first line.

``clew run`` sets this folder first on PYTHONPATH and the options as CLEW_* variables, then becomes the program. Worker
processes inherit both, so ``uvicorn --workers``, reloaders, multiprocessing and what else starts a fresh interpreter
are traced too; processes made by fork already are.

Rules: the program goes on whatever happens here (one line on standard error says what did not work); a sitecustomize
of the program's own still runs; nothing of clew's installation but clew becomes importable; Python's own helper
processes (pip, multiprocessing's tracker) are left alone.
"""

import importlib.machinery
import importlib.util
import os
import sys
from typing import Any

_HERE = os.path.dirname(os.path.abspath(__file__))


def _start() -> None:
    clew = _import_clew()
    from clew import _program

    if _program.is_helper(sys.orig_argv):
        return
    name = None if os.environ.get("CLEW_SERVICE") else _program.own_name()
    if name:
        os.environ["CLEW_SERVICE"] = name  # workers are started with other command lines, and are the same service
    clew.configure()
    from clew.integrations import instrument_on_import

    instrument_on_import()


def _import_clew() -> Any:
    """Import clew; where the program's Python does not have it, this very one, without what lies beside it."""
    try:
        import clew
    except ModuleNotFoundError:
        package = os.path.dirname(_HERE)
        spec = importlib.util.spec_from_file_location(
            "clew", os.path.join(package, "__init__.py"), submodule_search_locations=[package]
        )
        return _load(spec)
    return clew


def _chain() -> None:
    """Run the sitecustomize that Python would have found without this one; its errors are Python's to report."""
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or os.curdir) != _HERE]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", sys.path)
    if spec is not None:
        _load(spec)


def _load(spec: Any) -> Any:
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


try:
    _start()
except Exception as error:  # noqa: BLE001 - boundary: a program must start as if clew were not there
    sys.stderr.write(f"clew run: this program is not traced ({type(error).__name__}: {error})\n")
_chain()
