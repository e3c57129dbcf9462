"""One look-up for all readers that ask for the same media at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from proxy.cache.entry import Entry
from proxy.cache.stored import StoredResponse
from proxy.cache.tiers import LookUps

ENTRY = Entry(
    version=2, generation="a" * 32, etag="tag", length=5, checksum="", epoch=0, fields=(), presented=(),
    requested_at=0.0, answered_at=0.0,
)  # fmt: skip
FOUND = StoredResponse(ENTRY, b"found", 0)


class Disk:
    """A disk that is asked, and answers when the test lets it."""

    def __init__(self) -> None:
        self.asked: list[asyncio.Future[StoredResponse | None]] = []
        self.current: list[Callable[[], bool]] = []

    async def look(self, is_current: Callable[[], bool]) -> StoredResponse | None:
        self.current.append(is_current)
        self.asked.append(asyncio.get_running_loop().create_future())
        return await self.asked[-1]


async def begun(look_ups: LookUps, disk: Disk, *, key: str = "a") -> asyncio.Task[StoredResponse | None]:
    task = asyncio.create_task(look_ups.find(key, disk.look))
    await asyncio.sleep(0)
    return task


@pytest.mark.parametrize("found", [FOUND, None], ids=["found", "nothing"])
async def test_all_readers_share_the_look_up_under_way(found: StoredResponse | None) -> None:
    look_ups, disk = LookUps(), Disk()
    tasks = [await begun(look_ups, disk) for _ in range(100)]
    assert len(disk.asked) == len(look_ups) == 1
    disk.asked[0].set_result(found)
    assert [await task for task in tasks] == [found] * 100
    assert len(look_ups) == 0


async def test_a_reader_of_another_media_does_not_wait() -> None:
    look_ups, disk = LookUps(), Disk()
    first, second = await begun(look_ups, disk), await begun(look_ups, disk, key="b")
    disk.asked[1].set_result(FOUND)
    assert await second is FOUND
    disk.asked[0].set_result(None)
    assert await first is None


async def test_a_reader_after_the_end_of_one_asks_again() -> None:
    look_ups, disk = LookUps(), Disk()
    for number in range(2):
        task = await begun(look_ups, disk)
        disk.asked[number].set_result(None)
        assert await task is None
    assert len(disk.asked) == 2


@pytest.mark.parametrize("failure", [asyncio.CancelledError(), RuntimeError("a fault")], ids=["cancelled", "failed"])
async def test_a_look_up_that_breaks_off_passes_to_another_reader(failure: BaseException) -> None:
    look_ups, disk = LookUps(), Disk()
    first, *others = [await begun(look_ups, disk) for _ in range(3)]
    disk.asked[0].set_exception(failure)
    with pytest.raises(type(failure)):
        await first
    while len(disk.asked) < 2:  # noqa: ASYNC110 - a count has no event
        await asyncio.sleep(0)
    disk.asked[1].set_result(FOUND)
    assert [await task for task in others] == [FOUND] * 2
    assert len(disk.asked) == 2


async def test_a_reader_that_leaves_ends_no_look_up_of_another() -> None:
    look_ups, disk = LookUps(), Disk()
    first, leaving, last = [await begun(look_ups, disk) for _ in range(3)]
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    disk.asked[0].set_result(FOUND)
    assert await first is await last is FOUND
    assert len(disk.asked) == 1


async def test_a_reader_after_a_change_joins_no_earlier_look_up() -> None:
    look_ups, disk = LookUps(), Disk()
    before = await begun(look_ups, disk)
    assert disk.current[0]()
    look_ups.outdate("a")
    after = await begun(look_ups, disk)
    assert [is_current() for is_current in disk.current] == [False, True]
    disk.asked[0].set_result(None)
    assert await before is None
    assert disk.current[1]()
    assert len(look_ups) == 1
    disk.asked[1].set_result(FOUND)
    assert await after is FOUND
