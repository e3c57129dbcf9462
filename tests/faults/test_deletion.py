"""A deletion ends well or says why: clients that go away, gateways that stop or die, folders that cannot be written."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, closing, suppress
from pathlib import Path
from typing import NoReturn

import aiohttp
import pytest
from yarl import URL

from proxy.cache.disk import blocks_table
from proxy.cache.engine import Engine
from proxy.erasure import BlockKind
from proxy.errors import StoreError
from proxy.links import LinkMinter
from proxy.model import MediaRef
from proxy.upstream.client import UpstreamClient
from tests.faults.conftest import Start, Within
from tests.faults.origin import LARGE, OTHER, REF, SMALL, FaultyOrigin, Reset, Script, Stall, announcing, good, head
from tests.faults.serving import environment, until_stored
from tests.functional.harness import CLIENT, KEY, Reply, RunningGateway, converse, logged
from tests.functional.programs import started

CLIENTS = ":".join(CLIENT)
GONE: Script = (head(status="204 No Content"),)
REFUSED: Script = (head("Content-Length: 0", status="409 Conflict"),)
BUSY: Script = (head("Content-Length: 0", "Retry-After: 77", status="429 Slow"),)
FAILED: Script = (head("Content-Length: 0", status="500 No"),)


def path(ref: MediaRef = REF) -> str:
    return f"/2010-04-01/Accounts/{ref.account}/Messages/{ref.message}/Media/{ref.media}.json"


async def delete(gateway: RunningGateway, ref: MediaRef = REF) -> Reply:
    credentials = {"Authorization": aiohttp.encode_basic_auth(*CLIENT)}
    return await gateway.ask("DELETE", path(ref), headers=credentials)


async def status(gateway: RunningGateway, ref: MediaRef = REF) -> int:
    return (await gateway.get(gateway.link(ref))).status


async def give_up(asking: asyncio.Task[Reply]) -> None:
    """Go away as a client."""
    asking.cancel()
    with suppress(asyncio.CancelledError):
        await asking


async def marks(folder: Path) -> list[float]:
    """Return the seconds from now until which media are marked as gone."""

    def read() -> list[float]:
        (database,) = folder.glob("index-*.sqlite3")
        with closing(sqlite3.connect(database)) as index:
            rows = index.execute("SELECT until FROM verdict WHERE kind = ?", (BlockKind.GONE.value,)).fetchall()
        now = time.time()
        return [until - now for (until,) in rows if until > now]

    return await asyncio.to_thread(read)


async def erasures(folder: Path) -> int:
    """Return how many erasures of the media the folder remembers."""

    def read() -> int:
        (database,) = folder.glob("index-*.sqlite3")
        with closing(sqlite3.connect(database)) as index:
            (found,) = index.execute("SELECT count(*) FROM erasure WHERE prefix = ?", (str(REF),)).fetchone()
        return int(found)

    return await asyncio.to_thread(read)


def look_before_marking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have two gateways look for a mark before either writes its first."""
    looked = asyncio.Barrier(2)
    mark_gone, waited = Engine.mark_gone, set[Engine]()

    async def mark(engine: Engine, ref: MediaRef, seconds: float) -> None:
        if engine not in waited:
            waited.add(engine)
            await looked.wait()
        await mark_gone(engine, ref, seconds)

    monkeypatch.setattr(Engine, "mark_gone", mark)


@pytest.fixture
async def gateway(start: Start) -> RunningGateway:
    return await start(GATEWAY_CLIENTS=CLIENTS)


@pytest.fixture
async def both(within: Within) -> AsyncIterator[tuple[RunningGateway, RunningGateway]]:
    async with AsyncExitStack() as stack:
        one, other = [await stack.enter_async_context(within(GATEWAY_CLIENTS=CLIENTS)) for _ in range(2)]
        yield one, other


# --- a client that goes away, a gateway that ends -------------------------------------------------------------


