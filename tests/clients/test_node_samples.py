"""The Node programs of Twilio's documents, run as they are written.

Their text is the documents' own but for identifiers, which no account but the documents' example has; the account and
its secret come from the environment, as there, and the host from a module that Node loads first.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Final

import pytest

from tests.clients.node_programs import NODE, NODE_MODULES, Ended, Side, Target, require_node_modules, run, serving
from tests.clients.systems import System

pytestmark = pytest.mark.system("node")

Run = Callable[[str], Awaitable[Ended]]

SAMPLES: Final = NODE / "samples"
_MESSAGE: Final = re.compile(r"\b(?:SM|MM)\w{32}\b")
_MEDIA: Final = re.compile(r"\bME\w{32}\b")


@pytest.fixture(params=[(side, system) for side in Side for system in (System.SIGNED, System.ENFORCED)], ids="-".join)
async def target(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Target]:
    side, system = request.param
    async with serving(side, system, tmp_path) as started:
        yield started


@pytest.fixture
def sample(target: Target, tmp_path: Path, program_path: Callable[[str], str]) -> Run:
    """Run a program of the documents in a folder of its own."""
    require_node_modules()

    async def sample(name: str) -> Ended:
        text, messages = _MESSAGE.subn(target.message.sid, (SAMPLES / name).read_text())
        text, _ = _MEDIA.subn(target.first.sid, text)
        assert messages == 1
        program = tmp_path / name
        program.write_text(text)
        command = (program_path("node"), "--require", str(NODE / "base_url.js"), str(program))
        environ = {
            "TWILIO_ACCOUNT_SID": target.place.username,
            "TWILIO_AUTH_TOKEN": target.place.password,
            "MEDIA_API_URL": target.place.base,
            "NODE_PATH": str(NODE_MODULES),
        }
        return await run(command, environ, folder=tmp_path)

    return sample


async def test_a_medium_is_fetched(target: Target, sample: Run) -> None:
    assert await sample("fetch_medium.js") == Ended(0, f"{target.place.account}\n".encode(), "")


async def test_media_are_listed(target: Target, sample: Run) -> None:
    assert await sample("list_media.js") == Ended(0, f"{target.place.account}\n".encode() * 5, "")


@pytest.mark.parametrize("name", ["delete_media.js", "delete_media_by_placeholder.js"])
async def test_a_medium_is_deleted(target: Target, sample: Run, name: str) -> None:
    assert await sample(name) == Ended(0, b"", "")
    (message,) = target.sandbox.messages
    assert [media.sid for media in message.media] == target.sids[1:]


def test_every_program_of_the_documents_is_run() -> None:
    assert {path.name for path in SAMPLES.iterdir()} == {
        "fetch_medium.js",
        "list_media.js",
        "delete_media.js",
        "delete_media_by_placeholder.js",
    }
