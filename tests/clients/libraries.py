"""A provider's Python library in a process of its own, which serves test after test, and its outcomes as values."""

from __future__ import annotations

import base64
import datetime as dt
import enum
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from proxy.sandbox import Media
from tests.clients.drivers import Driver
from tests.clients.schema import check_answer
from tests.clients.systems import Place

_DRIVER: Final = Path(__file__).parent / "python" / "driver.py"
_SIGNALWIRE: Final = Path(sys.prefix) / "clients-signalwire" / "bin" / "python"


class Kind(enum.StrEnum):
    """The library that is driven."""

    SYNC = "twilio"
    ASYNC = "twilio-async"
    LAML = "signalwire"

    @property
    def command(self) -> tuple[str, ...]:
        """The program that drives it."""
        return self.python(), "-W", "ignore", str(_DRIVER), self.value

    def python(self) -> str:
        """Return the interpreter that has it; without one the test is skipped, or fails if everything is required."""
        if self is not Kind.LAML:
            return sys.executable
        if not _SIGNALWIRE.exists():
            missing = "signalwire is not installed: make .venv/clients-signalwire/.installed"
            if os.environ.get("REQUIRE_ALL") == "1":
                pytest.fail(f"{missing}, and REQUIRE_ALL=1", pytrace=False)
            pytest.skip(missing)
        return str(_SIGNALWIRE)


@dataclass(frozen=True)
class Properties:
    """A media as a library's object shows it."""

    sid: str
    account_sid: str
    parent_sid: str
    content_type: str
    date_created: dt.datetime
    date_updated: dt.datetime
    uri: str

    @classmethod
    def of(cls, media: Media, path: str) -> Properties:
        """Return what is right for that media, whose JSON lies at that path."""
        made = dt.datetime.fromtimestamp(media.date_created, dt.UTC)
        ref = media.ref
        account, parent = ref.account.value, ref.message.value
        return cls(media.sid, account, parent, media.content_type, made, made, path)

    @classmethod
    def parse(cls, values: Mapping[str, str]) -> Properties:
        dates = {name: dt.datetime.fromisoformat(values[name]) for name in ("date_created", "date_updated")}
        return cls(**{**values, **dates})  # type: ignore[arg-type]


@dataclass(frozen=True)
class Page:
    """One page, and the URL that the library would ask for the next."""

    media: tuple[Properties, ...]
    next_url: str | None


@dataclass(frozen=True)
class Content:
    """An answer with bytes; `url` is the place that it came from in the end. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    octets: bytes
    url: str


@dataclass(frozen=True)
class Answer:
    """An answer that the library read."""

    method: str
    url: str
    status: int
    text: str


class Refused(Exception):
    """The library raised its error."""

    def __init__(self, kind: str, status: int, code: int, message: str) -> None:
        super().__init__(kind, status, code, message)
        self.kind = kind
        self.status = status
        self.code = code
        self.message = message


class Library:
    """A library that is ready to be called; every JSON answer that it reads is checked against the documents."""

    def __init__(self, driver: Driver) -> None:
        self.answers: list[Answer] = []
        self._driver = driver

    async def fetch(self, place: Place, message: str, media: str) -> Properties:
        """Call `messages(…).media(…).fetch()`. Raises `Refused`, as every call does."""
        return Properties.parse(await self._call("fetch", place, message=message, media=media))

    async def delete(self, place: Place, message: str, media: str) -> bool:
        """Call `messages(…).media(…).delete()`."""
        deleted: bool = await self._call("delete", place, message=message, media=media)
        return deleted

    async def list(self, place: Place, message: str, **query: str | int) -> tuple[Properties, ...]:
        """Call `messages(…).media.list(…)`, with the library's own names for limits and filters."""
        return tuple(map(Properties.parse, await self._call("list", place, message=message, **query)))

    async def stream(self, place: Place, message: str, **query: str | int) -> tuple[Properties, ...]:
        """Call `messages(…).media.stream(…)`, read to its end."""
        return tuple(map(Properties.parse, await self._call("stream", place, message=message, **query)))

    async def pages(self, place: Place, message: str, **query: str | int) -> tuple[Page, ...]:
        """Call `messages(…).media.page(…)` and each `next_page()`."""
        return _pages(await self._call("pages", place, message=message, **query))

    async def back(self, place: Place, message: str, url: str) -> tuple[Page, ...]:
        """Call `messages(…).media.get_page(url)` and each `previous_page()`."""
        return _pages(await self._call("back", place, message=message, url=url))

    async def text(self, place: Place, url: str) -> Answer:
        """Call `client.request("GET", url)`: any text representation, over the library's own connection."""
        got = await self._call("text", place, url=url)
        return Answer("GET", url, got["status"], got["text"])

    async def bytes(self, place: Place, url: str, *, follow: bool = True, anonymous: bool = False) -> Content:
        """Fetch by the HTTP library that the client library is built on: requests, or aiohttp if it awaits."""
        got = await self._call("bytes", place, url=url, follow=follow, anonymous=anonymous)
        return Content(got["status"], got["headers"], base64.b64decode(got["octets"]), got["url"])

    async def _call(self, call: str, place: Place, **arguments: object) -> Any:
        line = await self._driver.outcome(json.dumps({"call": call, **asdict(place), **arguments}).encode())
        assert line, f"the library's process ended: {self._driver.complaints}"
        given = json.loads(line)
        answers = [Answer(**answer) for answer in given["answers"]]
        self.answers += answers
        for answer in answers:
            check_answer(answer.url, answer.status, answer.text)
        if "refused" in given:
            raise Refused(**given["refused"])
        return given["result"]


def _pages(given: list[dict[str, Any]]) -> tuple[Page, ...]:
    return tuple(Page(tuple(map(Properties.parse, page["media"])), page["url"]) for page in given)
