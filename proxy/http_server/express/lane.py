"""The way of a request through the lane's tables: answering what is known, learning from ordinary answers.

The rules are numbered in the package's docstring.
"""

from __future__ import annotations

import logging
from ipaddress import ip_address
from time import perf_counter
from typing import Final

from aiohttp import web
from aiohttp.http import RawRequestMessage
from aiohttp.web_protocol import RequestHandler

from proxy.bounded_table import BoundedTable
from proxy.cache.counters import Counter
from proxy.cache.stored import StoredResponse
from proxy.errors import LinkError
from proxy.http_server.express.heads import REASONS, Heads
from proxy.http_server.express.memo import Answer, FileAnswer, Head, KnownLink, Peer, Ready, Shape, ShapeKey
from proxy.http_server.express.request import LONGEST_HEAD, LONGEST_START, cut, read_head
from proxy.http_server.file_transfer import TURN
from proxy.links import NO_CLAIMS, VerifiedLink, verify
from proxy.semantics.freshness import client_lifetime
from proxy.semantics.trusted_proxies import client_address
from proxy.telemetry.access_log import Words, client_words, shown_target
from proxy.telemetry.metrics import CacheOutcome, Route
from proxy.telemetry.redaction import HIDDEN
from proxy.web.exchange import EXCHANGE
from proxy.web.services.gateway import Gateway

_log: Final = logging.getLogger("media_gateway.server")

_LINKS: Final = 16_384
_HEADS: Final = 4_096
_SHAPES: Final = 8_192
_READY: Final = 4_096

_SIGNATURE: Final = 43


