"""Messages and media on disk: over a restart, in one process at a time, after a kill at any point."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import json
import os
import random
import sqlite3
import stat
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
from aiohttp import ClientResponse

from proxy.errors import SettingsError
from proxy.model import Provider
from proxy.sandbox import Mode, Sandbox, SandboxOptions, StallBody

Ask = Callable[..., Awaitable[ClientResponse]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "kept"


@pytest.fixture
def kept(options: SandboxOptions, folder: Path) -> SandboxOptions:
    return dataclasses.replace(options, folder=folder)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


async def test_a_restart_keeps_every_message_and_media(kept: SandboxOptions, ask: Ask) -> None:
    async with Sandbox(kept) as sandbox:
        added = await sandbox.add_message([("image/png", b"kept"), ("text/plain", b"")], body="Zoë", from_="a", to="b")
        before = sandbox.messages
    async with Sandbox(kept) as sandbox:
        assert sandbox.messages == before
        assert sandbox.messages[-1] == added
        assert [media.read() for media in added.media] == [b"kept", b""]
        first = await ask("GET", sandbox.media_url(added.media[0]), {"Authorization": sandbox.authorization})
        assert await (await ask("GET", first.headers["Location"])).read() == b"kept"


async def test_the_sample_conversation_is_added_to_a_folder_once(kept: SandboxOptions) -> None:
    async with Sandbox(dataclasses.replace(kept, seed=False)) as sandbox:
        assert sandbox.messages == ()
    async with Sandbox(kept) as sandbox:
        seeded = sandbox.messages
        assert len(seeded) == 6
    async with Sandbox(kept) as sandbox:
        assert sandbox.messages == seeded


async def test_deleted_media_stay_deleted_and_their_identifiers_are_not_reused(kept: SandboxOptions, ask: Ask) -> None:
    async with Sandbox(dataclasses.replace(kept, seed=False)) as sandbox:
        one, two = [await sandbox.add_message([("image/png", b"a"), ("image/png", b"b")]) for _ in range(2)]
        headers = {"Authorization": sandbox.authorization}
        assert (await ask("DELETE", sandbox.media_url(one.media[0]), headers)).status == 204
        path = f"{sandbox.api_url}/2010-04-01/Accounts/{sandbox.account_sid}/Messages/{two.sid}"
        assert (await ask("DELETE", path, headers)).status == 204
    async with Sandbox(dataclasses.replace(kept, seed=False)) as sandbox:
        assert [(message.sid, message.media) for message in sandbox.messages] == [(one.sid, one.media[1:])]
        again = await sandbox.add_message([("image/png", b"a"), ("image/png", b"b")])
        used = {one.sid, two.sid, *(media.sid for message in (one, two) for media in message.media)}
        assert used.isdisjoint({again.sid, *(media.sid for media in again.media)})


async def test_one_content_is_one_file_until_its_last_deletion(kept: SandboxOptions, folder: Path, ask: Ask) -> None:
    async with Sandbox(dataclasses.replace(kept, seed=False)) as sandbox:
        headers = {"Authorization": sandbox.authorization}
        media = [(await sandbox.add_message([("image/png", b"same")])).media[0] for _ in range(2)]
        assert names(folder / "bodies") == {hashlib.sha256(b"same").hexdigest()}
        assert (await ask("DELETE", sandbox.media_url(media[0]), headers)).status == 204
        assert media[1].read() == b"same"
        assert (await ask("DELETE", sandbox.media_url(media[1]), headers)).status == 204
        assert names(folder / "bodies") == set()


async def test_a_media_deleted_while_read_is_read_to_its_end(kept: SandboxOptions, ask: Ask) -> None:
    async with Sandbox(dataclasses.replace(kept, mode=Mode.DIRECT)) as sandbox:
        headers = {"Authorization": sandbox.authorization}
        photo = sandbox.messages[0].media[0]
        whole = photo.read()
        rule = sandbox.fault(StallBody(1000))
        reading = asyncio.ensure_future(ask("GET", sandbox.media_url(photo), headers))
        await rule.reached()
        assert (await ask("DELETE", sandbox.media_url(photo), headers)).status == 204
        rule.release()
        assert await (await reading).read() == whole


@pytest.mark.parametrize("before", [None, 0o755])
async def test_folders_and_files_are_their_owners_alone(kept: SandboxOptions, folder: Path, before: int | None) -> None:
    """`before`: the mode of a folder that was there."""

    def modes() -> dict[str, int]:
        return {path.name: stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.rglob("*"))}

    umask = os.umask(0)
    try:
        if before is not None:
            await asyncio.to_thread(folder.mkdir, before, parents=True)
        async with Sandbox(kept):
            for name, mode in (await asyncio.to_thread(modes)).items():
                assert mode == (0o700 if name in ("kept", "bodies") else 0o600), name
    finally:
        os.umask(umask)


async def test_without_a_folder_nothing_is_left(
    options: SandboxOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    async with Sandbox(options) as sandbox:
        (made,) = names(tmp_path)
        photo = sandbox.messages[0].media[0]
        assert photo.path.is_relative_to(tmp_path / made)
    assert names(tmp_path) == set()
    with pytest.raises(FileNotFoundError):
        photo.read()


class TestAFolderThatCannotBeUsed:
    async def refused(self, options: SandboxOptions, reason: str) -> None:
        with pytest.raises(SettingsError, match=f"^folder: {reason}"):
            async with Sandbox(options):
                pass

    async def test_it_is_in_use(self, kept: SandboxOptions) -> None:
        async with Sandbox(kept) as sandbox:
            await self.refused(kept, "is in use by another sandbox")
            await sandbox.add_message()
        async with Sandbox(kept):
            pass

    async def test_it_is_a_file(self, kept: SandboxOptions, tmp_path: Path) -> None:
        file = tmp_path / "file"
        file.write_bytes(b"")
        await self.refused(dataclasses.replace(kept, folder=file), "is not a folder")
        await self.refused(dataclasses.replace(kept, folder=file / "below"), "is not a folder")

    async def test_it_cannot_be_made(self, kept: SandboxOptions) -> None:
        await self.refused(
            dataclasses.replace(kept, folder=Path("/proc/sandbox")), "cannot be written to: No such file"
        )

    async def test_it_is_something_else(self, kept: SandboxOptions, tmp_path: Path) -> None:
        (tmp_path / "letter.txt").write_bytes(b"dear")
        await self.refused(dataclasses.replace(kept, folder=tmp_path), "is not empty, and does not hold a sandbox")
        assert names(tmp_path) == {"letter.txt"}

    async def test_it_is_another_accounts(self, kept: SandboxOptions) -> None:
        async with Sandbox(kept):
            pass
        other = dataclasses.replace(kept, profile=Provider.SIGNALWIRE)
        await self.refused(other, "holds the messages of another account")

    @pytest.mark.parametrize("start", [0, 4_096])
    async def test_its_database_is_damaged(self, kept: SandboxOptions, folder: Path, start: int) -> None:
        """`start`: the first octet that is not the database's."""
        async with Sandbox(kept):
            pass
        database = folder / "messages.sqlite3"
        octets = database.read_bytes()
        database.write_bytes(octets[:start] + random.Random(start).randbytes(len(octets) - start))
        await self.refused(kept, "holds a damaged database")

    async def test_its_database_is_held_by_another_program(
        self, kept: SandboxOptions, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("proxy.sandbox.ledger._BUSY_SECONDS", 0.0)
        async with Sandbox(kept):
            pass
        with closing(sqlite3.connect(folder / "messages.sqlite3", isolation_level=None)) as other:
            other.execute("PRAGMA locking_mode = EXCLUSIVE").fetchone()
            other.execute("BEGIN EXCLUSIVE")
            await self.refused(kept, "holds a database in trouble: database is locked")

    async def test_no_temporary_one_can_be_made(
        self, options: SandboxOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nothing"))
        await self.refused(options, "cannot be written to: No such file")

    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE message SET sid = 'nothing' WHERE number = 1",
            "UPDATE message SET direction = 'sideways' WHERE number = 1",
            "UPDATE media SET sid = 'nothing' WHERE number = 2",
        ],
    )
    async def test_its_rows_are_not_ours(self, kept: SandboxOptions, folder: Path, statement: str) -> None:
        async with Sandbox(kept):
            pass
        change(folder, statement)
        await self.refused(kept, "holds a damaged database")

    async def test_it_is_of_another_version(self, kept: SandboxOptions, folder: Path) -> None:
        async with Sandbox(kept):
            pass
        change(folder, "PRAGMA user_version = 9")
        await self.refused(kept, "holds messages of version 9, and 1 is spoken here")


