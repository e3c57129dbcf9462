"""The changes of a stored response by a 304 (RFC 9111 §3.2, §4.3.4)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from proxy.semantics.allowed_fields import allowed_fields
from proxy.semantics.fields import EntityTag, Fields, parse_date
from proxy.semantics.stored import StoredMetadata

# Fields that the body depends on stay as they were stored (§3.2); so does the entity-tag that has gone out with it.
_CONTENT: Final = frozenset({"content-length", "content-encoding", "content-type", "content-language", "etag"})
# Fields of one message, not of the representation: the old values go even if the 304 has none (§4.2.3).
_MESSAGE: Final = frozenset({"age", "date"})


@dataclass(frozen=True, slots=True)
class Mismatch:
    """The 304 is about another representation than the stored one: fetch again (§4.3.4)."""


def freshen(
    stored: StoredMetadata, not_modified: Fields, *, requested_at: float, answered_at: float
) -> StoredMetadata | Mismatch:
    """Return the stored response after a 304 with these fields (§3.2, §4.3.4). The 304's times become the response's.

    The result may be no longer storable (`storable`): the validated body may answer this request, and is not kept.
    """
    if not _identifies(stored.fields, not_modified, answered_at):
        return Mismatch()
    update = tuple((name, value) for name, value in allowed_fields(not_modified) if name.lower() not in _CONTENT)
    replaced = _MESSAGE | {name.lower() for name, _ in update}
    kept = tuple((name, value) for name, value in stored.fields if name.lower() not in replaced)
    return replace(stored, fields=Fields(kept + update), requested_at=requested_at, answered_at=answered_at)


def _identifies(stored: Fields, not_modified: Fields, now: float) -> bool:
    """Return whether the 304's validators select the stored response (§4.3.4): the entity-tag, else the date.

    A strong entity-tag selects by strong comparison, a weak one by weak comparison. A 304 without any validator answers
    the one stored response that was asked about.
    """
    if "ETag" in not_modified:
        return _same_tag(stored.single("ETag"), not_modified.single("ETag"))
    if "Last-Modified" in not_modified:
        return _same_date(stored.single("Last-Modified"), not_modified.single("Last-Modified"), now)
    return True


def _same_tag(stored: str | None, received: str | None) -> bool:
    if stored is None or received is None:
        return False
    ours, theirs = EntityTag.parse(stored), EntityTag.parse(received)
    if ours is None or theirs is None:
        return stored == received
    return ours.weakly_equals(theirs) if theirs.weak else ours.strongly_equals(theirs)


def _same_date(stored: str | None, received: str | None, now: float) -> bool:
    if stored is None or received is None:
        return False
    ours, theirs = parse_date(stored, now), parse_date(received, now)
    return stored == received if ours is None else ours == theirs
