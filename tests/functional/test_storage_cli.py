"""The command line: `purge` and `stats`, beside running gateways and without one."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypedDict

import pytest
from click.testing import CliRunner, Result

from proxy.cache.counters import Counter, RamUsage
from proxy.cache.disk.index import Index
from proxy.cache.disk.store import open_disk
from proxy.cache.disk.workers_table import STALE_SECONDS
from proxy.cli import main
from proxy.model import MediaSid
from proxy.sandbox import Headers, Media, Sandbox, StallBody, Status
from tests.documents import WEB, blocks
from tests.functional.configuring import conversation
from tests.functional.harness import Gateways, RunningGateway
from tests.redis_server import RedisServer

ACCOUNT, MESSAGE, MEDIA = "AC" + "0a" * 16, "MM" + "1a" * 16, "ME" + "2a" * 16
UUID = "01234567-89ab-cdef-0123-456789abcdef"


class Worker(TypedDict):
    worker: str
    entries: int
    bytes: int


class Disk(TypedDict):
    entries: int
    bytes: int
    max_bytes: int


class Ram(Disk):
    workers: list[Worker]


class Stats(TypedDict):
    disk: Disk
    ram: Ram
    requests: dict[str, int]
    hit_ratio: float | None


def run_in(folder: Path, *arguments: str, **environ: str) -> Result:
    """Return the command with the cache folder as its only setting, unless others are given."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("GATEWAY_", "TWILIO_", "SIGNALWIRE_"))]:
            patch.delenv(name)
        result = CliRunner().invoke(main, arguments, env={"GATEWAY_CACHE_DIR": str(folder), **environ})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


async def purge(folder: Path, *arguments: str) -> Result:
    return await asyncio.to_thread(run_in, folder, "purge", *arguments)


async def stats(folder: Path, **environ: str) -> Stats:
    result = await asyncio.to_thread(run_in, folder, "stats", "--json", **environ)
    assert (result.exit_code, result.stderr) == (0, "")
    found: Stats = json.loads(result.stdout)
    return found


async def stats_once(folder: Path, holds: Callable[[Stats], bool]) -> Stats:
    """Return what `stats` says as soon as that holds: the workers report every few seconds."""
    while not holds(found := await stats(folder)):
        pass
    return found


@pytest.fixture
def reporting_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.cache.disk.write_behind._SECONDS", 0.01)


async def is_hit(gateway: RunningGateway, media: Media) -> bool:
    reply = await gateway.get(gateway.link(media.ref))
    assert (reply.status, reply.body) == (200, media.read())
    return reply.headers["Cache-Status"].startswith("media-gateway; hit; ")


async def store(gateway: RunningGateway, *media: Media) -> None:
    for one in media:
        # The second reader waits for the storing.
        assert [await is_hit(gateway, one), await is_hit(gateway, one)] == [False, True]


# --- the program ----------------------------------------------------------------------------------------------


def test_help_is_there_and_unknown_commands_are_usage_errors(tmp_path: Path) -> None:
    for command in ("purge", "stats"):
        assert run_in(tmp_path, command, "--help").stdout.startswith("Usage:")
    listed = run_in(tmp_path, "--help").stdout
    assert all(f"\n  {command} " in listed for command in main.list_commands(main.make_context("main", ["purge"])))
    assert run_in(tmp_path, "purg").exit_code == 2


def test_a_command_waits_for_no_import_of_another_s() -> None:
    said = "import sys, proxy.cli; print(sorted({'aiohttp', 'pydantic', 'aiocache'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# --- purge ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("which", "left"),
    [("media", [False, True, True]), ("message", [False, False, True]), ("account", [False] * 3), ("all", [False] * 3)],
)
async def test_purge_erases_what_is_named_from_a_gateway_that_runs(
    gateways: Gateways, gateway: RunningGateway, sandbox: Sandbox, which: str, left: list[bool]
) -> None:
    media = await conversation(sandbox)
    await store(gateway, *media)
    # The disk has them a moment after RAM.
    await stats_once(gateways.folder, lambda found: found["disk"]["entries"] == 3)
    ref = media[0].ref
    account, message, one = (
        ["--account", str(ref.account)],
        ["--message", str(ref.message)],
        ["--media", str(ref.media)],
    )
    arguments, named, count = {
        "media": ([*account, *message, *one], f"media {ref}", "1 stored response"),
        "message": ([*account, *message], f"all media of message {ref.parent}", "2 stored responses"),
        "account": (account, f"all media of account {ref.account}", "3 stored responses"),
        "all": (["--all"], "everything", "3 stored responses"),
    }[which]
    result = await purge(gateways.folder, *arguments, "--dry-run")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"Would erase {named} from {gateways.folder} ({count})\n"
    assert [await is_hit(gateway, one) for one in media] == [True] * 3
    result = await purge(gateways.folder, *arguments)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"Erased {named} from {gateways.folder} ({count})\n"
    assert [await is_hit(gateway, one) for one in media] == left


