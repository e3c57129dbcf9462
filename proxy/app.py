"""The composition root: makes a running gateway and its aiohttp application from settings.

Every part gets what it needs by its constructor, and is stopped by the scope that started it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Final

from aiohttp import web

from proxy.cache.disk.folder import Folder
from proxy.cache.disk.store import DiskStore, open_disk
from proxy.cache.engine import Engine
from proxy.cache.fills.registry import FillBounds
from proxy.cache.invalidation.invalidators import Invalidations, LoneInvalidations
from proxy.cache.ram.store import RamStore
from proxy.cache.redis.keys import CHECKPOINT
from proxy.cache.tiers import Tiers
from proxy.clients import ClientRegistry
from proxy.errors import SettingProblem, SettingsError, StoreError
from proxy.limits import FailureLimit
from proxy.links import KeyRing, LinkMinter, LinkPolicy, SigningKey
from proxy.model import Clock
from proxy.node import Seat
from proxy.semantics.freshness import FreshnessPolicy
from proxy.semantics.trusted_proxies import TrustedProxies
from proxy.settings import AccountSettings, Settings
from proxy.telemetry.access_log import AccessBatch
from proxy.telemetry.metrics import Metrics
from proxy.upstream.breaker import BreakerPolicy
from proxy.upstream.cdn_purge import CdnPurges, PurgePlace
from proxy.upstream.client import UpstreamClient
from proxy.upstream.limits import UpstreamLimits
from proxy.upstream.providers import Account, Accounts
from proxy.upstream.retry import RetryPolicy
from proxy.web.admin.minting import mint_links
from proxy.web.admin.purging import purge
from proxy.web.admin.revoking import revoke
from proxy.web.api.media_resource import media_resource
from proxy.web.api.resources import ROOTS
from proxy.web.console.page import OPEN_CONSOLE, console_routes
from proxy.web.exchange import RequestIds
from proxy.web.http.admission import admission, answer_expectation
from proxy.web.http.middleware import exchange, finish_head
from proxy.web.media.forward_auth import authorize
from proxy.web.media.links import open_link
from proxy.web.operations.health import healthz, readyz
from proxy.web.operations.metrics import metrics_for_anyone, metrics_for_observers
from proxy.web.services.deletion import Deletions
from proxy.web.services.gateway import (
    GATEWAY,
    Clients,
    Erasing,
    Gateway,
    Links,
    MediaSource,
    RequestRules,
    Telemetry,
)
from proxy.web.services.lane_tally import LaneTally
from proxy.web.services.young_messages import YoungMessages

if TYPE_CHECKING:
    from proxy.cache.redis.store import SharedTier

_log: Final = logging.getLogger("media_gateway.app")

# A tenth of the time since Last-Modified is next to nothing while a message is young, but its media are read most then.
# The bytes under an identifier never change.
_HEURISTIC_FLOOR_SECONDS: Final = 3_600

_BACKGROUND_DRAIN_SECONDS: Final = 5

# The clocks of nodes may differ by this much: with the leeway of a link, five minutes beyond the longest link.
_CLOCKS_APART_SECONDS: Final = 240.0


def make_minter(settings: Settings, clock: Clock = time.time) -> LinkMinter:
    """Make the minter that these settings describe. Raises `SettingsError`."""
    keys = KeyRing([SigningKey(key.kid, key.secret.get_secret_value()) for key in settings.signing_keys])
    policy = LinkPolicy(settings.link_ttl, settings.link_max_ttl, settings.link_window)
    return LinkMinter(str(settings.public_url), keys, policy, clock)


def make_accounts(settings: Settings) -> Accounts:
    """Make the upstream accounts that these settings describe. Raises `SettingsError`."""
    return Accounts(map(make_account, settings.accounts))


def make_account(account: AccountSettings) -> Account:
    """Make the upstream account that these settings describe. Raises `SettingsError`."""
    return Account.create(
        account.provider,
        account.sid,
        account.username,
        account.password.get_secret_value(),
        account.origin,
        tuple((place.host, place.port) for place in account.redirect_hosts),
        subaccounts=account.subaccounts,
    )


def make_upstream(
    settings: Settings,
    accounts: Accounts,
    metrics: Metrics,
    clock: Clock = time.time,
    *,
    seat: Seat | None = None,
    workers: int = 1,
) -> UpstreamClient:
    """Make the client of the accounts' upstreams, for one of so many workers; it is an async context manager."""
    limits = settings.limits
    # No message or subaccount takes more than three quarters of an account's connections, however much it is asked for.
    by_group = limits.upstream_connections - limits.upstream_connections // 4
    return UpstreamClient(
        accounts,
        UpstreamLimits(
            connect_seconds=limits.connect_seconds,
            headers_seconds=limits.headers_seconds,
            idle_seconds=limits.idle_seconds,
            total_seconds=limits.total_seconds,
            json_seconds=limits.json_seconds,
            connections_per_account=limits.upstream_connections,
            connections_per_group=max(1, by_group // workers),
            max_media_bytes=settings.max_media_bytes,
            retry=RetryPolicy(retry_after_cap=limits.retry_seconds),
            breaker=BreakerPolicy(
                failures=limits.breaker_failures,
                window=limits.breaker_window_seconds,
                pause=limits.breaker_pause_seconds,
                longest_pause=limits.breaker_longest_pause_seconds,
            ),
        ),
        clock,
        metrics,
        seat=seat,
    )


@asynccontextmanager
async def open_gateway(
    settings: Settings,
    metrics: Metrics,
    clock: Clock = time.time,
    *,
    seat: Seat | None = None,
    workers: int = 1,
) -> AsyncIterator[Gateway]:
    """Start a gateway within the scope, whose end stops every part. Raises `SettingsError`.

    The gateway is that of one of `workers`. It counts in `metrics`, and shares its `seat` with the other workers.
    """
    seat = seat or Seat()
    settings.require_serving()
    minter = make_minter(settings, clock)
    accounts = make_accounts(settings)
    async with AsyncExitStack() as stack:
        access = AccessBatch()
        stack.callback(access.flush)
        upstream = await stack.enter_async_context(
            make_upstream(settings, accounts, metrics, clock, seat=seat, workers=workers)
        )
        disk = await _open_disk(stack, settings, metrics, clock, alone=workers == 1)
        invalidations = disk.invalidations if disk is not None else LoneInvalidations(settings.limits.revocations)
        tiers = Tiers(
            RamStore(settings.memory_bytes, metrics),
            disk,
            invalidations=invalidations,
            shared=await _open_shared(stack, settings, invalidations, clock, metrics, stored=disk is not None),
            ram_object_bytes=min(settings.cache_object_memory_bytes, settings.memory_bytes),
            clock=clock,
            metrics=metrics,
        )
        await stack.enter_async_context(tiers.sweeper.sweeping())
        # A program that erases waits for the workers that it knows: from now on this is one of them.
        await tiers.report()
        engine = await stack.enter_async_context(
            Engine(
                upstream,
                tiers,
                _freshness(settings),
                clock,
                FillBounds(
                    most=settings.limits.fills,
                    unread=settings.limits.unread_fills,
                    unread_by_account=settings.limits.unread_fills_per_account,
                    connections=settings.limits.upstream_connections,
                    # A film of the largest size, if the disk is away, and room for the fills beside it.
                    spool_bytes=max(settings.memory_bytes, 2 * settings.max_media_bytes),
                    largest=settings.max_media_bytes,
                    readers_by_account=max(1, settings.limits.connections // 2),
                ),
                seat=seat,
            )
        )
        upstream.slots.wanted = lambda holder, calls: engine.yield_connections(
            lambda ref: (accounts.parent(ref.account) or ref.account).value == holder, calls
        )
        # At the end, work in the background gets a moment of its own, beside the time for answers.
        drain_seconds = min(settings.drain_seconds, _BACKGROUND_DRAIN_SECONDS)
        cdn = await stack.enter_async_context(CdnPurges(_purge_place(settings), drain_seconds=drain_seconds))
        # Until every link that is acceptable now has expired, on every node.
        revocation_seconds = minter.policy.longest_life + _CLOCKS_APART_SECONDS
        deletions = await stack.enter_async_context(
            Deletions(
                engine,
                upstream,
                cdn,
                # And until every fetch that began earlier has ended.
                gone_seconds=revocation_seconds + _longest_fill(settings),
                drain_seconds=drain_seconds,
            )
        )
        yield Gateway(
            clock=clock,
            links=Links(minter, FailureLimit("links", settings.limits.bad_signatures, clock, seat)),
            clients=Clients(
                ClientRegistry(settings.clients),
                FailureLimit("clients", settings.limits.bad_signatures, clock, seat),
            ),
            media=MediaSource(
                engine=engine,
                accounts=accounts,
                upstream=upstream,
                young_messages=YoungMessages(clock),
                content_mode=settings.content_mode,
                shared_caches=settings.cdn,
                server_timing=settings.server_timing,
            ),
            erasing=Erasing(deletions, cdn, revocation_seconds),
            requests=RequestRules(
                trusted=TrustedProxies(settings.trusted_proxies.networks, settings.trusted_proxies.unix),
                cors=settings.cors_origins,
                auth_header=settings.auth_header,
                body_seconds=settings.limits.body_seconds,
                body_bytes=settings.limits.request_body_bytes,
            ),
            telemetry=Telemetry(metrics, LaneTally(metrics, tiers.counters), access, RequestIds()),
        )


def _purge_place(settings: Settings) -> PurgePlace | None:
    url, header = settings.cdn_purge_url, settings.cdn_purge_header
    if url is None:
        return None
    field = None if header is None else (header.name, header.value.get_secret_value())
    return PurgePlace(str(url.origin), url.target, field)


async def _open_disk(
    stack: AsyncExitStack, settings: Settings, metrics: Metrics, clock: Clock, *, alone: bool
) -> DiskStore | None:
    try:
        revocations = settings.limits.revocations
        opening = open_disk(settings.cache_dir, settings.cache_bytes, clock, revocations=revocations, metrics=metrics)
        return await stack.enter_async_context(opening)
    except StoreError as error:
        if not alone:
            # Workers learn of each other's invalidations through the folder.
            message = f"{settings.cache_dir} cannot be used, and several workers need it: {error.note}"
            raise SettingsError([SettingProblem("GATEWAY_CACHE_DIR", message)]) from error
        _log.warning("The cache folder cannot be used, so media are kept in RAM alone: %s", error.note)
        return None


async def _open_shared(
    stack: AsyncExitStack,
    settings: Settings,
    invalidations: Invalidations,
    clock: Clock,
    metrics: Metrics,
    *,
    stored: bool,
) -> SharedTier | None:
    server = settings.shared_server
    if server is None:
        if stored:
            # The log misses changes from now on: without its checkpoint, a later start tells the log what holds here.
            with contextlib.suppress(OSError):
                folder = Folder(settings.cache_dir)
                await asyncio.to_thread(folder.unlink_quietly, settings.cache_dir / CHECKPOINT)
        return None
    from proxy.cache.redis.store import open_shared

    return await stack.enter_async_context(
        open_shared(
            server,
            invalidations,
            settings.cache_dir if stored else None,
            clock,
            max_bytes=settings.limits.shared_bytes,
            away=settings.shared_away,
            seconds=settings.limits.shared_seconds,
            metrics=metrics,
            revocations=settings.limits.revocations,
        )
    )


def _longest_fill(settings: Settings) -> float:
    """Return the seconds of the longest fill: its last attempt may begin late, and then head and bytes have to come."""
    return RetryPolicy().within + settings.limits.headers_seconds + settings.limits.total_seconds


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


def create_app(
    gateway: Gateway, *, console: bool = False, open_console: bool = False, with_metrics: bool = True
) -> web.Application:
    """Make the aiohttp application over a started gateway.

    `console` serves `/console` to clients with the scope `observe`, `open_console` to this machine without one;
    `with_metrics` serves `/metrics` to clients with that scope.
    """
    app = web.Application(middlewares=[exchange], client_max_size=gateway.requests.body_bytes)
    app[GATEWAY] = gateway
    app[OPEN_CONSOLE] = open_console
    app.on_response_prepare.append(finish_head)
    # A proxy in front may remove the mount path of the public URL, or leave it.
    for mount in dict.fromkeys(("", gateway.links.minter.mount)):
        routes = [
            web.route("*", f"{mount}/media/{{link:(?s:.*)}}", open_link),
            *(web.route("*", f"{mount}{root}/{{rest:(?s:.*)}}", media_resource) for root in ROOTS),
            web.post(f"{mount}/links", mint_links),
            web.post(f"{mount}/purge", purge),
            web.post(f"{mount}/revoke", revoke),
            web.get(f"{mount}/auth", authorize),
            web.get(f"{mount}/healthz", healthz),
            web.get(f"{mount}/readyz", readyz),
        ]
        if with_metrics:
            routes.append(web.get(f"{mount}/metrics", metrics_for_observers))
        if console or open_console:
            routes += console_routes(mount)
        for route in routes:
            route.kwargs["expect_handler"] = answer_expectation
        app.add_routes(routes)
    return app


def create_metrics_app(gateway: Gateway) -> web.Application:
    """Make the application for an address that serves `/metrics` alone."""
    app = web.Application(middlewares=[admission])
    app[GATEWAY] = gateway
    app.router.add_get("/metrics", metrics_for_anyone)
    return app
