"""`GET` and `HEAD` of a signed link, through every part of the gateway."""

from __future__ import annotations

import hashlib

from proxy.sandbox import Media
from tests.functional.harness import RunningGateway


async def test_a_good_link_gives_the_media_s_exact_bytes(gateway: RunningGateway, photo: Media) -> None:
    reply = await gateway.get(gateway.link(photo.ref))
    assert (reply.status, reply.headers["Content-Type"]) == (200, "image/jpeg")
    assert hashlib.sha256(reply.body).hexdigest() == photo.sha256
