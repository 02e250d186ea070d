"""`clew demo --kafka`: one of the services sends by way of a real broker."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from command_line import clean_environment
from kafka.broker import consume

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.timeout(300)
def test_the_mailer_sends_by_kafka(tmp_path: Path, real_address: str) -> None:
    """Every request is one complete trace, the mailer's spans among them, which were messages of the topic."""
    command = [sys.executable, "-m", "clew.cli", "demo", "--once", "--http", "127.0.0.1:0", "--udp", "127.0.0.1:0"]
    done = subprocess.run(
        [*command, "--data-dir", str(tmp_path), "--kafka", real_address],
        capture_output=True,
        text=True,
        timeout=280,
        env=clean_environment(),
        check=False,
    )
    assert 0 == done.returncode, done.stdout + done.stderr
    assert "spans by kafka" in done.stdout
    assert b"mailer" in consume(real_address, "clew-demo", 1)[0].value()


def test_wrong_brokers_are_said_before_anything_starts(tmp_path: Path) -> None:
    """In one sentence."""
    command = [sys.executable, "-m", "clew.cli", "demo", "--kafka", "b1:port", "--data-dir", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert 1 == done.returncode
    assert "--kafka: expected brokers as host:port,host:port" in done.stderr
