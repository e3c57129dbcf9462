"""The composition root: settings in, a running gateway and its aiohttp application out."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from aiohttp import web

from proxy.cache.disk import DiskStore, open_disk
from proxy.cache.engine import Engine
from proxy.cache.memory import MemoryBackend
from proxy.cache.tiers import Tiers
from proxy.clients import ClientRegistry
from proxy.errors import StoreError
from proxy.limits import FailureLimit
from proxy.links import KeyRing, LinkMinter, LinkPolicy, SigningKey
from proxy.model import Clock
from proxy.semantics.forwarding import TrustedProxies
from proxy.semantics.freshness import FreshnessPolicy
from proxy.settings import Settings
from proxy.upstream.client import UpstreamClient, UpstreamLimits
from proxy.upstream.providers import Account, Accounts
from proxy.upstream.retry import RetryPolicy
from proxy.web.console import OPEN, console_routes
from proxy.web.context import GATEWAY, Gateway, Newcomers
from proxy.web.health import healthz, readyz
from proxy.web.middleware import exchange, finish_head
from proxy.web.minting import mint_links
from proxy.web.purging import purge
from proxy.web.signed_links import open_link

_log: Final = logging.getLogger("media_gateway.app")

# A tenth of the time since Last-Modified is next to nothing for a message that has just come, and that is when it is
# looked at most. The bytes under an identifier never change.
_HEURISTIC_FLOOR_SECONDS: Final = 3_600


def make_minter(settings: Settings, clock: Clock = time.time) -> LinkMinter:
    """The minter that these settings describe. Raises `SettingsError`."""
    keys = KeyRing([SigningKey(key.kid, key.secret.get_secret_value()) for key in settings.signing_keys])
    policy = LinkPolicy(settings.link_ttl, settings.link_max_ttl, settings.link_window)
    return LinkMinter(str(settings.public_url), keys, policy, clock)


def make_accounts(settings: Settings) -> Accounts:
    """The upstream accounts that these settings describe. Raises `SettingsError`."""
    return Accounts(
        Account.create(
            account.provider,
            account.sid,
            account.username,
            account.password.get_secret_value(),
            account.origin,
            tuple((place.host, place.port) for place in account.redirect_hosts),
        )
        for account in settings.accounts
    )


def make_upstream(settings: Settings, accounts: Accounts, clock: Clock = time.time) -> UpstreamClient:
    """The client of the accounts' upstreams; an async context manager."""
    limits = settings.limits
    return UpstreamClient(
        accounts,
        UpstreamLimits(
            connect_seconds=limits.connect_seconds,
            headers_seconds=limits.headers_seconds,
            idle_seconds=limits.idle_seconds,
            total_seconds=limits.total_seconds,
            json_seconds=limits.json_seconds,
            connections_per_account=limits.upstream_connections,
            max_media_bytes=settings.max_media_bytes,
            retry=RetryPolicy(retry_after_cap=limits.retry_seconds),
        ),
        clock,
    )


@asynccontextmanager
async def open_gateway(settings: Settings, clock: Clock = time.time) -> AsyncIterator[Gateway]:
    """Everything that handlers use, started; leaving it stops every part. Raises `SettingsError`."""
    settings.require_serving()
    minter = make_minter(settings, clock)
    accounts = make_accounts(settings)
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(make_upstream(settings, accounts, clock))
        tiers = Tiers(
            MemoryBackend(settings.memory_bytes),
            await _open_disk(stack, settings, clock),
            ram_object_bytes=min(settings.cache_object_memory_bytes, settings.memory_bytes),
        )
        engine = await stack.enter_async_context(
            Engine(
                upstream,
                tiers,
                _freshness(settings),
                clock,
                max_fills=settings.limits.fills,
                # What a film of the largest size takes where the disk is away, and room for the fills beside it.
                spool_bytes=max(settings.memory_bytes, 2 * settings.max_media_bytes),
            )
        )
        yield Gateway(
            clock=clock,
            keys=minter.keys,
            policy=minter.policy,
            minter=minter,
            clients=ClientRegistry(settings.clients),
            accounts=accounts,
            upstream=upstream,
            engine=engine,
            trusted=TrustedProxies(settings.trusted_proxies.networks, settings.trusted_proxies.unix),
            bad_links=FailureLimit(settings.limits.bad_signatures, clock),
            bad_clients=FailureLimit(settings.limits.bad_signatures, clock),
            newcomers=Newcomers(clock),
            mount=settings.public_url.mount,
            shared_caches=settings.cdn,
            cors=settings.cors_origins,
            server_timing=settings.server_timing,
            body_seconds=settings.limits.body_seconds,
            body_bytes=settings.limits.request_body_bytes,
        )


async def _open_disk(stack: AsyncExitStack, settings: Settings, clock: Clock) -> DiskStore | None:
    try:
        return await stack.enter_async_context(open_disk(settings.cache_dir, settings.cache_bytes, clock))
    except StoreError as error:
        _log.warning("The cache folder cannot be used; media are kept in RAM alone: %s", error.note)
        return None


def _freshness(settings: Settings) -> FreshnessPolicy:
    return FreshnessPolicy(
        default_lifetime=settings.cache_default_ttl,
        minimum_lifetime=settings.cache_min_ttl,
        heuristic_floor=min(settings.cache_default_ttl, _HEURISTIC_FLOOR_SECONDS),
        negative_lifetime=settings.cache_negative_ttl,
        stale_while_revalidate=settings.cache_stale_while_revalidate,
        stale_if_error=settings.cache_stale_if_error,
        honour_request_directives=settings.cache_request_directives,
    )


def create_app(gateway: Gateway, *, console: bool = False, open_console: bool = False) -> web.Application:
    """The aiohttp application over a started gateway.

    `console` serves `/console` to clients with the scope `observe`, `open_console` to this machine without one.
    """
    app = web.Application(middlewares=[exchange], client_max_size=gateway.body_bytes)
    app[GATEWAY] = gateway
    app[OPEN] = open_console
    app.on_response_prepare.append(finish_head)
    # A proxy in front may take the mount path of the public URL away, or leave it.
    for mount in dict.fromkeys(("", gateway.mount)):
        app.add_routes(
            [
                web.route("*", f"{mount}/media/{{link:(?s:.*)}}", open_link),
                web.post(f"{mount}/links", mint_links),
                web.post(f"{mount}/purge", purge),
                web.get(f"{mount}/healthz", healthz),
                web.get(f"{mount}/readyz", readyz),
            ]
        )
        if console or open_console:
            app.add_routes(console_routes(mount))
    return app