async def test_a_gateway_that_serves_is_among_the_workers(gateways: Gateways) -> None:
    async with gateways.running(), gateways.running():
        assert len((await stats(gateways.folder))["ram"]["workers"]) == 2


async def test_purge_empties_the_ram_of_running_gateways_at_once(
    gateways: Gateways, sandbox: Sandbox, film: Media
) -> None:
    media = await conversation(sandbox)
    first, second, _ = media
    async with gateways.running() as one, gateways.running() as other:
        await store(one, *media, film)
        for gateway in (one, other):
            for each in (*media, film):
                while not await is_hit(gateway, each):
                    pass
        message = ("--account", str(first.ref.account), "--message", str(first.ref.message))
        assert (await purge(gateways.folder, *message)).exit_code == 0
        # Nobody asks for them here, and the command is over only when they are gone.
        found = await stats(gateways.folder)
        assert [worker["entries"] for worker in found["ram"]["workers"]] == [2, 2]
        assert (await purge(gateways.folder, "--all")).exit_code == 0
        found = await stats(gateways.folder)
        assert [(worker["entries"], worker["bytes"]) for worker in found["ram"]["workers"]] == [(0, 0), (0, 0)]
        assert not await is_hit(one, second)


async def test_the_command_line_evicts_nothing_whatever_its_own_bound(
    gateways: Gateways, gateway: RunningGateway, sandbox: Sandbox
) -> None:
    media = await conversation(sandbox)
    await store(gateway, *media)
    await stats_once(gateways.folder, lambda found: found["disk"]["entries"] == 3)
    tight = {"GATEWAY_CACHE_BYTES": "1"}
    unknown = ("--account", ACCOUNT, "--message", MESSAGE)
    result = await asyncio.to_thread(run_in, gateways.folder, "purge", *unknown, **tight)
    assert result.stdout.endswith(f"{gateways.folder} (0 stored responses)\n")
    found = await stats(gateways.folder, **tight)
    # The folder says itself what it may take.
    assert (found["disk"]["entries"], found["disk"]["max_bytes"]) == (3, 10_000_000_000)
    assert [await is_hit(gateway, one) for one in media] == [True] * 3


async def test_the_command_line_leaves_an_unreadable_index_alone(gateways: Gateways, sandbox: Sandbox) -> None:
    media = await conversation(sandbox)
    async with gateways.running() as gateway:
        await store(gateway, *media)
    (path,) = gateways.folder.glob("index-*.sqlite3")
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 3")
    for command in (("stats",), ("purge", "--all"), ("purge", "--all", "--dry-run")):
        result = await asyncio.to_thread(run_in, gateways.folder, *command)
        assert (result.exit_code, result.stdout) == (1, "")
        assert "its version is 3" in result.stderr
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 2")
    assert (await stats(gateways.folder))["disk"]["entries"] == 3


@pytest.mark.system("redis-server")
async def test_purge_says_what_was_erased_before_the_folder_failed(redis_server: RedisServer, tmp_path: Path) -> None:
    (tmp_path / "index-0.sqlite3").mkdir()
    result = await asyncio.to_thread(run_in, tmp_path, "purge", "--all", GATEWAY_SHARED_CACHE=redis_server.url)
    assert (result.exit_code, result.stdout) == (1, "")
    place = redis_server.url.removesuffix("/0")
    assert result.stderr.startswith(f"media-gateway: erased from {place} (0 stored responses) alone: ")


