"""Real database servers for the tests: one of each a run, on a free port in a folder of its own, ended with the run.

They come from Debian's packages (``.ci/run`` installs them). PostgreSQL refuses to run as root, so it, as the others,
runs as ``nobody`` where the tests are root's.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

START_S = 90.0  # on a machine that does much else
_NOBODY = 65534


@dataclass(frozen=True)
class Server:
    """Where a server listens: always on loopback."""

    port: int
    user: str = "clew"
    database: str = "shop"
    host: str = "127.0.0.1"

    def url(self, scheme: str) -> str:
        return f"{scheme}://{self.user}@{self.host}:{self.port}/{self.database}"


def wait_until(holds: Callable[[], bool], what: str) -> None:
    """Poll until it holds; fail after START_S."""
    deadline = time.monotonic() + START_S
    while not holds():
        assert time.monotonic() < deadline, f"waited {START_S:g} s for {what}"
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def program(name: str, *folders: str) -> str:
    """Find a server's program; without it the test says which package is missing."""
    places = [shutil.which(name), *(str(Path(place) / name) for place in folders)]
    found = next((place for place in places if place and Path(place).exists()), "")
    if not found:
        pytest.skip(f"{name} is not installed (.ci/run installs it)")
    return found


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """Make a folder that the servers' user may write to: pytest's own are readable for the tests' user only."""
    path = Path(tempfile.mkdtemp(prefix="clew-db-"))
    if os.geteuid() == 0:
        os.chown(path, _NOBODY, _NOBODY)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _identity() -> dict[str, int]:
    return {"user": _NOBODY, "group": _NOBODY} if os.geteuid() == 0 else {}


def run_once(*command: str) -> bool:
    """Run a program to its end; tell whether it succeeded."""
    done = subprocess.run(command, check=False, capture_output=True, timeout=START_S, **_identity(), cwd="/")
    return done.returncode == 0


def output(*command: str) -> bytes:
    """Return what a program says on its standard output."""
    return subprocess.run(command, check=False, capture_output=True, timeout=START_S, cwd="/").stdout


@contextlib.contextmanager
def running(command: list[str], path: Path, is_ready: Callable[[], bool]) -> Iterator[None]:
    """Run a server until the end of the block, which begins when it answers."""
    with (path / "server.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, cwd="/", **_identity())
        try:
            wait_until(lambda: server.poll() is not None or is_ready(), command[0])
            assert server.poll() is None, (path / "server.log").read_text(errors="replace")[-2000:]
            yield
        finally:
            server.terminate()
            try:
                server.wait(START_S)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def accepts(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0):
            return True
    except OSError:
        return False


@contextlib.contextmanager
def postgres() -> Iterator[Server]:
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda found: found.parent.name.zfill(4))
    folders = [str(found) for found in reversed(versions)]
    initdb, server, createdb = (program(name, *folders) for name in ("initdb", "postgres", "createdb"))
    with folder() as path:
        assert run_once(
            initdb, "-D", f"{path}/data", "-U", "clew", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"
        )
        port = free_port()
        options = {"listen_addresses": "127.0.0.1", "port": str(port), "unix_socket_directories": str(path)}
        options |= {"fsync": "off", "shared_buffers": "16MB", "max_connections": "40"}
        command = [server, "-D", f"{path}/data", *(part for key in options for part in ("-c", f"{key}={options[key]}"))]
        with running(command, path, lambda: accepts(port)):
            make = (createdb, "-h", "127.0.0.1", "-p", str(port), "-U", "clew", "shop")
            wait_until(lambda: run_once(*make), "a database")  # it listens before it takes questions
            yield Server(port)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    with postgres() as server:
        yield server


@contextlib.contextmanager
def mysql() -> Iterator[Server]:
    folders = ("/usr/sbin", "/usr/libexec", "/usr/bin")
    install, server, client = (program(name, *folders) for name in ("mariadb-install-db", "mariadbd", "mariadb"))
    with folder() as path:
        data, port = f"--datadir={path}/data", free_port()
        made = ("--no-defaults", data, "--auth-root-authentication-method=normal", "--skip-test-db")
        assert run_once(install, *made)
        command = [server, "--no-defaults", data, f"--port={port}", "--bind-address=127.0.0.1", "--skip-name-resolve"]
        command += [f"--socket={path}/s", f"--pid-file={path}/pid", "--innodb-buffer-pool-size=16M"]
        with running(command, path, lambda: accepts(port)):
            grant = "GRANT ALL ON *.* TO clew@127.0.0.1 IDENTIFIED BY ''; CREATE DATABASE IF NOT EXISTS shop"
            ask = (client, "--no-defaults", f"--socket={path}/s", "-u", "root", "-e", grant)
            wait_until(lambda: run_once(*ask), "an answer")
            yield Server(port)


@pytest.fixture(scope="session")
def mysql_server() -> Iterator[Server]:
    with mysql() as server:
        yield server


@contextlib.contextmanager
def redis(*options: str) -> Iterator[Server]:
    server, cli = program("redis-server"), program("redis-cli")
    with folder() as path:
        port = free_port()
        command = [server, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(path), "--save", "", *options]
        with running(command, path, lambda: accepts(port)):
            wait_until(lambda: run_once(cli, "-p", str(port), "PING"), "an answer")
            yield Server(port)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Server]:
    with redis() as server:
        yield server


@pytest.fixture(scope="session")
def redis_cluster() -> Iterator[Server]:
    """A cluster of one node, which has all slots."""
    bus = str(free_port())
    with redis("--cluster-enabled", "yes", "--cluster-port", bus) as server:
        cli = ("redis-cli", "-p", str(server.port), "CLUSTER")
        assert run_once(*cli, "ADDSLOTSRANGE", "0", "16383")
        wait_until(lambda: b"cluster_state:ok" in output(*cli, "INFO"), "the cluster")
        yield server


@contextlib.contextmanager
def memcached() -> Iterator[Server]:
    port = free_port()
    with folder() as path:
        command = [program("memcached"), "-l", "127.0.0.1", "-p", str(port), "-m", "16"]
        with running(command, path, lambda: accepts(port)):
            yield Server(port)


@pytest.fixture(scope="session")
def memcached_server() -> Iterator[Server]:
    with memcached() as server:
        yield server
