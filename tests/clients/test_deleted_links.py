"""A deletion by a client library kills the links to the media, in every process that shares its folder."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest

from proxy.links import LinkMinter
from proxy.sandbox import Message, Sandbox
from tests.clients.libraries import Kind, Library, Refused
from tests.clients.systems import gateway_at, gateway_environment
from tests.functional.harness import KEY, Reply
from tests.functional.serving import serving
from tests.ports import free_port


async def seen(session: aiohttp.ClientSession, url: str) -> Reply:
    async with session.get(url) as response:
        return Reply(response.status, response.headers, await response.read())


@pytest.mark.parametrize("library", [Kind.SYNC], ids=str, indirect=True)
async def test_a_link_that_worked_a_moment_before_is_404(
    library: Library, sandbox: Sandbox, message: Message, tmp_path: Path
) -> None:
    deleted, kept = message.media[:2]
    bases = [f"http://127.0.0.1:{free_port()}" for _ in range(2)]
    async with AsyncExitStack() as scope:
        for base in bases:
            listen = base.removeprefix("http://")
            environ = gateway_environment(sandbox, tmp_path / "cache", GATEWAY_LISTEN=listen)
            await scope.enter_async_context(serving(environ))
        session = await scope.enter_async_context(aiohttp.ClientSession())
        links = [LinkMinter(base, KEY).url(media.ref) for base in bases for media in (deleted, kept)]
        for _ in range(2):
            # The second time out of each process's own memory.
            assert [(await seen(session, link)).status for link in links] == [200] * 4

        assert await library.delete(gateway_at(bases[0], sandbox), message.sid, deleted.sid) is True

        assert [(await seen(session, link)).status for link in links] == [404, 200, 404, 200]
        for base in bases:
            with pytest.raises(Refused) as refused:
                await library.delete(gateway_at(base, sandbox), message.sid, deleted.sid)
            assert refused.value.status == 404
