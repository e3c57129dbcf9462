"""A gateway client's id may be a name, an account's SID or an API key's: the libraries know all three."""

from __future__ import annotations

import pytest

from proxy.sandbox import Message
from tests.clients.libraries import Library, Properties
from tests.clients.systems import API_KEY, SECRET, Place
from tests.functional.harness import CLIENT


@pytest.mark.parametrize("shape", ["name", "account", "api-key"])
async def test_every_shape_of_id_opens_the_account(
    library: Library, gateway: Place, message: Message, shape: str
) -> None:
    ids = {"name": CLIENT[0], "account": gateway.account, "api-key": API_KEY}
    place = gateway.known_as(ids[shape], SECRET)
    media = message.media[0]
    right = Properties.of(media, place.path(message, media, ".json"))
    assert await library.fetch(place, message.sid, media.sid) == right
    assert (await library.stream(place, message.sid, page_size=2))[0] == right
    assert (await library.bytes(place, place.url(message, media))).octets == media.read()
    assert await library.delete(place, message.sid, media.sid) is True
