"""The limits of the upstream client: how long it waits, and how much it takes."""

from __future__ import annotations

from dataclasses import dataclass, field

from proxy.upstream.breaker import BreakerPolicy
from proxy.upstream.retry import RetryPolicy


@dataclass(frozen=True, slots=True)
class UpstreamLimits:
    """Times in seconds, sizes in bytes.

    `connect_seconds` is for TCP and TLS; `headers_seconds` for one attempt from the first connection to the last
    hop's fields, and for a free connection before it; `idle_seconds` the longest wait for the next byte of a body;
    `total_seconds` for a whole body; `json_seconds` for one attempt at a whole document.
    `connections_per_account` holds for all workers of the node, `connections_per_group` for this one: of the
    account's, those for media of one message, or for one subaccount; None for all of them.
    """

    connect_seconds: float = 5.0
    headers_seconds: float = 15.0
    idle_seconds: float = 30.0
    total_seconds: float = 300.0
    json_seconds: float = 15.0
    connections_per_account: int = 32
    connections_per_group: int | None = None
    max_media_bytes: int = 100_000_000
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    breaker: BreakerPolicy = field(default_factory=BreakerPolicy)
