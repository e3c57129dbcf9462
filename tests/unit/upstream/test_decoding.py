from __future__ import annotations

import gzip
import random
import zlib
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import UpstreamMalformed
from proxy.semantics.content_coding import Coding
from proxy.upstream.decoding import STEP, Decoder


def raw_deflate(body: bytes) -> bytes:
    coder = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return coder.compress(body) + coder.flush()


Encode = Callable[[bytes], bytes]
CODINGS: dict[str, tuple[Coding, Encode]] = {
    "gzip": (Coding.GZIP, gzip.compress),
    "zlib": (Coding.DEFLATE, zlib.compress),
    "raw deflate": (Coding.DEFLATE, raw_deflate),
}
each_coding = pytest.mark.parametrize(("coding", "encode"), CODINGS.values(), ids=CODINGS.keys())

TEXT = b"The quick brown fox jumps over the lazy dog. " * 40


def decoded(coding: Coding, *chunks: bytes) -> bytes:
    decoder = Decoder(coding)
    body = b"".join(step for chunk in chunks for step in decoder.steps(chunk))
    decoder.finish()
    return body


@each_coding
@given(body=st.binary(max_size=3_000), cuts=st.lists(st.integers(1, 200), max_size=30))
def test_a_body_is_undone_however_it_is_cut(coding: Coding, encode: Encode, body: bytes, cuts: list[int]) -> None:
    left, chunks = encode(body), []
    for cut in cuts:
        if left:
            chunks.append(left[:cut])
            left = left[cut:]
    assert decoded(coding, *chunks, *([left] if left else [])) == body


@each_coding
@pytest.mark.parametrize("size", [STEP - 1, STEP, STEP + 1, 3 * STEP, 5_000_000])
@pytest.mark.parametrize("kind", ["repetitive", "random"])
def test_no_step_makes_more_than_its_bound(coding: Coding, encode: Encode, size: int, kind: str) -> None:
    body = bytes(size) if kind == "repetitive" else random.Random(size).randbytes(size)
    decoder = Decoder(coding)
    steps = list(decoder.steps(encode(body)))
    decoder.finish()
    assert b"".join(steps) == body
    assert max(map(len, steps)) <= STEP


def test_bytes_left_by_a_full_step_come_with_the_next() -> None:
    # The stream has taken all its input here when the first step is full, and some bytes are still to come out.
    body = bytes(STEP + 21)
    assert decoded(Coding.DEFLATE, raw_deflate(body)) == body


@each_coding
def test_nothing_is_undone_ahead_of_the_reader(coding: Coding, encode: Encode) -> None:
    steps = Decoder(coding).steps(encode(bytes(100 * STEP)))
    assert len(next(steps)) <= STEP


@each_coding
@given(data=st.data())
def test_a_body_that_ends_early_is_broken(coding: Coding, encode: Encode, data: st.DataObject) -> None:
    coded = encode(TEXT)
    cut = data.draw(st.integers(1, len(coded) - 1))
    with pytest.raises(UpstreamMalformed):
        decoded(coding, coded[:cut])


@each_coding
@pytest.mark.parametrize(
    "more", [b"\0", b"garbage", gzip.compress(b"a second member", mtime=0), zlib.compress(b"a second")]
)
@pytest.mark.parametrize("together", [True, False])
def test_what_comes_after_the_end_is_broken(coding: Coding, encode: Encode, more: bytes, together: bool) -> None:
    coded = encode(TEXT)
    with pytest.raises(UpstreamMalformed):
        decoded(coding, *([coded + more] if together else [coded, more]))


@pytest.mark.parametrize("at", [-1, -4, -5, -8])
def test_a_wrong_checksum_or_length_is_broken(at: int) -> None:
    coded = bytearray(gzip.compress(TEXT))
    coded[at] ^= 1
    with pytest.raises(UpstreamMalformed):
        decoded(Coding.GZIP, bytes(coded))
    if at >= -4:
        coded = bytearray(zlib.compress(TEXT))
        coded[at] ^= 1
        with pytest.raises(UpstreamMalformed):
            decoded(Coding.DEFLATE, bytes(coded))


@pytest.mark.parametrize("coding", [Coding.GZIP, Coding.DEFLATE])
def test_a_body_of_no_bytes_is_empty_in_any_coding(coding: Coding) -> None:
    assert decoded(coding) == b""


def test_a_dictionary_that_nobody_has_is_broken() -> None:
    coder = zlib.compressobj(zdict=b"quick brown fox")
    with pytest.raises(UpstreamMalformed):
        decoded(Coding.DEFLATE, coder.compress(TEXT) + coder.flush())


@given(st.sampled_from([Coding.GZIP, Coding.DEFLATE]), st.lists(st.binary(min_size=1, max_size=60), max_size=5))
def test_any_bytes_are_undone_or_malformed(coding: Coding, chunks: list[bytes]) -> None:
    with suppress(UpstreamMalformed):
        decoded(coding, *chunks)
