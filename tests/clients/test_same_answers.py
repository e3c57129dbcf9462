"""The gateway's answers beside the provider's own, as they come over the wire."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator
from http import HTTPMethod

import aiohttp
import pytest
from yarl import URL

from proxy.sandbox import Message
from tests.clients.schema import check_answer, error_code
from tests.clients.systems import Place, System, unknown_media
from tests.functional.harness import Reply


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def ask(session: aiohttp.ClientSession, place: Place, target: str, method: str = "GET") -> Reply:
    """Return a request as it is written, with the place's credentials."""
    headers = {"Authorization": aiohttp.encode_basic_auth(place.username, place.password)}
    url = URL(place.base + target, encoded=True)
    async with session.request(method, url, headers=headers, allow_redirects=False) as response:
        return Reply(response.status, response.headers, await response.read())


def meaning(reply: Reply) -> object:
    """Return what the body says, however it is spaced."""
    if reply.headers["Content-Type"].startswith("application/json"):
        return json.loads(reply.body)
    return ET.canonicalize(reply.body.decode())


def targets(place: Place, message: Message, system: System) -> list[str]:
    """Return every way to ask that the documents have, and some that lead nowhere."""
    media = message.media[1]
    filters = "DateCreated%3E=2026-03-09&DateCreated%3C=2026-03-12"
    lists = ("?PageSize=2", "?PageSize=2&Page=1", "?PageSize=0", "?Page=0", "?DateCreated=2026-03-10", f"?{filters}")
    found = [
        *(place.path(message, media, suffix) for suffix in (".json", ".xml")),
        *(place.path(message, suffix=suffix) for suffix in (".json", ".xml", "")),
        *(place.path(message, suffix=f".json{query}") for query in lists),
        *(place.path(message, suffix=f".xml{query}") for query in lists),
        place.path(message, suffix=f".json?{filters}&PageSize=2"),
        place.path(message, suffix=".json?DateCreated=10.3.2026"),
        place.path(message, unknown_media(media), ".json"),
        place.path(message, unknown_media(media), ".xml"),
    ]
    # The documents' examples of paths say `Message`, and SignalWire's older clients leave its prefix out.
    found.append(place.path(message, media, ".json").replace("/Messages/", "/Message/"))
    if system is System.SIGNALWIRE:
        found += [target.removeprefix("/api/laml") for target in found]
    return found


async def test_every_answer_says_what_the_provider_s_says(
    session: aiohttp.ClientSession, upstream: Place, gateway: Place, message: Message, system: System
) -> None:
    for target in targets(upstream, message, system):
        theirs, ours = await ask(session, upstream, target), await ask(session, gateway, target)
        assert ours.status == theirs.status, target
        assert ours.headers["Content-Type"] == theirs.headers["Content-Type"], target
        assert meaning(ours) == meaning(theirs), target
        check_answer(gateway.base + target, ours.status, ours.body.decode())


async def test_each_page_is_the_provider_s(
    session: aiohttp.ClientSession, upstream: Place, gateway: Place, message: Message
) -> None:
    for suffix in (".json?PageSize=2", ".json?PageSize=2&DateCreated%3E=2026-03-09"):
        target: str | None = upstream.path(message, suffix=suffix)
        pages = 0
        while target is not None:
            theirs, ours = await ask(session, upstream, target), await ask(session, gateway, target)
            assert ours.json == theirs.json
            following = ours.json["next_page_uri"]
            assert following is None or isinstance(following, str)
            target, pages = following, pages + 1
        assert pages == 3


async def test_deletion_answers_nothing(
    session: aiohttp.ClientSession, upstream: Place, gateway: Place, message: Message
) -> None:
    for place, (first, second) in ((upstream, message.media[:2]), (gateway, message.media[2:4])):
        for media, suffix in ((first, ".json"), (second, "")):
            reply = await ask(session, place, place.path(message, media, suffix), HTTPMethod.DELETE)
            assert (reply.status, reply.body) == (204, b"")
            again = await ask(session, place, place.path(message, media, suffix), HTTPMethod.DELETE)
            assert again.status == 404
            check_answer(place.url(message, media, suffix), 404, again.body.decode())


async def test_bytes_of_an_unknown_media_are_not_found(
    session: aiohttp.ClientSession, upstream: Place, gateway: Place, message: Message
) -> None:
    for place in (upstream, gateway):
        target = place.path(message, unknown_media(message.media[0]))
        reply = await ask(session, place, target)
        assert (reply.status, error_code(reply.body.decode())) == (404, 20404)
        check_answer(place.base + target, 404, reply.body.decode())
