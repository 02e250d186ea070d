"""Entry point of the ``clew`` command. Free of imports: ``clew run`` has to be quick, and to work without click."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit: 0 done, 1 failed (one sentence on standard error says why), 2 wrong usage."""
    try:
        import click  # noqa: F401
        import rich  # noqa: F401
    except ModuleNotFoundError:
        _main_of_bare_client()
    from clew.cli._root import main as run

    run()


def _main_of_bare_client() -> None:
    """Do what the dependency-free client can: ``clew run`` and ``clew --version``."""
    command, *rest = sys.argv[1:] or [""]
    if command == "run":
        from clew.cli._launch import main as run

        run(rest)
    if command == "--version":
        from clew import __version__

        print(f"clew {__version__}")
        raise SystemExit(0)
    print(
        "clew: this environment has only the client (`clew run`). For everything else: pip install 'clew[collector]'",
        file=sys.stderr,
    )
    raise SystemExit(2)


if __name__ == "__main__":
    main()
