"""The claims of a link besides its media and its time, and the encoding of values in its query."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Final, Self, TypeGuard
from urllib.parse import quote, unquote_to_bytes

from proxy.errors import BadRequest, FieldProblem
from proxy.model import IPAddress, IPNetwork
from proxy.semantics.disposition import Disposition

LATEST_SECOND: Final = 10**12 - 1
"""Unix times in a link have at most 12 digits."""
LONGEST_FILENAME: Final = 255
_SECONDS: Final = re.compile(r"0|[1-9][0-9]{0,11}")
_DISPOSITIONS: Final[Mapping[str, Disposition]] = {"inline": "inline", "attachment": "attachment"}
# C0, DEL and C1 can end a field line or drive a terminal; a lone surrogate has no UTF-8.
_UNFIT: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


class LinkScope(enum.StrEnum):
    """The reach of one signature: one media, or every media of its message, also one that comes later."""

    MEDIA = "media"
    MESSAGE = "message"


@dataclass(frozen=True, slots=True)
class Claims:
    """The optional claims of a link.

    `not_before`: Unix seconds. `ip`: the client's address must lie in this network; an IPv4 client is always compared
    as IPv4. `filename`: 1 to 255 characters, no control characters. `disposition` (RFC 6266 §4.2): `inline` shows the
    media in place, `attachment` offers it for saving. Raises `BadRequest` with every bad field.
    """

    not_before: int | None = None
    ip: IPNetwork | None = None
    filename: str | None = None
    disposition: Disposition | None = None
    scope: LinkScope = LinkScope.MEDIA

    def __post_init__(self) -> None:
        problems: list[FieldProblem] = []
        if self.not_before is not None and not (is_whole(self.not_before) and 0 <= self.not_before <= LATEST_SECOND):
            problems.append(FieldProblem("not_before", "must be a Unix time in whole seconds"))
        # A mapped network holds no client, since mapped addresses are compared as IPv4.
        if isinstance(self.ip, IPv6Network) and self.ip.network_address.ipv4_mapped is not None:
            problems.append(FieldProblem("ip", "must be written as IPv4"))
        if isinstance(self.ip, IPv6Network) and self.ip.network_address.scope_id is not None:
            problems.append(FieldProblem("ip", "must not name a zone"))
        if self.filename is not None and not 1 <= len(self.filename) <= LONGEST_FILENAME:
            problems.append(FieldProblem("filename", f"must have 1 to {LONGEST_FILENAME} characters"))
        if self.filename is not None and _UNFIT.search(self.filename):
            problems.append(FieldProblem("filename", "must have no control characters"))
        if self.disposition is not None and self.disposition not in _DISPOSITIONS:
            problems.append(FieldProblem("disposition", "must be inline or attachment"))
        if problems:
            raise BadRequest("A link cannot claim this.", errors=problems)

    @classmethod
    def parse(
        cls,
        *,
        not_before: int | None = None,
        ip: str | None = None,
        filename: str | None = None,
        disposition: str | None = None,
        scope: str | None = None,
    ) -> Self:
        """Read a caller's values: `ip` is an address or a CIDR, IPv4-mapped ones become IPv4.

        Raises `BadRequest` with every bad field, also for a value of another type.
        """
        problems: list[FieldProblem] = []
        ip = _text("ip", ip, problems)
        filename = _text("filename", filename, problems)
        disposition = _text("disposition", disposition, problems)
        scope = _text("scope", scope, problems)
        network: IPNetwork | None = None
        try:
            network = None if ip is None else _unmapped(ip_network(ip))
        except ValueError:
            problems.append(FieldProblem("ip", "must be an address or a CIDR whose host bits are zero"))
        known = _DISPOSITIONS.get(disposition or "")
        if disposition is not None and known is None:
            problems.append(FieldProblem("disposition", "must be inline or attachment"))
        if scope is not None and scope not in _SCOPES:
            problems.append(FieldProblem("scope", "must be media or message"))
        try:
            claims = cls(
                not_before,
                network,
                filename,
                known,
                _SCOPES.get(scope or "", LinkScope.MEDIA),
            )
        except BadRequest as error:
            raise BadRequest(error.detail, errors=(*problems, *error.errors)) from None
        if problems:
            raise BadRequest("A link cannot claim this.", errors=problems)
        return claims

    @classmethod
    def from_parameters(cls, values: Mapping[str, str]) -> Self:
        """Read a link's decoded parameters, none but claims among them.

        Raises `ValueError` with a text that repeats no value, if one is not in its canonical form or may not stand.
        """
        not_before, ip, disposition = (values.get(name) for name in ("not_before", "ip", "disposition"))
        if disposition is not None and disposition not in _DISPOSITIONS:
            raise ValueError("disposition is neither inline nor attachment")
        # Without a scope a link opens its media alone, so nothing else may say that.
        if values.get("scope", LinkScope.MESSAGE) != LinkScope.MESSAGE:
            raise ValueError("scope is not message")
        try:
            return cls(
                None if not_before is None else parse_seconds("not_before", not_before),
                None if ip is None else _parse_network(ip),
                values.get("filename"),
                _DISPOSITIONS.get(disposition or ""),
                LinkScope.MESSAGE if "scope" in values else LinkScope.MEDIA,
            )
        except BadRequest as error:
            raise ValueError("; ".join(f"{p.field} {p.message}" for p in error.errors)) from None

    def query(self) -> str:
        """Return the claims as they stand in a link, in the minted order: empty, or `&name=value…`."""
        parts: list[str] = []
        if self.not_before is not None:
            parts.append(f"&not_before={self.not_before}")
        if self.ip is not None:
            parts.append(f"&ip={encode_value(str(self.ip))}")
        if self.filename is not None:
            parts.append(f"&filename={encode_value(self.filename)}")
        if self.disposition is not None:
            parts.append(f"&disposition={self.disposition}")
        if self.scope is LinkScope.MESSAGE:
            parts.append("&scope=message")
        return "".join(parts)

    def admits(self, client: IPAddress | None) -> bool:
        """Return whether a client at that address may use the link; None is an address that is not known."""
        if self.ip is None:
            return True
        if client is None:
            return False
        mapped = client.ipv4_mapped if isinstance(client, IPv6Address) else None
        return (mapped or client) in self.ip


NO_CLAIMS: Final = Claims()
CLAIM_NAMES: Final = frozenset({"not_before", "ip", "filename", "disposition", "scope"})
_SCOPES: Final = {member.value: member for member in LinkScope}


def is_whole(value: object) -> TypeGuard[int]:
    """Return whether a caller's value is a whole number, which True and False are not."""
    return isinstance(value, int) and not isinstance(value, bool)


