"""Retrieve a message's list of media: its pages, its filters by date, and its XML."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from urllib.parse import parse_qs

import pytest

from proxy.sandbox import Message, Origin, Sandbox
from tests.clients.libraries import Library, Properties
from tests.clients.schema import properties_in
from tests.clients.systems import Place


def every_media(place: Place, message: Message) -> tuple[Properties, ...]:
    return tuple(Properties.of(media, place.path(message, media, ".json")) for media in message.media)


async def test_list_gives_every_media_in_one_page(
    library: Library, places: tuple[Place, ...], message: Message
) -> None:
    for place in places:
        assert await library.list(place, message.sid) == every_media(place, message)


async def test_list_stops_at_its_limit(library: Library, places: tuple[Place, ...], message: Message) -> None:
    for place in places:
        right = every_media(place, message)
        assert await library.list(place, message.sid, limit=3) == right[:3]
        assert await library.list(place, message.sid, limit=3, page_size=2) == right[:3]
        assert await library.list(place, message.sid, limit=20) == right


async def test_stream_follows_every_page(library: Library, places: tuple[Place, ...], message: Message) -> None:
    for place in places:
        library.answers.clear()
        assert await library.stream(place, message.sid, page_size=2) == every_media(place, message)
        assert len(library.answers) == 3


async def test_stream_follows_every_page_under_a_mount(library: Library, mounted: Place, message: Message) -> None:
    assert mounted.base.endswith("/gateway")
    assert await library.stream(mounted, message.sid, page_size=2) == every_media(mounted, message)
    assert all(answer.url.startswith(f"{mounted.base}/") for answer in library.answers)
    assert not any("/gateway/gateway/" in answer.url for answer in library.answers)


async def test_pages_lead_to_the_next_and_back(library: Library, places: tuple[Place, ...], message: Message) -> None:
    for place in places:
        right = every_media(place, message)
        pages = await library.pages(place, message.sid, page_size=2)
        assert [page.media for page in pages] == [right[:2], right[2:4], right[4:]]
        assert pages[-1].next_url is None
        last = pages[1].next_url
        assert last is not None
        back = await library.back(place, message.sid, last)
        assert [page.media for page in back] == [right[4:], right[2:4], right[:2]]


async def found_by(library: Library, place: Place, message: Message, name: str, values: Sequence[str]) -> list[str]:
    """Return those of the values with which the filter of that name finds every media; with the rest it finds none."""
    found = []
    for value in values:
        listed = await library.list(place, message.sid, **{name: value})
        assert listed in (every_media(place, message), ())
        if listed:
            found.append(value)
    return found


async def test_date_created_chooses_a_day(library: Library, places: tuple[Place, ...], message: Message) -> None:
    values = ("2026-03-09", "2026-03-10", "2026-03-10T23:59:59Z", "2026-03-11")
    for place in places:
        assert await found_by(library, place, message, "date_created", values) == [*values[1:3]]


async def test_date_created_before_includes_its_moment(
    library: Library, places: tuple[Place, ...], message: Message
) -> None:
    values = ("2026-03-10", "2026-03-10T11:59:59Z", "2026-03-10T12:00:00Z", "2026-03-11")
    for place in places:
        assert await found_by(library, place, message, "date_created_before", values) == [*values[2:]]


async def test_date_created_after_includes_its_moment(
    library: Library, places: tuple[Place, ...], message: Message
) -> None:
    values = ("2026-03-10", "2026-03-10T12:00:00Z", "2026-03-10T12:00:01Z", "2026-03-11")
    for place in places:
        assert await found_by(library, place, message, "date_created_after", values) == [*values[:2]]


async def test_filters_hold_on_every_page(
    library: Library, places: tuple[Place, ...], message: Message, sandbox: Sandbox
) -> None:
    for place in places:
        sandbox.clear_requests()
        between = {"date_created_after": "2026-03-09", "date_created_before": "2026-03-12T00:00:00Z"}
        assert await library.stream(place, message.sid, page_size=2, **between) == every_media(place, message)
        asked = [parse_qs(record.query) for record in sandbox.requests if record.origin is Origin.API]
        assert len(asked) == 3
        for query in asked:
            assert query["DateCreated>"] == ["2026-03-09"]
            assert query["DateCreated<"] == ["2026-03-12T00:00:00Z"]


async def test_a_message_without_media_has_an_empty_list(
    library: Library, places: tuple[Place, ...], sandbox: Sandbox
) -> None:
    plain = await sandbox.add_message(body="No picture today.")
    for place in places:
        assert await library.list(place, plain.sid) == ()


@pytest.mark.parametrize("suffix", [".xml", ""])
async def test_xml_gives_the_list(library: Library, places: tuple[Place, ...], message: Message, suffix: str) -> None:
    for place in places:
        answer = await library.text(place, place.url(message, suffix=suffix) + "?PageSize=3")
        assert answer.status == 200
        if not suffix and "/api/laml/" in answer.url:
            # SignalWire's page URIs have no suffix and lead to JSON.
            assert answer.text.startswith("{")
            continue
        (media_list,) = ET.fromstring(answer.text)
        listed = [properties_in(element) for element in media_list]
        assert [values["sid"] for values in listed] == [media.sid for media in message.media[:3]]
        assert media_list.get("pagesize") == "3"
        assert media_list.get("nextpageuri")
