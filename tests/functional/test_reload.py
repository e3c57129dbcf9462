"""SIGHUP: the settings are read again, and nobody who is served notices more than that."""

from __future__ import annotations

import asyncio
import hashlib
import signal
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from proxy.app import create_app, open_gateway
from proxy.links import LinkMinter
from proxy.sandbox import Media, Sandbox, StallBody
from proxy.settings import load
from proxy.telemetry.metrics import Metrics
from tests.functional.harness import CLIENT, KEY, environment
from tests.functional.loading import loaded
from tests.functional.supervised import Supervised, supervised

OTHER_KEY = f"k2:{'t' * 40}"
OTHER_CLIENT = ("other", "d" * 40)


async def reload(gateway: Supervised) -> None:
    gateway.program.signal(signal.SIGHUP)
    await gateway.program.line("reloaded")


async def write(path: Path, text: str) -> None:
    await asyncio.to_thread(path.write_text, text)


async def status(gateway: Supervised, media: Media, key: str) -> int:
    """Return the status of a link that is signed with that key, over a connection of its own."""
    link = LinkMinter(gateway.origin, key).url(media.ref)
    async with aiohttp.ClientSession() as session, session.get(URL(link, encoded=True)) as response:
        return response.status


async def mint_status(gateway: Supervised, media: Media, client: tuple[str, str]) -> int:
    account, message, sid = str(media.ref).split("/")
    asked = {"media": [{"account_sid": account, "message_sid": message, "media_sid": sid}]}
    headers = {"Authorization": aiohttp.encode_basic_auth(*client)}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{gateway.origin}/links", json=asked, headers=headers) as response,
    ):
        return response.status


@pytest.mark.parametrize("overrides", [{}, {"GATEWAY_LOOP": "asyncio", "GATEWAY_EXPRESS": "0"}], ids=str)
@pytest.mark.parametrize("workers", [1, 2])
async def test_no_request_fails_while_the_settings_are_read_again(
    sandbox: Sandbox, photo: Media, tmp_path: Path, workers: int, overrides: dict[str, str]
) -> None:
    async with supervised(sandbox, tmp_path, workers=workers, **overrides) as gateway:
        expected = {gateway.target(photo): photo.read(), "/readyz": None}
        async with loaded(gateway.origin, expected) as load:
            for _ in range(3):
                before = gateway.workers
                await load.goes_on(20)
                await reload(gateway)
                await load.goes_on(20)
                assert not set(before) & set(gateway.workers[-workers:])
        assert load.faults == []
        assert (await gateway.scrape()).get("reloads_total", result="done") == 3
        gateway.program.signal(signal.SIGTERM)
        assert await gateway.program.ended() == 0