async def test_a_deletion_goes_on_where_its_client_has_gone_away(
    within: Within, origin: FaultyOrigin, folder: Path
) -> None:
    answer = asyncio.Event()
    origin.play(good(SMALL), (answer, *GONE))
    async with logged() as logs:
        async with within(GATEWAY_CLIENTS=CLIENTS) as gateway:
            assert await status(gateway) == 200
            asking = asyncio.create_task(delete(gateway))
            await origin.requests_arrive(2)
            await give_up(asking)
            answer.set()
        # The end of the gateway waits for what is under way.
        async with within() as heir:
            assert await status(heir) == 404
        assert origin.asked == 2
    assert [mark > 80_000 for mark in await marks(folder)] == [True]
    assert audited(logs.program.getvalue()) == ["done"]


def audited(log: str) -> list[object]:
    """Return the outcomes that the audit log tells."""
    lines = [json.loads(line) for line in log.splitlines()]
    return [line["outcome"] for line in lines if line["logger"] == "media_gateway.audit"]


class Cue(logging.Handler):
    """A handler that sets an event when that is logged."""

    def __init__(self, text: str, event: asyncio.Event) -> None:
        super().__init__()
        self._text = text
        self._event = event

    def emit(self, record: logging.LogRecord) -> None:
        if self._text in record.getMessage():
            self._event.set()


async def test_draining_waits_for_a_deletion_whose_request_was_cut_off(
    within: Within, origin: FaultyOrigin, folder: Path
) -> None:
    answer = asyncio.Event()
    origin.play((answer, *GONE))
    octets = f"DELETE {path()} HTTP/1.1\r\nHost: x\r\nAuthorization: {aiohttp.encode_basic_auth(*CLIENT)}\r\n\r\n"
    # The line of the request is written when its handler ends.
    requests = logging.getLogger("media_gateway.access")
    cue = Cue("access", answer)
    async with logged() as logs:
        requests.addHandler(cue)
        try:
            async with within(GATEWAY_CLIENTS=CLIENTS) as gateway:
                asking = asyncio.create_task(converse(gateway, octets.encode()))
                await origin.requests_arrive(1)
            assert await asking == b""
        finally:
            requests.removeHandler(cue)
    assert audited(logs.program.getvalue()) == ["done"]
    assert [mark > 80_000 for mark in await marks(folder)] == [True]


async def test_draining_ends_and_an_unfinished_deletion_s_mark_ends(
    within: Within, origin: FaultyOrigin, folder: Path
) -> None:
    origin.play(good(SMALL), (Stall(),))
    async with logged() as logs:
        async with within(GATEWAY_CLIENTS=CLIENTS) as gateway:
            assert await status(gateway) == 200
            asking = asyncio.create_task(delete(gateway))
            await origin.requests_arrive(2)
            await give_up(asking)
        async with within() as heir:
            assert await status(heir) == 404
    assert [0 < mark < 300 for mark in await marks(folder)] == [True]
    assert audited(logs.program.getvalue()) == ["cut-off"]


async def test_kill_9_within_a_deletion_leaves_a_mark_that_ends(
    within: Within, origin: FaultyOrigin, folder: Path, tmp_path: Path
) -> None:
    address = tmp_path / "gateway.sock"
    environ = environment(
        origin,
        folder,
        GATEWAY_CLIENTS=CLIENTS,
        GATEWAY_LISTEN=f"unix:{address}",
        GATEWAY_PUBLIC_URL="http://gateway",
        HOME=str(tmp_path),
    )
    origin.play(good(SMALL), (Stall(),), REFUSED, GONE)
    link = URL(LinkMinter("http://gateway", KEY).url(REF), encoded=True)
    credentials = {"Authorization": aiohttp.encode_basic_auth(*CLIENT)}
    async with (
        within(GATEWAY_CLIENTS=CLIENTS) as survivor,
        started(["serve"], environ) as program,
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(address))) as session,
    ):
        await program.line("listening at")
        async with session.get(link) as response:
            assert response.status == 200
        asking = asyncio.create_task(session.delete(f"http://gateway{path()}", headers=credentials))
        await origin.requests_arrive(2)
        program.signal(signal.SIGKILL)
        await program.ended()
        with pytest.raises(aiohttp.ClientError):
            await asking
        assert await status(survivor) == 404
        assert [0 < mark < 300 for mark in await marks(folder)] == [True]
        # Nobody knows how the first one ended, so a refusal of the next lifts nothing.
        assert (await delete(survivor)).status == 409
        assert await status(survivor) == 404
        assert (await delete(survivor)).status == 204
        assert [mark > 80_000 for mark in await marks(folder)] == [True]
    assert origin.asked == 4


