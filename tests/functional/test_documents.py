"""The commands of the documents, run as they are written."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import ClientSession
from yarl import URL

from proxy.sandbox import Media, Sandbox
from tests.documents import LINKS, WEB, Block, blocks
from tests.functional.harness import CLIENT, RunningGateway
from tests.functional.programs import started
from tests.ports import free_port

ACCOUNT = "AC0123456789abcdef0123456789abcdef"
MESSAGE = "MMfedcba9876543210fedcba9876543210"
MEDIA = "ME00112233445566778899aabbccddeeff"
CURL = [block for block in blocks("bash", document=WEB, title="Mint by HTTP") if block.text.startswith("curl ")]


async def shell(command: str, **environment: str) -> tuple[int, str, str]:
    """Run a command; return its exit code, output and errors."""
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
    """Return what turns a command of `media-gateway` into one that this very package answers."""

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


(FIVE,) = (block.text for block in blocks("bash", title="Five lines to real use"))
BY_COMMAND, BY_HTTP = (block.text for block in blocks("bash", title="Mint a link"))
EXPORTS = "".join(line for line in FIVE.splitlines(keepends=True) if line.startswith("export "))


@dataclass(frozen=True)
class Newcomer:
    """A folder in which the README's commands are run, over a sandbox in place of the provider."""

    folder: Path
    environment: Mapping[str, str]
    words: Mapping[str, str]

    def command(self, text: str) -> str:
        """Return the commands as they are run: in the folder, with what a reader would fill in."""
        for example, real in self.words.items():
            text = text.replace(example, real)
        return f"cd '{self.folder}'\n{text}"

    async def says(self, text: str) -> str:
        """Return the output of commands that end well in another shell."""
        code, output, complaints = await shell(self.command(EXPORTS + text), **self.environment)
        assert (code, complaints) == (0, "")
        return output


@pytest.fixture
def newcomer(sandbox: Sandbox, photo: Media, tmp_path: Path, program_path: Callable[[str], str]) -> Newcomer:
    port = free_port()
    program = tmp_path / ".venv/bin/media-gateway"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\nexec '{sys.executable}' -m proxy \"$@\"\n", "utf-8")
    program.chmod(0o755)
    settings = {
        "GATEWAY_LISTEN": f"127.0.0.1:{port}",
        "GATEWAY_UPSTREAM_URL": sandbox.api_url,
        "GATEWAY_REDIRECT_HOSTS": sandbox.cdn_host,
        "GATEWAY_CACHE_DIR": str(tmp_path / "cache"),
        "PYTHONPATH": SETTINGS["PYTHONPATH"],
        "HOME": SETTINGS["HOME"],
        "PATH": os.pathsep.join((str(Path(program_path("curl")).parent), os.environ["PATH"])),
    }
    account, message, media = str(photo.ref).split("/")
    words = {ACCOUNT: account, MESSAGE: message, MEDIA: media, "the-auth-token": sandbox.auth_token, "8080": str(port)}
    return Newcomer(tmp_path, settings, words)


@pytest.mark.system("curl")
async def test_the_readme_leads_to_a_media(newcomer: Newcomer, photo: Media) -> None:
    # The shell gives its place to the gateway, so that the signal that ends it comes to the gateway.
    serve = newcomer.command(FIVE.replace("&& media-gateway serve", "&& exec media-gateway serve"))
    async with started(("-ec", serve), newcomer.environment, command=("/bin/sh",)) as gateway:
        await gateway.line("listening at")
        (minted,) = json.loads(await newcomer.says(BY_HTTP))["links"]
        offline = (await newcomer.says(BY_COMMAND)).strip()
        async with ClientSession() as browser:
            for url in (minted["url"], offline):
                async with browser.get(URL(url, encoded=True)) as reply:
                    assert (reply.status, len(await reply.read())) == (200, photo.length)
        explained = await newcomer.says(f"media-gateway explain '{offline}'")
        assert "refused" not in explained
        gateway.signal(signal.SIGTERM)
        assert await gateway.ended() == 0


async def test_a_link_is_explained(command_line: Callable[[str], str]) -> None:
    (block,) = (block for block in blocks("bash", document=LINKS) if block.text.startswith("media-gateway explain "))
    code, output, complaints = await shell(command_line(block.text), **SETTINGS)
    assert (code, complaints) == (1, "")
    assert "ok   signature" in output
    assert "refused, 410" in output
