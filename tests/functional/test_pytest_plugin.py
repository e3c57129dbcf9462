"""The fixtures that the package gives to pytest: used here, and in runs of pytest of their own."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import http.client
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from yarl import URL

from proxy.errors import BadRequest, IdentifierError, SettingsError
from proxy.model import Provider
from proxy.sandbox import Direction, Mode, Origin, Point, SandboxOptions, StallHeaders, Status
from proxy.testing import MediaGateway, MediaSandbox, running_gateway, running_sandbox

pytest_plugins = ["pytester"]

PHOTO = ("image/png", b"\x89PNG\r\n\x1a\n and a picture")


def get(url: str, **headers: str) -> tuple[int, bytes]:
    """Return status and body, redirects not followed."""
    target = URL(url, encoded=True)
    assert target.host is not None
    connection = http.client.HTTPConnection(target.host, target.port, timeout=30)
    try:
        connection.request("GET", target.raw_path_qs, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


# --- the sandbox ----------------------------------------------------------------------------------------------


def test_the_sandbox_begins_with_no_message_and_takes_some(media_sandbox: MediaSandbox) -> None:
    assert list(media_sandbox.messages) == []
    message = media_sandbox.add_message(
        [PHOTO, ("text/plain", b"words")], from_="+15550001", to="+15550002", body="Hello",
        direction=Direction.OUTBOUND_API, date_created=1_800_000_000,
    )  # fmt: skip
    assert media_sandbox.messages == (message,)
    assert (message.from_, message.to, message.body) == ("+15550001", "+15550002", "Hello")
    assert (message.direction, message.date_created) == (Direction.OUTBOUND_API, 1_800_000_000)
    assert [media.content_type for media in message.media] == ["image/png", "text/plain"]
    fields = media_sandbox.webhook_fields(message)
    assert (fields["NumMedia"], fields["MediaUrl0"]) == ("2", media_sandbox.media_url(message.media[0]))
    assert message.media[0].sha256 == hashlib.sha256(PHOTO[1]).hexdigest()


def test_its_credentials_open_the_api_and_every_request_is_noted(media_sandbox: MediaSandbox) -> None:
    url = media_sandbox.media_url(media_sandbox.add_message([PHOTO]).media[0])
    assert url.startswith(f"{media_sandbox.api_url}/2010-04-01/Accounts/{media_sandbox.account_sid}/Messages/")
    assert get(url)[0] == 401
    assert get(url, Authorization=media_sandbox.authorization)[0] == 307
    for user, secret in ((media_sandbox.account_sid, media_sandbox.auth_token), media_sandbox.api_key):
        field = "Basic " + base64.b64encode(f"{user}:{secret}".encode()).decode()
        assert get(f"{url}.json", Authorization=field)[0] == 200
    assert [(record.origin, record.status) for record in media_sandbox.requests] == [
        (Origin.API, 401), (Origin.API, 307), (Origin.API, 200), (Origin.API, 200),
    ]  # fmt: skip
    assert media_sandbox.gateway_account["GATEWAY_REDIRECT_HOSTS"] == media_sandbox.cdn_url.removeprefix("http://")
    media_sandbox.clear_requests()
    assert media_sandbox.requests == ()


def test_its_mode_can_be_changed(media_sandbox: MediaSandbox) -> None:
    assert media_sandbox.mode is Mode.REDIRECT_SIGNED
    media_sandbox.mode = Mode.DIRECT
    assert media_sandbox.mode is Mode.DIRECT
    url = media_sandbox.media_url(media_sandbox.add_message([PHOTO]).media[0])
    assert get(url, Authorization=media_sandbox.authorization) == (200, PHOTO[1])


def test_a_fault_acts_until_it_is_spent_or_cleared(media_sandbox: MediaSandbox) -> None:
    first, second = media_sandbox.add_message([PHOTO, PHOTO]).media
    fault = media_sandbox.fault(Status(503), media_sid=first.sid, times=2, point=Point.PROPERTIES)

    def status(sid: str) -> int:
        url = media_sandbox.media_url(first).replace(first.sid, sid)
        return get(f"{url}.json", Authorization=media_sandbox.authorization)[0]

    assert (status(second.sid), fault.remaining) == (200, 2)
    assert (status(first.sid), fault.remaining) == (503, 1)
    media_sandbox.clear_faults()
    assert status(first.sid) == 200
    assert media_sandbox.fault(Status(429), seconds=60).number == fault.number + 1
    with pytest.raises(ValueError, match="times is 1 or more"):
        media_sandbox.fault(Status(503), times=0)


def test_a_stalled_answer_waits_for_its_release(media_sandbox: MediaSandbox) -> None:
    url = media_sandbox.media_url(media_sandbox.add_message([PHOTO]).media[0])
    fault = media_sandbox.fault(StallHeaders())
    with pytest.raises(TimeoutError):
        fault.wait_until_reached(0.001)
    statuses: list[int] = []
    reader = threading.Thread(target=lambda: statuses.append(get(url, Authorization=media_sandbox.authorization)[0]))
    reader.start()
    fault.wait_until_reached()
    assert statuses == []
    fault.release()
    reader.join()
    assert statuses == [307]


def test_two_sandboxes_run_side_by_side(media_sandbox: MediaSandbox) -> None:
    with running_sandbox() as other:
        other.add_message([PHOTO])
        assert other.api_url != media_sandbox.api_url
        assert (len(other.messages), len(media_sandbox.messages)) == (1, 0)


def test_what_has_ended_says_so() -> None:
    with running_sandbox() as sandbox:
        url = sandbox.api_url
    with pytest.raises(RuntimeError, match="ended"):
        sandbox.add_message()
    with pytest.raises(OSError, match="refused"):
        get(url)


def test_a_sandbox_that_cannot_start_raises_why_and_leaves_nothing() -> None:
    with running_sandbox() as first:
        port = URL(first.api_url).port
        assert port is not None
        with (
            pytest.raises(OSError, match="address already in use"),
            running_sandbox(SandboxOptions(seed=False, api_listen=("127.0.0.1", port))),
        ):
            raise AssertionError


async def test_an_asynchronous_test_can_use_it(media_sandbox: MediaSandbox) -> None:
    # The calls wait for another thread, which the tests of this package do not allow on a loop.
    message = await asyncio.to_thread(media_sandbox.add_message, [PHOTO])
    reader, writer = await asyncio.open_connection("127.0.0.1", URL(media_sandbox.api_url).port)
    writer.write(f"GET {URL(media_sandbox.media_url(message.media[0])).path} HTTP/1.0\r\n\r\n".encode())
    assert (await reader.read()).startswith(b"HTTP/1.0 401 ")
    writer.close()
    await writer.wait_closed()


# --- the gateway ----------------------------------------------------------------------------------------------


def test_a_link_opens_at_the_gateway(media_sandbox: MediaSandbox, media_gateway: MediaGateway) -> None:
    media = media_sandbox.add_message([PHOTO]).media[0]
    for named in (media, media.ref, str(media.ref), media_sandbox.media_url(media)):
        link = media_gateway.link(named, ttl=600, filename="photo.png")
        assert link.startswith(f"{media_gateway.url}/media/{media.ref}?expires=")
        assert "&filename=photo.png&" in link
        assert get(link) == (200, PHOTO[1])
    assert [record.status for record in media_sandbox.requests if record.origin is Origin.CDN] == [200]


def test_a_link_to_no_media_of_the_sandbox_is_refused(media_sandbox: MediaSandbox, media_gateway: MediaGateway) -> None:
    media = media_sandbox.add_message([PHOTO]).media[0]
    with pytest.raises(IdentifierError):
        media_gateway.link(media_sandbox.media_url(media).replace("127.0.0.1", "evil.example"))
    with pytest.raises(BadRequest):
        media_gateway.link(media, ttl=0)


def test_its_client_may_mint(media_sandbox: MediaSandbox, media_gateway: MediaGateway) -> None:
    ref = media_sandbox.add_message([PHOTO]).media[0].ref
    body = f'{{"message": {{"account_sid": "{ref.account}", "message_sid": "{ref.message}"}}}}'
    credentials = base64.b64encode(":".join(media_gateway.client).encode()).decode()
    headers = {"Authorization": f"Basic {credentials}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{media_gateway.url}/links", body.encode(), headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert (answer.status, str(ref).encode() in answer.read()) == (201, True)


def test_a_gateway_that_cannot_start_raises_why(media_sandbox: MediaSandbox) -> None:
    with (
        pytest.raises(SettingsError, match="GATEWAY_LINK_TTL"),
        running_gateway(media_sandbox, {"GATEWAY_LINK_TTL": "none"}),
    ):
        raise AssertionError
    busy = media_sandbox.api_url.removeprefix("http://")
    with (
        pytest.raises(SettingsError, match="address already in use"),
        running_gateway(media_sandbox, {"GATEWAY_LISTEN": busy}),
    ):
        raise AssertionError


class TestOverrides:
    @pytest.fixture
    def media_sandbox_options(self) -> SandboxOptions:
        return SandboxOptions(profile=Provider.SIGNALWIRE, mode=Mode.REDIRECT_SIGNED)

    @pytest.fixture
    def media_gateway_settings(self) -> Mapping[str, str]:
        return {"GATEWAY_LINK_MAX_TTL": "100", "GATEWAY_CLIENTS": f"mine:{'m' * 40},other:{'o' * 40}"}

    def test_profile_and_settings_are_those_that_a_suite_defines(
        self, media_sandbox: MediaSandbox, media_gateway: MediaGateway
    ) -> None:
        media = media_sandbox.messages[0].media[0]
        assert media.ref.provider is Provider.SIGNALWIRE
        status, body = get(media_gateway.link(media))
        assert (status, hashlib.sha256(body).hexdigest()) == (200, media.sha256)
        assert media_gateway.client == ("mine", "m" * 40)
        with pytest.raises(BadRequest):
            media_gateway.link(media, ttl=101)


# --- the plugin -----------------------------------------------------------------------------------------------

SYNCHRONOUS = """
import threading
import urllib.request

