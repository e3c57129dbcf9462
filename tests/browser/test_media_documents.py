"""A signed link opened in a window of its own: the policy that comes with it lets the browser show the media."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from proxy.model import MediaRef
from proxy.sandbox import Headers, Sandbox, StallBody
from proxy.sandbox.targets import media_path
from tests.browser.conftest import Visiting
from tests.browser.visiting import Visit, until_decoded

pytestmark = pytest.mark.system("chromium")


def _of_type(sandbox: Sandbox, content_type: str) -> MediaRef:
    return next(m.ref for message in sandbox.messages for m in message.media if m.content_type == content_type)


async def _open(visiting: Visiting, sandbox: Sandbox, content_type: str) -> Visit:
    visit = await visiting()
    answer = await visit.page.goto(visit.gateway.link(_of_type(sandbox, content_type)))
    assert answer is not None
    assert answer.status == 200
    return visit


@pytest.mark.parametrize("content_type", ["image/jpeg", "image/gif"])
async def test_an_image_is_shown(visiting: Visiting, sandbox: Sandbox, content_type: str) -> None:
    visit = await _open(visiting, sandbox, content_type)
    assert await until_decoded(visit.page.locator("img")) > 0


@pytest.mark.parametrize("content_type", ["video/mp4", "audio/mpeg"])
async def test_a_video_and_a_recording_are_played(visiting: Visiting, sandbox: Sandbox, content_type: str) -> None:
    visit = await _open(visiting, sandbox, content_type)
    await visit.page.wait_for_function("document.querySelector('video').readyState >= 1")
    assert await visit.page.evaluate("document.querySelector('video').duration") > 1
    assert visit.complaints == []


async def test_a_pdf_is_shown_by_the_browser_s_own_viewer(visiting: Visiting, sandbox: Sandbox) -> None:
    visit = await visiting()
    # The viewer is a page of the browser's own within the document; it shows the title once it has read the file.
    begun = visit.page.expect_event("framenavigated", lambda frame: frame.url.startswith("chrome-extension:"))
    async with begun as viewing:
        await visit.page.goto(visit.gateway.link(_of_type(sandbox, "application/pdf")))
    viewer = await viewing.value
    await expect(viewer.get_by_text("Cabin weekend").first).to_be_visible()


async def test_a_contact_card_is_saved(visiting: Visiting, sandbox: Sandbox) -> None:
    visit = await visiting()
    link = visit.gateway.link(_of_type(sandbox, "text/vcard"), filename="ada.vcf")
    async with visit.page.expect_download() as downloading:
        await visit.page.evaluate("(url) => { location = url; }", link)
    assert (await downloading.value).suggested_filename == "ada.vcf"


_METADATA = "document.querySelector('video').readyState >= 1"
_SEEK = "(share) => { const film = document.querySelector('video'); film.currentTime = share * film.duration; }"
_SEEN = """() => {
  const film = document.querySelector("video");
  return !film.seeking && film.readyState >= 2 && film.currentTime > film.duration / 2;
}"""


async def test_a_cold_film_left_and_opened_again_is_read_once(visiting: Visiting, sandbox: Sandbox) -> None:
    film = _of_type(sandbox, "video/mp4")
    # The browser has the beginning, and waits for what it seeks.
    stall = sandbox.fault(StallBody(1_000_000), times=1)
    for _ in range(3):
        visit = await visiting()
        await visit.page.set_content(f'<video muted preload="auto" src="{visit.gateway.link(film)}"></video>')
        await visit.page.wait_for_function(_METADATA)
        await visit.page.close()
    visit = await visiting()
    await visit.page.set_content(f'<video muted preload="auto" src="{visit.gateway.link(film)}"></video>')
    await visit.page.wait_for_function(_METADATA)
    await visit.page.evaluate(_SEEK, 0.9)
    stall.release()
    await visit.page.wait_for_function(_SEEN)
    assert sum(record.method == "GET" and record.path == media_path(film) for record in sandbox.requests) == 1


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        (None, "{sid}.vcf"),
        ('attachment; filename="Jörg 日本.vcf"', "Jörg 日本.vcf"),
        ("attachment; filename=my card 1", "my card 1.vcf"),
    ],
)
async def test_a_media_is_saved_under_its_name_with_an_extension(
    visiting: Visiting, sandbox: Sandbox, disposition: str | None, name: str
) -> None:
    visit, card = await visiting(), _of_type(sandbox, "text/vcard")
    if disposition is not None:
        sandbox.fault(Headers(put=(("Content-Disposition", disposition),)))
    async with visit.page.expect_download() as downloading:
        await visit.page.evaluate("(url) => { location = url; }", visit.gateway.link(card, disposition="attachment"))
    assert (await downloading.value).suggested_filename == name.replace("{sid}", str(card.media))
