"""Content codings undone as the bytes come, in bounded steps: no input makes more of a step than `STEP` bytes."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final

from proxy.errors import UpstreamMalformed
from proxy.semantics.content_coding import Coding

STEP: Final = 262_144
"""The most bytes that one step makes, which takes about a millisecond."""
_INPUT: Final = 65_536
"""Bytes that are looked at together: what a step leaves of them is copied for the next one."""

_GZIP: Final = 16 + zlib.MAX_WBITS
_ZLIB: Final = zlib.MAX_WBITS
_RAW: Final = -zlib.MAX_WBITS


class Decoder:
    """The undoing of one body that has this coding. A body of no bytes is empty in any coding."""

    def __init__(self, coding: Coding) -> None:
        self._coding = coding
        self._begun = b""
        self._stream: zlib._Decompress | None = None

    def steps(self, chunk: bytes) -> Iterator[bytes]:
        """Yield what the next bytes of the body stand for, at most `STEP` bytes at a time.

        Raises `UpstreamMalformed` for bytes that are not of the coding, also for those past its end: a second gzip
        member is one of these, since clients differ in whether they read it.
        """
        if self._stream is None:
            chunk = self._begun + chunk
            self._stream = _stream(self._coding, chunk)
            if self._stream is None:
                self._begun = chunk
                return
        for at in range(0, len(chunk), _INPUT):
            yield from self._undo(self._stream, chunk[at : at + _INPUT])

    def finish(self) -> None:
        """Raise `UpstreamMalformed` if the body ended before its coding did."""
        if self._begun if self._stream is None else not self._stream.eof:
            raise self._broken("it ends too early")

    def _undo(self, stream: zlib._Decompress, left: bytes) -> Iterator[bytes]:
        full = False
        while left or full:
            if stream.eof:
                raise self._broken("bytes come after its end")
            try:
                made = stream.decompress(left, STEP)
            except zlib.error as error:
                raise self._broken(str(error)) from None
            # A full step may have left some of its bytes within the stream although it has taken all its input.
            left, full = stream.unused_data or stream.unconsumed_tail, len(made) == STEP and not stream.eof
            if made:
                yield made

    def _broken(self, reason: str) -> UpstreamMalformed:
        name = self._coding.value
        return UpstreamMalformed(f"The upstream's {name} body is broken or incomplete.", note=f"{name}: {reason}")


def _stream(coding: Coding, beginning: bytes) -> zlib._Decompress | None:
    """Return the decompressor for a body with that beginning; None if more of it has to be seen."""
    if coding is Coding.GZIP:
        return zlib.decompressobj(_GZIP)
    if len(beginning) < 2:
        return None
    # Some senders leave the zlib format's head away (RFC 9110 §8.4.1.2). A raw stream does not begin like one: its
    # first block would be a stored one whose padding is not zero (RFC 1950 §2.2, RFC 1951 §3.2.4).
    method, flags = beginning[0], beginning[1]
    is_zlib = method & 0x0F == 8 and method >> 4 <= 7 and (method << 8 | flags) % 31 == 0
    return zlib.decompressobj(_ZLIB if is_zlib else _RAW)
