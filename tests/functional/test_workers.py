"""`serve --workers`: one supervisor, several processes on one socket, none of which is missed for long."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import aiohttp
import psutil
import pytest
from yarl import URL

from proxy.sandbox import Media, Sandbox
from tests.functional.harness import environment
from tests.functional.loading import loaded
from tests.functional.programs import started
from tests.functional.supervised import supervised
from tests.functional.test_server_signals import serving
from tests.ports import free_port

# The supervisor as it is, over workers that do something else.
_WITH_WORK = """
import os, signal, sys, time
import proxy.processes.children, proxy.processes.worker_pool
from proxy.processes.orders import READY, report
{work}
proxy.processes.children.work = work
from proxy.cli import main
main()
"""


def with_work(work: str) -> tuple[str, ...]:
    return (sys.executable, "-c", _WITH_WORK.format(work=work))


DIES = with_work("def work(assignment): os._exit(7)")
HANGS = with_work("""
proxy.processes.worker_pool._SPARE_SECONDS = 0.1
def work(assignment):
    report(assignment.line, READY)
    while True: time.sleep(60)
""")
HANGS_AT_THE_START = with_work("""
proxy.processes.worker_pool._START_SECONDS = 0.1
def work(assignment):
    while True: time.sleep(60)
""")

# The report of its worker lies unread in the supervisor's end of the line.
DIES_BEFORE_IT_HEARS = (
    sys.executable,
    "-c",
    """
