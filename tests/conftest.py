"""The conditions of every test: no blocking call on the loop, nothing left over, real parts on free ports."""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from blockbuster import BlockBuster
from hypothesis import HealthCheck, settings

from tests.functional.preloaded import PRELOADED
from tests.redis_server import RedisServer, redis_running

# A property holds or not; how long an example takes on a busy machine is not part of it.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

_SYSTEM_PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test without its program, with the reason; fail it if everything is required."""
    for marker in item.iter_markers("system"):
        (program,) = marker.args
        if shutil.which(program, path=_SYSTEM_PATH) is None:
            missing = f"{program} is not installed"
            if os.environ.get("REQUIRE_ALL") == "1":
                pytest.fail(f"{missing}, and REQUIRE_ALL=1", pytrace=False)
            pytest.skip(missing)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with long tests if several processes run them, so that none is waited for alone."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: item.get_closest_marker("timeout") is None and "nodes" not in item.path.parts)


@pytest.fixture(scope="session", autouse=True)
def _preloaded_ends() -> Iterator[None]:
    """End the process that forks gateways, which is begun when one is asked for, with the tests."""
    yield
    PRELOADED.end()


@pytest.fixture
def program_path() -> Callable[[str], str]:
    """Find the path of a system program; the test is marked with `system(program)`."""

    def find(name: str) -> str:
        path = shutil.which(name, path=_SYSTEM_PATH)
        assert path is not None
        return path

    return find


@pytest.fixture
async def redis_server(program_path: Callable[[str], str], tmp_path: Path) -> AsyncIterator[RedisServer]:
    """Yield an empty redis-server; the test is marked with `system("redis-server")`."""
    async with redis_running(program_path("redis-server"), tmp_path / "redis") as server:
        yield server


@pytest.fixture(autouse=True)
def nothing_left_over(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a thread or a descriptor behind, and an asynchronous one that leaves a task."""
    threads = set(threading.enumerate())
    asynchronous = request.node.get_closest_marker("asyncio") is not None
    if asynchronous:
        request.getfixturevalue("no_task_left")
    descriptors = _descriptors()
    yield
    left = {thread for thread in threading.enumerate() if thread not in threads and not _is_the_loop_s(thread)}
    for thread in left:
        thread.join(timeout=30)
    assert not [thread.name for thread in left if thread.is_alive()], "threads were left"
    # The loop of an asynchronous test is still open, so its descriptors are judged within it.
    assert asynchronous or not (_descriptors() - descriptors), "descriptors were left"


@pytest.fixture
async def no_task_left() -> AsyncIterator[None]:
    """Check that tasks and descriptors are the same at the end, and that nothing blocked the loop meanwhile."""
    before = asyncio.all_tasks()
    descriptors = _descriptors()
    blocking = BlockBuster("proxy")
    # From pages in RAM to a socket that does not block.
    blocking.functions["os.sendfile"].can_block_in("proxy/http_server/file_transfer.py", "_send")
    # Where lines are counted, threads that come to a new file at once wait for each other.
    blocking.functions["threading.Lock.acquire"].can_block_in("coverage/collector.py", "lock_data")
    blocking.activate()
    try:
        yield
    finally:
        blocking.deactivate()
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    if left:
        # A task that is ending now is not left over.
        await asyncio.wait(left, timeout=10)
    assert not [task for task in left if not task.done()], "tasks were left"
    assert not (_descriptors() - descriptors), "descriptors were left"


def _is_the_loop_s(thread: threading.Thread) -> bool:
    # The loop's own executor ends with the loop, which outlives the fixtures.
    return thread.daemon or thread.name.startswith("asyncio_")


def _descriptors() -> set[tuple[str, str]]:
    """Open files and sockets of this process, but for the interpreter's own."""
    found: set[tuple[str, str]] = set()
    for link in Path("/proc/self/fd").iterdir():
        try:
            target = str(link.readlink())
        except OSError:
            continue
        if target.startswith(("socket:", "/")) and not target.startswith(("/dev/", "/proc/")):
            found.add((link.name, target))
    return found
