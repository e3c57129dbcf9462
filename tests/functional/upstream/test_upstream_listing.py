"""Lists of the provider's API, read within bounds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from proxy.errors import (
    MediaNotFound,
    UpstreamError,
    UpstreamMalformed,
    UpstreamRefusedCredentials,
    UpstreamTimeout,
    UpstreamTooLarge,
    UpstreamTruncated,
)
from proxy.model import AccountSid, MediaRef, MediaSid, MessageRef, MessageSid
from proxy.upstream.client import MAX_DOCUMENT_BYTES, UpstreamClient
from proxy.upstream.limits import UpstreamLimits
from proxy.upstream.listing import (
    MAX_PAGES,
    ListedMedia,
    ListedMessage,
    check_credentials,
    media_of,
    recent_messages,
)
from proxy.upstream.providers import media_list_path, messages_path

if TYPE_CHECKING:
    from tests.functional.upstream.conftest import Connect, RawOrigin


def sid(prefix: str, number: int) -> str:
    return f"{prefix}{number:032x}"


def page(numbers: list[int], following: str | None = None) -> bytes:
    media = [
        {"sid": sid("ME", n), "content_type": "image/png", "date_created": "Sun, 22 Nov 2026 00:00:00 +0000", "x": n}
        for n in numbers
    ]
    return json.dumps({"media_list": media, "next_page_uri": following, "page": 0, "uri": "/x"}).encode()


async def test_a_message_with_no_media_has_none(client: UpstreamClient, api: RawOrigin, ref: MediaRef) -> None:
    api.reply("200 OK", page([]))
    assert await media_of(client, ref.parent) == ()
    (request,) = api.requests
    assert request.line == f"GET {media_list_path(ref.parent)}?PageSize=50 HTTP/1.1"
    assert "authorization" in request.fields


async def test_a_list_s_pages_are_followed_by_their_query(
    client: UpstreamClient, api: RawOrigin, ref: MediaRef
) -> None:
    path = media_list_path(ref.parent)
    query = "PageSize=2&Page=1&PageToken=PAME0&DateCreated%3E=2026-01-01"
    api.reply("200 OK", page([1, 2], f"{path}?{query}"))
    api.reply("200 OK", page([3], ""))
    listed = await media_of(client, ref.parent)
    assert [str(media.ref.media) for media in listed] == [sid("ME", n) for n in (1, 2, 3)]
    assert listed[0] == ListedMedia(
        ref.parent.media(MediaSid.parse(sid("ME", 1))), "image/png", "Sun, 22 Nov 2026 00:00:00 +0000", None
    )
    assert api.requests[1].line == f"GET {path}?{query} HTTP/1.1"


async def test_the_next_page_is_known_under_the_lists_other_names(
    client: UpstreamClient, api: RawOrigin, ref: MediaRef
) -> None:
    path = media_list_path(ref.parent)
    api.reply("200 OK", page([1], path.removesuffix(".json").replace("/Messages/", "/Message/") + "?Page=1"))
    api.reply("200 OK", page([2]))
    assert len(await media_of(client, ref.parent)) == 2
    assert api.requests[1].line == f"GET {path}?Page=1 HTTP/1.1"


@pytest.mark.parametrize(
    "change",
    [
        lambda path: f"https://evil.example{path}?Page=1",
        lambda path: f"//evil.example{path}?Page=1",
        lambda path: f"{path[1:]}?Page=1",
        lambda path: f"{path}/../../x?Page=1",
        lambda path: path.replace("Messages", "Calls") + "?Page=1",
        lambda path: path.replace(path.split("/")[3], "AC" + "0" * 32) + "?Page=1",
        lambda path: path,
        lambda path: path + "?",
        lambda path: path + "?Page=1#x",
        lambda path: path + "?Page=1 HTTP/1.1",
        lambda path: path + "?Page=1\r\nX: y",
        lambda path: path + "?Page=é",
        lambda path: path + "?" + "x" * 5_000,
    ],
)
async def test_a_next_page_of_another_list_is_malformed(
    client: UpstreamClient, api: RawOrigin, ref: MediaRef, change: object
) -> None:
    assert callable(change)
    api.reply("200 OK", page([1], change(media_list_path(ref.parent))))
    with pytest.raises(UpstreamMalformed):
        await media_of(client, ref.parent)
    assert len(api.requests) == 1


async def test_an_endless_list_is_malformed(client: UpstreamClient, api: RawOrigin, ref: MediaRef) -> None:
    api.reply("200 OK", page([1], media_list_path(ref.parent) + "?Page=1"))
    with pytest.raises(UpstreamMalformed):
        await media_of(client, ref.parent)
    assert len(api.requests) == MAX_PAGES


async def test_a_list_of_too_many_media_is_malformed(client: UpstreamClient, api: RawOrigin, ref: MediaRef) -> None:
    api.reply("200 OK", page(list(range(1_001))))
    with pytest.raises(UpstreamMalformed):
        await media_of(client, ref.parent)


@pytest.mark.parametrize(
    "document",
    [b"", b"{", b"[]", b"null", b"{}", b'{"media_list": {}}', b'{"media_list": [{}]}', b'{"media_list": [1]}',
     b'{"media_list": [], "next_page_uri": 5}', b'{"media_list": [{"sid": "SM"}]}',
     b'{"media_list": [{"sid": "\xff"}]}',
     pytest.param(b'{"media_list": [], "a": ' + b"[" * 30_000 + b"]" * 30_000 + b"}", id="deep")],
)  # fmt: skip
async def test_a_document_that_is_not_as_documented_is_malformed(
    client: UpstreamClient, api: RawOrigin, ref: MediaRef, document: bytes
) -> None:
    api.reply("200 OK", document)
    with pytest.raises(UpstreamMalformed):
        await media_of(client, ref.parent)


async def test_a_message_that_is_not_there_is_not_found(client: UpstreamClient, api: RawOrigin, ref: MediaRef) -> None:
    api.reply("404 Not Found", b"{}")
    with pytest.raises(MediaNotFound):
        await media_of(client, ref.parent)
    with pytest.raises(MediaNotFound):
        await media_of(client, MessageRef.parse("AC" + "0" * 32, str(ref.message)))
    assert len(api.requests) == 1


async def test_a_document_is_read_within_its_bounds(client: UpstreamClient, api: RawOrigin, ref: MediaRef) -> None:
    account = client.account(ref.account)
    api.script(f"HTTP/1.1 200 OK\r\nContent-Length: {MAX_DOCUMENT_BYTES + 1}\r\n\r\n".encode(), api.await_end)
    with pytest.raises(UpstreamTooLarge):
        await client.document(account, "/x")
    api.script(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", api.close)
    with pytest.raises(UpstreamTruncated):
        await client.document(account, "/x")


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}"])
async def test_rule_4_a_document_that_does_not_come_is_504(
    connect: Connect, api: RawOrigin, ref: MediaRef, head: bytes
) -> None:
    client = await connect(limits=UpstreamLimits(json_seconds=0.2))
    api.script(head, api.await_end)
    with pytest.raises(UpstreamTimeout):
        await media_of(client, ref.parent)
    await api.left.wait()


async def test_a_document_is_never_redirected(
    client: UpstreamClient, api: RawOrigin, cdn: RawOrigin, ref: MediaRef
) -> None:
    api.redirect(f"{cdn.url}/x")
    with pytest.raises(UpstreamMalformed):
        await media_of(client, ref.parent)
    assert cdn.requests == []


async def test_a_document_is_tried_again_as_bytes_are(
    client: UpstreamClient, api: RawOrigin, ref: MediaRef, waits: list[float]
) -> None:
    api.reply("503 Busy")
    api.reply("200 OK", page([1]))
    assert len(await media_of(client, ref.parent)) == 1
    assert waits == [0.125]


async def test_the_latest_messages_are_typed_values(client: UpstreamClient, api: RawOrigin, ref: MediaRef) -> None:
    messages = [
        {"sid": sid("SM", 1), "from": "+1", "to": "+2", "body": "hi", "num_media": "2", "status": "received",
         "direction": "inbound", "date_created": "then", "price": None},
        {"sid": sid("MM", 2), "from": None, "num_media": 1},
        {"sid": sid("MM", 3)},
    ]  # fmt: skip
    api.reply("200 OK", json.dumps({"messages": messages}).encode())
    listed = await recent_messages(client, ref.account, 2)
    assert listed == (
        ListedMessage(
            MessageRef(ref.account, MessageSid.parse(sid("SM", 1))), "inbound", "received", "+1", "+2", "hi", 2, "then"
        ),
        ListedMessage(MessageRef(ref.account, MessageSid.parse(sid("MM", 2))), "", "", "", "", "", 1, None),
    )
    assert api.requests[0].line == f"GET {messages_path(ref.account)}?PageSize=2 HTTP/1.1"


@pytest.mark.parametrize("fields", [{"sid": "nonsense"}, {"sid": sid("SM", 1), "num_media": "many"}])
async def test_a_message_that_is_not_as_documented_is_malformed(
    client: UpstreamClient, api: RawOrigin, ref: MediaRef, fields: dict[str, str]
) -> None:
    api.reply("200 OK", json.dumps({"messages": [fields]}).encode())
    with pytest.raises(UpstreamMalformed):
        await recent_messages(client, ref.account)


async def test_credentials_are_checked_by_a_cheap_question(
    client: UpstreamClient, api: RawOrigin, ref: MediaRef
) -> None:
    account = client.account(ref.account)
    api.reply("200 OK", b'{"messages": []}')
    await check_credentials(client, account)
    assert api.requests[0].line == f"GET {messages_path(ref.account)}?PageSize=1 HTTP/1.1"


@pytest.mark.parametrize(
    ("status", "kind"),
    [("401 No", UpstreamRefusedCredentials), ("500 No", UpstreamError), ("200 OK", UpstreamMalformed)],
)
async def test_credentials_not_known_to_be_good_are_an_error(
    client: UpstreamClient, api: RawOrigin, ref: MediaRef, status: str, kind: type[UpstreamError]
) -> None:
    api.reply(status, b"<html/>")
    with pytest.raises(kind):
        await check_credentials(client, client.account(AccountSid.parse(str(ref.account))))
