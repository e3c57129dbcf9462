"""The requests of the client, and the places where its credentials go."""

from __future__ import annotations

import asyncio
import base64
import logging
import socket
import traceback
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import aiohttp
import pytest
from aiohttp.abc import ResolveResult

from proxy.errors import (
    MediaNotFound,
    UpstreamBusy,
    UpstreamError,
    UpstreamMalformed,
    UpstreamRedirectRefused,
    UpstreamRefusedCredentials,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from proxy.model import MediaRef, MediaSid, MessageSid
from proxy.origin import Origin, OriginHead, Validators
from proxy.upstream.client import UpstreamClient
from proxy.upstream.limits import UpstreamLimits
from proxy.upstream.providers import media_path
from proxy.upstream.retry import RetryPolicy

if TYPE_CHECKING:
    from tests.functional.upstream.conftest import Connect, RawOrigin

SIGNED = "/m?Expires=1800014400&Signature=s3cret~a%7Eb-_&Key-Pair-Id=K"


async def fetch(
    origin: Origin, ref: MediaRef, validators: Validators | None = None, *, young: bool = False
) -> tuple[OriginHead, bytes]:
    async with origin.open(ref, validators, young=young) as answer:
        return answer.head, b"".join([chunk async for chunk in answer.chunks()])


# --- the first hop --------------------------------------------------------------------------------------------


async def test_rule_1_and_3_the_first_request_asks_for_identity(
    client: UpstreamClient, api: RawOrigin, ref: MediaRef
) -> None:
    api.reply("200 OK", b"hello", "Content-Type: image/png", "X-Odd: \xe9")
    head, body = await fetch(client, ref)
    assert (head.status, head.length, body) == (200, 5, b"hello")
    assert head.fields.first("x-odd") == "\xe9"
    assert head.requested_at == head.answered_at == 1_800_000_000.0
    (request,) = api.requests
    assert request.line == f"GET {media_path(ref)} HTTP/1.1"
    assert set(request.fields) == {"host", "user-agent", "accept-encoding", "authorization"}
    assert request.fields["accept-encoding"] == "identity"
    assert request.fields["user-agent"].startswith("media-gateway/")
    scheme, _, token = request.fields["authorization"].partition(" ")
    assert scheme == "Basic"
    assert base64.b64decode(token).decode() == f"{ref.account}:pass:word-that-never-leaks"


async def test_an_account_that_is_not_configured_is_never_asked_for(
    client: UpstreamClient, api: RawOrigin, ref: MediaRef
) -> None:
    other = MediaRef.parse("AC" + "0" * 32, str(ref.message), str(ref.media))
    with pytest.raises(MediaNotFound):
        await fetch(client, other)
    assert api.requests == []


async def test_rule_3_no_cookie_is_ever_sent_back(connect: Connect, api: RawOrigin, ref: MediaRef) -> None:
    client = await connect(origin=f"http://localhost:{api.port}")
    api.reply("200 OK", b"hello", "Set-Cookie: a=b; Path=/")
    await fetch(client, ref)
    await fetch(client, ref)
    assert [request.fields.get("cookie") for request in api.requests] == [None, None]


async def test_rule_3_no_proxy_of_the_environment_is_used(
    monkeypatch: pytest.MonkeyPatch, connect: Connect, api: RawOrigin, cdn: RawOrigin, ref: MediaRef
) -> None:
    monkeypatch.setenv("HTTP_PROXY", cdn.url)
    monkeypatch.setenv("http_proxy", cdn.url)
    api.reply("200 OK", b"hello")
    assert (await fetch(await connect(), ref))[1] == b"hello"
    assert cdn.requests == []


async def test_an_empty_media_is_whole(client: UpstreamClient, api: RawOrigin, ref: MediaRef) -> None:
    api.reply("200 OK")
    head, body = await fetch(client, ref)
    assert (head.length, body) == (0, b"")


# --- redirects ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_rule_2_a_redirect_is_followed_exactly_without_credentials(
    client: UpstreamClient, api: RawOrigin, cdn: RawOrigin, ref: MediaRef, status: int
) -> None:
    api.redirect(cdn.url + SIGNED, status)
    cdn.reply("200 OK", b"hello", 'ETag: "e"')
    head, body = await fetch(client, ref)
    assert body == b"hello"
    assert head.fields.first("ETag") == '"e"'
    (request,) = cdn.requests
    assert request.line == f"GET {SIGNED} HTTP/1.1"
    assert set(request.fields) == {"host", "user-agent", "accept-encoding"}


