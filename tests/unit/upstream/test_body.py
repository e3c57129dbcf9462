from __future__ import annotations

import asyncio
from collections.abc import Callable

import aiohttp
import pytest
from aiohttp.client_proto import ResponseHandler

from proxy.errors import UpstreamTimeout, UpstreamTruncated
from proxy.origin import OriginHead
from proxy.semantics.fields import Fields
from proxy.upstream.body import UpstreamBody
from proxy.upstream.replies import UpstreamAnswer


def _stream(*chunks: bytes, ended: bool = True) -> aiohttp.StreamReader:
    loop = asyncio.get_running_loop()
    stream = aiohttp.StreamReader(ResponseHandler(loop), 1 << 20, loop=loop)
    for chunk in chunks:
        stream.feed_data(chunk)
    if ended:
        stream.feed_eof()
    return stream


def _body(stream: aiohttp.StreamReader, length: int | None, total: float = 60.0) -> UpstreamBody:
    return UpstreamBody(stream, None, length=length, most=1_000, idle_seconds=60.0, total_seconds=total)


async def test_the_bytes_that_came_are_counted_against_the_announced_length() -> None:
    assert [chunk async for chunk in _body(_stream(b"hello"), 5).chunks()] == [b"hello"]
    for length in (4, 6):
        with pytest.raises(UpstreamTruncated):
            [chunk async for chunk in _body(_stream(b"hello"), length).chunks()]


async def test_rule_4_total_time_ends_a_body_that_never_stalls() -> None:
    stream = _stream(b"a", ended=False)
    chunks = _body(stream, None, total=0.0).chunks()
    assert await anext(chunks) == b"a"
    stream.feed_data(b"b")
    with pytest.raises(UpstreamTimeout):
        await anext(chunks)


@pytest.mark.parametrize("length", [2, None])
async def test_bytes_that_have_come_are_given_as_one(monkeypatch: pytest.MonkeyPatch, length: int | None) -> None:
    stream = _stream(b"a", b"b")

    async def wait(*_: object) -> bytes:
        pytest.fail("waited")

    monkeypatch.setattr(aiohttp.StreamReader, "_wait", wait)
    assert [chunk async for chunk in _body(stream, length).chunks()] == [b"ab"]


async def test_much_that_came_at_once_is_given_without_a_copy() -> None:
    came = [bytes(65_536), bytes(65_537), b"end"]
    body = UpstreamBody(_stream(*came), None, length=131_076, most=200_000, idle_seconds=60.0, total_seconds=60.0)
    given = [chunk async for chunk in body.chunks()]
    assert given == came
    assert [one is other for one, other in zip(given, came, strict=True)][:2] == [True, True]


async def test_a_body_leaves_no_timer_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    timers, call_at = list[asyncio.TimerHandle](), loop.call_at

    def noted(when: float, callback: Callable[[], object]) -> asyncio.TimerHandle:
        timers.append(call_at(when, callback))
        return timers[-1]

    monkeypatch.setattr(loop, "call_at", noted)
    stream = _stream(ended=False)
    protocol = stream._protocol
    assert isinstance(protocol, ResponseHandler)
    protocol.transport = asyncio.Transport()
    rest = asyncio.ensure_future(anext(_body(stream, None).chunks(), b""))
    await asyncio.sleep(0)
    stream.feed_eof()
    assert await rest == b""
    assert [timer.cancelled() for timer in timers] == [True]


async def test_an_answer_without_a_body_has_no_chunks() -> None:
    answer = UpstreamAnswer(OriginHead(304, Fields(), None, 0.0, 0.0), None)
    assert [chunk async for chunk in answer.chunks()] == []