import pytest


def threads():
    return {thread for thread in threading.enumerate() if not thread.daemon}


@pytest.fixture(autouse=True)
def nothing_left():
    before = threads()
    yield
    assert threads() == before


def test_media(media_sandbox, media_gateway):
    message = media_sandbox.add_message(media=[("image/png", b"a picture")])
    with urllib.request.urlopen(media_gateway.link(message.media[0])) as answer:
        assert answer.read() == b"a picture"
    assert len(media_sandbox.requests) == 2


def test_each_test_has_its_own(media_sandbox):
    assert media_sandbox.messages == ()
    assert media_sandbox.requests == ()
"""

ASYNCHRONOUS = """
import aiohttp
import pytest
from yarl import URL

from proxy.sandbox import SandboxOptions


@pytest.fixture
def media_sandbox_options():
    return SandboxOptions(seed=True)


@pytest.mark.asyncio
async def test_media(media_sandbox, media_gateway):
    message = media_sandbox.add_message(media=[("image/png", b"a picture")])
    media_sandbox.mode = "direct"
    async with aiohttp.ClientSession() as session:
        for media in (message.media[0], media_sandbox.messages[0].media[0]):
            async with session.get(URL(media_gateway.link(media), encoded=True)) as answer:
                assert len(await answer.read()) == media.length