def change(folder: Path, statement: str) -> None:
    db = sqlite3.connect(folder / "messages.sqlite3")
    db.execute(statement)
    db.commit()
    db.close()


async def test_a_media_with_a_missing_or_cut_file_is_dropped(
    kept: SandboxOptions, caplog: pytest.LogCaptureFixture
) -> None:
    async with Sandbox(dataclasses.replace(kept, seed=False)) as sandbox:
        message = await sandbox.add_message([("image/png", octets) for octets in (b"whole", b"cut", b"gone")])
    whole, cut, gone = message.media
    cut.path.write_bytes(b"c")
    gone.path.unlink()
    async with Sandbox(dataclasses.replace(kept, seed=False)) as sandbox:
        assert [one.media for one in sandbox.messages] == [(whole,)]
    assert [record.getMessage() for record in caplog.records] == [
        f"The file of media {media.sid} is gone, and so is the media" for media in (cut, gone)
    ]
    caplog.clear()


_WRITER = """
import asyncio, hashlib, json, random, sys
from pathlib import Path
from proxy.sandbox import Sandbox, SandboxOptions
async def main(folder, seed):
    chance = random.Random(seed)
    async with Sandbox(SandboxOptions(folder=Path(folder), seed=False)) as sandbox:
        print("ready", flush=True)
        while True:
            files = [chance.randbytes(chance.choice((0, 100, 70_000, 900_000))) for _ in range(chance.randrange(4))]
            message = await sandbox.add_message([("image/png", octets) for octets in files])
            print(json.dumps([message.sid, [media.sha256 for media in message.media]]), flush=True)
asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


@asynccontextmanager
async def writer(folder: Path, seed: int) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _WRITER, str(folder), str(seed), stdout=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.parametrize("after", [0, 1, 7, 40])
async def test_kill_9_leaves_a_usable_folder_without_empty_media(
    kept: SandboxOptions, folder: Path, after: int
) -> None:
    """`after`: how many messages were told of before the kill."""
    told: dict[str, list[str]] = {}
    async with writer(folder, random.Random(after).randrange(1000)) as process:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
        for _ in range(after):
            sid, sums = json.loads(await process.stdout.readline())
            told[sid] = sums
        process.kill()
        # Before another signal is sent to it, which would race with the loop for its end.
        await process.wait()
        for line in (await process.stdout.read()).splitlines():
            sid, sums = json.loads(line)
            told[sid] = sums
    async with Sandbox(dataclasses.replace(kept, seed=False)) as sandbox:
        stored = {message.sid: [media.sha256 for media in message.media] for message in sandbox.messages}
        assert stored.items() >= told.items()
        assert len(stored) <= len(told) + 1
        media = [media for message in sandbox.messages for media in message.media]
        for one in media:
            assert hashlib.sha256(one.read()).hexdigest() == one.sha256
        assert names(folder / "bodies") == {one.sha256 for one in media}
        await sandbox.add_message([("image/png", b"more")])
