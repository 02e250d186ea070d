"""Files that grow, rotate, are cut, and survive restarts of their reader."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from clew.collector.ingest import Ingest
from clew.collector.metrics import Metrics
from clew.collector.receivers import tail as tail_module
from clew.collector.receivers.tail import Tail
from collector.collector_process import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from clew.collector.store.clickhouse import ClickHouseStore

LOGS = '{"logs":[{"timestamp":1,"service":"a","message":"m"}]}\n'


def _line(number: int) -> str:
    return f'{{"traceId":"{number:x}","id":"b"}}\n'


class Reader:
    """A tail with its ingest, which can be restarted."""

    def __init__(self, store: ClickHouseStore, folder: Path) -> None:
        self._store = store
        self.folder = folder
        self.start()

    def start(self) -> None:
        self.metrics = Metrics()
        self._ingest = Ingest(self._store, self.folder / "journal", self.metrics)
        self._tail = Tail(self._ingest, [str(self.folder / "*.jsonl")])

    def stop(self) -> None:
        self._tail.close()
        self._ingest.close()

    def numbers(self) -> list[int]:
        rows = self._store._writer.query("SELECT hex(trace_id) FROM spans").result_rows
        return sorted(int(row[0], 16) for row in rows)

    def wait_for(self, *numbers: int) -> None:
        wait_until(lambda: self.numbers() == sorted(numbers))


@pytest.fixture
def reader(store: ClickHouseStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
    monkeypatch.setattr(tail_module, "POLL_S", 0.02)
    opened = Reader(store, tmp_path)
    yield opened
    opened.stop()


def test_lines_of_all_shapes_are_stored(reader: Reader, store: ClickHouseStore) -> None:
    """A span, an array of spans, an empty line, log records."""
    array = f"[{_line(2).strip()}, {_line(3).strip()}]\n"
    (reader.folder / "a.jsonl").write_text(_line(1) + array + "\n[]\n" + LOGS)

    reader.wait_for(1, 2, 3)
    wait_until(lambda: store._writer.query("SELECT count() FROM logs").result_rows == [(1,)])


def test_half_a_line_waits_for_its_end(reader: Reader) -> None:
    """Nothing is stored of it, and nothing is skipped."""
    line = _line(2)
    with (reader.folder / "a.jsonl").open("w") as file:
        file.write(_line(1) + line[:10])
        file.flush()
        reader.wait_for(1)
        file.write(line[10:])
    reader.wait_for(1, 2)

    assert 0 == reader.metrics.value("tail_lines_skipped_total")


def test_bad_lines_are_counted_and_skipped(reader: Reader) -> None:
    """Their neighbours are stored."""
    bad = [
        '[{"traceId":"9","id":"b"}X\n', '[{"traceId":"9","id":"b"}\n', '{"traceId":"9",\n', '"id":"b"}\n',
        '{"traceId":"9","id":"b"},{"traceId":"9","id":"c"}\n', "[],[]\n", '{"logs":[],"logs":\n',
        "junk\n", '{"traceId":"X","id":"b"}\n', '{"logs":3}\n', "[1]\n", "]\n", '{"traceId":"7","id":"8"}]\n',
    ]  # fmt: skip
    (reader.folder / "a.jsonl").write_text(_line(1) + "".join(bad) + _line(2))
    reader.wait_for(1, 2)

    assert len(bad) == reader.metrics.value("tail_lines_skipped_total")


def test_halves_of_lines_never_make_a_span(reader: Reader) -> None:
    """Two that would fit together, with whatever between them, are two bad lines."""
    whole = '{"traceId":"9","id":"b","tags":{"a":"b"}}'
    halves = [f"{whole[:at]}\n{whole[at:]}\n" for at in range(1, len(whole))]
    (reader.folder / "a.jsonl").write_text(_line(1) + "".join(halves) + _line(2))
    reader.wait_for(1, 2)

    assert 2 * len(halves) == reader.metrics.value("tail_lines_skipped_total")


def test_many_lines_of_log_records_are_kept_in_one_step(reader: Reader, store: ClickHouseStore) -> None:
    """With the spans between them: a payload of each kind, not one a line."""
    lines = [LOGS + _line(number) + LOGS.replace('{"logs"', ' { "logs" ') for number in range(1, 1_001)]
    (reader.folder / "a.jsonl").write_text("".join(lines))
    reader.wait_for(*range(1, 1_001))

    wait_until(lambda: store._writer.query("SELECT count() FROM logs").result_rows == [(2_000,)])
    assert reader.metrics.value("payloads_total", source="tail") <= 4


def test_file_that_cannot_be_read_harms_no_other(reader: Reader, caplog: pytest.LogCaptureFixture) -> None:
    """One that fails at each read, a directory, a pipe, a link to nothing: said once, and the others go on."""
    (reader.folder / "a.jsonl").symlink_to("/proc/self/mem")
    (reader.folder / "b.jsonl").mkdir()
    os.mkfifo(reader.folder / "c.jsonl")
    (reader.folder / "d.jsonl").symlink_to("nowhere")
    (reader.folder / "e.jsonl").write_text(_line(1))
    reader.wait_for(1)
    with (reader.folder / "e.jsonl").open("a") as file:
        file.write(_line(2))
    reader.wait_for(1, 2)

    assert 1 == reader.metrics.value("tail_errors_total")
    assert ["a.jsonl"] == [os.path.basename(str(record.args[0])) for record in caplog.records if record.args]


@pytest.mark.parametrize("mark", ["null", '"x"', '{"offset":"5"}', '{"offset":-1,"head":""}', "[]", '{"offset":1e9}'])
def test_odd_marks_end_nothing(reader: Reader, mark: str) -> None:
    """Where it is not known how far a file was read, it is read from its start; so are all others."""
    reader.stop()
    path = reader.folder / "a.jsonl"
    path.write_text(_line(1))
    about = path.stat()
    (reader.folder / "journal" / "offsets.json").write_text(f'{{"{about.st_dev}-{about.st_ino}": {mark}}}')
    (reader.folder / "b.jsonl").write_text(_line(2))
    reader.start()
    reader.wait_for(1, 2)


def test_end_does_not_wait_for_what_is_still_to_be_read(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest is read at the next start, and nothing twice."""
    monkeypatch.setattr(tail_module, "CHUNK_BYTES", 2_000)
    (reader.folder / "a.jsonl").write_text("".join(map(_line, range(1, 5_001))))
    wait_until(lambda: reader.metrics.value("spans_stored_total") > 0)
    reader.stop()
    assert reader.metrics.value("spans_stored_total") < 5_000
    monkeypatch.undo()
    reader.start()
    reader.wait_for(*range(1, 5_001))


