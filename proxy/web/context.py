"""What handlers find in the application and in a request."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from itertools import count
from typing import Final, Protocol

from aiohttp import web

from proxy.cache.body import FileBody
from proxy.cache.engine import Engine
from proxy.cache.entry import Representation
from proxy.clients import ClientRegistry
from proxy.errors import GatewayError
from proxy.limits import FailureLimit
from proxy.links import KeyRing, LinkMinter, LinkPolicy
from proxy.model import Clock, MediaRef, MessageRef
from proxy.semantics.forwarding import TrustedProxies
from proxy.settings import ContentMode, CorsOrigins
from proxy.telemetry.access_batch import AccessBatch
from proxy.telemetry.metrics import CacheOutcome, Metrics
from proxy.upstream.cdn_purge import CdnPurges
from proxy.upstream.client import UpstreamClient
from proxy.upstream.providers import Accounts
from proxy.web.admin.deletion import Deletions
from proxy.web.http.problems import problem
from proxy.web.media.server_timing import ServerTiming

Address = IPv4Address | IPv6Address

_SPARE_SECONDS: Final = 240.0
"""How far the clocks of nodes may differ: with the leeway of a link, five minutes beyond the longest one."""


class YoungMessages:
    """The moment at which each message was first met, for a bounded number of messages.

    A 404 of a message that has just come may be transient.
    """

    _YOUNG_SECONDS: Final = 120.0
    _MESSAGES: Final = 20_000

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._met: OrderedDict[tuple[str, str], float] = OrderedDict()

    def meet(self, ref: MediaRef | MessageRef) -> bool:
        """Note that this message, or that of this media, was asked for, and return whether it is young.

        It is young for two minutes after it was first met.
        """
        now = self._clock()
        met = self._met.setdefault((ref.account.value, ref.message.value), now)
        if len(self._met) > self._MESSAGES:
            self._met.popitem(last=False)
        return now - met < self._YOUNG_SECONDS


class RequestIds:
    """Makes the ids of requests, 32 hexadecimal digits: 64 bits by chance for all of a worker's, then a number."""

    def __init__(self) -> None:
        self._run = secrets.token_hex(8)
        self._numbers = count(1)

    def make(self) -> str:
        """One more."""
        return f"{self._run}{next(self._numbers):016x}"


Headers = Callable[[], dict[str, str]]
"""Makes the fields of an answer as they are at that moment."""


class FileSender(Protocol):
    """Sends stored files past this process's memory; the server has one where it can."""

    async def __call__(
        self, request: web.Request, status: int, headers: Headers, body: FileBody, first: int, size: int
    ) -> web.StreamResponse | None:
        """Answer with `size` bytes, at least one, from `first`; None where it takes the ordinary way.

        Raises `StoreError` where the file cannot be read, `ClientGone` where the client is.
        """
        ...


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


@dataclass(slots=True)
class Exchange:
    """What is learnt of one request on its way.

    `client` is None behind a unix socket that names none. `answer` is set when its head goes out; `sent` counts the
    bytes of its body that were streamed, `cache` is where they came from. `timing` is there once a media is open, where
    it is asked for. `refusal` makes the answer to an error, given the request's id. `reused` is the stored response
    that a good answer came from, where no upstream was asked. `by_proxy`: a trusted proxy is at the connection's other
    end; `trace_id` is the trace that it counts the request to.
    """

    request_id: str
    client: Address | None
    client_id: str | None = None
    answer: web.StreamResponse | None = None
    sent: int = 0
    cache: CacheOutcome = CacheOutcome.NONE
    timing: ServerTiming | None = None
    refusal: Callable[[GatewayError, str], web.Response] = problem
    reused: Representation | None = None
    by_proxy: bool = False
    trace_id: str | None = None


GATEWAY: Final = web.AppKey("gateway", Gateway)
FILE_SENDER: Final[web.AppKey[FileSender]] = web.AppKey("file_sender")
EXCHANGE: Final = web.RequestKey("exchange", Exchange)
