"""The sandbox itself: two servers, started and stopped by one scope."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from types import TracebackType
from typing import Final, Self, assert_never

from aiohttp import encode_basic_auth, web

from proxy.errors import SettingProblem, SettingsError
from proxy.model import Provider
from proxy.sandbox.api import Api
from proxy.sandbox.cdn import Cdn
from proxy.sandbox.creation import Creation
from proxy.sandbox.documents import webhook_fields
from proxy.sandbox.fault_board import FaultBoard, FaultRule
from proxy.sandbox.faults import Fault, Point
from proxy.sandbox.fetching import Fetcher
from proxy.sandbox.hosts import parse_host
from proxy.sandbox.messages import Attachment, Direction, Draft, Media, Message
from proxy.sandbox.options import Mode, SandboxOptions
from proxy.sandbox.records import Records, RequestRecord
from proxy.sandbox.samples import ADA, OURS, conversation
from proxy.sandbox.signing import LinkSigner
from proxy.sandbox.state import State
from proxy.sandbox.storage import Storage
from proxy.sandbox.targets import media_path

_SHUTDOWN_SECONDS: Final = 0.5


class Sandbox:
    """A pretend provider, with its API and its CDN on origins of their own.

    An async context manager; its URLs are known inside the scope. Faults and the mode may change at any time.
    """

    def __init__(self, options: SandboxOptions | None = None) -> None:
        """Check the options. Raises `SettingsError` for an account of another profile or a host that is not one.

        Raises `IdentifierError` if the account is not an identifier.
        """
        self.options = options or SandboxOptions()
        account = self.options.account
        if account.provider is not self.options.profile:
            raise SettingsError([SettingProblem("account_sid", f"is not an account of {self.options.profile}")])
        for host in self.options.hosts:
            try:
                parse_host(host)
            except ValueError as error:
                raise SettingsError([SettingProblem("host", str(error))]) from None
        storage = Storage(account, self.options.folder)
        self._fetcher = Fetcher(self.options.clock)
        self._state = State(
            options=self.options,
            storage=storage,
            creation=Creation(storage, self._fetcher),
            faults=FaultBoard(),
            records=Records(self.options.record_limit),
            signer=LinkSigner(hmac.digest(self.options.auth_token.encode(), b"sandbox.cdn.v1", "sha256")),
            mode=self.options.first_mode,
        )
        self._scope = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Start. Raises `SettingsError` if the folder cannot be used, `OSError` if an address cannot be had."""
        async with AsyncExitStack() as scope:
            scope.push_async_callback(self._state.storage.close)
            await self._state.storage.open()
            if self.options.seed:
                await self._state.storage.add_samples(partial(conversation, self._state.now()))
            await scope.enter_async_context(self._fetcher)
            self._state.cdn_url = await _serve(scope, Cdn(self._state).application(), self.options.cdn_listen)
            self._state.api_url = await _serve(scope, Api(self._state).application(), self.options.api_listen)
            # Last in, first out: stalled answers go on before the servers wait for them.
            scope.callback(self._state.faults.clear)
            self._scope = scope.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._scope.aclose()

    @property
    def api_url(self) -> str:
        """The API's origin, with no slash at its end."""
        return self._state.api_url

    @property
    def cdn_url(self) -> str:
        """The CDN's origin, with no slash at its end."""
        return self._state.cdn_url

    @property
    def cdn_host(self) -> str:
        """`host:port` of the CDN, as a list of allowed redirects names it."""
        return self._state.cdn_url.removeprefix("http://")

    @property
    def account_sid(self) -> str:
        return self._state.storage.account.value

    @property
    def auth_token(self) -> str:
        return self.options.auth_token

    @property
    def api_key(self) -> tuple[str, str]:
        """The SID and the secret of an API key."""
        return self.options.api_key_sid, self.options.api_key_secret

    @property
    def authorization(self) -> str:
        """The `Authorization` field that opens the API."""
        return encode_basic_auth(self.account_sid, self.auth_token)

    @property
    def gateway_account(self) -> dict[str, str]:
        """The environment variables that make this sandbox a gateway's one account."""
        match self.options.profile:
            case Provider.TWILIO:
                account = {
                    "TWILIO_ACCOUNT_SID": self.account_sid,
                    "TWILIO_AUTH_TOKEN": self.auth_token,
                    "GATEWAY_UPSTREAM_URL": self.api_url,
                }
            case Provider.SIGNALWIRE:
                account = {
                    "SIGNALWIRE_SPACE": self.api_url,
                    "SIGNALWIRE_PROJECT_ID": self.account_sid,
                    "SIGNALWIRE_API_TOKEN": self.auth_token,
                }
            case _:
                assert_never(self.options.profile)
        return {**account, "GATEWAY_REDIRECT_HOSTS": self.cdn_host}

    def media_url(self, media: Media) -> str:
        """Return the address of a media's bytes, as the provider gives it in a webhook."""
        return self.api_url + media_path(media.ref)

    @property
    def mode(self) -> Mode:
        return self._state.mode

    @mode.setter
    def mode(self, mode: Mode) -> None:
        self._state.mode = mode

    @property
    def messages(self) -> tuple[Message, ...]:
        """Every message as it is now, oldest first."""
        return tuple(self._state.storage)

    async def add_message(
        self,
        media: Sequence[tuple[str, bytes]] = (),
        *,
        from_: str = ADA,
        to: str = OURS,
        body: str = "",
        direction: Direction = Direction.INBOUND,
        date_created: float | None = None,
    ) -> Message:
        """Store a message with media given as type and octets, of any number and size.

        `date_created` is Unix time, now if None. Raises `StoreError` if the disk fails.
        """
        attachments = tuple(
            Attachment(content_type, f"media-{number}", octets)
            for number, (content_type, octets) in enumerate(media, 1)
        )
        created = int(self._state.now() if date_created is None else date_created)
        return await self._state.storage.add(Draft(from_, to, body, direction, created, attachments))

    def webhook_fields(self, message: Message) -> dict[str, str]:
        """Return the form fields that the provider would post to an application's webhook for this message."""
        return webhook_fields(message, self.api_url)

    @property
    def requests(self) -> tuple[RequestRecord, ...]:
        """The last requests that either server received, oldest first."""
        return tuple(self._state.records)

    def clear_requests(self) -> None:
        self._state.records.clear()

    def fault(
        self,
        fault: Fault,
        *,
        media_sid: str | None = None,
        times: int | None = None,
        seconds: float | None = None,
        point: Point | None = None,
    ) -> FaultRule:
        """Lay a fault on: for one media or for all, for so many requests or seconds, or until it is cleared.

        Raises `ValueError` if the fault cannot act at that point, or too many are laid on.
        """
        until = None if seconds is None else self._state.now() + seconds
        return self._state.faults.add(fault, point=point, media_sid=media_sid, times=times, until=until)

    def clear_faults(self) -> None:
        """Take every fault off, and let every stalled answer go on."""
        self._state.faults.clear()


async def _serve(scope: AsyncExitStack, application: web.Application, listen: tuple[str, int]) -> str:
    """Start a server that `scope` stops, and return its origin."""
    host, port = listen
    # No lingering: it outlives the runner if the client has gone. The application reads bodies out itself.
    runner = web.AppRunner(
        application,
        access_log=None,
        handler_cancellation=False,
        shutdown_timeout=_SHUTDOWN_SECONDS,
        lingering_time=0,
    )
    scope.push_async_callback(runner.cleanup)
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    address = runner.addresses[0]
    return f"http://[{host}]:{address[1]}" if ":" in host else f"http://{host}:{address[1]}"
