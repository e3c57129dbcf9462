"""Calls of the provider's API: documents, deletions, and what a refusal says."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from proxy.errors import (
    MediaNotFound,
    UpstreamBusy,
    UpstreamError,
    UpstreamMalformed,
    UpstreamRefused,
    UpstreamRefusedCredentials,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from proxy.model import MediaRef
from proxy.upstream.client import UpstreamClient
from proxy.upstream.limits import UpstreamLimits
from proxy.upstream.providers import media_path
from proxy.upstream.refusals import MAX_REFUSAL_BYTES
from proxy.upstream.replies import ApiAnswer
from proxy.upstream.transport import Method

if TYPE_CHECKING:
    from tests.functional.upstream.conftest import Connect, RawOrigin

SAID = {
    "code": 20001,
    "message": "Invalid date value.",
    "more_info": "https://www.twilio.com/docs/errors/20001",
    "status": 400,
}


async def get(client: UpstreamClient, ref: MediaRef, rest: str = ".json") -> ApiAnswer:
    return await client.call(client.account(ref.account), Method.GET, media_path(ref) + rest)


async def delete(client: UpstreamClient, ref: MediaRef) -> ApiAnswer:
    return await client.call(client.account(ref.account), Method.DELETE, media_path(ref) + ".json")


# --- documents ------------------------------------------------------------------------------------------------


async def test_a_document_comes_whole_with_its_type(client: UpstreamClient, api: RawOrigin, ref: MediaRef) -> None:
    api.reply("200 OK", b'{"sid": "ME"}', "Content-Type: application/json; charset=utf-8")
    assert await get(client, ref) == ApiAnswer(200, "application/json; charset=utf-8", b'{"sid": "ME"}')
    (request,) = api.requests
    assert request.line == f"GET {media_path(ref)}.json HTTP/1.1"
    assert set(request.fields) == {"host", "user-agent", "accept-encoding", "authorization"}


@pytest.mark.parametrize(
    "query", ["?DateCreated>=2026-01-01&PageSize=2", "?a=%3E%2f&&b=\"'\\^`{|}<>", "?PageToken=PAME%7e~"]
)
async def test_a_query_goes_out_as_it_is(client: UpstreamClient, api: RawOrigin, ref: MediaRef, query: str) -> None:
    api.reply("200 OK", b"{}")
    await get(client, ref, query)
    assert api.requests[0].line == f"GET {media_path(ref)}{query} HTTP/1.1"


# --- refusals -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", Method)
async def test_a_refusal_repeats_the_provider_and_is_not_retried(
    client: UpstreamClient, api: RawOrigin, ref: MediaRef, waits: list[float], method: Method
) -> None:
    api.reply("400 Bad Request", json.dumps(SAID).encode(), "Content-Type: application/json")
    with pytest.raises(UpstreamRefused) as caught:
        await client.call(client.account(ref.account), method, media_path(ref))
    error = caught.value
    assert (error.status, error.answered, error.code) == (502, 400, 20001)
    assert (error.message, error.more_info) == ("Invalid date value.", "https://www.twilio.com/docs/errors/20001")
    assert (len(api.requests), waits) == (1, [])


@pytest.mark.parametrize(
    "answer",
    [
        b"Content-Length: 0\r\n\r\n",
        b"\r\nended by the close alone",
        b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\nxx",
        b"Content-Length: 90\r\n\r\n{",
        f"Content-Length: {MAX_REFUSAL_BYTES + 1}\r\n\r\n".encode() + b" " * (MAX_REFUSAL_BYTES + 1),
        b"Transfer-Encoding: chunked\r\n\r\n" + b"fff0\r\n" + b" " * 0xFFF0 + b"\r\n" + b"fff0\r\n" + b" " * 0xFFF0,
    ],
)
async def test_a_refusal_whose_text_cannot_be_read_is_a_refusal(
    client: UpstreamClient, api: RawOrigin, ref: MediaRef, answer: bytes
) -> None:
    api.script(b"HTTP/1.1 422 No\r\n" + answer, api.close)
    with pytest.raises(UpstreamRefused) as caught:
        await get(client, ref)
    assert (caught.value.answered, caught.value.code) == (422, 20422)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("401 No", UpstreamRefusedCredentials),
        ("403 No", UpstreamRefusedCredentials),
        ("404 No", MediaNotFound),
        ("410 No", MediaNotFound),
        ("408 No", UpstreamError),
        ("500 No", UpstreamError),
        ("201 Made", UpstreamMalformed),
        ("307 Elsewhere", UpstreamMalformed),
    ],
)
async def test_other_statuses_are_what_they_are_for_bytes(
    client: UpstreamClient, api: RawOrigin, ref: MediaRef, status: str, kind: type[UpstreamError]
) -> None:
    api.reply(status, json.dumps(SAID).encode())
    with pytest.raises(kind) as caught:
        await get(client, ref)
    assert not isinstance(caught.value, UpstreamRefused)
    assert len(api.requests) == 1


@pytest.mark.parametrize(("lines", "named"), [((), None), (("Retry-After: 77",), 77), (("Retry-After: 0",), 1)])
async def test_a_429_names_the_wait_that_the_provider_named(
    connect: Connect, api: RawOrigin, ref: MediaRef, lines: tuple[str, ...], named: int | None
) -> None:
    client = await connect()
    api.reply("429 Slow down", b"{}", *lines)
    with pytest.raises(UpstreamBusy) as caught:
        await get(client, ref)
    assert (caught.value.rate_limited, caught.value.wait_named) == (True, named is not None)
    assert caught.value.retry_after == (named or 1)


async def test_a_full_account_is_busy_without_having_been_told_so(
    connect: Connect, api: RawOrigin, ref: MediaRef
) -> None:
    client = await connect(limits=UpstreamLimits(connections_per_account=1, headers_seconds=0.1))
    free = asyncio.Event()
    api.script(free, b"HTTP/1.1 204 Done\r\n\r\n")
    first = asyncio.create_task(delete(client, ref))
    await api.requests_arrive(1)
    with pytest.raises(UpstreamBusy) as caught:
        await delete(client, ref)
    assert not caught.value.rate_limited
    free.set()
    assert (await first).status == 204
    assert len(api.requests) == 1


# --- deletions ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["200 OK", "202 Accepted"])
async def test_a_deletion_is_done_by_204_alone(
    client: UpstreamClient, api: RawOrigin, ref: MediaRef, status: str
) -> None:
    api.reply(status)
    with pytest.raises(UpstreamMalformed):
        await delete(client, ref)
    assert len(api.requests) == 1


async def test_a_deletion_is_one_request_with_credentials(
    client: UpstreamClient, api: RawOrigin, ref: MediaRef
) -> None:
    api.reply("204 No Content")
    assert (await delete(client, ref)).status == 204
    (request,) = api.requests
    assert request.line == f"DELETE {media_path(ref)}.json HTTP/1.1"
    assert request.fields["authorization"].startswith("Basic ")


async def test_rule_5_a_deletion_is_sent_once_despite_broken_connections(
    client: UpstreamClient, api: RawOrigin, ref: MediaRef, waits: list[float]
) -> None:
    for script in ((api.close,), (b"HTTP/1.1 2", api.close)):
        api.script(*script)
        before = len(api.requests)
        with pytest.raises(UpstreamUnreachable):
            await delete(client, ref)
        assert len(api.requests) == before + 1
    assert waits == []


async def test_rule_5_a_deletion_has_a_connection_of_its_own(
    client: UpstreamClient, api: RawOrigin, ref: MediaRef
) -> None:
    api.reply("200 OK", b"{}")
    await get(client, ref)
    await get(client, ref)
    api.reply("204 No Content")
    await delete(client, ref)
    # A kept connection may be closing at its other end; then nobody could tell whether the deletion was carried out.
    assert [request.connection for request in api.requests] == [1, 1, 2]


@pytest.mark.parametrize("status", ["500 No", "502 No", "503 No", "504 No"])
async def test_rule_5_a_deletion_is_not_repeated_after_5xx(
    client: UpstreamClient, api: RawOrigin, ref: MediaRef, waits: list[float], status: str
) -> None:
    api.reply(status, b"", "Retry-After: 1")
    with pytest.raises(UpstreamError):
        await delete(client, ref)
    assert (len(api.requests), waits) == (1, [])


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 204 No Content\r\nX-"])
async def test_rule_5_a_deletion_is_not_repeated_without_an_answer(
    connect: Connect, api: RawOrigin, ref: MediaRef, waits: list[float], head: bytes
) -> None:
    client = await connect(limits=UpstreamLimits(json_seconds=0.2))
    api.script(head, api.await_end)
    with pytest.raises(UpstreamTimeout):
        await delete(client, ref)
    assert (len(api.requests), waits) == (1, [])
    await api.left.wait()


async def test_rule_5_a_deletion_is_sent_again_after_a_429(
    client: UpstreamClient, api: RawOrigin, ref: MediaRef, waits: list[float]
) -> None:
    api.reply("429 Slow down")
    api.reply("429 Slow down", b"", "Retry-After: 2")
    api.reply("204 No Content")
    assert (await delete(client, ref)).status == 204
    assert waits == [0.125, 2.0]


async def test_rule_5_a_deletion_that_is_always_429_is_busy(
    client: UpstreamClient, api: RawOrigin, ref: MediaRef
) -> None:
    api.reply("429 Slow down")
    with pytest.raises(UpstreamBusy):
        await delete(client, ref)
    assert len(api.requests) == 3


async def test_rule_5_a_deletion_is_repeated_without_a_connection(
    connect: Connect, ref: MediaRef, waits: list[float], unused_tcp_port: int
) -> None:
    client = await connect(origin=f"http://127.0.0.1:{unused_tcp_port}", hosts=())
    with pytest.raises(UpstreamUnreachable):
        await delete(client, ref)
    assert waits == [0.125, 0.25]


async def test_a_deletion_that_finds_nothing_is_not_repeated(
    client: UpstreamClient, api: RawOrigin, ref: MediaRef, waits: list[float]
) -> None:
    api.reply("404 Not Found", b"{}")
    with pytest.raises(MediaNotFound):
        await delete(client, ref)
    assert (len(api.requests), waits) == (1, [])


async def test_a_deletion_is_never_redirected(
    client: UpstreamClient, api: RawOrigin, cdn: RawOrigin, ref: MediaRef
) -> None:
    api.redirect(f"{cdn.url}/x")
    with pytest.raises(UpstreamMalformed):
        await delete(client, ref)
    assert cdn.requests == []


async def test_no_call_can_take_longer_than_is_said(connect: Connect) -> None:
    client = await connect(limits=UpstreamLimits(headers_seconds=7, json_seconds=11))
    assert client.longest_call == 30 + 7 + 11
