"""A message's `MediaUrl`: fetched from a web server, kept as its answer allows, asked again as it demands."""

from __future__ import annotations

import asyncio
import dataclasses
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import ClientResponse, ClientSession, encode_basic_auth

from proxy.sandbox import Media, Mode, Oversize, Sandbox, SandboxOptions, Truncate
from proxy.semantics.fields import format_date
from tests.functional.sandbox.web_server import Page, WebServer, serving

Ask = Callable[..., Awaitable[ClientResponse]]
Send = Callable[..., Awaitable[tuple[int, int]]]

START = 1_800_000_000
DAY = 86_400
MEGABYTE = 1024 * 1024


@pytest.fixture
async def web_server() -> AsyncIterator[WebServer]:
    async with serving() as server:
        yield server


@pytest.fixture
def send(sandbox: Sandbox, session: ClientSession) -> Send:
    """Send a message with these media; the status, and the code of a refusal."""

    async def send(*urls: str, through: Sandbox | None = None) -> tuple[int, int]:
        to = through or sandbox
        response = await session.post(
            f"{to.api_url}/2010-04-01/Accounts/{to.account_sid}/Messages.json",
            data=[("To", "+1"), ("From", "+2"), *(("MediaUrl", url) for url in urls)],
            headers={"Authorization": to.authorization},
        )
        return response.status, (await response.json()).get("code", 0)

    return send


def last(sandbox: Sandbox) -> tuple[tuple[str, bytes], ...]:
    return tuple((media.content_type, media.read()) for media in sandbox.messages[-1].media)


async def test_files_are_fetched_in_the_order_of_their_addresses(
    sandbox: Sandbox, web_server: WebServer, send: Send
) -> None:
    urls = [
        web_server.put("/a.png", b"first"),
        web_server.put("/b.vcf?of=Ada", b"second", Content_Type="text/vcard; charset=utf-8"),
        web_server.put("/empty.txt", b"", Content_Type="text/plain"),
    ]
    assert await send(*urls) == (201, 0)
    assert last(sandbox) == (("image/png", b"first"), ("text/vcard; charset=utf-8", b"second"), ("text/plain", b""))
    assert [media.name for media in sandbox.messages[-1].media] == ["a.png", "b.vcf", "empty.txt"]


async def test_the_request_carries_nothing_of_the_account(sandbox: Sandbox, web_server: WebServer, send: Send) -> None:
    assert await send(web_server.put("/a")) == (201, 0)
    (request,) = web_server.requests
    assert request.method == "GET"
    assert set(request.headers) == {"Host", "Accept", "Accept-Encoding", "User-Agent", "Connection"}


async def test_an_address_is_asked_octet_for_octet(web_server: WebServer, send: Send) -> None:
    target = "/a%7Eb/%41?Signature=x~%7E&n=%20+"
    assert await send(web_server.put(target) + "#part") == (201, 0)
    assert [request.raw_path for request in web_server.requests] == [target]


async def test_what_cannot_stand_in_a_request_is_encoded(web_server: WebServer, send: Send) -> None:
    web_server.put("/z%C3%BC%20b")
    assert await send(web_server.url + "/zü b") == (201, 0)


async def test_a_media_of_the_sandbox_itself_can_be_sent_on(
    sandbox: Sandbox, send: Send, api: Ask, photo: Media
) -> None:
    location = (await api(sandbox.media_url(photo))).headers["Location"]
    assert await send(location) == (201, 0)
    assert last(sandbox) == (("image/jpeg", photo.read()),)
    assert await send(sandbox.media_url(photo)) == (400, 11200)


async def test_only_eight_messages_are_created_at_once(
    sandbox: Sandbox, web_server: WebServer, send: Send, api: Ask
) -> None:
    web_server.pages["/a"] = Page(stalls=True)
    sending = [asyncio.ensure_future(send(f"{web_server.url}/a")) for _ in range(12)]
    for _ in range(8):
        await web_server.arrived.acquire()
    for _ in range(20):
        assert (await api("/Messages.json")).status == 200
    assert len(web_server.requests) == 8
    web_server.released.set()
    assert await asyncio.gather(*sending) == [(201, 0)] * 12


