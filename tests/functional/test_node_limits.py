"""Limits for an account or an address hold for a node, however many workers it has."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.functional.counting import BODY, A, B, CountingUpstream, media, node


@pytest.fixture
async def upstream() -> AsyncIterator[CountingUpstream]:
    async with CountingUpstream().serving() as serving:
        yield serving


@pytest.mark.parametrize(("workers", "connections"), [(1, 6), (2, 6), (4, 6), (4, 2), (2, 1)])
async def test_an_accounts_connections_are_bounded_in_all_workers_together(
    upstream: CountingUpstream, tmp_path: Path, workers: int, connections: int
) -> None:
    async with node(upstream, tmp_path, workers, GATEWAY_LIMIT_UPSTREAM_CONNECTIONS=str(connections)) as gateway:
        links = [gateway.link(media(A, number, number % 30)) for number in range(120)]
        answers = await asyncio.gather(*map(gateway.get, links))
        assert Counter(status for status, _ in answers) == {200: 120}
        assert all(body == BODY for _, body in answers)
        assert upstream.most <= connections
        # Nor does a second burst find more, with the connections that the first one has left.
        links = [gateway.link(media(A, number, number % 30)) for number in range(200, 260)]
        assert {status for status, _ in await asyncio.gather(*map(gateway.get, links))} == {200}
        assert upstream.most <= connections


async def test_all_of_an_accounts_connections_are_used(upstream: CountingUpstream, tmp_path: Path) -> None:
    upstream.holds.add(A)
    async with node(upstream, tmp_path, 2, GATEWAY_LIMIT_UPSTREAM_CONNECTIONS="8") as gateway:
        links = [gateway.link(media(A, number, number)) for number in range(40)]
        answers = [asyncio.create_task(gateway.get(link)) for link in links]
        await upstream.until(lambda upstream: upstream.held[A] == 8)
        await upstream.let_go(A)
        assert {status for status, _ in await asyncio.gather(*answers)} == {200}
        assert upstream.most == 8


async def test_the_connections_of_a_killed_worker_come_back(upstream: CountingUpstream, tmp_path: Path) -> None:
    upstream.holds.add(A)
    async with node(upstream, tmp_path, 2, GATEWAY_LIMIT_UPSTREAM_CONNECTIONS="4") as gateway:
        links = [gateway.link(media(A, number, number)) for number in range(40)]
        answers = [asyncio.create_task(gateway.get(link)) for link in links]
        await upstream.until(lambda upstream: upstream.held[A] == 4)
        for worker in gateway.workers:
            worker.kill()
        for answer in answers:
            answer.cancel()
        await asyncio.gather(*answers, return_exceptions=True)
        await gateway.scraped(lambda scrape: scrape.get("workers") == 2 and scrape.get("workers_lost_total") == 2)
        await upstream.let_go(A)
        links = [gateway.link(media(A, number, number)) for number in range(100, 140)]
        assert {status for status, _ in await asyncio.gather(*map(gateway.get, links))} == {200}
        assert upstream.most <= 4


async def test_idle_connections_of_one_worker_leave_another_one_its_part(
    upstream: CountingUpstream, tmp_path: Path
) -> None:
    async with node(upstream, tmp_path, 2, GATEWAY_LIMIT_UPSTREAM_CONNECTIONS="2") as gateway:
        first, second = gateway.workers
        async with gateway.connection(asleep=second) as to_first, gateway.connection(asleep=first) as to_second:
            for number, connection in enumerate((to_first, to_second) * 3):
                assert await connection(gateway.link(media(A, number, number))) == (200, BODY)
        assert upstream.most <= 2


async def test_an_address_s_bad_signatures_are_counted_across_workers(
    upstream: CountingUpstream, tmp_path: Path
) -> None:
    async with node(upstream, tmp_path, 4, GATEWAY_LIMIT_BAD_SIGNATURES="10") as gateway:
        bad = gateway.link(media(A, 1))[:-2] + "xx"
        answers = await asyncio.gather(*(gateway.get(bad) for _ in range(60)))
        assert Counter(status for status, _ in answers) == {403: 10, 429: 50}


async def test_fetches_without_readers_are_bounded_in_all_workers_together(
    upstream: CountingUpstream, tmp_path: Path
) -> None:
    upstream.holds |= {A, B}
    upstream.after_head = True
    async with node(upstream, tmp_path, 4, GATEWAY_LIMIT_UNREAD_FILLS_PER_ACCOUNT="3") as gateway:
        links = [gateway.link(media(account, number, number)) for account in (A, B) for number in range(20)]
        assert set(await asyncio.gather(*map(gateway.head, links))) == {200}
        await gateway.scraped(lambda scrape: scrape.get("fills") == 6)
        await upstream.let_go(A)
        await upstream.let_go(B)
        ended = await gateway.scraped(lambda scrape: scrape.get("fills") == 0)
        assert ended.get("fills_ended_total", outcome="stored") == 6
        assert ended.get("fills_ended_total", outcome="abandoned") == 34
