"""The commands of the documents, run as they are written."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.sandbox import Media
from tests.documents import LINKS, WEB, Block, blocks
from tests.functional.harness import CLIENT, RunningGateway

ACCOUNT = "AC0123456789abcdef0123456789abcdef"
MESSAGE = "MMfedcba9876543210fedcba9876543210"
MEDIA = "ME00112233445566778899aabbccddeeff"
CURL = [block for block in blocks("bash", document=WEB, title="Mint by HTTP") if block.text.startswith("curl ")]


async def shell(command: str, **environment: str) -> tuple[int, str, str]:
    """Exit code, output and errors of a command."""
    program = await asyncio.create_subprocess_exec(
        "/bin/sh", "-c", command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=environment
    )
    output, complaints = await program.communicate()
    assert program.returncode is not None
    return program.returncode, output.decode(), complaints.decode()


def test_every_way_to_mint_by_http_has_its_command() -> None:
    assert len(CURL) == 5


@pytest.mark.system("curl")
@pytest.mark.parametrize("block", CURL, ids=str)
async def test_commands_that_mint_by_http_give_links_that_open(
    block: Block, gateway: RunningGateway, photo: Media, program_path: Callable[[str], str]
) -> None:
    command = block.text
    for example, real in zip((ACCOUNT, MESSAGE, MEDIA), str(photo.ref).split("/"), strict=True):
        command = command.replace(example, real)
    path = os.pathsep.join((str(Path(program_path("curl")).parent), os.environ["PATH"]))
    code, output, complaints = await shell(command, GATEWAY=gateway.url, CLIENT=":".join(CLIENT), PATH=path)
    assert (code, complaints) == (0, "")
    minted = {link["media_sid"]: link["url"] for link in json.loads(output)["links"]}
    reply = await gateway.get(minted[str(photo.ref.media)])
    assert (reply.status, len(reply.body)) == (200, photo.length)


@pytest.fixture
def command_line(tmp_path: Path) -> Callable[[str], str]:
    """A command that calls `media-gateway`, so that this very package answers it."""

    def prepare(command: str) -> str:
        return command.replace("media-gateway ", f"'{sys.executable}' -m proxy ", 1)

    return prepare


SETTINGS = {
    "TWILIO_ACCOUNT_SID": ACCOUNT,
    "TWILIO_AUTH_TOKEN": "t" * 32,
    "GATEWAY_PUBLIC_URL": "https://media.example.com",
    "GATEWAY_SIGNING_KEYS": "k1:test-only-secret-1-0123456789abcdef",
    "PYTHONPATH": os.pathsep.join(path or "." for path in sys.path),
    "HOME": "/nonexistent",
}


async def test_the_first_link_is_minted_offline_in_any_shell(
    command_line: Callable[[str], str], tmp_path: Path
) -> None:
    (block,) = (block for block in blocks("bash") if block.text.startswith("media-gateway link "))
    bare = {name: SETTINGS[name] for name in ("PYTHONPATH", "HOME")}
    written, output, complaints = await shell(f"cd '{tmp_path}' && {command_line('media-gateway init')}", **bare)
    assert (written, complaints) == (0, "")
    (account,) = blocks("toml", title="In front of a Twilio account")
    with (tmp_path / "media-gateway.toml").open("a", encoding="utf-8") as file:
        file.write(account.text)
    minted, output, complaints = await shell(f"cd '{tmp_path}' && {command_line(block.text)}", **bare)
    assert (minted, complaints) == (0, "")
    assert output.startswith(f"http://127.0.0.1:8080/media/{ACCOUNT}/{MESSAGE}/{MEDIA}?expires=")
    explained = command_line(f"media-gateway explain '{output.strip()}'")
    code, output, complaints = await shell(explained, GATEWAY_CONFIG=str(tmp_path / "media-gateway.toml"), **bare)
    assert (code, complaints) == (0, ""), output


async def test_a_link_is_explained(command_line: Callable[[str], str]) -> None:
    (block,) = (block for block in blocks("bash", document=LINKS) if block.text.startswith("media-gateway explain "))
    code, output, complaints = await shell(command_line(block.text), **SETTINGS)
    assert (code, complaints) == (1, "")
    assert "ok   signature" in output
    assert "refused, 410" in output
