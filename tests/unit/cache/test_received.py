"""Pieces of a body as they came, against the bytes that they are."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxy.cache.received import Received


@given(st.lists(st.integers(1, 40_000), max_size=8), st.data())
def test_every_part_that_is_held_is_read_as_it_came(sizes: list[int], data: st.DataObject) -> None:
    received, came = Received(), b""
    for n, size in enumerate(sizes):
        piece = (bytes([n]) + bytes(size))[:size]
        received.append(piece)
        came += piece
        dropped = data.draw(st.integers(0, len(received)))
        received.drop(dropped)
        assert len(received) == len(came) - received.begins
        assert (received.ends, received.whole()) == (len(came), came[received.begins :])
        assert b"".join(received.pieces()) == came[received.begins :]
        offset = data.draw(st.integers(received.begins, received.ends))
        most = data.draw(st.integers(1, 50_000))
        part = bytes(received.read(offset, most))
        assert part == came[offset : offset + len(part)]
        assert (len(part) > 0) == (offset < len(came))
        assert len(part) <= most


def test_bytes_that_come_one_by_one_make_few_pieces() -> None:
    received = Received()
    for n in range(40_000):
        received.append(bytes([n % 256]))
    assert len(received.pieces()) == 3
    assert received.whole() == (bytes(range(256)) * 157)[:40_000]


def test_pieces_that_were_taken_stay_as_they_were() -> None:
    received = Received()
    received.append(b"abc")
    taken = received.pieces()
    received.append(b"def")
    received.drop(3)
    assert taken == (b"abc",)
    assert received.pieces() == (b"def",)
