"""Errors of the Media resource in the provider's own shape."""

from __future__ import annotations

import json
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import errors
from proxy.errors import GatewayError
from proxy.model import Provider
from proxy.web.api.errors import ProviderErrors
from proxy.web.api.resources import Form

PATH = "/2010-04-01/Accounts/AC1/Messages/MM1/Media.json"
UNAUTHENTICATED = (
    b'{"code": 20003, "detail": "Your AccountSid or AuthToken was incorrect.", "message": "Authenticate", '
    b'"more_info": "https://www.twilio.com/docs/errors/20003", "status": 401}'
)
UNAUTHENTICATED_XML = (
    b"<?xml version='1.0' encoding='UTF-8'?>\n<TwilioResponse><RestException><Code>20003</Code><Detail>Your AccountSid "
    b"or AuthToken was incorrect.</Detail><Message>Authenticate</Message><MoreInfo>https://www.twilio.com/docs/errors/"
    b"20003</MoreInfo><Status>401</Status></RestException></TwilioResponse>"
)


def body(error: GatewayError, form: Form = Form.JSON, provider: Provider = Provider.TWILIO, path: str = PATH) -> bytes:
    answer = ProviderErrors(provider, form, path).answer(error, "request-id")
    assert isinstance(answer.body, bytes)
    return answer.body


def headers(error: GatewayError, form: Form = Form.JSON, provider: Provider = Provider.TWILIO) -> dict[str, str]:
    return dict(ProviderErrors(provider, form, PATH).answer(error, "request-id").headers)


def test_a_bad_client_gets_twilios_answer_byte_for_byte() -> None:
    assert body(errors.Unauthorized()) == UNAUTHENTICATED
    assert len(UNAUTHENTICATED) == 171
    assert body(errors.Unauthorized(), Form.XML) == UNAUTHENTICATED_XML
    assert len(UNAUTHENTICATED_XML) == 293
    assert headers(errors.Unauthorized())["WWW-Authenticate"] == 'Basic realm="Twilio API"'


def test_signalwire_has_the_four_fields_alone() -> None:
    assert list(json.loads(body(errors.Unauthorized(), provider=Provider.SIGNALWIRE))) == [
        "code", "message", "more_info", "status",
    ]  # fmt: skip
    said = headers(errors.Unauthorized(), provider=Provider.SIGNALWIRE)["WWW-Authenticate"]
    assert said.startswith('Basic realm="media-gateway"')


@pytest.mark.parametrize(
    ("error", "status", "code", "message"),
    [
        (errors.NotFound(), 404, 20404, f"The requested resource {PATH} was not found"),
        (errors.MediaNotFound(note="secret"), 404, 20404, f"The requested resource {PATH} was not found"),
        (errors.MethodNotAllowed(("GET",)), 405, 20004, "Method not allowed"),
        (errors.Forbidden("No scope."), 403, 20403, "No scope."),
        (errors.BadRequest("Invalid query."), 400, 20001, "Invalid query."),
        (errors.PreconditionRefused(), 412, 20412, "A precondition of the request is not met"),
        (errors.RangeRefused("bytes */5"), 416, 20416, "The requested range is not satisfiable"),
        (errors.TooManyRequests(retry_after=9), 429, 20429, "Too Many Requests"),
        (errors.UpstreamBusy(rate_limited=True), 429, 20429, "Too Many Requests"),
        (errors.UpstreamBusy(note="secret"), 503, 20503, "Service Unavailable"),
        (errors.Overloaded("Full."), 503, 20503, "Full."),
        (errors.StoreError(note="secret"), 503, 20503, "Service Unavailable"),
        (errors.UpstreamRefused(422, 21617, "Said.", "https://a.example/b"), 422, 21617, "Said."),
        (errors.UpstreamRefusedCredentials(note="secret"), 502, 20502, "The media could not be fetched"),
        (errors.UpstreamMalformed(note="secret"), 502, 20502, "The media could not be fetched"),
        (errors.UpstreamTimeout(note="secret"), 504, 20504, "The upstream was too slow"),
        (GatewayError("It failed."), 500, 20500, "It failed."),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_every_error_has_its_status_code_and_message(error: GatewayError, status: int, code: int, message: str) -> None:
    page = "https://a.example/b" if code == 21617 else f"https://www.twilio.com/docs/errors/{code}"
    expected = {"code": code, "message": message, "more_info": page, "status": status}
    answer = ProviderErrors(Provider.TWILIO, Form.JSON, PATH).answer(error, "request-id")
    assert answer.status == status
    assert json.loads(body(error)) == expected
    assert list(json.loads(body(error))) == list(expected)
    (exception,) = ET.fromstring(body(error, Form.XML))
    assert [(element.tag, element.text) for element in exception] == [
        ("Code", str(code)), ("Message", message), ("MoreInfo", page), ("Status", str(status)),
    ]  # fmt: skip
    assert b"secret" not in body(error)


@pytest.mark.parametrize(("form", "kind"), [(Form.JSON, "application/json"), (Form.XML, "application/xml")])
def test_an_error_is_not_reused_sniffed_or_run(form: Form, kind: str) -> None:
    said = headers(errors.Forbidden(), form)
    assert said["Content-Type"] == kind
    assert said["Cache-Control"] == "private, no-cache"
    assert said["X-Content-Type-Options"] == "nosniff"
    assert said["X-Request-Id"] == "request-id"


def test_the_fields_that_belong_to_an_error_are_kept() -> None:
    assert headers(errors.MethodNotAllowed(("GET", "HEAD")))["Allow"] == "GET, HEAD"
    assert headers(errors.RangeRefused("bytes */5"))["Content-Range"] == "bytes */5"
    assert headers(errors.Overloaded(retry_after=7))["Retry-After"] == "7"


def test_a_wait_is_named_where_the_provider_names_it() -> None:
    assert headers(errors.UpstreamBusy(retry_after=7, rate_limited=True))["Retry-After"] == "7"
    assert "Retry-After" not in headers(errors.UpstreamBusy(rate_limited=True))
    assert headers(errors.UpstreamBusy())["Retry-After"] == "1"


@pytest.mark.parametrize("path", ["/x<script>&amp;'\"", "/x\udcff\x01é", "/%2e%2e"])
def test_a_path_is_repeated_as_written_and_escaped(path: str) -> None:
    shown = "".join(c if "!" <= c <= "~" else {"\udcff": "%FF", "\x01": "%01", "é": "%C3%A9"}[c] for c in path)
    message = f"The requested resource {shown} was not found"
    assert json.loads(body(errors.NotFound(), path=path))["message"] == message
    (exception,) = ET.fromstring(body(errors.NotFound(), Form.XML, path=path))
    assert exception.findtext("Message") == message


@given(st.text(max_size=60), st.text(max_size=60), st.sampled_from(Provider))
def test_answers_are_well_formed_for_any_path_and_message(path: str, message: str, who: Provider) -> None:
    octets = path.encode("utf-8", "replace") + b"\xff"
    written = octets.decode("utf-8", "surrogateescape")
    shown = " ".join(message.split()) if message.isprintable() else "x"
    for error in (errors.NotFound(), errors.UpstreamRefused(400, 20001, shown or "x", "https://a.example/")):
        assert json.loads(body(error, provider=who, path=written))["status"] in {400, 404}
        (exception,) = ET.fromstring(body(error, Form.XML, who, written))
        assert exception.findtext("Message") == json.loads(body(error, provider=who, path=written))["message"]
