"""Pieces of a body as they came, against the bytes that they are."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxy.cache.fills.buffer import Buffer


@given(st.lists(st.integers(1, 40_000), max_size=8), st.data())
def test_every_part_that_is_held_is_read_as_it_came(sizes: list[int], data: st.DataObject) -> None:
    received, came = Buffer(), b""
    for n, size in enumerate(sizes):
        piece = (bytes([n]) + bytes(size))[:size]
        received.append(piece)
        came += piece
        dropped = data.draw(st.integers(0, len(received)))
        received.drop(dropped)
        assert len(received) == len(came) - received.begins
        assert (received.ends, received.whole()) == (len(came), came[received.begins :])
        since = data.draw(st.integers(received.begins, max(received.begins, len(came) - 1)))
        if received:
            assert b"".join(received.pieces(since)) == came[since:]
        offset = data.draw(st.integers(received.begins, received.ends))
        most = data.draw(st.integers(1, 50_000))
        part = bytes(received.read(offset, most))
        assert part == came[offset : offset + len(part)]
        assert (len(part) > 0) == (offset < len(came))
        assert len(part) <= most


def test_bytes_that_come_one_by_one_make_few_pieces() -> None:
    received = Buffer()
    for n in range(40_000):
        received.append(bytes([n % 256]))
    assert len(received.pieces(0)) == 3
    assert received.whole() == (bytes(range(256)) * 157)[:40_000]


def test_pieces_that_were_taken_stay_as_they_were() -> None:
    received = Buffer()
    received.append(b"abc")
    taken = received.pieces(0)
    received.append(b"def")
    received.drop(3)
    assert taken == (b"abc",)
    assert received.pieces(3) == (b"def",)


@given(st.lists(st.integers(1, 40_000), min_size=1, max_size=8), st.data())
def test_whole_pieces_are_dropped_up_to_an_offset(sizes: list[int], data: st.DataObject) -> None:
    received = Buffer()
    for size in sizes:
        received.append(bytes(size))
    received.drop(data.draw(st.integers(0, len(received))))
    began = received.begins
    until = data.draw(st.integers(-10, received.ends + 10))
    dropped = received.drop_until(until)
    assert (received.begins, len(received)) == (began + dropped, sum(sizes) - began - dropped)
    assert dropped == 0 or received.begins <= until
    # The next one goes on past it.
    assert not received or len(received.pieces(received.begins)[0]) > until - received.begins
    assert received.drop_until(received.ends) == sum(sizes) - began - dropped
    assert not received
