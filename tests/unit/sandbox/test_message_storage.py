"""The view in memory follows the disk, whatever happens at once."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.model import AccountSid
from proxy.sandbox.messages import Attachment, Direction, Draft
from proxy.sandbox.storage import Storage

ACCOUNT = AccountSid.parse(f"AC{'a' * 32}")
DRAFT = Draft(
    "+1", "+2", "", Direction.INBOUND, 0, tuple(Attachment("image/png", "", octets) for octets in (b"a", b"b"))
)


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[Storage]:
    storage = Storage(ACCOUNT, tmp_path)
    await storage.open()
    yield storage
    await storage.close()


async def test_a_media_deleted_with_its_message_is_gone(storage: Storage) -> None:
    message = await storage.add(DRAFT)
    media = message.media[0]
    gone = await asyncio.gather(storage.delete_message(message.ref), storage.delete_media(media.ref))
    assert list(gone) == [True, False]
    assert (tuple(storage), storage.media_by_key(media.key)) == ((), None)


async def test_a_message_whose_media_goes_first_goes_too(storage: Storage) -> None:
    message = await storage.add(DRAFT)
    media = message.media[0]
    gone = await asyncio.gather(storage.delete_media(media.ref), storage.delete_message(message.ref))
    assert list(gone) == [True, True]
    assert [storage.media_by_key(one.key) for one in message.media] == [None, None]


async def test_what_is_not_there_is_not_deleted(storage: Storage) -> None:
    message = await storage.add(DRAFT)
    await storage.delete_message(message.ref)
    assert not await storage.delete_message(message.ref)
    assert not await storage.delete_media(message.media[0].ref)


async def test_opened_again_it_shows_what_the_disk_has(storage: Storage) -> None:
    message = await storage.add(DRAFT)
    await storage.close()
    await storage.open()
    assert tuple(storage) == (message,)
    assert storage.media_by_key(message.media[1].key) == message.media[1]


async def test_closing_what_is_not_open_does_nothing(tmp_path: Path) -> None:
    await Storage(ACCOUNT, tmp_path / "never").close()
    assert not (tmp_path / "never").exists()


async def test_an_opening_that_is_cancelled_gives_its_descriptor_back(storage: Storage) -> None:
    media = (await storage.add(DRAFT)).media[0]
    path = str(media.path)

    def is_open() -> bool:
        return any(os.path.realpath(link) == path for link in Path("/proc/self/fd").iterdir())

    async def read() -> None:
        async with storage.reading(media):
            raise AssertionError

    reading = asyncio.ensure_future(read())
    await asyncio.sleep(0)
    # The loop stands still meanwhile, so that the reader does not hear of the file before it is cancelled.
    while not is_open():
        pass
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    await storage.add(DRAFT)
    assert not await asyncio.to_thread(is_open)
