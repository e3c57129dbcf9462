"""The options that a sandbox is started with."""

from __future__ import annotations

import enum
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, assert_never

from proxy.model import AccountSid, Clock, Provider


class Mode(enum.StrEnum):
    """The API's answer to a fetch of a media's bytes."""

    REDIRECT_SIGNED = "redirect-signed"
    """307 to a CDN address that carries a signature and ends after some hours."""
    REDIRECT_PUBLIC = "redirect-public"
    """307 to a public CDN address, as for media stored while authentication was off."""
    DIRECT = "direct"
    """200 with the bytes, from the API's own origin."""


_ACCOUNTS: Final = {
    Provider.TWILIO: "AC5a4db0c57e9f4c3d8b21e6f0a97c13d4",
    Provider.SIGNALWIRE: "6f1d0a52-93c8-4be7-a1d4-5e2c80b97f36",
}


@dataclass(frozen=True, slots=True)
class SandboxOptions:
    """The addresses that a sandbox listens at, the provider whose habits it has, and the credentials that it takes.

    Port 0 takes a free port. `mode=None` is the profile's habit: signed redirects for Twilio, the bytes at once
    for SignalWire. `protected=False` makes the bytes public on the API, as both providers once did by default.
    An empty `account_sid` is the profile's fixed one. `link_life` is in seconds; `stall_limit` bounds how long
    a stalled answer waits for its release. `folder` keeps messages and media over a restart; with None they are in a
    temporary folder that is removed at the end. `hosts` are names and addresses that the sandbox answers to with any
    port, besides loopback ones and those that it listens at.
    """

    profile: Provider = Provider.TWILIO
    mode: Mode | None = None
    protected: bool = True
    api_listen: tuple[str, int] = ("127.0.0.1", 0)
    cdn_listen: tuple[str, int] = ("127.0.0.1", 0)
    account_sid: str = ""
    auth_token: str = "sandbox-token-8c1f47d2e95b03a6"  # noqa: S105 - opens nothing but the sandbox
    api_key_sid: str = "SK3e7a91c5d0b84f62a7c98d1e5f604b2a"
    api_key_secret: str = "sandbox-secret-Q7mZ2xW9kLp4"  # noqa: S105 - opens nothing but the sandbox
    seed: bool = True
    link_life: int = 4 * 3600
    record_limit: int = 10_000
    stall_limit: float = 600.0
    folder: Path | None = None
    clock: Clock = time.time
    hosts: tuple[str, ...] = ()

    @property
    def account(self) -> AccountSid:
        """The one account. Raises `IdentifierError` if the text is not an identifier."""
        return AccountSid.parse(self.account_sid or _ACCOUNTS[self.profile])

    @property
    def first_mode(self) -> Mode:
        if self.mode is not None:
            return self.mode
        match self.profile:
            case Provider.TWILIO:
                return Mode.REDIRECT_SIGNED
            case Provider.SIGNALWIRE:
                return Mode.DIRECT
            case _:
                assert_never(self.profile)
