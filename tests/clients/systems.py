"""The systems that the providers' documents describe, and the places where a client library finds each of them."""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from pathlib import Path
from typing import assert_never

from proxy.model import MediaRef, Provider
from proxy.sandbox import Media, Message, Mode, Sandbox, SandboxOptions
from tests.functional.harness import CLIENT, KEY

SECRET = CLIENT[1]
API_KEY = f"SK{'7' * 32}"
"""A gateway client's id in the shape of an API key."""


class System(enum.StrEnum):
    """The systems that the libraries speak to."""

    SIGNED = "signed"
    """Twilio where authentication is an option: a fetch of bytes leads to a signed address, good for some hours."""
    ENFORCED = "enforced"
    """Twilio where authentication is enforced: the bytes come at once, to those who have credentials."""
    SIGNALWIRE = "signalwire"
    """SignalWire, whose media are public unless a project protects them."""

    @property
    def options(self) -> SandboxOptions:
        match self:
            case System.SIGNED:
                return SandboxOptions(mode=Mode.REDIRECT_SIGNED, protected=False, seed=False)
            case System.ENFORCED:
                return SandboxOptions(mode=Mode.DIRECT, seed=False)
            case System.SIGNALWIRE:
                return SandboxOptions(profile=Provider.SIGNALWIRE, protected=False, seed=False)
            case _:
                assert_never(self)


@dataclass(frozen=True)
class Place:
    """A base URL and credentials: all that a client library is told. `account` is the account that it asks about."""

    base: str
    account: str
    username: str
    password: str

    def known_as(self, username: str, password: str) -> Place:
        """Return the same place with other credentials."""
        return replace(self, username=username, password=password)

    def path(self, message: Message | str, media: Media | str | None = None, suffix: str = "") -> str:
        """Return the path of a message's list of media, or of one media, as the documents write it."""
        laml = "" if self.account.startswith("AC") else "/api/laml"
        parent = message if isinstance(message, str) else message.sid
        one = "" if media is None else f"/{media if isinstance(media, str) else media.sid}"
        return f"{laml}/2010-04-01/Accounts/{self.account}/Messages/{parent}/Media{one}{suffix}"

    def url(self, message: Message | str, media: Media | str | None = None, suffix: str = "") -> str:
        return self.base + self.path(message, media, suffix)


def upstream_of(sandbox: Sandbox) -> Place:
    """Return the provider itself, with the account's own credentials."""
    return Place(sandbox.api_url, sandbox.account_sid, sandbox.account_sid, sandbox.auth_token)


def gateway_environment(sandbox: Sandbox, folder: Path, **changes: str) -> dict[str, str]:
    """Return the settings of a gateway in front of it; its clients' ids have every shape that the libraries take."""
    if sandbox.account_sid.startswith("AC"):
        account = {
            "TWILIO_ACCOUNT_SID": sandbox.account_sid,
            "TWILIO_AUTH_TOKEN": sandbox.auth_token,
            "GATEWAY_UPSTREAM_URL": sandbox.api_url,
        }
    else:
        account = {
            "SIGNALWIRE_SPACE": sandbox.api_url,
            "SIGNALWIRE_PROJECT_ID": sandbox.account_sid,
            "SIGNALWIRE_API_TOKEN": sandbox.auth_token,
        }
    ids = (CLIENT[0], sandbox.account_sid, API_KEY)
    return {
        **account,
        "GATEWAY_REDIRECT_HOSTS": sandbox.cdn_host,
        "GATEWAY_LISTEN": "127.0.0.1:0",
        "GATEWAY_SIGNING_KEYS": KEY,
        "GATEWAY_CLIENTS": ",".join(f"{name}:{SECRET}" for name in ids),
        "GATEWAY_CACHE_DIR": str(folder),
        "GATEWAY_DRAIN_SECONDS": "5",
        **changes,
    }


def gateway_at(base: str, sandbox: Sandbox) -> Place:
    """Return the gateway, for a program that changed nothing but the host and the secret."""
    return Place(base, sandbox.account_sid, sandbox.account_sid, SECRET)


def unknown_media(media: Media) -> str:
    """Return the identifier of a media that is not there, in the provider's form."""
    return _other(media.sid)


def unknown_message(media: Media) -> str:
    """Return the identifier of a message that is not there."""
    return _other(media.ref.message.value)


def unknown_account(ref: MediaRef) -> str:
    """Return the identifier of an account that is not there."""
    return _other(ref.account.value)


def _other(sid: str) -> str:
    return sid[:-4] + ("0000" if sid[-4:] != "0000" else "1111")
