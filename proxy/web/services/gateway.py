"""The services that the composition root hands to the handlers, grouped by what a handler needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

from proxy.cache.engine import Engine
from proxy.clients import ClientRegistry
from proxy.limits import FailureLimit
from proxy.links import LinkMinter
from proxy.model import Clock
from proxy.semantics.trusted_proxies import TrustedProxies
from proxy.settings import ContentMode, CorsOrigins
from proxy.telemetry.access_log import AccessBatch
from proxy.telemetry.metrics import Metrics
from proxy.upstream.cdn_purge import CdnPurges
from proxy.upstream.client import UpstreamClient
from proxy.upstream.providers import Accounts
from proxy.web.exchange import RequestIds
from proxy.web.services.deletion import Deletions
from proxy.web.services.lane_tally import LaneTally
from proxy.web.services.young_messages import YoungMessages


@dataclass(frozen=True, slots=True)
class Links:
    """Signed links: `minter` holds the keys, the policy and the public URL by which they are verified as well.

    `failures` counts links without a good signature, by the address that sent them.
    """

    minter: LinkMinter
    failures: FailureLimit


@dataclass(frozen=True, slots=True)
class Clients:
    """The gateway's clients. `failures` counts wrong credentials, by the address that sent them."""

    registry: ClientRegistry
    failures: FailureLimit


@dataclass(frozen=True, slots=True)
class MediaSource:
    """Media, stored or at their provider, and how they are answered.

    `content_mode` is how the providers' own paths give the bytes. `shared_caches`: a cache in front may store answers.
    `server_timing`: answers say how long their steps took.
    """

    engine: Engine
    accounts: Accounts
    upstream: UpstreamClient
    young_messages: YoungMessages
    content_mode: ContentMode
    shared_caches: bool
    server_timing: bool


@dataclass(frozen=True, slots=True)
class Erasing:
    """Invalidations that clients ask for; the engine carries them out.

    `deletions` deletes at the provider too, `cdn` tells a cache in front. A revocation holds for `revocation_seconds`:
    until every link that is acceptable now has expired, on every node.
    """

    deletions: Deletions
    cdn: CdnPurges
    revocation_seconds: float


@dataclass(frozen=True, slots=True)
class RequestRules:
    """Rules for every request: which proxies are trusted, which origins may read, and how large a body may be.

    A body may take `body_seconds` to come. `auth_header` is the field in which a proxy in front names a link.
    """

    trusted: TrustedProxies
    cors: CorsOrigins
    auth_header: str
    body_seconds: float
    body_bytes: int


@dataclass(frozen=True, slots=True)
class Telemetry:
    """The counts of this worker, its access log, and the ids by which its requests are known there.

    `lane` keeps the answers of the express lane that `metrics` does not count yet.
    """

    metrics: Metrics
    lane: LaneTally
    access: AccessBatch
    request_ids: RequestIds

    def totals(self) -> list[float]:
        """Return the counts of all workers; those of this one are up to date."""
        self.lane.settle()
        return self.metrics.totals()


@dataclass(slots=True)
class Readiness:
    """Signs that new work is not wanted: the gateway ends (`draining`), or the worker has a successor (`retiring`)."""

    draining: bool = False
    retiring: bool = False

    @property
    def last_answers(self) -> bool:
        """Return whether each connection ends with its next answer."""
        return self.draining or self.retiring


@dataclass(frozen=True, slots=True)
class Gateway:
    """A running gateway: every service, started. It ends with the scope that made it."""

    clock: Clock
    links: Links
    clients: Clients
    media: MediaSource
    erasing: Erasing
    requests: RequestRules
    telemetry: Telemetry
    readiness: Readiness = field(default_factory=Readiness)


GATEWAY: Final = web.AppKey("gateway", Gateway)
