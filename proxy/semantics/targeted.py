"""Fields for a CDN in front of the gateway: RFC 9213 and the tags that it purges by."""

from __future__ import annotations

from typing import assert_never

from proxy.model import AccountSid, MediaRef, MessageRef


def cdn_cache_control(lifetime: int) -> str:
    """`CDN-Cache-Control` (RFC 9213 §2.1), a structured dictionary. `lifetime` in seconds, from `client_lifetime`.

    `must-revalidate` since the link's life is part of the lifetime: served stale, an answer would outlive its link.
    """
    return f"max-age={max(0, lifetime)}, must-revalidate"


def cache_tag(marked: MediaRef | MessageRef | AccountSid) -> str:
    """The tag of every answer with that media, a media of that message, or one of that account."""
    match marked:
        case MediaRef():
            return f"media-{marked.media}"
        case MessageRef():
            return f"message-{marked.message}"
        case AccountSid():
            return f"account-{marked}"
        case _:
            assert_never(marked)


def cache_tags(ref: MediaRef) -> str:
    """`Cache-Tag`: one tag each for the account, the message and the media, so that a purge of any finds the answer."""
    return ",".join((cache_tag(ref.account), cache_tag(ref.parent), cache_tag(ref)))
