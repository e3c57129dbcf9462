"""Header fields and the small grammars they share (RFC 9110 §5): lists, quoted strings, dates, entity-tags."""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Final

# RFC 9110 §5.6.2 token, §5.6.4 quoted-string
TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_QUOTED: Final = re.compile(r'"((?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*)"')
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)
# A field value (RFC 9110 §5.5): no CR, LF or NUL, and no other control but HTAB.
_SAFE_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


_REMEMBERED: Final = 1_024


@dataclass(frozen=True)
class Fields:
    """Header fields in the order received: pairs of name and value, names compared without case."""

    lines: tuple[tuple[str, str], ...] = ()

    @cached_property
    def _values(self) -> dict[str, list[str]]:
        """The values of each name, in lower case: a hit asks for some thirty."""
        values: dict[str, list[str]] = {}
        for name, value in self.lines:
            values.setdefault(name.lower(), []).append(value)
        return values

    @classmethod
    def of(cls, lines: Iterable[tuple[str, str]]) -> Fields:
        """Take any iterable of name and value."""
        return cls(tuple((name, value.strip(" \t")) for name, value in lines))

    def all(self, name: str) -> tuple[str, ...]:
        """Return the values of every field line of that name, in order."""
        return tuple(self._values.get(name.lower(), ()))

    def first(self, name: str) -> str | None:
        """Return the value of the first field line of that name."""
        values = self._values.get(name.lower())
        return values[0] if values else None

    def single(self, name: str) -> str | None:
        """Return the value of a field that is not a list; None if absent, or there twice with different values."""
        values = self._values.get(name.lower())
        return values[0] if values and values.count(values[0]) == len(values) else None

    def combined(self, name: str) -> str | None:
        """Return all field lines of that name joined by a comma (RFC 9110 §5.3); None if there is none."""
        values = self._values.get(name.lower())
        return ", ".join(values) if values else None

    def has_any(self, names: AbstractSet[str]) -> bool:
        """Return whether there is a field with one of these names, which are in lower case."""
        return not names.isdisjoint(self._values)

    def __contains__(self, name: str) -> bool:
        return name.lower() in self._values

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self.lines)


def is_safe_value(value: str) -> bool:
    """Return whether text can stand as a field value without being cut or smuggled (RFC 9110 §5.5)."""
    return _SAFE_VALUE.fullmatch(value) is not None


def unquote(text: str) -> str | None:
    """Return the content of a quoted-string (RFC 9110 §5.6.4), or None if it is not exactly one."""
    match = _QUOTED.fullmatch(text)
    return _ESCAPED.sub(r"\1", match[1]) if match else None