async def test_purge_erases_large_media_too_and_their_files(
    gateways: Gateways, gateway: RunningGateway, film: Media
) -> None:
    await store(gateway, film)
    assert (await purge(gateways.folder, "--all")).exit_code == 0
    assert not [path for path in (gateways.folder / "bodies").rglob("*") if path.is_file()]
    assert not await is_hit(gateway, film)


async def test_purge_holds_where_no_gateway_runs(gateways: Gateways, sandbox: Sandbox, film: Media) -> None:
    first, _, other = await conversation(sandbox)
    async with gateways.running() as gateway:
        await store(gateway, first, other, film)
    message = ("--account", str(film.ref.account), "--message", str(film.ref.message))
    assert (await purge(gateways.folder, *message)).exit_code == 0
    async with gateways.running() as gateway:
        assert [await is_hit(gateway, one) for one in (first, other, film)] == [True, True, False]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "either --account or --all"),
        (["--all", "--account", ACCOUNT], "either --account or --all"),
        (["--message", MESSAGE], "either --account or --all"),
        (["--all", "--message", MESSAGE], "--all stands alone"),
        (["--all", "--media", MEDIA], "--all stands alone"),
        (["--account", ACCOUNT, "--media", MEDIA], "--media needs --message"),
        (["--account", "ACx"], "--account is not an account SID"),
        (["--account", ACCOUNT, "--message", f"{MESSAGE}/"], "--message is not a message SID"),
        (["--account", ACCOUNT, "--message", MESSAGE, "--media", ""], "--media is not a media SID"),
        (["--account", ACCOUNT, "--message", UUID], "mixes the identifiers of two providers"),
        (["--account", ACCOUNT, "--message", MESSAGE, "--media", UUID], "mixes the identifiers of two providers"),
        (["--account"], "requires an argument"),
        ([ACCOUNT], "unexpected extra argument"),
    ],
)
async def test_purge_erases_nothing_where_its_options_make_no_sense(
    gateways: Gateways, gateway: RunningGateway, photo: Media, arguments: list[str], said: str
) -> None:
    await store(gateway, photo)
    result = await purge(gateways.folder, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr
    assert await is_hit(gateway, photo)


@pytest.mark.parametrize("made", [False, True])
def test_purge_says_that_a_folder_is_none_and_makes_none(tmp_path: Path, made: bool) -> None:
    folder = tmp_path / "elsewhere"
    if made:
        folder.mkdir()
    result = run_in(folder, "purge", "--all")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"media-gateway: {folder}, which GATEWAY_CACHE_DIR names, is not a cache folder\n"
    assert list(tmp_path.rglob("*")) == ([folder] if made else [])


def test_purge_takes_the_lines_of_its_guide(tmp_path: Path) -> None:
    index = Index(tmp_path)
    index.open()
    index.close()
    text = "".join(block.text for block in blocks("bash", document=WEB, title="Erasing what is stored"))
    lines = [line for line in text.splitlines() if line.startswith("media-gateway purge ")]
    assert len(lines) == 2
    for line in lines:
        assert run_in(tmp_path, *shlex.split(line)[1:]).exit_code == 0


def test_purge_reports_a_bad_setting_with_2(tmp_path: Path) -> None:
    result = run_in(tmp_path, "purge", "--all", GATEWAY_CACHE_BYTES="much")
    assert (result.exit_code, result.stdout, result.stderr.partition(":")[0]) == (2, "", "GATEWAY_CACHE_BYTES")


def test_purge_wants_a_folder_that_it_can_write(tmp_path: Path) -> None:
    (tmp_path / "index-0.sqlite3").mkdir()
    result = run_in(tmp_path, "purge", "--all")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("media-gateway: nothing was erased: ")


async def test_purge_says_that_nothing_was_erased_with_1(
    gateways: Gateways, gateway: RunningGateway, photo: Media, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store(gateway, photo)

    def fail(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as patch:
        patch.setattr("proxy.cache.disk.invalidations_table.record", fail)
        result = await purge(gateways.folder, "--all")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "media-gateway: nothing was erased: the disk tier's index failed: disk I/O error\n"
    assert await is_hit(gateway, photo)


# --- stats ----------------------------------------------------------------------------------------------------


def requests(**counted: int) -> dict[str, int]:
    return {counter.value: counted.get(counter.value, 0) for counter in Counter}


async def test_stats_says_how_each_request_ended(gateways: Gateways, sandbox: Sandbox, film: Media) -> None:
    first, second, other = await conversation(sandbox)
    async with gateways.running() as gateway:
        await store(gateway, first, film)
        assert await is_hit(gateway, first)
        sandbox.fault(Status(500), media_sid=str(second.ref.media))
        assert (await gateway.get(gateway.link(second.ref))).status == 502
        sandbox.clear_faults()
        head = await gateway.head(gateway.link(other.ref))
        assert head.status == 200
    found = await stats(gateways.folder)
    assert found["requests"] == requests(ram_hits=2, disk_hits=1, misses=3, errors=1)
    assert found["hit_ratio"] == 0.5


async def test_stats_tells_validated_and_stale_answers_apart(
    gateways: Gateways, sandbox: Sandbox, photo: Media
) -> None:
    stale_at_once = Headers(put=(("Cache-Control", "max-age=0"),))
    sandbox.fault(stale_at_once)
    async with gateways.running() as gateway:
        assert [await is_hit(gateway, photo), await is_hit(gateway, photo)] == [False, False]
    assert (await stats(gateways.folder))["requests"] == requests(misses=1, validated=1)
    async with gateways.running(GATEWAY_CACHE_STALE_WHILE_REVALIDATE="600") as gateway:
        assert await is_hit(gateway, photo)
    async with gateways.running(GATEWAY_CACHE_STALE_IF_ERROR="600") as gateway:
        sandbox.clear_faults()
        sandbox.fault(Status(500))
        assert not await is_hit(gateway, photo)
    found = await stats(gateways.folder)
    assert (found["requests"], found["hit_ratio"]) == (requests(misses=1, validated=1, stale=2), 0.5)


async def test_stats_tells_a_remembered_404_from_a_fetched_one(
    gateways: Gateways, photo: Media, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As two minutes after the gateway first met the message: a new one's 404 is waited for.
    monkeypatch.setattr("proxy.web.services.young_messages.YoungMessages.meet", lambda *_: False)
    gone = photo.ref.parent.media(MediaSid.parse(MEDIA))
    async with gateways.running() as gateway:
        assert [(await gateway.get(gateway.link(gone))).status for _ in range(3)] == [404] * 3
    found = await stats(gateways.folder)
    assert (found["requests"], found["hit_ratio"]) == (requests(not_found=1, negative_hits=2), None)


async def test_stats_counts_the_readers_that_share_a_fetch(gateways: Gateways, sandbox: Sandbox, film: Media) -> None:
    async with gateways.running() as gateway:
        sandbox.fault(StallBody(1_500_000), times=1)
        link = gateway.link(film.ref)
        readers = [asyncio.create_task(gateway.get(link, Range=f"bytes={at}-{at}")) for at in range(3)]
        assert [(await reader).status for reader in readers] == [206, 206, 206]
        sandbox.clear_faults()
    assert (await stats(gateways.folder))["requests"] == requests(misses=1, collapsed=2)


async def test_stats_says_what_is_stored_per_tier(
    gateways: Gateways, gateway: RunningGateway, film: Media, sandbox: Sandbox, reporting_at_once: None
) -> None:
    first, *_ = await conversation(sandbox)
    await store(gateway, first, film)
    found = await stats_once(
        gateways.folder, lambda found: (found["disk"]["entries"], found["ram"]["entries"]) == (2, 2)
    )
    assert film.length + first.length < found["disk"]["bytes"] < film.length + 20_000
    assert found["disk"]["max_bytes"] == 10_000_000_000
    (worker,) = found["ram"]["workers"]
    assert (worker["entries"], worker["bytes"]) == (2, found["ram"]["bytes"])
    assert first.length < worker["bytes"] < film.length
    assert found["ram"]["max_bytes"] == 256_000_000


async def test_two_workers_add_up_and_one_that_ended_is_gone(
    gateways: Gateways, sandbox: Sandbox, photo: Media, reporting_at_once: None
) -> None:
    async with gateways.running() as one:
        async with gateways.running() as other:
            await store(one, photo)
            for gateway in (one, other):
                while not await is_hit(gateway, photo):
                    pass
            found = await stats_once(gateways.folder, lambda found: found["ram"]["entries"] == 2)
            first, second = found["ram"]["workers"]
            assert first["worker"] != second["worker"]
            assert (first["entries"], second["entries"]) == (1, 1)
            assert found["ram"]["bytes"] == first["bytes"] + second["bytes"]
        found = await stats(gateways.folder)
        assert len(found["ram"]["workers"]) == 1
    # What has ended has written all of its counts down.
    found = await stats(gateways.folder)
    asked = sum(found["requests"].values())
    assert (found["ram"]["workers"], asked >= 4) == ([], True)
    # A restart goes on counting where the last one ended.
    async with gateways.running() as again:
        assert await is_hit(again, photo)
    assert sum((await stats(gateways.folder))["requests"].values()) == asked + 1


def test_stats_leaves_out_a_worker_killed_a_minute_ago(tmp_path: Path) -> None:
    index = Index(tmp_path)
    now = time.time()
    index.report("killed", RamUsage(10, 1), {Counter.MISSES: 1}, now - STALE_SECONDS - 1)
    index.report("alive", RamUsage(20, 2), {Counter.MISSES: 2}, now)
    index.close()
    result = run_in(tmp_path, "stats", "--json")
    found: Stats = json.loads(result.stdout)
    assert found["ram"]["workers"] == [{"worker": "alive", "entries": 2, "bytes": 20}]
    assert found["requests"] == requests(misses=3)


def test_stats_prints_a_table(tmp_path: Path) -> None:
    index = Index(tmp_path)
    counts = {Counter.RAM_HITS: 1_000, Counter.DISK_HITS: 500, Counter.MISSES: 499, Counter.NEGATIVE_HITS: 7}
    index.report("4f2d", RamUsage(2_000_000, 12), counts, time.time())
    index.close()
    result = run_in(tmp_path, "stats", GATEWAY_CACHE_BYTES="5GB", GATEWAY_MEMORY_BYTES="64MB")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        "tier      entries      bytes        at most",
        "disk            0          0  5,000,000,000",
        "RAM 4f2d       12  2,000,000     64,000,000",
        "",
        "requests",
        "hits from RAM              1,000",
        "hits from disk               500",
        "hits from the shared tier      0",
        "served stale                   0",
        "validated (304)                0",
        "fetched (200)                499",
        "shared a fetch                 0",
        "remembered 404s                7",
        "not found                      0",
        "errors                         0",
        "hit ratio                  75.0%",
    ]


@pytest.mark.parametrize("made", [False, True])
def test_stats_of_no_cache_folder_are_empty_and_make_none(tmp_path: Path, made: bool) -> None:
    folder = tmp_path / "elsewhere"
    if made:
        folder.mkdir()
    found: Stats = json.loads(run_in(folder, "stats", "--json").stdout)
    assert found == {
        "disk": {"entries": 0, "bytes": 0, "max_bytes": 10_000_000_000},
        "ram": {"entries": 0, "bytes": 0, "max_bytes": 256_000_000, "workers": []},
        "requests": requests(),
        "hit_ratio": None,
    }
    assert run_in(folder, "stats").stdout.splitlines()[-1].split() == ["hit", "ratio", "-"]
    assert list(tmp_path.rglob("*")) == ([folder] if made else [])


def test_stats_exits_2_for_settings_and_1_for_its_folder(tmp_path: Path) -> None:
    result = run_in(tmp_path, "stats", GATEWAY_MEMORY_BYTES="much")
    assert (result.exit_code, result.stdout, result.stderr.partition(":")[0]) == (2, "", "GATEWAY_MEMORY_BYTES")
    (tmp_path / "index-0.sqlite3").mkdir()
    result = run_in(tmp_path, "stats")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("media-gateway: the cache folder cannot be read: ")


async def test_a_failing_index_costs_no_answer_and_no_count(
    gateways: Gateways, photo: Media, monkeypatch: pytest.MonkeyPatch, reporting_at_once: None
) -> None:
    def fail(*_: object) -> None:
        failed.set()
        raise sqlite3.OperationalError("disk I/O error")

    failed = threading.Event()
    async with gateways.running() as gateway:
        with monkeypatch.context() as patch:
            patch.setattr("proxy.cache.disk.workers_table.report", fail)
            await store(gateway, photo)
            failed.clear()
            assert await asyncio.to_thread(failed.wait, 30)
    assert (await stats(gateways.folder))["requests"] == requests(misses=1, ram_hits=1)


# --- the shared tier ------------------------------------------------------------------------------------------


@pytest.mark.system("redis-server")
@pytest.mark.parametrize("stores", [False, True])
async def test_purge_reaches_the_shared_tier_and_any_folder(
    redis_server: RedisServer, tmp_path: Path, stores: bool
) -> None:
    folder = tmp_path / "cache"
    if stores:
        async with open_disk(folder, 1_000_000, time.time):
            pass
    result = await asyncio.to_thread(run_in, folder, "purge", "--all", GATEWAY_SHARED_CACHE=redis_server.url)
    assert (result.exit_code, result.stderr) == (0, "")
    place = redis_server.url.removesuffix("/0")
    ours = f"{folder} (0 stored responses) and " if stores else ""
    assert result.stdout == f"Erased everything from {ours}{place} (0 stored responses)\n"
    assert await redis_server.command("HGET", "media-gateway:log", "number") == b"1"
    await redis_server.stop()
    result = await asyncio.to_thread(run_in, folder, "purge", "--all", GATEWAY_SHARED_CACHE=redis_server.url)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("media-gateway: nothing was erased: the shared tier is away")


@pytest.mark.system("redis-server")
@pytest.mark.parametrize("dry_run", [(), ("--dry-run",)], ids=["purge", "dry-run"])
async def test_purge_gives_redis_the_time_of_the_settings(
    redis_server: RedisServer, tmp_path: Path, dry_run: tuple[str, ...]
) -> None:
    codes: list[int] = []
    for seconds in ("1", "60"):
        await redis_server.command("CLIENT", "PAUSE", 3_000, "ALL")
        settings = {"GATEWAY_SHARED_CACHE": redis_server.url, "GATEWAY_LIMIT_SHARED_SECONDS": seconds}
        codes.append((await asyncio.to_thread(run_in, tmp_path, "purge", "--all", *dry_run, **settings)).exit_code)
    assert codes == [1, 0]


@pytest.mark.system("redis-server")
async def test_purge_counts_and_erases_what_gateways_share(
    redis_server: RedisServer, gateways: Gateways, sandbox: Sandbox, tmp_path: Path
) -> None:
    shared = {"GATEWAY_SHARED_CACHE": redis_server.url}
    place = redis_server.url.removesuffix("/0")
    media = await conversation(sandbox)
    first, _, other = media
    async with gateways.running(GATEWAY_SHARED_CACHE=redis_server.url) as gateway:
        await store(gateway, *media)
        names = b"media-gateway:*:response:*"
        while not isinstance(known := await redis_server.command("KEYS", names), list) or len(known) < 3:
            pass
        message = ("--account", str(first.ref.account), "--message", str(first.ref.message))
        # The folder is the gateway's alone: this machine knows the shared tier.
        elsewhere = tmp_path / "elsewhere"
        result = await asyncio.to_thread(run_in, elsewhere, "purge", *message, "--dry-run", **shared)
        assert result.stdout.endswith(f" from {place} (2 stored responses)\n")
        assert [await is_hit(gateway, one) for one in media] == [True] * 3
        result = await asyncio.to_thread(run_in, elsewhere, "purge", *message, **shared)
        assert result.stdout.endswith(f" from {place} (2 stored responses)\n")
        while (
            len(gateway_ram := (await stats(gateways.folder))["ram"]["workers"]) != 1 or gateway_ram[0]["entries"] != 1
        ):
            pass
        assert [await is_hit(gateway, one) for one in (first, other)] == [False, True]
        result = await asyncio.to_thread(run_in, gateways.folder, "purge", "--all", "--dry-run", **shared)
        assert result.stdout.count("stored response") == 2


def test_purge_says_that_the_client_of_redis_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.settings.shared_cache.find_spec", lambda _: None)
    result = run_in(tmp_path, "purge", "--all", GATEWAY_SHARED_CACHE="redis://127.0.0.1")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("GATEWAY_SHARED_CACHE: needs the extra [redis]")
