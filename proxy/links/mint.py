"""Minting: a few microseconds, no I/O, anywhere that holds the public URL and a key."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from proxy.errors import BadRequest, FieldProblem, IdentifierError
from proxy.links.claims import NO_CLAIMS, Claims, LinkScope
from proxy.links.keys import KeyRing
from proxy.links.policy import DEFAULT_POLICY, LinkPolicy
from proxy.links.public_url import split_public_url
from proxy.links.reference import parse_reference
from proxy.model import Clock, MediaRef


@dataclass(frozen=True, slots=True)
class MintedLink:
    """A signed link. `expires_at` and `refresh_at` are Unix seconds, `ttl` the seconds that were asked for.

    `refresh_at` is `expires_at - ttl / 2`, rounded down to a whole second: when a page should ask for the next one.
    """

    url: str
    ref: MediaRef
    expires_at: int
    refresh_at: int
    ttl: int


class LinkMinter:
    """A maker of links. Safe to share between threads.

        minter = LinkMinter("https://media.example.com", os.environ["GATEWAY_SIGNING_KEYS"])
        minter.url(request.POST["MediaUrl0"], ttl=600, filename="photo.jpg")

    Give it the gateway's own `GATEWAY_PUBLIC_URL`, `GATEWAY_SIGNING_KEYS` and `GATEWAY_LINK_…`. `clock` gives Unix
    time in seconds. Raises `SettingsError` if a key or the URL cannot be used.
    """

    __slots__ = ("_clock", "keys", "mount", "origin", "policy")

    def __init__(
        self,
        public_url: str,
        keys: KeyRing | str,
        policy: LinkPolicy = DEFAULT_POLICY,
        clock: Clock = time.time,
    ) -> None:
        self.origin, self.mount = split_public_url(public_url)
        self.keys = KeyRing.parse(keys) if isinstance(keys, str) else keys
        self.policy = policy
        self._clock = clock

    def mint(self, ref: MediaRef, *, ttl: int | None = None, claims: Claims = NO_CLAIMS) -> MintedLink:
        """Return a link that opens `ref` for at least `ttl` seconds (1 to the policy's maximum; its default if None).

        The same media, `ttl` and claims within a window give the same URL, byte for byte. Raises `BadRequest` with
        every bad field: `media`, `ttl`, `not_before`.
        """
        problems = _media_problems(ref)
        asked = self.policy.default_ttl if ttl is None else ttl
        problem = self.policy.ttl_problem(asked)
        if problem is not None:
            problems.append(problem)
        # A life that cannot be had may be longer than any number of seconds is; another one stands in for it.
        expires = self.policy.expires(self._clock(), asked if problem is None else self.policy.default_ttl)
        if claims.not_before is not None and claims.not_before >= expires:
            problems.append(FieldProblem("not_before", "must be before the link expires"))
        if problems:
            raise BadRequest("A link like this cannot be minted.", errors=problems)
        message = f"/media/{ref.account.value}/{ref.message.value}/"
        query = f"?expires={expires}&key={self.keys.current}{claims.query()}"
        path = message + ref.media.value
        signature = self.keys.sign((message if claims.scope is LinkScope.MESSAGE else path) + query)
        url = f"{self.origin}{self.mount}{path}{query}&signature={signature}"
        return MintedLink(url, ref, expires, expires - (asked + 1) // 2, asked)

    def url(
        self,
        media: MediaRef | tuple[str, str, str] | str,
        *,
        ttl: int | None = None,
        not_before: int | None = None,
        ip: str | None = None,
        filename: str | None = None,
        disposition: str | None = None,
        scope: str | None = None,
    ) -> str:
        """Return the URL of a link, from plain values.

        `media` is the media's URL or `uri` as the provider gives it, `ACCOUNT/MESSAGE/MEDIA`, the three identifiers,
        or a `MediaRef`; `ip` an address or a CIDR; `disposition` `inline` or `attachment`; `scope` `media` or
        `message`. Raises `BadRequest` with every bad field, also for a value of another type, such as None for a media.
        """
        problems: list[FieldProblem] = []
        ref: MediaRef | None = None
        claims = NO_CLAIMS
        try:
            ref = _read_media(media)
        except IdentifierError as error:
            problems.append(FieldProblem("media", error.detail))
        try:
            claims = Claims.parse(not_before=not_before, ip=ip, filename=filename, disposition=disposition, scope=scope)
        except BadRequest as error:
            problems.extend(error.errors)
        if ref is not None and not problems:
            return self.mint(ref, ttl=ttl, claims=claims).url
        bad_ttl = None if ttl is None else self.policy.ttl_problem(ttl)
        raise BadRequest(
            "A link like this cannot be minted.", errors=problems if bad_ttl is None else [*problems, bad_ttl]
        )


_NO_MEDIA: Final = FieldProblem("media", "must be a URL, ACCOUNT/MESSAGE/MEDIA, three identifiers or a MediaRef")


def _media_problems(ref: object) -> list[FieldProblem]:
    """Return what is wrong with a media that an application names by a value of ours."""
    return [] if isinstance(ref, MediaRef) else [_NO_MEDIA]


def _read_media(media: object) -> MediaRef:
    """Read a media's name. Raises `IdentifierError` for any other value: an application's are not checked."""
    match media:
        case MediaRef():
            return media
        case str():
            return parse_reference(media)
        case (str(account), str(message), str(sid)):
            return MediaRef.parse(account, message, sid)
        case _:
            raise IdentifierError(_NO_MEDIA.message)
