"""The rules of `semantics.caching` under one policy and clock, applied to stored responses as the tiers find them."""

from __future__ import annotations

from proxy.cache.body import Body, RamBody
from proxy.cache.counters import FROM_SHARED, STALE_IF_ERROR, UNVALIDATED, counter_of
from proxy.cache.entry import Entry, Representation
from proxy.cache.result import CacheResult
from proxy.cache.stored import StoredResponse
from proxy.errors import UpstreamError
from proxy.model import Clock
from proxy.origin import PRESENTED
from proxy.semantics.cache_status import CacheStatus, Fwd
from proxy.semantics.caching import Decision, Fail, Reuse, ReuseStale, decide, on_error
from proxy.semantics.fields import Fields
from proxy.semantics.freshness import FreshnessPolicy, current_age, freshness_lifetime
from proxy.semantics.stored import StoredMetadata


class Rules:
    """The rules under one policy: the use of a stored response now, and what `Cache-Status` says of it."""

    def __init__(self, policy: FreshnessPolicy, clock: Clock) -> None:
        self.policy = policy
        self._clock = clock

    def decide(self, stored: StoredResponse | None, request: Fields, *, doubted: bool) -> Decision:
        """Decide what to do for a request. `doubted`: the stored response may have been erased elsewhere."""
        return decide(
            stored.metadata if stored else None,
            request,
            self._clock(),
            self.policy,
            presented=PRESENTED,
            must_validate=doubted,
        )

    def on_error(self, stored: StoredResponse, error: UpstreamError, *, doubted: bool) -> ReuseStale | Fail:
        """Decide what to do after the upstream failed. `doubted`: only a validation would make the response usable."""
        return on_error(stored.metadata, error, self._clock(), self.policy, presented=PRESENTED, must_validate=doubted)

    @staticmethod
    def after_error(reuse: ReuseStale, reason: Fwd) -> CacheStatus:
        """Return the `Cache-Status` of a response that is used because the upstream failed."""
        return CacheStatus(fwd=reason, detail=STALE_IF_ERROR if reuse.staleness > 0 else UNVALIDATED)

    def may_reuse(self, metadata: StoredMetadata) -> bool:
        """Return whether a response that another gateway has stored may be reused here."""
        return isinstance(decide(metadata, Fields(), self._clock(), self.policy, presented=PRESENTED), Reuse)

    def from_shared(self, metadata: StoredMetadata) -> CacheStatus:
        """Return the `Cache-Status` of a response that the shared tier had."""
        return CacheStatus(hit=True, ttl=int(self._remaining(metadata)), detail=FROM_SHARED)

    def reused(self, entry: Entry) -> CacheResult:
        """Return the answer with a stored response that is reused now, but for its bytes."""
        status = CacheStatus(hit=True, ttl=int(self._remaining(entry.metadata)))
        return self.result(entry.representation, RamBody(b"", utf8=entry.utf8), status, 1, in_ram=True)

    def result(
        self,
        representation: Representation,
        body: Body,
        status: CacheStatus,
        attempt: int,
        *,
        in_order: bool = False,
        stale: bool = False,
        in_ram: bool = False,
    ) -> CacheResult:
        """Return an answer, with its age and freshness as they are now."""
        age = current_age(representation.metadata, self._clock())
        remaining = self._lifetime(representation.metadata) - age
        counter = counter_of(status, stale=stale, in_ram=in_ram)
        return CacheResult(representation, body, age, remaining, status, counter, in_order, attempt)

    def _remaining(self, metadata: StoredMetadata) -> float:
        return self._lifetime(metadata) - current_age(metadata, self._clock())

    def _lifetime(self, metadata: StoredMetadata) -> float:
        return freshness_lifetime(metadata.fields, metadata.answered_at, self.policy)