def quote(text: str) -> str:
    r"""Return a quoted-string of printable text: `"` and `\` are escaped."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def split_list(value: str, separator: str = ",") -> list[str]:
    """Return the members of a list field (RFC 9110 §5.6.1): quoted commas do not split, empty members are dropped."""
    members: list[str] = []
    start = position = 0
    quotes = True  # A quote that nothing closes ends the looking for quoted strings: the time stays linear.
    while position < len(value):
        if quotes and value[position] == '"':
            match = _QUOTED.match(value, position)
            quotes = match is not None
            position = match.end() if match else position + 1
        elif value[position] == separator:
            members.append(value[start:position])
            position += 1
            start = position
        else:
            position += 1
    members.append(value[start:])
    return [stripped for member in members if (stripped := member.strip(" \t"))]


# --- dates (RFC 9110 §5.6.7) ----------------------------------------------------------------------------------

_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_LONG_DAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH: Final = {name: number for number, name in enumerate(_MONTHS, 1)}
_MON: Final = "|".join(_MONTHS)
_FIXDATE: Final = len("Sun, 06 Nov 1994 08:49:37 GMT")
_TIME: Final = r"(?P<h>\d{2}):(?P<mi>\d{2}):(?P<s>\d{2})"
_IMF: Final = re.compile(
    rf"(?:{'|'.join(_DAYS)}), (?P<d>\d{{2}}) (?P<m>{_MON}) (?P<y>\d{{4}}) {_TIME} GMT", re.ASCII | re.IGNORECASE
)
_RFC850: Final = re.compile(
    rf"(?:{'|'.join(_LONG_DAYS)}), (?P<d>\d{{2}})-(?P<m>{_MON})-(?P<y>\d{{2}}) {_TIME} GMT", re.ASCII | re.IGNORECASE
)
_ASCTIME: Final = re.compile(
    rf"(?:{'|'.join(_DAYS)}) (?P<m>{_MON}) (?P<d>\d{{2}}| \d) {_TIME} (?P<y>\d{{4}})", re.ASCII | re.IGNORECASE
)


def parse_date(text: str, now: float) -> int | None:
    """Read an HTTP-date as Unix seconds: IMF-fixdate, RFC 850 and asctime, names in any case; None for anything else.

    `now` decides the century of an RFC 850 year: the last one that is at most 50 years ahead (RFC 9110 §5.6.7). The
    name of the weekday is not compared with the date.
    """
    return _parse_fixdate(text) if len(text) == _FIXDATE else _parse_date(text, now)


@lru_cache(_REMEMBERED)
def _parse_fixdate(text: str) -> int | None:
    """Parse the one form that is sent today. An RFC 850 date, whose century `now` decides, is longer."""
    return _parse_date(text, 0)


def _parse_date(text: str, now: float) -> int | None:
    for form in (_IMF, _RFC850, _ASCTIME):
        match = form.fullmatch(text)
        if match:
            break
    else:
        return None
    year, month = int(match["y"]), _MONTH[match["m"].capitalize()]
    day, hour, minute, second = int(match["d"]), int(match["h"]), int(match["mi"]), int(match["s"])
    if form is _RFC850:
        days, rest = divmod(int(now), 86_400)
        this_year, *today = _civil(days)
        limit = this_year + 50
        year += limit - limit % 100
        if (year, month, day, hour * 3600 + minute * 60 + second) > (limit, *today, rest):
            year -= 100
    if year < 1 or not 1 <= day <= calendar.monthrange(year, month)[1] or hour > 23 or minute > 59 or second > 60:
        return None
    return calendar.timegm((year, month, day, hour, minute, second))


def format_date(seconds: float) -> str:
    """Write Unix seconds as an IMF-fixdate, the one form a sender may use."""
    return _format_date(int(seconds))


@lru_cache(_REMEMBERED)
def _format_date(seconds: int) -> str:
    days, rest = divmod(seconds, 86_400)
    year, month, day = _civil(days)
    return (
        f"{_DAYS[(days + 3) % 7]}, {day:02d} {_MONTHS[month - 1]} {year:04d} "
        f"{rest // 3600:02d}:{rest % 3600 // 60:02d}:{rest % 60:02d} GMT"
    )


def _civil(days: int) -> tuple[int, int, int]:
    """Turn days since 1970-01-01 into year, month and day of the proleptic Gregorian calendar."""
    shifted = days + 719_468
    era, of_era = divmod(shifted, 146_097)
    year_of_era = (of_era - of_era // 1460 + of_era // 36_524 - of_era // 146_096) // 365
    day_of_year = of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted_month = (5 * day_of_year + 2) // 153
    month = shifted_month + 3 if shifted_month < 10 else shifted_month - 9
    year = year_of_era + era * 400 + (1 if month <= 2 else 0)
    return year, month, day_of_year - (153 * shifted_month + 2) // 5 + 1


# --- entity-tags (RFC 9110 §8.8.3) ----------------------------------------------------------------------------

_ENTITY_TAG: Final = re.compile(r'(?P<weak>W/)?"(?P<opaque>[\x21\x23-\x7e\x80-\xff]*)"')
_GAP: Final = re.compile(r"[ \t]*(?:,[ \t,]*|\Z)")


@dataclass(frozen=True, slots=True)
class EntityTag:
    """An opaque validator; `opaque` is without its quotes."""

    opaque: str
    weak: bool = False

    @classmethod
    def parse(cls, text: str) -> EntityTag | None:
        """Parse exactly one entity-tag; None for anything else."""
        match = _ENTITY_TAG.fullmatch(text)
        return cls(match["opaque"], match["weak"] is not None) if match else None

    def __str__(self) -> str:
        return f'{"W/" if self.weak else ""}"{self.opaque}"'

    def strongly_equals(self, other: EntityTag) -> bool:
        """Compare strongly (RFC 9110 §8.8.3.2): both strong, and equal."""
        return not self.weak and not other.weak and self.opaque == other.opaque

    def weakly_equals(self, other: EntityTag) -> bool:
        """Compare weakly (RFC 9110 §8.8.3.2): equal, weak or not."""
        return self.opaque == other.opaque


def parse_entity_tags(value: str) -> tuple[EntityTag, ...] | None:
    """Parse a list of entity-tags (`If-Match`, `If-None-Match`); None if a member is malformed or there is none."""
    tags: list[EntityTag] = []
    # An entity-tag may hold a comma and a backslash, so the list is scanned and not split (RFC 9110 §8.8.3).
    position = len(value) - len(value.lstrip(" \t,"))
    while position < len(value):
        match = _ENTITY_TAG.match(value, position)
        gap = _GAP.match(value, match.end()) if match else None
        if match is None or gap is None:
            return None
        tags.append(EntityTag(match["opaque"], match["weak"] is not None))
        position = gap.end()
    return tuple(tags) or None