import os, select, signal
from proxy.processes.children import Children
def wait(self, seconds):
    select.select([worker.line for worker in self], [], [])
    print("dies", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
Children.wait = wait
from proxy.cli import main
main()
""",
)


async def test_the_supervisor_has_one_thread_and_workers_as_children(sandbox: Sandbox, tmp_path: Path) -> None:
    async with supervised(sandbox, tmp_path, workers=3) as gateway:
        assert len(gateway.workers) == 3
        assert gateway.supervisor.num_threads() == 1
        scrape = await gateway.scrape()
        assert scrape.get("workers") == 3
        # The bound of the RAM tier is that of all workers together.
        assert scrape.get("tier_max_bytes", tier="ram") == 256_000_000 // 3 * 3


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
async def test_a_killed_worker_is_replaced_and_its_counts_stay(
    sandbox: Sandbox, photo: Media, tmp_path: Path, loop: str
) -> None:
    async with supervised(sandbox, tmp_path, GATEWAY_LOOP=loop) as gateway:
        async with loaded(gateway.origin, {gateway.target(photo): photo.read()}, clients=16) as load:
            await load.goes_on(200)
            killed, other = gateway.workers
            kept = (await gateway.scrape()).get("requests_total", route="media", status="200")
            psutil.Process(killed).kill()
            before = load.answered
            assert f"Worker {killed} ended with signal 9" in await gateway.program.line("ended with")
            # The other one serves on meanwhile, and a new one comes.
            await load.goes_on(200)
            await gateway.scraped(lambda scrape: scrape.get("workers") == 2)
            assert other in gateway.workers
            assert killed not in gateway.workers
            await load.goes_on(200)
        answered, lost = load.answered, len(load.faults)
        # Each client had at most one request under way.
        assert lost <= 16
        # What was counted stays; a worker counts its answers of a tenth of a second at once.
        counted = await gateway.scraped(
            lambda scrape: (
                scrape.get("connections") == 0
                and scrape.get("requests_total", route="media", status="200") >= kept + answered - before - 16
                and scrape.get("requests_total", route="media", status="200") == scrape.total("answers_total")
            )
        )
        answers = counted.get("requests_total", route="media", status="200")
        assert kept > 0
        # A client that was stopped may have had an answer on its way.
        assert answers <= answered + lost + 16
        assert answers == counted.total("request_seconds_count")
        assert counted.get("workers_lost_total") == 1
        gateway.program.signal(signal.SIGTERM)
        assert await gateway.program.ended() == 0


async def test_a_cold_crowd_gets_its_bytes_from_every_worker(sandbox: Sandbox, film: Media, tmp_path: Path) -> None:
    content = film.read()
    async with (
        supervised(sandbox, tmp_path) as gateway,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
    ):
        link = URL(gateway.origin + gateway.target(film), encoded=True)

        async def fetch() -> bool:
            async with session.get(link) as response:
                return await response.read() == content

        assert all(await asyncio.gather(*(fetch() for _ in range(40))))
        scrape = await gateway.scraped(
            lambda scrape: scrape.get("fills") == 0 and scrape.get("requests_total", route="media", status="200") == 40
        )
        # At most one for each worker.
        assert scrape.get("fills_ended_total", outcome="stored") in {1, 2}


@pytest.mark.parametrize("workers", [1, 2])
async def test_an_unusable_cache_folder_stops_several_workers_only(
    sandbox: Sandbox, tmp_path: Path, workers: int
) -> None:
    file = tmp_path / "a-file"
    await asyncio.to_thread(file.write_text, "in the way")
    arguments = ["serve", "--workers", str(workers)]
    async with started(arguments, environment(sandbox, file)) as program:
        if workers == 1:
            await program.line("listening at ")
            return
        assert await program.ended() == 2
        assert program.lines[-1].startswith(f"GATEWAY_CACHE_DIR: {file} cannot be used, and several workers need it")


async def test_a_cache_folder_of_another_user_stops_one_worker_too(sandbox: Sandbox, tmp_path: Path) -> None:
    folder = Path("/usr")
    if os.geteuid() == 0:
        folder = tmp_path / "cache"
        await asyncio.to_thread(folder.mkdir)
        await asyncio.to_thread(os.chown, folder, 65_534, -1)
    async with started(["serve", "--workers", "1"], environment(sandbox, folder)) as program:
        assert await program.ended() == 2
        said = f"GATEWAY_CACHE_DIR: {folder} belongs to another user"
        assert program.lines[-1].startswith(said)


async def test_workers_that_die_at_once_end_the_start(sandbox: Sandbox, tmp_path: Path) -> None:
    async with started(["serve", "--workers", "1"], environment(sandbox, tmp_path), command=DIES) as program:
        assert await program.ended() == 1
        assert program.lines[-1] == "media-gateway: The workers end before they serve, the last one with exit code 7."


async def test_a_worker_that_does_not_come_to_serve_is_killed(sandbox: Sandbox, tmp_path: Path) -> None:
    arguments = ["serve", "--workers", "1"]
    async with started(arguments, environment(sandbox, tmp_path), command=HANGS_AT_THE_START) as program:
        assert await program.ended() == 1
        assert "the last one with signal 9" in program.lines[-1]


async def test_a_worker_that_does_not_end_is_killed(sandbox: Sandbox, tmp_path: Path) -> None:
    async with supervised(sandbox, tmp_path, command=HANGS, GATEWAY_DRAIN_SECONDS="0") as gateway:
        gateway.program.signal(signal.SIGTERM)
        for _ in range(2):
            await gateway.program.line("is late, and was killed")
        assert await gateway.program.ended() == 0


async def test_workers_end_with_a_supervisor_that_was_killed(sandbox: Sandbox, tmp_path: Path) -> None:
    async with supervised(sandbox, tmp_path) as gateway:
        workers = [psutil.Process(pid) for pid in gateway.workers]
        gateway.program.signal(signal.SIGKILL)
        gone, alive = await asyncio.to_thread(psutil.wait_procs, workers, timeout=30)
        assert (len(gone), alive) == (2, [])
        await gateway.program.ended()


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
async def test_a_worker_ends_with_a_supervisor_killed_early(sandbox: Sandbox, tmp_path: Path, loop: str) -> None:
    arguments = ("serve", "--workers", "1")
    environ = environment(sandbox, tmp_path, GATEWAY_LOOP=loop)
    async with started(arguments, environ, command=DIES_BEFORE_IT_HEARS) as program:
        await program.line("dies")
        # The output of both has come to its end.
        assert await program.ended() == -signal.SIGKILL


async def test_signalling_every_process_drains_like_signalling_the_first(
    sandbox: Sandbox, photo: Media, tmp_path: Path
) -> None:
    async with supervised(sandbox, tmp_path) as gateway:
        # As a terminal or a service manager sends it.
        for pid in (*gateway.workers, gateway.supervisor.pid):
            psutil.Process(pid).send_signal(signal.SIGTERM)
        assert await gateway.program.ended() == 0
        assert "stopped" in gateway.program.lines[-1]


async def test_sighup_and_sigint_to_a_worker_are_nothing_to_it(sandbox: Sandbox, photo: Media, tmp_path: Path) -> None:
    async with supervised(sandbox, tmp_path) as gateway:
        before = gateway.workers
        async with loaded(gateway.origin, {gateway.target(photo): photo.read()}) as load:
            for number in (signal.SIGHUP, signal.SIGINT):
                for pid in before:
                    psutil.Process(pid).send_signal(number)
            await load.goes_on(50)
        assert load.faults == []
        assert gateway.workers == before


async def test_a_second_signal_ends_every_worker_at_once(sandbox: Sandbox, photo: Media, tmp_path: Path) -> None:
    async with supervised(sandbox, tmp_path, command=HANGS, GATEWAY_DRAIN_SECONDS="3600") as gateway:
        workers = [psutil.Process(pid) for pid in gateway.workers]
        gateway.program.signal(signal.SIGINT)
        await gateway.program.line("stopping")
        gateway.program.signal(signal.SIGINT)
        assert await gateway.program.ended() == 128 + signal.SIGINT
        gone, _ = await asyncio.to_thread(psutil.wait_procs, workers, timeout=30)
        assert len(gone) == 2


@pytest.mark.system("systemd-socket-activate")
async def test_a_socket_that_systemd_holds_is_served_by_every_worker(
    sandbox: Sandbox, photo: Media, tmp_path: Path, program_path: Callable[[str], str]
) -> None:
    port = free_port()
    environ = environment(sandbox, tmp_path, GATEWAY_PUBLIC_URL=f"http://127.0.0.1:{port}")
    settings = [f"--setenv={name}={value}" for name, value in environ.items()]
    activate = (program_path("systemd-socket-activate"), f"--listen=127.0.0.1:{port}", *settings)
    command = (*activate, sys.executable, "-m", "proxy")
    async with started(["serve", "--workers", "2"], {}, command=command) as program:
        await program.line("Listening on")
        # The first connection starts it.
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/readyz") as response:
            assert response.status == 200
        await program.line(f"listening at http://127.0.0.1:{port}")
        assert len(psutil.Process(program.inner.pid).children()) == 2
        program.signal(signal.SIGTERM)
        assert await program.ended() == 0


async def test_sd_notify_the_service_manager_learns_what_it_has_to(sandbox: Sandbox, tmp_path: Path) -> None:
    place = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(place))
        manager.settimeout(0)

        async def notice() -> dict[str, str]:
            said = await asyncio.get_running_loop().sock_recv(manager, 4_096)
            return dict(line.split("=", 1) for line in said.decode().splitlines())

        async with serving(sandbox, tmp_path / "cache", NOTIFY_SOCKET=str(place)) as (program, _):
            ready = await notice()
            assert (ready["READY"], ready["MAINPID"]) == ("1", str(program.inner.pid))
            program.signal(signal.SIGHUP)
            reloading = await notice()
            assert reloading["RELOADING"] == "1"
            assert int(reloading["MONOTONIC_USEC"]) > 0
            assert (await notice())["READY"] == "1"
            program.signal(signal.SIGTERM)
            assert (await notice())["STOPPING"] == "1"
            assert await program.ended() == 0
