"""The metadata of one stored response, and its bounded encoding."""

from __future__ import annotations

import hashlib
import re
import secrets
import sys
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import msgspec

from proxy.cache import bounds
from proxy.errors import StoreError
from proxy.model import MediaRef
from proxy.origin import PRESENTED, OriginHead
from proxy.semantics.fields import TOKEN, EntityTag, Fields, is_safe_value
from proxy.semantics.stored import StoredMetadata

MAX_ENCODED: Final = 65_536
"""The longest encoded entry in bytes; this gateway writes none that is longer."""

_VERSION: Final = 2
# A generation names a file, so it has letters and digits only.
_GENERATION: Final = re.compile(r"[0-9A-Za-z]{2,64}", re.ASCII)
_REMEMBERED: Final = 1_024
"""The most entries whose `Representation`, with the index of its fields, is kept for the next request."""


@dataclass(frozen=True, slots=True)
class Representation:
    """The facts of a representation that are known before its first byte goes out.

    `generation` names the bytes: a fill makes a new one, a 304 keeps it. `etag` is the strong entity-tag that every
    reader sees. `length` is in bytes, None while the upstream has not said it.
    """

    generation: str
    metadata: StoredMetadata
    etag: EntityTag
    length: int | None


class Entry(msgspec.Struct, frozen=True, kw_only=True, array_like=True, forbid_unknown_fields=True):
    """One stored response without its bytes: a `Representation` whose body is whole, in a form to be encoded.

    `etag` is the opaque part of the strong entity-tag, and `checksum` the body's, in hex; times are Unix seconds.
    `epoch` is the number of the last erasure when the fill began: any later one that covers the media beats this entry.
    `utf8`: the body is text that says no charset, and its bytes are UTF-8 and not all ASCII.
    """

    version: int
    generation: str
    etag: str
    length: int
    checksum: str
    epoch: int
    fields: tuple[tuple[str, str], ...]
    presented: tuple[tuple[str, str], ...]
    requested_at: float
    answered_at: float
    utf8: bool = False

    @property
    def metadata(self) -> StoredMetadata:
        return self.representation.metadata

    @property
    def representation(self) -> Representation:
        return _representation(self)

    def freshened(self, metadata: StoredMetadata) -> Entry:
        """Return an entry of the same bytes, with the metadata that a validation made (RFC 9111 §4.3.4)."""
        return msgspec.structs.replace(
            self,
            fields=_shared(metadata.fields.lines),
            requested_at=metadata.requested_at,
            answered_at=metadata.answered_at,
        )


@lru_cache(_REMEMBERED)
def _representation(entry: Entry) -> Representation:
    metadata = StoredMetadata(Fields(entry.fields), entry.requested_at, entry.answered_at, Fields(entry.presented))
    return Representation(entry.generation, metadata, EntityTag(entry.etag), entry.length)


def _strong_etag(ref: MediaRef, generation: str, received: Fields) -> EntityTag:
    """Return the entity-tag of a new representation, which is known before its first byte.

    It is the upstream's own if that is strong (RFC 9110 §8.8.1), and else derived from the identity, the upstream's
    validators and the generation, so that two fills never share one. The upstream's tag of coded bytes serves for the
    decoded ones too: only those go out under it, in whichever coding they came.
    """
    upstream = received.single("ETag") or ""
    tag = EntityTag.parse(upstream)
    if tag is not None and not tag.weak and upstream.isascii():
        return tag
    basis = "\n".join((str(ref), generation, upstream, received.single("Last-Modified") or ""))
    return EntityTag(hashlib.sha256(basis.encode()).hexdigest()[:32])


def represent(ref: MediaRef, head: OriginHead) -> Representation:
    """Return the representation that a 200 of the upstream begins, under a new generation."""
    generation = secrets.token_hex(16)
    metadata = StoredMetadata.received(
        head.fields, PRESENTED, requested_at=head.requested_at, answered_at=head.answered_at
    )
    return Representation(generation, metadata, _strong_etag(ref, generation, head.fields), head.length)


def make_entry(representation: Representation, *, length: int, checksum: str, epoch: int, utf8: bool = False) -> Entry:
    """Return the entry of a representation whose body has come whole."""
    metadata = representation.metadata
    return Entry(
        version=_VERSION,
        generation=representation.generation,
        etag=representation.etag.opaque,
        length=length,
        checksum=checksum,
        epoch=epoch,
        fields=_shared(metadata.fields.lines),
        presented=_shared(metadata.presented.lines),
        requested_at=metadata.requested_at,
        answered_at=metadata.answered_at,
        utf8=utf8,
    )


def _shared(lines: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """Return the field lines with the texts of many entries held once, which takes a quarter off an entry in RAM."""
    if lines == PRESENTED.lines:
        return PRESENTED.lines
    return tuple((sys.intern(name), value) for name, value in lines)


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(Entry)


def encode(entry: Entry) -> bytes:
    """Encode an entry as MessagePack. Raises `StoreError` if that is longer than `MAX_ENCODED`."""
    try:
        encoded = _encoder.encode(entry)
    except UnicodeEncodeError as error:
        raise StoreError(note="the metadata of a response is not Unicode text") from error
    if len(encoded) > MAX_ENCODED:
        raise StoreError(note=f"the metadata of a response takes more than {MAX_ENCODED} bytes")
    return encoded


def decode(encoded: bytes) -> Entry | None:
    """Decode what `encode` wrote; return None for anything else, which another version or a fault may have left."""
    if len(encoded) > MAX_ENCODED:
        return None
    try:
        entry = _decoder.decode(encoded)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    if not _is_sound(entry):
        return None
    return msgspec.structs.replace(entry, fields=_shared(entry.fields), presented=_shared(entry.presented))


def _is_sound(entry: Entry) -> bool:
    return (
        entry.version == _VERSION
        and _GENERATION.fullmatch(entry.generation) is not None
        and bounds.is_length(entry.length)
        and bounds.is_number(entry.epoch)
        and bounds.is_time(entry.requested_at)
        and bounds.is_time(entry.answered_at)
        and bounds.is_text(entry.checksum)
        and EntityTag.parse(f'"{entry.etag}"') is not None
        and all(TOKEN.fullmatch(name) and is_safe_value(value) for name, value in entry.fields + entry.presented)
    )
