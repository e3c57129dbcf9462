"""Values of one setting: text as written in the environment, or a TOML value, becomes a checked Python value.

Each parser takes what was written and raises `ValueError` with what is expected. No message repeats what was written:
it may be a secret in the wrong place.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable
from typing import Final, TypeVar

from proxy.semantics.fields import TOKEN

_NAME_LENGTH: Final = 100
_DIGITS: Final = re.compile(r"[0-9]{1,18}")
_SIZE: Final = re.compile(r"([0-9]{1,15}) ?([kmgt]i?b|b)?", re.IGNORECASE)
_UNITS: Final = {
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}

Choice = TypeVar("Choice", bound=enum.StrEnum)


def parse_text(written: object) -> str:
    """Parse text: no white space around it, not empty, no control characters."""
    match written:
        case str():
            text = written.strip()
        case _:
            raise ValueError("expected text")
    if not text:
        raise ValueError("is empty")
    if not text.isprintable():
        raise ValueError("has a control character")
    return text


def parse_field_name(written: object) -> str:
    """Parse the name of a header field (RFC 9110 §5.1)."""
    text = parse_text(written)
    if len(text) > _NAME_LENGTH or not TOKEN.fullmatch(text):
        raise ValueError("expected the name of a header field")
    return text


def parse_items(written: object) -> tuple[str, ...]:
    """Parse a list separated by commas, or a TOML array of texts; empty entries are dropped."""
    match written:
        case str():
            return tuple(parse_text(part) for part in written.split(",") if part.strip())
        case list():
            return tuple(parse_text(entry) for entry in written)
        case _:
            raise ValueError("expected a list with entries separated by commas")


def parse_flag(written: object) -> bool:
    """Parse `0` or `1`; in TOML also `false` or `true`."""
    match written if isinstance(written, int) else parse_text(written):
        case 0 | "0":  # False equals 0
            return False
        case 1 | "1":  # and True equals 1
            return True
        case _:
            raise ValueError("expected 0 or 1")


def whole(least: int, most: int) -> Callable[[object], int]:
    """Make a parser for whole numbers from `least` to `most`."""

    def parse(written: object) -> int:
        if isinstance(written, int) and not isinstance(written, bool):
            number = written
        elif isinstance(written, str) and _DIGITS.fullmatch(written.strip()):
            number = int(written)
        else:
            raise ValueError(f"expected a whole number from {least} to {most}")
        if not least <= number <= most:
            raise ValueError(f"expected a whole number from {least} to {most}")
        return number

    return parse


def size(least: int) -> Callable[[object], int]:
    """Make a parser for sizes in bytes of at least `least`: `10GB` (10^9), `64KiB` (2^10), or plain bytes."""
    expected = f"expected a size such as 256MB, 64KiB or a number of bytes, {least} or more"

    def parse(written: object) -> int:
        if isinstance(written, int) and not isinstance(written, bool):
            number = written
        elif isinstance(written, str) and (match := _SIZE.fullmatch(written.strip())):
            number = int(match[1]) * _UNITS[(match[2] or "b").lower()]
        else:
            raise ValueError(expected)
        if number < least:
            raise ValueError(expected)
        return number

    return parse


def format_size(number: int) -> str:
    """Write a size in the shortest exact way: `10GB`, `64KiB`, or plain bytes."""
    for unit, factor in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("MiB", 2**20), ("KiB", 2**10), ("KB", 10**3)):
        if number and number % factor == 0:
            return f"{number // factor}{unit}"
    return str(number)


def choice(kind: type[Choice]) -> Callable[[object], Choice]:
    """Make a parser for the members of an enumeration, in upper or lower case."""
    known = frozenset(member.value for member in kind)

    def parse(written: object) -> Choice:
        text = parse_text(written).lower()
        if text not in known:
            raise ValueError(f"expected {' or '.join(kind)}")
        return kind(text)

    return parse