async def test_a_redirect_with_a_body_keeps_the_origin_s_connection(
    client: UpstreamClient, api: RawOrigin, cdn: RawOrigin, ref: MediaRef
) -> None:
    api.script(
        f"HTTP/1.1 307 Elsewhere\r\nLocation: {cdn.url}/m\r\nContent-Length: 3\r\n\r\n".encode(), api.turns, b"<x>"
    )
    cdn.reply("200 OK", b"hello")
    await fetch(client, ref)
    await fetch(client, ref)
    assert [request.connection for request in api.requests + cdn.requests] == [1, 1, 1, 1]


async def test_a_redirect_whose_own_body_breaks_off_is_followed(
    client: UpstreamClient, api: RawOrigin, cdn: RawOrigin, ref: MediaRef
) -> None:
    location = f"HTTP/1.1 307 Elsewhere\r\nLocation: {cdn.url}/m\r\n"
    api.script(f"{location}Content-Length: 9\r\n\r\n<els".encode(), api.close)
    cdn.reply("200 OK", b"hello")
    assert (await fetch(client, ref))[1] == b"hello"


async def test_rule_2_at_most_three_redirects_are_followed(
    client: UpstreamClient, api: RawOrigin, cdn: RawOrigin, ref: MediaRef
) -> None:
    api.redirect(f"{cdn.url}/1")
    cdn.redirect("/2")
    cdn.redirect("3")
    cdn.reply("200 OK", b"hello")
    assert (await fetch(client, ref))[1] == b"hello"
    assert [request.line.split()[1] for request in cdn.requests] == ["/1", "/2", "/3"]


async def test_rule_2_an_endless_redirect_is_refused(
    client: UpstreamClient, api: RawOrigin, cdn: RawOrigin, ref: MediaRef
) -> None:
    api.redirect(f"{cdn.url}/1")
    cdn.redirect("/2")
    with pytest.raises(UpstreamRedirectRefused):
        await fetch(client, ref)
    assert len(cdn.requests) == 3


async def test_rule_2_an_unlisted_place_never_sees_a_request(
    client: UpstreamClient, api: RawOrigin, make_origin: Callable[[], Awaitable[RawOrigin]], ref: MediaRef
) -> None:
    other = await make_origin()
    other.reply("200 OK", b"secret")
    api.redirect(f"{other.url}/m?Signature=s3cret")
    with pytest.raises(UpstreamRedirectRefused) as caught:
        await fetch(client, ref)
    assert other.requests == []
    assert "s3cret" not in caught.value.note + caught.value.detail


async def test_rule_2_only_the_media_s_path_keeps_the_credentials(
    client: UpstreamClient, api: RawOrigin, ref: MediaRef
) -> None:
    api.redirect(media_path(ref) + "?again=1")
    api.reply("200 OK", b"hello")
    assert (await fetch(client, ref))[1] == b"hello"
    assert all("authorization" in request.fields for request in api.requests)


async def test_rule_2_another_path_of_the_origin_gets_no_credentials(
    connect: Connect, api: RawOrigin, ref: MediaRef
) -> None:
    client = await connect(hosts=(("127.0.0.1", api.port),))
    api.redirect("/elsewhere")
    api.reply("200 OK", b"hello")
    assert (await fetch(client, ref))[1] == b"hello"
    assert ["authorization" in request.fields for request in api.requests] == [True, False]


@pytest.mark.parametrize("lines", ["", "Location: /a\r\nLocation: /b\r\n", "Location: /a\x01\r\n", "Location:\r\n"])
async def test_a_redirect_without_one_usable_location_is_malformed(
    client: UpstreamClient, api: RawOrigin, ref: MediaRef, lines: str
) -> None:
    api.script(f"HTTP/1.1 307 Elsewhere\r\n{lines}Content-Length: 0\r\n\r\n".encode())
    with pytest.raises(UpstreamMalformed):
        await fetch(client, ref)
    assert len(api.requests) == 1


