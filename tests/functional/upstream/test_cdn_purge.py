"""A CDN is told what was erased: tags, tries, bounds, and nothing secret in the log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from proxy.erasure import Reach
from proxy.model import MediaRef
from proxy.semantics.targeted import cache_tags
from proxy.telemetry.request_context import about_request
from proxy.upstream.cdn_purge import QUEUED_CALLS, TAGS_PER_CALL, CdnPurges, PurgePlace

REF = MediaRef.parse("AC" + "0a" * 16, "MM" + "0b" * 16, "ME" + "0c" * 16)
TARGET = "/zones/1/purge?key=in-the-query"
SECRET = ("X-Purge-Key", "in-the-header")


@dataclass
class Told:
    """One call as the CDN received it."""

    target: str
    headers: dict[str, str]
    body: dict[str, object]


@dataclass
class Cdn:
    """A CDN that answers each call with the next status, the last one over and over; `hold` keeps the answers back."""

    calls: list[Told] = field(default_factory=list)
    statuses: list[int] = field(default_factory=lambda: [200])
    location: str = ""
    hold: asyncio.Event | None = None
    origin: str = ""
    _arrived: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def handle(self, request: web.Request) -> web.Response:
        async with self._arrived:
            self.calls.append(Told(request.raw_path, dict(request.headers), await request.json()))
            self._arrived.notify_all()
        if self.hold is not None:
            await self.hold.wait()
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        return web.Response(status=status, headers={"Location": self.location} if self.location else None)

    async def arrived(self, count: int) -> list[Told]:
        async with self._arrived:
            await self._arrived.wait_for(lambda: len(self.calls) >= count)
        return self.calls


@pytest.fixture
async def cdn() -> AsyncIterator[Cdn]:
    cdn = Cdn()
    app = web.Application()
    app.router.add_post("/{any:.*}", cdn.handle)
    async with TestServer(app) as server:
        cdn.origin = str(server.make_url("")).rstrip("/")
        yield cdn


@asynccontextmanager
async def telling(
    cdn: Cdn,
    waits: list[float] | None = None,
    *,
    header: tuple[str, str] | None = SECRET,
    origin: str | None = None,
    drain_seconds: float = 30.0,
) -> AsyncIterator[CdnPurges]:
    """Yield what tells `cdn`; at the end all of it is told."""

    async def sleep(seconds: float) -> None:
        if waits is not None:
            waits.append(seconds)

    place = PurgePlace(origin or cdn.origin, TARGET, header)
    async with CdnPurges(place, drain_seconds=drain_seconds, sleep=sleep) as purges:
        yield purges


def media(number: int) -> MediaRef:
    return MediaRef.parse(str(REF.account), str(REF.message), f"ME{number:032x}")


async def test_a_media_s_tag_is_in_body_and_field(cdn: Cdn) -> None:
    async with telling(cdn) as purges:
        purges.purge([Reach.of(REF)])
    (told,) = cdn.calls
    assert told.target == TARGET
    assert told.body == {"tags": [f"media-{REF.media}"]}
    assert told.headers["Surrogate-Key"] == f"media-{REF.media}"
    assert told.headers["Content-Type"] == "application/json"
    assert told.headers["X-Purge-Key"] == "in-the-header"
    assert "Cookie" not in told.headers


async def test_a_wider_reach_is_named_by_the_answers_tags(cdn: Cdn) -> None:
    async with telling(cdn, header=None) as purges:
        purges.purge([Reach.of(REF.account), Reach.of(REF.parent), Reach.of(REF), Reach.of(REF)])
    (told,) = cdn.calls
    tags = list(cache_tags(REF))
    assert told.body == {"tags": tags}
    assert told.headers["Surrogate-Key"] == " ".join(tags)
    assert "X-Purge-Key" not in told.headers


async def test_everything_has_no_tags(cdn: Cdn) -> None:
    async with telling(cdn) as purges:
        purges.purge([Reach.of(REF), Reach.of(None)])
    (told,) = cdn.calls
    assert told.body == {"purge_everything": True}
    assert "Surrogate-Key" not in told.headers


async def test_many_tags_are_told_in_several_calls_in_order(cdn: Cdn) -> None:
    many = [media(number) for number in range(2 * TAGS_PER_CALL + 1)]
    async with telling(cdn) as purges:
        purges.purge(map(Reach.of, many))
        purges.purge([])
    told = [call.body["tags"] for call in cdn.calls]
    assert all(isinstance(tags, list) for tags in told)
    assert [len(tags) for tags in told if isinstance(tags, list)] == [TAGS_PER_CALL, TAGS_PER_CALL, 1]
    assert told[2] == [f"media-{many[-1].media}"]


async def test_without_a_place_nobody_is_told() -> None:
    async with CdnPurges(None, drain_seconds=1) as purges:
        purges.purge([Reach.of(REF)])


# --- tries ----------------------------------------------------------------------------------------------------


async def test_a_failed_call_is_repeated_after_growing_waits(cdn: Cdn) -> None:
    waits: list[float] = []
    cdn.statuses = [503, 429, 204]
    async with telling(cdn, waits) as purges:
        purges.purge([Reach.of(REF)])
    assert [call.body for call in cdn.calls] == [{"tags": [f"media-{REF.media}"]}] * 3
    assert waits == [1.0, 4.0]


@pytest.mark.parametrize("status", [403, 500, 302])
async def test_a_failing_call_is_given_up_and_logged_without_secrets(
    cdn: Cdn, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    cdn.statuses, cdn.location = [status], f"{cdn.origin}/elsewhere" if status == 302 else ""
    async with telling(cdn) as purges:
        for number, ref in enumerate((REF, media(1))):
            with about_request(f"request-{number}"):
                purges.purge([Reach.of(ref)])
    # A redirect is not followed: what proves who asks would go along.
    assert [call.target for call in cdn.calls] == [TARGET] * 6
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 2
    assert f"media-{REF.media}" in errors[0]
    assert str(status) in errors[0]
    facts = [getattr(record, "facts", None) for record in caplog.records if record.levelno == logging.ERROR]
    assert facts == [{"request_id": "request-0"}, {"request_id": "request-1"}]
    assert "in-the" not in caplog.text


async def test_nobody_listening_is_given_up_and_logged_without_secrets(
    cdn: Cdn, caplog: pytest.LogCaptureFixture, unused_tcp_port: int
) -> None:
    waits: list[float] = []
    async with telling(cdn, waits, origin=f"http://127.0.0.1:{unused_tcp_port}") as purges:
        purges.purge([Reach.of(None)])
    assert waits == [1.0, 4.0]
    assert "everything" in caplog.text
    assert f"127.0.0.1:{unused_tcp_port}" in caplog.text
    assert "in-the" not in caplog.text


# --- bounds ---------------------------------------------------------------------------------------------------


async def test_where_too_much_waits_the_oldest_is_not_told(cdn: Cdn, caplog: pytest.LogCaptureFixture) -> None:
    cdn.hold = asyncio.Event()
    async with telling(cdn) as purges:
        purges.purge([Reach.of(REF)])
        await cdn.arrived(1)
        for number in range(QUEUED_CALLS + 2):
            purges.purge([Reach.of(media(number))])
        cdn.hold.set()
    told = [call.headers["Surrogate-Key"] for call in cdn.calls]
    expected = [REF, *(media(number) for number in range(2, QUEUED_CALLS + 2))]
    assert told == [f"media-{one.media}" for one in expected]
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert [f"media-{media(number).media}" in warnings[number] for number in range(2)] == [True, True]
    assert len(warnings) == 2


async def test_the_end_waits_for_what_is_still_to_be_told(cdn: Cdn) -> None:
    cdn.hold = asyncio.Event()
    async with telling(cdn) as purges:
        purges.purge([Reach.of(REF)])
        purges.purge([Reach.of(media(1))])
        await cdn.arrived(1)
        asyncio.get_running_loop().call_soon(cdn.hold.set)
    assert len(cdn.calls) == 2


async def test_the_end_does_not_wait_for_ever(cdn: Cdn, caplog: pytest.LogCaptureFixture) -> None:
    cdn.hold = asyncio.Event()
    async with telling(cdn, drain_seconds=0.05) as purges:
        purges.purge([Reach.of(REF)])
        purges.purge([Reach.of(media(1))])
        await cdn.arrived(1)
    assert "2 purges were not told" in caplog.text
    cdn.hold.set()
    assert len(cdn.calls) == 1
