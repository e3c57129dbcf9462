"""An origin that fails again and again is left alone, and nothing but its own failures counts."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import count

import pytest

from proxy.errors import (
    GatewayError,
    UpstreamBusy,
    UpstreamError,
    UpstreamRedirectRefused,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from proxy.model import AccountSid, MediaRef, MediaSid
from proxy.telemetry.exposition import expose
from proxy.telemetry.metrics import Metrics
from proxy.upstream.breaker import BreakerPolicy
from proxy.upstream.client import UpstreamClient
from proxy.upstream.limits import UpstreamLimits
from proxy.upstream.providers import media_path
from proxy.upstream.transport import Method
from tests.functional.scraping import Scrape
from tests.functional.upstream.conftest import OTHER_AC, Connect, RawOrigin

FAILURES = 3
LIMITS = UpstreamLimits(breaker=BreakerPolicy(failures=FAILURES))
PAUSE = 5 * 0.875  # at the fixture's jitter, in the middle


@dataclass
class Watch:
    """A client whose breakers go by `now`, and what it counts."""

    client: UpstreamClient
    now: list[float]
    metrics: Metrics
    ref: MediaRef = field(kw_only=True)
    _numbers: Iterator[int] = field(default_factory=partial(count, 1))

    def another(self) -> MediaRef:
        """Return a media that was not asked for yet."""
        return self.ref.parent.media(MediaSid.parse(f"ME{next(self._numbers):032x}"))

    async def fetch(self, ref: MediaRef | None = None) -> bytes:
        async with self.client.open(ref or self.another()) as answer:
            return b"".join([chunk async for chunk in answer.chunks()])

    async def failing(
        self, kind: type[GatewayError] = UpstreamError, count: int = 1, *, ref: MediaRef | None = None
    ) -> None:
        """Have that many fetches fail: of as many media, or of one."""
        for _ in range(count):
            with pytest.raises(kind) as caught:
                await self.fetch(ref)
            assert not (isinstance(caught.value, UpstreamBusy) and kind is UpstreamError)

    async def refused(self) -> UpstreamBusy:
        with pytest.raises(UpstreamBusy) as caught:
            await self.fetch()
        assert not caught.value.rate_limited
        return caught.value

    @property
    def scrape(self) -> Scrape:
        body, _ = expose(self.metrics.totals(), "")
        return Scrape.of(body.decode())

    def shown(self) -> tuple[float, float]:
        """Return how many breakers are open and half-open."""
        scrape = self.scrape
        return (
            scrape.get("upstream_breakers", provider="twilio", state="open"),
            scrape.get("upstream_breakers", provider="twilio", state="half-open"),
        )


async def watching(connect: Connect, ref: MediaRef, limits: UpstreamLimits = LIMITS, **more: str) -> Watch:
    now, metrics = [100.0], Metrics()
    client = await connect(limits=limits, monotonic=lambda: now[0], metrics=metrics, **more)
    return Watch(client, now, metrics, ref=ref)


@pytest.fixture
async def watch(connect: Connect, ref: MediaRef) -> Watch:
    return await watching(connect, ref)


async def test_after_failures_in_a_row_calls_fail_at_once(watch: Watch, api: RawOrigin) -> None:
    api.reply("500 Broken")
    await watch.failing(count=FAILURES)
    watch.now[0] += 2.0
    busy = await watch.refused()
    assert (busy.status, busy.retry_after, len(api.requests)) == (503, 3, FAILURES)
    watch.now[0] += 2.3
    assert (await watch.refused()).retry_after == 1
    assert len(api.requests) == FAILURES
    assert watch.shown() == (1, 0)


async def test_nothing_of_the_upstream_is_told_to_a_client(watch: Watch, api: RawOrigin) -> None:
    api.reply("500 Broken")
    await watch.failing(count=FAILURES)
    busy = await watch.refused()
    assert busy.detail
    assert str(api.port) not in busy.detail


async def test_a_call_that_is_tried_three_times_is_one_failure(watch: Watch, api: RawOrigin) -> None:
    api.reply("503 Away")
    await watch.failing(count=FAILURES)
    assert len(api.requests) == 3 * FAILURES
    await watch.refused()


async def test_a_try_that_succeeds_in_the_end_is_no_failure(watch: Watch, api: RawOrigin) -> None:
    for _ in range(FAILURES):
        api.reply("503 Away")
        api.reply("200 OK", b"hello")
    for _ in range(FAILURES):
        assert await watch.fetch() == b"hello"
    assert watch.shown() == (0, 0)


async def test_a_connection_that_is_refused_or_breaks_is_a_failure(
    connect: Connect, api: RawOrigin, ref: MediaRef
) -> None:
    breaking = await watching(connect, ref)
    api.script(api.close)
    await breaking.failing(UpstreamUnreachable, FAILURES)
    await breaking.refused()
    nowhere = await watching(connect, ref, origin="http://127.0.0.1:1")
    await nowhere.failing(UpstreamUnreachable, FAILURES)
    await nowhere.refused()


async def test_each_unconnected_call_counts_whatever_its_subject(
    connect: Connect, ref: MediaRef, api: RawOrigin
) -> None:
    for origin in ("http://127.0.0.1:1", "https://nowhere.invalid", api.url.replace("http:", "https:")):
        api.greeting = b"this is no TLS"
        watch = await watching(connect, ref, origin=origin)
        await watch.failing(UpstreamUnreachable, FAILURES, ref=ref)
        await watch.refused()


async def test_a_connection_that_times_out_counts_for_the_host(connect: Connect, ref: MediaRef) -> None:
    limits = UpstreamLimits(connect_seconds=0.05, breaker=BreakerPolicy(failures=FAILURES))
    with socket.socket() as deaf, ExitStack() as waiting:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        for _ in range(8):  # more than wait to be accepted, so that nothing answers any other
            pushing = waiting.enter_context(socket.socket())
            pushing.setblocking(False)
            pushing.connect_ex(deaf.getsockname())
        watch = await watching(connect, ref, limits, origin=f"http://127.0.0.1:{deaf.getsockname()[1]}")
        await watch.failing(UpstreamTimeout, FAILURES, ref=ref)
        with pytest.raises(UpstreamBusy):
            await watch.fetch(of_other_account(ref))


async def test_a_host_without_connections_is_asked_for_no_account(connect: Connect, ref: MediaRef) -> None:
    watch = await watching(connect, ref, origin="http://127.0.0.1:1")
    await watch.failing(UpstreamUnreachable, FAILURES)
    with pytest.raises(UpstreamBusy):
        await watch.fetch(of_other_account(ref))
    assert watch.shown() == (1, 0)


async def test_one_media_that_fails_for_ever_stops_no_other(watch: Watch, api: RawOrigin) -> None:
    api.reply("500 Broken")
    await watch.failing(count=4 * FAILURES, ref=watch.ref)
    api.reply("200 OK", b"hello")
    assert await watch.fetch() == b"hello"
    assert watch.shown() == (0, 0)


async def test_the_failing_media_of_an_account_stop_no_other_account(watch: Watch, api: RawOrigin) -> None:
    api.reply("500 Broken")
    await watch.failing(count=FAILURES)
    await watch.refused()
    api.reply("200 OK", b"hello")
    assert await watch.fetch(of_other_account(watch.ref)) == b"hello"
    await watch.refused()


def of_other_account(ref: MediaRef) -> MediaRef:
    return MediaRef(AccountSid.parse(OTHER_AC), ref.message, ref.media)


async def test_an_answer_that_times_out_is_a_failure(connect: Connect, api: RawOrigin, ref: MediaRef) -> None:
    limits = UpstreamLimits(headers_seconds=0.05, breaker=BreakerPolicy(failures=2))
    watch = await watching(connect, ref, limits)
    api.script(api.await_end)
    await watch.failing(UpstreamTimeout, 2)
    await watch.refused()


@pytest.mark.parametrize("status", ["400 No", "401 No", "403 No", "404 No", "410 Gone", "429 Busy", "204 None"])
async def test_an_answer_below_500_restarts_the_count(watch: Watch, api: RawOrigin, status: str) -> None:
    for answer in ("500 Broken", "500 Broken", status, "500 Broken", "500 Broken", status, status, status):
        api.reply(answer, b"", "Retry-After: 99")
        await watch.failing(GatewayError)
    api.reply("200 OK", b"hello")
    assert await watch.fetch() == b"hello"


async def test_a_redirect_that_is_not_allowed_is_no_failure(watch: Watch, api: RawOrigin) -> None:
    api.redirect("https://elsewhere.example/")
    await watch.failing(UpstreamRedirectRefused, 2 * FAILURES)
    assert watch.shown() == (0, 0)


async def test_broken_http_is_no_failure_of_the_origin_to_answer(watch: Watch, api: RawOrigin) -> None:
    api.script(b"no http\r\n\r\n", api.close)
    await watch.failing(count=2 * FAILURES)
    assert watch.shown() == (0, 0)


async def test_a_reader_that_goes_away_is_no_failure(watch: Watch, api: RawOrigin) -> None:
    api.script(api.await_end)
    for number in range(2 * FAILURES):
        asking = asyncio.create_task(watch.fetch())
        await api.requests_arrive(number + 1)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
    assert watch.shown() == (0, 0)
    api.reply("200 OK", b"hello")
    assert await watch.fetch() == b"hello"


async def test_an_account_without_free_connections_is_not_a_failure(
    connect: Connect, api: RawOrigin, ref: MediaRef
) -> None:
    limits = UpstreamLimits(connections_per_account=1, headers_seconds=0.05, breaker=BreakerPolicy(failures=1))
    watch = await watching(connect, ref, limits)
    api.script(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", api.await_end)
    async with watch.client.open(ref):
        assert "in use" in (await watch.refused()).note
    assert watch.shown() == (0, 0)


async def test_a_waiting_call_is_refused_if_the_breaker_opens_meanwhile(
    connect: Connect, api: RawOrigin, ref: MediaRef
) -> None:
    limits = UpstreamLimits(connections_per_account=1, breaker=BreakerPolicy(failures=1))
    watch = await watching(connect, ref, limits)
    answer = asyncio.Event()
    api.script(answer, b"HTTP/1.1 500 Broken\r\nContent-Length: 0\r\n\r\n")
    failing = asyncio.create_task(watch.fetch())
    await api.requests_arrive(1)
    queued = asyncio.create_task(watch.fetch())
    answer.set()
    with pytest.raises(UpstreamError):
        await failing
    with pytest.raises(UpstreamBusy):
        await queued
    assert len(api.requests) == 1


async def test_an_open_breaker_spares_the_wait_for_a_connection(
    connect: Connect, api: RawOrigin, ref: MediaRef
) -> None:
    limits = UpstreamLimits(connections_per_account=1, breaker=BreakerPolicy(failures=1))
    watch = await watching(connect, ref, limits)
    api.reply("500 Broken")
    await watch.failing()
    watch.now[0] += PAUSE
    api.script(api.await_end)
    trial = asyncio.create_task(watch.fetch())
    await api.requests_arrive(2)
    assert "is not asked" in (await watch.refused()).note
    assert not trial.done()
    trial.cancel()
    with pytest.raises(asyncio.CancelledError):
        await trial


async def test_a_document_that_stalls_after_its_head_is_no_failure(
    connect: Connect, api: RawOrigin, ref: MediaRef
) -> None:
    limits = UpstreamLimits(json_seconds=0.05, breaker=BreakerPolicy(failures=1))
    watch = await watching(connect, ref, limits)
    api.script(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", api.await_end)
    with pytest.raises(UpstreamTimeout):
        await watch.client.document(watch.client.account(ref.account), "/2010-04-01/Accounts.json")
    assert watch.shown() == (0, 0)


async def test_a_call_is_not_repeated_once_the_breaker_opened(watch: Watch, api: RawOrigin) -> None:
    first = asyncio.Event()
    api.script(first, b"HTTP/1.1 503 Away\r\nContent-Length: 0\r\n\r\n")
    for _ in range(FAILURES):
        api.reply("500 Broken")
    slow = asyncio.create_task(watch.fetch())
    await api.requests_arrive(1)
    await watch.failing(count=FAILURES)
    first.set()
    with pytest.raises(UpstreamBusy):
        await slow
    assert len(api.requests) == 1 + FAILURES


# --- half-open --------------------------------------------------------------------------------------------------


async def opened(watch: Watch, api: RawOrigin) -> None:
    for _ in range(FAILURES):
        api.reply("500 Broken")
    await watch.failing(count=FAILURES)
    await watch.refused()
    watch.now[0] += PAUSE


async def test_after_the_pause_one_call_s_answer_closes_the_breaker(
    watch: Watch, api: RawOrigin, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "media_gateway.upstream")
    await opened(watch, api)
    answer = asyncio.Event()
    api.script(answer, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
    trial = asyncio.create_task(watch.fetch())
    await api.requests_arrive(FAILURES + 1)
    assert watch.shown() == (0, 1)
    assert (await watch.refused()).retry_after == 1
    answer.set()
    assert await trial == b"hello"
    assert watch.shown() == (0, 0)
    assert [await watch.fetch() for _ in range(2)] == [b"hello"] * 2
    moves = [watch.scrape.get("upstream_breaker_transitions_total", provider="twilio", state=state)
             for state in ("open", "half-open", "closed")]  # fmt: skip
    assert moves == [1, 1, 1]
    assert "is left alone" in caplog.text
    assert "answers again" in caplog.text


async def test_a_trial_is_one_attempt_whose_failure_doubles_the_pause(
    watch: Watch, api: RawOrigin, waits: list[float]
) -> None:
    await opened(watch, api)
    api.reply("503 Away")
    await watch.failing()
    assert len(api.requests) == FAILURES + 1
    assert waits == []
    assert (await watch.refused()).retry_after == 9
    watch.now[0] += PAUSE
    await watch.refused()
    watch.now[0] += PAUSE
    api.reply("200 OK", b"hello")
    assert await watch.fetch() == b"hello"


async def test_an_answered_trial_is_retried_like_any_call(watch: Watch, api: RawOrigin, waits: list[float]) -> None:
    await opened(watch, api)
    api.reply("404 Not yet")
    api.reply("200 OK", b"hello")
    async with watch.client.open(watch.ref, young=True) as answer:
        assert b"".join([chunk async for chunk in answer.chunks()]) == b"hello"
    assert waits == [1.0]


async def test_an_abandoned_trial_leaves_the_trial_to_the_next(watch: Watch, api: RawOrigin) -> None:
    await opened(watch, api)
    api.script(api.await_end)
    trial = asyncio.create_task(watch.fetch())
    await api.requests_arrive(FAILURES + 1)
    trial.cancel()
    with pytest.raises(asyncio.CancelledError):
        await trial
    assert watch.shown() == (1, 0)
    api.reply("200 OK", b"hello")
    assert await watch.fetch() == b"hello"


async def test_a_media_that_fails_is_never_the_trial(watch: Watch, api: RawOrigin) -> None:
    for _ in range(FAILURES):
        api.reply("500 Broken")
    await watch.failing(ref=watch.ref)
    await watch.failing(count=FAILURES - 1)
    watch.now[0] += PAUSE
    api.reply("503 Broken")
    await watch.failing(ref=watch.ref)
    # It was asked for once, which changed nothing: neither the state nor the pause.
    assert (len(api.requests), watch.shown()) == (FAILURES + 1, (1, 0))
    with pytest.raises(UpstreamBusy):
        await watch.fetch(watch.ref)
    api.reply("200 OK", b"hello")
    assert await watch.fetch() == b"hello"
    assert watch.shown() == (0, 0)


async def test_a_host_with_failing_media_alone_is_found_well_again(watch: Watch, api: RawOrigin) -> None:
    for _ in range(FAILURES):
        api.reply("500 Broken")
    failing = [watch.another() for _ in range(FAILURES)]
    for ref in failing:
        await watch.failing(ref=ref)
    watch.now[0] += PAUSE
    api.reply("200 OK", b"hello")
    assert [await watch.fetch(ref) for ref in failing] == [b"hello"] * FAILURES


async def test_any_connection_closes_the_host_s_breaker(connect: Connect, ref: MediaRef) -> None:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        port = place.getsockname()[1]
        watch = await watching(connect, ref, origin=f"http://127.0.0.1:{port}")
        await watch.failing(UpstreamUnreachable, FAILURES)
    watch.now[0] += PAUSE
    back = RawOrigin()
    back.reply("500 Broken")
    async with await asyncio.start_server(back.serve, "127.0.0.1", port):
        await watch.failing()
        assert watch.shown() == (0, 0)
        await watch.failing()
        await back.stop()
    assert len(back.requests) == 2


async def test_a_client_that_ends_shows_no_breaker_any_more(connect: Connect, api: RawOrigin, ref: MediaRef) -> None:
    watch = await watching(connect, ref)
    api.reply("500 Broken")
    await watch.failing(count=FAILURES)
    assert watch.shown() == (1, 0)
    await watch.client.__aexit__(None, None, None)
    assert watch.shown() == (0, 0)


# --- whose it is ------------------------------------------------------------------------------------------------


async def test_a_failing_redirect_place_does_not_stop_the_api(watch: Watch, api: RawOrigin, cdn: RawOrigin) -> None:
    api.redirect(f"{cdn.url}/here")
    cdn.reply("500 Broken")
    await watch.failing(count=FAILURES)
    assert "is not asked" in (await watch.refused()).note
    assert len(cdn.requests) == FAILURES
    api.reply("200 OK", b"{}")
    account = watch.client.account(watch.ref.account)
    assert await watch.client.document(account, "/2010-04-01/Accounts.json") == b"{}"


async def test_an_api_that_answers_calls_is_asked_for_media(watch: Watch, api: RawOrigin) -> None:
    account = watch.client.account(watch.ref.account)
    for _ in range(FAILURES):
        api.reply("500 Broken")
        await watch.failing()
        api.reply("200 OK", b"{}")
        await watch.client.document(account, "/2010-04-01/Accounts.json")
    assert watch.shown() == (0, 0)


async def test_a_deletion_is_refused_before_it_goes_out(watch: Watch, api: RawOrigin) -> None:
    api.reply("500 Broken")
    await watch.failing(count=FAILURES)
    account = watch.client.account(watch.ref.account)
    with pytest.raises(UpstreamBusy):
        await watch.client.call(account, Method.DELETE, media_path(watch.ref))
    assert len(api.requests) == FAILURES


async def test_deletions_and_documents_that_fail_count_too(watch: Watch, api: RawOrigin) -> None:
    account = watch.client.account(watch.ref.account)
    api.reply("500 Broken")
    for method in (Method.DELETE, Method.GET, Method.DELETE):
        with pytest.raises(UpstreamError):
            await watch.client.call(account, method, media_path(watch.another()))
    await watch.refused()


async def test_where_it_is_switched_off_every_call_goes_out(connect: Connect, api: RawOrigin, ref: MediaRef) -> None:
    watch = await watching(connect, ref, UpstreamLimits(breaker=BreakerPolicy(failures=0)))
    api.reply("500 Broken")
    await watch.failing(count=30)
    assert len(api.requests) == 30
