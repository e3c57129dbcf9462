"""The express lane changes nothing but the speed: the same bytes sent to two gateways, with it and without, get the
same answers, whatever they are and however they are cut.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pytest
import uvloop
from aiohttp import web_response
from aiohttp.web_protocol import RequestHandler
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.links import LinkMinter
from proxy.processes.listeners import open_listeners
from proxy.processes.service import Service, serving
from proxy.sandbox import Media, Sandbox, SandboxOptions
from proxy.semantics.fields import format_date
from proxy.settings import load
from proxy.telemetry.metrics import ANSWERS, Metrics
from tests.functional.express import HeldClock
from tests.functional.harness import KEY, environment

T = TypeVar("T")
LIMITS = {"GATEWAY_LIMIT_BAD_SIGNATURES": "1000000"}
_TURNS = 10
"""Turns of a loop in which it has certainly read what has come."""
PUBLIC = "http://media.example.com"
# It goes out from its file.
FILM = ("video/mp4", os.urandom(150_000))
RAM = {"GATEWAY_CACHE_OBJECT_MEMORY_BYTES": "100KB"}
HOSTS = (b"Host: media.example.com", b"host:  media.example.com ")
BROWSER = (
    b'Host: media.example.com\r\nConnection: keep-alive\r\nsec-ch-ua: "Chromium";v="149"\r\nsec-ch-ua-mobile: ?0\r\n'
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\nAccept: image/avif,image/webp,*/*;q=0.8\r\n"
    b"Sec-Fetch-Site: cross-site\r\n"
    b"Sec-Fetch-Mode: no-cors\r\nSec-Fetch-Dest: image\r\nReferer: https://app.example.com/\r\n"
    b"Accept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: de-DE,de;q=0.9"
)
# What differs between two answers that are the same: what is made for each. All else is compared byte for byte,
# what depends on the time too (Date, Age, Cache-Control, Cache-Status, Last-Modified): both gateways, their provider
# and aiohttp have one clock, which stands still while an answer is asked of the one and of the other.
VARYING = re.compile(
    rb'(?i)(?<=\r\nx-request-id: )[^\r]+|(?<="instance": ")[^"]+'
    rb"|(?<=boundary=)[0-9a-f]{32}|(?<=\r\n--)[0-9a-f]{32}(?=\r\n|--\r\n)"
)


@dataclass
class Served:
    """Two gateways over one sandbox, each with a loop and a thread of its own, and one clock for all of them."""

    clock: HeldClock = field(default_factory=HeldClock)
    ports: list[int] = field(default_factory=list)
    services: list[Service] = field(default_factory=list)
    loops: list[asyncio.AbstractEventLoop] = field(default_factory=list)
    photos: tuple[Media, ...] = ()

    @property
    def express(self) -> float:
        """Answers that the lane has given."""
        return on(self.loops[0], _counted(self.services[0]))


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def served(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    make_loop: Callable[[], asyncio.AbstractEventLoop] = request.param
    found = Served()
    monkeypatch.setattr(web_response, "rfc822_formatted_time", lambda: format_date(found.clock()))
    with contextlib.ExitStack() as scope:
        sandbox = Sandbox(SandboxOptions(clock=found.clock))
        upstream = scope.enter_context(_thread(asyncio.new_event_loop))
        on(upstream, sandbox.__aenter__())
        scope.callback(lambda: on(upstream, sandbox.__aexit__(None, None, None)))
        message = on(
            upstream,
            sandbox.add_message(
                [("image/jpeg", os.urandom(2_000)), ("text/html", b"<p>"), ("image/gif", b"G" * 70_000), FILM]
            ),
        )
        found.photos = message.media
        for express in ("1", "0"):
            loop = scope.enter_context(_thread(make_loop))
            folder = tmp_path / f"cache-{express}"
            gateway, service, port = on(loop, _start(sandbox, folder, express, found.clock))
            scope.callback(_stop, loop, gateway)
            found.ports.append(port)
            found.services.append(service)
            found.loops.append(loop)
        # Whether a media is stored yet does not tell the two apart.
        for which in (0, 1):
            converse(found, which, [*(get(target(found, photo, "plain")) for photo in range(4)), LAST])
        yield found


async def _counted(service: Service) -> float:
    return service._gateway.telemetry.totals()[ANSWERS.first]


async def _start(sandbox: Sandbox, folder: Path, express: str, clock: HeldClock) -> tuple[AsyncExitStack, Service, int]:
    wanted = environment(sandbox, folder, GATEWAY_EXPRESS=express, GATEWAY_PUBLIC_URL=PUBLIC, **LIMITS, **RAM)
    chosen = await asyncio.to_thread(load, wanted, None)
    listeners = await asyncio.to_thread(open_listeners, chosen, {})
    async with AsyncExitStack() as stack:
        stack.push_async_callback(asyncio.to_thread, listeners.close)
        service = await stack.enter_async_context(serving(chosen, listeners, metrics=Metrics(), clock=clock))
        return stack.pop_all(), service, listeners.main.port or 0
    raise AssertionError


def _stop(loop: asyncio.AbstractEventLoop, gateway: AsyncExitStack) -> None:
    on(loop, gateway.aclose())


@contextlib.contextmanager
def _thread(make_loop: Callable[[], asyncio.AbstractEventLoop]) -> Iterator[asyncio.AbstractEventLoop]:
    loop = make_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield loop
    finally:
        on(loop, loop.shutdown_default_executor())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def on(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[object, object, T]) -> T:
    """Run a coroutine on the loop of another thread."""
    return asyncio.run_coroutine_threadsafe(coroutine, loop).result(30)


async def settled(service: Service) -> None:
    """Wait until all that has come is read, and each request of it answered or waiting for more of its body.

    Else it would be chance whether an answer is given before the rest of its request has come, or after.
    """
    server = service._runner.server
    assert server is not None
    calm = 0
    while calm < _TURNS:
        await asyncio.sleep(0)
        calm = calm + 1 if all(_is_waiting(connection) for connection in server.connections) else 0


def _is_waiting(connection: RequestHandler) -> bool:
    if not connection._request_in_progress:
        return not connection._messages
    if getattr(connection, "_transfer", None) is not None:
        # The rest of a file waits for its client.
        return True
    current = connection._current_request
    return connection._paused or (current is not None and getattr(current.content, "_waiter", None) is not None)


def converse(served: Served, which: int, pieces: list[bytes]) -> bytes:
    """Return all that a gateway answers to octets that come in these pieces; the last request closes the connection."""
    answer = bytearray()
    with socket.create_connection(("127.0.0.1", served.ports[which])) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            with contextlib.suppress(ConnectionError):
                connection.sendall(piece)
            on(served.loops[which], settled(served.services[which]))
            # What is sent to a closed connection resets it, and drops what it has not delivered.
            connection.setblocking(False)
            with contextlib.suppress(BlockingIOError, ConnectionResetError):
                while octets := connection.recv(262_144):
                    answer += octets
            connection.settimeout(60)
        with contextlib.suppress(ConnectionResetError):
            while octets := connection.recv(262_144):
                answer += octets
    return VARYING.sub(b"*", bytes(answer))


# --- what is sent ---

# One minter and one moment for both gateways and for every example.
_MINTED: dict[tuple[str, str], str] = {}
LAST = b"GET /healthz HTTP/1.1\r\nHost: media.example.com\r\nConnection: close\r\n\r\n"
CLAIMS: dict[str, dict[str, str | int]] = {
    "plain": {},
    "named": {"filename": "Füße.jpg"},
    "saved": {"disposition": "attachment"},
    "message": {"scope": "message"},
    "here": {"ip": "127.0.0.0/8"},
    "elsewhere": {"ip": "203.0.113.7/32"},
}


def target(served: Served, photo: int, claims: str) -> bytes:
    """Return the target of a link, minted once."""
    media = served.photos[photo]
    if (media.sid, claims) not in _MINTED:
        url = LinkMinter(PUBLIC, KEY, clock=served.clock).url(media.ref, ttl=30_000, **CLAIMS[claims])  # type: ignore[arg-type]
        _MINTED[media.sid, claims] = url.removeprefix(PUBLIC)
    return _MINTED[media.sid, claims].encode()


def altered(link: bytes, how: str) -> bytes:
    """Return a link that was good."""
    match how:
        case "signature":
            return link[:-5] + (b"A" if link[-5:-4] != b"A" else b"B") + link[-4:]
        case "more":
            return link + b"&x=1"
        case "less":
            return link.replace(b"&key=k1", b"")
        case "upper":
            return link.replace(b"/ME", b"/Me")
        case "expires":
            return re.sub(rb"expires=\d+", b"expires=1700000000", link)
        case "absolute":
            return PUBLIC.encode() + link
        case "slash":
            return b"/" + link
        case _:
            return link


FIELDS = st.sampled_from([
    b"", b"User-Agent: a", b"Accept: */*", b"Cookie: a=b; c=d", b"Connection: keep-alive", b"Connection: Keep-Alive",
    b"Connection: keep-alive, x", b"Range: bytes=0-9", b"Range: bytes=5-", b"Range: bytes=99999999-", b"Range: x",
    b"If-None-Match: $", b"If-None-Match: W/$", b'If-None-Match: "other"', b'If-None-Match: "other", $',
    b"If-None-Match: *", b"If-None-Match: $\r\nIf-None-Match: $", b"If-None-Match: broken", b"If-Match: $",
    b'If-Match: "other"', b"If-None-Match: $\r\nIf-Modified-Since: Sat, 01 Jan 2000 00:00:00 GMT",
    b"If-Modified-Since: Sat, 01 Jan 2050 00:00:00 GMT", b"If-Unmodified-Since: Sat, 01 Jan 2000 00:00:00 GMT",
    b"If-Range: $\r\nRange: bytes=0-3", b"Authorization: Basic YTpi", b"Origin: https://app.example.com",
    b"TE: trailers",
    b"X-Request-Id: abcdefgh12345678", b"X-Forwarded-For: 203.0.113.7", b"X-Unknown: y", b"Expect: 100-continue",
    b"Expect: other", b"Upgrade: h2c\r\nConnection: Upgrade", b"Cache-Control: no-cache", b"Pragma: no-cache",
    b"A: b\r\n c", b"Content-Length: 0", b"Accept:", b"user-agent:a", b"User-Agent:  a  ", b"Accept : x", b"bad field",
])  # fmt: skip


RANGES = st.sampled_from([b"0-9", b"5-", b"-7", b"1900-69999", b"0-0", b"99999999-", b"2-1", b"-0", b"-", b"0-1,90-99"])


@st.composite
def requests(draw: st.DrawFn, served: Served) -> bytes:
    """Return one whole request; the most are such as the lane answers."""
    if draw(st.integers(0, 2)):
        fields = draw(
            st.sampled_from([HOSTS[0], BROWSER, HOSTS[0] + b"\r\nIf-None-Match: " + served.photos[0].etag.encode()])
        )
        if draw(st.booleans()):
            fields += b"\r\nRange: bytes=" + draw(RANGES)
        return get(target(served, draw(st.integers(0, 3)), "plain"), fields, draw(st.sampled_from([b"GET", b"HEAD"])))
    link = target(served, draw(st.sampled_from([0, 0, 0, 1, 2, 3])), draw(st.sampled_from(["plain", "plain", *CLAIMS])))
    how = draw(
        st.sampled_from(["", "", "", "", "", "", "signature", "more", "less", "upper", "expires", "absolute", "slash"])
    )
    link = altered(link, how)
    if draw(st.integers(0, 9)) == 0:
        hot = b"GET " + link + b" HTTP/1.1\r\n" + HOSTS[0] + b"\r\n\r\n"
        kind = draw(st.sampled_from(["length", "chunked", "get", "healthz", "blank"]))
        length = b"\r\nContent-Length: %d\r\n\r\n" % len(hot)
        match kind:
            case "length":
                return b"POST /links HTTP/1.1\r\n" + HOSTS[0] + length + hot
            case "chunked":
                head = b"POST /links HTTP/1.1\r\n" + HOSTS[0] + b"\r\nTransfer-Encoding: chunked\r\n\r\n"
                return head + b"%x\r\n" % len(hot) + hot + b"\r\n0\r\n\r\n"
            case "get":
                return b"GET " + link + b" HTTP/1.1\r\n" + HOSTS[0] + length + hot
            case "healthz":
                return b"GET /healthz HTTP/1.1\r\n" + HOSTS[0] + b"\r\n\r\n"
            case _:
                return b"\r\n" + hot
    method = draw(st.sampled_from([b"GET", b"GET", b"GET", b"GET", b"HEAD", b"HEAD", b"OPTIONS", b"DELETE", b"get"]))
    version = draw(st.sampled_from([b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.1 "]))
    head = draw(st.sampled_from([*HOSTS, HOSTS[0], BROWSER]))
    etag = served.photos[0].etag.encode()
    lines = [head, *(line.replace(b"$", etag) for line in draw(st.lists(FIELDS, max_size=2)) if line)]
    return method + b" " + link + b" " + version + b"\r\n" + b"\r\n".join(lines) + b"\r\n\r\n"


# What may stand where nothing, or something else, should: the lane must see that octets are not one whole head.
ONE_RANGE = (b"Range: bytes=0-9", b"range: bytes=5-", b"Range: bytes=-7")
LINES = (
    b"Range: bytes=0-9\r\nRange: bytes=5-", b"Range: bytes=0-9\r\n 5", b"User-Agent: a", b"If-None-Match: $",
    b"Connection: close", b"Content-Length: 0", b"Content-Length: 5", b"Transfer-Encoding: chunked", b" 5", b"\tfold",
    b"x", b":", b"",
)  # fmt: skip
BREAKS = (b"\n", b"\r", b"\r\r\n", b"\n\r\n", b"\r\n ", b"\r\n\t", b" \r\n", b"")
BEHIND = (b"\r\n", b"\n", b"x", b"hello", b"0\r\n\r\n", b"GET ", b"\0")


@st.composite
def oddities(draw: st.DrawFn, served: Served) -> bytes:
    """Draw octets that begin as a request that the lane knows, and that may be less, more or other than one."""
    fields = draw(st.sampled_from([HOSTS[0], BROWSER]))
    lines = get(target(served, draw(st.sampled_from([0, 0, 3])), "plain"), fields).split(b"\r\n")
    line = draw(st.sampled_from(ONE_RANGE) | st.sampled_from(LINES)).replace(b"$", served.photos[0].etag.encode())
    match draw(st.sampled_from(["line", "behind", "break", "cut"])):
        case "line":
            # The last of these places lie behind the empty line.
            lines.insert(draw(st.integers(1, len(lines))), line)
            return b"\r\n".join(lines)
        case "behind":
            rest = draw(st.sampled_from([line, line, *BEHIND]))
            return b"\r\n".join(lines) + rest + draw(st.sampled_from([b"", b"\r\n", b"\r\n", b"\r\n\r\n"]))
        case "break":
            place = draw(st.integers(1, len(lines) - 1))
            return b"\r\n".join(lines[:place]) + draw(st.sampled_from(BREAKS)) + b"\r\n".join(lines[place:])
        case _:
            whole = b"\r\n".join(lines)
            first = draw(st.integers(0, len(whole) - 1))
            return whole[:first] + whole[first + draw(st.integers(1, 4)) :]


@st.composite
def conversations(draw: st.DrawFn, served: Served) -> list[bytes]:
    """Return some requests, in the pieces that they come in: each alone, all at once, or cut anywhere."""
    if draw(st.booleans()):
        # By itself, and if the lane knows the head from the request before: all else of it would go another way.
        return [hot(served, draw(st.sampled_from([HOSTS[0], BROWSER]))), draw(oddities(served)), LAST]
    asked = draw(st.lists(requests(served), min_size=1, max_size=5))
    asked += [asked[-1]] * draw(st.integers(0, 2))
    asked.append(LAST)
    match draw(st.integers(0, 3)):
        case 0 | 1:
            return asked
        case 2:
            return [b"".join(asked)]
        case _:
            whole = b"".join(asked)
            cuts = sorted(draw(st.sets(st.integers(1, len(whole) - 1), max_size=6)))
            return [whole[first:last] for first, last in zip([0, *cuts], [*cuts, len(whole)], strict=True)]


def get(link: bytes, fields: bytes = HOSTS[0], method: bytes = b"GET") -> bytes:
    """Return a plain request."""
    return method + b" " + link + b" HTTP/1.1\r\n" + fields + b"\r\n\r\n"


def hot(served: Served, fields: bytes = HOSTS[0], method: bytes = b"GET") -> bytes:
    """Return the request that the lane knows best."""
    return get(target(served, 0, "plain"), fields, method)


def compare(served: Served, pieces: list[bytes]) -> bytes:
    """Ask both gateways; what they answer is the same."""
    express, ordinary = (converse(served, which, pieces) for which in (0, 1))
    assert express == ordinary
    return express


def test_any_request_is_answered_alike_with_and_without_the_lane(served: Served) -> None:
    before = served.express

    @settings(max_examples=300)
    @given(conversations(served), st.sampled_from([0, 0, 0, 1, 2, 60]))
    def agree(pieces: list[bytes], seconds: int) -> None:
        served.clock.now += seconds
        compare(served, pieces)

    agree()
    assert served.express - before > 100, "the lane was hardly used"


def test_a_repeated_request_takes_the_lane(served: Served) -> None:
    converse(served, 0, [hot(served), hot(served), LAST])
    before = served.express
    compare(served, [hot(served)] * 3 + [LAST])
    assert served.express == before + 3


def test_a_file_takes_the_lane_whole_and_in_part(served: Served) -> None:
    part = HOSTS[0] + b"\r\nRange: bytes=70000-"
    asked = [get(target(served, 3, "plain")), get(target(served, 3, "plain"), part)]
    converse(served, 0, [*asked * 2, LAST])
    before = served.express
    answers = compare(served, [*asked, LAST])
    assert served.express == before + 2
    assert FILM[1] in answers
    assert answers.count(FILM[1][70_000:]) == 2


@pytest.mark.parametrize("photo", [0, 3], ids=["ram", "file"])
def test_several_ranges_are_the_same_but_for_their_boundary(served: Served, photo: int) -> None:
    answers = compare(served, [get(target(served, photo, "plain"), HOSTS[0] + b"\r\nRange: bytes=0-1,500-501"), LAST])
    assert b"multipart/byteranges; boundary=*\r\n" in answers
    assert answers.count(b"\r\n--*\r\n") == 2


@pytest.mark.parametrize("cut", [1, 10, 100, 200, -2])
def test_a_request_in_two_pieces_does_not_take_the_lane(served: Served, cut: int) -> None:
    compare(served, [hot(served), LAST])
    before = served.express
    answers = compare(served, [hot(served)[:cut], hot(served)[cut:], LAST])
    assert (answers.count(b"HTTP/1.1 200"), served.express) == (2, before)


def test_a_hot_request_within_a_body_is_a_body(served: Served) -> None:
    compare(served, [hot(served), hot(served), LAST])
    inner = hot(served)
    length = b"Content-Length: %d" % len(inner)
    post = b"POST /links HTTP/1.1\r\n" + HOSTS[0] + b"\r\nContent-Type: application/json\r\n" + length + b"\r\n\r\n"
    before = served.express
    answers = compare(served, [post, inner, LAST])
    assert (answers.count(b"HTTP/1.1 401"), answers.count(b"HTTP/1.1 200"), served.express) == (1, 0, before)


def test_a_hot_request_behind_half_a_head_belongs_to_it(served: Served) -> None:
    compare(served, [hot(served), hot(served), LAST])
    before = served.express
    answers = compare(served, [b"GET /nope HTTP/1.1\r\nHost: a\r\nX: ", hot(served), LAST])
    assert (answers.count(b"\r\nETag:"), served.express) == (0, before)


def test_an_upgrade_is_answered_in_http_1_1_and_last(served: Served) -> None:
    wish = hot(served, HOSTS[0] + b"\r\nConnection: Upgrade\r\nUpgrade: h2c")
    answer = compare(served, [wish])
    assert (answer.count(b"HTTP/1.1 200"), answer.count(b"\r\nConnection: close\r\n")) == (1, 1)


def test_pipelined_requests_are_answered_in_order(served: Served) -> None:
    compare(served, [hot(served), hot(served, HOSTS[0], b"HEAD"), LAST])
    answers = compare(served, [hot(served) + hot(served, HOSTS[0], b"HEAD") + LAST])
    assert answers.count(b"HTTP/1.1 200") == 3


@pytest.mark.parametrize(
    "field_line",
    [
        b"Range: bytes=0-1,500-501",
        b"Range: Bytes=0-1",
        b"Authorization: Basic YTpi",
        b"X-Unknown: 1",
        b"Connection: close",
    ],
)
def test_a_field_that_may_matter_avoids_the_lane(served: Served, field_line: bytes) -> None:
    before = served.express
    for _ in range(3):
        compare(served, [hot(served, HOSTS[0] + b"\r\n" + field_line), *([] if b"close" in field_line else [LAST])])
    assert served.express == before
