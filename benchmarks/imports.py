"""What an import costs a program: CPU milliseconds over the bare interpreter, and the modules of others it brings.

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
print(_spent, len(_others))
