"""README's handlers of a provider's webhook, as servers of their own, in front of a real gateway and its provider."""

from __future__ import annotations

import re
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

import pytest
from twilio.request_validator import RequestValidator

from proxy.sandbox import Media
from tests.clients.node_programs import HERE, NODE_MODULES, Side, Target, require_node_modules, serving
from tests.clients.systems import System
from tests.documents import WEB, blocks
from tests.functional.harness import CLIENT, Reply, logged
from tests.functional.programs import started

HANDLERS: Final = HERE / "webhooks"
FLASK, EXPRESS = HANDLERS / "flask_app.py", HANDLERS / "express_app.js"
# What the provider calls, and signs for; a proxy of the application's hands it on.
WEBHOOK: Final = "https://app.example.com/incoming"


@dataclass(frozen=True)
class Application:
    """An application that runs, and the gateway's world around it."""

    url: str
    target: Target

    async def receive(
        self, *, signed_for: str = WEBHOOK, media: Sequence[Media] | None = None, **changes: str
    ) -> Reply:
        """Return the provider's webhook for the message, with all its media unless told."""
        media = self.target.message.media if media is None else media
        fields = {
            "ToCountry": "US",
            "SmsMessageSid": self.target.message.sid,
            "NumMedia": str(len(media)),
            "Body": "Grüße & Küsse",
            "MessageSid": self.target.message.sid,
            "AccountSid": self.target.place.account,
            **{f"MediaUrl{place}": self.target.sandbox.media_url(one) for place, one in enumerate(media)},
            **{f"MediaContentType{place}": one.content_type for place, one in enumerate(media)},
            "ApiVersion": "2010-04-01",
            **changes,
        }
        signature = RequestValidator(self.target.sandbox.auth_token).compute_signature(signed_for, fields)
        headers = {"Content-Type": "application/x-www-form-urlencoded", "X-Twilio-Signature": signature}
        return await self._ask("POST", "/incoming", data=urlencode(fields).encode(), headers=headers)

    async def page(self) -> Reply:
        """Return what the application's own page is given for the message."""
        return await self._ask("GET", f"/messages/{self.target.message.sid}/media")

    async def opened(self, url: str) -> Reply:
        assert self.target.gateway is not None
        return await self.target.gateway.get(url)

    async def _ask(self, method: str, path: str, **options: object) -> Reply:
        assert self.target.gateway is not None
        return await self.target.gateway.ask(method, self.url + path, **options)


@pytest.fixture(
    params=[pytest.param("flask"), pytest.param("express", marks=pytest.mark.system("node"))],
)
def command(request: pytest.FixtureRequest, program_path: Callable[[str], str]) -> tuple[str, ...]:
    """Return what starts the application at a free port."""
    if request.param == "flask":
        return (sys.executable, "-m", "flask", "--app", str(FLASK), "run", "--port", "0")
    require_node_modules()
    return (program_path("node"), str(EXPRESS))


async def run_application(
    stack: AsyncExitStack, command: tuple[str, ...], folder: Path, **settings: str
) -> Application:
    target = await stack.enter_async_context(serving(Side.GATEWAY, System.SIGNED, folder, **settings))
    environ = {
        "GATEWAY": target.place.base,
        "CLIENT": ":".join(CLIENT),
        "TWILIO_AUTH_TOKEN": target.sandbox.auth_token,
        "WEBHOOK_URL": WEBHOOK,
        "PORT": "0",
        "NODE_PATH": str(NODE_MODULES),
    }
    program = await stack.enter_async_context(started((), environ, command=command))
    line = await program.line("Running on http" if "flask" in command else "listening on port ")
    port = re.split("[: ]", line)[-1]
    return Application(f"http://127.0.0.1:{port}", target)


@pytest.fixture
async def application(command: tuple[str, ...], tmp_path: Path) -> AsyncIterator[Application]:
    async with AsyncExitStack() as stack:
        yield await run_application(stack, command, tmp_path)


def links(reply: Reply) -> dict[str, str]:
    """Return the URLs, by media."""
    assert reply.status == 200, reply.body
    assert reply.headers["Content-Type"].startswith("application/json")
    listed: object = reply.json
    assert isinstance(listed, list)
    return {link["media_sid"]: link["url"] for link in listed}


async def test_a_webhook_gets_empty_twiml_and_its_media_open(
    application: Application,
) -> None:
    answered = await application.receive()
    assert (answered.status, answered.body) == (200, b"<Response/>")
    assert answered.headers["Content-Type"].startswith("text/xml")
    target = application.target
    ready = links(await application.page())
    assert list(ready) == target.sids
    for media in target.message.media:
        opened = await application.opened(ready[media.sid])
        assert (opened.status, len(opened.body)) == (200, media.length)


async def test_ready_links_are_handed_out_until_their_refresh(command: tuple[str, ...], tmp_path: Path) -> None:
    async with logged() as logs, AsyncExitStack() as stack:
        application = await run_application(stack, command, tmp_path)
        assert (await application.receive()).status == 200
        first = await application.page()
        assert links(first)
        assert (await application.page()).body == first.body
    assert [entry["target"] for entry in logs.entries] == ["/links"]


async def test_links_that_want_to_be_refreshed_are_minted_anew(command: tuple[str, ...], tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        application = await run_application(stack, command, tmp_path, GATEWAY_LINK_TTL="1", GATEWAY_LINK_WINDOW="1")
        assert (await application.receive()).status == 200
        first = links(await application.page())
        while (later := links(await application.page())) == first:
            pass
        assert (await application.opened(later[application.target.first.sid])).status == 200


async def test_a_message_without_media_has_no_links(application: Application) -> None:
    assert (await application.receive(media=())).status == 200
    assert links(await application.page()) == {}


async def test_a_message_that_did_not_come_is_404(application: Application) -> None:
    assert (await application.page()).status == 404


async def test_what_the_provider_did_not_sign_is_403(application: Application) -> None:
    refused = await application.receive(signed_for="https://app.example.com/other")
    assert refused.status == 403
    assert (await application.page()).status == 404
    assert not application.target.sandbox.requests


async def test_a_form_that_the_gateway_refuses_leaves_no_links(application: Application) -> None:
    refused = await application.receive(MediaUrl1="https://api.twilio.com.example/evil")
    assert refused.status == 500
    assert (await application.page()).status == 404


@pytest.mark.parametrize(("handler", "language"), [(FLASK, "python"), (EXPRESS, "js")])
def test_the_guide_has_the_handlers_as_they_are_tested(handler: Path, language: str) -> None:
    assert handler.read_text("utf-8") in [block.text for block in blocks(language, document=WEB)]


@pytest.mark.parametrize("handler", [FLASK, EXPRESS])
def test_handlers_are_short(handler: Path) -> None:
    assert len([line for line in handler.read_text("utf-8").splitlines() if line]) <= 25
