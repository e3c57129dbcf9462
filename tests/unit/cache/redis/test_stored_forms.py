"""The stored forms in Redis and in the folder's file: each is read as what was written, or as nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.cache.entry import Entry
from proxy.cache.invalidation.policy import Erase
from proxy.cache.redis.checkpoint import Checkpoint, CheckpointFile
from proxy.cache.redis.log import Position
from proxy.cache.redis.metadata import SharedEntry, _decode, _encode
from proxy.cache.redis.records import Record, decode_member, encode

ENTRY = Entry(
    version=2,
    generation="a" * 32,
    etag="tag",
    length=5,
    checksum="0" * 32,
    epoch=0,
    fields=(("Content-Type", "image/jpeg"),),
    presented=(),
    requested_at=1.0,
    answered_at=2.0,
)
DEADLINE = bytes(8)


def modes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}


@given(st.binary(max_size=100))
def test_any_bytes_are_a_change_or_nothing(member: bytes) -> None:
    found = decode_member(member)
    assert found is None or decode_member(b"%d %b" % (found[0], encode(Record.of(found[1])))) == found


@given(st.integers(0, 2**52))
def test_metadata_are_read_as_they_were_written(number: int) -> None:
    written = SharedEntry(number, ENTRY)
    assert _decode(DEADLINE + _encode(written)) == (written, 0.0)


@given(st.binary(max_size=200), st.integers(0, 200))
def test_any_bytes_are_metadata_or_nothing(octets: bytes, place: int) -> None:
    assert _decode(octets) is None
    sound = DEADLINE + _encode(SharedEntry(1, ENTRY))
    changed = sound[:place] + octets + sound[place + len(octets) :]
    found = _decode(changed)
    assert found is None or found[0].entry.length >= 0


def test_what_is_too_long_is_no_metadata() -> None:
    assert _decode(DEADLINE + _encode(SharedEntry(1, ENTRY)) + bytes(100_000)) is None
    assert _decode(DEADLINE + _encode(SharedEntry(-1, ENTRY))) is None
    assert _decode(None) is None


async def test_a_folder_knows_how_far_it_has_followed(tmp_path: Path) -> None:
    file = CheckpointFile(tmp_path)
    assert await file.read() is None
    known = Checkpoint(Position("run", 17), 1 << 60)
    await file.write(known)
    assert await file.read() == known
    assert modes(tmp_path) == {"shared": 0o600}


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"position": 5, "line": 1}', bytes(5_000)])
async def test_a_damaged_file_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "shared").write_bytes(content)
    assert await CheckpointFile(tmp_path).read() is None


async def test_without_a_folder_nothing_is_written_down(tmp_path: Path) -> None:
    file = CheckpointFile(None)
    await file.write(Checkpoint(Position("run", 17), 1))
    assert await file.read() is None
    missing = CheckpointFile(tmp_path / "gone")
    await missing.write(Checkpoint(Position("run", 17), 1))
    assert await missing.read() is None


def test_a_change_is_small() -> None:
    assert len(encode(Record.of(Erase("AC" + "a" * 32 + "/")))) < 60
