"""The upstream client: walks from a media's identity to its bytes, with the account's credentials.

They go to the account's origin alone: `redirects` says which hops have them.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from types import TracebackType
from typing import Final, Self, TypeVar

import aiohttp

from proxy.errors import (
    MediaNotFound,
    SubaccountRefused,
    UpstreamError,
    UpstreamMalformed,
    UpstreamRefusedCredentials,
    UpstreamTimeout,
    UpstreamTooLarge,
    UpstreamTruncated,
)
from proxy.model import AccountSid, Clock, MediaRef, MessageRef
from proxy.node import Seat
from proxy.origin import OriginHead, Validators
from proxy.semantics.content_coding import Coding
from proxy.semantics.fields import Fields
from proxy.telemetry.metrics import CANCELLED, OK, BodyOutcome, Metrics
from proxy.upstream.answers import body_coding, body_length, failure
from proxy.upstream.body import UpstreamBody
from proxy.upstream.breakers import Breakers, Passage
from proxy.upstream.limits import UpstreamLimits
from proxy.upstream.message_waits import MessageWaits
from proxy.upstream.providers import Account, Accounts, media_path
from proxy.upstream.redirects import REDIRECTS, Hop, first_hop, follow
from proxy.upstream.refusals import MAX_REFUSAL_BYTES, is_refusal, refused
from proxy.upstream.replies import ApiAnswer, UpstreamAnswer
from proxy.upstream.retry import Cause, Setback, Tries, next_wait
from proxy.upstream.slots import Permit, Slots
from proxy.upstream.transport import Method, Transport, finish, received

_log: Final = logging.getLogger("media_gateway.upstream")

_T = TypeVar("_T")

MAX_DOCUMENT_BYTES: Final = 2_000_000
"""The longest document of the API that is read."""

_SAFE: Final = frozenset(Cause)
_UNDONE: Final = frozenset({Cause.UNREACHABLE, Cause.BUSY})


class UpstreamClient:
    """The `Origin` of the configured accounts. Use it within `async with`, which closes all its connections.

    `sleep` waits between attempts, `uniform` gives the jitter, a number in [0, 1), and `monotonic` the time of the
    breakers and of the waits after a 404; all three are for tests to hold.
    """

    def __init__(
        self,
        accounts: Accounts,
        limits: UpstreamLimits,
        clock: Clock,
        metrics: Metrics,
        *,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        uniform: Callable[[], float] = random.random,
        monotonic: Callable[[], float] = time.monotonic,
        seat: Seat | None = None,
    ) -> None:
        self._accounts = accounts
        self._limits = limits
        self._clock = clock
        self._sleep = sleep
        self._uniform = uniform
        self._metrics = metrics
        self._breakers = Breakers(limits.breaker, self._metrics, monotonic, uniform)
        self._message_waits = MessageWaits(limits.retry.not_found_waits, monotonic)
        self.slots = Slots(
            seat or Seat(),
            limits.connections_per_account,
            limits.headers_seconds,
            by_group=limits.connections_per_group,
        )
        self._transport = Transport(accounts, self.slots, connect_seconds=limits.connect_seconds)

    async def __aenter__(self) -> Self:
        self.slots.open()
        await self._transport.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._breakers.close()
        await self._transport.__aexit__(kind, error, trace)
        self.slots.close()

    def account(self, sid: AccountSid) -> Account:
        """Return the account, configured or through its parent. Raises `MediaNotFound` if there is none."""
        account = self._accounts.get(sid)
        if account is None:
            raise MediaNotFound(note=f"account {sid} is not configured")
        return account

    @asynccontextmanager
    async def open(
        self, ref: MediaRef, validators: Validators | None = None, *, young: bool = False
    ) -> AsyncIterator[UpstreamAnswer]:
        """Ask for the bytes of a media; see `Origin.open`."""
        account = self.account(ref.account)
        conditions = _conditions(validators)
        async with AsyncExitStack() as stack:
            yield await self._persist(
                account,
                lambda passage: stack.enter_async_context(self._walk(account, ref, conditions, passage)),
                media_path(ref),
                young=ref.parent if young else None,
            )

    async def call(self, account: Account, method: Method, target: str) -> ApiAnswer:
        """Call the account's API: a GET that is answered 200, or a DELETE that is answered 204.

        `target` is path and query, already encoded. A DELETE is sent again only if the first was certainly not
        carried out: no connection, or a 429. Raises `UpstreamRefused` and the other `UpstreamError`s.
        """
        again = _SAFE if method is Method.GET else _UNDONE
        return await self._persist(
            account, lambda passage: self._exchange(account, method, target, passage), _subject(target), again=again
        )

    def require_asked(self, account: Account, target: str) -> None:
        """Raise `UpstreamBusy` if this call of the account's API would not be made now, since its host fails."""
        self._breakers.require(account, account.origin, _subject(target))

    async def document(self, account: Account, target: str) -> bytes:
        """Fetch a document of the account's API, whole; see `call`."""
        return (await self.call(account, Method.GET, target)).body

    @property
    def longest_call(self) -> float:
        """The most seconds that a call takes: until its last attempt begins, gets a connection, and ends."""
        limits = self._limits
        return limits.retry.within + limits.headers_seconds + limits.json_seconds

    # --- attempts ---------------------------------------------------------------------------------------------

    async def _persist(
        self,
        account: Account,
        attempt: Callable[[Passage], Awaitable[_T]],
        subject: str,
        *,
        young: MessageRef | None = None,
        again: frozenset[Cause] = _SAFE,
    ) -> _T:
        """Attempt until that succeeds or may not be tried again. A 404 of a `young` message is waited out.

        `subject` is the path of what is asked for.
        """
        began = asyncio.get_running_loop().time()
        tries = Tries()
        while True:
            # Asked before the wait for a connection: all connections may hang at an origin that is away.
            self._breakers.require(account, account.origin, subject)
            with Passage(self._breakers, account, subject) as passage:
                try:
                    return await self._counted(account, attempt(passage))
                except UpstreamRefusedCredentials as error:
                    self._metrics.credentials_refused(account.provider)
                    _log.error(
                        "the upstream refuses the credentials of account %s: %s",
                        account.sid,
                        error.note,
                        extra={"facts": passage.facts},
                    )
                    raise
                except SubaccountRefused as error:
                    # Any client that names an account which is not there causes this, so it is not a fault.
                    _log.info(
                        "account %s does not open %s as a subaccount: %s",
                        account.holder,
                        account.sid,
                        error.note,
                        extra={"facts": passage.facts},
                    )
                    raise
                except Setback as setback:
                    if setback.cause not in again or passage.single:
                        raise setback.error from None
                    wait = next_wait(
                        self._limits.retry,
                        setback.cause,
                        tries,
                        not_found_wait=self._not_found_wait(setback, young, tries),
                        retry_after=setback.retry_after,
                        elapsed=asyncio.get_running_loop().time() - began,
                        random=self._uniform(),
                    )
                    if wait is None:
                        raise setback.error from None
                    tries = tries.after(setback.cause)
                    _log.info(
                        "account %s: %s; trying again in %.2f s",
                        account.sid,
                        setback.error.note,
                        wait,
                        extra={"facts": passage.facts},
                    )
            await self._sleep(wait)

    def _not_found_wait(self, setback: Setback, young: MessageRef | None, tries: Tries) -> float | None:
        if setback.cause is not Cause.NOT_FOUND or young is None:
            return None
        return self._message_waits.next(young, tries.not_found)

    async def _counted(self, account: Account, attempt: Awaitable[_T]) -> _T:
        """Count an attempt that fails, and the time of any; one that succeeds counts when its body has ended."""
        clock = asyncio.get_running_loop().time
        began = clock()
        outcome: str | None = CANCELLED
        try:
            result = await attempt
            outcome = None
            return result
        except Setback as setback:
            outcome = setback.error.kind
            raise
        except UpstreamError as error:
            outcome = error.kind
            raise
        finally:
            self._metrics.upstream_answered(account.provider, clock() - began)
            if outcome is not None:
                self._metrics.upstream_call(account.provider, outcome)

    @asynccontextmanager
    async def _walk(
        self, account: Account, ref: MediaRef, conditions: dict[str, str], passage: Passage
    ) -> AsyncIterator[UpstreamAnswer]:
        """Attempt once: from the origin over its redirects to an answer."""
        limits = self._limits
        groups = (f"{ref.account}/{ref.message}", *_groups(account))
        async with self.slots.one(account.holder.value, groups) as permit, AsyncExitStack() as responses:
            hop = first_hop(account, ref)
            # One limit over all hops: aiohttp's own begins again at each byte.
            async with _within(limits.headers_seconds, "no answer in time"):
                while True:
                    requested_at = self._clock()
                    passage.ask(hop.origin)
                    response = await self._send(account, hop, conditions, responses, permit, passage)
                    passage.answered(response.status)
                    fields = received(response)
                    if response.status not in REDIRECTS:
                        break
                    hop = follow(account, ref, hop, fields)
                    await finish(response)
            answered_at = self._clock()
            body = length = None
            coding = Coding.NONE
            ending = _Ending(account, passage, self._metrics)
            if response.status == 200:
                length, coding = body_length(fields, limits.max_media_bytes), body_coding(fields)
                body = UpstreamBody.of(
                    response,
                    length=length,
                    coding=coding,
                    most=limits.max_media_bytes,
                    idle_seconds=limits.idle_seconds,
                    total_seconds=limits.total_seconds,
                    ended=ending.ended,
                )
            elif response.status != 304:
                await finish(response)
                raise failure(
                    response.status,
                    fields,
                    credentials=hop.credentials,
                    now=answered_at,
                    subaccount=account.parent is not None,
                )
            elif not conditions:
                raise UpstreamMalformed(note="a 304 to a request without conditions")
            coded = coding is not Coding.NONE
            # What is announced is the length of the coded body.
            known = None if coded else length
            head = OriginHead(response.status, fields, known, requested_at, answered_at, coded=coded)
            try:
                yield UpstreamAnswer(head, body)
            finally:
                ending.left(has_body=body is not None)

    async def _exchange(self, account: Account, method: Method, target: str, passage: Passage) -> ApiAnswer:
        """Attempt a call once."""
        hop = Hop(account.origin, target, credentials=True)
        async with (
            self.slots.one(account.holder.value, _groups(account)) as permit,
            AsyncExitStack() as responses,
            _within(self._limits.json_seconds, f"no answer to a {method} in time"),
        ):
            passage.ask(hop.origin)
            response = await self._send(account, hop, {}, responses, permit, passage, method)
            passage.answered(response.status)
            fields, status = received(response), response.status
            if status == 200 and method is Method.GET:
                body = await self._read(response, fields, MAX_DOCUMENT_BYTES)
                self._metrics.upstream_call(account.provider, OK)
                return ApiAnswer(status, fields.single("Content-Type") or "", body)
            if is_refusal(status):
                said = b""
                # The refusal is the answer, whatever becomes of its text.
                with suppress(UpstreamMalformed, UpstreamTooLarge, UpstreamTruncated):
                    said = await self._read(response, fields, MAX_REFUSAL_BYTES)
                raise refused(account, status, said)
            await finish(response)
            if method is Method.DELETE and status == 204:
                self._metrics.upstream_call(account.provider, OK)
                return ApiAnswer(status, "", b"")
            subaccount = account.parent is not None
            raise failure(status, fields, credentials=True, now=self._clock(), subaccount=subaccount)

    async def _read(self, response: aiohttp.ClientResponse, fields: Fields, most: int) -> bytes:
        seconds = self._limits.json_seconds
        body = UpstreamBody.of(
            response,
            length=body_length(fields, most),
            coding=body_coding(fields),
            most=most,
            idle_seconds=seconds,
            total_seconds=seconds,
        )
        return b"".join([chunk async for chunk in body.chunks()])

    async def _send(
        self,
        account: Account,
        hop: Hop,
        conditions: dict[str, str],
        responses: AsyncExitStack,
        permit: Permit,
        passage: Passage,
        method: Method = Method.GET,
    ) -> aiohttp.ClientResponse:
        headers = dict(conditions)
        if hop.credentials:
            headers["Authorization"] = aiohttp.encode_basic_auth(account.username, account.password)
        response = await self._transport.send(method, hop, headers, permit, passage)
        # Nothing happens if the body was read to its end; else the connection closes with it.
        responses.callback(response.close)
        return response


