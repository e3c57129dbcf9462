"""An upstream that fails again and again is left alone: what readers and clients of the API get meanwhile."""

from __future__ import annotations

import asyncio
from pathlib import Path

from proxy.model import MediaRef, MediaSid
from tests.faults.conftest import Start
from tests.faults.origin import OTHER, REF, SMALL, Close, FaultyOrigin, Script, announcing, good, head
from tests.faults.serving import Joins, until_stored
from tests.faults.test_deletion import CLIENTS, delete, marks, status
from tests.functional.scraping import scrape
from tests.functional.test_errors import assert_problem


def media(number: int) -> MediaRef:
    """Return another media of the same account."""
    return REF.parent.media(MediaSid.parse(f"ME{number:032x}"))


BROKEN: Script = (head("Content-Length: 0", status="500 Broken"),)
VALID: Script = (head('ETag: "one"', status="304 Not Modified"),)


async def test_readers_get_503_with_a_wait_and_the_upstream_nothing(start: Start, origin: FaultyOrigin) -> None:
    gateway = await start(GATEWAY_LIMIT_BREAKER_FAILURES="2", GATEWAY_LIMIT_BREAKER_PAUSE_SECONDS="40")
    origin.play(BROKEN)
    assert [await status(gateway, media(number)) for number in range(2)] == [502, 502]
    for ref in (REF, OTHER):
        reply = await gateway.get(gateway.link(ref))
        assert_problem(reply, 503, "upstream-busy")
        assert 25 <= int(reply.headers["Retry-After"]) <= 40
    assert origin.asked == 2


async def test_what_is_stored_and_fresh_is_served_as_ever(start: Start, origin: FaultyOrigin) -> None:
    gateway = await start(GATEWAY_LIMIT_BREAKER_FAILURES="1", GATEWAY_LIMIT_BREAKER_PAUSE_SECONDS="40")
    assert await status(gateway) == 200
    origin.play(BROKEN)
    assert [await status(gateway, OTHER) for _ in range(2)] == [502, 503]
    reply = await gateway.get(gateway.link(REF))
    assert (reply.status, reply.body == SMALL, "; hit" in reply.headers["Cache-Status"]) == (200, True, True)


async def test_rfc5861_s4_a_stale_media_is_served_without_asking(start: Start, origin: FaultyOrigin) -> None:
    gateway = await start(
        GATEWAY_CACHE_DEFAULT_TTL="0",
        GATEWAY_CACHE_STALE_IF_ERROR="600",
        GATEWAY_LIMIT_BREAKER_FAILURES="1",
        GATEWAY_LIMIT_BREAKER_PAUSE_SECONDS="40",
    )
    assert await status(gateway) == 200
    origin.play(BROKEN)
    assert [await status(gateway, OTHER) for _ in range(2)] == [502, 503]
    asked = origin.asked
    stale = await gateway.get(gateway.link(REF))
    assert (stale.status, stale.body == SMALL) == (200, True)
    assert "detail=stale-if-error" in stale.headers["Cache-Status"]
    assert origin.asked == asked


async def test_a_deletion_is_503_and_leaves_the_media_there(start: Start, origin: FaultyOrigin, folder: Path) -> None:
    gateway = await start(
        GATEWAY_CLIENTS=CLIENTS,
        GATEWAY_LIMIT_BREAKER_FAILURES="1",
        GATEWAY_LIMIT_BREAKER_PAUSE_SECONDS="1",
    )
    assert await status(gateway) == 200
    await until_stored(folder, 1)
    origin.play(BROKEN, good(SMALL))
    assert await status(gateway, OTHER) == 502
    reply = await delete(gateway)
    assert (reply.status, reply.json["code"], reply.headers["Retry-After"]) == (503, 20503, "1")
    assert not [target for target in origin.targets if target.endswith(".json")]
    assert await marks(folder) == []
    asked = origin.asked
    assert (await status(gateway), origin.asked) == (200, asked)


async def test_it_is_asked_again_after_the_pause(start: Start, origin: FaultyOrigin) -> None:
    gateway = await start(GATEWAY_LIMIT_BREAKER_FAILURES="1", GATEWAY_LIMIT_BREAKER_PAUSE_SECONDS="1")
    origin.play(BROKEN, good(SMALL))
    assert [await status(gateway) for _ in range(2)] == [502, 503]
    while (again := await status(gateway)) == 503:
        pass
    assert again == 200
    assert origin.asked == 2


