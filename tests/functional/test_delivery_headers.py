"""The fields of a good answer: what the guide names, and nothing of the upstream's own."""

from __future__ import annotations

import re
import time

import pytest

from proxy.sandbox import Headers, Media, Sandbox, WrongType
from tests.functional.harness import Gateways, Reply, RunningGateway

LEAST = {
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "cross-origin",
    "Referrer-Policy": "no-referrer",
    "Accept-Ranges": "bytes",
}


def max_age(reply: Reply) -> int:
    match = re.fullmatch(r"(?:private|public), max-age=(\d+)(?:, no-store)?", reply.headers["Cache-Control"])
    assert match is not None
    return int(match[1])


def link_life(link: str) -> float:
    match = re.search(r"expires=(\d+)", link)
    assert match is not None
    return int(match[1]) - time.time()


async def test_every_good_answer_carries_the_safety_fields(gateway: RunningGateway, photo: Media) -> None:
    link = gateway.link(photo.ref)
    for reply in (await gateway.get(link), await gateway.get(link, Range="bytes=0-0"), await gateway.head(link)):
        assert LEAST.items() <= dict(reply.headers).items()
        assert reply.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
        assert reply.headers["Server"] == "media-gateway"
        assert reply.headers["Content-Disposition"] == f'inline; filename="{photo.sid}.jpg"'


UPSTREAMS_OWN = (
    ("Set-Cookie", "a=b"),
    ("Location", "https://elsewhere.example/"),
    ("Twilio-Request-Id", "RQ1"),
    ("Strict-Transport-Security", "max-age=1"),
    ("Access-Control-Allow-Origin", "*"),
    ("Access-Control-Expose-Headers", "ETag"),
    ("X-Amz-Cf-Id", "abc"),
    ("X-Cache", "Hit"),
    ("Via", "1.1 upstream"),
    ("Link", "</a.css>; rel=preload"),
    ("Refresh", "0; url=https://elsewhere.example/"),
    ("Clear-Site-Data", '"*"'),
    ("Alt-Svc", 'h3=":443"'),
    ("Report-To", "{}"),
    ("NEL", "{}"),
    ("WWW-Authenticate", "Basic"),
    ("Server-Timing", "cdn-cache; desc=HIT"),
    ("Pragma", "no-cache"),
    ("Surrogate-Key", "k"),
    ("X-Anything", "x"),
)


async def test_the_upstreams_own_fields_do_not_pass(gateway: RunningGateway, sandbox: Sandbox, photo: Media) -> None:
    sandbox.fault(Headers(put=UPSTREAMS_OWN))
    link = gateway.link(photo.ref)
    allowed = {
        "accept-ranges", "age", "cache-control", "cache-status", "content-disposition", "content-length",
        "content-security-policy", "content-type", "cross-origin-resource-policy", "date", "etag", "last-modified",
        "referrer-policy", "server", "x-content-type-options", "x-request-id",
    }  # fmt: skip
    for _ in ("cold", "hot"):
        reply = await gateway.get(link)
        assert {name.lower() for name in reply.headers} == allowed


async def test_content_language_passes(gateway: RunningGateway, sandbox: Sandbox, photo: Media) -> None:
    sandbox.fault(Headers(put=(("Content-Language", "de, en"),)))
    assert (await gateway.get(gateway.link(photo.ref))).headers["Content-Language"] == "de, en"


# --- entity-tags ----------------------------------------------------------------------------------------------


async def test_a_strong_entity_tag_of_the_upstream_is_kept(gateway: RunningGateway, photo: Media) -> None:
    assert (await gateway.get(gateway.link(photo.ref))).headers["ETag"] == photo.etag


@pytest.mark.parametrize(
    "dressing", [Headers(put=(("ETag", 'W/"weak"'),)), Headers(drop=("ETag",)), Headers(put=(("ETag", "bare"),))]
)
async def test_otherwise_every_tier_keeps_a_strong_one_made_early(
    gateways: Gateways, sandbox: Sandbox, photo: Media, film: Media, dressing: Headers
) -> None:
    sandbox.fault(dressing)
    async with gateways.running() as gateway:
        cold = {media.ref: (await gateway.head(gateway.link(media.ref))).headers["ETag"] for media in (photo, film)}
        made = {media.ref: (await gateway.get(gateway.link(media.ref))).headers["ETag"] for media in (photo, film)}
        hot = {media.ref: (await gateway.get(gateway.link(media.ref))).headers["ETag"] for media in (photo, film)}
    assert all(re.fullmatch(r'"[0-9a-f]{32}"', etag) for etag in (*cold.values(), *made.values()))
    assert hot == made
    assert made[photo.ref] != made[film.ref]
    sandbox.clear_requests()
    async with gateways.running() as restarted:
        for media in (photo, film):
            reply = await restarted.get(restarted.link(media.ref))
            assert reply.headers["Cache-Status"].startswith("media-gateway; hit")
            assert (reply.headers["ETag"], reply.body) == (made[media.ref], media.read())
    assert sandbox.requests == ()


# --- Age and Cache-Control ------------------------------------------------------------------------------------


