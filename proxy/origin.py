"""The cache's view of an upstream: it asks for one representation, whole, with the cache's own validators or none."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final, Protocol

from proxy.model import MediaRef
from proxy.semantics.fields import Fields
from proxy.semantics.stored import Validators

__all__ = ["PRESENTED", "Origin", "OriginAnswer", "OriginHead", "Validators"]

PRESENTED: Final = Fields((("Accept-Encoding", "identity"),))
"""The fields of every request for a representation that could select a variant (RFC 9111 §4.1)."""


@dataclass(frozen=True, slots=True)
class OriginHead:
    """An upstream's answer up to its body: status 200 or 304, fields as received, times in Unix seconds.

    `requested_at` and `answered_at` are RFC 9111 §4.2.3's request_time and response_time, of the hop that answered.
    `length` is the announced length in bytes of a 200's body, None if none was announced. `coded`: the body comes in
    a content coding, which is undone on the way; it may turn out to be broken or too large at any byte, so that nothing
    of it is passed on before all of it has come.
    """

    status: int
    fields: Fields
    length: int | None
    requested_at: float
    answered_at: float
    coded: bool = False


class OriginAnswer(Protocol):
    """An open answer."""

    @property
    def head(self) -> OriginHead: ...

    def chunks(self) -> AsyncIterator[bytes]:
        """Return the body as it arrives, its coding undone, once; nothing for a 304.

        Raises `UpstreamTruncated` if it is shorter or longer than announced or its framing is broken,
        `UpstreamMalformed` if its coding is, `UpstreamTooLarge`, `UpstreamTimeout`, `UpstreamUnreachable`. A body
        that ends normally is whole.
        """
        ...


class Origin(Protocol):
    """An upstream."""

    def open(
        self, ref: MediaRef, validators: Validators | None = None, *, young: bool = False
    ) -> AbstractAsyncContextManager[OriginAnswer]:
        """Ask for the bytes of a media; leaving the context releases the connection, also on cancellation.

        `young`: the message has just come, so a 404 may be transient, and is waited out. A 304 is answered only if
        `validators` are given. Raises `UpstreamError` (with `MediaNotFound` for 404 and 410) before a usable head.
        """
        ...
