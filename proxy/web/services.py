"""What the composition root hands to the handlers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

from proxy.cache.engine import Engine
from proxy.clients import ClientRegistry
from proxy.limits import FailureLimit
from proxy.links import KeyRing, LinkMinter, LinkPolicy
from proxy.model import Clock
from proxy.semantics.trusted_proxies import TrustedProxies
from proxy.settings import ContentMode, CorsOrigins
from proxy.telemetry.access_batch import AccessBatch
from proxy.telemetry.metrics import Metrics
from proxy.upstream.cdn_purge import CdnPurges
from proxy.upstream.client import UpstreamClient
from proxy.upstream.providers import Accounts
from proxy.web.admin.deletion import Deletions
from proxy.web.exchange import RequestIds
from proxy.web.media.young_messages import YoungMessages

_SPARE_SECONDS: Final = 240.0
"""How far the clocks of nodes may differ: with the leeway of a link, five minutes beyond the longest one."""


@dataclass(slots=True)
class Readiness:
    """Whether new work is wanted: not where a gateway ends (`draining`) or a worker has a successor (`retiring`)."""

    draining: bool = False
    retiring: bool = False

    @property
    def last_answers(self) -> bool:
        """Whether each connection ends with its next answer."""
        return self.draining or self.retiring


@dataclass(frozen=True, slots=True)
class Gateway:
    """What the composition root hands to the handlers. `mount` is the path prefix of the public URL.

    `fill_seconds`: what the longest fetch of a media takes.
    """

    clock: Clock
    keys: KeyRing
    policy: LinkPolicy
    minter: LinkMinter
    clients: ClientRegistry
    accounts: Accounts
    upstream: UpstreamClient
    engine: Engine
    cdn: CdnPurges
    deletions: Deletions
    trusted: TrustedProxies
    bad_links: FailureLimit
    bad_clients: FailureLimit
    young_messages: YoungMessages
    mount: str
    content_mode: ContentMode
    auth_header: str
    shared_caches: bool
    cors: CorsOrigins
    server_timing: bool
    body_seconds: float
    body_bytes: int
    fill_seconds: float
    readiness: Readiness = field(default_factory=Readiness)

    @property
    def revocation_seconds(self) -> float:
        """Seconds until every link that is acceptable now has expired, on every node."""
        return self.policy.longest_life + _SPARE_SECONDS

    @property
    def tombstone_seconds(self) -> float:
        """The same, and until every fetch that began before has ended."""
        return self.revocation_seconds + self.fill_seconds

    metrics: Metrics = field(default_factory=Metrics)
    access: AccessBatch = field(default_factory=AccessBatch)
    request_ids: RequestIds = field(default_factory=RequestIds)


GATEWAY: Final = web.AppKey("gateway", Gateway)