# --- addresses ------------------------------------------------------------------------------------------------


async def test_rule_2_a_listed_name_leading_to_loopback_is_refused(
    connect: Connect, api: RawOrigin, cdn: RawOrigin, ref: MediaRef
) -> None:
    # Written without a port, so plain http and loopback are not allowed for it.
    client = await connect(hosts=(("localhost", None),))
    api.redirect("https://localhost/m")
    with pytest.raises(UpstreamRedirectRefused):
        await fetch(client, ref)


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["127.0.0.1", "10.0.0.1", "169.254.169.254"]])
async def test_rule_2_an_origin_rebound_to_private_gets_no_connection(
    monkeypatch: pytest.MonkeyPatch, connect: Connect, api: RawOrigin, ref: MediaRef, addresses: list[str]
) -> None:
    async def resolve(
        _: object, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(hostname=host, host=address, port=port, family=socket.AF_INET, proto=0, flags=0)
            for address in addresses
        ]

    monkeypatch.setattr(aiohttp.DefaultResolver, "resolve", resolve)
    client = await connect(origin=f"https://api.rebound.example:{api.port}", hosts=())
    with pytest.raises(UpstreamUnreachable) as caught:
        await fetch(client, ref)
    assert "not public" in caught.value.note
    assert api.connections == 0


async def test_rule_2_exempting_one_origin_opens_no_other_port(
    connect: Connect, api: RawOrigin, cdn: RawOrigin, ref: MediaRef
) -> None:
    client = await connect(hosts=(("localhost", None), ("127.0.0.1", cdn.port)))
    api.redirect(f"https://localhost:{cdn.port}/m")
    with pytest.raises(UpstreamRedirectRefused):
        await fetch(client, ref)
    assert cdn.requests == []


