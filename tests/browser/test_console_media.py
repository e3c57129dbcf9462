"""The console shows every kind of media that the sandbox has, in a real browser."""

from __future__ import annotations

import pytest
from playwright.async_api import Locator

from tests.browser.visiting import Visit, until_decoded

pytestmark = pytest.mark.system("chromium")

# Resolves once the media's metadata are there; rejects if they cannot be had.
_DURATION = """(media) => new Promise((resolve, reject) => {
  const tell = () => resolve(media.duration);
  if (media.readyState >= 1) return tell();
  media.addEventListener("loadedmetadata", tell, { once: true });
  media.addEventListener("error", () => reject(new Error(media.error?.message)), { once: true });
})"""
_SEEK_TO_MIDDLE = """(media) => new Promise((resolve, reject) => {
  media.addEventListener("error", () => reject(new Error(media.error?.message)), { once: true });
  media.addEventListener("seeked", async () => {
    if (media.readyState < 2) await new Promise((there) => media.addEventListener("canplay", there, { once: true }));
    resolve(media.currentTime);
  }, { once: true });
  media.currentTime = media.duration / 2;
})"""
_PLAY_ON = """(media) => new Promise((resolve, reject) => {
  const begun = media.currentTime;
  media.muted = true;
  media.addEventListener("timeupdate", () => media.currentTime > begun && resolve(media.currentTime));
  media.play().catch(reject);
})"""


async def _duration(media: Locator) -> float:
    seconds: float = await media.evaluate(_DURATION)
    return seconds


async def _seek_to_middle(media: Locator) -> float:
    seconds: float = await media.evaluate(_SEEK_TO_MIDDLE)
    return seconds


async def test_every_image_is_decoded(console: Visit) -> None:
    images = await console.shown("image")
    widths = [await until_decoded(image) for image in images]
    assert len(widths) == 4
    assert min(widths) > 0


async def test_a_video_shows_its_length_seeks_and_plays_on(console: Visit) -> None:
    for video in await console.shown("video"):
        duration = await _duration(video)
        assert duration > 1
        assert await _seek_to_middle(video) == pytest.approx(duration / 2, abs=0.1)
        assert await video.evaluate("(video) => video.videoWidth") > 0
        assert await video.evaluate("(video) => video.readyState") >= 2
        reached: float = await video.evaluate(_PLAY_ON)
        assert reached > duration / 2


async def test_every_recording_tells_its_length_and_seeks(console: Visit) -> None:
    recordings = await console.shown("audio")
    assert len(recordings) == 3
    for audio in recordings:
        duration = await _duration(audio)
        assert duration > 1
        assert await _seek_to_middle(audio) == pytest.approx(duration / 2, abs=0.2)


async def test_what_plays_plays_on_when_the_messages_are_loaded_again(console: Visit) -> None:
    (video,) = await console.shown("video")
    await _duration(video)
    await video.evaluate("(video) => { video.muted = true; video.loop = true; return video.play(); }")
    async with console.page.expect_response("**/console/messages.json"):
        await console.page.locator("#reload").click()
    await console.page.wait_for_selector("#feed[aria-busy=false]")
    assert await video.evaluate("(video) => !video.paused && video.isConnected")


async def test_a_pdf_and_a_contact_card_are_linked(console: Visit) -> None:
    answers = {}
    for link in await console.shown("file"):
        answer = await console.page.context.request.get(await link.get_attribute("href") or "")
        assert answer.status == 200
        answers[answer.headers["content-type"]] = await link.get_attribute("download")
    assert answers == {"application/pdf": None, "text/vcard": ""}
