"""``python -m clew``: the command line, where the ``clew`` script is not on the PATH."""

from __future__ import annotations

from clew.cli.__main__ import main

if __name__ == "__main__":
    main()
