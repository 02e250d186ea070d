"""The journal's files: what is whole is found whatever lies beside it, and no damage ends a start."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.collector.ingest import record as wire
from clew.collector.ingest.journal import Journal
from clew.collector.ingest.record import Gap, Record

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def _record(number: int, **more: object) -> Record:
    rows = b'{"traceId":"%x","id":"1","name":"%s"}' % (number, b"x" * (number % 50))
    return Record(rows, 1, digest=hashlib.sha256(rows).digest()[:16])._replace(**more)


def _file(records: list[Record]) -> bytes:
    return wire.HEADER + b"".join(bytes(piece) for record in records for piece in wire.encode(record))


def _found(data: bytes) -> list[bytes]:
    return [bytes(found.spans) for found in wire.scan(data) if isinstance(found, Record)]


def _fill(directory: Path, *numbers: int) -> Path:
    """Leave a group as a killed process would; return its file."""
    journal = Journal(directory)
    group = journal.open()
    for number in numbers:
        journal.append(group, _record(number, offsets={"file": number}))
    journal.seal(group)
    return directory / group.name


def _left(directory: Path) -> list[list[bytes]]:
    journal = Journal(directory)
    return [[bytes(record.spans) for record in journal.read(group)] for group in journal.left]


def test_record_of_both_kinds_comes_back() -> None:
    """Rows, counts, digest and offsets, as they were."""
    record = Record(b'{"id":"1"}', 1, b'{"message":"m"}', 2, b"d" * 16, {"f": {"offset": 3}})
    (found,) = wire.scan(_file([record]))

    assert isinstance(found, Record)
    assert record == found._replace(spans=bytes(found.spans), logs=bytes(found.logs))


@given(
    count=st.integers(1, 6),
    data=st.data(),
    damage=st.sampled_from(["flip", "zero", "insert", "remove", "cut"]),
)
def test_whole_records_are_found_beside_damage(count: int, data: st.DataObject, damage: str) -> None:
    """Whatever happens to one stretch of a file, every record outside of it is found, in order, and no other."""
    records = [_record(n) for n in range(count)]
    whole = _file(records)
    start = data.draw(st.integers(0, len(whole) - 1))
    end = data.draw(st.integers(start + 1, min(len(whole), start + 80)))
    noise = data.draw(st.binary(min_size=1, max_size=80))
    stretch = {
        "flip": bytes(byte ^ 0x55 for byte in whole[start:end]),
        "zero": bytes(end - start),
        "insert": noise + whole[start:end],
        "remove": b"",
        "cut": b"",
    }[damage]
    damaged = whole[:start] + stretch + (b"" if damage == "cut" else whole[end:])
    touched = (start, start + 1) if damage == "insert" else (start, len(whole) if damage == "cut" else end)

    expected, at = [], len(wire.HEADER)
    for record in records:
        size = sum(map(len, wire.encode(record)))
        inserted_between = damage == "insert" and start == at
        if touched[1] <= at or touched[0] >= at + size or inserted_between:
            expected.append(bytes(record.spans))
        at += size
    found = _found(damaged)
    assert set(expected) <= set(found) <= {bytes(record.spans) for record in records}
    assert sorted(found, key=lambda rows: int(json.loads(rows)["traceId"], 16)) == found


@given(st.integers(1, 200))
def test_cut_tail_is_told_from_damage(missing: int) -> None:
    """A write that a kill cut short is nothing to set aside: nobody was told that it is kept."""
    whole = _file([_record(1), _record(2)])
    keep = sum(map(len, wire.encode(_record(2))))
    gaps = [found for found in wire.scan(whole[: len(whole) - min(missing, keep - 1)]) if isinstance(found, Gap)]

    assert [True] == [gap.torn for gap in gaps]


DAMAGE: dict[str, Callable[[Path, Path], object]] = {
    "empty offsets": lambda directory, _: (directory / "offsets.json").write_bytes(b""),
    "garbage for offsets": lambda directory, _: (directory / "offsets.json").write_bytes(b"\xff\x00[1"),
    "another shape of offsets": lambda directory, _: (directory / "offsets.json").write_bytes(b'{"a":1}'),
    "a directory for offsets": lambda directory, _: (directory / "offsets.json").mkdir(),
    "garbage for digests": lambda directory, _: (directory / "recent.1").write_bytes(b"xyz"),
    "a directory for digests": lambda directory, _: (directory / "recent.0").mkdir(),
    "a file for the directory aside": lambda directory, _: [
        (directory / "aside").rmdir(),
        (directory / "aside").touch(),
    ],
    "a stray file": lambda directory, _: (directory / "notes.txt").write_text("by hand"),
    "a directory that is named as a group": lambda directory, _: (directory / f"{99:012d}-{'a' * 32}.group").mkdir(),
    "an empty group": lambda directory, _: (directory / f"{99:012d}-{'a' * 32}.group").touch(),
    "a group of zeros": lambda directory, _: (directory / f"{99:012d}-{'a' * 32}.group").write_bytes(bytes(5_000)),
    "a group of an older form": lambda directory, _: (directory / f"{9:020d}-spans-{'a' * 32}.group").write_text("{}"),
    "zeros behind the records": lambda _, group: group.write_bytes(group.read_bytes() + bytes(4_096)),
    "a bad byte in the header": lambda _, group: group.write_bytes(b"X" + group.read_bytes()[1:]),
    "zeros between the records": lambda _, group: group.write_bytes(
        group.read_bytes().replace(wire.MAGIC, bytes(100) + wire.MAGIC)
    ),
    "a dangling link": lambda directory, _: (directory / "recent.0").symlink_to("/nowhere"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_ends_no_start_and_loses_no_record(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is set aside or left out; what is whole is there, and new payloads are taken."""
    group = _fill(tmp_path, 1, 2, 3)
    DAMAGE[damage](tmp_path, group)
    journal = Journal(tmp_path)
    records = [record for left in journal.left for record in journal.read(left)]
    assert [bytes(_record(n).spans) for n in (1, 2, 3)] == [bytes(record.spans) for record in records]
    assert 3 == journal.offset("file")
    for left in journal.left:
        journal.prepare(left, records)
        journal.done(left)
    again = journal.open()
    journal.append(again, _record(4))
    journal.prepare(again, [_record(4)])

    assert [[bytes(_record(4).spans)]] == _left(tmp_path)
    assert Journal(tmp_path).remembers(_record(1).digest)


