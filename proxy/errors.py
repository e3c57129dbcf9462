"""Every error the gateway raises on purpose: one tree, each class with its HTTP status and its facts.

An error's `title` and `detail` are written for a client: no upstream URL, credential, signature or local path
ever goes in. What an operator needs besides goes to `note`, which is logged and never sent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

_NO_HEADERS: Mapping[str, str] = MappingProxyType({})
_NO_FACTS: Mapping[str, str] = MappingProxyType({})


class GatewayError(Exception):
    """The root. `status` is an HTTP status code, `kind` a stable slug that names the problem (RFC 9457 `type`)."""

    status: ClassVar[int] = 500
    kind: ClassVar[str] = "internal-error"
    title: ClassVar[str] = "Internal error"

    facts: Mapping[str, str] = _NO_FACTS
    """Fields of the log beside the note: of an upstream's failure `account`, `host` and `part`."""

    def __init__(self, detail: str = "", *, note: str = "") -> None:
        super().__init__(detail or self.title)
        self.detail = detail
        self.note = note

    @property
    def headers(self) -> Mapping[str, str]:
        """Response fields that belong to this error (`Retry-After`, `Allow`, …)."""
        return _NO_HEADERS


# --- settings -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SettingProblem:
    """One thing that is wrong with the settings: the setting's name, as the user wrote it, and what is wrong."""

    name: str
    message: str


class SettingsError(GatewayError):
    """The settings cannot be used. Carries every problem at once; never a secret."""

    kind = "settings"
    title = "The settings cannot be used"

    def __init__(self, problems: Sequence[SettingProblem]) -> None:
        super().__init__("; ".join(f"{p.name}: {p.message}" for p in problems))
        self.problems = tuple(problems)


# --- identifiers and links ------------------------------------------------------------------------------------


class IdentifierError(GatewayError):
    """Text that is not an identifier of a provider. 400 on a mint; other callers translate it."""

    status = 400
    kind = "bad-identifier"
    title = "Not an identifier"


class LinkError(GatewayError):
    """A signed link is refused."""

    status = 403
    kind = "link-refused"
    title = "This link is not valid"


class LinkMalformed(LinkError):
    """The link is not of the one form that is minted."""

    kind = "link-malformed"


class LinkKeyUnknown(LinkError):
    """The link names a signing key that is not on the key ring."""

    kind = "link-key-unknown"


class LinkSignatureInvalid(LinkError):
    """The signature does not cover these bytes."""

    kind = "link-signature-invalid"


class LinkClaimUnmet(LinkError):
    """The signature is good, and a claim of the link is not met by this request."""

    kind = "link-claim-unmet"


class LinkRevoked(LinkError):
    """The signature is good, and what the link opens was revoked; or the gateway cannot tell that it was not."""

    kind = "link-revoked"
    title = "This link was revoked"


class LinkExpired(LinkError):
    """The signature is good, and the link has expired."""

    status = 410
    kind = "link-expired"
    title = "This link has expired"


# --- requests -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """One bad field of a request, by its name or its place (`ttl`, `media[3].url`), and what is wrong with it."""

    field: str
    message: str


class _OfFields(GatewayError):
    """An error of some fields of a request, which `errors` names; its text says the reason of each."""

    def __init__(self, detail: str = "", *, errors: Sequence[FieldProblem] = (), note: str = "") -> None:
        super().__init__(detail, note=note)
        self.errors = tuple(errors)

    def __str__(self) -> str:
        said = super().__str__()
        faults = "; ".join(f"{problem.field}: {problem.message}" for problem in self.errors)
        return f"{said} {faults}" if faults else said


class BadRequest(_OfFields):
    """The request cannot be understood; `errors` names every bad field."""

    status = 400
    kind = "bad-request"
    title = "Bad request"


class Revoked(BadRequest):
    """The links asked for open what was revoked; `errors` names it."""

    status = 409
    kind = "revoked"
    title = "Links to this are revoked"


