"""The check of answers refuses what the documents do not describe."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from proxy.model import Provider
from tests.clients.schema import PROPERTIES, check_answer, check_error, check_list, check_properties

ACCOUNT, MESSAGE, MEDIA = f"AC{'a' * 32}", f"SM{'a' * 32}", f"ME{'a' * 32}"
ROOT = f"/2010-04-01/Accounts/{ACCOUNT}/Messages/{MESSAGE}/Media"

# The documents' own examples.
TWILIO = {
    "account_sid": ACCOUNT,
    "content_type": "image/jpeg",
    "date_created": "Sun, 16 Aug 2015 15:53:54 +0000",
    "date_updated": "Sun, 16 Aug 2015 15:53:55 +0000",
    "parent_sid": MESSAGE,
    "sid": MEDIA,
    "uri": f"{ROOT}/{MEDIA}.json",
}
SIGNALWIRE = {
    "sid": "b51dc3c6-df20-4af6-b774-a99de20d3fd8",
    "date_created": "Fri, 15 Jun 2018 17:59:25 +0000",
    "date_updated": "Fri, 15 Jun 2018 17:59:25 +0000",
    "account_sid": "446e9986-0848-4d46-a617-48793c5f5e07",
    "parent_sid": "3338f508-c98c-45a1-b2e3-1a2c345477a8",
    "content_type": "image/jpeg",
    "uri": (
        "/api/laml/2010-04-01/Accounts/446e9986-0848-4d46-a617-48793c5f5e07/Messages/"
        "3338f508-c98c-45a1-b2e3-1a2c345477a8/Media/b51dc3c6-df20-4af6-b774-a99de20d3fd8.json"
    ),
}
LIST: dict[str, Any] = {
    "end": 0,
    "first_page_uri": f"{ROOT}.json?DateCreated%3E=2008-01-02&PageSize=50&Page=0",
    "media_list": [TWILIO],
    "next_page_uri": None,
    "page": 0,
    "page_size": 50,
    "previous_page_uri": None,
    "start": 0,
    "uri": f"{ROOT}.json?DateCreated%3E=2008-01-02&PageSize=50&Page=0",
}
ERROR = {"code": 20404, "message": "Not found", "more_info": "https://www.twilio.com/docs/errors/20404", "status": 404}


def test_the_documents_own_examples_pass() -> None:
    check_properties(TWILIO, Provider.TWILIO)
    check_properties(SIGNALWIRE, Provider.SIGNALWIRE)
    check_list(LIST, Provider.TWILIO)
    check_error(ERROR, 404)
    check_answer(f"http://127.0.0.1{ROOT}/{MEDIA}.json", 200, json.dumps(TWILIO))
    check_answer(f"http://127.0.0.1{ROOT}.json?PageSize=50", 200, json.dumps(LIST))


@pytest.mark.parametrize(("right", "provider"), [(TWILIO, Provider.TWILIO), (SIGNALWIRE, Provider.SIGNALWIRE)])
@pytest.mark.parametrize("name", PROPERTIES[Provider.TWILIO])
def test_every_property_is_there_in_its_form(name: str, right: Mapping[str, str], provider: Provider) -> None:
    without = {key: value for key, value in right.items() if key != name}
    for wrong in (without, {**right, name: None}, {**right, name: "x"}, {**right, name: f"{right[name]} "}):
        with pytest.raises(AssertionError):
            check_properties(wrong, provider)


@pytest.mark.parametrize(
    "change",
    [
        {"size": "1"},
        {"date_created": "Mon, 16 Aug 2015 15:53:54 +0000"},
        {"date_created": "Sun, 16 Aug 2015 15:53:54 GMT"},
        {"uri": f"{ROOT}/ME{'b' * 32}.json"},
        {"uri": f"https://api.twilio.com{ROOT}/{MEDIA}.json"},
    ],
)
def test_a_property_too_many_or_of_another_s_is_refused(change: Mapping[str, str]) -> None:
    with pytest.raises(AssertionError):
        check_properties({**TWILIO, **change}, Provider.TWILIO)


@pytest.mark.parametrize("name", LIST)
def test_a_list_has_its_nine_keys_and_no_other(name: str) -> None:
    without = {key: value for key, value in LIST.items() if key != name}
    for wrong in (without, {**LIST, "num_pages": 1}, {**LIST, name: "x"}):
        with pytest.raises(AssertionError):
            check_list(wrong, Provider.TWILIO)


@pytest.mark.parametrize(
    "change",
    [
        {"uri": None},
        {"page": True},
        {"page": -1},
        {"end": 1},
        {"start": 1},
        {"page_size": 1001},
        {"page_size": 0},
        {"media_list": [{}]},
        {"next_page_uri": "https://api.twilio.com/"},
    ],
)
def test_the_numbers_and_uris_of_a_list_fit(change: Mapping[str, object]) -> None:
    with pytest.raises(AssertionError):
        check_list({**LIST, **change}, Provider.TWILIO)


@pytest.mark.parametrize(
    "change",
    [{"status": 403}, {"code": "20404"}, {"code": 404}, {"message": ""}, {"more_info": "none"}, {"title": "Not found"}],
)
def test_an_error_has_its_four_fields(change: Mapping[str, object]) -> None:
    with pytest.raises(AssertionError):
        check_error({**ERROR, **change}, 404)


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        (f"{ROOT}/{MEDIA}.json", 204, "{}"),
        (f"{ROOT}/{MEDIA}.json", 200, json.dumps(LIST)),
        (f"{ROOT}.json", 200, json.dumps(TWILIO)),
        (f"{ROOT}.json", 404, json.dumps({"title": "Not found", "status": 404})),
        (f"{ROOT}.xml", 200, json.dumps(LIST)),
        (ROOT, 200, json.dumps(LIST)),
        (f"{ROOT}.xml", 404, "<TwilioResponse><MediaList/></TwilioResponse>"),
        (f"{ROOT}.xml", 200, "<MediaList/>"),
        (f"{ROOT}/{MEDIA}.xml", 200, "<TwilioResponse><Media><Sid>x</Sid></Media></TwilioResponse>"),
        ("/media/elsewhere", 200, "{}"),
    ],
)
def test_an_answer_of_another_kind_than_its_path_is_refused(path: str, status: int, text: str) -> None:
    with pytest.raises((AssertionError, SyntaxError, ValueError)):
        check_answer(f"http://127.0.0.1{path}", status, text)
