"""Range requests (RFC 9110 §14): which bytes a GET asks for, and the framing of several parts.

`web.media.delivery` may ignore several parts, as a server may, if a body can only be read in order.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from proxy.semantics.conditional import Selected, if_range_passes
from proxy.semantics.fields import Fields, is_safe_value

MAX_PARTS: Final = 16
"""More parts than this, once joined, are "many small ranges": the Range is ignored (RFC 9110 §14.2)."""
MAX_OVERLAPPING: Final = 2
"""More overlapping ranges than this are a broken client or an attack: the Range is ignored (RFC 9110 §14.2)."""
PART_OVERHEAD: Final = 80
"""Bytes that a part costs: a smaller gap between two ranges is sent along (RFC 9110 §15.3.7.2)."""

# RFC 9110 §14.1.1, §14.1.2. A position has at most 64 digits: a longer one is malformed.
_UNIT: Final = re.compile(r"bytes=", re.IGNORECASE | re.ASCII)
_SPEC: Final = re.compile(r"(?P<first>[0-9]{1,64})-(?P<last>[0-9]{1,64})?|-(?P<suffix>[0-9]{1,64})")
_BREAK: Final = "\r\n"
_BOUNDARY: Final = re.compile(r"[0-9A-Za-z]{1,70}")


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes `first` to `last`, both included, of a representation."""

    first: int
    last: int

    @property
    def size(self) -> int:
        """The number of bytes, 1 or more."""
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True)
class Whole:
    """The whole representation: no Range, or one that is ignored."""


@dataclass(frozen=True, slots=True)
class Single(Span):
    """206 with one part and `Content-Range`."""


@dataclass(frozen=True, slots=True)
class Multiple:
    """206 as multipart/byteranges: two parts or more that neither overlap nor touch, in the order asked for."""

    parts: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Unsatisfiable:
    """416 with `Content-Range: bytes */N`."""


Resolution: TypeAlias = Whole | Single | Multiple | Unsatisfiable


def resolve(method: str, request: Fields, length: int | None, selected: Selected, now: float) -> Resolution:
    """Decide what to send of a representation of `length` bytes; evaluated after the preconditions (RFC 9110 §13.2.2).

    `length` is None while it is not known: then the answer is whole, for neither a suffix nor `Content-Range` can be
    computed. A Range that is malformed, repeated, of another unit, on another method or under an `If-Range` that does
    not pass is ignored.
    """
    values = request.all("Range")
    if method != "GET" or length is None or len(values) != 1:
        return Whole()
    conditions = request.all("If-Range")
    if conditions and not (len(conditions) == 1 and if_range_passes(conditions[0], selected, now)):
        return Whole()
    specs = _parse(values[0])
    if specs is None:
        return Whole()
    spans = [span for spec in specs if (span := spec.within(length)) is not None]
    if spans:
        return _join(spans)
    # On a representation without bytes a suffix is satisfiable (RFC 9110 §14.1.2), and no Content-Range can say so.
    if length == 0 and any(spec.first is None and spec.last for spec in specs):
        return Whole()
    return Unsatisfiable()


def content_range(span: Span, length: int) -> str:
    """Return the `Content-Range` of a part (RFC 9110 §14.4) of a representation of `length` bytes."""
    return f"bytes {span.first}-{span.last}/{length}"


def unsatisfied_range(length: int) -> str:
    """Return the `Content-Range` of a 416 (RFC 9110 §14.4)."""
    return f"bytes */{length}"


@dataclass(frozen=True, slots=True)
class _Spec:
    """A range-spec: `first` is None for a suffix of `last` bytes; `last` is None for a range to the end."""

    first: int | None
    last: int | None

    def within(self, length: int) -> Span | None:
        """Return the bytes that are meant of `length` bytes, or None if that is not satisfiable or means no byte."""
        if self.first is None:
            size = min(self.last or 0, length)
            return Span(length - size, length - 1) if size else None
        if self.first >= length:
            return None
        return Span(self.first, length - 1 if self.last is None else min(self.last, length - 1))


def _parse(value: str) -> list[_Spec] | None:
    """Parse a ranges-specifier of bytes; None if it is malformed, of another unit, or a last-pos is below its first."""
    unit = _UNIT.match(value)
    if unit is None or value[unit.end() : unit.end() + 1] in {" ", "\t"}:
        return None
    specs: list[_Spec] = []
    for member in value[unit.end() :].split(","):
        if not (text := member.strip(" \t")):
            continue
        match = _SPEC.fullmatch(text)
        if match is None:
            return None
        first, last, suffix = match["first"], match["last"], match["suffix"]
        spec = _Spec(int(first), int(last) if last else None) if first else _Spec(None, int(suffix))
        if spec.first is not None and spec.last is not None and spec.first > spec.last:
            return None
        specs.append(spec)
    return specs or None


def _join(spans: Sequence[Span]) -> Resolution:
    """Join what overlaps, touches or lies closer than a part costs; a joined part stands where its first one stood."""
    overlaps = 0
    parts: list[tuple[int, Span]] = []
    for place, span in sorted(enumerate(spans), key=lambda item: item[1].first):
        if parts and span.first - parts[-1][1].last <= PART_OVERHEAD:
            earlier, joined = parts[-1]
            overlaps += span.first <= joined.last
            parts[-1] = min(earlier, place), Span(joined.first, max(joined.last, span.last))
        else:
            parts.append((place, span))
    if overlaps >= MAX_OVERLAPPING or len(parts) > MAX_PARTS:
        return Whole()
    if len(parts) == 1:
        return Single(parts[0][1].first, parts[0][1].last)
    return Multiple(tuple(span for _, span in sorted(parts, key=lambda part: part[0])))


# --- multipart/byteranges (RFC 9110 §14.6) --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BodyPart:
    """One body part: the bytes that go before it, and which bytes of the representation it is."""

    head: bytes
    span: Span


@dataclass(frozen=True, slots=True)
class Multipart:
    """The frame of a 206 with several parts: each part's head and bytes in turn, then `tail`.

    `content_type` is the response's; `content_length` in bytes, frame included.
    """

    content_type: str
    parts: tuple[BodyPart, ...]
    tail: bytes
    content_length: int


def multipart(parts: Sequence[Span], length: int, content_type: str, boundary: str) -> Multipart:
    """Frame the parts of a representation of `length` bytes and of that Content-Type.

    `boundary` is 1 to 70 letters and digits, with enough chance in them (128 bits) that no body holds it.
    Raises `ValueError` for another boundary, or a `content_type` that cannot stand in a field.
    """
    if not _BOUNDARY.fullmatch(boundary):
        raise ValueError("a boundary is 1 to 70 letters and digits")
    if not (content_type.isascii() and is_safe_value(content_type)):
        raise ValueError("the Content-Type cannot stand in a field")
    framed = tuple(
        BodyPart(
            f"{_BREAK if place else ''}--{boundary}\r\nContent-Type: {content_type}\r\n"
            f"Content-Range: {content_range(span, length)}\r\n\r\n".encode("ascii"),
            span,
        )
        for place, span in enumerate(parts)
    )
    tail = f"\r\n--{boundary}--\r\n".encode("ascii")
    total = sum(len(part.head) + part.span.size for part in framed) + len(tail)
    return Multipart(f"multipart/byteranges; boundary={boundary}", framed, tail, total)
