"""DELETE of a media: gone at the provider, in every tier and behind every link, or told why not."""

from __future__ import annotations

import asyncio
import json

import pytest

from proxy.sandbox import Disconnect, Media, Point, Raw, Sandbox, StallHeaders, Status
from tests.functional.harness import Gateways, RunningGateway, logged
from tests.functional.media_api import delete, get, list_path, not_found, path, said

FORM = "application/x-www-form-urlencoded"


def deletions(sandbox: Sandbox) -> list[str]:
    """Return the paths that the provider was asked to delete."""
    return [request.path for request in sandbox.requests if request.method == "DELETE"]


async def link_status(gateway: RunningGateway, media: Media) -> int:
    return (await gateway.get(gateway.link(media.ref))).status


# --- what is deleted ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".json", "", ".xml"])
async def test_a_deleted_media_is_gone_everywhere(
    gateway: RunningGateway, sandbox: Sandbox, photo: Media, suffix: str
) -> None:
    link = gateway.link(photo.ref)
    assert (await gateway.get(link)).status == 200
    reply = await delete(gateway, path(photo, suffix))
    assert (reply.status, reply.body) == (204, b"")
    assert deletions(sandbox) == [path(photo, suffix)]
    sandbox.clear_requests()
    assert (await gateway.get(link)).status == 404
    assert (await gateway.get(gateway.link(photo.ref, ttl=9_000))).status == 404
    assert (await get(gateway, path(photo))).status == 404
    # Nobody asks the provider for what was deleted.
    assert sandbox.requests == ()
    assert said(await get(gateway, path(photo, ".json"))) == not_found(path(photo, ".json"))
    assert (await get(gateway, list_path(photo.ref))).status == 200


async def test_the_other_media_stay(gateway: RunningGateway, sandbox: Sandbox) -> None:
    message = await sandbox.add_message([("image/png", b"one"), ("image/png", b"two")], date_created=1.7e9)
    one, two = message.media
    assert [await link_status(gateway, media) for media in (one, two)] == [200, 200]
    sandbox.clear_requests()
    assert (await delete(gateway, path(one, ".json"))).status == 204
    assert [await link_status(gateway, media) for media in (one, two)] == [404, 200]
    assert len(sandbox.requests) == 1  # the deletion: the other is still stored


async def test_what_libraries_send_with_a_deletion_is_not_refused(
    gateway: RunningGateway, sandbox: Sandbox, photo: Media
) -> None:
    reply = await delete(
        gateway,
        path(photo, ".json", folder="Message"),
        Content_Type=FORM,
        Content_Length="0",
        Accept="application/json, text/plain, */*",
    )
    assert reply.status == 204
    assert deletions(sandbox) == [path(photo, ".json")]


async def test_a_deleted_media_that_the_provider_still_serves_stays_gone(
    gateway: RunningGateway, sandbox: Sandbox, photo: Media
) -> None:
    assert await link_status(gateway, photo) == 200
    sandbox.fault(Raw(b"HTTP/1.1 204 No Content\r\n\r\n"), point=Point.DELETE)
    assert (await delete(gateway, path(photo, ".json"))).status == 204
    # The sandbox has deleted nothing; what a provider's own cache still holds is not shown by us.
    assert await link_status(gateway, photo) == 404
    assert (await get(gateway, path(photo))).status == 404


async def test_two_deletions_at_once_are_one_and_both_succeed(
    gateway: RunningGateway, sandbox: Sandbox, photo: Media
) -> None:
    stalled = sandbox.fault(StallHeaders(), point=Point.DELETE)
    first = asyncio.create_task(delete(gateway, path(photo, ".json")))
    await stalled.reached()
    second = asyncio.create_task(delete(gateway, path(photo)))
    # A request that comes after it has been read means that the second has too.
    assert (await get(gateway, path(photo))).status == 404
    stalled.release()
    assert [(await one).status for one in (first, second)] == [204, 204]
    assert deletions(sandbox) == [path(photo, ".json")]


async def test_a_media_is_not_served_while_it_is_being_deleted(
    gateway: RunningGateway, sandbox: Sandbox, photo: Media
) -> None:
    assert await link_status(gateway, photo) == 200
    stalled = sandbox.fault(StallHeaders(), point=Point.DELETE)
    deleting = asyncio.create_task(delete(gateway, path(photo, ".json")))
    await stalled.reached()
    assert await link_status(gateway, photo) == 404
    assert (await get(gateway, path(photo))).status == 404
    stalled.release()
    assert (await deleting).status == 204


# --- what was not there ---------------------------------------------------------------------------------------


async def test_a_media_unknown_to_the_provider_is_404_and_marked(
    gateway: RunningGateway, sandbox: Sandbox, photo: Media
) -> None:
    assert await link_status(gateway, photo) == 200
    sandbox.fault(Status(404), point=Point.DELETE)
    reply = await delete(gateway, path(photo, ".json"))
    assert said(reply) == not_found(path(photo, ".json"))
    sandbox.clear_faults()
    sandbox.clear_requests()
    assert await link_status(gateway, photo) == 404
    assert sandbox.requests == ()


async def test_a_second_deletion_is_404(gateway: RunningGateway, sandbox: Sandbox, photo: Media) -> None:
    assert (await delete(gateway, path(photo, ".json"))).status == 204
    assert said(await delete(gateway, path(photo, ".json"))) == not_found(path(photo, ".json"))
    assert len(deletions(sandbox)) == 2
    assert await link_status(gateway, photo) == 404


# --- what the provider refuses --------------------------------------------------------------------------------

LOCKED = {
    "code": 20409, "message": "The media is in use.", "more_info": "https://www.twilio.com/docs/errors/20409",
    "status": 409,
}  # fmt: skip