class Unauthorized(GatewayError):
    """No client, or not this one."""

    status = 401
    kind = "unauthorized"
    title = "Client credentials are missing or wrong"

    @property
    def headers(self) -> Mapping[str, str]:
        return {"WWW-Authenticate": 'Basic realm="media-gateway", charset="UTF-8"'}


class Forbidden(_OfFields):
    """The client is known, and may not do this; `errors` names what it may not use, if that is only a part."""

    status = 403
    kind = "forbidden"
    title = "Not allowed"


class NotFound(GatewayError):
    """The absence of anything at the path asked for."""

    status = 404
    kind = "not-found"
    title = "Not found"


class MethodNotAllowed(GatewayError):
    """Another method is wanted; `allow` lists them."""

    status = 405
    kind = "method-not-allowed"
    title = "Method not allowed"

    def __init__(self, allow: Sequence[str]) -> None:
        super().__init__(f"Allowed here: {', '.join(allow)}.")
        self.allow = tuple(allow)

    @property
    def headers(self) -> Mapping[str, str]:
        return {"Allow": ", ".join(self.allow)}


class PreconditionRefused(GatewayError):
    """A precondition of the request is false (RFC 9110 §15.5.13)."""

    status = 412
    kind = "precondition-failed"
    title = "A precondition of the request is not met"


class RangeRefused(GatewayError):
    """No byte that was asked for exists (RFC 9110 §15.5.17). `content_range` says how many there are."""

    status = 416
    kind = "range-not-satisfiable"
    title = "The requested range is not satisfiable"

    def __init__(self, content_range: str) -> None:
        super().__init__()
        self.content_range = content_range

    @property
    def headers(self) -> Mapping[str, str]:
        return {"Content-Range": self.content_range, "Accept-Ranges": "bytes"}


class ContentTooLarge(GatewayError):
    """The request's body is larger than the limit."""

    status = 413
    kind = "content-too-large"
    title = "Request body too large"


class UnsupportedMediaType(GatewayError):
    """The request's body is of a type that is not read here."""

    status = 415
    kind = "unsupported-media-type"
    title = "Unsupported media type"


class ExpectationRefused(GatewayError):
    """The request's `Expect` is not one that is met here (RFC 9110 §15.5.18)."""

    status = 417
    kind = "expectation-failed"
    title = "The expectation cannot be met"


class _Waitable(GatewayError):
    """An error after which a later try may succeed. `retry_after` is in whole seconds, 1 or more."""

    def __init__(self, detail: str = "", *, retry_after: int = 1, note: str = "") -> None:
        super().__init__(detail, note=note)
        self.retry_after = max(1, retry_after)

    @property
    def headers(self) -> Mapping[str, str]:
        return {"Retry-After": str(self.retry_after)}


class TooManyRequests(_Waitable):
    """This address asks too often."""

    status = 429
    kind = "too-many-requests"
    title = "Too many requests"


class Overloaded(_Waitable):
    """The gateway is full or is shutting down."""

    status = 503
    kind = "overloaded"
    title = "The gateway is busy"


class NotReady(_Waitable):
    """Requests are not taken here now. `parts` tells each part of the gateway, in words that name no place."""

    status = 503
    kind = "not-ready"
    title = "The gateway is not ready"

    def __init__(self, detail: str, parts: Mapping[str, str | bool], *, note: str = "") -> None:
        super().__init__(detail, note=note)
        self.parts = parts


# --- upstream -------------------------------------------------------------------------------------------------


class UpstreamError(GatewayError):
    """The upstream gave no usable answer.

    `host_away`: no connection to the host came about, which says nothing of what was asked for.
    """

    status = 502
    kind = "upstream-error"
    title = "The media could not be fetched"
    host_away: bool = False


class UpstreamUnreachable(UpstreamError):
    """No connection, or it broke before an answer."""

    kind = "upstream-unreachable"


