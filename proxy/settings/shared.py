"""Where the shared tier is, as settings write it. Parsers raise `ValueError` that repeats nothing secret."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import SecretStr

from proxy.errors import SettingProblem
from proxy.settings.values import parse_text

_EXPECTED: Final = (
    "expected redis://[USER:PASSWORD@]HOST[:PORT][/DB], rediss://… for TLS, or unix://[USER:PASSWORD@]/PATH[?db=DB]"
)
_OPTIONS: Final = frozenset({"db"})
_TLS_OPTIONS: Final = frozenset({"ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile"})


class SharedAway(enum.StrEnum):
    """How what is stored is used while the shared tier is away."""

    BOUNDED = "bounded"
    STRICT = "strict"


@dataclass(frozen=True, slots=True)
class SharedCacheUrl:
    """A Redis; `place` is what a log may say of it, `url` holds the credentials too."""

    url: SecretStr
    place: str


def problem_of(shared: SharedCacheUrl | None) -> SettingProblem | None:
    """What keeps it from being used: the client of Redis is not installed."""
    if shared is None or find_spec("redis") is not None:
        return None
    message = "needs the extra [redis], which is not installed: pip install 'media-gateway[redis]'"
    return SettingProblem("GATEWAY_SHARED_CACHE", message)


def parse_shared_cache(written: object) -> SharedCacheUrl:
    """`redis://`, `rediss://` or `unix://`; a user and a password are percent-encoded, a name alone is the password.

    The query may say `db`, and for TLS `ssl_ca_certs`, `ssl_ca_path`, `ssl_certfile` and `ssl_keyfile`: paths.
    """
    text = parse_text(written)
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError(_EXPECTED) from None
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    match parts.scheme:
        case "redis" | "rediss":
            known = _OPTIONS | _TLS_OPTIONS if parts.scheme == "rediss" else _OPTIONS
            path = unquote(parts.path).removeprefix("/")
            sound = parts.hostname is not None and (not path or path.isdecimal())
            place = f"{parts.scheme}://{parts.hostname}" + ("" if port is None else f":{port}")
        case "unix":
            known = _OPTIONS
            sound = parts.hostname is None and parts.path.startswith("/") and port is None
            place = f"unix://{unquote(parts.path)}"
        case _:
            raise ValueError(_EXPECTED)
    if not sound or parts.fragment or not options.get("db", "0").isdecimal():
        raise ValueError(_EXPECTED)
    if not options.keys() <= known or len(options) != len(parse_qsl(parts.query, keep_blank_values=True)):
        raise ValueError(f"expected no other options than {', '.join(sorted(known))}, each once")
    return SharedCacheUrl(SecretStr(text), place)
