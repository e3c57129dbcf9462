"""A body as it arrives, within its limits. A body that ends normally is whole."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Final, Self

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError

from proxy.errors import UpstreamError, UpstreamTimeout, UpstreamTooLarge, UpstreamTruncated
from proxy.semantics.content_coding import Coding
from proxy.upstream.decoding import Decoder

# How often a wait is looked at. aiohttp's parser closes the connection over a broken chunk and leaves the reader of the
# body waiting.
_PULSE_SECONDS: Final = 1.0
_MUCH: Final = 65_536
"""Bytes of one read that are passed on as they are; shorter ones are joined with what came behind them."""


class UpstreamBody:
    """The body of one answer. `length` is the announced one in bytes, None for a chunked body.

    At most `most` bytes are read, and at most as many come out of its `coding`. No wait for the next byte is longer
    than `idle_seconds`, and none begins later than `total_seconds` after the first. `ended` is called once: with None
    if the body has come whole, else with the error that it broke off with. It is not called for a body that the reader
    leaves.
    """

    def __init__(
        self,
        stream: aiohttp.StreamReader,
        protocol: ResponseHandler | None,
        *,
        length: int | None,
        coding: Coding = Coding.NONE,
        most: int,
        idle_seconds: float,
        total_seconds: float,
        ended: Callable[[UpstreamError | None], None] = lambda _: None,
    ) -> None:
        self._stream = stream
        self._protocol = protocol
        self._length = length
        self._decoder = None if coding is Coding.NONE else Decoder(coding)
        self._most = most
        self._idle = idle_seconds
        self._total = total_seconds
        self._overrun = False
        self._ended = ended
        if protocol is not None:
            stream.on_eof(self._at_end)

    @classmethod
    def of(
        cls,
        response: aiohttp.ClientResponse,
        *,
        length: int | None,
        coding: Coding,
        most: int,
        idle_seconds: float,
        total_seconds: float,
        ended: Callable[[UpstreamError | None], None] = lambda _: None,
    ) -> Self:
        """Return the body of an answer whose fields have come."""
        # Once the whole body has come there is no connection: bytes past its end made the parser refuse the answer.
        protocol = response.connection.protocol if response.connection is not None else None
        return cls(
            response.content,
            protocol,
            length=length,
            coding=coding,
            most=most,
            idle_seconds=idle_seconds,
            total_seconds=total_seconds,
            ended=ended,
        )

    def _at_end(self) -> None:
        # The parser tells of bytes past the end only after it has told of the end.
        asyncio.get_running_loop().call_soon(self._look_past_end)

    def _look_past_end(self) -> None:
        self._overrun = self._protocol is not None and isinstance(self._protocol.exception(), HttpProcessingError)

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the bytes as they come, without their content coding.

        Raises `UpstreamTruncated`, `UpstreamTooLarge`, `UpstreamTimeout`, and `UpstreamMalformed` for a broken coding.
        """
        try:
            loop = asyncio.get_running_loop()
            count = undone = 0
            with _Watch(self._stream, self._protocol, loop.time() + self._total, self._idle) as watch:
                while chunk := await self._next(watch):
                    count += len(chunk)
                    if count > self._most:
                        raise UpstreamTooLarge(note=f"more than {self._most} bytes")
                    if self._decoder is None:
                        yield chunk
                    else:
                        for step in self._decoder.steps(chunk):
                            undone += len(step)
                            if undone > self._most:
                                raise UpstreamTooLarge(note=f"more than {self._most} bytes when its coding is undone")
                            yield step
                            # A few bytes may stand for a thousand times as many: others have their turn between steps.
                            await asyncio.sleep(0)
                    if loop.time() >= watch.end:
                        raise UpstreamTimeout(note=f"the body was not whole after {self._total} seconds")
            await asyncio.sleep(0)
            if self._overrun or (self._length is not None and count != self._length):
                raise UpstreamTruncated(note=f"the body is not of the announced length; {count} bytes came")
            if self._decoder is not None:
                self._decoder.finish()
        except UpstreamError as error:
            self._ended(error)
            raise
        self._ended(None)

    async def _next(self, watch: _Watch) -> bytes:
        try:
            if self._length is None:
                # Chunks may be of any size: those that have come are given as one.
                chunk = self._stream.read_nowait()
                if not chunk and not self._stream.at_eof():
                    watch.wait()
                    chunk = await self._stream.readany()
                    watch.rest()
            else:
                # A large chunk is given as it came: joining would cost a copy, and its memory.
                watch.wait()
                chunk, _ = await self._stream.readchunk()
                watch.rest()
                if len(chunk) < _MUCH:
                    chunk += self._stream.read_nowait()
        except _Stalled:
            raise UpstreamTimeout(note="the body stalled, or took too long") from None
        except (aiohttp.ClientError, OSError, RuntimeError) as error:
            # RuntimeError is what aiohttp's stream raises if its connection is gone and its end never came.
            raise UpstreamTruncated(note=f"the body broke off: {type(error).__name__}") from None
        return chunk


class _Stalled(Exception):
    """The end of a wait for bytes that took too long."""


class _Watch:
    """A timer for all the waits of a body, which ends one that takes too long or whose connection is gone.

    `end` is the loop's time at which no wait goes on any more; none takes longer than `idle` seconds.
    """

    def __init__(self, stream: aiohttp.StreamReader, protocol: ResponseHandler | None, end: float, idle: float) -> None:
        self.end = end
        self._stream = stream
        self._protocol = protocol
        self._idle = idle
        self._loop = asyncio.get_running_loop()
        # The time at which the wait that is under way has lasted long enough.
        self._until: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def wait(self) -> None:
        """Begin a wait."""
        now = self._loop.time()
        self._until = min(self.end, now + self._idle)
        if self._timer is None:
            self._set_timer(now, self._until)

    def rest(self) -> None:
        """End the wait. The timer goes on: most waits are much shorter than its own."""
        self._until = None

    def _look(self) -> None:
        self._timer = None
        if self._until is None:
            # The next wait sets it again.
            return
        now = self._loop.time()
        if now >= self._until:
            self._stream.set_exception(_Stalled())
        elif self._protocol is not None and not self._protocol.connected:
            self._stream.set_exception(ConnectionError())
        else:
            self._set_timer(now, self._until)

    def _set_timer(self, now: float, until: float) -> None:
        self._timer = self._loop.call_at(min(until, now + _PULSE_SECONDS), self._look)
