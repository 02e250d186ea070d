"""What ``clew run`` puts in front of a program: Python imports this file by its name before the program's first line.

``clew run`` sets this folder first on PYTHONPATH and the options as CLEW_* variables, then becomes the program. Worker
processes inherit both, so ``uvicorn --workers``, reloaders, multiprocessing and what else starts a fresh interpreter
are traced too; processes made by fork already are.

Rules: the program goes on whatever happens here (one line on standard error says what did not work); a sitecustomize
of the program's own still runs; nothing of clew's installation but clew becomes importable.
"""

import importlib.machinery
import importlib.util
import os
import sys
from typing import Any

_HERE = os.path.dirname(os.path.abspath(__file__))


def _start() -> None:
    if sys.version_info < (3, 10):  # noqa: UP036 - `clew run` may start any Python there is
        raise RuntimeError("clew needs Python 3.10 or newer")
    if importlib.util.find_spec("clew") is None:
        # The program's Python does not have clew: take this very one, by its place and without what lies beside it.
        package = os.path.dirname(_HERE)
        init = os.path.join(package, "__init__.py")
        _load(importlib.util.spec_from_file_location("clew", init, submodule_search_locations=[package]))
    from clew._run import start

    start()


def _chain() -> None:
    """Run the sitecustomize that Python would have found without this one; its errors are Python's to report."""
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or os.curdir) != _HERE]
    sys.path_importer_cache.pop(_HERE, None)
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", sys.path)
    if spec is None:  # what `site` expects where there is none; then nothing of that name is in sys.modules
        raise ImportError("the program has no sitecustomize", name="sitecustomize")
    _load(spec)


def _load(spec: Any) -> None:
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(spec.name, None)  # half a module must not be what the program imports
        raise


try:
    _start()
except Exception as error:  # noqa: BLE001 - boundary: a program must start as if clew were not there
    sys.stderr.write(f"clew run: this program is not traced ({type(error).__name__}: {error})\n")
_chain()
