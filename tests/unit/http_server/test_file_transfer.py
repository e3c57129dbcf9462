"""A file on its way to a socket: every byte in its turn, and one end, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
import errno
import gc
import inspect
import os
import socket
import struct
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import uvloop

from proxy.cache.body import FileBody
from proxy.cache.disk.files import BodyCheck, BodyFile
from proxy.errors import StoreError
from proxy.http_server import file_transfer as module
from proxy.http_server.file_transfer import TURN, ClientStalled, FileTransfer
from tests.functional.express import until

CONTENT = os.urandom(2 * TURN + 500_000)
HEAD = b"HTTP/1.1 200 OK\r\n\r\n"
LONG = 60.0


class Flow:
    """An transfer of one file to a client of this test, and how it ended."""

    def __init__(self, outlet: socket.socket, client: socket.socket, path: Path, threads: ThreadPoolExecutor) -> None:
        self.client = client
        self.path = path
        self.check = BodyCheck.sound()
        self.ends: list[Exception | None] = []
        self.body = FileBody(BodyFile(os.open(path, os.O_RDONLY), threads, path, self.check), len(CONTENT))
        self._outlet = outlet
        self._made: FileTransfer | None = None
        self.descriptor = -1

    def make(self, span: range = range(len(CONTENT)), head: bytes = HEAD, patience: float = LONG) -> FileTransfer:
        """Make a transfer that has not started."""
        self._made = FileTransfer(self._outlet, head, self.body, span, patience, self.ends.append)
        self.descriptor = self._made._outlet.fileno()
        return self._made

    @property
    def made(self) -> FileTransfer:
        assert self._made is not None
        return self._made

    async def take(self, size: int) -> bytes:
        """Read so many bytes, as the client takes them."""
        loop, taken = asyncio.get_running_loop(), bytearray()
        while len(taken) < size:
            block = await loop.sock_recv(self.client, min(262_144, size - len(taken)))
            assert block, "the connection has ended"
            taken += block
        return bytes(taken)

    async def end(self) -> Exception | None:
        """Return why the transfer ended; then it has left nothing."""
        async with asyncio.timeout(60):
            await until(lambda: bool(self.ends))
        self.check_over()
        (why,) = self.ends
        return why

    def check_over(self) -> None:
        """Check that it has ended once, and that its descriptor, its writer and its timer are gone."""
        assert len(self.ends) == 1
        assert self.made._outlet.fileno() == -1
        assert not asyncio.get_running_loop().remove_writer(self.descriptor)
        assert self.made._timer is None or self.made._timer.cancelled() or isinstance(self.ends[0], ClientStalled)

    @property
    def is_watched(self) -> bool:
        """Return whether the loop tells of the socket's room."""
        return self.made._watching

    async def filled(self) -> None:
        """Wait until the kernel takes no more."""
        while True:
            before = self.made.sent
            for _ in range(20):
                await asyncio.sleep(0)
            if self.made.sent == before:
                return


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as made:
        yield made


@pytest.fixture
def flow(tmp_path: Path, threads: ThreadPoolExecutor) -> Iterator[Flow]:
    """Yield a transfer between two ends that hold little."""
    path = tmp_path / "body"
    path.write_bytes(CONTENT)
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        client.connect(listening.getsockname())
        outlet, _ = listening.accept()
        outlet.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
        outlet.setblocking(False)
        client.setblocking(False)
        made = Flow(outlet, client, path, threads)
        try:
            with outlet:
                yield made
        finally:
            made.body.release()


Sendfile = Callable[[int, int, int, int], int]


def replace_sendfile(monkeypatch: pytest.MonkeyPatch, call: Callable[[Sendfile], Sendfile]) -> None:
    monkeypatch.setattr("proxy.http_server.file_transfer.os.sendfile", call(os.sendfile))


