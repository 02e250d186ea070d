"""``make bench``: measure the client beside its peers, then the collector; write docs/benchmarks.md. About ten minutes.

``--quick`` takes fewer and shorter rounds (two minutes; for trying out, it writes nothing unless ``--write`` says so),
``--only client`` or ``--only collector`` one half: the document then holds that half alone, so it is printed instead.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks import client, collector, environment, report

DOCUMENT = environment.ROOT / "docs" / "benchmarks.md"
_FULL = {"rounds": 7, "slices": 13, "slice_s": 0.005}
_QUICK = {"rounds": 2, "slices": 9, "slice_s": 0.005}


def main(arguments: list[str]) -> None:
    """Run what the arguments ask for."""
    options = _parse(arguments)
    how = _QUICK if options.quick else _FULL
    machine = environment.machine()
    clients = collectors = None
    profiles = {}
    if options.only != "collector":
        environment.prepare()
        clients = client.run(int(how["rounds"]), int(how["slices"]), how["slice_s"])
        profiles = {row: client.profile(row) for row in report.missed(clients)}
    if options.only != "client":
        collectors = collector.run(options.quick)
    machine["load"] = f"{machine['load']}, {environment.load():.1f} when it ended"
    text = report.write(machine, _versions(), clients, profiles, collectors, how)
    print(text)
    if options.write or not (options.quick or options.only):
        _write(DOCUMENT, text)


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds; prints, does not write")
    parser.add_argument("--only", choices=("client", "collector"), help="one half; prints, does not write")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.md all the same")
    return parser.parse_args(arguments)


def _versions() -> dict[str, str]:
    here = environment.versions(Path(sys.executable), ("clew", "chdb-core", "clickhouse-connect", "uvicorn", "msgspec"))
    there = environment.versions(environment.PYTHON) if environment.PYTHON.exists() else {}
    return {**here, **there}


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    environment.say(f"Written: {path.relative_to(environment.ROOT)}")


if __name__ == "__main__":
    main(sys.argv[1:])
