"""What handlers find in the application and in a request."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from aiohttp import web

from proxy.cache.engine import Engine
from proxy.clients import ClientRegistry
from proxy.errors import GatewayError
from proxy.limits import FailureLimit
from proxy.links import KeyRing, LinkMinter, LinkPolicy
from proxy.model import Clock, MessageRef
from proxy.semantics.forwarding import TrustedProxies
from proxy.settings import CorsOrigins
from proxy.upstream.client import UpstreamClient
from proxy.upstream.providers import Accounts
from proxy.web.problems import problem
from proxy.web.server_timing import ServerTiming

Address = IPv4Address | IPv6Address


class Newcomers:
    """When each message was first met, for a bounded number of messages: a 404 of a new one may be transient."""

    _FRESH_SECONDS: Final = 120.0
    _MESSAGES: Final = 20_000

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._met: OrderedDict[MessageRef, float] = OrderedDict()

    def is_fresh(self, message: MessageRef) -> bool:
        """Whether the message was first met in the last two minutes; meets it."""
        now = self._clock()
        met = self._met.setdefault(message, now)
        if len(self._met) > self._MESSAGES:
            self._met.popitem(last=False)
        return now - met < self._FRESH_SECONDS


@dataclass(slots=True)
class Readiness:
    """Whether new work is wanted."""

    draining: bool = False


@dataclass(frozen=True, slots=True)
class Gateway:
    """What the composition root hands to the handlers. `mount` is the path prefix of the public URL."""

    clock: Clock
    keys: KeyRing
    policy: LinkPolicy
    minter: LinkMinter
    clients: ClientRegistry
    accounts: Accounts
    upstream: UpstreamClient
    engine: Engine
    trusted: TrustedProxies
    bad_links: FailureLimit
    bad_clients: FailureLimit
    newcomers: Newcomers
    mount: str
    shared_caches: bool
    cors: CorsOrigins
    server_timing: bool
    body_seconds: float
    body_bytes: int
    readiness: Readiness = field(default_factory=Readiness)


@dataclass(slots=True)
class Exchange:
    """What is learnt of one request on its way.

    `client` is None behind a unix socket that names none. `answer` is set when its head goes out; `sent` counts the
    bytes of its body that were streamed. `timing` is there once a media is open, where it is asked for. `refusal` makes
    the answer to an error, given the request's id.
    """

    request_id: str
    client: Address | None
    client_id: str | None = None
    answer: web.StreamResponse | None = None
    sent: int = 0
    timing: ServerTiming | None = None
    refusal: Callable[[GatewayError, str], web.Response] = problem


GATEWAY: Final = web.AppKey("gateway", Gateway)
EXCHANGE: Final = web.RequestKey("exchange", Exchange)
