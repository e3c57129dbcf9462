"""The CDN's origin: it knows signatures and public places, and refuses credentials as an object store does."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping

from aiohttp import web

from proxy.errors import StoreError
from proxy.sandbox.delivery import Failing, send_media
from proxy.sandbox.documents import storage_error
from proxy.sandbox.locations import Place, next_redirect, parse_hop, parse_place
from proxy.sandbox.options import Mode
from proxy.sandbox.records import Origin
from proxy.sandbox.state import State, answer, server, split_target

_log = logging.getLogger("media_gateway.sandbox")


class Cdn:
    """The media of one sandbox by key."""

    def __init__(self, state: State) -> None:
        self._state = state

    def application(self) -> web.Application:
        return server(self._state, Origin.CDN, self._handle, _own_fields)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        credentials = request.headers.get("Authorization")
        if credentials is not None:
            return _refuse(
                400,
                "InvalidArgument",
                "Unsupported Authorization Type",
                {"ArgumentName": "Authorization", "ArgumentValue": credentials},
            )
        if request.method not in ("GET", "HEAD"):
            refusal = _refuse(405, "MethodNotAllowed", "The specified method is not allowed against this resource.")
            refusal.headers["Allow"] = "GET, HEAD"
            return refusal
        path, query = split_target(request)
        place = parse_place(path, self._state.storage.account)
        if place is None:
            return _refuse(403, "AccessDenied", "Access Denied")
        media = self._state.storage.media_by_key(place.key)
        hop = parse_hop(query)
        if hop is not None and media is not None:
            return next_redirect(self._state, media, hop)
        if not self._admits(place, request.raw_path):
            return _refuse(403, "AccessDenied", "Access Denied")
        if media is None or media.ref.account.value != place.account:
            return _refuse(404, "NoSuchKey", "The specified key does not exist.", {"Key": path[1:]})
        try:
            return await send_media(request, self._state, media)
        except Failing as failing:
            refusal = _broken(failing.status.status)
            if failing.status.retry_after is not None:
                refusal.headers["Retry-After"] = failing.status.retry_after
            return refusal
        except StoreError as failure:
            _log.warning("The sandbox's storage failed: %s", failure.note)
            return _broken(500)

    def _admits(self, place: Place, target: str) -> bool:
        if place.public:
            return self._state.mode is Mode.REDIRECT_PUBLIC
        return self._state.signer.verify(target, self._state.now())


def _refuse(status: int, code: str, message: str, extra: Mapping[str, str] | None = None) -> web.Response:
    return answer(storage_error(code, message, extra), status)


def _broken(status: int) -> web.Response:
    return _refuse(status, "InternalError", "We encountered an internal error. Please try again.")


def _own_fields() -> Mapping[str, str]:
    return {"Server": "AmazonS3", "X-Cache": "Miss from cloudfront", "X-Amz-Cf-Id": secrets.token_urlsafe(40)}
