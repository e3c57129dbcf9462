"""A page of a real browser, with everything that it asked for and everything that it complained of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from playwright.async_api import ConsoleMessage, Error, Locator, Page, Request, Response

from tests.functional.harness import RunningGateway

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
DESK = (1440, 900)
PHONE = (390, 844)


@dataclass
class Visit:
    """One page. `complaints` are script errors, and warnings and errors of the console: CSP violations are such."""

    page: Page
    gateway: RunningGateway
    requests: list[Request] = field(default_factory=list)
    responses: list[Response] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("request", self._asked)
        self.page.on("response", self._got)
        self.page.on("console", self._said)
        self.page.on("pageerror", self._failed)

    def _asked(self, request: Request) -> None:
        self.requests.append(request)

    def _got(self, response: Response) -> None:
        self.responses.append(response)

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in {"warning", "error"}:
            self.complaints.append(message.text)

    def _failed(self, error: Error) -> None:
        self.complaints.append(str(error))

    async def open_console(self, origin: str | None = None) -> None:
        await self.page.goto(f"{origin or self.gateway.url}/console")
        await self.page.wait_for_selector("html[data-ready=true]")

    def figures(self, kind: str) -> Locator:
        """Return the media of a kind: image, video, audio or file."""
        return self.page.locator(f"figure[data-media-sid][data-kind={kind}]")

    async def shown(self, kind: str) -> Sequence[Locator]:
        """Return the elements that show the media of a kind, each scrolled to, as a reader would."""
        tag = {"image": "img", "file": "a"}.get(kind, kind)
        found = []
        for figure in await self.figures(kind).all():
            await figure.scroll_into_view_if_needed()
            element = figure.locator(f".stage {tag}")
            await element.wait_for()
            found.append(element)
        assert found
        return found

    async def answered(self, figure: Locator) -> str:
        """Return what the badge of a media says, once the gateway has answered."""
        await figure.scroll_into_view_if_needed()
        badge = figure.get_by_test_id("cache-status").and_(self.page.locator(":not([data-state=asking])"))
        return await badge.get_attribute("data-state") or ""

    async def everything(self, *, but: str = "") -> None:
        """See every media of the page `but` one, until each is answered and every image is decoded."""
        for figure in await self.page.locator(f"figure[data-media-sid]:not([data-media-sid='{but}'])").all():
            await self.answered(figure)
            if await figure.get_attribute("data-kind") == "image":
                await until_decoded(figure.locator(".stage img"))


async def until_decoded(image: Locator) -> int:
    """Return the width in pixels of an image, once it is decoded; raises if it cannot be."""
    width: int = await image.evaluate("async (image) => { await image.decode(); return image.naturalWidth; }")
    return width
