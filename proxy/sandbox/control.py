"""The knobs for other processes: faults, the mode, the record of requests, and messages that come in, as JSON.

They stand at `/_sandbox` on the API's origin, and requests to them are not recorded. A change needs a JSON body or a
method that no page of another origin can send unasked.
"""

from __future__ import annotations

from typing import Final

import msgspec
from aiohttp import web
from yarl import URL

from proxy.errors import StoreError
from proxy.reasons import reason_phrase
from proxy.sandbox.documents import webhook_fields
from proxy.sandbox.fault_board import FaultRule
from proxy.sandbox.faults import Fault, Point
from proxy.sandbox.fetching import content_type, media_url
from proxy.sandbox.messages import Attachment, Message
from proxy.sandbox.options import Mode
from proxy.sandbox.refusals import Refused
from proxy.sandbox.samples import ADA, OURS
from proxy.sandbox.state import Handler, State
from proxy.sandbox.targets import media_path

_JSON: Final = "application/json"


class FaultOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A fault to be laid on; `seconds` counts from now."""

    fault: Fault
    point: Point | None = None
    media_sid: str | None = None
    times: int | None = None
    seconds: float | None = None


class ModeOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The mode from now on."""

    mode: Mode


class MediaOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A media of a message to come in: a type and its octets in Base64, or an address to fetch it from."""

    content_type: str | None = None
    base64: bytes | None = None
    url: str | None = None

    def __post_init__(self) -> None:
        given = (self.content_type is not None, self.base64 is not None, self.url is not None)
        if given not in ((True, True, False), (False, False, True)):
            raise ValueError("a media has a content_type and base64, or a url")

    def media(self, place: int) -> Attachment | URL:
        """Return the file to be stored, or the address to fetch it from; `place` counts from 1. Raises `Refused`."""
        if self.url is not None:
            return media_url(self.url)
        return Attachment(content_type(self.content_type), f"media-{place}", self.base64 or b"")


class MessageOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"from_": "from"}):
    """A message to come in, with at most 10 media and 5 MB of them."""

    from_: str = ADA
    to: str = OURS
    body: str = ""
    media: list[MediaOrder] = []


class Control:
    """The knobs of one sandbox, over HTTP."""

    def __init__(self, state: State) -> None:
        self._state = state

    def application(self) -> web.Application:
        application = web.Application(middlewares=[_refusing])
        application.add_routes(
            [
                web.get("/faults", self._faults),
                web.post("/faults", self._add_fault),
                web.delete("/faults", self._clear_faults),
                web.put("/faults/{number:[0-9]{1,9}}/release", self._release),
                web.get("/mode", self._mode),
                web.put("/mode", self._set_mode),
                web.get("/requests", self._requests),
                web.delete("/requests", self._clear_requests),
                web.get("/messages", self._messages),
                web.post("/messages", self._add_message),
            ]
        )
        return application

    async def _faults(self, request: web.Request) -> web.Response:
        return _answer([_rule(rule) for rule in self._state.faults])

    async def _add_fault(self, request: web.Request) -> web.Response:
        order = msgspec.json.decode(await _json_body(request), type=FaultOrder)
        until = None if order.seconds is None else self._state.now() + order.seconds
        rule = self._state.faults.add(
            order.fault, point=order.point, media_sid=order.media_sid, times=order.times, until=until
        )
        return _answer(_rule(rule), 201)

    async def _clear_faults(self, request: web.Request) -> web.Response:
        self._state.faults.clear()
        return web.Response(status=204)

    async def _release(self, request: web.Request) -> web.Response:
        rule = self._state.faults.get(int(request.match_info["number"]))
        if rule is None:
            return _answer({"error": "there is no such fault"}, 404)
        rule.release()
        return web.Response(status=204)

    async def _mode(self, request: web.Request) -> web.Response:
        return _answer({"mode": self._state.mode})

    async def _set_mode(self, request: web.Request) -> web.Response:
        self._state.mode = msgspec.json.decode(await _json_body(request), type=ModeOrder).mode
        return _answer({"mode": self._state.mode})

    async def _requests(self, request: web.Request) -> web.Response:
        return _answer(list(self._state.records))

    async def _clear_requests(self, request: web.Request) -> web.Response:
        self._state.records.clear()
        return web.Response(status=204)

    async def _messages(self, request: web.Request) -> web.Response:
        return _answer([self._shown(message) for message in self._state.storage])

    async def _add_message(self, request: web.Request) -> web.Response:
        order = msgspec.json.decode(await _json_body(request), type=MessageOrder)
        media = [one.media(place) for place, one in enumerate(order.media, 1)]
        message = await self._state.creation.inbound(order.from_, order.to, order.body, media, self._state.now())
        webhook = webhook_fields(message, self._state.api_url)
        return _answer({"message": self._shown(message), "webhook": webhook}, 201)

    def _shown(self, message: Message) -> dict[str, object]:
        return {
            "sid": message.sid,
            "account_sid": message.ref.account.value,
            "from": message.from_,
            "to": message.to,
            "body": message.body,
            "direction": message.direction,
            "date_created": message.date_created,
            "media": [
                {
                    "sid": media.sid,
                    "content_type": media.content_type,
                    "name": media.name,
                    "length": media.length,
                    "sha256": media.sha256,
                    "date_created": media.date_created,
                    "url": self._state.api_url + media_path(media.ref),
                }
                for media in message.media
            ],
        }


@web.middleware
async def _refusing(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer an order that is refused, or that the disk fails, with an error in JSON."""
    try:
        return await handler(request)
    except ValueError as error:
        return _answer({"error": str(error)}, 400)
    except Refused as refused:
        return _answer({"error": refused.refusal.message, "code": refused.refusal.code}, 400)
    except StoreError as failure:
        return _answer({"error": failure.note}, 500)


async def _json_body(request: web.Request) -> bytes:
    # A page elsewhere may post a form or plain text to loopback, but not JSON without a preflight request.
    if request.content_type != _JSON:
        raise ValueError("the body is to be application/json")
    return await request.read()


def _rule(rule: FaultRule) -> dict[str, object]:
    return {
        "number": rule.number,
        "fault": rule.fault,
        "point": rule.point,
        "media_sid": rule.media_sid,
        "remaining": rule.remaining,
        "until": rule.until,
    }


def _answer(value: object, status: int = 200) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(value),
        status=status,
        reason=reason_phrase(status),
        content_type=_JSON,
        headers={"Cache-Control": "no-store"},
    )