async def test_a_worker_that_retires_is_ready_and_keeps_no_connection(
    sandbox: Sandbox, photo: Media, tmp_path: Path
) -> None:
    settings = await asyncio.to_thread(load, environment(sandbox, tmp_path), None)
    async with open_gateway(settings, Metrics()) as parts:
        runner = web.AppRunner(create_app(parts), access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            parts.readiness.retiring = True
            at = f"http://127.0.0.1:{runner.addresses[0][1]}"
            async with aiohttp.ClientSession() as session, session.get(f"{at}/readyz") as response:
                assert (response.status, response.headers["Connection"]) == (200, "close")
        finally:
            await runner.cleanup()


async def test_a_running_download_is_finished_by_its_old_worker(sandbox: Sandbox, film: Media, tmp_path: Path) -> None:
    rule = sandbox.fault(StallBody(after=100_000), media_sid=str(film.ref.media))
    async with (
        supervised(sandbox, tmp_path, workers=1, GATEWAY_DRAIN_SECONDS="50") as gateway,
        aiohttp.ClientSession() as session,
        session.get(URL(gateway.origin + gateway.target(film), encoded=True)) as download,
    ):
        body = await download.content.readexactly(1_000)
        (old,) = gateway.workers
        await reload(gateway)
        assert gateway.workers[0] == old
        assert len(gateway.workers) == 2
        rule.release()
        body += await download.read()
        assert hashlib.sha256(body).hexdigest() == film.sha256
        await gateway.scraped(lambda _: old not in gateway.workers)


async def test_a_removed_key_is_refused_and_a_new_client_accepted(
    sandbox: Sandbox, photo: Media, tmp_path: Path
) -> None:
    keys, clients = tmp_path / "keys", tmp_path / "clients"
    await write(keys, f"{KEY},{OTHER_KEY}\n")
    await write(clients, ":".join(CLIENT))
    async with supervised(
        sandbox, tmp_path, GATEWAY_SIGNING_KEYS="", GATEWAY_CLIENTS="",
        GATEWAY_SIGNING_KEYS_FILE=str(keys), GATEWAY_CLIENTS_FILE=str(clients),
    ) as gateway:  # fmt: skip
        assert await status(gateway, photo, KEY) == await status(gateway, photo, OTHER_KEY) == 200
        assert await mint_status(gateway, photo, OTHER_CLIENT) == 401
        await write(keys, OTHER_KEY)
        await write(clients, f"{':'.join(CLIENT)},{':'.join(OTHER_CLIENT)}")
        await reload(gateway)
        assert await status(gateway, photo, KEY) == 403
        assert await status(gateway, photo, OTHER_KEY) == 200
        assert await mint_status(gateway, photo, CLIENT) == await mint_status(gateway, photo, OTHER_CLIENT) == 201


async def test_bad_settings_are_said_and_the_old_ones_go_on(sandbox: Sandbox, photo: Media, tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    await write(config, "gateway_link_ttl = 100\n")
    async with supervised(sandbox, tmp_path, arguments=["--config", str(config)]) as gateway:
        before = gateway.workers
        await write(config, 'gateway_link_ttl = "soon"\ngateway_nothing = 1\n')
        gateway.program.signal(signal.SIGHUP)
        said = [await gateway.program.line("stay as they were") for _ in range(2)]
        assert ["gateway_nothing" in said[0], "gateway_link_ttl: expected" in said[1]] == [True, True]
        assert await status(gateway, photo, KEY) == 200
        assert gateway.workers == before
        assert (await gateway.scrape()).get("reloads_total", result="refused") == 1
        await write(config, "")
        await reload(gateway)
        assert await status(gateway, photo, KEY) == 200


async def test_settings_that_start_no_worker_are_not_taken_over(sandbox: Sandbox, photo: Media, tmp_path: Path) -> None:
    config, file = tmp_path / "gateway.toml", tmp_path / "a-file"
    await write(config, f'gateway_cache_dir = "{tmp_path / "cache"}"\n')
    await write(file, "in the way")
    arguments = ["--config", str(config)]
    async with supervised(sandbox, tmp_path, arguments=arguments, GATEWAY_CACHE_DIR="") as gateway:
        before = gateway.workers
        await write(config, f'gateway_cache_dir = "{file}"\n')
        gateway.program.signal(signal.SIGHUP)
        assert f"GATEWAY_CACHE_DIR: {file} cannot be used" in await gateway.program.line("stay as they were")
        assert await status(gateway, photo, KEY) == 200
        await gateway.scraped(lambda _: gateway.workers == before)
        await write(config, f'gateway_cache_dir = "{tmp_path / "other"}"\n')
        await reload(gateway)
        assert await status(gateway, photo, KEY) == 200


async def test_another_listen_address_needs_a_restart(sandbox: Sandbox, photo: Media, tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    await write(config, 'gateway_listen = "127.0.0.1:0"\n')
    arguments = ["--config", str(config)]
    async with supervised(sandbox, tmp_path, arguments=arguments, GATEWAY_LISTEN="") as gateway:
        await write(config, 'gateway_listen = "127.0.0.1:1"\n')
        gateway.program.signal(signal.SIGHUP)
        assert "GATEWAY_LISTEN: a change needs a restart" in await gateway.program.line("GATEWAY_LISTEN")
        # Links begin with the address that there is.
        assert gateway.origin in await gateway.program.line("reloaded")
        assert await status(gateway, photo, KEY) == 200


async def test_a_crowd_of_reloads_ends_with_the_last_settings(sandbox: Sandbox, photo: Media, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    await write(keys, KEY)
    async with supervised(
        sandbox, tmp_path, workers=1, GATEWAY_SIGNING_KEYS="", GATEWAY_SIGNING_KEYS_FILE=str(keys)
    ) as gateway:
        async with loaded(gateway.origin, {"/healthz": None}) as load:
            for number in range(6):
                gateway.program.signal(signal.SIGHUP)
                await load.goes_on(5 * number)
            await write(keys, OTHER_KEY)
            gateway.program.signal(signal.SIGHUP)
            while await status(gateway, photo, OTHER_KEY) != 200:
                await load.goes_on(1)
        assert load.faults == []
        assert await status(gateway, photo, KEY) == 403
