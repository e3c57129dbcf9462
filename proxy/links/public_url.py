"""The URL at which the gateway is reached from outside: `GATEWAY_PUBLIC_URL`."""

from __future__ import annotations

import re
from typing import Final

from proxy.errors import SettingProblem, SettingsError

# No dot segments: a client removes them before it asks (RFC 3986 §5.2.4), so such a mount would never be met.
_URL: Final = re.compile(
    r"(https?://(?:\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?)((?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~-]+)*)/?"
)


def split_public_url(text: str) -> tuple[str, str]:
    """Split `https://host[:port][/mount]` into origin and mount, which has no final slash and may be empty.

    Raises `SettingsError`.
    """
    match = _URL.fullmatch(text.strip())
    if match is None:
        raise SettingsError(
            [
                SettingProblem(
                    "GATEWAY_PUBLIC_URL", "must be http or https, a host, and at most a path of plain segments"
                )
            ]
        )
    return match[1], match[2]
