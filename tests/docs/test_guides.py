"""What the guides in docs/ say is so: their examples run, their tables are complete, their answers have that shape."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

import clew
from clew import integrations, wire
from clew.collector import metrics, settings
from clew.senders import http, udp
from command_line import Running, clean_environment, run_clew
from documents import REPOSITORY, Block, blocks, read

GUIDES = ("docs/client.md", "docs/collector.md", "docs/kafka.md")
EXAMPLES = [block for guide in GUIDES for block in blocks(guide, "python") if block.mark != "example: uvicorn"]
ANSWERS = [block for block in blocks("docs/collector.md", "json") if block.mark.startswith("answer: ")]


@pytest.mark.parametrize("block", EXAMPLES, ids=str)
def test_example_runs_and_prints_what_is_shown(block: Block, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Each Python block runs by itself; where an output follows, it is that."""
    text, variables = block.text, {"CLEW_REPORTER": "none"}
    if block.mark == "example: collector":
        collector = request.getfixturevalue("collector")
        text, variables = text.replace("http://127.0.0.1:9411", collector.url), {}
    (tmp_path / "test_example.py").write_text(text, encoding="utf-8")
    as_test = ["-m", "pytest", "-p", "clew.testing", "-p", "no:asyncio"] if block.mark == "example: pytest" else []
    done = subprocess.run(
        [sys.executable, *as_test, "test_example.py"],
        cwd=tmp_path,
        env=clean_environment(**variables),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (0, "") == (done.returncode, done.stderr), done.stdout
    shown = output_of(block)
    assert shown in (None, done.stdout)


def output_of(block: Block) -> str | None:
    """Return the block marked as output that follows an example."""
    every = blocks(block.document)
    following = [*every, None][every.index(block) + 1]
    return following.text if following and following.mark == "output" else None


@pytest.mark.parametrize("block", ANSWERS, ids=lambda block: block.mark.removeprefix("answer: "))
def test_answer_has_the_shape_shown(block: Block, collector: Running) -> None:
    """The collector answers with the members that the reference shows."""
    trace = json.loads((REPOSITORY / "docs/trace.json").read_text(encoding="utf-8"))
    trace_id = trace["spans"][0]["traceId"]
    path = block.mark.removeprefix("answer: ").format(trace_id=trace_id, now_ms=time.time_ns() // 1_000_000)
    with urllib.request.urlopen(collector.url + path, timeout=30) as answer:
        assert members(json.loads(block.text)) <= members(json.loads(answer.read()))


def members(value: Any, path: str = "") -> set[str]:
    """Return the paths of all members; elements of an array share one."""
    if isinstance(value, dict):
        return {f"{path}.{key}" for key in value}.union(
            *(members(item, f"{path}.{key}") for key, item in value.items())
        )
    if isinstance(value, list):
        return set().union(*(members(item, f"{path}[]") for item in value))
    return set()


def test_log_record_shown_is_accepted(collector: Running) -> None:
    """The record that the reference shows is one that the collector takes."""
    (record,) = [block for block in blocks("docs/collector.md", "json") if block.text.startswith('{"logs"')]
    collector.post("/api/v1/logs", json.loads(record.text))


def test_every_collector_option_is_in_the_table() -> None:
    """Flag, variable, key and default of each setting stand in one row; nothing else does."""
    rows = [row for row in table_rows("docs/collector.md") if len(row) == 5]
    expected = [
        [f"`{settings.flag_of(name)}`", f"`CLEW_{name.upper()}`", f"`{name}`", shown_default(name)]
        for name in settings.OPTIONS
    ]
    assert [*expected, ["`--config`", "`CLEW_CONFIG`", "", "`clew.toml`"]] == [row[:4] for row in rows[2:]]


def shown_default(name: str) -> str:
    """Return a setting's default as the table writes it."""
    if name == "data_dir":
        return "`~/.local/share/clew`"
    default = settings.OPTIONS[name].default
    return f"`{default}`" if default else "none"


def test_every_flag_of_clew_up_is_in_the_table() -> None:
    """What `clew up --help` lists, the table has."""
    flags = set(re.findall(r"^  (--[a-z-]+)", run_clew("up", "--help").stdout, re.M))
    assert flags == {row[0].strip("`") for row in table_rows("docs/collector.md") if row[0].startswith("`--")}


def test_toml_example_is_a_configuration(tmp_path: Path) -> None:
    """The file shown loads, and says what it seems to say."""
    (example,) = blocks("docs/collector.md", "toml")
    (tmp_path / "tokens").write_text("write:a\n", encoding="utf-8")
    text = example.text.replace("/etc/clew/tokens", str(tmp_path / "tokens"))
    (tmp_path / "clew.toml").write_text(text, encoding="utf-8")
    loaded = settings.load({}, {}, tmp_path)
    assert ("0.0.0.0:9411", None, 14 * 86_400) == (str(loaded.http), loaded.udp, loaded.retain)
    assert 50_000_000_000 == loaded.max_disk


def test_every_metric_is_in_the_table() -> None:
    """The table of metrics is the collector's own list."""
    listed = [row[0].strip("`") for row in table_rows("docs/collector.md") if row[0].startswith("`clew_collector_")]
    assert [metrics.PREFIX + name for name in (*metrics.COUNTERS, *metrics.GAUGES)] == listed


def test_every_count_of_stats_is_in_the_table() -> None:
    """All keys of `clew.stats()` are explained."""
    rows = read("docs/client.md").partition("| Key | Counts |")[2].partition("\n\n")[0]
    assert clew.stats().keys() == set(re.findall(r"`([a-z_]+)`(?=,| \|)", rows))


def test_limits_are_those_of_the_wire() -> None:
    """Each limit of the table is the constant that enforces it."""
    rows = read("docs/client.md").partition("| What | Limit |")[2].partition("\n\n")[0]
    assert [
        wire.MAX_NAME_CHARS,
        wire.MAX_TAG_KEY_CHARS,
        wire.MAX_TAG_VALUE_CHARS,
        wire.MAX_STACK_CHARS,
        wire.MAX_TAGS,
        wire.MAX_ANNOTATIONS,
        wire.MAX_MESSAGE_CHARS,
        udp.UdpSender("127.0.0.1", 1).max_message_bytes,
        udp.UdpSender("192.0.2.1", 1).max_message_bytes,
        http.HttpSender("http://host").max_message_bytes >> 20,
    ] == [int(number) for number in re.findall(r"\b\d+\b", rows)]


def test_every_integration_is_in_the_table() -> None:
    """Each name that `clew.instrument()` knows is in the table."""
    rows = read("docs/client.md").partition("## Integrations")[2].partition("\n\nA server's")[0]
    named = set(
        re.findall(r"`([A-Za-z0-9_]+)`", " ".join(row.split("|")[1] for row in rows.splitlines() if "|" in row))
    )
    assert {name for known in integrations._KNOWN for name in known.names} == named


def table_rows(document: str) -> list[list[str]]:
    """Return the cells of all table rows."""
    lines = [line for line in read(document).splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