async def test_a_hundred_readers_of_one_failed_fetch_count_once(
    start: Start, origin: FaultyOrigin, joins: Joins
) -> None:
    gateway = await start(GATEWAY_LIMIT_BREAKER_FAILURES="2", GATEWAY_LIMIT_BREAKER_PAUSE_SECONDS="40")
    fail = asyncio.Event()
    origin.play((fail, *BROKEN), good(SMALL))
    readers = [asyncio.create_task(status(gateway)) for _ in range(100)]
    await joins.reach(100)
    fail.set()
    assert await asyncio.gather(*readers) == [502] * 100
    assert origin.asked == 1
    assert await status(gateway) == 200


async def test_a_validation_that_is_answered_keeps_it_closed(start: Start, origin: FaultyOrigin) -> None:
    gateway = await start(GATEWAY_CACHE_DEFAULT_TTL="0", GATEWAY_LIMIT_BREAKER_FAILURES="2")
    assert await status(gateway) == 200
    origin.play(*[BROKEN, VALID] * 4)
    assert [await status(gateway, ref) for ref in [OTHER, REF] * 4] == [502, 200] * 4


async def test_where_it_is_switched_off_every_fetch_asks(start: Start, origin: FaultyOrigin) -> None:
    gateway = await start(GATEWAY_LIMIT_BREAKER_FAILURES="0")
    origin.play(BROKEN)
    assert [await status(gateway, media(number)) for number in range(30)] == [502] * 30
    assert origin.asked == 30


# --- one media that fails ---------------------------------------------------------------------------------------


async def test_a_failing_media_is_left_alone_and_stops_no_other(
    start: Start, origin: FaultyOrigin, tmp_path: Path
) -> None:
    place = tmp_path / "metrics.sock"
    gateway = await start(GATEWAY_METRICS_LISTEN=f"unix:{place}")
    origin.play(BROKEN)
    assert [await status(gateway) for _ in range(5)] == [502] * 5
    for _ in range(7):
        reply = await gateway.get(gateway.link(REF))
        assert_problem(reply, 503, "upstream-busy")
        assert 1 <= int(reply.headers["Retry-After"]) <= 10
    assert origin.asked == 5
    origin.play(good(SMALL))
    assert [await status(gateway, media(number)) for number in range(20)] == [200] * 20
    scraped = await scrape(place)
    assert scraped.get("media_left_alone_total") == 1
    assert scraped.total("upstream_breaker_transitions_total") == 0


async def test_a_body_that_breaks_off_counts_once_with_its_tries(start: Start, origin: FaultyOrigin) -> None:
    gateway = await start()
    origin.play((announcing(len(SMALL)), SMALL[:1000], Close()))
    assert [await status(gateway) for _ in range(6)] == [502] * 5 + [503]
    assert origin.asked == 3 * 5


async def test_one_reader_of_one_media_finds_a_dead_host(start: Start, tmp_path: Path) -> None:
    place = tmp_path / "metrics.sock"
    gateway = await start(GATEWAY_UPSTREAM_URL="http://127.0.0.1:1", GATEWAY_METRICS_LISTEN=f"unix:{place}",
                          GATEWAY_LIMIT_BREAKER_WINDOW_SECONDS="600")  # fmt: skip
    assert [await status(gateway) for _ in range(11)] == [502] * 10 + [503]
    assert await status(gateway, OTHER) == 503
    scraped = await scrape(place)
    assert scraped.get("upstream_breakers", provider="twilio", state="open") == 1
    assert scraped.get("media_left_alone_total") == 0


async def test_a_host_that_answers_nothing_but_errors_is_left_alone(start: Start, origin: FaultyOrigin) -> None:
    gateway = await start(GATEWAY_LIMIT_BREAKER_WINDOW_SECONDS="600")
    origin.play(BROKEN)
    assert [await status(gateway, media(number)) for number in range(12)] == [502] * 10 + [503] * 2
    assert origin.asked == 10
