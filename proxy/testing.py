"""A running sandbox, and a gateway in front of it, for a test suite: each in a thread with an event loop of its own.

Every method here is an ordinary one, for synchronous and asynchronous tests alike. The pytest plugin makes fixtures of
both; `running_sandbox` and `running_gateway` serve other test runners.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from proxy.app import make_accounts, make_minter
from proxy.clients import new_secret, new_signing_key
from proxy.links import is_url
from proxy.model import MediaRef
from proxy.processes.service import serving_alone
from proxy.sandbox import (
    Direction,
    Fault,
    FaultRule,
    Media,
    Message,
    Mode,
    Point,
    RequestRecord,
    Sandbox,
    SandboxOptions,
)
from proxy.sandbox.samples import ADA, OURS
from proxy.settings import Settings, load
from proxy.threaded import ThreadScope, held_in_thread
from proxy.upstream.providers import parse_media_url

__all__ = ["LaidFault", "MediaGateway", "MediaSandbox", "running_gateway", "running_sandbox"]

_NO_SETTINGS: Final = MappingProxyType[str, str]({})


# --- the sandbox ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LaidFault:
    """A fault that is laid on; see `MediaSandbox.fault`."""

    _held: ThreadScope[Sandbox]
    _rule: FaultRule

    @property
    def number(self) -> int:
        return self._rule.number

    @property
    def remaining(self) -> int | None:
        """The number of requests that are still to meet it; None for every one."""
        return self._rule.remaining

    def wait_until_reached(self, seconds: float = 10.0) -> None:
        """Wait until a request has met it. Raises `TimeoutError`."""
        self._held.run(asyncio.wait_for(self._rule.reached(), seconds))

    def release(self) -> None:
        """Let every answer that it stalls go on, now and later."""
        self._held.call(self._rule.release)


class MediaSandbox:
    """A running sandbox; made by `running_sandbox`."""

    def __init__(self, held: ThreadScope[Sandbox]) -> None:
        self._held = held
        self._sandbox = held.value

    @property
    def api_url(self) -> str:
        """The API's origin, with no slash at its end."""
        return self._sandbox.api_url

    @property
    def cdn_url(self) -> str:
        """The CDN's origin, with no slash at its end."""
        return self._sandbox.cdn_url

    @property
    def account_sid(self) -> str:
        return self._sandbox.account_sid

    @property
    def auth_token(self) -> str:
        return self._sandbox.auth_token

    @property
    def api_key(self) -> tuple[str, str]:
        """The SID and the secret of an API key."""
        return self._sandbox.api_key

    @property
    def authorization(self) -> str:
        """The `Authorization` field that opens the API."""
        return self._sandbox.authorization

    @property
    def gateway_account(self) -> dict[str, str]:
        """The environment variables that make this the one account of a gateway."""
        return self._sandbox.gateway_account

    @property
    def mode(self) -> Mode:
        """The API's answer to a fetch of bytes; it may be set."""
        return self._held.call(lambda: self._sandbox.mode)

    @mode.setter
    def mode(self, mode: Mode | str) -> None:
        wanted = Mode(mode)
        self._held.call(lambda: setattr(self._sandbox, "mode", wanted))

    @property
    def messages(self) -> tuple[Message, ...]:
        """Every message as it is now, oldest first."""
        return self._held.call(lambda: self._sandbox.messages)

    def add_message(
        self,
        media: Sequence[tuple[str, bytes]] = (),
        *,
        from_: str = ADA,
        to: str = OURS,
        body: str = "",
        direction: Direction = Direction.INBOUND,
        date_created: float | None = None,
    ) -> Message:
        """Store a message with media given as type and octets; `date_created` is Unix time, now if None."""
        return self._held.run(
            self._sandbox.add_message(
                media, from_=from_, to=to, body=body, direction=direction, date_created=date_created
            )
        )

    def media_url(self, media: Media) -> str:
        """Return the address of a media's bytes, as the provider gives it in a webhook."""
        return self._sandbox.media_url(media)

    def webhook_fields(self, message: Message) -> dict[str, str]:
        """Return the form fields that the provider would post to an application's webhook for this message."""
        return self._sandbox.webhook_fields(message)

    @property
    def requests(self) -> tuple[RequestRecord, ...]:
        """The last requests that API and CDN received, oldest first."""
        return self._held.call(lambda: self._sandbox.requests)

    def clear_requests(self) -> None:
        self._held.call(self._sandbox.clear_requests)

    def fault(
        self,
        fault: Fault,
        *,
        media_sid: str | None = None,
        times: int | None = None,
        seconds: float | None = None,
        point: Point | None = None,
    ) -> LaidFault:
        """Lay a fault on: for one media or for all, for so many requests or seconds, or until it is cleared.

        Raises `ValueError` if the fault cannot act at that point, or too many are laid on.
        """
        rule = self._held.call(
            lambda: self._sandbox.fault(fault, media_sid=media_sid, times=times, seconds=seconds, point=point)
        )
        return LaidFault(self._held, rule)

    def clear_faults(self) -> None:
        """Take every fault off, and let every stalled answer go on."""
        self._held.call(self._sandbox.clear_faults)


