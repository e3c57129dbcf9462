from __future__ import annotations

import io
import wave
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from proxy.model import AccountSid
from proxy.sandbox.messages import Message
from proxy.sandbox.samples import conversation, surf
from proxy.sandbox.storage import Storage

ACCOUNT = AccountSid.parse(f"AC{'a' * 32}")
NOW = 1_800_000_000.0
BEGINNINGS = {
    "image/jpeg": (0, b"\xff\xd8\xff"),
    "image/png": (0, b"\x89PNG\r\n\x1a\n"),
    "image/gif": (0, b"GIF89a"),
    "image/webp": (8, b"WEBP"),
    "video/mp4": (4, b"ftyp"),
    "audio/mpeg": (0, b"ID3"),
    "audio/ogg": (0, b"OggS"),
    "audio/wav": (8, b"WAVE"),
    "application/pdf": (0, b"%PDF-1."),
    "text/vcard": (0, b"BEGIN:VCARD\r\n"),
}


@asynccontextmanager
async def stored(account: AccountSid, now: float) -> AsyncIterator[tuple[Message, ...]]:
    storage = Storage(account, None)
    await storage.open()
    try:
        await storage.add_samples(lambda: conversation(now))
        yield tuple(storage)
    finally:
        await storage.close()


def test_the_conversation_shows_every_type_truly() -> None:
    attachments = [attachment for draft in conversation(NOW) for attachment in draft.media]
    assert {attachment.content_type for attachment in attachments} == set(BEGINNINGS)
    for attachment in attachments:
        place, beginning = BEGINNINGS[attachment.content_type]
        assert attachment.octets[place : place + len(beginning)] == beginning


def test_the_film_can_be_sought_before_it_is_whole() -> None:
    film = next(one for draft in conversation(NOW) for one in draft.media if one.content_type == "video/mp4")
    octets = film.octets
    assert 0 < octets.index(b"moov") < octets.index(b"mdat")


def test_each_page_of_the_plan_stands_where_its_table_says() -> None:
    plan = next(one for draft in conversation(NOW) for one in draft.media if one.content_type == "application/pdf")
    octets = plan.octets
    table = octets[int(octets.rsplit(b"startxref\n", 1)[1].split()[0]) :]
    offsets = [int(line[:10]) for line in table.splitlines()[3:] if line.endswith(b" n ")]
    assert offsets
    for number, offset in enumerate(offsets, 1):
        assert octets[offset:].startswith(b"%d 0 obj" % number)


def test_the_surf_is_five_million_octets_without_repetition() -> None:
    octets = surf()
    assert len(octets) == 5_000_000
    with wave.open(io.BytesIO(octets)) as sound:
        assert (sound.getnchannels(), sound.getsampwidth(), sound.getframerate()) == (1, 1, 44_100)
        assert sound.getnframes() == 5_000_000 - 44
    windows = {octets[start : start + 64] for start in range(0, 4_999_936, 64)}
    assert len(windows) == len(range(0, 4_999_936, 64))


def test_messages_keep_to_the_limits_of_the_provider() -> None:
    for draft in conversation(NOW):
        assert len(draft.media) <= 10
        assert sum(len(attachment.octets) for attachment in draft.media) <= 5_000_000
        assert draft.date_created < NOW


async def test_the_same_start_gives_the_same_identifiers() -> None:
    async def sids(now: float) -> list[str]:
        async with stored(ACCOUNT, now) as messages:
            return [sid for message in messages for sid in (message.sid, *(media.sid for media in message.media))]

    once = await sids(NOW)
    assert once == await sids(NOW + 1e6)
    assert len(set(once)) == len(once)


@pytest.mark.parametrize(("account", "length"), [(str(ACCOUNT), 34), ("446e9986-0848-4d46-a617-48793c5f5e07", 36)])
async def test_identifiers_are_of_the_accounts_provider(account: str, length: int) -> None:
    sid = AccountSid.parse(account)
    async with stored(sid, NOW) as messages:
        for message in messages:
            assert len(message.sid) == length
            assert {media.ref.provider for media in message.media} <= {sid.provider}