def _groups(account: Account) -> tuple[str, ...]:
    """Return the groups of calls that a call of this account is one of: subaccounts share their parent's slots."""
    return () if account.parent is None else (account.sid.value,)


class _Ending:
    """Count of an answered attempt, made once its body has ended or was left."""

    def __init__(self, account: Account, passage: Passage, metrics: Metrics) -> None:
        self._account = account
        self._facts = passage.facts
        self._part = passage.part
        self._metrics = metrics
        self._counted = False

    def ended(self, error: UpstreamError | None) -> None:
        """Count a body that has come whole, or broken off with `error`, which is given the log's fields."""
        if error is not None:
            error.facts = self._facts
        self._count(OK if error is None else error.kind)
        # One that is larger than the gateway takes is not broken.
        if not isinstance(error, UpstreamTooLarge):
            outcome = BodyOutcome.WHOLE if error is None else BodyOutcome.BROKEN
            self._metrics.upstream_body(self._account.provider, self._part, outcome)

    def left(self, *, has_body: bool) -> None:
        """Count an answer that is not needed any more: without a body it has done all it should."""
        if not self._counted:
            self._count(CANCELLED if has_body else OK)

    def _count(self, outcome: str) -> None:
        self._counted = True
        self._metrics.upstream_call(self._account.provider, outcome)


@asynccontextmanager
async def _within(seconds: float, note: str) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise UpstreamTimeout(note=note) from None


def _subject(target: str) -> str:
    """Return the subject of a call: the path, whatever form or page of it is asked for."""
    return target.partition("?")[0].removesuffix(".json").removesuffix(".xml")


def _conditions(validators: Validators | None) -> dict[str, str]:
    """Return our own conditions (RFC 9110 §13.1). A validator that is not printable ASCII cannot be sent."""
    if validators is None:
        return {}
    candidates = {"If-None-Match": validators.etag, "If-Modified-Since": validators.last_modified}
    return {name: value for name, value in candidates.items() if value and value.isascii() and value.isprintable()}
