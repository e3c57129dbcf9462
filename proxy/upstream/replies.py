"""The answers that the upstream client gives to its callers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from proxy.origin import OriginHead
from proxy.upstream.body import UpstreamBody


@dataclass(frozen=True, slots=True)
class ApiAnswer:
    """The API's answer to a call: its status, type and whole body; a DELETE's body is not read."""

    status: int
    content_type: str
    body: bytes


class UpstreamAnswer:
    """An open answer; the `OriginAnswer` of this client."""

    def __init__(self, head: OriginHead, body: UpstreamBody | None) -> None:
        self._head = head
        self._body = body

    @property
    def head(self) -> OriginHead:
        return self._head

    def chunks(self) -> AsyncIterator[bytes]:
        """Return the body as it arrives, its coding undone, once; nothing for a 304.

        Raises `UpstreamTruncated`, `UpstreamTooLarge`, `UpstreamMalformed`, `UpstreamTimeout`. A body that ends
        normally is whole.
        """
        return _nothing() if self._body is None else self._body.chunks()


async def _nothing() -> AsyncIterator[bytes]:
    """Yield the chunks of an answer that has no body: none."""
    none: tuple[bytes, ...] = ()
    for chunk in none:
        yield chunk
