"""Content codings that an upstream sends unasked: none in truth, undone on the way in, or refused by name."""

from __future__ import annotations

import gzip
import zlib
from typing import TYPE_CHECKING

import pytest

from proxy.errors import UpstreamError, UpstreamMalformed, UpstreamTooLarge, UpstreamTruncated
from proxy.model import MediaRef
from proxy.origin import Validators
from proxy.upstream.client import UpstreamClient
from proxy.upstream.limits import UpstreamLimits
from tests.functional.upstream.test_upstream_body import fetch

if TYPE_CHECKING:
    from tests.functional.upstream.conftest import Connect, RawOrigin

TEXT = b"Gr\xc3\xbc\xc3\x9fe! " * 500


def _raw(body: bytes) -> bytes:
    coder = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return coder.compress(body) + coder.flush()


@pytest.mark.parametrize("coding", ["identity", "", "aws-chunked", "Aws-Chunked", "binary", "utf-8", "UTF-8"])
async def test_what_is_no_coding_leaves_bytes_and_length(
    client: UpstreamClient, api: RawOrigin, ref: MediaRef, coding: str
) -> None:
    api.reply("200 OK", TEXT, f"Content-Encoding: {coding}")
    async with client.open(ref) as answer:
        assert (answer.head.length, answer.head.coded) == (len(TEXT), False)
        assert b"".join([chunk async for chunk in answer.chunks()]) == TEXT


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", gzip.compress(TEXT, mtime=0)),
        ("x-gzip", gzip.compress(TEXT, mtime=0)),
        ("GZip", gzip.compress(TEXT, mtime=0)),
        ("deflate", zlib.compress(TEXT)),
        ("deflate", _raw(TEXT)),
    ],
)
@pytest.mark.parametrize("chunked", [True, False])
async def test_gzip_and_deflate_are_undone_and_the_length_is_open(
    client: UpstreamClient, api: RawOrigin, ref: MediaRef, coding: str, body: bytes, chunked: bool
) -> None:
    if chunked:
        pieces = b"".join(b"1\r\n%c\r\n" % octet for octet in body)
        head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nTransfer-Encoding: chunked\r\n\r\n"
        api.script(head.encode() + pieces + b"0\r\n\r\n")
    else:
        api.reply("200 OK", body, f"Content-Encoding: {coding}")
    async with client.open(ref) as answer:
        assert (answer.head.length, answer.head.coded) == (None, True)
        assert b"".join([chunk async for chunk in answer.chunks()]) == TEXT
    assert api.requests[0].fields["accept-encoding"] == "identity"


async def test_an_empty_body_is_empty_in_any_coding(client: UpstreamClient, api: RawOrigin, ref: MediaRef) -> None:
    api.reply("200 OK", b"", "Content-Encoding: gzip")
    assert await fetch(client, ref) == b""


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip", "aws-chunked,gzip"])
async def test_another_coding_and_a_list_are_refused_by_name(
    client: UpstreamClient, api: RawOrigin, ref: MediaRef, coding: str
) -> None:
    api.reply("200 OK", gzip.compress(TEXT), f"Content-Encoding: {coding}")
    with pytest.raises(UpstreamMalformed, match=coding):
        await fetch(client, ref)
    assert len(api.requests) == 1


CODED = gzip.compress(TEXT, mtime=0)
FLIPPED = CODED[:-8] + bytes([CODED[-8] ^ 1]) + CODED[-7:]


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (CODED[:-1], UpstreamMalformed),
        (CODED[:40], UpstreamMalformed),
        (FLIPPED, UpstreamMalformed),
        (CODED + b"more", UpstreamMalformed),
        (CODED + CODED, UpstreamMalformed),
        (TEXT, UpstreamMalformed),
        (gzip.compress(bytes(len(TEXT) + 1), mtime=0), UpstreamTooLarge),
        (gzip.compress(bytes(5_000_000), mtime=0), UpstreamTooLarge),
    ],
)
async def test_a_broken_or_swollen_body_is_an_error(
    connect: Connect, api: RawOrigin, ref: MediaRef, body: bytes, error: type[UpstreamError]
) -> None:
    client = await connect(limits=UpstreamLimits(max_media_bytes=len(TEXT)))
    api.reply("200 OK", body, "Content-Encoding: gzip")
    with pytest.raises(error):
        await fetch(client, ref)


async def test_a_coded_body_that_is_cut_off_is_truncated(client: UpstreamClient, api: RawOrigin, ref: MediaRef) -> None:
    api.script(
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(CODED), CODED[:-9], api.close
    )
    with pytest.raises(UpstreamTruncated):
        await fetch(client, ref)


async def test_a_304_may_name_a_coding(client: UpstreamClient, api: RawOrigin, ref: MediaRef) -> None:
    api.script(b'HTTP/1.1 304 Not Modified\r\nETag: "one"\r\nContent-Encoding: br\r\n\r\n')
    async with client.open(ref, Validators(etag='"one"')) as answer:
        assert (answer.head.status, answer.head.coded) == (304, False)


async def test_a_coded_document_of_the_api_is_read(client: UpstreamClient, api: RawOrigin, ref: MediaRef) -> None:
    api.reply("200 OK", gzip.compress(b'{"media_list": []}'), "Content-Encoding: gzip")
    assert await client.document(client.account(ref.account), "/x.json") == b'{"media_list": []}'
    # A document has its own bound.
    api.reply("200 OK", gzip.compress(bytes(2_000_001)), "Content-Encoding: gzip")
    with pytest.raises(UpstreamTooLarge):
        await client.document(client.account(ref.account), "/x.json")
