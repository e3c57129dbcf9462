"""The REST API's origin: messages, their media, and the first hop to the bytes."""

from __future__ import annotations

import base64
import binascii
import hmac
import logging
import secrets
from collections.abc import Mapping
from typing import Final, assert_never

from aiohttp import web

from proxy.errors import StoreError
from proxy.model import Provider
from proxy.sandbox import targets
from proxy.sandbox.control import Control
from proxy.sandbox.delivery import Failing, meet, send_media
from proxy.sandbox.documents import document, error, instance, message_properties
from proxy.sandbox.fault_board import FaultRule
from proxy.sandbox.faults import Point, Redirecting, Status
from proxy.sandbox.listing import QueryError
from proxy.sandbox.locations import first_redirect
from proxy.sandbox.messages import Media
from proxy.sandbox.options import Mode
from proxy.sandbox.records import Origin
from proxy.sandbox.refusals import Refused
from proxy.sandbox.state import State, answer, server, split_target
from proxy.sandbox.targets import Notation, Target

_log = logging.getLogger("media_gateway.sandbox")

_MESSAGES: Final = {
    404: "Not Found",
    429: "Too Many Requests",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
}
_CHANGES: Final = {"DELETE": Point.DELETE, "POST": Point.CREATE}
"""The points of the methods that change something, at any target."""


class Api:
    """The answers for one account."""

    def __init__(self, state: State) -> None:
        self._state = state

    def application(self) -> web.Application:
        parts = {"/_sandbox": Control(self._state).application()}
        return server(self._state, Origin.API, self._handle, self._own_fields, parts)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        path, query = split_target(request)
        notation = targets.error_notation(path, self._state.options.profile)
        target = targets.parse(path, self._state.options.profile)
        if not self._knows(request, target):
            return self._unauthenticated(notation)
        if target is None or target.account != self._state.storage.account:
            return _absent(path, notation)
        if request.method not in target.methods:
            headers = {"Allow": ", ".join(target.methods)}
            return answer(error(405, 20004, "Method not allowed", notation), 405, headers)
        sid = target.ref.media.value if isinstance(target, targets.MediaContent | targets.MediaProperties) else None
        try:
            rule = await meet(request, self._state, _CHANGES.get(request.method, target.point), sid)
            match request.method:
                case "DELETE" if not isinstance(target, targets.MessageListing | targets.MediaListing):
                    return web.Response(status=204) if await self._delete(target) else _absent(path, notation)
                case "POST":
                    return await self._create(request, notation)
                case _:
                    return await self._get(request, target, path, query, notation, rule)
        except QueryError as refusal:
            return answer(error(400, 20001, str(refusal), notation), 400)
        except Failing as failing:
            return _failure(failing.status, path, notation)
        except StoreError as failure:
            _log.warning("The sandbox's storage failed: %s", failure.note)
            return _failure(Status(500), path, notation)

    async def _get(
        self, request: web.Request, target: Target, path: str, query: str, notation: Notation, rule: FaultRule | None
    ) -> web.StreamResponse:
        if isinstance(target, targets.MediaContent):
            media = self._state.storage.media(target.ref)
            return await self._content(request, media, rule) if media else _absent(path, notation)
        found = document(self._state.storage, target, query)
        return answer(found, 200) if found else _absent(path, notation)

    async def _delete(self, target: targets.MessageProperties | targets.MediaProperties | targets.MediaContent) -> bool:
        match target:
            case targets.MessageProperties(message):
                return await self._state.storage.delete_message(message)
            case targets.MediaProperties(media) | targets.MediaContent(media):
                return await self._state.storage.delete_media(media)
            case _:
                assert_never(target)

    async def _create(self, request: web.Request, notation: Notation) -> web.Response:
        try:
            message = await self._state.creation.from_form(request, self._state.now())
        except Refused as refused:
            status = 400 if self._state.options.profile is Provider.TWILIO else 422
            return answer(error(status, refused.refusal.code, refused.refusal.message, notation), status)
        return answer(instance("Message", message_properties(message, notation, created=True), notation), 201)

    async def _content(self, request: web.Request, media: Media, rule: FaultRule | None) -> web.StreamResponse:
        fault = rule.fault if rule else None
        detour = fault if isinstance(fault, Redirecting) else None
        if detour is not None or self._state.mode is not Mode.DIRECT:
            return first_redirect(self._state, media, detour)
        try:
            return await send_media(request, self._state, media)
        except Failing as failing:
            return _failure(failing.status, split_target(request)[0], Notation.XML)

    def _knows(self, request: web.Request, target: Target | None) -> bool:
        credentials = request.headers.get("Authorization")
        if credentials is None:
            open_bytes = not self._state.options.protected and request.method in ("GET", "HEAD")
            return open_bytes and isinstance(target, targets.MediaContent)
        scheme, _, encoded = credentials.partition(" ")
        try:
            given = base64.b64decode(encoded.strip(), validate=True)
        except (binascii.Error, ValueError):
            return False
        options = self._state.options
        pairs = ((options.account.value, options.auth_token), (options.api_key_sid, options.api_key_secret))
        known = [hmac.compare_digest(given, f"{user}:{password}".encode()) for user, password in pairs]
        return scheme.lower() == "basic" and any(known)

    def _unauthenticated(self, notation: Notation) -> web.Response:
        twilio = self._state.options.profile is Provider.TWILIO
        detail = "Your AccountSid or AuthToken was incorrect." if twilio else None
        document = error(401, 20003, "Authenticate", notation, detail)
        return answer(document, 401, {"WWW-Authenticate": 'Basic realm="Twilio API"'})

    def _own_fields(self) -> Mapping[str, str]:
        match self._state.options.profile:
            case Provider.TWILIO:
                return {
                    "Twilio-Request-Id": f"RQ{secrets.token_hex(16)}",
                    "Twilio-Request-Duration": "0.012",
                    "Twilio-Concurrent-Requests": "1",
                    "Access-Control-Expose-Headers": "ETag",
                    "X-Home-Region": "us1",
                    "X-API-Domain": "api.twilio.com",
                    "Strict-Transport-Security": "max-age=31536000",
                }
            case Provider.SIGNALWIRE:
                return {"X-Request-Id": secrets.token_hex(16), "Strict-Transport-Security": "max-age=31536000"}
            case _:
                assert_never(self._state.options.profile)


def _absent(path: str, notation: Notation) -> web.Response:
    return answer(error(404, 20404, f"The requested resource {path} was not found", notation), 404)


def _failure(status: Status, path: str, notation: Notation) -> web.Response:
    if status.status == 404:
        return _absent(path, notation)
    headers = {} if status.retry_after is None else {"Retry-After": status.retry_after}
    message = _MESSAGES.get(status.status, "Error")
    return answer(error(status.status, 20_000 + status.status % 1_000, message, notation), status.status, headers)