# --- what is erased, and how often ------------------------------------------------------------------------------


async def test_a_deletion_that_succeeds_erases_once(
    gateway: RunningGateway, origin: FaultyOrigin, folder: Path
) -> None:
    assert await status(gateway) == 200
    await until_stored(folder, 1)
    origin.play(GONE)
    assert (await delete(gateway)).status == 204
    assert await erasures(folder) == 1
    await until_stored(folder, 0)
    assert [mark > 80_000 for mark in await marks(folder)] == [True]


async def test_a_deletion_of_what_is_gone_erases_nothing(
    gateway: RunningGateway, origin: FaultyOrigin, folder: Path
) -> None:
    missing: Script = (head("Content-Length: 0", status="404 No"),)
    origin.play(GONE, missing, FAILED)
    assert [(await delete(gateway)).status for _ in range(2)] == [204, 404]
    assert await erasures(folder) == 1
    # After this nobody knows, and another worker may have lifted the mark meanwhile.
    assert (await delete(gateway)).status == 502
    assert await erasures(folder) == 2
    assert [mark > 80_000 for mark in await marks(folder)] == [True]


async def test_an_uncertain_end_erases_with_the_mark_and_its_lift(
    gateway: RunningGateway, origin: FaultyOrigin, folder: Path
) -> None:
    origin.play(FAILED)
    assert (await delete(gateway)).status == 502
    assert await erasures(folder) == 2
    assert await marks(folder) == []


