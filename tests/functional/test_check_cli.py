"""`media-gateway check`: which host was asked, and why it failed."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from urllib.parse import quote

import pytest

from proxy.sandbox import Sandbox
from tests.functional.harness import environment
from tests.functional.test_cli import WITH_ACCOUNT, run
from tests.ports import free_port
from tests.redis_server import RedisServer, make_certificate, redis_running
from tests.sentinels import watched

PASSWORD = "pass/word of the shared tier"


async def checked(**environ: str) -> tuple[int, list[str]]:
    result = await asyncio.to_thread(run, "check", environ={**WITH_ACCOUNT, **environ})
    return result.exit_code, result.stdout.splitlines()


# --- upstreams ------------------------------------------------------------------------------------------------


async def test_an_origin_that_refuses_connections_is_named() -> None:
    origin = f"http://127.0.0.1:{free_port()}"
    code, lines = await checked(GATEWAY_UPSTREAM_URL=origin)
    assert (code, lines[0]) == (1, "ok   settings")
    assert lines[1].endswith(f": no connection to {origin}: connection refused (upstream-unreachable)")


async def test_a_name_that_does_not_exist_is_named() -> None:
    code, lines = await checked(GATEWAY_UPSTREAM_URL="https://nowhere.invalid")
    assert code == 1
    assert lines[1].endswith(
        ": no connection to https://nowhere.invalid: the name cannot be resolved (upstream-unreachable)"
    )


async def test_an_origin_that_speaks_no_tls_is_named(sandbox: Sandbox) -> None:
    origin = sandbox.api_url.replace("http://", "https://")
    code, lines = await checked(GATEWAY_UPSTREAM_URL=origin)
    assert code == 1
    assert f": no TLS with {origin}: " in lines[1]
    assert lines[1].endswith(" (upstream-unreachable)")


@pytest.mark.system("openssl")
async def test_an_origin_whose_certificate_is_not_accepted_is_named(
    program_path: Callable[[str], str], tmp_path: Path
) -> None:
    async with tls_server(program_path("openssl"), tmp_path) as port:
        code, lines = await checked(GATEWAY_UPSTREAM_URL=f"https://localhost:{port}")
    assert code == 1
    assert f": no TLS with https://localhost:{port}: the certificate is not accepted: " in lines[1]


@contextlib.asynccontextmanager
async def tls_server(openssl: str, folder: Path) -> AsyncIterator[int]:
    made = await make_certificate(openssl, folder / "certificates")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(made.certificate, made.key)
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize(
    ("places", "warned"),
    [
        ({"TWILIO_REGION": "ie1"}, True),
        ({"TWILIO_REGION": "ie1", "TWILIO_EDGE": "dublin"}, False),
        ({"TWILIO_EDGE": "dublin"}, False),
        ({}, False),
    ],
)
async def test_a_region_without_its_edge_is_warned_of(
    places: dict[str, str], warned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody(*_: object, **__: object) -> object:
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    _, lines = await checked(**places)
    warnings = [line for line in lines if line.startswith("WARN ")]
    assert bool(warnings) is warned
    assert all("api.ie1.twilio.com names a region without its edge" in line for line in warnings)


# --- the shared tier ------------------------------------------------------------------------------------------


PASSWORD_OF_SENTINELS = "of-the-master"


async def reached(sandbox: Sandbox, folder: Path, url: str) -> tuple[int, str]:
    """Return the exit code and the last line, which is about the shared tier; no password is in any."""
    environ = environment(sandbox, folder, GATEWAY_SHARED_CACHE=url)
    result = await asyncio.to_thread(run, "check", environ=environ)
    for secret in (PASSWORD, quote(PASSWORD, safe=""), "wrong-one"):
        assert secret not in result.output
    return result.exit_code, result.stdout.splitlines()[-1]


@pytest.mark.system("redis-server")
async def test_a_shared_tier_that_can_be_written_to_is_good(
    sandbox: Sandbox, tmp_path: Path, redis_server: RedisServer
) -> None:
    code, line = await reached(sandbox, tmp_path / "cache", redis_server.url)
    assert (code, line) == (0, f"ok   GATEWAY_SHARED_CACHE: redis://127.0.0.1:{redis_server.port} can be written to")
    assert await redis_server.command("DBSIZE") == 0


async def test_a_shared_tier_that_is_not_there_fails_the_check(sandbox: Sandbox, tmp_path: Path) -> None:
    port = free_port()
    code, line = await reached(sandbox, tmp_path, f"redis://:wrong-one@127.0.0.1:{port}/0")
    assert (code, line) == (
        1, f"BAD  GATEWAY_SHARED_CACHE: redis://127.0.0.1:{port}: the connection is refused; does it listen there?"
    )  # fmt: skip
    code, line = await reached(sandbox, tmp_path, "redis://nowhere.invalid")
    assert (code, line.rpartition(": ")[2]) == (1, "its name cannot be resolved")
    code, line = await reached(sandbox, tmp_path, f"unix://{tmp_path}/no.sock")
    assert (code, line.rpartition(": ")[2]) == (1, "there is no such socket, or no such file of a certificate")


@pytest.mark.system("redis-server")
async def test_a_check_gives_redis_the_time_of_the_settings(
    sandbox: Sandbox, tmp_path: Path, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.cache.redis.server_check._SECONDS", 1.0)
    codes: list[int] = []
    for seconds in ("1", "60"):
        environ = environment(
            sandbox, tmp_path, GATEWAY_SHARED_CACHE=redis_server.url, GATEWAY_LIMIT_SHARED_SECONDS=seconds
        )
        await redis_server.command("CLIENT", "PAUSE", 3_000, "ALL")
        codes.append((await asyncio.to_thread(run, "check", environ=environ)).exit_code)
    assert codes == [1, 0]


@pytest.mark.system("redis-server")
async def test_a_wrong_password_or_none_fails_the_check(
    sandbox: Sandbox, tmp_path: Path, program_path: Callable[[str], str]
) -> None:
    async with redis_running(
        program_path("redis-server"), tmp_path / "redis", user="gateway", password=PASSWORD
    ) as server:
        place = f"127.0.0.1:{server.port}"
        for credentials in ("gateway:wrong-one@", ":wrong-one@", ""):
            code, line = await reached(sandbox, tmp_path / "cache", f"redis://{credentials}{place}")
            assert (code, line) == (
                1, f"BAD  GATEWAY_SHARED_CACHE: redis://{place}: it refuses the user or the password"
            )  # fmt: skip
        assert (await reached(sandbox, tmp_path / "cache", server.url))[0] == 0
        await server.command("ACL", "SETUSER", "gateway", "-set")
        code, line = await reached(sandbox, tmp_path / "cache", server.url)
        assert (code, "its user may not do what the gateway needs" in line) == (1, True)


@pytest.mark.system("redis-server")
@pytest.mark.system("openssl")
async def test_tls_on_one_side_alone_fails_the_check(
    sandbox: Sandbox, tmp_path: Path, program_path: Callable[[str], str], redis_server: RedisServer
) -> None:
    code, line = await reached(sandbox, tmp_path / "cache", redis_server.url.replace("redis://", "rediss://"))
    assert (code, line.rpartition(": ")[2]) == (1, "it does not answer in time; does it speak TLS (rediss://)?")
    certificate = await make_certificate(program_path("openssl"), tmp_path / "certificates")
    async with redis_running(program_path("redis-server"), tmp_path / "tls", certificate=certificate) as server:
        assert (await reached(sandbox, tmp_path / "cache", server.url))[0] == 0
        code, line = await reached(sandbox, tmp_path / "cache", f"redis://127.0.0.1:{server.port}")
        assert (code, "does it want TLS (rediss://)?" in line) == (1, True)
        code, line = await reached(sandbox, tmp_path / "cache", f"rediss://127.0.0.1:{server.port}")
        assert (code, ": its certificate is not accepted: " in line) == (1, True)


@pytest.mark.system("redis-server")
async def test_a_shared_tier_that_hangs_or_is_readonly_fails(
    sandbox: Sandbox, tmp_path: Path, redis_server: RedisServer
) -> None:
    redis_server.pause()
    code, line = await reached(sandbox, tmp_path / "cache", redis_server.url)
    assert (code, line.rpartition(": ")[2]) == (1, "it does not answer in time")
    redis_server.resume()
    await redis_server.command("REPLICAOF", "127.0.0.1", str(free_port()))
    code, line = await reached(sandbox, tmp_path / "cache", redis_server.url)
    assert (code, line.rpartition(": ")[2]) == (1, "it is a replica that takes no writes")


async def test_what_is_no_redis_fails_the_check(sandbox: Sandbox, tmp_path: Path) -> None:
    code, line = await reached(sandbox, tmp_path, sandbox.api_url.replace("http://", "redis://"))
    assert (code, line.startswith("BAD  GATEWAY_SHARED_CACHE: ")) == (1, True)


@pytest.mark.system("redis-server")
async def test_sentinels_are_asked_for_the_master_by_the_check(
    sandbox: Sandbox, tmp_path: Path, program_path: Callable[[str], str]
) -> None:
    async with watched(program_path("redis-server"), tmp_path / "w", password=PASSWORD_OF_SENTINELS) as service:
        code, line = await reached(sandbox, tmp_path / "cache", service.url)
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in service.sentinels)
        assert (code, line) == (0, f"ok   GATEWAY_SHARED_CACHE: redis+sentinel://{hosts}/media can be written to")
        code, line = await reached(sandbox, tmp_path / "cache", service.url.replace("/media", "/other"))
        assert (code, line.rpartition(": ")[2]) == (1, "its sentinels know no master of that name, or none that is up")
        wrong = service.url.replace(PASSWORD_OF_SENTINELS, "wrong-one")
        code, line = await reached(sandbox, tmp_path / "cache", wrong)
        assert (code, line.rpartition(": ")[2]) == (1, "it refuses the user or the password")


@pytest.mark.system("redis-server")
async def test_a_node_of_a_cluster_fails_the_check(
    sandbox: Sandbox, tmp_path: Path, program_path: Callable[[str], str]
) -> None:
    options = ("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    async with redis_running(program_path("redis-server"), tmp_path / "c", options=options) as server:
        code, line = await reached(sandbox, tmp_path / "cache", server.url)
        assert (code, "it is a node of a Redis cluster, which is not supported" in line) == (1, True)