"""

FUNCTION_SCOPE = ["-o", "asyncio_default_fixture_loop_scope=function"]


@pytest.mark.parametrize(
    ("suite", "options", "passed"),
    [
        (SYNCHRONOUS, ["-p", "no:asyncio", "-p", "no:aiohttp"], 2),
        (SYNCHRONOUS, FUNCTION_SCOPE, 2),
        (ASYNCHRONOUS, FUNCTION_SCOPE, 1),
    ],
    ids=["synchronous without pytest-asyncio", "synchronous", "asynchronous"],
)
def test_a_suite_gets_the_fixtures_from_the_package_alone(
    pytester: pytest.Pytester, suite: str, options: list[str], passed: int
) -> None:
    pytester.makepyfile(suite)
    result = pytester.runpytest_subprocess("-W", "error", *options)
    result.assert_outcomes(passed=passed)


def test_the_package_names_its_plugin() -> None:
    (point,) = entry_points(group="pytest11", name="media-gateway")
    assert point.value == "proxy.pytest_plugin"


def test_the_plugin_imports_nothing_until_a_test_asks_for_it(tmp_path: Path) -> None:
    script = """
import sys, pytest, proxy
before = set(sys.modules)
import proxy.pytest_plugin
print(*set(sys.modules) - before)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.split()) == (0, ["proxy.pytest_plugin"])
