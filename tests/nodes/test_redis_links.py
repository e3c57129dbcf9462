"""The ways to Redis: TLS with an authority of one's own, a user with a password, a unix socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import quote

import pytest

from proxy.sandbox import Media, Sandbox
from tests.documents import DEPLOY, blocks
from tests.nodes.cluster import Cluster, fetches, reach_of
from tests.redis_server import RedisServer, make_certificate, redis_running

pytestmark = pytest.mark.system("redis-server")
PASSWORD = "p@ss:w/o?r#d&%25 é+="


async def works(cluster: Cluster, sandbox: Sandbox, media: Media, url: str) -> None:
    """Check that two nodes share what is stored and what is decided."""
    one, two = await asyncio.gather(*(cluster.start(url=url) for _ in range(2)))
    await one.whole(media)
    await two.whole(media)
    assert fetches(sandbox, media) == 1
    assert await two.revoke(reach_of("media", media)) == 204
    assert await cluster.statuses(media) == {403}


async def refuses(cluster: Cluster, sandbox: Sandbox, media: Media, url: str) -> list[str]:
    """Check that a node without access to Redis serves, and erases nothing; return what it said."""
    node = await cluster.start(url=url)
    await node.whole(media)
    assert await node.revoke(reach_of("media", media)) == 503
    await node.whole(media)
    await node.stop()
    return node.gateway.program.lines


async def test_a_unix_socket(cluster: Cluster, sandbox: Sandbox, large: Media, redis_server: RedisServer) -> None:
    await works(cluster, sandbox, large, redis_server.unix_url)


@pytest.fixture
async def guarded(program_path: Callable[[str], str], tmp_path: Path) -> AsyncIterator[RedisServer]:
    """Yield a Redis with one user, whose password needs escaping in a URL."""
    async with redis_running(
        program_path("redis-server"), tmp_path / "guarded", user="gateway", password=PASSWORD
    ) as server:
        yield server


async def test_a_user_whose_password_has_every_special_character(
    cluster: Cluster, sandbox: Sandbox, large: Media, guarded: RedisServer
) -> None:
    await works(cluster, sandbox, large, guarded.url)
    assert quote(PASSWORD, safe="") in guarded.url


async def test_the_readme_s_redis_user_may_do_all_it_needs(
    cluster: Cluster, sandbox: Sandbox, large: Media, program_path: Callable[[str], str], tmp_path: Path
) -> None:
    (block,) = blocks("conf", document=DEPLOY, title="Several gateways")
    config = tmp_path / "valkey.conf"
    await asyncio.to_thread(config.write_text, block.text)
    async with redis_running(
        program_path("redis-server"), tmp_path / "restricted", options=("--include", str(config))
    ) as server:
        await works(cluster, sandbox, large, f"redis://gateway:PASSWORD@127.0.0.1:{server.port}/0")
        # Without them it may do nothing at all.
        (other,) = (await sandbox.add_message([("image/png", b"png" * 1_000)])).media
        await refuses(cluster, sandbox, other, f"redis://127.0.0.1:{server.port}/0")


@pytest.mark.parametrize("credentials", ["", "gateway:wrong-0123@", "nobody:wrong-0123@", ":wrong-0123@"])
async def test_an_unknown_redis_user_costs_no_answer_or_logged_password(
    cluster: Cluster, sandbox: Sandbox, small: Media, guarded: RedisServer, credentials: str
) -> None:
    said = await refuses(cluster, sandbox, small, f"redis://{credentials}127.0.0.1:{guarded.port}/0")
    assert not [line for line in said if "wrong-0123" in line]
    assert [line for line in said if "shared" in line.lower()]


@pytest.mark.system("openssl")
async def test_tls_with_an_authority_of_one_s_own(
    cluster: Cluster, sandbox: Sandbox, large: Media, program_path: Callable[[str], str], tmp_path: Path
) -> None:
    certificate = await make_certificate(program_path("openssl"), tmp_path / "certificates")
    other = await make_certificate(program_path("openssl"), tmp_path / "others")
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(
            redis_running(
                program_path("redis-server"), tmp_path / "tls",
                certificate=certificate, user="gateway", password=PASSWORD,
            )
        )  # fmt: skip
        assert server.url.startswith("rediss://")
        await works(cluster, sandbox, large, server.url)
        (stranger,) = (await sandbox.add_message([("image/png", b"png" * 1_000)])).media
        for wrong in (
            server.url.replace(quote(str(certificate.authority), safe="/"), quote(str(other.authority), safe="/")),
            # The system's authorities do not know it either.
            server.url.partition("?")[0],
            server.url.replace("rediss://", "redis://").partition("?")[0],
        ):
            said = await refuses(cluster, sandbox, stranger, wrong)
            assert not [line for line in said if PASSWORD in line or quote(PASSWORD, safe="") in line]
