"""The bounded encoding of an entry."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.cache import bounds
from proxy.cache.entry import MAX_ENCODED, Entry, decode, encode, make_entry, represent
from proxy.errors import StoreError
from proxy.model import MediaRef
from proxy.origin import PRESENTED, OriginHead
from proxy.semantics.fields import Fields
from proxy.semantics.stored import StoredMetadata

_REF = MediaRef.parse("AC" + "1" * 32, "MM" + "2" * 32, "ME" + "3" * 32)
_NAMES = st.from_regex(r"\A[A-Za-z-]{1,20}\Z")
_VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=60)
_LINES = st.lists(st.tuples(_NAMES, _VALUES), max_size=8).map(tuple)
_TIMES = st.floats(0, bounds.LATEST)
_ENTRIES = st.builds(
    Entry,
    version=st.just(2),
    generation=st.from_regex(r"\A[0-9a-f]{32}\Z"),
    etag=st.from_regex(r"\A[!#-~]{0,64}\Z"),
    length=st.integers(0, bounds.LONGEST_BODY),
    checksum=st.from_regex(r"\A[0-9a-f]{32}\Z"),
    epoch=st.integers(0, bounds.LAST_NUMBER),
    fields=_LINES,
    presented=_LINES,
    requested_at=_TIMES,
    answered_at=_TIMES,
)


def _head(*lines: tuple[str, str]) -> OriginHead:
    return OriginHead(200, Fields(lines), 10, 100.0, 101.0)


@given(_ENTRIES)
def test_decoding_gives_what_was_encoded(entry: Entry) -> None:
    assert decode(encode(entry)) == entry


@given(st.binary(max_size=300))
def test_decoding_never_raises(encoded: bytes) -> None:
    decode(encoded)


@given(_ENTRIES, st.data())
def test_decoding_a_damaged_entry_never_raises(entry: Entry, data: st.DataObject) -> None:
    encoded = bytearray(encode(entry))
    position = data.draw(st.integers(0, len(encoded) - 1))
    encoded[position] ^= data.draw(st.integers(1, 255))
    cut = data.draw(st.integers(0, len(encoded)))
    decode(bytes(encoded))
    decode(bytes(encoded[:cut]))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
        lambda inner: st.lists(inner, max_size=10) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=12,
    )
)
def test_decoding_any_other_value_gives_none(value: object) -> None:
    assert decode(msgspec.msgpack.encode(value)) is None


def test_nesting_as_deep_as_the_bound_allows_is_no_entry(entries: Callable[..., Entry]) -> None:
    encoded = encode(entries())
    assert decode(bytes([encoded[0] + 1]) + encoded[1:] + b"\x91" * 60_000 + b"\xc0") is None
    assert decode(b"\x91" * 60_000 + b"\xc0") is None


@pytest.mark.parametrize(
    "change",
    [
        {"version": 1},
        {"version": 3},
        {"generation": "../../../../etc/passwd"},
        {"generation": ""},
        {"generation": "a" * 65},
        {"etag": 'a"b'},
        {"etag": "a\r\nb"},
        {"length": -1},
        {"length": 2**63},
        {"requested_at": math.inf},
        {"answered_at": math.nan},
        {"fields": (("Content-Type", "a\r\nSet-Cookie: b"),)},
        {"fields": (("Content Type", "a"),)},
        {"presented": (("Accept", "a\nb"),)},
    ],
)
def test_an_entry_of_another_version_or_unsound_is_none(entries: Callable[..., Entry], change: dict[str, Any]) -> None:
    assert decode(encode(entries())) is not None
    assert decode(encode(msgspec.structs.replace(entries(), **change))) is None


def test_nothing_longer_than_the_bound_is_encoded_or_decoded(entries: Callable[..., Entry]) -> None:
    def padded(size: int) -> Entry:
        return msgspec.structs.replace(entries(), fields=(("A", "b" * size),))

    room = MAX_ENCODED - len(encode(padded(40_000))) + 40_000
    assert len(encode(padded(room))) == MAX_ENCODED
    assert decode(encode(padded(room))) is not None
    with pytest.raises(StoreError):
        encode(padded(room + 1))
    assert decode(msgspec.msgpack.encode(padded(room + 1))) is None


def test_text_that_is_no_unicode_is_not_encoded(entries: Callable[..., Entry]) -> None:
    with pytest.raises(StoreError):
        encode(msgspec.structs.replace(entries(), etag="\ud800"))


def test_rfc9110_s8_8_1_the_upstreams_strong_tag_is_kept() -> None:
    assert represent(_REF, _head(("ETag", '"abc"'))).etag.opaque == "abc"


@pytest.mark.parametrize("etag", ['W/"abc"', "abc", "", '"\xe9"'])
def test_rfc9110_s8_8_1_any_other_tag_is_derived(etag: str) -> None:
    first, second = (represent(_REF, _head(("ETag", etag))) for _ in range(2))
    assert not first.etag.weak
    assert first.etag.opaque not in {etag, "abc", "\xe9"}
    assert first.etag != second.etag


def test_an_entry_gives_its_representation_back() -> None:
    representation = represent(_REF, _head(("Content-Type", "image/png"), ("Set-Cookie", "no")))
    entry = make_entry(representation, length=10, checksum="0" * 32, epoch=1 << 62)
    assert entry.representation == representation
    assert entry.metadata.fields.lines == (("Content-Type", "image/png"),)


def test_rfc9111_s4_3_4_freshening_changes_the_metadata_alone(entries: Callable[..., Entry]) -> None:
    entry = entries(5)
    fields = Fields((("Content-Type", "image/gif"),))
    fresh = entry.freshened(StoredMetadata(fields, 2_000.0, 2_001.0, PRESENTED))
    assert (fresh.fields, fresh.requested_at, fresh.answered_at) == (fields.lines, 2_000.0, 2_001.0)
    assert (fresh.generation, fresh.etag, fresh.length, fresh.checksum) == (
        entry.generation,
        entry.etag,
        entry.length,
        entry.checksum,
    )


def test_names_that_every_entry_has_are_held_once() -> None:
    name = "".join(["Content", "-", "Type"])
    entry = make_entry(represent(_REF, _head((name, "image/png"))), length=0, checksum="", epoch=1 << 62)
    again = decode(encode(entry))
    assert again is not None
    assert entry.fields[0][0] is again.fields[0][0]
    assert entry.presented is again.presented