class UpstreamRefusedCredentials(UpstreamError):
    """The upstream refuses the gateway's own credentials (its 401 or 403)."""

    kind = "upstream-refused-credentials"


class UpstreamRefused(UpstreamError):
    """The upstream understood a call of its API and refuses it (a 4xx that speaks of the call itself).

    `answered` is its status; `code`, `message` and `more_info` are what it says, or what stands for that status if
    the upstream says nothing that may be passed on.
    """

    kind = "upstream-refused"

    def __init__(self, answered: int, code: int, message: str, more_info: str) -> None:
        super().__init__(note=f"the origin answered {answered}, code {code}")
        self.answered = answered
        self.code = code
        self.message = message
        self.more_info = more_info


class UpstreamMalformed(UpstreamError):
    """The answer is not what HTTP or the provider's documents allow."""

    kind = "upstream-malformed"


class UpstreamTruncated(UpstreamError):
    """The body ended before, or went past, its announced length."""

    kind = "upstream-truncated"


class UpstreamRedirectRefused(UpstreamError):
    """A redirect leads to a place that is not allowed."""

    kind = "upstream-redirect-refused"


class UpstreamTooLarge(UpstreamError):
    """The body is larger than `GATEWAY_MAX_MEDIA_BYTES`."""

    kind = "upstream-too-large"


class UpstreamBusy(UpstreamError, _Waitable):
    """The upstream asks to be left alone for a while (429, or the breaker is open).

    `rate_limited`: the upstream itself said so, with a 429; `wait_named`: and it said for how long.
    """

    status = 503
    kind = "upstream-busy"
    title = "The upstream is busy"

    def __init__(
        self, detail: str = "", *, retry_after: int | None = None, rate_limited: bool = False, note: str = ""
    ) -> None:
        super().__init__(detail, retry_after=retry_after or 1, note=note)
        self.rate_limited = rate_limited
        self.wait_named = retry_after is not None


class UpstreamTimeout(UpstreamError):
    """The upstream was too slow."""

    status = 504
    kind = "upstream-timeout"
    title = "The upstream was too slow"


class MediaNotFound(UpstreamError):
    """The upstream says 404 or 410, or no account is configured for this media.

    `memory`: the seconds for which the answer may be remembered as far as it says so itself; 0 for not at all.
    """

    status = 404
    kind = "media-not-found"
    title = "There is no such media"

    def __init__(self, detail: str = "", *, memory: float = math.inf, note: str = "") -> None:
        super().__init__(detail, note=note)
        self.memory = memory


class SubaccountRefused(MediaNotFound):
    """The upstream does not open an unconfigured account to the credentials of its parent, so there is none.

    For clients that is a 404 as any other. It does not say that the media has gone.
    """


# --- storage --------------------------------------------------------------------------------------------------


class StoreError(GatewayError):
    """A cache tier failed. It costs speed and never an answer: callers fall through to the next tier."""

    status = 503
    kind = "store-error"
    title = "The cache is not available"


class SharedTierAway(StoreError, _Waitable):
    """The shared tier cannot be reached: what it holds is not found, and what all gateways have to know is not told."""

    kind = "shared-tier-away"
    title = "The shared tier is away"

    def __init__(self, note: str) -> None:
        super().__init__(
            "The tier that the gateways share cannot be reached, and this has to hold in all of them."
            " Try again once it is back.",
            retry_after=5,
            note=note,
        )


class RevocationsFull(StoreError, _Waitable):
    """The bound of remembered revocations and deletions is reached: `most` hold, and no more are taken."""

    kind = "revocations-full"
    title = "Too many revocations and deletions hold"

    def __init__(self, most: int) -> None:
        super().__init__(
            f"At most {most} revocations and deletions are remembered at once (GATEWAY_LIMIT_REVOCATIONS)."
            " Lift some, or try again once some have ended.",
            retry_after=60,
            note=f"{most} revocations and deletions hold, and no more are taken",
        )
