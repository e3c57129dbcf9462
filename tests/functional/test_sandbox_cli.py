"""`media-gateway sandbox` as a program: what it prints is what works."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from click.testing import CliRunner
from yarl import URL

from proxy.cli import main
from proxy.links import LinkMinter
from proxy.model import MediaRef, Provider
from proxy.sandbox import SandboxOptions
from proxy.sandbox.creation import MEDIA_BYTES
from tests.functional.programs import Program, started

ANY = ("--listen", "127.0.0.1:0")
ROOTS = {"twilio": "/2010-04-01/Accounts/", "signalwire": "/api/laml/2010-04-01/Accounts/"}


@dataclass
class Running:
    """A sandbox that runs as a program, and what it said of itself."""

    program: Program
    facts: dict[str, Any]
    session: aiohttp.ClientSession

    async def ask(self, method: str, url: str, credentials: tuple[str, str] | None = None) -> tuple[int, bytes]:
        """Return status and body; no redirect is followed."""
        headers = {} if credentials is None else {"Authorization": aiohttp.encode_basic_auth(*credentials)}
        async with self.session.request(
            method, URL(url, encoded=True), headers=headers, allow_redirects=False
        ) as answer:
            return answer.status, await answer.read()

    @property
    def account(self) -> tuple[str, str]:
        return self.facts["account_sid"], self.facts["auth_token"]

    async def messages(self) -> list[dict[str, Any]]:
        status, body = await self.ask("GET", f"{self.facts['control_url']}/messages")
        assert status == 200
        messages: list[dict[str, Any]] = json.loads(body)
        return messages

    async def end(self, number: int = signal.SIGTERM) -> None:
        """End it, and see that it goes in peace."""
        self.program.signal(number)
        assert await self.program.ended() == 0
        assert "Traceback" not in "\n".join(self.program.lines)


@asynccontextmanager
async def sandbox(folder: Path, *arguments: str) -> AsyncIterator[Running]:
    """Yield the program on free ports; its temporary files lie in `folder`."""
    async with (
        started(["sandbox", "--json", *ANY, *arguments], {"TMPDIR": str(folder)}) as program,
        aiohttp.ClientSession(auto_decompress=False) as session,
    ):
        yield Running(program, json.loads(await program.line("{")), session)


async def refusal(*arguments: str) -> str:
    """Return the one line that it ends with, if it cannot start."""
    async with started(["sandbox", *ANY, *arguments], {}) as program:
        assert await program.ended() == 2
        (line,) = program.lines
        return line


# --- what it prints -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", list(Provider))
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_its_facts_are_a_json_line_and_signals_end_it(
    tmp_path: Path, profile: Provider, number: signal.Signals
) -> None:
    async with sandbox(tmp_path, "--profile", profile) as running:
        facts, options = running.facts, SandboxOptions(profile=profile)
        assert facts.keys() == {
            "profile", "mode", "api_url", "cdn_url", "control_url", "account_sid", "auth_token", "api_key", "folder",
            "messages", "media", "environment",
        }  # fmt: skip
        assert (facts["profile"], facts["mode"]) == (profile, options.first_mode)
        assert facts["account_sid"] == str(options.account)
        assert (facts["folder"], facts["messages"], facts["media"]) == (None, 6, 10)
        url = f"{facts['api_url']}{ROOTS[profile]}{facts['account_sid']}/Messages.json"
        for credentials in (running.account, (facts["api_key"]["sid"], facts["api_key"]["secret"])):
            status, body = await running.ask("GET", url, credentials)
            assert (status, len(json.loads(body)["messages"])) == (200, 6)
        assert (await running.ask("GET", url))[0] == 401
        assert (await running.ask("GET", facts["cdn_url"]))[0] in (403, 404)
        await running.end(number)
        assert len(running.program.lines) == 1
    assert not await asyncio.to_thread(lambda: list(tmp_path.iterdir()))


@pytest.mark.parametrize("profile", list(Provider))
async def test_a_gateway_with_the_printed_environment_gives_links_that_open(tmp_path: Path, profile: Provider) -> None:
    async with sandbox(tmp_path, "--profile", profile, "--mode", "redirect-signed") as running:
        environment = {
            **running.facts["environment"],
            "GATEWAY_CACHE_DIR": str(tmp_path / "cache"),
            "GATEWAY_LISTEN": "127.0.0.1:0",
        }
        (media, *_) = (media for message in await running.messages() for media in message["media"])
        async with started(["serve"], environment) as gateway:
            listening = await gateway.line("listening at ")
            origin = listening.partition("listening at ")[2].partition(",")[0]
            client = tuple(environment["GATEWAY_CLIENTS"].split(":"))
            headers = {"Authorization": aiohttp.encode_basic_auth(*client)}
            asked = {"media": [{"url": media["url"]}]}
            async with running.session.post(f"{origin}/links", json=asked, headers=headers) as answer:
                assert answer.status == 201
                (link,) = (await answer.json())["links"]
            ref = MediaRef.parse(link["account_sid"], link["message_sid"], link["media_sid"])
            offline = LinkMinter(origin, environment["GATEWAY_SIGNING_KEYS"]).url(ref)
            for url in (link["url"].replace("http://127.0.0.1:0", origin), offline):
                status, body = await running.ask("GET", url)
                assert (status, hashlib.sha256(body).hexdigest()) == (200, media["sha256"])
            gateway.signal(signal.SIGTERM)
            assert await gateway.ended() == 0
        await running.end()


@pytest.mark.parametrize("profile", list(Provider))
@pytest.mark.system("curl")
async def test_the_text_s_commands_can_be_pasted(tmp_path: Path, profile: Provider) -> None:
    arguments = ["sandbox", *ANY, "--profile", profile, "--auth-token", "it's;$HOME"]
    async with started(arguments, {"TMPDIR": str(tmp_path)}) as program:
        await program.line("Ctrl-C")
        text = "\n".join(program.lines)
        (command,) = re.findall(r"^  (curl .+)$", text, re.MULTILINE)
        exports = re.findall(r"^  (export .+)$", text, re.MULTILINE)
        script = "\n".join([*exports, command, "env"])
        shell = await asyncio.create_subprocess_exec(
            "/bin/sh",
            "-c",
            script,
            stdout=asyncio.subprocess.PIPE,
            env={"PATH": "/usr/bin:/bin", "TMPDIR": str(tmp_path)},
        )
        output = (await shell.communicate())[0].decode()
        answer, end = json.JSONDecoder().raw_decode(output)
        assert len(answer["messages"]) == 6
        token = "TWILIO_AUTH_TOKEN" if profile is Provider.TWILIO else "SIGNALWIRE_API_TOKEN"
        assert f"{token}=it's;$HOME" in output[end:].splitlines()
        assert re.search(r"^GATEWAY_CACHE_DIR=/", output[end:], re.MULTILINE)
        urls = dict(re.findall(r"^(API|CDN): +(http://127\.0\.0\.1:[0-9]+)$", text, re.MULTILINE))
        assert urls["CDN"].removeprefix("http://") in text.partition("GATEWAY_REDIRECT_HOSTS=")[2].splitlines()[0]
        assert "Kept in:      a temporary folder" in text
        program.signal(signal.SIGINT)
        assert await program.ended() == 0


# --- options --------------------------------------------------------------------------------------------------


async def test_account_token_mode_and_openness_are_as_told(tmp_path: Path) -> None:
    options = ["--account-sid", "AC" + "AB" * 16, "--auth-token", "mine", "--mode", "direct", "--public-media"]
    async with sandbox(tmp_path, *options) as running:
        assert running.account == ("AC" + "ab" * 16, "mine")
        assert running.facts["mode"] == "direct"
        first = (await running.messages())[0]["media"][0]
        status, body = await running.ask("GET", first["url"])
        assert (status, hashlib.sha256(body).hexdigest()) == (200, first["sha256"])
        assert (await running.ask("GET", f"{first['url']}.json"))[0] == 401
        assert (await running.ask("GET", f"{first['url']}.json", ("AC" + "ab" * 16, "mine")))[0] == 200
        await running.end()


async def test_the_cdn_takes_the_next_or_the_given_port(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
    async with sandbox(tmp_path, "--no-samples", "--listen", f"127.0.0.1:{port}") as running:
        assert URL(running.facts["api_url"]).port == port
        assert port < (URL(running.facts["cdn_url"]).port or 0) <= port + 100
        assert (running.facts["messages"], await running.messages()) == (0, [])
        await running.end()
    async with sandbox(tmp_path, "--cdn-listen", f"127.0.0.1:{port}") as running:
        assert URL(running.facts["cdn_url"]).port == port
        await running.end()


async def test_off_loopback_a_sandbox_prints_a_gateway_s_settings(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Nothing is sent: connecting finds the address that would be sent from.
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no address but loopback")
        host = probe.getsockname()[0]
    async with sandbox(tmp_path, "--no-samples", "--listen", f"{host}:0") as running:
        assert running.facts["api_url"].startswith(f"http://{host}:")
        assert "loopback host only" in running.program.lines[0]
        await running.end()


# --- files ----------------------------------------------------------------------------------------------------


async def test_a_kept_folder_keeps_identifiers_and_bytes_over_a_restart(tmp_path: Path) -> None:
    kept = ("--data", str(tmp_path / "kept"))
    async with sandbox(tmp_path, *kept) as running:
        assert running.facts["folder"] == str(tmp_path / "kept")
        before = await running.messages()
        gone = before[0]["media"][0]
        assert (await running.ask("DELETE", f"{gone['url']}.json", running.account))[0] == 204
        await running.end()
    async with sandbox(tmp_path, *kept) as running:
        after = await running.messages()
        assert [message["sid"] for message in after] == [message["sid"] for message in before]
        assert [media["sid"] for media in after[0]["media"]] == [before[0]["media"][1]["sid"]]
        last = after[-1]["media"][0]
        location = f"{running.facts['api_url']}{URL(last['url']).path}"
        status, _ = await running.ask("GET", location, running.account)
        assert (status, last["sha256"]) == (307, before[-1]["media"][0]["sha256"])
        await running.end()


async def test_files_become_messages_once_for_a_kept_folder(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    (photos / "sub").mkdir(parents=True)
    (photos / "a.heic").write_bytes(b"picture a")
    (photos / "b.unheard").write_bytes(b"picture b")
    (photos / "sub" / "c.pkpass").write_bytes(b"ticket c")
    (photos / "out").symlink_to(tmp_path / "elsewhere")
    arguments = ("--no-samples", "--data", str(tmp_path / "kept"), "--seed-media", str(photos))
    expected = [
        [("image/heic", b"picture a"), ("application/octet-stream", b"picture b")],
        [("application/vnd.apple.pkpass", b"ticket c")],
    ]
    listed = [[(kind, hashlib.sha256(body).hexdigest()) for kind, body in message] for message in expected]
    async with sandbox(tmp_path, *arguments) as running:
        messages = await running.messages()
        assert [[(one["content_type"], one["sha256"]) for one in message["media"]] for message in messages] == listed
        assert running.program.lines[0] == "media-gateway: links that lead out of their folder, and were left out: 1"
        await running.end()
    (photos / "d.txt").write_bytes(b"words")
    async with sandbox(tmp_path, *arguments, "--seed-media", str(photos / "d.txt")) as running:
        again = await running.messages()
        assert [message["sid"] for message in again[:2]] == [message["sid"] for message in messages]
        assert [[media["content_type"] for media in message["media"]] for message in again[2:]] == [
            ["text/plain"], ["text/plain"],
        ]  # fmt: skip
        assert "media-gateway: files that were added before: 3" in running.program.lines
        await running.end()


async def test_files_larger_than_a_provider_takes_are_loaded_and_named(tmp_path: Path) -> None:
    films = tmp_path / "films"
    films.mkdir()
    for name in "abcde":
        (films / f"{name}.mov").write_bytes(name.encode() * (MEDIA_BYTES + 1))
    async with sandbox(tmp_path, "--no-samples", "--seed-media", str(films)) as running:
        assert running.facts["media"] == 5
        (note,) = running.program.lines[:-1]
        assert note == (
            "media-gateway: larger than the 5,242,880 bytes that a provider takes with a message: "
            "films/a.mov, films/b.mov, films/c.mov and 2 more"
        )
        await running.end()


# --- errors ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["--listen", "--cdn-listen"])
async def test_a_port_that_is_taken_is_said_in_one_line(option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        address = f"127.0.0.1:{busy.getsockname()[1]}"
        assert await refusal(option, address) == f"{option}: {address} cannot be listened at: address already in use"


async def test_a_port_taken_meanwhile_is_one_line() -> None:
    # As if another program took it after it was found free.
    script = "from proxy.cli import main, sandbox; sandbox._refusal = lambda address: None; main()"
    with socket.create_server(("127.0.0.1", 0)) as busy:
        arguments = ["sandbox", *ANY, "--listen", f"127.0.0.1:{busy.getsockname()[1]}"]
        async with started(arguments, {}, command=(sys.executable, "-c", script)) as program:
            assert await program.ended() == 2, program.lines
            (line,) = program.lines
    assert line.startswith("--listen: ")
    assert "address already in use" in line


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--listen", "nowhere"], "--listen: expected HOST:PORT, [IPV6]:PORT or unix:/path.sock"),
        (["--listen", "unix:/x"], "--listen: expected HOST:PORT, with a host that can be connected to"),
        (["--listen", "0.0.0.0:0"], "--listen: expected HOST:PORT, with a host that can be connected to"),
        (["--cdn-listen", "[::]:0"], "--cdn-listen: expected HOST:PORT, with a host that can be connected to"),
        (["--account-sid", "AC1"], "--account-sid: is not an account SID (AC and 32 hex digits, or a UUID)"),
        (
            ["--account-sid", "AC" + "a" * 32, "--profile", "signalwire"],
            "--account-sid: is not an account of signalwire",
        ),
        (["--auth-token", ""], "--auth-token: expected ASCII without white space"),
        (["--auth-token", "a b"], "--auth-token: expected ASCII without white space"),
        (["--data", "~no-such-user/x"], "--data: names the home of an unknown user"),
        (["--seed-media", "/no/such"], "--seed-media: /no/such: no such file or directory"),
        (["--host", "a:80"], "--host: expected a host name in ASCII"),
    ],
)
async def test_a_bad_option_is_said_in_one_line(arguments: list[str], line: str) -> None:
    assert await refusal(*arguments) == line


async def test_both_origins_cannot_have_one_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    assert await refusal("--listen", address, "--cdn-listen", address) == "--cdn-listen: is the API's own address"


async def test_an_unusable_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert await refusal("--data", str(tmp_path / "file")) == "--data: is not a folder"


@pytest.mark.parametrize("arguments", [["--profile", "nobody"], ["--mode", "sideways"], ["--no-such"]])
def test_an_unknown_word_is_a_usage_error(arguments: list[str]) -> None:
    assert CliRunner().invoke(main, ["sandbox", *arguments]).exit_code == 2


def test_help_is_there() -> None:
    result = CliRunner().invoke(main, ["sandbox", "--help"])
    assert (result.exit_code, result.output.startswith("Usage:")) == (0, True)


async def test_it_answers_to_its_own_and_the_named_hosts(tmp_path: Path) -> None:
    async with sandbox(tmp_path, "--host", "sandbox", "--host", "provider.internal") as running:
        url = f"{running.facts['control_url']}/mode"
        found = {}
        for host in ("sandbox", "provider.internal:443", "rebound.example"):
            async with running.session.get(url, headers={"Host": host}) as answer:
                found[host] = answer.status
        assert found == {"sandbox": 200, "provider.internal:443": 200, "rebound.example": 421}
