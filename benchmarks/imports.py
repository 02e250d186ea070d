"""What an import costs: CPU milliseconds over the bare interpreter, packages of others that it brings, the floor then.

Run as a script in a fresh interpreter, with the import as its one argument: ``python imports.py "import clew"``.
"""

import sys
import time

_before = set(sys.modules)
_begun = time.process_time()
exec(sys.argv[1])
_spent = (time.process_time() - _begun) * 1_000
_names = {name.partition(".")[0] for name in set(sys.modules) - _before}
_own = sys.argv[1].split()[1].partition(".")[0]
_others = sorted(name for name in _names if name not in sys.stdlib_module_names and name != _own)
sys.path.insert(0, sys.path[0] + "/..")

from benchmarks.measure import measure_floor  # noqa: E402 - after what is measured

print(_spent, len(_others), measure_floor(0.02))