# --- statuses -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [401, 403])
async def test_rule_7_refused_credentials_are_502_and_logged_as_error(
    client: UpstreamClient, api: RawOrigin, ref: MediaRef, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    api.reply(f"{status} No", b"{}")
    with pytest.raises(UpstreamRefusedCredentials) as caught:
        await fetch(client, ref)
    assert caught.value.status == 502
    assert len(api.requests) == 1
    (record,) = [record for record in caplog.records if record.name == "media_gateway.upstream"]
    assert record.levelno == logging.ERROR
    assert str(ref.account) in record.getMessage()


@pytest.mark.parametrize("status", [400, 401])
async def test_a_refusal_of_the_cdn_is_not_about_the_credentials(
    client: UpstreamClient, api: RawOrigin, cdn: RawOrigin, ref: MediaRef, status: int
) -> None:
    api.redirect(f"{cdn.url}/m")
    cdn.reply(f"{status} No", b"<Error/>")
    with pytest.raises(UpstreamError) as caught:
        await fetch(client, ref)
    assert type(caught.value) is UpstreamError
    assert len(api.requests) == 1


async def test_rule_5_a_cdn_s_403_repeats_the_first_hop(
    client: UpstreamClient, api: RawOrigin, cdn: RawOrigin, ref: MediaRef, waits: list[float]
) -> None:
    api.redirect(f"{cdn.url}/1")
    api.redirect(f"{cdn.url}/2")
    cdn.reply("403 Expired", b"<Error/>")
    cdn.reply("200 OK", b"hello")
    assert (await fetch(client, ref))[1] == b"hello"
    assert [request.line.split()[1] for request in cdn.requests] == ["/1", "/2"]
    assert waits == [0.0]


async def test_rule_5_a_second_403_of_the_cdn_is_502(
    client: UpstreamClient, api: RawOrigin, cdn: RawOrigin, ref: MediaRef
) -> None:
    api.redirect(f"{cdn.url}/1")
    cdn.reply("403 Expired", b"<Error/>")
    with pytest.raises(UpstreamError) as caught:
        await fetch(client, ref)
    assert type(caught.value) is UpstreamError
    assert len(api.requests) == len(cdn.requests) == 2


@pytest.mark.parametrize("status", [404, 410])
async def test_a_media_that_is_gone_is_asked_for_once(
    client: UpstreamClient, api: RawOrigin, ref: MediaRef, waits: list[float], status: int
) -> None:
    api.reply(f"{status} Gone", b"{}")
    with pytest.raises(MediaNotFound):
        await fetch(client, ref)
    assert len(api.requests) == 1
    assert waits == []


async def test_rule_5_a_young_message_s_404_is_repeated_twice(
    connect: Connect, api: RawOrigin, ref: MediaRef, waits: list[float]
) -> None:
    client = await connect(monotonic=lambda: sum(waits))
    api.reply("404 Not yet", b"{}")
    api.reply("404 Not yet", b"{}")
    api.reply("200 OK", b"hello")
    assert (await fetch(client, ref, young=True))[1] == b"hello"
    assert waits == [1.0, 3.0]


async def test_rule_5_a_fresh_404_that_lasts_is_not_found(
    connect: Connect, api: RawOrigin, cdn: RawOrigin, ref: MediaRef, waits: list[float]
) -> None:
    client = await connect(monotonic=lambda: sum(waits))
    api.redirect(f"{cdn.url}/m")
    cdn.reply("404 No", b"<Error/>")
    with pytest.raises(MediaNotFound):
        await fetch(client, ref, young=True)
    assert waits == [1.0, 3.0]
    assert len(cdn.requests) == 3


async def test_media_invented_after_their_message_s_waits_cost_one_request(
    connect: Connect, api: RawOrigin, ref: MediaRef, waits: list[float]
) -> None:
    client = await connect(monotonic=lambda: sum(waits))
    api.reply("404 No", b"{}")
    for number in range(6):
        with pytest.raises(MediaNotFound):
            await fetch(client, ref.parent.media(MediaSid.parse(f"ME{number:032x}")), young=True)
    assert waits == [1.0, 3.0]
    assert len(api.requests) == 3 + 5


async def test_another_message_has_waits_of_its_own(
    connect: Connect, api: RawOrigin, ref: MediaRef, waits: list[float]
) -> None:
    client = await connect(monotonic=lambda: sum(waits))
    api.reply("404 No", b"{}")
    other = MediaRef(ref.account, MessageSid.parse("MM" + "0" * 32), ref.media)
    for asked in (ref, other):
        with pytest.raises(MediaNotFound):
            await fetch(client, asked, young=True)
    assert waits == [1.0, 3.0, 1.0, 3.0]


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_rule_5_a_passing_failure_is_retried_with_jitter(
    client: UpstreamClient, api: RawOrigin, ref: MediaRef, waits: list[float], status: int
) -> None:
    api.reply(f"{status} Passing", b"<html/>")
    api.reply(f"{status} Passing", b"<html/>")
    api.reply("200 OK", b"hello")
    assert (await fetch(client, ref))[1] == b"hello"
    assert waits == [0.125, 0.25]


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_a_failure_of_the_upstream_that_lasts_is_a_502(
    client: UpstreamClient, api: RawOrigin, ref: MediaRef, status: int
) -> None:
    api.reply(f"{status} Broken", b"<html/>")
    with pytest.raises(UpstreamError) as caught:
        await fetch(client, ref)
    assert type(caught.value) is UpstreamError
    assert caught.value.status == 502
    assert len(api.requests) == (1 if status == 500 else 3)


async def test_rule_5_a_429_is_retried_after_its_time(
    client: UpstreamClient, api: RawOrigin, ref: MediaRef, waits: list[float]
) -> None:
    api.reply("429 Busy", b"{}", "Retry-After: 2")
    api.reply("200 OK", b"hello")
    assert (await fetch(client, ref))[1] == b"hello"
    assert waits == [2.0]


async def test_rule_5_a_429_naming_too_long_is_passed_on(
    client: UpstreamClient, api: RawOrigin, ref: MediaRef, waits: list[float]
) -> None:
    api.reply("429 Busy", b"{}", "Retry-After: 99")
    with pytest.raises(UpstreamBusy) as caught:
        await fetch(client, ref)
    assert (caught.value.status, caught.value.retry_after) == (503, 99)
    assert len(api.requests) == 1
    assert waits == []


@pytest.mark.parametrize("status", ["201 Created", "204 No Content", "206 Partial Content", "300 Choices", "305 Proxy"])
async def test_a_status_that_was_not_asked_for_is_malformed(
    client: UpstreamClient, api: RawOrigin, ref: MediaRef, status: str
) -> None:
    api.reply(status, b"", "Content-Range: bytes 0-4/5")
    with pytest.raises(UpstreamMalformed):
        await fetch(client, ref)


# --- validation -----------------------------------------------------------------------------------------------


async def test_rule_3_our_validators_are_sent_and_304_answers(
    client: UpstreamClient, api: RawOrigin, cdn: RawOrigin, ref: MediaRef
) -> None:
    api.redirect(f"{cdn.url}/m")
    cdn.script(b'HTTP/1.1 304 Not Modified\r\nETag: "e"\r\nContent-Length: 5\r\n\r\n')
    date = "Sun, 06 Nov 1994 08:49:37 GMT"
    head, body = await fetch(client, ref, Validators('"e"', date))
    assert (head.status, head.length, body) == (304, None, b"")
    assert cdn.requests[0].fields["if-none-match"] == '"e"'
    assert cdn.requests[0].fields["if-modified-since"] == date


@pytest.mark.parametrize(
    "validators", [None, Validators(None, None), Validators('"\xe9"', "a\r\nX: b"), Validators('"\x01"', "")]
)
async def test_a_304_to_a_request_without_conditions_is_malformed(
    client: UpstreamClient, api: RawOrigin, ref: MediaRef, validators: Validators | None
) -> None:
    api.script(b"HTTP/1.1 304 Not Modified\r\n\r\n")
    with pytest.raises(UpstreamMalformed):
        await fetch(client, ref, validators)
    assert set(api.requests[0].fields) == {"host", "user-agent", "accept-encoding", "authorization"}


# --- connections and time -------------------------------------------------------------------------------------


async def test_rule_5_a_connection_broken_before_the_answer_is_retried(
    client: UpstreamClient, api: RawOrigin, ref: MediaRef, waits: list[float]
) -> None:
    for _ in range(2):  # aiohttp itself asks twice at once: a kept connection may have ended meanwhile
        api.script(api.close)
        api.script(b"HTTP/1.1 200 O", api.close)
    api.reply("200 OK", b"hello")
    assert (await fetch(client, ref))[1] == b"hello"
    assert waits == [0.125, 0.25]


async def test_connections_that_always_break_are_unreachable_after_the_attempts(
    client: UpstreamClient, api: RawOrigin, ref: MediaRef, waits: list[float]
) -> None:
    api.script(api.close)
    with pytest.raises(UpstreamUnreachable):
        await fetch(client, ref)
    assert waits == [0.125, 0.25]
    assert len(api.requests) == 6


async def test_nobody_listening_is_unreachable_after_the_attempts(
    connect: Connect, api: RawOrigin, ref: MediaRef, waits: list[float], unused_tcp_port: int
) -> None:
    client = await connect(origin=f"http://127.0.0.1:{unused_tcp_port}", hosts=())
    with pytest.raises(UpstreamUnreachable):
        await fetch(client, ref)
    assert len(waits) == 2


async def test_an_origin_without_tls_is_unreachable_and_not_retried(
    connect: Connect, api: RawOrigin, ref: MediaRef, waits: list[float]
) -> None:
    api.greeting = b"220 plain words\r\n"
    client = await connect(origin=f"https://127.0.0.1:{api.port}", hosts=())
    with pytest.raises(UpstreamUnreachable):
        await fetch(client, ref)
    assert waits == []


async def test_rule_4_a_connection_timeout_is_retried_and_then_504(
    connect: Connect, api: RawOrigin, ref: MediaRef, waits: list[float]
) -> None:
    client = await connect(origin=f"https://127.0.0.1:{api.port}", hosts=(), limits=UpstreamLimits(connect_seconds=0.1))
    with pytest.raises(UpstreamTimeout):
        await fetch(client, ref)
    assert len(waits) == 2


@pytest.mark.parametrize("head", ["", "HTTP/1.1 200 OK\r\nContent-"])
async def test_rule_4_late_headers_are_504_and_close_the_connection(
    connect: Connect, api: RawOrigin, ref: MediaRef, head: str
) -> None:
    client = await connect(limits=UpstreamLimits(headers_seconds=0.2))
    api.script(head.encode(), api.await_end)
    with pytest.raises(UpstreamTimeout) as caught:
        await fetch(client, ref)
    assert caught.value.status == 504
    await api.left.wait()
    assert len(api.requests) == 1


async def test_rule_4_all_hops_share_one_time_for_headers(
    connect: Connect, api: RawOrigin, cdn: RawOrigin, ref: MediaRef
) -> None:
    client = await connect(limits=UpstreamLimits(headers_seconds=0.2))
    api.redirect(f"{cdn.url}/m")
    cdn.script(*[b"HTTP/1.1 200 OK\r\n", *[b"X: y\r\n"] * 3], cdn.await_end)
    with pytest.raises(UpstreamTimeout):
        await fetch(client, ref)
    await cdn.left.wait()


async def test_no_attempt_is_made_after_the_whole_time(connect: Connect, api: RawOrigin, ref: MediaRef) -> None:
    client = await connect(limits=UpstreamLimits(retry=RetryPolicy(within=0.0)))
    api.reply("503 Busy")
    with pytest.raises(UpstreamError):
        await fetch(client, ref)
    assert len(api.requests) == 1


async def test_rule_6_the_connections_of_an_account_are_bounded(
    connect: Connect, api: RawOrigin, ref: MediaRef
) -> None:
    client = await connect(limits=UpstreamLimits(connections_per_account=2))
    gate = asyncio.Event()
    api.script(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", gate, b"lo")
    fetches = [asyncio.create_task(fetch(client, ref)) for _ in range(6)]
    await api.requests_arrive(2)
    gate.set()
    assert [body for _, body in await asyncio.gather(*fetches)] == [b"hello"] * 6
    assert api.most_open_answers == 2


async def test_rule_6_subaccounts_share_the_connections_of_their_parent(
    connect: Connect, api: RawOrigin, ref: MediaRef
) -> None:
    client = await connect(
        limits=UpstreamLimits(connections_per_account=2, connections_per_group=1, headers_seconds=0.2), subaccounts=True
    )
    first, second = (MediaRef.parse(f"AC{number:032x}", str(ref.message), str(ref.media)) for number in (1, 2))
    other = MediaRef(first.account, MessageSid.parse("MM" + "7" * 32), first.media)
    api.script(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", api.await_end)
    async with client.open(first):
        # One of them leaves the others a part.
        with pytest.raises(UpstreamBusy):
            await fetch(client, other)
        async with client.open(second):
            with pytest.raises(UpstreamBusy):
                await fetch(client, ref)
    assert len(api.requests) == 2


async def test_rule_6_waiting_for_a_connection_ends_in_503(connect: Connect, api: RawOrigin, ref: MediaRef) -> None:
    client = await connect(limits=UpstreamLimits(connections_per_account=1, headers_seconds=0.2))
    api.script(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", api.await_end)
    async with client.open(ref):
        with pytest.raises(UpstreamBusy) as caught:
            await fetch(client, ref)
    assert caught.value.status == 503
    assert len(api.requests) == 1


async def test_a_failed_attempt_gives_its_connection_back(connect: Connect, api: RawOrigin, ref: MediaRef) -> None:
    client = await connect(limits=UpstreamLimits(connections_per_account=1, headers_seconds=5.0))
    api.reply("410 Gone")
    for _ in range(3):
        with pytest.raises(MediaNotFound):
            await fetch(client, ref)


async def test_no_error_or_log_line_shows_signature_or_credential(
    client: UpstreamClient, api: RawOrigin, cdn: RawOrigin, ref: MediaRef, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "media_gateway")
    answers: list[tuple[bytes, ...]] = [
        (b"garbage\r\n\r\n",),
        (b"HTTP/1.1 403 No\r\n\r\n",),
        (b"HTTP/1.1 503 No\r\n\r\n",),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\n",),
        (b"",),
    ]
    shown = []
    for answer in answers:
        api.redirect(cdn.url + SIGNED)
        cdn.script(*answer, cdn.close)
        with pytest.raises(UpstreamError) as caught:
            await fetch(client, ref)
        shown += [*traceback.format_exception(caught.value), caught.value.note, caught.value.detail]
    # The test's own source lines stand in the tracebacks; what must not is the values.
    text = "\n".join(shown) + caplog.text
    assert "s3cret~a" not in text
    assert "Basic" not in text