class ColdDisk:
    """Nothing is in the page cache, and what is read waits for `open`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._gate = threading.Event()
        self.error: OSError | None = None
        self.asked: list[tuple[int, int]] = []
        self._real = os.pread
        monkeypatch.setattr("proxy.cache.disk.files._is_warm", lambda *_: False)
        monkeypatch.setattr("proxy.cache.disk.files.os.pread", self._read)

    def _read(self, descriptor: int, size: int, offset: int) -> bytes:
        self.asked.append((offset, size))
        self._gate.wait(30)
        if self.error is not None:
            raise self.error
        return self._real(descriptor, size, offset)

    def open(self) -> None:
        self._gate.set()


@pytest.fixture
def cold(monkeypatch: pytest.MonkeyPatch) -> Iterator[ColdDisk]:
    disk = ColdDisk(monkeypatch)
    yield disk
    disk.open()


class LoopClock:
    """The loop's time, which stands still until it is moved."""

    def __init__(self, loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch) -> None:
        self._now = loop.time()
        monkeypatch.setattr(loop, "time", lambda: self._now)

    async def advance(self, seconds: float) -> None:
        """Let so much time go by, and what is due by then be done."""
        self._now += seconds
        for _ in range(20):
            await asyncio.sleep(0)


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[LoopClock]:
    with monkeypatch.context() as patched:
        yield LoopClock(asyncio.get_running_loop(), patched)


# --- what goes out --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "span",
    [range(len(CONTENT)), range(1), range(7, TURN + 7), range(TURN, TURN + 1), range(5, TURN + 6)],
    ids=["whole", "one", "a-turn", "behind-a-turn", "a-turn-and-one"],
)
async def test_the_head_and_every_byte_of_the_span_go_out(flow: Flow, span: range) -> None:
    transfer = flow.make(span)
    transfer.start()
    assert await flow.take(len(HEAD) + len(span)) == HEAD + CONTENT[span.start : span.stop]
    assert (await flow.end(), transfer.sent) == (None, len(span))


async def test_a_small_transfer_has_ended_when_start_returns(flow: Flow) -> None:
    flow.make(range(1_000, 2_000)).start()
    assert flow.ends == [None]
    flow.check_over()
    assert await flow.take(len(HEAD) + 1_000) == HEAD + CONTENT[1_000:2_000]


async def test_a_transfer_waits_while_the_kernel_is_full(flow: Flow) -> None:
    transfer = flow.make()
    transfer.start()
    await flow.filled()
    assert (flow.ends, flow.is_watched) == ([], True)
    assert 0 < transfer.sent < len(CONTENT)
    assert await flow.take(len(HEAD) + len(CONTENT)) == HEAD + CONTENT
    assert (await flow.end(), transfer.sent) == (None, len(CONTENT))