@contextmanager
def running_sandbox(options: SandboxOptions | None = None) -> Iterator[MediaSandbox]:
    """Run a sandbox within the scope; without options it is Twilio's, and has no message.

    Raises `SettingsError` if it cannot start so.
    """
    wanted = SandboxOptions(seed=False) if options is None else options
    with held_in_thread(Sandbox(wanted), "media-sandbox") as held:
        yield MediaSandbox(held)


# --- the gateway ----------------------------------------------------------------------------------------------


class MediaGateway:
    """A running gateway; made by `running_gateway`."""

    def __init__(self, settings: Settings, client: tuple[str, str]) -> None:
        self.settings = settings
        self.client = client
        """The id and the secret of a gateway client."""
        self._minter = make_minter(settings)
        self._accounts = make_accounts(settings)

    @property
    def url(self) -> str:
        """The public URL: origin and mount path, with no slash at its end."""
        return str(self.settings.public_url)

    def link(
        self,
        media: Media | MediaRef | tuple[str, str, str] | str,
        *,
        ttl: int | None = None,
        not_before: int | None = None,
        ip: str | None = None,
        filename: str | None = None,
        disposition: str | None = None,
        scope: str | None = None,
    ) -> str:
        """Mint a signed link to a media of the sandbox's, as `proxy.LinkMinter.url` does.

        `media` may also be its URL at the sandbox. Raises `BadRequest` with every bad claim, `IdentifierError` if the
        URL is not a media's.
        """
        named = media.ref if isinstance(media, Media) else media
        if isinstance(named, str) and is_url(named):
            named = parse_media_url(named, self._accounts)
        return self._minter.url(
            named, ttl=ttl, not_before=not_before, ip=ip, filename=filename, disposition=disposition, scope=scope
        )


@contextmanager
def running_gateway(sandbox: MediaSandbox, settings: Mapping[str, str] = _NO_SETTINGS) -> Iterator[MediaGateway]:
    """Run a gateway within the scope, on a free port, with a cache folder of its own that is removed.

    `settings` are environment variables that it is started with in place of its own; the environment of the process is
    not read. Raises `SettingsError` if it cannot start so.
    """
    with tempfile.TemporaryDirectory(prefix="media-gateway-") as folder:
        environment = {
            **sandbox.gateway_account,
            "GATEWAY_LISTEN": "127.0.0.1:0",
            "GATEWAY_SIGNING_KEYS": new_signing_key(),
            "GATEWAY_CLIENTS": f"backend:{new_secret()}",
            "GATEWAY_CACHE_DIR": folder,
            "GATEWAY_DRAIN_SECONDS": "1",
            **settings,
        }
        name, _, secret = environment["GATEWAY_CLIENTS"].partition(",")[0].partition(":")
        with held_in_thread(serving_alone(load(environment)), "media-gateway") as held:
            yield MediaGateway(held.value, (name, secret))
