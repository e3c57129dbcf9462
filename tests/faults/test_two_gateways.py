"""Two gateways on one cache folder: what one erases or revokes the other does at once; one's death harms no reader."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from proxy.cache.disk.store import open_disk
from proxy.cache.engine import Engine
from proxy.cache.fills.registry import FillBounds
from proxy.cache.ram.store import RamStore
from proxy.cache.tiers import Tiers
from proxy.links import LinkMinter
from proxy.model import MediaRef
from proxy.origin import OriginAnswer
from proxy.semantics.freshness import FreshnessPolicy
from proxy.semantics.stored import Validators
from proxy.telemetry.metrics import Metrics
from tests.faults.conftest import Within
from tests.faults.origin import LARGE, OTHER, REF, SMALL, FaultyOrigin, Script, announcing, good
from tests.faults.serving import environment, purge, revoke, until_stored
from tests.functional.harness import KEY, RunningGateway
from tests.functional.programs import started

IDS = {"account_sid": str(REF.account), "message_sid": str(REF.message)}
REACHES: dict[str, Mapping[str, object]] = {
    "media": {"media": [{**IDS, "media_sid": str(REF.media)}]},
    "message": {"message": IDS},
    "all": {"all": True},
}
reaches = pytest.mark.parametrize("reach", REACHES.values(), ids=REACHES.keys())
sizes = pytest.mark.parametrize(("old", "new"), [(SMALL, SMALL[::-1]), (LARGE, LARGE[::-1])], ids=["small", "large"])


class _NoOrigin:
    def open(
        self, ref: MediaRef, validators: Validators | None = None, *, young: bool = False
    ) -> AbstractAsyncContextManager[OriginAnswer]:
        raise AssertionError(f"{ref} is asked for")


NO_ORIGIN = _NoOrigin()


@pytest.fixture
async def both(within: Within) -> AsyncIterator[tuple[RunningGateway, RunningGateway]]:
    async with AsyncExitStack() as stack:
        yield await stack.enter_async_context(within()), await stack.enter_async_context(within())


async def fetched(gateway: RunningGateway) -> bytes:
    reply = await gateway.get(gateway.link(REF))
    assert reply.status == 200
    return reply.body


@reaches
@sizes
async def test_a_purge_in_one_gateway_holds_in_the_other(
    both: tuple[RunningGateway, RunningGateway],
    origin: FaultyOrigin,
    folder: Path,
    reach: Mapping[str, object],
    old: bytes,
    new: bytes,
) -> None:
    one, other = both
    origin.play(good(old))
    assert await fetched(one) == old
    await until_stored(folder, 1)
    for gateway in (other, one, other):
        assert await fetched(gateway) == old
    assert origin.asked == 1
    origin.play(good(new))
    assert await purge(one, reach) == 204
    assert await fetched(other) == new
    await until_stored(folder, 1)
    assert await fetched(one) == new
    assert origin.asked == 2


@reaches
@sizes
async def test_a_purge_beats_the_other_gateway_s_fill_under_way(
    both: tuple[RunningGateway, RunningGateway],
    origin: FaultyOrigin,
    folder: Path,
    reach: Mapping[str, object],
    old: bytes,
    new: bytes,
) -> None:
    one, other = both
    rest = asyncio.Event()
    begun: Script = (announcing(len(old)), old[: len(old) // 2], rest, old[len(old) // 2 :])
    origin.play(begun, good(new))
    early = asyncio.create_task(fetched(other))
    await origin.requests_arrive(1)
    assert await purge(one, reach) == 204
    # Who comes after the purge joins no fill from before it.
    assert await fetched(other) == new
    rest.set()
    assert await early == old
    await until_stored(folder, 1)
    for gateway in (other, one, other):
        assert await fetched(gateway) == new
    assert origin.asked == 2


async def test_a_purge_spares_what_it_does_not_name(
    both: tuple[RunningGateway, RunningGateway], origin: FaultyOrigin, folder: Path
) -> None:
    one, other = both
    assert await fetched(other) == SMALL
    await until_stored(folder, 1)
    message = {"account_sid": str(OTHER.account), "message_sid": str(OTHER.message)}
    assert await purge(one, {"message": message}) == 204
    assert await fetched(other) == SMALL
    assert origin.asked == 1


async def status(gateway: RunningGateway) -> int:
    return (await gateway.get(gateway.link(REF))).status


@pytest.mark.parametrize("reach", ["media", "message"])
async def test_a_revocation_and_its_end_hold_in_the_other_gateway(
    both: tuple[RunningGateway, RunningGateway], origin: FaultyOrigin, reach: str
) -> None:
    one, other = both
    for gateway in both:
        assert await fetched(gateway) == SMALL
    asked = origin.asked
    assert await revoke(one, REACHES[reach]) == 204
    assert [await status(other), await status(one), await status(other)] == [403] * 3
    assert origin.asked == asked
    assert await revoke(other, {**REACHES[reach], "lift": True}) == 204
    for gateway in both:
        assert await fetched(gateway) == SMALL


@asynccontextmanager
async def marking(folder: Path) -> AsyncIterator[Engine]:
    """Yield the engine of another worker of the folder, for its marks alone."""
    async with open_disk(folder, 10_000_000, time.time) as disk:
        metrics = Metrics()
        tiers = Tiers(RamStore(0, metrics), disk, ram_object_bytes=0, metrics=metrics)
        async with Engine(
            NO_ORIGIN, tiers, FreshnessPolicy(default_lifetime=1), time.time, FillBounds(most=1, spool_bytes=0)
        ) as engine:
            yield engine


@sizes
async def test_a_gone_media_is_404_in_all_workers_until_lifted(
    both: tuple[RunningGateway, RunningGateway], origin: FaultyOrigin, folder: Path, old: bytes, new: bytes
) -> None:
    origin.play(good(old))
    for gateway in both:
        assert await fetched(gateway) == old
    asked = origin.asked
    async with marking(folder) as worker:
        await worker.mark_gone(REF, 3_600)
        assert [await status(gateway) for gateway in (*both, *both)] == [404] * 4
        assert origin.asked == asked
        origin.play(good(new))
        await worker.unmark_gone(REF)
        for gateway in both:
            assert await fetched(gateway) == new


async def test_a_mark_beats_the_other_gateways_fills_under_way(
    both: tuple[RunningGateway, RunningGateway], origin: FaultyOrigin, folder: Path
) -> None:
    rest = asyncio.Event()
    begun: Script = (announcing(len(LARGE)), LARGE[: len(LARGE) // 2], rest, LARGE[len(LARGE) // 2 :])
    origin.play(begun, good(LARGE[::-1]))
    early = asyncio.create_task(fetched(both[0]))
    await origin.requests_arrive(1)
    async with marking(folder) as worker:
        await worker.mark_gone(REF, 3_600)
        assert [await status(gateway) for gateway in both] == [404] * 2
        rest.set()
        assert await early == LARGE
        assert [await status(gateway) for gateway in both] == [404] * 2
        await worker.unmark_gone(REF)
    assert await fetched(both[0]) == LARGE[::-1]
    await until_stored(folder, 1)
    assert await fetched(both[1]) == LARGE[::-1]
    assert origin.asked == 2


def unix_environment(origin: FaultyOrigin, folder: Path, path: Path) -> dict[str, str]:
    return environment(
        origin,
        folder,
        GATEWAY_LISTEN=f"unix:{path}",
        GATEWAY_PUBLIC_URL="http://gateway",
        HOME=str(folder.parent),
    )


async def test_kill_9_within_a_fill_harms_no_other_gateway(
    within: Within, origin: FaultyOrigin, folder: Path, tmp_path: Path
) -> None:
    path, never = tmp_path / "gateway.sock", asyncio.Event()
    begun: Script = (announcing(len(LARGE)), LARGE[:1_400_000], never)
    origin.play(begun, good(LARGE))
    link = URL(LinkMinter("http://gateway", KEY).url(REF), encoded=True)
    async with (
        within() as survivor,
        started(["serve"], unix_environment(origin, folder, path)) as program,
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session,
    ):
        await program.line("listening at")
        async with session.get(link) as response:
            assert await response.content.readexactly(1_000_000) == LARGE[:1_000_000]
            readers = [asyncio.create_task(fetched(survivor)) for _ in range(20)]
            program.signal(signal.SIGKILL)
            await program.ended()
            with pytest.raises(aiohttp.ClientError):
                await response.read()
        assert [body == LARGE for body in await asyncio.gather(*readers)] == [True] * 20
        assert await purge(survivor, {"all": True}) == 204
        assert await fetched(survivor) == LARGE
    assert origin.asked == 3


async def test_a_gateway_takes_over_a_killed_one_s_stored_media(
    within: Within, origin: FaultyOrigin, folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "gateway.sock"
    link = URL(LinkMinter("http://gateway", KEY).url(REF), encoded=True)
    origin.play(good(LARGE))
    async with (
        started(["serve"], unix_environment(origin, folder, path)) as program,
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session,
    ):
        await program.line("listening at")
        async with session.get(link) as response:
            assert await response.read() == LARGE
        await until_stored(folder, 1)
        program.signal(signal.SIGKILL)
        await program.ended()
    async with within() as heir:
        assert await fetched(heir) == LARGE
    assert origin.asked == 1