class TestKeeping:
    @pytest.mark.parametrize(
        "validator", [{"ETag": '"v1"'}, {"ETag": 'W/"v1"'}, {"Last-Modified": format_date(START - DAY)}]
    )
    async def test_without_no_cache_a_file_is_kept_a_day(
        self,
        sandbox: Sandbox,
        web_server: WebServer,
        send: Send,
        set_clock: Callable[[float], None],
        validator: dict[str, str],
    ) -> None:
        url = web_server.put("/a", fields=validator)
        for seconds in (0, 1, DAY - 1):
            set_clock(START + seconds)
            assert await send(url) == (201, 0)
            assert last(sandbox) == (("image/png", b"a picture"),)
        assert len(web_server.requests) == 1
        set_clock(START + DAY)
        assert await send(url) == (201, 0)
        assert len(web_server.requests) == 2

    @pytest.mark.parametrize("directives", ["max-age=60", 'public, Max-Age="60"', "max-age=1, s-maxage=60"])
    async def test_max_age_says_how_long(
        self, web_server: WebServer, send: Send, set_clock: Callable[[float], None], directives: str
    ) -> None:
        url = web_server.put("/a", ETag='"v1"', Cache_Control=directives)
        for seconds, requests in ((0, 1), (59, 1), (60, 2), (119, 2), (120, 3)):
            set_clock(START + seconds)
            web_server.pages["/a"] = Page(
                b"a picture", {**web_server.pages["/a"].headers, "Date": format_date(START + seconds)}
            )
            assert await send(url) == (201, 0)
            assert len(web_server.requests) == requests

    async def test_after_no_cache_each_use_asks_and_takes_a_304(
        self, sandbox: Sandbox, web_server: WebServer, send: Send
    ) -> None:
        modified = format_date(START - DAY)
        url = web_server.put("/a", ETag='"v1"', Last_Modified=modified, Cache_Control="no-cache")
        for _ in range(3):
            assert await send(url) == (201, 0)
            assert last(sandbox) == (("image/png", b"a picture"),)
        assert web_server.asked("If-None-Match") == [None, '"v1"', '"v1"']
        assert web_server.asked("If-Modified-Since") == [None, modified, modified]

    async def test_a_new_version_takes_the_place_of_the_kept_one(
        self, sandbox: Sandbox, web_server: WebServer, send: Send
    ) -> None:
        url = web_server.put("/a", b"old", ETag='"v1"', Cache_Control="no-cache")
        assert await send(url) == (201, 0)
        web_server.put("/a", b"new", ETag='"v2"', Cache_Control="no-cache", Content_Type="image/gif")
        for _ in range(2):
            assert await send(url) == (201, 0)
            assert last(sandbox) == (("image/gif", b"new"),)
        assert web_server.asked("If-None-Match") == [None, '"v1"', '"v2"']
        assert [media.read() for message in sandbox.messages[-3:] for media in message.media] == [
            b"old",
            b"new",
            b"new",
        ]

    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"ETag": "no tag"},
            {"ETag": '"v1"', "Cache-Control": "no-store"},
            {"ETag": '"v1"', "Cache-Control": "private"},
            {"ETag": '"v1"', "Vary": "*"},
        ],
    )
    async def test_without_a_validator_or_leave_to_store_nothing_is_kept(
        self, web_server: WebServer, send: Send, headers: dict[str, str]
    ) -> None:
        url = web_server.put("/a", fields=headers)
        assert [await send(url) for _ in range(2)] == [(201, 0)] * 2
        assert web_server.asked("If-None-Match") == [None, None]

    async def test_a_file_that_may_no_longer_be_kept_is_forgotten(self, web_server: WebServer, send: Send) -> None:
        url = web_server.put("/a", ETag='"v1"', Cache_Control="no-cache")
        assert await send(url) == (201, 0)
        web_server.put("/a", ETag='"v1"', Cache_Control="no-store")
        assert await send(url) == (201, 0)
        assert await send(url) == (201, 0)
        assert web_server.asked("If-None-Match") == [None, '"v1"', None]

    async def test_what_was_asked_with_credentials_is_not_kept(self, web_server: WebServer, send: Send) -> None:
        url = web_server.put("/a", ETag='"v1"').replace("http://", "http://ada:secret@")
        assert [await send(url) for _ in range(2)] == [(201, 0)] * 2
        assert web_server.asked("Authorization") == [encode_basic_auth("ada", "secret")] * 2

    async def test_a_304_about_something_else_is_an_error(
        self, sandbox: Sandbox, web_server: WebServer, send: Send
    ) -> None:
        url = web_server.put("/a", ETag='"v1"', Cache_Control="no-cache")
        assert await send(url) == (201, 0)
        web_server.put("/a", b"", 304, ETag='"v2"')
        assert await send(url) == (400, 11200)

    async def test_a_304_that_nothing_was_asked_for_is_an_error(self, web_server: WebServer, send: Send) -> None:
        assert await send(web_server.put("/a", b"", 304, ETag='"v1"')) == (400, 11200)

    async def test_a_failure_leaves_what_was_kept(self, sandbox: Sandbox, web_server: WebServer, send: Send) -> None:
        url = web_server.put("/a", ETag='"v1"', Cache_Control="no-cache")
        assert await send(url) == (201, 0)
        web_server.put("/a", b"", 500)
        assert await send(url) == (400, 11200)
        web_server.put("/a", ETag='"v1"', Cache_Control="no-cache")
        assert await send(url) == (201, 0)
        assert web_server.asked("If-None-Match") == [None, '"v1"', '"v1"']

    async def test_100_are_kept_and_the_longest_unused_goes(
        self, web_server: WebServer, send: Send, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("proxy.sandbox.fetching._KEPT_LIMIT", 2)
        first, second, third = (web_server.put(f"/{name}", ETag='"v1"') for name in "abc")
        assert await send(first, second, first, third, first, second) == (201, 0)
        assert [request.path for request in web_server.requests] == ["/a", "/b", "/c", "/b"]

    async def test_100_megabytes_are_kept(
        self, web_server: WebServer, send: Send, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("proxy.sandbox.fetching._KEPT_BYTES", 10)
        first, second, third = (web_server.put(f"/{name}", b"12345", ETag='"v1"') for name in "abc")
        assert await send(first, second, third, second, first) == (201, 0)
        assert [request.path for request in web_server.requests] == ["/a", "/b", "/c", "/a"]

    @pytest.mark.parametrize("expires", [60, None])
    async def test_expires_counts_without_max_age(
        self, web_server: WebServer, send: Send, set_clock: Callable[[float], None], expires: int | None
    ) -> None:
        text = "0" if expires is None else format_date(START + expires)
        url = web_server.put("/a", ETag='"v1"', Expires=text, Age="10")
        for seconds in (0, 49, 50):
            set_clock(START + seconds)
            assert await send(url) == (201, 0)
        assert web_server.asked("If-None-Match") == ([None, '"v1"'] if expires else [None, '"v1"', '"v1"'])

    async def test_a_refused_type_is_not_kept(self, web_server: WebServer, send: Send) -> None:
        url = web_server.put("/a", ETag='"v1"', Content_Type="picture")
        assert await send(url) == (400, 12300)
        web_server.put("/a", ETag='"v1"')
        assert await send(url) == (201, 0)

    async def test_a_kept_file_still_counts_against_the_limit(
        self, sandbox: Sandbox, web_server: WebServer, send: Send
    ) -> None:
        url = web_server.put("/a", bytes(3 * MEGABYTE), ETag='"v1"')
        assert await send(url) == (201, 0)
        assert await send(url, url) == (400, 11751)


class TestRedirects:
    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    async def test_each_kind_is_followed(
        self, sandbox: Sandbox, web_server: WebServer, send: Send, status: int
    ) -> None:
        web_server.put("/b?s=%7E~", b"there")
        assert await send(web_server.put("/a", b"", status, Location="/b?s=%7E~")) == (201, 0)
        assert last(sandbox) == (("image/png", b"there"),)

    @pytest.mark.parametrize(("hops", "answer"), [(5, (201, 0)), (6, (400, 11200))])
    async def test_five_are_followed_and_not_a_sixth(
        self, web_server: WebServer, send: Send, hops: int, answer: tuple[int, int]
    ) -> None:
        for hop in range(hops):
            web_server.put(f"/{hop}", b"", 302, Location=f"{web_server.url}/{hop + 1}")
        web_server.put(f"/{hops}")
        assert await send(f"{web_server.url}/0") == answer

    @pytest.mark.parametrize("location", ["", "ftp://127.0.0.1/", "http://[", "file:///etc/hosts", "/" + "x" * 4_000])
    async def test_one_that_leads_nowhere_is_an_error(self, web_server: WebServer, send: Send, location: str) -> None:
        assert await send(web_server.put("/a", b"", 302, Location=location)) == (400, 11200)

    async def test_the_file_is_kept_under_its_own_address(self, web_server: WebServer, send: Send) -> None:
        web_server.put("/b", ETag='"v1"')
        url = web_server.put("/a", b"", 302, Location="/b")
        assert [await send(url) for _ in range(2)] == [(201, 0)] * 2
        assert [request.path for request in web_server.requests] == ["/a", "/b", "/a"]

    async def test_the_credentials_of_an_address_stay_with_it(self, web_server: WebServer, send: Send) -> None:
        async with serving() as other:
            target = other.put("/b")
            url = web_server.put("/a", b"", 302, Location=target).replace("http://", "http://ada:secret@")
            assert await send(url) == (201, 0)
            assert other.asked("Authorization") == [None]


class TestFailures:
    @pytest.mark.parametrize("status", [204, 206, 400, 401, 403, 404, 410, 429, 500, 503])
    async def test_an_answer_that_is_no_file_keeps_nothing(
        self, sandbox: Sandbox, web_server: WebServer, send: Send, status: int
    ) -> None:
        before = sandbox.messages
        good = web_server.put("/good")
        assert await send(good, web_server.put("/a", b"", status)) == (400, 11200)
        assert sandbox.messages == before

    @pytest.mark.parametrize("kind", ["", "picture", "image/", "/png", "image/" + "x" * 300])
    async def test_an_answer_without_a_type_is_an_error(self, web_server: WebServer, send: Send, kind: str) -> None:
        assert await send(web_server.put("/a", Content_Type=kind)) == (400, 12300)

    async def test_an_encoded_answer_is_an_error(self, web_server: WebServer, send: Send) -> None:
        url = web_server.put("/a", gzip.compress(b"a picture"), Content_Encoding="gzip")
        assert await send(url) == (400, 11200)

    async def test_a_server_that_is_not_there_is_an_error(self, send: Send) -> None:
        async with serving() as server:
            url = server.put("/a")
        assert await send(url) == (400, 11200)

    async def test_a_server_that_does_not_answer_is_an_error(
        self, web_server: WebServer, send: Send, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("proxy.sandbox.fetching._TOTAL_SECONDS", 0.05)
        web_server.pages["/a"] = Page(stalls=True)
        assert await send(f"{web_server.url}/a") == (400, 11200)

    async def test_a_body_that_breaks_off_is_an_error(
        self, sandbox: Sandbox, send: Send, options: SandboxOptions, photo: Media
    ) -> None:
        public = dataclasses.replace(options, protected=False, mode=Mode.DIRECT)
        async with Sandbox(public) as source:
            source.fault(Truncate(100))
            assert await send(source.media_url(source.messages[0].media[0])) == (400, 11200)

    async def test_five_megabytes_in_all_and_not_one_octet_more(
        self, sandbox: Sandbox, web_server: WebServer, send: Send
    ) -> None:
        half = web_server.put("/half", bytes(5 * MEGABYTE // 2))
        more = web_server.put("/more", bytes(5 * MEGABYTE // 2 + 1))
        assert await send(half, half) == (201, 0)
        before = sandbox.messages
        assert await send(half, more) == (400, 11751)
        assert sandbox.messages == before

    async def test_reading_stops_where_the_limit_is_passed(
        self, options: SandboxOptions, send: Send, sandbox: Sandbox
    ) -> None:
        public = dataclasses.replace(options, protected=False, mode=Mode.DIRECT)
        async with Sandbox(public) as source:
            source.fault(Oversize(10**11, announced=False))
            assert await send(source.media_url(source.messages[0].media[0])) == (400, 11751)
