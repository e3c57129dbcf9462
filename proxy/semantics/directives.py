"""Cache directives (RFC 9111 §5.2, RFC 5861) of responses and of requests.

Parsing never fails. If a field is malformed, the reading that forbids more wins: a directive that restricts counts
however it is spelled or separated, a lifetime that is not a number of seconds is 0, and of duplicates the
most restrictive one is taken (RFC 9111 §4.2.1).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Self

from proxy.semantics.fields import TOKEN, Fields, split_list, unquote

MAX_SECONDS: Final = 2**31
"""A larger number of seconds counts as this one (RFC 9111 §1.2.2)."""

_REMEMBERED: Final = 256


@dataclass(frozen=True, slots=True)
class _Directive:
    """One directive: its name in lower case, its argument unquoted; `sound` if it follows the grammar."""

    name: str
    argument: str | None
    sound: bool


def parse_seconds(text: str) -> int | None:
    """Parse `delta-seconds` (RFC 9111 §1.2.2), at most `MAX_SECONDS`; None for anything but ASCII digits."""
    if not (text.isascii() and text.isdigit()):
        return None
    digits = text.lstrip("0") or "0"
    return MAX_SECONDS if len(digits) > 10 else min(int(digits), MAX_SECONDS)


def _directives(value: str) -> Iterator[_Directive]:
    for member in split_list(value):
        # White space or a semicolon does not separate directives, nor may it stand around "=" (§5.2). What stands
        # between them is read as directives all the same, so that no restriction is lost, but none of them is sound.
        phrases = split_list(member.replace("\t", " "), ";")
        for part in (part for phrase in phrases for part in split_list(phrase, " ")):
            name = TOKEN.match(part)
            if name is None:
                continue
            rest = part[name.end() :]
            argument = rest[1:] if rest.startswith("=") else None
            if argument is not None and argument.startswith('"'):
                argument = unquote(argument)
                sound = argument is not None
            else:
                sound = not rest if argument is None else TOKEN.fullmatch(argument) is not None
            yield _Directive(name[0].lower(), argument, sound and part == member)


def _smallest(found: list[_Directive], name: str) -> int | None:
    """Return the smallest number of seconds that a directive of that name gives; a malformed one gives 0."""
    given = [_seconds(directive) or 0 for directive in found if directive.name == name]
    return min(given, default=None)


def _seconds(directive: _Directive) -> int | None:
    return parse_seconds(directive.argument) if directive.sound and directive.argument is not None else None


@dataclass(frozen=True, slots=True)
class CacheControl:
    """The directives of a response that a shared cache obeys. Times in seconds, None if the directive is absent.

    The qualified forms `no-cache="…"` and `private="…"` count as the unqualified ones (§5.2.2.4 and §5.2.2.7 note that
    caches do so). Directives not named here are ignored (§5.2.3).
    """

    max_age: int | None = None
    s_maxage: int | None = None
    stale_while_revalidate: int | None = None
    stale_if_error: int | None = None
    no_store: bool = False
    no_cache: bool = False
    private: bool = False
    must_revalidate: bool = False
    proxy_revalidate: bool = False
    must_understand: bool = False

    @classmethod
    def of(cls, fields: Fields) -> CacheControl:
        """Read the `Cache-Control` lines of a response."""
        value = fields.combined("Cache-Control")
        return _response(value) if value else _NONE

    @property
    def explicit_lifetime(self) -> int | None:
        """Seconds: `s-maxage` before `max-age` in a shared cache (§4.2.1); None if neither is present."""
        return self.max_age if self.s_maxage is None else self.s_maxage

    @property
    def forbids_storing(self) -> bool:
        """`private`, or `no-store`; beside `must-understand` the latter is for caches that do not know the status.

        The statuses that are stored here are known (§5.2.2.3).
        """
        return self.private or (self.no_store and not self.must_understand)

    @property
    def forbids_stale(self) -> bool:
        """Return whether a stale response may not be served, whatever else allows it (§4.2.4).

        `s-maxage` brings the meaning of `proxy-revalidate` with it (§5.2.2.10).
        """
        return self.no_cache or self.must_revalidate or self.proxy_revalidate or self.s_maxage is not None


_NONE: Final = CacheControl()


@lru_cache(maxsize=_REMEMBERED)
def _response(value: str) -> CacheControl:
    found = list(_directives(value))
    names = {directive.name for directive in found}
    return CacheControl(
        max_age=_smallest(found, "max-age"),
        s_maxage=_smallest(found, "s-maxage"),
        stale_while_revalidate=_smallest(found, "stale-while-revalidate"),
        stale_if_error=_smallest(found, "stale-if-error"),
        no_store="no-store" in names,
        no_cache="no-cache" in names,
        private="private" in names,
        must_revalidate="must-revalidate" in names,
        proxy_revalidate="proxy-revalidate" in names,
        # The one directive here that loosens: it counts only if it is well formed.
        must_understand=_Directive("must-understand", None, sound=True) in found,
    )


@dataclass(frozen=True, slots=True)
class RequestDirectives:
    """The directives of a request (§5.2.1). Times in seconds, None if absent.

    `max_stale` is `MAX_SECONDS` if it stands without an argument. `no-store` is not among them: a fill belongs to no
    one client, so none can forbid its storing, and request directives are advice (§5.2.1).
    """

    max_age: int | None = None
    min_fresh: int | None = None
    max_stale: int | None = None
    no_cache: bool = False
    only_if_cached: bool = False

    @classmethod
    def of(cls, fields: Fields) -> Self:
        """Read `Cache-Control`, or `Pragma` if the former is absent (§5.4)."""
        value = fields.combined("Cache-Control")
        if value is None:
            pragma = fields.combined("Pragma") or ""
            return cls(no_cache=any(directive.name == "no-cache" for directive in _directives(pragma)))
        found = list(_directives(value))
        names = {directive.name for directive in found}
        # A malformed max-stale allows nothing, a malformed min-fresh asks for nothing.
        max_stale = [
            MAX_SECONDS if directive.sound and directive.argument is None else _seconds(directive) or 0
            for directive in found
            if directive.name == "max-stale"
        ]
        min_fresh = [_seconds(directive) or 0 for directive in found if directive.name == "min-fresh"]
        return cls(
            max_age=_smallest(found, "max-age"),
            min_fresh=max(min_fresh, default=None),
            max_stale=min(max_stale, default=None),
            no_cache="no-cache" in names,
            only_if_cached="only-if-cached" in names,
        )