class ExpressLane:
    """The lane of one worker: its tables, and the answers from them."""

    def __init__(self, gateway: Gateway) -> None:
        # Every answer asks these.
        self._clock = gateway.clock
        self._engine = gateway.media.engine
        self._tiers = self._engine.tiers
        self._memory = self._tiers.memory
        self._metrics = gateway.telemetry.metrics
        self._readiness = gateway.readiness
        self._directives = self._engine.honours_request_directives
        self._links: BoundedTable[bytes, KnownLink] = BoundedTable(_LINKS)
        self._heads: BoundedTable[bytes, Head] = BoundedTable(_HEADS)
        self._shapes: BoundedTable[ShapeKey, Shape] = BoundedTable(_SHAPES)
        self._made = Heads(gateway)
        # The answers of this second.
        self._second = 0
        self._ready: dict[bytes, Ready] = {}
        self._access = gateway.telemetry.access
        self._logged = gateway.telemetry.access.wanted
        self._tally = gateway.telemetry.lane
        self._new_id = gateway.telemetry.request_ids.make
        # Its keys, policy and mount are those by which links are verified.
        self._minter = gateway.links.minter
        self._prefix = f"{self._minter.mount}/media/"
        self._trusted = gateway.requests.trusted
        self._accounts = gateway.media.accounts
        self._accounts.on_loss(self._forget)

    def _forget(self) -> None:
        """Forget every answer: accounts are gone, and their media may not be served any more."""
        self._ready.clear()
        self._links.clear()
        self._shapes.clear()

    def close(self) -> None:
        """Count the answers that are not counted yet."""
        self._tally.settle()

    def peer(self, peername: object) -> Peer:
        """Make the peer of a transport's `peername`: a tuple that begins with the address, or a unix socket's."""
        host = peername[0].partition("%")[0] if isinstance(peername, tuple) and peername else None
        trusted = self._trusted
        address = client_address(ip_address(host) if host else None, (), trusted)
        # A trusted proxy is believed about its client, so its heads are kept apart from those of others.
        # An untrusted peer's scope is the space alone: whatever it sends cannot look like another scope.
        scope = str(address) if address in trusted else ""
        return Peer(client_words(address), f"{scope} ".encode())

    # --- answering ---

    def answer(self, octets: bytes, peer: Peer) -> Answer | None:
        """Return the answer to one request, counted and logged; None if the request has to go the ordinary way."""
        ready = self._ready.get(peer.scope + octets)
        now = self._clock()
        held = None
        if ready is not None and ready.since <= now < ready.until and ready.epoch == self._tiers.epoch:
            held = self._memory.use(ready.key)
        if ready is None or held is None or held.entry is not ready.entry or self._readiness.last_answers:
            prepared = self._prepare(octets, peer, now)
            if prepared is None:
                return None
            ready, held = prepared
        request_id = self._new_id()
        if not ready.size:
            body: bytes | memoryview = b""
        elif held.content is None:
            return self._from_file(ready, peer, request_id)
        else:
            body = held.content if ready.span is None else memoryview(held.content)[ready.span.start : ready.span.stop]
        ready.answers += 1
        if ready.answers == 1:
            self._tally.add(ready)
        if self._logged:
            # The time is 0: measuring it would cost more than is measured.
            self._access.note((now, 0.0, request_id, ready.sentence(peer.words)))
        return b"".join((ready.before, request_id.encode(), ready.after)), body

    def _from_file(self, ready: Ready, peer: Peer, request_id: str) -> FileAnswer | None:
        body = self._tiers.take_open_file(ready.entry)
        if body is None:
            return None
        span = ready.span or range(ready.entry.length)
        if not body.is_ready(span.start, min(len(span), TURN)):
            # The lane never waits for the disk; and the ordinary path can still answer a file that cannot be read.
            body.release()
            return None

        began = perf_counter()

        def ended(sent: int) -> None:
            body.release()
            seconds = perf_counter() - began
            self._tiers.counters.add(Counter.DISK_HITS)
            self._metrics.answered(Route.MEDIA, ready.status, CacheOutcome.HIT_DISK, seconds, sent, express=True)
            if self._logged:
                sentence = ready.sentence(peer.words) if sent == ready.size else ready.cut_sentence(peer.words, sent)
                self._access.note((self._clock(), seconds, request_id, sentence))

        head = b"".join((ready.before, request_id.encode(), ready.after))
        return FileAnswer(head, body, span, ended, request_id)

    def _prepare(self, octets: bytes, peer: Peer, now: float) -> tuple[Ready, StoredResponse] | None:
        """Return the answer to these bytes for the rest of this second, and what RAM holds of the media."""
        parts = cut(octets)
        if parts is None:
            return None
        start, block, asked = parts
        head = self._heads.use(peer.scope + block)
        if head is None or self._readiness.last_answers:
            return None
        known = self._links.use(start)
        link = known or self._first_seen(start, now)
        if link is None or not link.since <= now < link.expires or (link.is_head and asked):
            return None
        epoch = self._tiers.epoch
        held = self._recall(link.shape, epoch, now)
        if held is None or held.entry is not link.shape.entry:
            return None
        shape = link.shape
        unchanged = head.etag is not None and head.etag == shape.entry.etag
        status = 304 if unchanged else 206 if asked else 200
        rendered = self._made.rendered(shape, status, "" if unchanged else asked, now, is_head=link.is_head)
        if rendered is None:
            return None
        second = int(now)
        if second != self._second:
            self._ready.clear()
            self._second = second
        max_age = b"%d" % client_lifetime(rendered.age, link.expires - now, rendered.remaining)
        until = min(second + 1, link.expires, shape.stale_at)
        counter = Counter.DISK_HITS if held.content is None else Counter.RAM_HITS
        since = max(second, link.since)
        ready = Ready(rendered, link, head, max_age, since=since, until=until, epoch=epoch, counter=counter)
        if known is not None:
            # Most links are used once, so only a link that came before is likely to come again.
            if len(self._ready) >= _READY:
                self._ready.clear()
            self._ready[peer.scope + octets] = ready
        return ready, held

    def _recall(self, shape: Shape, epoch: int, now: float) -> StoredResponse | None:
        """Return what RAM holds of a media if it may be served; asked in full once a second and after invalidations."""
        if shape.recalled_at == int(now) and shape.epoch == epoch:
            return self._memory.use(shape.key)
        held = self._tiers.recall(shape.key)
        if held is not None:
            shape.recalled_at, shape.epoch = int(now), epoch
        return held

    def _first_seen(self, start: bytes, now: float) -> KnownLink | None:
        """Verify a link whose bytes are new, and return it if its media was answered before."""
        method, _, target = start.decode("latin-1").partition(" ")
        if method not in {"GET", "HEAD"} or not target.startswith(self._prefix) or len(start) > LONGEST_START:
            return None
        verified = self._verified(target, now)
        shape = None if verified is None else self._shapes.use(_shape_key(verified))
        return None if shape is None or verified is None else self._remember(start, method, target, verified, shape)

    def _verified(self, target: str, now: float) -> VerifiedLink | None:
        minter = self._minter
        try:
            # The client is None, so that a link that is bound to an address is refused here.
            return verify(target, keys=minter.keys, policy=minter.policy, now=now, client=None, mount=minter.mount)
        except LinkError:
            # The ordinary path will say why, and count it.
            return None

    def _remember(self, start: bytes, method: str, target: str, verified: VerifiedLink, shape: Shape) -> KnownLink:
        # All of a plain link may be shown but its signature, which comes last: cutting it off needs no search.
        plain = verified.claims == NO_CLAIMS and not self._minter.mount
        shown = f"{target[:-_SIGNATURE]}{HIDDEN}" if plain else shown_target(target)
        words = Words({"method": method, "target": shown})
        since = self._minter.policy.earliest(verified.expires, verified.claims.not_before)
        link = KnownLink(shape, since, verified.expires, method == "HEAD", words)
        self._links.put(start, link)
        return link

    # --- learning ---

    def learn(self, octets: bytes, request: web.BaseRequest, response: web.StreamResponse, peer: Peer) -> None:
        """Learn from an ordinary answer that has gone out whole, and from the bytes that asked for it."""
        if not isinstance(request, web.Request) or response.status not in REASONS:
            return
        known = request.get(EXCHANGE)
        if known is None or known.reused is None or known.timing is not None or not response.keep_alive:
            return
        parts, message = cut(octets), request._message
        if parts is None:
            # The parser skips empty lines between messages, so these bytes may not begin with the message.
            return
        start, block, asked = parts
        target = message.path
        if start != f"{message.method} {target}".encode("latin-1", "replace"):
            return
        if not target.startswith(self._prefix) or len(start) > LONGEST_START or len(octets) - len(start) > LONGEST_HEAD:
            return
        head = read_head(message, known, ranges=1 if asked else 0, directives=self._directives)
        verified = None if head is None else self._verified(target, self._clock())
        shape = None if verified is None else self._shape(verified, known.reused.generation)
        if head is None or verified is None or shape is None:
            return
        shape.kinds[message.method == "HEAD", response.status] = self._made.kind(shape, response)
        self._heads.put(peer.scope + block, head)
        self._remember(start, message.method, target, verified, shape)

    def _shape(self, verified: VerifiedLink, generation: str) -> Shape | None:
        """Return the shape of the response that was answered; a new one if another entry has taken its place."""
        if verified.ref.account not in self._accounts:
            # The account has gone while the answer was on its way.
            return None
        key = str(verified.ref)
        held = self._tiers.recall(key)
        if held is None or held.entry.generation != generation:
            return None
        shape = self._shapes.use(_shape_key(verified))
        if shape is None or shape.entry is not held.entry:
            opened = self._engine.reused(held.entry)
            shape = Shape(verified.ref, verified.claims, held.entry, key, stale_at=self._clock() + opened.remaining)
            self._shapes.put(_shape_key(verified), shape)
        return shape


def _shape_key(verified: VerifiedLink) -> ShapeKey:
    # Few links have claims, and claims are slow to compare.
    return verified.ref if verified.claims == NO_CLAIMS else (verified.ref, verified.claims)


_INTERNALS: Final = (
    "_buffer_paused", "_current_request", "_keepalive", "_keepalive_handle", "_keepalive_timeout", "_manager",
    "_messages", "_next_keepalive_close_time", "_paused", "_process_keepalive", "_request_count", "_upgraded",
    "_waiter",
)  # fmt: skip


def express_lane(gateway: Gateway) -> ExpressLane | None:
    """Make the lane; log a warning and return None if this aiohttp lacks an internal that the lane needs."""
    missing = [name for name in _INTERNALS if not hasattr(RequestHandler, name)]
    missing += [name for name in ("should_close", "upgrade", "chunked") if not hasattr(RawRequestMessage, name)]
    if missing:
        _log.warning("The express lane stays off: this aiohttp lacks %s", ", ".join(missing))
        return None
    return ExpressLane(gateway)
