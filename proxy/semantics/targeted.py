"""Fields for a CDN in front of the gateway: RFC 9213 and the tags that it purges by."""

from __future__ import annotations

from typing import assert_never

from proxy.model import AccountSid, MediaRef, MessageRef


def cdn_cache_control(lifetime: int) -> str:
    """Write `CDN-Cache-Control` (RFC 9213 §2.1), a structured dictionary.

    `lifetime` is in seconds, from `client_lifetime`. `must-revalidate` since the link's life is part of the lifetime:
    served stale, an answer would outlive its link.
    """
    return f"max-age={max(0, lifetime)}, must-revalidate"


def cache_tag(marked: MediaRef | MessageRef | AccountSid) -> str:
    """Return the tag of every answer with that media, a media of that message, or one of that account."""
    match marked:
        case MediaRef():
            return f"media-{marked.media}"
        case MessageRef():
            return f"message-{marked.message}"
        case AccountSid():
            return f"account-{marked}"
        case _:
            assert_never(marked)


def cache_tags(ref: MediaRef) -> tuple[str, str, str]:
    """Return the tags of the account, the message and the media, so that a purge of any of them finds the answer."""
    return cache_tag(ref.account), cache_tag(ref.parent), cache_tag(ref)


def for_shared_caches(ref: MediaRef, lifetime: int) -> dict[str, str]:
    """Return the fields of an answer that a shared cache may store. `lifetime` in seconds, from `client_lifetime`.

    The tags stand once for each form in which caches read them.
    """
    tags = cache_tags(ref)
    return {
        "CDN-Cache-Control": cdn_cache_control(lifetime),
        "Cache-Tag": ",".join(tags),
        "Surrogate-Key": " ".join(tags),
    }
