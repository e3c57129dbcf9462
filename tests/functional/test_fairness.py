"""However many media of one account, or of one message, are asked for: all others are served meanwhile."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.functional.counting import BODY, MISSING, A, B, CountingUpstream, media, node

WORKERS = pytest.mark.parametrize("workers", [1, 2])


@pytest.fixture
async def upstream() -> AsyncIterator[CountingUpstream]:
    async with CountingUpstream().serving() as serving:
        yield serving


@WORKERS
async def test_one_accounts_flood_leaves_the_others_their_part(
    upstream: CountingUpstream, tmp_path: Path, workers: int
) -> None:
    async with node(
        upstream, tmp_path, workers, GATEWAY_LIMIT_UPSTREAM_CONNECTIONS="8", GATEWAY_LIMIT_FILLS="60"
    ) as gateway:
        stored = [gateway.link(media(account, number, number)) for account in (A, B) for number in range(5)]
        assert Counter(await asyncio.gather(*map(gateway.get, stored))) == {(200, BODY): 10}
        upstream.holds.add(A)
        flood = [gateway.link(media(A, number, number)) for number in range(100, 400)]
        readers = [asyncio.create_task(gateway.get(link)) for link in flood]
        await upstream.until(lambda upstream: upstream.held[A] == 8)
        # More than one account may have at a time: what is too much is refused at once.
        refused, _ = await asyncio.wait(readers, return_when=asyncio.FIRST_COMPLETED)
        cold = [gateway.link(media(B, number, number)) for number in range(100, 110)]
        for links in ([*stored, *cold[:5]], cold[5:]):
            assert Counter(await asyncio.gather(*map(gateway.get, links))) == {(200, BODY): len(links)}
        assert upstream.held[A] == 8
        assert {answer.result()[0] for answer in refused} == {503}
        await upstream.let_go(A)
        answers = Counter(status for status, _ in await asyncio.gather(*readers))
        assert set(answers) == {200, 503}
        # About half of the places, in each worker.
        assert answers[200] >= 25


@WORKERS
async def test_endless_invented_media_of_one_message_leave_others_their_part(
    upstream: CountingUpstream, tmp_path: Path, workers: int
) -> None:
    upstream.missing = lambda target: "/ME" + "f" * 8 in target
    upstream.holds.add(MISSING)
    async with node(
        upstream, tmp_path, workers, GATEWAY_LIMIT_UPSTREAM_CONNECTIONS="8", GATEWAY_LIMIT_FILLS="60"
    ) as gateway:
        link = gateway.link_of_message(media(A, 1, 7))
        invented = [media(A, (0xFFFF_FFFF << 96) + number, 7) for number in range(300)]
        readers = [asyncio.create_task(gateway.get(link(ref))) for ref in invented]
        await upstream.until(lambda upstream: upstream.held[MISSING] == 6)
        others = [gateway.link(media(account, number, number)) for account in (A, B) for number in range(20, 28)]
        assert Counter(await asyncio.gather(*map(gateway.get, others))) == {(200, BODY): 16}
        assert upstream.held[MISSING] == 6
        # A third of the places, in each worker; what was just served is stored a moment later.
        fills = (await gateway.scraped(lambda scrape: scrape.get("fills") <= workers * 21)).get("fills")
        await upstream.let_go(MISSING)
        answers = Counter(status for status, _ in await asyncio.gather(*readers))
        assert set(answers) == {404, 503}
        assert answers[404] <= fills + workers * 21
        # What the message really has opens again.
        assert await gateway.get(link(media(A, 1, 7))) == (200, BODY)
