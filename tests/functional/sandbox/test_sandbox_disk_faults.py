"""A disk that fails under a running sandbox: the provider's 500, nothing half kept, no part given as the whole."""

from __future__ import annotations

import asyncio
import errno
import io
import os
from collections.abc import Awaitable, Callable, Iterator

import pytest
from aiohttp import ClientPayloadError, ClientResponse, ClientSession

from proxy.errors import StoreError
from proxy.sandbox import Media, Mode, Oversize, Sandbox, SandboxOptions, StallBody

Ask = Callable[..., Awaitable[ClientResponse]]

WARNING = "The sandbox's storage failed: "


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def full(*args: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr("proxy.sandbox.folder.Path.rename", full)
        yield


def warned(caplog: pytest.LogCaptureFixture) -> list[str]:
    messages = [record.getMessage() for record in caplog.records]
    caplog.clear()
    return messages


async def test_a_media_without_its_file_is_500_on_both_origins(
    sandbox: Sandbox, fetch: Ask, photo: Media, caplog: pytest.LogCaptureFixture
) -> None:
    photo.path.unlink()
    on_the_cdn = await fetch(photo)
    assert (on_the_cdn.status, "InternalError" in await on_the_cdn.text()) == (500, True)
    sandbox.mode = Mode.DIRECT
    on_the_api = await fetch(photo)
    assert (on_the_api.status, "<Code>20500</Code>" in await on_the_api.text()) == (500, True)
    assert warned(caplog) == [f"{WARNING}the file of a media is gone"] * 2


def largest(sandbox: Sandbox) -> Media:
    """Return a media that takes several reads."""
    return max((media for message in sandbox.messages for media in message.media), key=lambda media: media.length)


async def test_a_file_cut_while_read_breaks_the_answer_off(sandbox: Sandbox, session: ClientSession) -> None:
    sandbox.mode = Mode.DIRECT
    rule = sandbox.fault(StallBody(1_000))
    headers = {"Authorization": sandbox.authorization}
    media = largest(sandbox)
    async with session.get(sandbox.media_url(media), headers=headers) as response:
        await rule.reached()
        os.truncate(media.path, 2_000)
        rule.release()
        with pytest.raises(ClientPayloadError):
            await response.read()


async def test_a_full_disk_keeps_no_message(
    sandbox: Sandbox, session: ClientSession, full_disk: None, caplog: pytest.LogCaptureFixture
) -> None:
    before = sandbox.messages
    with pytest.raises(StoreError):
        await sandbox.add_message([("image/png", b"new")])
    ordered = await session.post(
        f"{sandbox.api_url}/_sandbox/messages", json={"media": [{"content_type": "image/png", "base64": "YQ=="}]}
    )
    assert (ordered.status, await ordered.json()) == (
        500,
        {"error": "the sandbox's folder failed: No space left on device"},
    )
    posted = await session.post(
        f"{sandbox.api_url}/2010-04-01/Accounts/{sandbox.account_sid}/Messages.json",
        data={"To": "1", "From": "2", "Media": io.BytesIO(b"new")},
        headers={"Authorization": sandbox.authorization},
    )
    assert (posted.status, (await posted.json())["code"]) == (500, 20500)
    assert sandbox.messages == before
    assert warned(caplog) == [f"{WARNING}the sandbox's folder failed: No space left on device"]


async def test_messages_are_bounded(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.sandbox.storage._MESSAGE_LIMIT", 7)
    await sandbox.add_message()
    with pytest.raises(StoreError):
        await sandbox.add_message()
    assert len(sandbox.messages) == 7


async def test_after_the_end_nothing_is_added(options: SandboxOptions) -> None:
    async with Sandbox(options) as sandbox:
        pass
    with pytest.raises(StoreError):
        await sandbox.add_message()


async def test_an_adding_that_is_cancelled_is_whole_all_the_same(sandbox: Sandbox) -> None:
    before = len(sandbox.messages)
    adding = asyncio.ensure_future(sandbox.add_message([("image/png", b"first")]))
    await asyncio.sleep(0)
    adding.cancel()
    await sandbox.add_message([("image/png", b"second")])
    assert adding.cancelled()
    added = sandbox.messages[before:]
    assert [message.media[0].read() for message in added] == [b"first", b"second"]


async def test_the_second_of_two_deletions_at_once_is_404(sandbox: Sandbox, api: Ask, photo: Media) -> None:
    message = f"/Messages/{photo.ref.message}.json"
    answers = await asyncio.gather(*(api(message, "DELETE") for _ in range(3)))
    assert sorted(answer.status for answer in answers) == [204, 404, 404]


async def test_a_media_larger_than_one_read_is_repeated_exactly(sandbox: Sandbox, fetch: Ask) -> None:
    large = largest(sandbox)
    sandbox.fault(Oversize(large.length * 2 + 7))
    whole = large.read()
    assert await (await fetch(large)).read() == whole * 2 + whole[:7]
