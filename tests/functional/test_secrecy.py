"""Credentials go to the API's origin and nowhere else; no secret comes out in an answer or a log line."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from urllib.parse import quote

import aiohttp
import pytest

from proxy.sandbox import (
    Disconnect,
    Fault,
    Headers,
    Media,
    Mode,
    Origin,
    Oversize,
    Point,
    Raw,
    RedirectHops,
    RedirectTo,
    Sandbox,
    Status,
    Truncate,
)
from tests.functional.harness import CLIENT, KEY, Gateways, RunningGateway, converse, logged

SIGNING_SECRET = KEY.partition(":")[2]
FAULTS: tuple[tuple[Fault, Point], ...] = (
    (Status(401), Point.CONTENT),
    (Status(403), Point.BYTES),
    (Status(410), Point.BYTES),
    (Status(429, retry_after="60"), Point.CONTENT),
    (Status(500), Point.BYTES),
    (Disconnect(), Point.BYTES),
    (Raw(b"nonsense\r\n\r\n"), Point.BYTES),
    (RedirectTo("http://127.0.0.1:9/?Signature=abcdefghijk"), Point.CONTENT),
    (RedirectTo("https://user:password@evil.example/"), Point.CONTENT),
    (RedirectHops(3), Point.CONTENT),
    (Oversize(20_000_000), Point.BYTES),
    (Truncate(10), Point.BYTES),
    (Truncate(2_000_000), Point.BYTES),
    (Headers(put=(("Location", "https://x.example/?Signature=leak"), ("Set-Cookie", "a=b"))), Point.BYTES),
)


def basic(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()


def secrets_of(sandbox: Sandbox) -> set[str]:
    """Return what must never come out: in the clear, in base64, percent-encoded."""
    account, (client, client_secret) = sandbox.account_sid, CLIENT
    clear = {sandbox.auth_token, client_secret, SIGNING_SECRET}
    return {
        *clear,
        *(base64.b64encode(secret.encode()).decode().rstrip("=") for secret in clear),
        *(quote(secret, safe="") for secret in clear),
        basic(account, sandbox.auth_token),
        basic(client, client_secret),
        sandbox.authorization,
    }


async def wander(gateway: RunningGateway, sandbox: Sandbox, used: list[str]) -> bytes:
    """Send many good and failing requests; return all that came back. The links that were used are added to `used`."""
    seen: list[bytes] = []

    async def note(method: str, url: str, **options: object) -> None:
        used.append(url)
        try:
            reply = await gateway.ask(method, url, **options)
        except aiohttp.ClientError as error:
            seen.append(str(error).encode())
            return
        media = reply.headers.get("Content-Type", "").startswith(("image/", "audio/", "video/"))
        seen.append("\n".join(f"{name}: {value}" for name, value in reply.headers.items()).encode())
        seen.append(b"" if media else reply.body)

    medias = [media for message in sandbox.messages for media in message.media]
    for media in medias:
        link = gateway.link(media.ref)
        for method in ("GET", "HEAD", "OPTIONS", "POST"):
            await note(method, link)
        await note("GET", link, headers={"Range": "bytes=0-1"})
        await note("GET", link, headers={"Range": "bytes=99999999-"})
        await note("GET", link, headers={"If-None-Match": media.etag, "Referer": link, "User-Agent": f"agent {link}"})
        for mangled in (link + "&x=1", link.replace("signature=", "sig="), link + "-", link.replace("/media/", "/m/")):
            await note("GET", mangled)
        await note("GET", link.replace("signature=", "signature%3D"))
        await note("GET", link + "a" * 3_000)
    await note("POST", "/links", json={"media": [{"url": "x"}]}, headers={"Authorization": f"Basic {basic(*CLIENT)}"})
    await note("POST", "/links", json={}, headers={"Authorization": f"Basic {basic(CLIENT[0], CLIENT[1])}x"})
    await note("POST", "/links", data=b"{", headers={"Authorization": f"Basic {basic(*CLIENT)}!"})
    await note("GET", "/nothing?token=abc", headers={"Authorization": f"Basic {basic(*CLIENT)}"})
    film = max(medias, key=lambda media: media.length)
    for fault, point in FAULTS:
        sandbox.fault(fault, point=point)
        (fresh,) = (await sandbox.add_message([("image/png", film.read())])).media
        await note("GET", gateway.link(fresh.ref))
        sandbox.clear_faults()
    target = gateway.link(film.ref).removeprefix(gateway.url)
    seen.append(
        await converse(gateway, f"GET {target} HTTP/9\r\nAuthorization: Basic {basic(*CLIENT)}\r\n\r\n".encode())
    )
    seen.append(await converse(gateway, f"GET {target}\x01 HTTP/1.1\r\nHost: a\r\n\r\n".encode()))
    return b"\n".join(seen)


@pytest.mark.parametrize("mode", [Mode.REDIRECT_SIGNED, Mode.DIRECT])
@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
async def test_no_secret_comes_out(
    gateways: Gateways, sandbox: Sandbox, tmp_path: Path, as_json: bool, mode: Mode
) -> None:
    sandbox.mode = mode
    used: list[str] = []
    async with logged(as_json=as_json, level="debug") as logs:
        async with gateways.running(GATEWAY_MAX_MEDIA_BYTES="10MB") as gateway:
            answers = (await wander(gateway, sandbox, used)).decode("latin-1")
        async with gateways.running(
            TWILIO_AUTH_TOKEN="wrong-token-of-thirty-characters", GATEWAY_CACHE_DIR=str(tmp_path / "other")
        ) as refused:
            media = sandbox.messages[0].media[0]
            reply = await refused.get(refused.link(media.ref))
            assert reply.status == 502
            answers += str(reply.headers) + reply.body.decode()
    lines = logs.access.getvalue() + logs.program.getvalue()
    assert lines.count("\n") > 100
    secrets = secrets_of(sandbox) | {"wrong-token-of-thirty-characters"}
    secrets |= {basic(sandbox.account_sid, "wrong-token-of-thirty-characters")}
    for secret in secrets:
        assert secret not in answers
        assert secret not in lines
    # The links' signatures, and those of the CDN's addresses that the upstream gave out.
    links = {match[1] for url in used if (match := re.search(r"signature=([\w-]{43})", url))}
    cdn = {
        value
        for record in sandbox.requests
        if record.origin is Origin.CDN
        for value in re.findall(r"=([A-Za-z0-9_~-]{20,})", record.query)
    }
    assert links
    assert cdn or mode is Mode.DIRECT
    for signature in links | cdn:
        assert signature not in answers
        assert signature not in lines
        # The better part of one would be as good as the whole.
        assert signature[:36] not in lines
    assert sandbox.cdn_host not in answers
    assert sandbox.api_url.removeprefix("http://") not in answers


@pytest.mark.parametrize("mode", list(Mode))
async def test_authorization_goes_to_the_apis_origin_alone(gateways: Gateways, sandbox: Sandbox, mode: Mode) -> None:
    sandbox.mode = mode
    async with gateways.running(GATEWAY_MAX_MEDIA_BYTES="10MB") as gateway:
        await wander(gateway, sandbox, [])
    asked = sandbox.requests
    assert any(record.origin is Origin.API for record in asked)
    assert mode is Mode.DIRECT or any(record.origin is Origin.CDN for record in asked)
    for record in asked:
        if record.origin is Origin.API:
            assert record.fields.getall("Authorization") == [sandbox.authorization]
        else:
            whole = f"{record.path}?{record.query} {record.headers}"
            assert "Authorization" not in record.fields
            assert not [secret for secret in secrets_of(sandbox) if secret in whole]
        # What a client sends is its own: nothing of it goes on.
        assert not {"Cookie", "Referer", "X-Forwarded-For", "Origin"} & {name.title() for name, _ in record.headers}


async def test_a_clients_own_fields_never_reach_the_upstream(
    gateway: RunningGateway, sandbox: Sandbox, photo: Media
) -> None:
    reply = await gateway.get(
        gateway.link(photo.ref), Authorization=f"Basic {basic(*CLIENT)}", Cookie="a=b", User_Agent="spy/1"
    )
    assert reply.status == 200
    for record in sandbox.requests:
        text = str(record.headers)
        assert basic(*CLIENT) not in text
        assert "a=b" not in text
        assert "spy/1" not in text


async def test_settings_do_not_print_secrets(gateway: RunningGateway, sandbox: Sandbox) -> None:
    assert not [secret for secret in secrets_of(sandbox) if secret in repr(gateway.settings)]
