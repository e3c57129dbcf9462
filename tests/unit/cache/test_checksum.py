"""The checksum of bodies: the same in one piece, in many and from a file, and another after any change of a bit."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.cache.checksum import Checksum, checksum, checksum_of_file


@given(st.lists(st.binary(max_size=2_000), max_size=5))
def test_the_checksum_of_pieces_is_that_of_the_whole(pieces: list[bytes]) -> None:
    running = Checksum()
    for n, piece in enumerate(pieces):
        running.update(memoryview(piece) if n % 2 else piece)
    assert running.text() == checksum(b"".join(pieces))


@given(st.binary(min_size=1, max_size=2_000), st.data())
def test_a_changed_bit_changes_the_checksum(content: bytes, data: st.DataObject) -> None:
    changed = bytearray(content)
    changed[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert checksum(bytes(changed)) != checksum(content)


@pytest.mark.parametrize("size", [0, 1, 262_144, 600_001])
def test_the_checksum_of_a_file_is_that_of_its_bytes(tmp_path: Path, size: int) -> None:
    content = bytes(n % 251 for n in range(size))
    path = tmp_path / "body"
    path.write_bytes(content)
    assert checksum_of_file(os.open(path, os.O_RDONLY)) == checksum(content)


def test_a_body_on_disk_is_sound_to_later_versions() -> None:
    assert checksum(b"") == "99aa06d3014798d86001c324468d497f"
    assert checksum(b"a stored body") == "816a409a0da5119f1a4af685bdfda557"