async def test_a_deletion_whose_mark_was_lifted_erases_later_fetches(
    both: tuple[RunningGateway, RunningGateway],
    origin: FaultyOrigin,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    succeed, refuse = asyncio.Event(), asyncio.Event()
    look_before_marking(monkeypatch)
    origin.play((succeed, *GONE), (refuse, *REFUSED), good(SMALL))
    deletions = {asyncio.create_task(delete(gateway)) for gateway in both}
    await origin.requests_arrive(2)
    refuse.set()
    done, left = await asyncio.wait(deletions, return_when=asyncio.FIRST_COMPLETED)
    assert [(await one).status for one in done] == [409]
    assert [await status(gateway) for gateway in both] == [200, 200]
    await until_stored(folder, 1)
    succeed.set()
    assert [(await one).status for one in left] == [204]
    assert [await status(gateway) for gateway in both] == [404, 404]
    await until_stored(folder, 0)


# --- two gateways ---------------------------------------------------------------------------------------------


async def test_a_deletion_in_one_gateway_holds_in_the_other(
    both: tuple[RunningGateway, RunningGateway], origin: FaultyOrigin, folder: Path
) -> None:
    one, other = both
    for gateway in (one, other):
        assert await status(gateway) == 200
    origin.play(GONE)
    assert (await delete(one)).status == 204
    asked = origin.asked
    assert [await status(gateway) for gateway in (other, one)] == [404, 404]
    assert await status(other, OTHER) != 404
    assert origin.asked > asked


async def test_a_refusal_in_one_gateway_opens_the_media_in_both(
    both: tuple[RunningGateway, RunningGateway], origin: FaultyOrigin
) -> None:
    one, other = both
    refuse = asyncio.Event()
    origin.play((refuse, *REFUSED), good(SMALL))
    asking = asyncio.create_task(delete(one))
    await origin.requests_arrive(1)
    assert await status(other) == 404
    refuse.set()
    assert (await asking).status == 409
    assert [await status(gateway) for gateway in (other, one)] == [200, 200]


async def test_the_other_gateway_s_fill_under_way_is_not_kept(
    both: tuple[RunningGateway, RunningGateway], origin: FaultyOrigin
) -> None:
    one, other = both
    rest = asyncio.Event()
    origin.play((announcing(len(LARGE)), LARGE[:1_000_000], rest, LARGE[1_000_000:]), GONE)
    async with other.session.get(URL(other.link(REF), encoded=True)) as response:
        await response.content.readexactly(500_000)
        assert (await delete(one)).status == 204
        rest.set()
        with suppress(aiohttp.ClientError):
            await response.read()
    assert [await status(gateway) for gateway in (other, one)] == [404, 404]
    assert origin.asked == 2


async def test_a_failure_beside_a_successful_deletion_leaves_the_media_gone(
    both: tuple[RunningGateway, RunningGateway], origin: FaultyOrigin, folder: Path
) -> None:
    one, other = both
    first, second = asyncio.Event(), asyncio.Event()
    origin.play((first, *GONE), (second, *FAILED))
    deletions = [asyncio.create_task(delete(one))]
    await origin.requests_arrive(1)
    deletions.append(asyncio.create_task(delete(other)))
    await origin.requests_arrive(2)
    first.set()
    assert (await deletions[0]).status == 204
    second.set()
    assert (await deletions[1]).status == 502
    assert [await status(gateway) for gateway in both] == [404, 404]
    assert [mark > 80_000 for mark in await marks(folder)] == [True]


async def test_a_refusal_does_not_lift_the_other_gateway_s_deletion(
    both: tuple[RunningGateway, RunningGateway],
    origin: FaultyOrigin,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    succeed, refuse = asyncio.Event(), asyncio.Event()
    look_before_marking(monkeypatch)
    origin.play((succeed, *GONE), (refuse, *REFUSED))
    deletions = {asyncio.create_task(delete(gateway)) for gateway in both}
    await origin.requests_arrive(2)
    succeed.set()
    done, left = await asyncio.wait(deletions, return_when=asyncio.FIRST_COMPLETED)
    refuse.set()
    assert [(await one).status for one in (*done, *left)] == [204, 409]
    assert [await status(gateway) for gateway in both] == [404, 404]
    assert [mark > 80_000 for mark in await marks(folder)] == [True]


async def test_where_both_are_refused_the_media_is_there_again(
    both: tuple[RunningGateway, RunningGateway], origin: FaultyOrigin
) -> None:
    first, second = asyncio.Event(), asyncio.Event()
    origin.play((first, *REFUSED), (second, *REFUSED), good(SMALL))
    deletions = [asyncio.create_task(delete(both[0]))]
    await origin.requests_arrive(1)
    deletions.append(asyncio.create_task(delete(both[1])))
    await origin.requests_arrive(2)
    for answer, deletion in zip((second, first), reversed(deletions), strict=True):
        answer.set()
        assert (await deletion).status == 409
    assert [await status(gateway) for gateway in both] == [200, 200]


# --- what fails here ------------------------------------------------------------------------------------------


def failing(monkeypatch: pytest.MonkeyPatch, what: str, *, after: int = 0) -> None:
    """Let writing fail, after so many times that it works."""
    real = getattr(blocks_table, what)
    left = [after]

    def fail(*arguments: object) -> None:
        if not left[0]:
            raise sqlite3.OperationalError("disk I/O error")
        left[0] -= 1
        real(*arguments)

    monkeypatch.setattr(blocks_table, what, fail)


async def test_without_a_written_mark_the_provider_is_not_asked(
    gateway: RunningGateway, origin: FaultyOrigin, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await status(gateway) == 200
    await until_stored(folder, 1)
    with monkeypatch.context() as patch:
        failing(patch, "record")
        reply = await delete(gateway)
    assert (reply.status, reply.json["code"]) == (503, 20503)
    assert "Retry-After" in reply.headers
    assert b"disk" not in reply.body
    assert origin.asked == 1
    assert await status(gateway) == 200
    assert origin.asked == 1


async def test_a_deletion_holds_though_its_last_mark_fails(
    gateway: RunningGateway,
    origin: FaultyOrigin,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert await status(gateway) == 200
    origin.play(GONE)
    with monkeypatch.context() as patch:
        failing(patch, "record", after=1)
        assert (await delete(gateway)).status == 204
    assert "short time only" in caplog.text
    assert await status(gateway) == 404
    assert [0 < mark < 300 for mark in await marks(folder)] == [True]


async def test_a_refusal_whose_mark_cannot_be_lifted_is_passed_on(
    gateway: RunningGateway,
    origin: FaultyOrigin,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    origin.play(REFUSED)
    with monkeypatch.context() as patch:
        failing(patch, "lift")
        assert (await delete(gateway)).status == 409
    assert "stays blocked" in caplog.text
    assert await status(gateway) == 404
    assert [0 < mark < 300 for mark in await marks(folder)] == [True]


async def test_a_deletion_holds_though_its_last_mark_and_erasure_fail(
    gateway: RunningGateway, origin: FaultyOrigin, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert await status(gateway) == 200
    origin.play(GONE)

    async def erase(*_: object) -> NoReturn:
        raise StoreError(note="disk I/O error")

    with monkeypatch.context() as patch:
        failing(patch, "record", after=1)
        patch.setattr(Engine, "erase", erase)
        assert (await delete(gateway)).status == 204
    assert "could not be erased again" in caplog.text
    assert await status(gateway) == 404


async def test_our_own_fault_is_500_and_its_mark_ends(
    gateway: RunningGateway, origin: FaultyOrigin, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def call(*_: object) -> NoReturn:
        raise RuntimeError("a fault of ours")

    async with logged() as logs:
        with monkeypatch.context() as patch:
            patch.setattr(UpstreamClient, "call", call)
            reply = await delete(gateway)
    assert (reply.status, reply.json["code"]) == (500, 20500)
    assert b"fault" not in reply.body
    assert audited(logs.program.getvalue()) == ["internal-error"]
    assert await status(gateway) == 404
    assert [0 < mark < 300 for mark in await marks(folder)] == [True]


async def test_without_a_folder_a_deletion_holds_in_ram(start: Start, origin: FaultyOrigin, tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    await asyncio.to_thread(taken.write_text, "no folder")
    gateway = await start(GATEWAY_CLIENTS=CLIENTS, GATEWAY_CACHE_DIR=str(taken))
    assert await status(gateway) == 200
    origin.play(REFUSED, good(SMALL), GONE)
    assert (await delete(gateway)).status == 409
    assert await status(gateway) == 200
    assert (await delete(gateway)).status == 204
    assert await status(gateway) == 404


# --- what fails upstream --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "answered"),
    [
        (FAILED, 502),
        ((Reset(),), 502),
        ((head("Content-Length: 0", status="302 Found"),), 502),
        ((b"no http\r\n\r\n",), 502),
    ],
)
async def test_an_uncertain_end_serves_nothing_that_was_stored(
    gateway: RunningGateway, origin: FaultyOrigin, folder: Path, script: Script, answered: int
) -> None:
    assert await status(gateway) == 200
    await until_stored(folder, 1)
    origin.play(script, good(SMALL[::-1]))
    assert (await delete(gateway)).status == answered
    assert origin.asked == 2
    reply = await gateway.get(gateway.link(REF))
    assert (reply.status, reply.body) == (200, SMALL[::-1])
    assert await marks(folder) == []


async def test_a_busy_provider_leaves_the_media_as_it_was(
    gateway: RunningGateway, origin: FaultyOrigin, folder: Path
) -> None:
    origin.play(BUSY, good(SMALL))
    reply = await delete(gateway)
    assert (reply.status, reply.headers["Retry-After"]) == (429, "77")
    assert await status(gateway) == 200
    assert await marks(folder) == []


# --- bounds ---------------------------------------------------------------------------------------------------


async def test_deletions_at_once_are_bounded(
    gateway: RunningGateway, origin: FaultyOrigin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.web.services.deletion.MOST", 1)
    answer = asyncio.Event()
    origin.play((answer, *GONE))
    first = asyncio.create_task(delete(gateway))
    await origin.requests_arrive(1)
    reply = await delete(gateway, OTHER)
    assert (reply.status, reply.json["code"]) == (503, 20503)
    assert "Retry-After" in reply.headers
    answer.set()
    assert (await first).status == 204
    assert origin.asked == 1
    assert (await delete(gateway, OTHER)).status == 204