async def test_the_browser_may_keep_it_for_the_link_s_life(
    gateway: RunningGateway, sandbox: Sandbox, photo: Media
) -> None:
    """N = Age + min(remaining life of the link, remaining freshness)."""
    sandbox.fault(Headers(put=(("Age", "1000"), ("Cache-Control", "max-age=100000"))))
    for _ in ("cold", "hot"):
        link = gateway.link(photo.ref, ttl=300)
        before = link_life(link)
        reply = await gateway.get(link)
        age = int(reply.headers["Age"])
        assert age >= 1000
        assert link_life(link) - 1 <= max_age(reply) - age <= before


async def test_the_browser_may_keep_it_while_it_is_fresh(
    gateway: RunningGateway, sandbox: Sandbox, photo: Media
) -> None:
    sandbox.fault(Headers(put=(("Age", "1000"), ("Cache-Control", "max-age=1100"))))
    reply = await gateway.get(gateway.link(photo.ref, ttl=300))
    age = int(reply.headers["Age"])
    assert age >= 1000
    assert max_age(reply) in {1099, 1100}  # the age is rounded down, and so is what is left


@pytest.mark.parametrize("directive", ["no-cache", "no-store", "max-age=0"])
async def test_the_browser_may_not_reuse_what_the_gateway_may_not(
    gateways: Gateways, sandbox: Sandbox, photo: Media, directive: str
) -> None:
    sandbox.fault(Headers(put=(("Cache-Control", directive),)))
    for shared in ("0", "1"):
        gateway = await gateways.start(GATEWAY_CDN=shared, GATEWAY_CACHE_DIR=str(gateways.folder / shared))
        reply = await gateway.get(gateway.link(photo.ref))
        said = reply.headers["Cache-Control"]
        assert "no-store" in said if directive == "no-store" else max_age(reply) <= int(reply.headers["Age"])
        if directive == "no-store":
            assert said.startswith("private")
            assert "CDN-Cache-Control" not in reply.headers


# --- Content-Type, Content-Disposition and Content-Security-Policy --------------------------------------------


@pytest.mark.parametrize(
    "content_type",
    ["text/html", "TEXT/HTML; charset=utf-8", "image/svg+xml", "application/xml", "text/xml", "application/xhtml+xml",
     "application/rss+xml", "text/javascript", "application/octet-stream", "nonsense"],
)  # fmt: skip
async def test_a_type_that_can_run_script_is_only_saved(
    gateway: RunningGateway, sandbox: Sandbox, photo: Media, content_type: str
) -> None:
    sandbox.fault(WrongType(content_type))
    reply = await gateway.get(gateway.link(photo.ref, disposition="inline", filename="a.txt"))
    assert reply.headers["Content-Disposition"] == 'attachment; filename="a.txt"'
    assert reply.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
    assert reply.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    ("content_type", "policy"),
    [
        ("video/mp4", "default-src 'none'; media-src 'self'; sandbox allow-same-origin"),
        ("audio/ogg", "default-src 'none'; media-src 'self'; sandbox allow-same-origin"),
        ("application/pdf", "default-src 'none'; object-src 'self'; style-src 'unsafe-inline'"),
        ("image/png", "default-src 'none'; sandbox"),
        ("text/plain", "default-src 'none'; sandbox"),
    ],
)
async def test_the_policy_is_relaxed_only_as_far_as_viewing_needs(
    gateway: RunningGateway, sandbox: Sandbox, photo: Media, content_type: str, policy: str
) -> None:
    sandbox.fault(WrongType(content_type))
    reply = await gateway.get(gateway.link(photo.ref))
    assert (reply.headers["Content-Type"], reply.headers["Content-Security-Policy"]) == (content_type, policy)
    assert reply.headers["Content-Disposition"].startswith("inline; ")


@pytest.mark.parametrize(
    ("claims", "disposition"),
    [
        ({"disposition": "attachment"}, 'attachment; filename="{sid}.jpg"'),
        ({"filename": "a.jpg"}, 'inline; filename="a.jpg"'),
        (
            {"filename": "Größe €.jpg", "disposition": "attachment"},
            "attachment; filename=\"Gro_e _.jpg\"; filename*=UTF-8''Gr%C3%B6%C3%9Fe%20%E2%82%AC.jpg",
        ),
        ({"filename": "../../etc/passwd"}, 'inline; filename="_.._etc_passwd"'),
        ({"filename": 'a"; x="b'}, "inline; filename=\"a_; x=_b\"; filename*=UTF-8''a%22%3B%20x%3D%22b"),
    ],
)
async def test_the_links_name_and_disposition_are_the_answers(
    gateway: RunningGateway, photo: Media, claims: dict[str, str], disposition: str
) -> None:
    reply = await gateway.get(gateway.link(photo.ref, **claims))
    assert (reply.status, reply.headers["Content-Disposition"]) == (200, disposition.replace("{sid}", photo.sid))


async def test_the_upstreams_file_name_stands_in_for_the_links(
    gateway: RunningGateway, sandbox: Sandbox, photo: Media
) -> None:
    sandbox.fault(Headers(put=(("Content-Disposition", 'attachment; filename="from.jpg"'),)))
    reply = await gateway.get(gateway.link(photo.ref))
    assert reply.headers["Content-Disposition"] == 'inline; filename="from.jpg"'
    reply = await gateway.get(gateway.link(photo.ref, filename="own.jpg"))
    assert reply.headers["Content-Disposition"] == 'inline; filename="own.jpg"'
