"""`GATEWAY_ACCOUNTS_DIR` of a running gateway: accounts come, change and go in every worker without a restart."""

from __future__ import annotations

import asyncio
import hashlib
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import psutil
import pytest
from yarl import URL

from proxy.links import LinkMinter
from proxy.model import AccountSid, MediaRef
from proxy.sandbox import Media, Sandbox, StallBody
from tests.functional.harness import KEY
from tests.functional.supervised import Supervised, supervised
from tests.functional.test_cli import run

OTHER = "AC" + "0b" * 16
_WORKER = 16
"""Digits of a request's id that all ids of one worker begin with."""


def account(sandbox: Sandbox, sid: str = "", password: str = "") -> str:
    return (
        f'provider = "twilio"\naccount_sid = "{sid or sandbox.account_sid}"\n'
        f'password = "{password or sandbox.auth_token}"\norigin = "{sandbox.api_url}"\n'
        f'redirect_hosts = ["{sandbox.cdn_host}"]\n'
    )


def put(path: Path, content: str) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text(content)
    fresh.chmod(0o600)
    fresh.replace(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "accounts"
    made.mkdir()
    return made


@asynccontextmanager
async def served(sandbox: Sandbox, tmp_path: Path, workers: int = 2, **more: str) -> AsyncIterator[Supervised]:
    async with supervised(
        sandbox,
        tmp_path,
        workers=workers,
        TWILIO_ACCOUNT_SID="",
        TWILIO_AUTH_TOKEN="",
        GATEWAY_UPSTREAM_URL="",
        GATEWAY_ACCOUNTS_DIR=str(tmp_path / "accounts"),
        **more,
    ) as gateway:
        yield gateway


def link(gateway: Supervised, ref: MediaRef) -> URL:
    return URL(LinkMinter(gateway.origin, KEY).url(ref, ttl=3_600), encoded=True)


async def told(gateway: Supervised) -> None:
    """Wait until the supervisor has seen a change, and read the log meanwhile: full, it would stand still."""
    await gateway.program.line("accounts: ")


async def answered(gateway: Supervised, ref: MediaRef, status: int, workers: int = 2) -> None:
    """Wait until every worker answers a link with that status, which is about to be so."""
    seen: dict[str, int] = {}
    while len(seen) < workers or set(seen.values()) != {status}:
        async with aiohttp.ClientSession() as session, session.get(link(gateway, ref)) as response:
            seen[response.headers["X-Request-Id"][:_WORKER]] = response.status


async def test_accounts_come_change_and_go_in_every_worker(
    sandbox: Sandbox, photo: Media, tmp_path: Path, folder: Path
) -> None:
    async with served(sandbox, tmp_path) as gateway:
        before = gateway.workers
        await answered(gateway, photo.ref, 404)
        put(folder / "tenant.toml", account(sandbox, password="wrong"))
        await told(gateway)
        await answered(gateway, photo.ref, 502)
        put(folder / "tenant.toml", account(sandbox))
        await told(gateway)
        await answered(gateway, photo.ref, 200)
        (folder / "tenant.toml").unlink()
        await told(gateway)
        await answered(gateway, photo.ref, 404)
        put(folder / "tenant.toml", account(sandbox))
        await told(gateway)
        await answered(gateway, photo.ref, 200)
        assert gateway.workers == before
        assert (await gateway.scrape()).get("reloads_total", result="done") == 0


async def test_a_file_that_breaks_is_named_and_keeps_its_account(
    sandbox: Sandbox, photo: Media, tmp_path: Path, folder: Path
) -> None:
    put(folder / "tenant.toml", account(sandbox))
    async with served(sandbox, tmp_path) as gateway:
        put(folder / "tenant.toml", account(sandbox)[:-9])
        line = await gateway.program.line("tenant.toml")
        assert "tenant.toml: is not TOML" in line
        put(folder / "new.toml", account(sandbox, OTHER))
        await gateway.program.line("accounts: 1 new or changed, 0 gone")
        await answered(gateway, photo.ref, 200)
        put(folder / "tenant.toml", account(sandbox))
        await gateway.program.line("tenant.toml is good again")
    assert sandbox.auth_token not in "\n".join(gateway.program.lines)


async def test_what_is_broken_at_the_start_is_absent_and_named(
    sandbox: Sandbox, photo: Media, tmp_path: Path, folder: Path
) -> None:
    put(folder / "tenant.toml", account(sandbox))
    put(folder / "broken.toml", account(sandbox, OTHER).replace("provider", "supplier"))
    async with served(sandbox, tmp_path) as gateway:
        await answered(gateway, photo.ref, 200)
        await answered(gateway, MediaRef(AccountSid.parse(OTHER), photo.ref.message, photo.ref.media), 404)
    said = "\n".join(gateway.program.lines)
    assert "broken.toml: provider: is required" in said
    assert "broken.toml: supplier: is not a setting" in said
    assert "tenant.toml" not in said


async def test_a_link_just_answered_ends_with_its_account(
    sandbox: Sandbox, photo: Media, tmp_path: Path, folder: Path
) -> None:
    put(folder / "tenant.toml", account(sandbox))
    async with served(sandbox, tmp_path, workers=1) as gateway, aiohttp.ClientSession() as session:

        async def status() -> int:
            async with session.get(link(gateway, photo.ref)) as response:
                await response.read()
                return response.status

        # By the express lane, over one connection.
        for _ in range(5):
            assert await status() == 200
        (folder / "tenant.toml").unlink()
        await told(gateway)
        while await status() == 200:
            pass
        for _ in range(5):
            assert await status() == 404


async def test_a_download_goes_on_when_its_account_has_gone(
    sandbox: Sandbox, film: Media, tmp_path: Path, folder: Path
) -> None:
    put(folder / "tenant.toml", account(sandbox))
    rule = sandbox.fault(StallBody(after=100_000), media_sid=str(film.ref.media))
    async with (
        served(sandbox, tmp_path, workers=1) as gateway,
        aiohttp.ClientSession() as session,
        session.get(link(gateway, film.ref)) as download,
    ):
        body = await download.content.readexactly(1_000)
        (folder / "tenant.toml").unlink()
        await told(gateway)
        await answered(gateway, film.ref, 404, workers=1)
        rule.release()
        body += await download.read()
        assert hashlib.sha256(body).hexdigest() == film.sha256


async def test_a_worker_that_comes_later_has_the_accounts_of_now(
    sandbox: Sandbox, photo: Media, tmp_path: Path, folder: Path
) -> None:
    async with served(sandbox, tmp_path, workers=1) as gateway:
        put(folder / "tenant.toml", account(sandbox))
        await told(gateway)
        await answered(gateway, photo.ref, 200, workers=1)
        (worker,) = gateway.workers
        psutil.Process(worker).kill()
        await gateway.program.line("another one takes its place")
        await gateway.scraped(lambda _: worker not in gateway.workers and len(gateway.workers) == 1)
        async with aiohttp.ClientSession() as session, session.get(link(gateway, photo.ref)) as response:
            assert response.status == 200


async def test_a_reload_reads_the_folder_again(sandbox: Sandbox, photo: Media, tmp_path: Path, folder: Path) -> None:
    put(folder / "tenant.toml", account(sandbox))
    async with served(sandbox, tmp_path) as gateway:
        put(folder / "tenant.toml", "broken")
        await gateway.program.line("tenant.toml: is not TOML")
        gateway.program.signal(signal.SIGHUP)
        # Said again, of what was read again.
        await gateway.program.line("tenant.toml: is not TOML")
        await gateway.program.line("reloaded")
        await answered(gateway, photo.ref, 200)
        # What changes from here on is followed by the new workers.
        (folder / "tenant.toml").unlink()
        await told(gateway)
        await answered(gateway, photo.ref, 404)


async def test_an_unreadable_folder_refuses_a_reload(
    sandbox: Sandbox, photo: Media, tmp_path: Path, folder: Path
) -> None:
    put(folder / "tenant.toml", account(sandbox))
    async with served(sandbox, tmp_path, workers=1) as gateway:
        await asyncio.to_thread(folder.rename, tmp_path / "elsewhere")
        await gateway.program.line("GATEWAY_ACCOUNTS_DIR: the folder cannot be read")
        gateway.program.signal(signal.SIGHUP)
        await answered(gateway, photo.ref, 200, workers=1)
        await asyncio.to_thread((tmp_path / "elsewhere").rename, folder)
        await gateway.program.line("GATEWAY_ACCOUNTS_DIR is good again")


async def test_a_worker_that_stands_still_is_told_all_later(
    sandbox: Sandbox, photo: Media, tmp_path: Path, folder: Path
) -> None:
    async with served(sandbox, tmp_path) as gateway:
        stopped = psutil.Process(gateway.workers[0])
        stopped.suspend()
        try:
            # More than its line takes.
            for number in range(3_000):
                put(folder / f"{number}.toml", account(sandbox, f"AC{number:032x}"))
            put(folder / "tenant.toml", account(sandbox, password="wrong"))
            told = 0
            while told < 3_001:
                line = await gateway.program.line("accounts: ")
                told += int(line.partition("accounts: ")[2].partition(" ")[0])
            put(folder / "tenant.toml", account(sandbox))
            await gateway.program.line("accounts: 1 new or changed, 0 gone")
        finally:
            stopped.resume()
        await answered(gateway, photo.ref, 200)
        gateway.program.signal(signal.SIGTERM)
        assert await gateway.program.ended() == 0


async def test_check_names_each_file_that_cannot_be_used(sandbox: Sandbox, tmp_path: Path, folder: Path) -> None:
    put(folder / "tenant.toml", account(sandbox))
    environ = {
        "GATEWAY_SIGNING_KEYS": KEY,
        "GATEWAY_PUBLIC_URL": "https://media.example",
        "GATEWAY_ACCOUNTS_DIR": str(folder),
    }
    good = await asyncio.to_thread(run, "check", environ=environ)
    assert (good.exit_code, good.stdout.splitlines()[0]) == (0, "ok   settings")
    put(folder / "twice.toml", account(sandbox))
    put(folder / "broken.toml", "broken")
    bad = await asyncio.to_thread(run, "check", environ=environ)
    assert bad.exit_code == 1
    assert bad.stdout.splitlines()[1:] == [
        "BAD  broken.toml: is not TOML: Expected '=' after a key in a key/value pair (at end of document)",
        "BAD  twice.toml: account_sid: this account is configured twice, here and at tenant.toml",
        f"ok   {sandbox.account_sid}: {sandbox.api_url} takes its credentials",
    ]
    assert sandbox.auth_token not in bad.stdout