@pytest.mark.parametrize("at", [0, 5, 17, 30, 60, 90])
def test_bad_byte_loses_its_own_record_alone(tmp_path: Path, at: int, caplog: pytest.LogCaptureFixture) -> None:
    """In the head or in the rows: the others are there, and the bytes of this one are set aside and named."""
    group = _fill(tmp_path, 1, 2, 3)
    data = bytearray(group.read_bytes())
    second = len(wire.HEADER) + sum(map(len, wire.encode(_record(1, offsets={"file": 1}))))
    data[second + at] ^= 0xFF
    group.write_bytes(data)

    assert [[bytes(_record(n).spans) for n in (1, 3)]] == _left(tmp_path)
    (aside,) = (tmp_path / "aside").iterdir()
    assert aside.read_bytes() in bytes(data)
    assert aside.name in caplog.text


def test_journal_that_is_a_file_is_set_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It stays beside, under another name; payloads are taken."""
    (tmp_path / "journal").write_text("by hand")
    journal = Journal(tmp_path / "journal")
    journal.append(journal.open(), _record(1))

    assert ["by hand"] == [path.read_text() for path in tmp_path.glob("journal.*.bad")]
    assert "set aside" in caplog.text


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_directory_that_cannot_be_written_ends_no_start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What lies there is read; what comes is refused until it can be written again."""
    _fill(tmp_path / "journal", 1)
    mounted = tmp_path / "journal"
    subprocess.run(["mount", "--bind", mounted, mounted], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", mounted], check=True)
        journal = Journal(mounted)
        assert [1] == [len(journal.read(group)) for group in journal.left]
        with pytest.raises(OSError, match="Read-only"):
            journal.open()
        subprocess.run(["mount", "-o", "remount,rw,bind", mounted], check=True)
        group = journal.open()
        journal.append(group, _record(2))
        journal.seal(group)
    finally:
        subprocess.run(["umount", mounted], check=True)


def test_half_beside_its_whole_is_forgotten(tmp_path: Path) -> None:
    """A kill while a group was cut in two: no half was inserted then, so the whole counts."""
    path = _fill(tmp_path, 1, 2)
    whole = path.read_bytes()
    journal = Journal(tmp_path)
    (group,) = journal.left
    journal.split(group, journal.read(group))
    assert not path.exists()
    path.write_bytes(whole)

    assert [[bytes(_record(n).spans) for n in (1, 2)]] == _left(tmp_path)
    assert [path.name] == [found.name for found in tmp_path.glob("*.group")]


def test_offsets_of_a_group_that_waits_do_not_go_back(tmp_path: Path) -> None:
    """A newer group was stored first: its offset counts, also after a restart."""
    journal = Journal(tmp_path)
    older, newer = journal.open(), journal.open()
    for group, number in ((older, 1), (newer, 2)):
        journal.append(group, _record(number, offsets={"file": number}))
        journal.prepare(group, journal.read(group))
    journal.done(newer)

    assert 2 == Journal(tmp_path).offset("file")


def test_what_is_set_aside_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest stay, and count as what is in the journal."""
    monkeypatch.setattr("clew.collector.ingest.journal.ASIDE_BYTES", 1_000)
    journal = Journal(tmp_path)
    for number in range(20):
        group = journal.open()
        record = Record(b'{"n":"%200d"}' % number, 1)
        journal.append(group, record)
        journal.set_aside(group, [record], "because")

    kept = [path.read_bytes() for path in (tmp_path / "aside").iterdir()]
    assert 4 == len(kept)
    assert sum(map(len, kept)) == journal.pending_bytes()
    assert any(b'19"' in data for data in kept)
