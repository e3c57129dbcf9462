"""The redis-server of the tests: each way to reach it, and each fault that it can be given."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeout

from tests.redis_server import RedisServer, make_certificate, redis_running

pytestmark = pytest.mark.system("redis-server")


async def answers(url: str) -> bool:
    client = Redis.from_url(url, socket_timeout=2.0)
    try:
        return bool(await client.ping())
    finally:
        await client.aclose()


async def test_it_is_reached_by_tcp_and_by_its_socket(redis_server: RedisServer) -> None:
    assert await answers(redis_server.url)
    assert await answers(redis_server.unix_url)
    assert await redis_server.command("SET", "a", "1") is True


async def test_it_is_empty_after_a_restart_unless_it_is_persistent(
    program_path: Callable[[str], str], tmp_path: Path
) -> None:
    for persistent in (False, True):
        folder = tmp_path / str(persistent)
        async with redis_running(program_path("redis-server"), folder, persistent=persistent) as server:
            await server.command("SET", "a", "1")
            await server.restart()
            assert (await server.command("GET", "a") is not None) is persistent


async def test_a_paused_server_is_silent_and_an_ended_one_gone(redis_server: RedisServer) -> None:
    redis_server.pause()
    with pytest.raises(RedisTimeout):
        await answers(redis_server.url)
    redis_server.resume()
    assert await answers(redis_server.url)
    await redis_server.kill()
    with pytest.raises(RedisConnectionError):
        await answers(redis_server.url)


@pytest.mark.system("openssl")
async def test_it_speaks_tls_and_asks_for_a_user(program_path: Callable[[str], str], tmp_path: Path) -> None:
    certificate = await make_certificate(program_path("openssl"), tmp_path / "tls")
    user, password = "gate", "p@ss:/?#%w"
    async with redis_running(
        program_path("redis-server"), tmp_path / "redis", certificate=certificate, user=user, password=password
    ) as server:
        assert server.url.startswith("rediss://gate:p%40ss%3A%2F%3F%23%25w@")
        assert await answers(server.url)
        with pytest.raises(AuthenticationError):
            await answers(server.url.replace("%40", "x"))
        with pytest.raises(RedisConnectionError):
            await answers(server.url.partition("?")[0])
