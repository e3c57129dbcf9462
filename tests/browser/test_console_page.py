"""The console as a page: what it tells of an answer, what it does, and what it never does."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.async_api import expect

from proxy.sandbox import Sandbox
from proxy.sandbox.faults import Status
from tests.browser.conftest import Visiting
from tests.browser.visiting import DESK, PHONE, Visit, until_decoded
from tests.functional.harness import CLIENT, KEY, Gateways

pytestmark = pytest.mark.system("chromium")


async def test_a_media_is_shown_with_the_headers_of_its_answer(console: Visit) -> None:
    figure = console.figures("image").first
    assert await console.answered(figure) in {"hit", "miss"}
    source = await figure.locator(".stage img").get_attribute("src") or ""
    answer = await console.gateway.head(source)
    told = figure.locator("dl")
    await expect(told).to_contain_text("media-gateway; ")
    await expect(told).to_contain_text(answer.headers["ETag"])
    await expect(told).to_contain_text(answer.headers["Content-Type"])
    await expect(told).to_contain_text(re.compile(r"Age\s*\d+ s"))
    await expect(figure.locator(".life")).to_contain_text(re.compile(r"\d+:\d\d left"))


async def test_asking_again_is_a_hit(console: Visit) -> None:
    figure = console.figures("image").first
    await until_decoded((await console.shown("image"))[0])
    await console.answered(figure)
    async with console.page.expect_response(lambda answer: answer.request.method == "HEAD"):
        await figure.get_by_test_id("ask").click()
    await expect(figure.get_by_test_id("cache-status")).to_have_attribute("data-state", "hit")


async def test_a_minted_link_is_copied_and_opens_with_its_name(console: Visit) -> None:
    await console.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    figure = console.figures("image").first
    await figure.get_by_test_id("mint").click()
    await figure.locator("[name=ttl]").fill("120")
    await figure.locator("[name=filename]").fill("trail map.png")
    await figure.get_by_text("save it").click()
    await figure.get_by_test_id("mint-submit").click()
    field = figure.get_by_test_id("minted-url")
    await expect(field).to_have_value(re.compile("^http"))
    url = await field.input_value()
    assert parse_qs(urlsplit(url).query)["disposition"] == ["attachment"]
    answer = await console.page.context.request.get(url)
    assert answer.status == 200
    assert answer.headers["content-disposition"] == 'attachment; filename="trail map.png"'
    await figure.get_by_test_id("copy").click()
    await expect(console.page.locator("#toast")).to_have_text("Link copied")
    assert await console.page.evaluate("navigator.clipboard.readText()") == url
    assert await figure.get_by_role("link", name="Open").get_attribute("href") == url


async def test_a_refused_mint_tells_the_field_that_is_wrong(console: Visit) -> None:
    figure = console.figures("image").first
    await figure.get_by_test_id("mint").click()
    await figure.locator("[name=ttl]").fill("0")
    await figure.get_by_test_id("mint-submit").click()
    await expect(figure.get_by_role("alert")).to_contain_text("ttl")
    await expect(figure.locator("[name=ttl]")).to_have_attribute("aria-invalid", "true")
    await expect(figure.get_by_test_id("minted-url")).to_be_hidden()


async def test_links_are_minted_again_before_they_end(visiting: Visiting) -> None:
    visit = await visiting()
    await visit.page.clock.install()
    await visit.open_console()
    async with visit.page.expect_response("**/console/links") as minted:
        await visit.page.clock.fast_forward("05:00")
    assert (await minted.value).status == 201


async def test_an_unavailable_media_is_told_and_shown_once_back(visiting: Visiting, sandbox: Sandbox) -> None:
    (photo,) = [m for message in sandbox.messages for m in message.media if m.content_type == "image/jpeg"]
    sandbox.fault(Status(status=403), media_sid=str(photo.ref.media))
    visit = await visiting()
    await visit.open_console()
    await visit.everything(but=str(photo.ref.media))
    figure = visit.page.locator(f"figure[data-media-sid={photo.ref.media}]")
    assert await visit.answered(figure) == "error"
    await expect(figure.locator(".panel .problem")).to_be_visible()
    sandbox.clear_faults()
    await figure.get_by_test_id("ask").click()
    assert await until_decoded(figure.locator(".stage img")) > 0
    await expect(figure.locator(".panel .problem")).to_be_hidden()


async def test_only_the_gateway_is_asked_and_nothing_is_complained_of(console: Visit) -> None:
    await console.everything()
    origins = {f"{url.scheme}://{url.netloc}" for url in (urlsplit(request.url) for request in console.requests)}
    assert origins == {console.gateway.url}
    assert console.complaints == []


async def test_no_secret_and_no_upstream_address_reaches_the_page(console: Visit, sandbox: Sandbox) -> None:
    await console.everything()
    seen = [await console.page.content()]
    for response in console.responses:
        seen.append(json.dumps([response.url, await response.request.all_headers(), await response.all_headers()]))
        if "/media/" not in urlsplit(response.url).path:
            seen.append(await response.text())
    assert any("/console/messages.json" in text for text in seen)
    secrets = {
        sandbox.auth_token,
        sandbox.authorization.removeprefix("Basic "),
        CLIENT[1],
        KEY.partition(":")[2],
        urlsplit(sandbox.api_url).netloc,
        sandbox.cdn_host,
    }
    assert [secret for secret in secrets for text in seen if secret in text] == []


@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
async def test_nothing_has_to_be_scrolled_sideways(visiting: Visiting, size: tuple[int, int]) -> None:
    visit = await visiting(size=size)
    await visit.open_console()
    await visit.everything()
    for opener in (await visit.page.get_by_test_id("mint").all())[:3]:
        await opener.click()
    assert await visit.page.evaluate("document.documentElement.scrollWidth") == size[0]
    over = await visit.page.evaluate(
        "(width) => [...document.querySelectorAll('.message *')]"
        ".filter((e) => e.checkVisibility() && e.getBoundingClientRect().right > width).map((e) => e.outerHTML)",
        size[0],
    )
    assert over == []


async def test_a_conversation_shows_its_own_messages_alone(console: Visit) -> None:
    messages = console.page.get_by_test_id("message")
    await expect(messages.and_(console.page.locator(":visible"))).to_have_count(6)
    await console.page.get_by_role("navigation").get_by_role("button", name="+15555550142").click()
    await expect(messages.and_(console.page.locator(":visible"))).to_have_count(3)
    for message in await messages.and_(console.page.locator(":visible")).all():
        await expect(message.get_by_role("heading")).to_contain_text("+15555550142")


async def test_the_larger_view_opens_and_closes_by_keyboard(console: Visit) -> None:
    (image, *_) = await console.shown("image")
    await until_decoded(image)
    await image.locator("xpath=..").focus()
    await console.page.keyboard.press("Enter")
    viewer = console.page.get_by_role("dialog")
    await expect(viewer).to_be_visible()
    assert await until_decoded(viewer.locator("img")) > 0
    await console.page.keyboard.press("Escape")
    await expect(viewer).to_be_hidden()
    assert await image.locator("xpath=..").evaluate("(button) => button === document.activeElement")


async def test_the_console_works_below_a_mount_path(gateways: Gateways, visiting: Visiting) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    mounted = await gateways.start(
        open_console=True,
        GATEWAY_LISTEN=f"127.0.0.1:{port}",
        GATEWAY_PUBLIC_URL=f"http://127.0.0.1:{port}/shop/mms",
    )
    visit = await visiting(mounted)
    await visit.open_console()
    assert all([await until_decoded(image) > 0 for image in await visit.shown("image")])
    await visit.everything()
    assert {urlsplit(request.url).path.startswith("/shop/mms/") for request in visit.requests} == {True}
    assert visit.complaints == []


async def test_the_console_works_under_another_name_of_this_machine(visiting: Visiting) -> None:
    visit = await visiting()
    origin = visit.gateway.url.replace("127.0.0.1", "localhost")
    await visit.open_console(origin)
    await visit.everything()
    assert {request.url.startswith(origin) for request in visit.requests} == {True}
    assert visit.complaints == []


async def test_a_closed_console_takes_a_client_s_credentials(
    gateways: Gateways, visiting: Visiting, tmp_path: Path
) -> None:
    secret = "o" * 40
    config = tmp_path / "gateway.toml"
    config.write_text(
        f'[[clients]]\nid = "observer"\nsecret = "{secret}"\nscopes = ["observe", "mint"]\naccounts = ["*"]\n'
    )
    closed = await gateways.start(config=config, GATEWAY_CONSOLE="1")
    stranger = await closed.get("/console")
    assert stranger.status == 401
    visit = await visiting(closed, client=("observer", secret))
    await visit.open_console()
    assert all([await until_decoded(image) > 0 for image in await visit.shown("image")])
    assert visit.complaints == []
