"""The deletion of a media."""

from __future__ import annotations

import pytest

from proxy.sandbox import Message, Sandbox
from tests.clients.libraries import Library, Refused
from tests.clients.systems import Place


async def test_delete_is_true_and_the_media_is_gone(
    library: Library, places: tuple[Place, ...], message: Message, sandbox: Sandbox
) -> None:
    for place, media in zip(places, message.media, strict=False):
        before = await library.list(place, message.sid)
        assert (await library.bytes(place, place.url(message, media))).status == 200
        assert await library.delete(place, message.sid, media.sid) is True
        with pytest.raises(Refused) as refused:
            await library.fetch(place, message.sid, media.sid)
        assert (refused.value.kind, refused.value.status, refused.value.code) == ("rest", 404, 20404)
        assert (await library.bytes(place, place.url(message, media))).status == 404
        assert await library.list(place, message.sid) == before[1:]
    assert [len(one.media) for one in sandbox.messages] == [len(message.media) - len(places)]


async def test_delete_of_what_is_deleted_is_not_found(
    library: Library, places: tuple[Place, ...], message: Message
) -> None:
    for place, media in zip(places, message.media, strict=False):
        await library.delete(place, message.sid, media.sid)
        with pytest.raises(Refused) as refused:
            await library.delete(place, message.sid, media.sid)
        assert (refused.value.kind, refused.value.status, refused.value.code) == ("rest", 404, 20404)
