"""`clew store` on a real data directory."""

from __future__ import annotations

import json
from pathlib import Path

from collector.collector_process import CollectorProcess
from command_line import run_clew

SPANS = [{"traceId": "1", "id": "1", "timestamp": 1_795_000_000_000_000, "localEndpoint": {"serviceName": "web"}}]


def _store(command: str, directory: Path, *more: str) -> tuple[int, str, str]:
    done = run_clew("store", command, "--data-dir", str(directory), *more)
    return done.returncode, done.stdout, done.stderr


def test_data_directory_is_looked_at_checked_and_copied(tmp_path: Path) -> None:
    """What a collector left is told; the copy serves its spans; a damaged part is named, and set aside on request."""
    directory = tmp_path / "data"
    with CollectorProcess(directory) as collector:
        assert 202 == collector.post("/api/v2/spans", json.dumps(SPANS).encode())[0]
        assert "in use by another collector" in _store("info", directory)[2]
        collector.stop()

    assert "spans                      1 rows" in _store("info", directory)[1]
    assert "nothing to do" in _store("migrate", directory)[1]
    assert (0, "All parts are whole.\n", "") == _store("check", directory)
    assert "Copied" in _store("backup", directory, str(tmp_path / "copy"))[1]
    assert "is not empty" in _store("backup", directory, str(tmp_path / "copy"))[2]
    with CollectorProcess(tmp_path / "copy") as copied:
        assert 1 == len(copied.trace("1"))

    for part in (directory / "store" / "store").glob("*/*/2*_*_*_*"):
        if "`span_id`" in (part / "columns.txt").read_text():
            data = bytearray((part / "data.bin").read_bytes())
            data[len(data) // 2] ^= 4
            (part / "data.bin").write_bytes(data)
    code, told, _ = _store("check", directory)
    assert (1, True) == (code, "of spans: 1 rows" in told)
    assert 0 == _store("check", directory, "--repair")[0]
    assert "Damaged and set aside: " in _store("info", directory)[1]


def test_directory_without_anything_is_one_sentence(tmp_path: Path) -> None:
    """And code 1."""
    code, _, told = _store("info", tmp_path)
    assert (1, True) == (code, "there is nothing" in told)
