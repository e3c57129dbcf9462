"""The command line: what each command prints, and its exit code."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import signal
import socket
import tomllib
from collections.abc import Mapping
from pathlib import Path

import aiohttp
import pytest
from click.testing import CliRunner, Result
from yarl import URL

from proxy.cli import main
from proxy.clients import ClientRegistry
from proxy.links import LinkMinter, LinkPolicy
from proxy.sandbox import Point, Sandbox, Status
from proxy.settings import load
from tests.functional.harness import KEY, environment
from tests.functional.programs import started

ACCOUNT, MESSAGE, MEDIA = "AC" + "0a" * 16, "MM" + "1a" * 16, "ME" + "2a" * 16
OTHER = "AC" + "0b" * 16
REFERENCE = f"{ACCOUNT}/{MESSAGE}/{MEDIA}"
RESOURCE = f"/2010-04-01/Accounts/{ACCOUNT}/Messages/{MESSAGE}/Media/{MEDIA}"
TOKEN = "t" * 32
MINTING = {"GATEWAY_SIGNING_KEYS": KEY, "GATEWAY_PUBLIC_URL": "https://media.example"}
WITH_ACCOUNT = {**MINTING, "TWILIO_ACCOUNT_SID": ACCOUNT, "TWILIO_AUTH_TOKEN": TOKEN}


def run(*arguments: str, environ: Mapping[str, str] | None = None) -> Result:
    """Return the command with these settings alone."""
    runner = CliRunner()
    with pytest.MonkeyPatch.context() as patch:
        for name in list(_own_variables()):
            patch.delenv(name)
        result = runner.invoke(main, arguments, env=dict(environ or {}))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    for secret in (KEY.partition(":")[2], TOKEN):
        assert secret not in result.output
    return result


def _own_variables() -> list[str]:
    return [name for name in os.environ if name.startswith(("GATEWAY_", "TWILIO_", "SIGNALWIRE_"))]


@pytest.mark.parametrize("command", ["", "serve", "demo", "link", "explain", "init", "keygen", "check"])
def test_help_is_there(command: str) -> None:
    result = run(*([command] if command else []), "--help")
    assert (result.exit_code, result.output.startswith("Usage:")) == (0, True)


def test_an_unknown_command_is_a_usage_error() -> None:
    assert run("fly").exit_code == 2


# --- serve ----------------------------------------------------------------------------------------------------


def test_serve_reports_every_bad_setting_and_exits_with_2(tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text('gateway_link_window = "none"\nsurprise = 1\n')
    environ = {
        "GATEWAY_SIGNING_KEYS": "k1:tooshortsecret",
        "GATEWAY_CLIENTS": "app:alsotooshort",
        "GATEWAY_NO_SUCH": "1",
        "TWILIO_ACCOUNT_SID": "ACx",
        "TWILIO_AUTH_TOKEN": TOKEN,
    }
    result = run("serve", "--config", str(config), "--listen", "nowhere", environ=environ)
    assert (result.exit_code, result.stdout) == (2, "")
    named = {line.partition(":")[0] for line in result.stderr.splitlines()}
    assert named == {*environ, "GATEWAY_LISTEN", "gateway_link_window", "surprise"} - {"TWILIO_AUTH_TOKEN"}
    assert "tooshort" not in result.output


def test_serve_wants_a_key_and_an_account() -> None:
    result = run("serve")
    assert result.exit_code == 2
    assert [line.partition(":")[0] for line in result.stderr.splitlines()] == ["GATEWAY_SIGNING_KEYS", "accounts"]


def test_serve_says_that_its_port_is_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        address = f"127.0.0.1:{busy.getsockname()[1]}"
        result = run("serve", "--listen", address, environ={**WITH_ACCOUNT, "GATEWAY_LOOP": "asyncio"})
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"GATEWAY_LISTEN: {address} cannot be listened at: address already in use\n"


# --- link -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reference", [REFERENCE, f"https://api.twilio.com{RESOURCE}", f"https://api.dublin.ie1.twilio.com{RESOURCE}"]
)
@pytest.mark.parametrize("environ", [MINTING, WITH_ACCOUNT])
def test_link_prints_a_link_as_the_gateway_mints_it(reference: str, environ: Mapping[str, str]) -> None:
    result = run("link", reference, environ=environ)
    assert (result.exit_code, result.stderr) == (0, "")
    (url,) = result.stdout.splitlines()
    assert url.startswith(f"https://media.example/media/{REFERENCE}?expires=")
    assert run("explain", url, environ=environ).exit_code == 0


def test_link_takes_the_configured_origin_s_urls() -> None:
    environ = {**WITH_ACCOUNT, "GATEWAY_UPSTREAM_URL": "http://127.0.0.1:9000"}
    assert run("link", f"http://127.0.0.1:9000{RESOURCE}", environ=environ).exit_code == 0
    assert run("link", f"http://127.0.0.1:9001{RESOURCE}", environ=environ).exit_code == 1
    assert run("link", f"http://127.0.0.1:9000{RESOURCE}", environ=MINTING).exit_code == 1


@pytest.mark.parametrize("environ", [MINTING, WITH_ACCOUNT])
def test_link_takes_what_the_api_gives(environ: dict[str, str]) -> None:
    urls = [f"https://API.Twilio.com{RESOURCE}", f"https://api.twilio.com{RESOURCE}.json", RESOURCE, f"{RESOURCE}.xml"]
    result = run("link", *urls, environ=environ)
    assert (result.exit_code, len(set(result.stdout.splitlines()))) == (0, 1)
    for reference in (f"//api.twilio.com{RESOURCE}", f"{RESOURCE}?x=1", f"/{RESOURCE}", f"{REFERENCE}.json"):
        assert run("link", reference, environ=environ).exit_code == 1
    other = RESOURCE.replace(RESOURCE.split("/")[3], "AC" + "9" * 32)
    # A path names a configured account, if there are any.
    assert run("link", other, environ=environ).exit_code == (1 if environ is WITH_ACCOUNT else 0)


def test_link_takes_several_references_and_every_claim() -> None:
    second = REFERENCE[:-1] + "b"
    options = [
        "--ttl",
        "600",
        "--filename",
        "Grüße.jpg",
        "--download",
        "--ip",
        "203.0.113.7",
        "--not-before",
        "1790000000",
    ]
    result = run("link", REFERENCE, second, *options, environ=MINTING)
    urls = [URL(line, encoded=True) for line in result.stdout.splitlines()]
    assert [url.path.removeprefix("/media/") for url in urls] == [REFERENCE, second]
    for url in urls:
        assert list(url.query) == ["expires", "key", "not_before", "ip", "filename", "disposition", "signature"]
        assert url.query["filename"] == "Grüße.jpg"
        assert url.query["disposition"] == "attachment"
        assert url.query["ip"] == "203.0.113.7/32"
    scoped = run("link", REFERENCE, second, "--scope", "message", environ=MINTING).stdout.splitlines()
    assert len({URL(line).query["signature"] for line in scoped}) == 1


def test_link_reads_a_file_of_settings(tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text(f'gateway_signing_keys = "{KEY}"\ngateway_public_url = "https://toml.example/m"\n')
    assert run("link", REFERENCE, "--config", str(config)).stdout.startswith("https://toml.example/m/media/")


def test_link_prints_nothing_unless_every_reference_is_good() -> None:
    result = run("link", REFERENCE, "nonsense", f"https://evil.example{RESOURCE}", environ=MINTING)
    assert (result.exit_code, result.stdout) == (1, "")
    assert [line.partition(": ")[0] for line in result.stderr.splitlines()] == [
        "nonsense", f"https://evil.example{RESOURCE}", "media-gateway",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--ttl", "0"], ["ttl"]),
        (["--ttl", "86401"], ["ttl"]),
        (["--ip", "x", "--filename", "", "--not-before", "-1"], ["ip", "not_before", "filename"]),
        (["--not-before", "999999999999"], ["not_before"]),
    ],
)
def test_link_names_every_bad_claim(options: list[str], named: list[str]) -> None:
    result = run("link", REFERENCE, *options, environ=MINTING)
    assert (result.exit_code, result.stdout) == (1, "")
    assert [line.partition(": ")[0] for line in result.stderr.splitlines()][:-1] == named


def test_link_wants_a_key() -> None:
    result = run("link", REFERENCE)
    assert (result.exit_code, result.stderr.partition(":")[0]) == (2, "GATEWAY_SIGNING_KEYS")
    assert run("link", environ=MINTING).exit_code == 2


# --- explain --------------------------------------------------------------------------------------------------


def minted(now: float | None = None, **claims: str) -> str:
    clock = {} if now is None else {"clock": lambda: now}
    return LinkMinter("https://media.example", KEY, LinkPolicy(), **clock).url(REFERENCE, **claims)  # type: ignore[arg-type]


def test_explain_accepts_a_good_link_claim_by_claim() -> None:
    result = run("explain", minted(ip="203.0.113.7", filename="a.jpg"), "--ip", "203.0.113.7", environ=MINTING)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == "This link is accepted"
    marks = {line[5:].split()[0]: line[:4].strip() for line in result.stdout.splitlines()[:-1]}
    assert marks["signature"] == marks["expires"] == marks["ip"] == marks["filename"] == "ok"


@pytest.mark.parametrize(
    ("url", "status"),
    [
        (minted()[:-1] + "!", 403),
        (minted().replace(MEDIA, "ME" + "2b" * 16), 403),
        (minted().replace("key=k1", "key=k2"), 403),
        (minted(now=1_700_000_000.0), 410),
        (minted(now=9_000_000_000.0), 403),
        (minted(ip="203.0.113.7"), 403),
        ("https://media.example/", 403),
        ("", 403),
    ],
)
def test_explain_says_why_a_link_is_refused(url: str, status: int) -> None:
    result = run("explain", url, "--ip", "192.0.2.1", environ=MINTING)
    assert result.exit_code == 1
    assert result.stdout.splitlines()[-1].startswith(f"This link is refused, {status}: ")
    assert any(line.startswith("BAD ") for line in result.stdout.splitlines())


def test_explain_says_what_a_program_did_to_a_link() -> None:
    result = run("explain", minted(filename="a (1).jpg").replace("&", "&amp;"), environ=MINTING)
    assert result.exit_code == 1
    changed, as_minted, verdict = result.stdout.splitlines()[-3:]
    assert changed.startswith("     changed     It was taken from the source of an HTML or XML page")
    assert as_minted == "     as_minted   As it was minted, the link is accepted."
    assert verdict.startswith("This link is refused, 403: ")


def test_explain_wants_an_address() -> None:
    result = run("explain", minted(), "--ip", "here", environ=MINTING)
    assert (result.exit_code, result.stderr) == (1, "media-gateway: --ip is not an address\n")


# --- keygen ---------------------------------------------------------------------------------------------------


def test_keygen_prints_a_signing_key_as_the_settings_take_it() -> None:
    first, second = (run("keygen").stdout.strip() for _ in range(2))
    assert first != second
    assert run("link", REFERENCE, environ={**MINTING, "GATEWAY_SIGNING_KEYS": f"{first},{second}"}).exit_code == 0


def test_keygen_hash_prints_a_secret_and_the_line_for_toml(tmp_path: Path) -> None:
    printed = run("keygen", "--hash").stdout
    assert set(tomllib.loads(printed)) == {"secret_hash"}
    config = tmp_path / "gateway.toml"
    config.write_text(f'[[clients]]\nid = "app"\nscopes = ["mint"]\naccounts = ["*"]\n{printed}')
    (secret,) = re.findall(r"^# .* ([A-Za-z0-9_-]{43})$", printed, re.MULTILINE)
    registry = ClientRegistry(load({}, config).clients)
    assert registry.authenticate(aiohttp.encode_basic_auth("app", secret)).id == "app"


# --- check ----------------------------------------------------------------------------------------------------


async def check(sandbox: Sandbox, folder: Path, **overrides: str) -> tuple[int, list[str]]:
    environ = environment(sandbox, folder, **overrides)
    result = await asyncio.to_thread(run, "check", environ=environ)
    assert sandbox.auth_token not in result.output
    return result.exit_code, result.stdout.splitlines()


async def test_check_tries_the_credentials(sandbox: Sandbox, tmp_path: Path) -> None:
    code, lines = await check(sandbox, tmp_path)
    assert (code, lines) == (
        0, ["ok   settings", f"ok   {sandbox.account_sid}: {sandbox.api_url} takes its credentials"],
    )  # fmt: skip


async def test_check_names_the_account_whose_credentials_are_wrong(sandbox: Sandbox, tmp_path: Path) -> None:
    code, lines = await check(sandbox, tmp_path, TWILIO_AUTH_TOKEN="w" * 32)
    assert (code, lines[0]) == (1, "ok   settings")
    assert lines[1] == (
        f"BAD  {sandbox.account_sid}: {sandbox.api_url} refuses the account's credentials"
        " (upstream-refused-credentials)"
    )


async def test_check_names_the_account_whose_upstream_fails(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.fault(Status(404), point=Point.MESSAGES)
    code, lines = await check(sandbox, tmp_path)
    assert (code, lines[1].startswith(f"BAD  {sandbox.account_sid}: ")) == (1, True)


def test_check_reports_every_bad_setting_and_exits_with_1() -> None:
    result = run("check", environ={"GATEWAY_LINK_TTL": "x", "GATEWAY_NO_SUCH": "1"})
    assert result.exit_code == 1
    assert {line.partition(":")[0] for line in result.stdout.splitlines()} == {
        "BAD  GATEWAY_LINK_TTL", "BAD  GATEWAY_NO_SUCH",
    }  # fmt: skip
    assert run("check", environ=MINTING).exit_code == 1


# --- demo -----------------------------------------------------------------------------------------------------


async def test_the_demo_s_curl_line_mints_a_link_that_opens(tmp_path: Path) -> None:
    async with started(["demo"], {"PORT": "0", "TMPDIR": str(tmp_path)}) as program:
        console = URL((await program.line("Console:")).split()[1])
        words = shlex.split(await program.line("curl "))
        await program.line("Ctrl-C")
        assert console.port not in (0, None)
        credentials = words[words.index("-u") + 1].partition(":")
        headers = {"Authorization": aiohttp.encode_basic_auth(credentials[0], credentials[2])}
        name, _, value = words[words.index("-H") + 1].partition(": ")
        async with aiohttp.ClientSession() as session:
            async with session.get(console) as page:
                assert page.status == 200
            body = words[words.index("-d") + 1]
            async with session.post(words[-1], data=body, headers={**headers, name: value}) as answer:
                assert answer.status == 201
                (link,) = json.loads(await answer.read())["links"]
            async with session.get(URL(link["url"], encoded=True)) as media:
                assert (media.status, len(await media.read()) > 1_000) == (200, True)
        program.signal(signal.SIGINT)
        assert await program.ended() == 0
        assert "Traceback" not in "\n".join(program.lines)
    assert not await asyncio.to_thread(lambda: list(tmp_path.iterdir()))


@pytest.mark.parametrize("by", ["variable", "option"])
def test_the_demo_says_in_a_line_its_port_is_taken(by: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = str(busy.getsockname()[1])
        result = run("demo", environ={"PORT": port}) if by == "variable" else run("demo", "--port", port)
    assert (result.exit_code, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"PORT: 127.0.0.1:{port} cannot be listened at: address already in use;")


@pytest.mark.parametrize("port", ["x", "-1", "65536"])
def test_the_demo_wants_a_port(port: str) -> None:
    assert run("demo", environ={"PORT": port}).exit_code == 2
