"""Errors of the Media resource in the provider's own shape: its libraries raise the same as without the gateway."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Final, assert_never
from xml.sax.saxutils import escape

from aiohttp import web

from proxy.errors import (
    BadRequest,
    GatewayError,
    MediaNotFound,
    MethodNotAllowed,
    NotFound,
    Overloaded,
    StoreError,
    TooManyRequests,
    Unauthorized,
    UpstreamBusy,
    UpstreamRefused,
)
from proxy.model import Provider
from proxy.reasons import reason_phrase
from proxy.upstream.refusals import more_info
from proxy.web.api.resources import Form
from proxy.web.http.problems import SERVER

DOCUMENT_HEADERS: Final = {
    "Cache-Control": "private, no-cache",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Referrer-Policy": "no-referrer",
}
"""Header fields of every JSON and XML document."""

_CHALLENGE: Final = 'Basic realm="Twilio API"'
_TYPES: Final = {Form.JSON: "application/json", Form.XML: "application/xml"}
_UNSHOWN: Final = re.compile(rb"[^!-~]")


@dataclass(frozen=True, slots=True)
class _Fault:
    """An error as providers describe it: four fields, and the `detail` that some errors have."""

    status: int
    code: int
    message: str
    more_info: str
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class ProviderErrors:
    """Answers to the errors of one request. `path` is the path as the client wrote it, without the query."""

    provider: Provider
    form: Form
    path: str

    def answer(self, error: GatewayError, request_id: str) -> web.Response:
        """Return the answer to an error; an `Exchange.refusal`."""
        fault = self._fault(error)
        headers = {
            "Content-Type": _TYPES[self.form],
            **DOCUMENT_HEADERS,
            "Server": SERVER,
            "X-Request-Id": request_id,
            **_fields(error, self.provider),
        }
        return web.Response(
            status=fault.status,
            reason=reason_phrase(fault.status),
            body=_document(fault, self.form),
            headers=headers,
        )

    def _fault(self, error: GatewayError) -> _Fault:
        match error:
            case Unauthorized():
                detail = "Your AccountSid or AuthToken was incorrect." if self.provider is Provider.TWILIO else None
                return _made(401, 20003, "Authenticate", detail)
            case NotFound() | MediaNotFound():
                return _made(404, 20404, f"The requested resource {_shown(self.path)} was not found")
            case MethodNotAllowed():
                return _made(405, 20004, "Method not allowed")
            case UpstreamRefused():
                return _Fault(error.answered, error.code, error.message, error.more_info)
            case TooManyRequests():
                return _made(429, 20429, "Too Many Requests")
            case UpstreamBusy() if error.rate_limited:
                return _made(429, 20429, "Too Many Requests")
            case Overloaded() | UpstreamBusy() | StoreError():
                return _made(503, 20503, error.detail or "Service Unavailable")
            case BadRequest():
                return _made(400, 20001, error.detail or error.title)
            case _:
                return _made(error.status, 20_000 + error.status, error.detail or error.title)


def _made(status: int, code: int, message: str, detail: str | None = None) -> _Fault:
    return _Fault(status, code, message, more_info(code), detail)


def _fields(error: GatewayError, provider: Provider) -> dict[str, str]:
    """Return the header fields that belong to the error, as the provider sends them."""
    fields = dict(error.headers)
    match error:
        case Unauthorized() if provider is Provider.TWILIO:
            fields["WWW-Authenticate"] = _CHALLENGE
        case UpstreamBusy() if error.rate_limited and not error.wait_named:
            del fields["Retry-After"]
        case _:
            pass
    return fields


def _shown(path: str) -> str:
    """Return a path in ASCII, percent-encoded as far as it is not (RFC 3986 §2.1)."""
    octets = path.encode("utf-8", "surrogateescape")
    return _UNSHOWN.sub(lambda match: b"%%%02X" % match[0][0], octets).decode("ascii")


def _document(fault: _Fault, form: Form) -> bytes:
    names = {"code": fault.code, "detail": fault.detail, "message": fault.message, "more_info": fault.more_info}
    properties = {name: value for name, value in {**names, "status": fault.status}.items() if value is not None}
    match form:
        case Form.JSON:
            return json.dumps(properties).encode()
        case Form.XML:
            elements = ((name.title().replace("_", ""), escape(str(value))) for name, value in properties.items())
            inner = "".join(f"<{name}>{value}</{name}>" for name, value in elements)
            return (
                "<?xml version='1.0' encoding='UTF-8'?>\n"
                f"<TwilioResponse><RestException>{inner}</RestException></TwilioResponse>"
            ).encode()
        case _:
            assert_never(form)
