"""Retrieve a media's properties: the JSON that every library reads, and the XML beside it."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from proxy.sandbox import Message
from tests.clients.libraries import Library, Properties
from tests.clients.schema import properties_in
from tests.clients.systems import Place


async def test_fetch_gives_every_property_of_a_media(
    library: Library, places: tuple[Place, ...], message: Message
) -> None:
    for place in places:
        for media in message.media:
            right = Properties.of(media, place.path(message, media, ".json"))
            assert await library.fetch(place, message.sid, media.sid) == right


async def test_xml_gives_every_property_of_a_media(
    library: Library, places: tuple[Place, ...], message: Message
) -> None:
    media = message.media[0]
    for place in places:
        answer = await library.text(place, place.url(message, media, ".xml"))
        (element,) = ET.fromstring(answer.text)
        values = properties_in(element)
        assert answer.status == 200
        assert (values["sid"], values["content_type"]) == (media.sid, media.content_type)
        assert values["uri"] == place.path(message, media, ".xml")
        assert values["date_created"] == "Tue, 10 Mar 2026 12:00:00 +0000"
