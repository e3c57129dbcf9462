"""A body is whole, or it is an error: framing, sizes, stalls, cancellation."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from proxy.errors import UpstreamError, UpstreamMalformed, UpstreamTimeout, UpstreamTooLarge, UpstreamTruncated
from proxy.model import MediaRef
from proxy.upstream.client import UpstreamClient
from proxy.upstream.limits import UpstreamLimits

if TYPE_CHECKING:
    from tests.functional.upstream.conftest import Connect, Part, RawOrigin

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


async def fetch(client: UpstreamClient, ref: MediaRef) -> bytes:
    async with client.open(ref) as answer:
        return b"".join([chunk async for chunk in answer.chunks()])


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"Content-Length: 5\r\n\r\nhello",
        b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + OK + b"Content-Length: 5\r\n\r\nhello",
        OK + b"Content-Encoding: identity\r\nContent-Length: 5\r\n\r\nhello",
        CHUNKED + b"5\r\nhello\r\n0\r\n\r\n",
        CHUNKED + b"2;x=y\r\nhe\r\n3\r\nllo\r\n0\r\nTrailer: x\r\n\r\n",
    ],
)
async def test_a_whole_body_is_an_answer(client: UpstreamClient, api: RawOrigin, ref: MediaRef, answer: bytes) -> None:
    api.script(answer)
    assert await fetch(client, ref) == b"hello"


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        OK + b"Content-Length: 5, 6\r\n\r\nhello!",
        OK + b"Content-Length: -5\r\n\r\nhello",
        OK + b"Content-Length: +5\r\n\r\nhello",
        OK + b"Content-Length: five\r\n\r\nhello",
        OK + b"Content-Length:\r\n\r\nhello",
        OK + b"Content-Length: 99999999999999999999999999\r\n\r\nhello",
        OK + b"Content-Length : 5\r\n\r\nhello",
        OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: identity\r\n\r\nhello",
        OK + b"Transfer-Encoding:\x0bchunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        OK + b"Content-Encoding: br\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        OK + b"Connection: close\r\n\r\nhello",
        OK + b"\r\nhello",
        b"HTTP/1.0 200 OK\r\n\r\nhello",
        OK + b"Content-Length: 3\r\n\r\nhello",
        b"HTTP/9.9 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"hello\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    ],
)
async def test_rfc9112_6_3_an_answer_without_clear_end_is_malformed(
    client: UpstreamClient, api: RawOrigin, ref: MediaRef, answer: bytes
) -> None:
    api.script(answer, api.close)
    with pytest.raises(UpstreamMalformed) as caught:
        await fetch(client, ref)
    assert caught.value.status == 502
    assert len(api.requests) == 1


@pytest.mark.parametrize(
    "rest",
    [
        [OK + b"Content-Length: 9\r\n\r\nhello"],
        [CHUNKED + b"5\r\nhel"],
        [CHUNKED + b"5\r\nhello\r\n"],
        [CHUNKED + b"5\r\nhello\r\n0\r\n"],
    ],
)
async def test_a_body_that_is_cut_is_truncated(
    client: UpstreamClient, api: RawOrigin, ref: MediaRef, rest: list[bytes]
) -> None:
    api.script(*rest, api.close)
    with pytest.raises(UpstreamTruncated):
        await fetch(client, ref)


@pytest.mark.parametrize(
    ("head", "tail"),
    [
        (OK + b"Content-Length: 8\r\n\r\nhello", b"you and more"),
        (CHUNKED + b"5\r\nhello\r\n", b"zz\r\nyou\r\n0\r\n\r\n"),
        (CHUNKED + b"5\r\nhello\r\n", b"-3\r\nyou\r\n0\r\n\r\n"),
        (CHUNKED + b"5\r\nhello\r\n", b"3\r\nyou, longer than the chunk\r\n0\r\n\r\n"),
    ],
)
@pytest.mark.parametrize("waiting", [True, False])
async def test_a_body_that_breaks_its_own_framing_later_is_truncated(
    client: UpstreamClient, api: RawOrigin, ref: MediaRef, head: bytes, tail: bytes, waiting: bool
) -> None:
    gate = asyncio.Event()
    api.script(head, gate, tail, api.await_end)
    async with client.open(ref) as answer:
        chunks = answer.chunks()
        assert await anext(chunks) == b"hello"

        async def rest() -> None:
            async for _ in chunks:
                pass

        reader = asyncio.create_task(rest()) if waiting else None
        await asyncio.sleep(0)
        gate.set()
        if reader is None:
            await api.left.wait()
        with pytest.raises(UpstreamTruncated):
            await (reader or rest())


async def test_rule_4_a_too_large_announced_length_is_refused_unread(
    connect: Connect, api: RawOrigin, ref: MediaRef
) -> None:
    client = await connect(limits=UpstreamLimits(max_media_bytes=4))
    api.script(OK + b"Content-Length: 5\r\n\r\n", api.await_end)
    with pytest.raises(UpstreamTooLarge):
        await fetch(client, ref)
    await api.left.wait()


async def test_rule_4_bytes_are_also_counted(connect: Connect, api: RawOrigin, ref: MediaRef) -> None:
    client = await connect(limits=UpstreamLimits(max_media_bytes=7))
    api.script(CHUNKED, *[b"4\r\nbyte\r\n"] * 2, api.await_end)
    with pytest.raises(UpstreamTooLarge):
        await fetch(client, ref)
    await api.left.wait()


async def test_rule_4_a_body_of_exactly_the_limit_is_whole(connect: Connect, api: RawOrigin, ref: MediaRef) -> None:
    client = await connect(limits=UpstreamLimits(max_media_bytes=5))
    api.script(CHUNKED + b"5\r\nhello\r\n0\r\n\r\n")
    assert await fetch(client, ref) == b"hello"


@pytest.mark.parametrize("limits", [UpstreamLimits(idle_seconds=0.2), UpstreamLimits(total_seconds=0.2)])
@pytest.mark.parametrize("head", [OK + b"Content-Length: 9\r\n\r\nhello", CHUNKED + b"5\r\nhello\r\n"])
async def test_rule_4_a_stalled_body_is_504_and_closes(
    connect: Connect, api: RawOrigin, ref: MediaRef, limits: UpstreamLimits, head: bytes
) -> None:
    client = await connect(limits=limits)
    api.script(head, api.await_end)
    with pytest.raises(UpstreamTimeout) as caught:
        await fetch(client, ref)
    assert caught.value.status == 504
    await api.left.wait()


async def test_a_pause_within_the_limits_does_not_end_a_body(
    monkeypatch: pytest.MonkeyPatch, client: UpstreamClient, api: RawOrigin, ref: MediaRef
) -> None:
    monkeypatch.setattr("proxy.upstream.body._PULSE_SECONDS", 0.0)  # each turn of the loop looks
    gate = asyncio.Event()
    api.script(OK + b"Content-Length: 5\r\n\r\nhel", gate, b"lo")
    task = asyncio.create_task(fetch(client, ref))
    await api.requests_arrive(1)
    for _ in range(20):
        await asyncio.sleep(0)
    gate.set()
    assert await task == b"hello"


async def test_a_large_closing_body_is_whole_for_a_slow_reader(
    client: UpstreamClient, api: RawOrigin, ref: MediaRef
) -> None:
    body = bytes(range(256)) * 16_384
    api.script(OK + f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body, api.close)
    received = bytearray()
    async with client.open(ref) as answer:
        assert answer.head.length == len(body)
        async for chunk in answer.chunks():
            received += chunk
            await asyncio.sleep(0)
    assert received == body


@pytest.mark.parametrize("parts", [[OK + b"Content-Length: 9\r\n\r\nhello"], [b""]])
async def test_cancellation_closes_the_connection_and_frees_its_place(
    connect: Connect, api: RawOrigin, ref: MediaRef, parts: list[Part]
) -> None:
    client = await connect(limits=UpstreamLimits(connections_per_account=1))
    api.script(*parts, api.await_end)
    api.reply("200 OK", b"again")
    task = asyncio.create_task(fetch(client, ref))
    await api.requests_arrive(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await api.left.wait()
    assert await fetch(client, ref) == b"again"


async def test_leaving_an_answer_unread_closes_its_connection(
    client: UpstreamClient, api: RawOrigin, ref: MediaRef
) -> None:
    api.script(OK + b"Content-Length: 9\r\n\r\nhello", api.await_end)
    async with client.open(ref) as answer:
        assert answer.head.status == 200
    await api.left.wait()


async def test_closing_the_client_closes_its_connections(connect: Connect, api: RawOrigin, ref: MediaRef) -> None:
    client = await connect()
    api.reply("200 OK", b"hello")
    await fetch(client, ref)
    await client.__aexit__(None, None, None)
    await api.left.wait()


async def test_a_failure_after_the_first_byte_is_never_tried_again(
    client: UpstreamClient, api: RawOrigin, ref: MediaRef
) -> None:
    api.script(OK + b"Content-Length: 9\r\n\r\nhello", api.close)
    api.reply("200 OK", b"whole now")
    with pytest.raises(UpstreamError):
        await fetch(client, ref)
    assert len(api.requests) == 1