def test_unfinished_line_of_a_file_that_is_gone_is_counted(reader: Reader) -> None:
    """Nobody will write its end."""
    path = reader.folder / "a.jsonl"
    path.write_text(_line(1) + '{"traceId":')
    reader.wait_for(1)
    path.unlink()
    wait_until(lambda: reader.metrics.value("tail_lines_skipped_total", reason="unfinished") == 1)


def test_rotation_by_renaming_loses_nothing(reader: Reader) -> None:
    """What is still written to the renamed file and what the new one holds, both are read."""
    path = reader.folder / "a.jsonl"
    with path.open("w") as old:
        old.write(_line(1))
        old.flush()
        reader.wait_for(1)
        path.rename(reader.folder / "b.jsonl")
        path.write_text(_line(2))
        old.write(_line(3))
    reader.wait_for(1, 2, 3)


def test_file_cut_and_written_anew_is_read_from_its_start(reader: Reader) -> None:
    """copytruncate: shorter than before, or longer again already."""
    path = reader.folder / "a.jsonl"
    path.write_text(_line(1) + _line(2))
    reader.wait_for(1, 2)
    path.write_text(_line(3))
    reader.wait_for(1, 2, 3)
    path.write_text(_line(4) + _line(5) + _line(6))
    reader.wait_for(1, 2, 3, 4, 5, 6)


def test_restart_goes_on_at_the_very_line(reader: Reader) -> None:
    """Nothing twice, and what was written meanwhile is read."""
    path = reader.folder / "a.jsonl"
    path.write_text(_line(1) + _line(2))
    reader.wait_for(1, 2)
    reader.stop()
    with path.open("a") as file:
        file.write(_line(3))
    reader.start()
    reader.wait_for(1, 2, 3)


def test_other_file_with_the_same_inode_is_read_whole(reader: Reader) -> None:
    """While the reader was away the file was replaced in place: its beginning tells."""
    path = reader.folder / "a.jsonl"
    path.write_text(_line(1))
    reader.wait_for(1)
    reader.stop()
    path.write_text(_line(2) + _line(3))
    reader.start()
    reader.wait_for(1, 2, 3)


def test_endless_line_is_skipped(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    """More bytes without a newline than anyone can mean; reading goes on behind it."""
    monkeypatch.setattr(tail_module, "CHUNK_BYTES", 1_000)
    monkeypatch.setattr(tail_module, "MAX_LINE_BYTES", 4_000)
    (reader.folder / "a.jsonl").write_text(_line(1) + "x" * 9_500 + "\n" + _line(2))
    reader.wait_for(1, 2)

    assert reader.metrics.value("tail_lines_skipped_total", reason="too_long") > 0


def test_many_lines_arrive_once_each(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over many chunks."""
    monkeypatch.setattr(tail_module, "CHUNK_BYTES", 2_000)
    (reader.folder / "a.jsonl").write_text("".join(map(_line, range(1, 501))))

    reader.wait_for(*range(1, 501))
