"""The provider's words when it refuses a call, as far as they are taken over."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.model import AccountSid, Provider
from proxy.upstream.providers import Account
from proxy.upstream.refusals import is_refusal, refused

ACCOUNT = Account.create(
    Provider.TWILIO, AccountSid.parse("AC" + "0a" * 16), "SK1", "the-Password", "https://api.example.com"
)
BAD_DATE = {
    "code": 20001,
    "message": "Invalid date value.",
    "more_info": "https://www.twilio.com/docs/errors/20001",
    "status": 400,
}


def said(status: int, body: object) -> tuple[int, int, str, str]:
    octets = body if isinstance(body, bytes) else json.dumps(body).encode()
    error = refused(ACCOUNT, status, octets)
    return error.answered, error.code, error.message, error.more_info


def test_the_four_fields_of_json_are_taken_over() -> None:
    assert said(400, BAD_DATE) == (400, 20001, "Invalid date value.", "https://www.twilio.com/docs/errors/20001")
    other = {**BAD_DATE, "code": "21617", "more_info": "https://developer.signalwire.com/errors/21617#a"}
    assert said(422, other)[1:] == (21617, "Invalid date value.", "https://developer.signalwire.com/errors/21617#a")


def test_the_four_fields_of_xml_are_taken_over() -> None:
    body = (
        b"<?xml version='1.0' encoding='UTF-8'?>\n<TwilioResponse><RestException><Code>20001</Code><Message>Invalid"
        b" &lt;date&gt; &amp;amp; &quot;value&quot;.</Message><MoreInfo>https://www.twilio.com/docs/errors/20001"
        b"</MoreInfo><Status>400</Status></RestException></TwilioResponse>"
    )
    expected = 'Invalid <date> &amp; "value".'
    assert said(400, body) == (400, 20001, expected, "https://www.twilio.com/docs/errors/20001")


@pytest.mark.parametrize(
    "body",
    [b"", b"<html/>", b"[]", b"{}", b"\xff", b'{"code": {}, "message": [], "status": "x"}', b'{"a": ' + b"[" * 30_000],
)
def test_what_is_not_said_is_made_up_from_the_status(body: bytes) -> None:
    assert said(422, body) == (422, 20422, "Unprocessable Content", "https://www.twilio.com/docs/errors/20422")
    assert said(499, body) == (499, 20499, "The request was refused", "https://www.twilio.com/docs/errors/20499")


@pytest.mark.parametrize("code", [True, 0, -1, 1.5, 10**9, "", "1x", "٣", None, [1]])
def test_a_code_is_a_whole_number(code: object) -> None:
    assert said(400, {**BAD_DATE, "code": code})[1] == 20400


@pytest.mark.parametrize(
    "message",
    ["see http://10.0.0.1/x", "at API.example.com", "THE-password is wrong", "a\x00b", "\u202eabc", "", 5, None,
     "x" * 495 + "the-Password", "Basic " + base64.b64encode(b"SK1:the-Password").decode()],
)  # fmt: skip
def test_a_message_that_may_not_be_shown_is_left_out(message: object) -> None:
    assert said(400, {**BAD_DATE, "message": message})[2] == "Bad Request"


def test_a_message_is_one_line_of_bounded_length() -> None:
    assert said(400, {**BAD_DATE, "message": " a\r\n b\t" + "x" * 9_000})[2] == "a b " + "x" * 496


@pytest.mark.parametrize(
    "page",
    ["https://api.example.com/x", "http://www.twilio.com/x", "javascript:alert(1)", "https://u@www.twilio.com/x",
     "https://www.twilio.com/x?key=1", "https://www.twilio.com:8443/x", "https://www.twilio.com/\r\nX: y", 1,
     "https://www.twilio.com/docs/the-Password"],
)  # fmt: skip
def test_a_page_is_a_public_one_that_holds_nothing(page: object) -> None:
    assert said(400, {**BAD_DATE, "more_info": page})[3] == "https://www.twilio.com/docs/errors/20001"


def test_only_a_status_about_the_call_itself_is_a_refusal() -> None:
    refusals = {status for status in range(100, 600) if is_refusal(status)}
    assert refusals == set(range(400, 500)) - {401, 403, 404, 408, 410, 429}


@given(st.binary(max_size=200), st.integers(400, 499))
def test_any_body_gives_what_may_be_shown(body: bytes, status: int) -> None:
    answered, code, message, page = said(status, body)
    assert answered == status
    assert 0 < code < 1_000_000
    assert message.isprintable()
    assert message
    assert page.startswith("https://")
