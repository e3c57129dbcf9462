"""The errors that the libraries raise if the provider, or the gateway, refuses."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from proxy.sandbox import Media, Message, Point, Sandbox, Status
from tests.clients.libraries import Library, Refused
from tests.clients.schema import error_code
from tests.clients.systems import Place, unknown_account, unknown_media, unknown_message

Operation = Callable[[Library, Place, str, str], Awaitable[object]]

OPERATIONS: tuple[tuple[str, Point, Operation], ...] = (
    ("rest", Point.PROPERTIES, lambda library, place, message, media: library.fetch(place, message, media)),
    ("page", Point.LIST, lambda library, place, message, _: library.list(place, message)),
    ("rest", Point.DELETE, lambda library, place, message, media: library.delete(place, message, media)),
)
"""Each operation: how the libraries put its refusal, where it acts at the provider, and the call."""

NO_MEDIA = f"ME{'X' * 32}"
NO_MESSAGE = f"MM{'X' * 32}"
"""Placeholders, as the documents print them."""


async def refusal(awaited: Awaitable[object]) -> tuple[str, int, int]:
    """Return the library's words, the status and the provider's code."""
    with pytest.raises(Refused) as raised:
        await awaited
    return raised.value.kind, raised.value.status, raised.value.code


@pytest.fixture
def photo(message: Message) -> Media:
    return message.media[0]


async def test_wrong_credentials_are_20003(
    library: Library, places: tuple[Place, ...], message: Message, photo: Media
) -> None:
    for place in places:
        for wrong in (
            place.known_as(place.username, "w" * 40),
            place.known_as(f"SK{'0' * 32}", place.password),
            place.known_as(unknown_account(photo.ref), place.password),
        ):
            for kind, _, operation in OPERATIONS:
                assert await refusal(operation(library, wrong, message.sid, photo.sid)) == (kind, 401, 20003)
        # Nothing was deleted.
        assert (await library.fetch(place, message.sid, photo.sid)).sid == photo.sid


async def test_an_unknown_message_or_account_is_20404(
    library: Library, places: tuple[Place, ...], message: Message, photo: Media
) -> None:
    for place in places:
        elsewhere = Place(place.base, unknown_account(photo.ref), place.username, place.password)
        for kind, _, operation in OPERATIONS:
            for asked, parent in (
                (place, unknown_message(photo)),
                (place, NO_MESSAGE),
                (elsewhere, message.sid),
            ):
                assert await refusal(operation(library, asked, parent, photo.sid)) == (kind, 404, 20404)
        assert (await library.fetch(place, message.sid, photo.sid)).sid == photo.sid


async def test_an_unknown_media_is_20404(
    library: Library, places: tuple[Place, ...], message: Message, photo: Media
) -> None:
    for place in places:
        for sid in (unknown_media(photo), NO_MEDIA):
            assert await refusal(library.fetch(place, message.sid, sid)) == ("rest", 404, 20404)
            assert await refusal(library.delete(place, message.sid, sid)) == ("rest", 404, 20404)


async def test_too_many_requests_are_20429(
    library: Library, places: tuple[Place, ...], message: Message, photo: Media, sandbox: Sandbox
) -> None:
    for _, point, _ in OPERATIONS:
        sandbox.fault(Status(429), point=point)
    for place in places:
        for kind, _, operation in OPERATIONS:
            assert await refusal(operation(library, place, message.sid, photo.sid)) == (kind, 429, 20429)


async def test_a_bad_date_is_20001(library: Library, places: tuple[Place, ...], message: Message) -> None:
    for place in places:
        assert await refusal(library.list(place, message.sid, date_created="yesterday")) == ("page", 400, 20001)


async def test_refused_xml_says_why(
    library: Library, places: tuple[Place, ...], message: Message, photo: Media, sandbox: Sandbox
) -> None:
    sandbox.fault(Status(429), point=Point.LIST)
    for place in places:
        wrong = place.known_as(place.username, "w" * 40)
        for asked, url, right in (
            (wrong, place.url(message, photo, ".xml"), (401, 20003)),
            (wrong, place.url(message, suffix=".xml"), (401, 20003)),
            (place, place.url(message, unknown_media(photo), ".xml"), (404, 20404)),
            (place, place.url(NO_MESSAGE, suffix=".xml"), (404, 20404)),
            (place, place.url(message, suffix=".xml"), (429, 20429)),
        ):
            answer = await library.text(asked, url)
            assert (answer.status, error_code(answer.text)) == right
            assert answer.text.startswith("<?xml")


async def test_refused_bytes_say_why(
    library: Library, places: tuple[Place, ...], message: Message, photo: Media, sandbox: Sandbox
) -> None:
    sandbox.fault(Status(429), point=Point.CONTENT)
    for place in places:
        wrong = place.known_as(place.username, "w" * 40)
        for asked, url, right in (
            (wrong, place.url(message, photo), (401, 20003)),
            (place, place.url(message, NO_MEDIA), (404, 20404)),
            (place, place.url(message, photo), (429, 20429)),
        ):
            got = await library.bytes(asked, url)
            assert (got.status, error_code(got.octets.decode())) == right