def _text(name: str, value: object, problems: list[FieldProblem]) -> str | None:
    """Return a caller's value that has to be a string or None; note a problem if it is neither."""
    if value is None or isinstance(value, str):
        return value
    problems.append(FieldProblem(name, "must be a string"))
    return None


def encode_value(text: str) -> str:
    """Return the one encoding of a value: RFC 3986 unreserved characters, the rest as upper-case `%XX` of UTF-8."""
    return quote(text, safe="")


def decode_value(raw: str) -> str:
    """Return the text of a value. Raises `ValueError` if `raw` is not the one encoding of it."""
    text = unquote_to_bytes(raw).decode("utf-8", "replace")
    # Bytes that are not UTF-8 became U+FFFD, which encodes to other bytes.
    if encode_value(text) != raw:
        raise ValueError("a value is not in its canonical encoding")
    return text


def parse_seconds(name: str, text: str) -> int:
    """Parse Unix seconds: decimal digits without sign or leading zero, at most 12. Raises `ValueError`."""
    if not _SECONDS.fullmatch(text):
        raise ValueError(f"{name} is not a Unix time in whole seconds")
    return int(text)


def _parse_network(text: str) -> IPNetwork:
    try:
        network = ip_network(text)
    except ValueError:
        raise ValueError("ip is not a CIDR whose host bits are zero") from None
    # One network has many spellings (`10.0.0.0/255.0.0.0`, `2001:DB8::/32`, no prefix length): one of them is signed.
    if str(network) != text:
        raise ValueError("ip is not in its canonical form")
    return network


def _unmapped(network: IPNetwork) -> IPNetwork:
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    # The mapped range is ::ffff:0:0/96, so a network whose first address lies in it has a prefix of 96 or more.
    return network if mapped is None else IPv4Network((mapped, network.prefixlen - 96))
