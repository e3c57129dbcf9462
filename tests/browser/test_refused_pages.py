"""The page of a bad or ended link, as a person sees it on a desk and on a phone, in light and in darkness."""

from __future__ import annotations

from typing import Literal

import pytest
from playwright.async_api import expect

from proxy.sandbox import Sandbox, Status
from tests.browser.conftest import Visiting
from tests.browser.visiting import DESK, PHONE, Visit
from tests.functional.harness import RunningGateway

pytestmark = pytest.mark.system("chromium")


async def _open(visit: Visit, url: str, status: int) -> None:
    answer = await visit.page.goto(url)
    assert answer is not None
    assert answer.status == status


def _bad(gateway: RunningGateway, sandbox: Sandbox) -> str:
    return gateway.link(sandbox.messages[0].media[0].ref)[:-43] + "A" * 43


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_a_bad_link_is_explained(
    visiting: Visiting, sandbox: Sandbox, size: tuple[int, int], scheme: Literal["light", "dark"]
) -> None:
    visit = await visiting(size=size)
    await visit.page.emulate_media(color_scheme=scheme)
    await _open(visit, _bad(visit.gateway, sandbox), 403)
    await expect(visit.page.get_by_role("heading", name="This link is not valid")).to_be_visible()
    await expect(visit.page.get_by_text("ask for a new link")).to_be_visible()
    ground = await visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
    ink = await visit.page.evaluate("getComputedStyle(document.body).color")
    brightness = [sum(map(int, color[4:-1].split(", "))) for color in (ground, ink)]
    # The style was let through by the policy, and follows the scheme.
    assert (brightness[0] > brightness[1]) == (scheme == "light")
    assert await visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    # Chromium complains of every error status, and of nothing else here.
    assert [text for text in visit.complaints if "403" not in text] == []
    assert [request.url for request in visit.requests if "favicon" not in request.url] == [visit.page.url]


async def test_a_reader_tries_again_and_gets_the_file(visiting: Visiting, sandbox: Sandbox) -> None:
    visit = await visiting()
    photo = next(m for message in sandbox.messages for m in message.media if m.content_type == "image/jpeg")
    sandbox.fault(Status(500))
    await _open(visit, visit.gateway.link(photo.ref), 502)
    sandbox.clear_faults()
    await visit.page.get_by_role("link", name="Try again").click()
    await visit.page.wait_for_function("document.images.length === 1 && document.images[0].naturalWidth > 0")


async def test_nothing_on_the_page_runs(visiting: Visiting, sandbox: Sandbox) -> None:
    visit = await visiting()
    await _open(visit, _bad(visit.gateway, sandbox), 403)
    await visit.page.evaluate("document.body.insertAdjacentHTML('beforeend', '<p style=\"color: red\" id=x>x</p>')")
    assert await visit.page.evaluate("getComputedStyle(document.getElementById('x')).color") != "rgb(255, 0, 0)"
    assert any("Content Security Policy" in text for text in visit.complaints)


async def test_an_image_of_a_bad_link_is_no_page(visiting: Visiting, sandbox: Sandbox) -> None:
    visit = await visiting()
    await visit.open_console()
    url = _bad(visit.gateway, sandbox)
    async with visit.page.expect_response(lambda response: response.url == url) as answered:
        await visit.page.evaluate("(url) => { new Image().src = url; }", url)
    assert (await (await answered.value).all_headers())["content-type"] == "application/problem+json"