async def test_a_short_write_waits_for_the_writer_and_goes_on(flow: Flow, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []

    def short(real: Sendfile) -> Sendfile:
        def send(to: int, source: int, offset: int, size: int) -> int:
            taken.append(real(to, source, offset, min(size, 1_000)))
            return taken[-1]

        return send

    replace_sendfile(monkeypatch, short)
    transfer = flow.make(range(2_500))
    transfer.start()
    # One call, and others have their turn.
    assert (taken, flow.ends, flow.is_watched) == ([1_000], [], True)
    assert await flow.take(len(HEAD) + 2_500) == HEAD + CONTENT[:2_500]
    assert (await flow.end(), taken, transfer.sent) == (None, [1_000, 1_000, 500], 2_500)


async def test_a_head_longer_than_the_buffer_goes_out_first(flow: Flow) -> None:
    head = os.urandom(8_000_000)
    transfer = flow.make(range(9), head=head)
    transfer.start()
    assert (flow.ends, flow.is_watched, transfer.sent) == ([], True, 0)
    assert await flow.take(len(head) + 9) == head + CONTENT[:9]
    assert (await flow.end(), transfer.sent) == (None, 9)


async def test_the_head_may_be_another_until_it_starts(flow: Flow) -> None:
    transfer = flow.make(range(3), head=b"")
    transfer.head = b"other"
    transfer.start()
    assert await flow.take(8) == b"other" + CONTENT[:3]


async def test_others_have_their_turn_after_so_many_bytes(flow: Flow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TURN", 1_000)
    # What is in the page cache is not waited for.
    monkeypatch.delattr(FileBody, "ready")
    transfer = flow.make(range(3_500))
    transfer.start()
    assert (transfer.sent, flow.ends, flow.is_watched) == (1_000, [], True)
    seen = {transfer.sent}
    while not flow.ends:
        await asyncio.sleep(0)
        seen.add(transfer.sent)
    assert sorted(seen) == [1_000, 2_000, 3_000, 3_500]
    assert await flow.end() is None
    assert await flow.take(len(HEAD) + 3_500) == HEAD + CONTENT[:3_500]


async def test_bytes_on_the_disk_are_read_turn_by_turn(
    flow: Flow, cold: ColdDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TURN", 1_000)
    transfer = flow.make(range(100, 2_600))
    transfer.start()
    async with asyncio.timeout(60):
        await until(lambda: bool(cold.asked))
    # The first are ready; nothing turns about the socket while the disk is waited for.
    assert (transfer.sent, flow.is_watched, flow.ends) == (1_000, False, [])
    cold.open()
    assert await flow.take(len(HEAD) + 2_500) == HEAD + CONTENT[100:2_600]
    assert (await flow.end(), cold.asked) == (None, [(1_100, 1_000), (2_100, 500)])


async def test_waiting_for_the_disk_does_not_count_against_the_client(
    flow: Flow, cold: ColdDisk, clock: LoopClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TURN", 1_000)
    transfer = flow.make(range(2_000), patience=10)
    transfer.start()
    await until(lambda: bool(cold.asked))
    await clock.advance(11)
    await clock.advance(5)
    assert flow.ends == []

    def full(_: Sendfile) -> Sendfile:
        def send(*_: int) -> int:
            raise BlockingIOError

        return send

    # Now it is the client that is waited for, from the beginning.
    replace_sendfile(monkeypatch, full)
    cold.open()
    await until(lambda: flow.is_watched)
    await clock.advance(9)
    assert flow.ends == []
    await clock.advance(1)
    assert isinstance(await flow.end(), ClientStalled)


# --- what ends it ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [0, 1])
async def test_a_file_that_cannot_be_read_is_a_store_error(
    flow: Flow, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """A disk's fault, which nothing real can make here; `after` so many calls."""
    calls = 0

    def failing(real: Sendfile) -> Sendfile:
        def send(to: int, source: int, offset: int, size: int) -> int:
            nonlocal calls
            calls += 1
            if calls > after:
                raise OSError(errno.EIO, "Input/output error")
            return real(to, source, offset, min(size, 1_000))

        return send

    replace_sendfile(monkeypatch, failing)
    transfer = flow.make()
    transfer.start()
    assert isinstance(await flow.end(), StoreError)
    assert transfer.sent == 1_000 * after


async def test_a_file_that_becomes_shorter_is_a_store_error(flow: Flow) -> None:
    transfer = flow.make()
    transfer.start()
    await flow.filled()
    os.truncate(flow.path, TURN)
    assert await flow.take(len(HEAD) + TURN) == HEAD + CONTENT[:TURN]
    assert isinstance(await flow.end(), StoreError)
    assert transfer.sent == TURN


@pytest.mark.parametrize("fault", ["unreadable", "damaged"])
async def test_a_fault_of_the_disk_is_a_store_error(
    flow: Flow, cold: ColdDisk, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr(module, "TURN", 1_000)
    if fault == "unreadable":
        cold.error = OSError(errno.EIO, "Input/output error")
    transfer = flow.make(range(2_000))
    transfer.start()
    flow.check.damaged = fault == "damaged"
    cold.open()
    assert isinstance(await flow.end(), StoreError)
    assert transfer.sent == 1_000


async def test_a_client_that_takes_nothing_for_too_long_is_left(flow: Flow) -> None:
    transfer = flow.make(patience=0.1)
    transfer.start()
    assert isinstance(await flow.end(), ClientStalled)
    assert 0 < transfer.sent < len(CONTENT)


async def test_a_client_that_takes_nothing_of_the_head_stalls(flow: Flow) -> None:
    transfer = flow.make(head=bytes(8_000_000), patience=0.1)
    transfer.start()
    assert isinstance(await flow.end(), ClientStalled)
    assert transfer.sent == 0


async def test_a_client_that_takes_a_little_gets_more_time(flow: Flow, clock: LoopClock) -> None:
    transfer = flow.make(patience=10)
    transfer.start()
    await flow.filled()
    await clock.advance(6)
    before = transfer.sent
    while transfer.sent == before:
        await flow.take(50_000)
    await flow.filled()
    await clock.advance(9)
    assert flow.ends == []
    await clock.advance(1)
    assert isinstance(await flow.end(), ClientStalled)


async def test_a_client_that_is_gone_is_not_a_store_error(flow: Flow) -> None:
    transfer = flow.make()
    transfer.start()
    await flow.filled()
    flow.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    flow.client.close()
    why = await flow.end()
    assert isinstance(why, ConnectionResetError)
    assert not isinstance(why, ClientStalled)


async def test_without_a_descriptor_none_is_made(flow: Flow, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is the process's, tests and all: so it is `dup` that says it."""

    def failing(descriptor: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr("proxy.http_server.file_transfer.os.dup", failing)
        with pytest.raises(OSError, match="Too many"):
            flow.make()
    assert flow.ends == []


# --- being aborted --------------------------------------------------------------------------------------------


def check_aborted(flow: Flow) -> None:
    """Check that it was aborted, and that aborting again changes nothing."""
    flow.made.abort()
    flow.check_over()
    assert isinstance(flow.ends[0], ConnectionResetError)


async def test_before_it_starts_it_can_be_aborted(flow: Flow) -> None:
    transfer = flow.make()
    transfer.abort()
    check_aborted(flow)
    # A connection may be lost while its head is made.
    transfer.start()
    check_aborted(flow)
    assert transfer.sent == 0


async def test_while_the_kernel_is_full_it_can_be_aborted(flow: Flow) -> None:
    transfer = flow.make()
    transfer.start()
    await flow.filled()
    sent = transfer.sent
    transfer.abort()
    check_aborted(flow)
    await flow.take(sent)
    await flow.filled()
    assert transfer.sent == sent


@pytest.mark.parametrize("error", [None, OSError(errno.EIO, "Input/output error")], ids=["read", "unreadable"])
@pytest.mark.parametrize("late", [False, True], ids=["waiting", "just-read"])
async def test_while_the_disk_is_waited_for_it_can_be_aborted(
    flow: Flow, cold: ColdDisk, monkeypatch: pytest.MonkeyPatch, late: bool, error: OSError | None
) -> None:
    loop = asyncio.get_running_loop()
    complaints: list[object] = []
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    monkeypatch.setattr(module, "TURN", 1_000)
    cold.error = error
    transfer = flow.make(range(2_000))
    transfer.start()
    async with asyncio.timeout(60):
        await until(lambda: bool(cold.asked))
        preparing = transfer._preparing
        assert preparing is not None
        if late:
            cold.open()
            await until(preparing.done)
        transfer.abort()
        check_aborted(flow)
        cold.open()
        await until(preparing.done)
        assert preparing.cancelled() is not late
    del preparing
    await flow.filled()
    gc.collect()
    check_aborted(flow)
    assert (complaints, transfer.sent) == ([], 1_000)


async def test_after_its_end_there_is_nothing_to_abort(flow: Flow) -> None:
    transfer = flow.make(range(10))
    transfer.start()
    transfer.abort()
    assert flow.ends == [None]


# --- the other loop -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rule",
    [
        test_a_small_transfer_has_ended_when_start_returns,
        test_a_transfer_waits_while_the_kernel_is_full,
        test_a_short_write_waits_for_the_writer_and_goes_on,
        test_a_head_longer_than_the_buffer_goes_out_first,
        test_others_have_their_turn_after_so_many_bytes,
        test_bytes_on_the_disk_are_read_turn_by_turn,
        test_a_file_that_becomes_shorter_is_a_store_error,
        test_a_client_that_takes_nothing_for_too_long_is_left,
        test_a_client_that_is_gone_is_not_a_store_error,
        test_before_it_starts_it_can_be_aborted,
        test_while_the_kernel_is_full_it_can_be_aborted,
    ],
)
def test_it_holds_on_uvloop(request: pytest.FixtureRequest, rule: Callable[..., Coroutine[None, None, None]]) -> None:
    needed = {name: request.getfixturevalue(name) for name in inspect.signature(rule).parameters}
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(rule(**needed))
