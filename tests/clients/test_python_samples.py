"""The Python samples of the documents, with nothing changed but host, credentials and identifiers."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from proxy.sandbox import Message, Sandbox
from tests.clients.systems import Place, System

HERE = Path(__file__).parent
RUNNER = HERE / "python" / "sample.py"


@pytest.fixture(params=[System.SIGNED, System.ENFORCED], ids=str)
def system(request: pytest.FixtureRequest) -> System:
    """Return those whose documents have samples for Python's library."""
    found: System = request.param
    return found


async def run(place: Place, name: str, **identifiers: str) -> list[str]:
    """Return the lines that the sample prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(RUNNER), str(HERE / "samples" / f"{name}.py.txt"), place.base,
        *(f"{old}={new}" for old, new in identifiers.items()),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={
            "PATH": os.environ["PATH"],
            "TWILIO_ACCOUNT_SID": place.username,
            "TWILIO_AUTH_TOKEN": place.password,
        },
    )  # fmt: skip
    printed, said = await process.communicate()
    assert process.returncode == 0, said.decode()
    return printed.decode().splitlines()


def test_every_sample_of_the_documents_is_run() -> None:
    assert {path.name for path in (HERE / "samples").iterdir()} == {"fetch.py.txt", "list.py.txt", "delete.py.txt"}


async def test_the_sample_that_fetches_prints_the_account(places: tuple[Place, ...], message: Message) -> None:
    for place in places:
        identifiers = {f"SM{'a' * 32}": message.sid, f"ME{'a' * 32}": message.media[0].sid}
        assert await run(place, "fetch", **identifiers) == [place.account]


async def test_the_sample_that_lists_prints_the_account_of_each(places: tuple[Place, ...], message: Message) -> None:
    for place in places:
        assert await run(place, "list", **{f"MM{'X' * 32}": message.sid}) == [place.account] * 5


async def test_the_sample_that_deletes_deletes(places: tuple[Place, ...], message: Message, sandbox: Sandbox) -> None:
    for place, media in zip(places, message.media, strict=False):
        identifiers = {
            "MM800f449d0399ed014aae2bcc0cc2f2ec": message.sid,
            "ME557ce644e5ab84fa21cc21112e22c485": media.sid,
        }
        assert await run(place, "delete", **identifiers) == []
        assert media not in next(one for one in sandbox.messages if one.sid == message.sid).media