def answering(status: str, body: bytes) -> Raw:
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return Raw(head.encode() + body)


async def test_a_refusal_is_passed_on_and_the_media_reappears(
    gateway: RunningGateway, sandbox: Sandbox, photo: Media
) -> None:
    sandbox.fault(answering("409 Conflict", json.dumps(LOCKED).encode()), point=Point.DELETE)
    reply = await delete(gateway, path(photo, ".json"))
    assert said(reply) == (409, 20409, "The media is in use.")
    xml = await delete(gateway, path(photo))
    assert (xml.status, b"<Code>20409</Code>" in xml.body) == (409, True)
    assert len(deletions(sandbox)) == 2
    assert await link_status(gateway, photo) == 200
    assert (await get(gateway, path(photo))).status == 200


@pytest.mark.parametrize("status", [401, 403])
async def test_our_refused_credentials_are_502_and_the_media_reappears(
    gateway: RunningGateway, sandbox: Sandbox, photo: Media, status: int
) -> None:
    sandbox.fault(Status(status), point=Point.DELETE)
    reply = await delete(gateway, path(photo, ".json"))
    assert said(reply)[:2] == (502, 20502)
    assert await link_status(gateway, photo) == 200


async def test_a_busy_provider_is_429_and_the_media_reappears(
    gateway: RunningGateway, sandbox: Sandbox, photo: Media
) -> None:
    sandbox.fault(Status(429, retry_after="77"), point=Point.DELETE)
    reply = await delete(gateway, path(photo, ".json"))
    assert said(reply) == (429, 20429, "Too Many Requests")
    assert reply.headers["Retry-After"] == "77"
    assert len(deletions(sandbox)) == 1  # so long a wait is the client's own
    assert await link_status(gateway, photo) == 200


async def test_a_passing_429_is_waited_for(gateway: RunningGateway, sandbox: Sandbox, photo: Media) -> None:
    sandbox.fault(Status(429), point=Point.DELETE, times=1)
    assert (await delete(gateway, path(photo, ".json"))).status == 204
    assert len(deletions(sandbox)) == 2


# --- what nobody knows ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [Status(500), Status(503, retry_after="0"), Disconnect()])
async def test_an_uncertain_failure_is_502_and_nothing_stored_is_served(
    gateway: RunningGateway, sandbox: Sandbox, photo: Media, fault: Status | Disconnect
) -> None:
    assert await link_status(gateway, photo) == 200
    sandbox.fault(fault, point=Point.DELETE)
    assert said(await delete(gateway, path(photo, ".json")))[:2] == (502, 20502)
    assert len(deletions(sandbox)) == 1  # it may have been carried out
    sandbox.clear_requests()
    reply = await gateway.get(gateway.link(photo.ref))
    # It was not, so the provider still has it; and was asked.
    assert (reply.status, reply.headers["Cache-Status"]) == (200, "media-gateway; fwd=uri-miss; fwd-status=200; stored")
    assert sandbox.requests[0].path == path(photo)


async def test_no_answer_is_504_and_nothing_stored_is_served(
    gateways: Gateways, sandbox: Sandbox, photo: Media
) -> None:
    gateway = await gateways.start(GATEWAY_LIMIT_JSON_SECONDS="1")
    assert await link_status(gateway, photo) == 200
    stalled = sandbox.fault(StallHeaders(), point=Point.DELETE)
    reply = await delete(gateway, path(photo, ".json"))
    assert said(reply)[:2] == (504, 20504)
    assert stalled.remaining is None
    sandbox.clear_requests()
    assert await link_status(gateway, photo) == 200
    assert sandbox.requests[0].path == path(photo)
    # The client asks again, and learns how it stands.
    sandbox.clear_faults()
    assert (await delete(gateway, path(photo, ".json"))).status in {204, 404}
    assert await link_status(gateway, photo) == 404


async def test_a_failure_after_a_successful_deletion_leaves_it_gone(
    gateway: RunningGateway, sandbox: Sandbox, photo: Media
) -> None:
    sandbox.fault(Raw(b"HTTP/1.1 204 No Content\r\n\r\n"), point=Point.DELETE, times=1)
    assert (await delete(gateway, path(photo, ".json"))).status == 204
    for fault in (Status(500), Status(401), answering("409 Conflict", b"")):
        sandbox.fault(fault, point=Point.DELETE, times=1)
        assert (await delete(gateway, path(photo, ".json"))).status in {502, 409}
        assert await link_status(gateway, photo) == 404


# --- the log --------------------------------------------------------------------------------------------------


async def test_each_deletion_is_one_line_of_the_audit_log(
    gateway: RunningGateway, sandbox: Sandbox, photo: Media, film: Media
) -> None:
    async with logged() as logs:
        sandbox.fault(Status(500), point=Point.DELETE, media_sid=photo.sid, times=1)
        sandbox.fault(answering("409 Conflict", b""), point=Point.DELETE, media_sid=film.sid, times=1)
        replies = [await delete(gateway, path(media, ".json")) for media in (photo, film, photo, photo)]
        await delete(gateway, path(photo, ".json"), None)
        await get(gateway, path(photo, ".json"))
    lines = [json.loads(line) for line in logs.program.getvalue().splitlines() + logs.lines]
    audited = [line for line in lines if line["logger"] == "media_gateway.audit"]
    ids = [reply.headers["X-Request-Id"] for reply in replies]
    assert [(line["event"], line["client_id"]) for line in audited] == [("delete", "backend")] * 4
    assert [line["subject"] for line in audited] == [str(media.ref) for media in (photo, film, photo, photo)]
    assert [line["outcome"] for line in audited] == ["upstream-error", "upstream-refused", "done", "media-not-found"]
    assert [line["request_id"] for line in audited] == ids
