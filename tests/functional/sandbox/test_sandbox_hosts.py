"""The sandbox answers its own hosts alone: a page whose name leads to this machine reads and changes nothing."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import aiohttp
import pytest
from yarl import URL

from proxy.errors import SettingsError
from proxy.sandbox import Sandbox, SandboxOptions
from tests.functional.sandbox.conftest import Ask
from tests.functional.sandbox.web_server import serving

REBOUND = "rebound.example"
ROUTES = [
    ("GET", "/2010-04-01/Accounts/{account}/Messages.json"),
    ("POST", "/2010-04-01/Accounts/{account}/Messages.json"),
    ("GET", "{media}"),
    ("DELETE", "{media}"),
    ("GET", "/nothing"),
    ("OPTIONS", "/_sandbox/messages"),
    *(("GET", f"/_sandbox/{name}") for name in ("messages", "faults", "mode", "requests", "nothing")),
    *(("POST", f"/_sandbox/{name}") for name in ("messages", "faults")),
    *(("DELETE", f"/_sandbox/{name}") for name in ("faults", "requests")),
    ("PUT", "/_sandbox/mode"),
    ("PUT", "/_sandbox/faults/1/release"),
]


async def converse(url: str, octets: str) -> tuple[int, bytes]:
    """Send a head of one's own to a server; the status and all that it answers."""
    at = URL(url)
    reader, writer = await asyncio.open_connection(at.host, at.port)
    writer.write(octets.encode())
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return int(answer.split(b" ", 2)[1]), answer


@pytest.mark.parametrize(("method", "route"), ROUTES)
async def test_every_route_of_the_api_refuses_another_host(sandbox: Sandbox, api: Ask, method: str, route: str) -> None:
    media = next(media for message in sandbox.messages for media in message.media)
    path = route.format(account=sandbox.account_sid, media=URL(sandbox.media_url(media)).path)
    before = sandbox.messages
    port = URL(sandbox.api_url).port
    for host in (REBOUND, f"{REBOUND}:{port}", f"127.0.0.1.{REBOUND}"):
        answer = await api(sandbox.api_url + path, method, {"Host": host})
        assert answer.status == 421
        assert sandbox.account_sid not in await answer.text()
    assert (sandbox.messages, sandbox.requests) == (before, ())
    # A forwarded port or an end of TLS in front of it is another one.
    for host in (f"127.0.0.1:{port}", f"localhost:{port}", f"app.localhost:{port}", f"[::1]:{port}", "localhost:1"):
        assert (await api(f"{sandbox.api_url}{path}", "OPTIONS", {"Host": host})).status != 421


async def test_the_cdn_refuses_another_host(sandbox: Sandbox, api: Ask, ask: Ask) -> None:
    media = next(media for message in sandbox.messages for media in message.media)
    location = (await api(sandbox.media_url(media))).headers["Location"]
    assert (await ask("GET", location)).status == 200
    port = URL(sandbox.cdn_url).port
    for host in (REBOUND, f"{REBOUND}:{port}"):
        assert (await ask("GET", location, {"Host": host})).status == 421
    assert (await ask("GET", location, {"Host": f"localhost:{port}"})).status == 200


async def test_a_rebound_page_has_nothing_fetched_from_this_machine(
    sandbox: Sandbox, session: aiohttp.ClientSession
) -> None:
    messages = f"{sandbox.api_url}/2010-04-01/Accounts/{sandbox.account_sid}/Messages.json"
    credentials = {"Authorization": sandbox.authorization}
    async with serving() as server:
        form = {"To": "+15555550100", "From": "+15555550142", "MediaUrl": server.put("/secret.png")}
        host = {"Host": f"{REBOUND}:{URL(sandbox.api_url).port}"}
        async with session.post(messages, data=form, headers={**credentials, **host}) as answer:
            assert answer.status == 421
        assert server.requests == []
        async with session.post(messages, data=form, headers=credentials) as answer:
            assert answer.status == 201
        assert len(server.requests) == 1


async def test_a_request_of_http_1_0_may_name_no_host(sandbox: Sandbox) -> None:
    """A browser always names a host, so such a request is not a page's. Without one, aiohttp refuses only HTTP/1.1."""
    for url, found in ((f"{sandbox.api_url}/_sandbox/mode", 200), (f"{sandbox.cdn_url}/", 403)):
        status, _ = await converse(url, f"GET {URL(url).path} HTTP/1.0\r\n\r\n")
        assert status == found
        status, _ = await converse(url, f"GET {URL(url).path} HTTP/1.0\r\nHost: {REBOUND}\r\n\r\n")
        assert status == 421


async def test_a_host_in_the_target_counts_too(sandbox: Sandbox) -> None:
    own = URL(sandbox.api_url).authority
    for host, target, answered in (
        (own, f"http://{REBOUND}/_sandbox/mode", False),
        (REBOUND, f"http://{own}/_sandbox/mode", False),
        (own, f"http://{own}/_sandbox/mode", True),
    ):
        octets = f"GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        status, _ = await converse(sandbox.api_url, octets)
        assert (status == 421) is not answered


async def test_named_hosts_are_answered_by_both_servers_with_any_port(options: SandboxOptions, ask: Ask) -> None:
    async with Sandbox(replace(options, hosts=("sandbox", "provider.internal"))) as sandbox:
        for host in ("sandbox:8081", "SANDBOX", "provider.internal:443"):
            assert (await ask("GET", f"{sandbox.api_url}/_sandbox/mode", {"Host": host})).status == 200
            assert (await ask("GET", f"{sandbox.cdn_url}/", {"Host": host})).status == 403
        assert (await ask("GET", f"{sandbox.api_url}/_sandbox/mode", {"Host": REBOUND})).status == 421


@pytest.mark.parametrize("host", ["", "a b", "a/b", "a:80", "*", "1.2.3", "[::1"])
def test_what_is_no_host_is_refused_at_the_start(host: str) -> None:
    with pytest.raises(SettingsError) as refused:
        Sandbox(SandboxOptions(hosts=("sandbox", host)))
    assert [problem.name for problem in refused.value.problems] == ["host"]
