"""The providers' documents as a schema: the properties of a media, the keys of a list and of an error."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlsplit

from proxy.model import Provider

_HEX: Final = "[0-9a-fA-F]{32}"
_UUID: Final = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_DATE: Final = (
    "(Mon|Tue|Wed|Thu|Fri|Sat|Sun), [0-9]{2} (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [0-9]{4} "
    "[0-9]{2}:[0-9]{2}:[0-9]{2} [+]0000"
)
_TYPE: Final = "[a-z]+/[A-Za-z0-9.+-]+(;.*)?"
_TWILIO_ROOT: Final = f"/2010-04-01/Accounts/AC{_HEX}/Messages/(SM|MM){_HEX}/Media"
_LAML_ROOT: Final = f"/api/laml/2010-04-01/Accounts/{_UUID}/Messages/{_UUID}/Media"

PROPERTIES: Final[Mapping[Provider, Mapping[str, str]]] = {
    Provider.TWILIO: {
        "account_sid": f"AC{_HEX}",
        "content_type": _TYPE,
        "date_created": _DATE,
        "date_updated": _DATE,
        "parent_sid": f"(SM|MM){_HEX}",
        "sid": f"ME{_HEX}",
        "uri": rf"{_TWILIO_ROOT}/ME{_HEX}\.(json|xml)",
    },
    Provider.SIGNALWIRE: {
        "account_sid": _UUID,
        "content_type": _TYPE,
        "date_created": _DATE,
        "date_updated": _DATE,
        "parent_sid": _UUID,
        "sid": _UUID,
        "uri": rf"{_LAML_ROOT}/{_UUID}\.(json|xml)",
    },
}
"""The seven properties, all of them text, each with the form that it has throughout."""

_LISTS: Final[Mapping[Provider, Mapping[str, str]]] = {
    Provider.TWILIO: {
        "end": "number",
        "first_page_uri": rf"{_TWILIO_ROOT}\.json\?\S*",
        "media_list": "list",
        "next_page_uri": rf"{_TWILIO_ROOT}\.json\?\S*",
        "page": "number",
        "page_size": "number",
        "previous_page_uri": rf"{_TWILIO_ROOT}\.json\?\S*",
        "start": "number",
        "uri": rf"{_TWILIO_ROOT}\.json\?\S*",
    },
    Provider.SIGNALWIRE: {
        "first_page_uri": rf"{_LAML_ROOT}\?\S*",
        "media_list": "list",
        "next_page_uri": rf"{_LAML_ROOT}\?\S*",
        "page": "number",
        "page_size": "number",
        "previous_page_uri": rf"{_LAML_ROOT}\?\S*",
        "uri": rf"{_LAML_ROOT}\?\S*",
    },
}
_NULLABLE: Final = frozenset({"next_page_uri", "previous_page_uri"})
_ERROR: Final = frozenset({"code", "message", "more_info", "status"})

_RESOURCE: Final = re.compile(
    r"/2010-04-01/Accounts/(?P<account>[^/]+)/Messages?/[^/]+/Media(?P<media>/[^/.]+)?(?P<suffix>\.\w+)?$"
)


def check_answer(url: str, status: int, text: str) -> None:
    """Assert that an answer from that URL, other than one in bytes, is what the documents describe."""
    match = _RESOURCE.search(urlsplit(url).path)
    assert match is not None, url
    provider = Provider.TWILIO if match["account"].startswith("AC") else Provider.SIGNALWIRE
    # Without a suffix Twilio says all in XML and SignalWire its lists in JSON.
    unsaid = ".json" if provider is Provider.SIGNALWIRE and text.startswith("{") else ".xml"
    if status == 204:
        assert text == ""
    elif (match["suffix"] or unsaid) == ".json":
        document = json.loads(text)
        if status != 200:
            check_error(document, status)
        elif match["media"]:
            check_properties(document, provider)
        else:
            check_list(document, provider)
    else:
        check_xml(text, status, provider)


def check_properties(document: object, provider: Provider) -> None:
    """Assert that these are the seven properties of a media."""
    forms = PROPERTIES[provider]
    assert isinstance(document, dict)
    assert set(document) == set(forms), f"the properties are {sorted(document)}"
    for name, form in forms.items():
        value = document[name]
        assert isinstance(value, str), f"{name} is not a text"
        assert re.fullmatch(form, value), f"{name} is {value!r}"
    for name in ("date_created", "date_updated"):
        # A form that fits may still be no date, and the day of the week may be another's.
        assert parsedate_to_datetime(document[name]).strftime("%a, %d %b %Y %H:%M:%S +0000") == document[name]
    for name in ("account_sid", "parent_sid", "sid"):
        assert document[name] in document["uri"], f"uri does not lead to {name}"


def check_list(document: object, provider: Provider) -> None:
    """Assert that this is one page of media, with its keys and no other."""
    forms = _LISTS[provider]
    assert isinstance(document, dict)
    assert set(document) == set(forms), f"the keys are {sorted(document)}"
    for name, form in forms.items():
        value = document[name]
        if form == "number":
            assert type(value) is int, f"{name} is not an integer"
            assert value >= 0, f"{name} is {value}"
        elif form == "list":
            assert isinstance(value, list), f"{name} is not a list"
        elif value is None:
            assert name in _NULLABLE, f"{name} is null"
        else:
            assert re.fullmatch(form, value), f"{name} is {value!r}"
    media = document["media_list"]
    assert len(media) <= document["page_size"] <= 1000
    if provider is Provider.TWILIO:
        first = document["page"] * document["page_size"] if media else 0
        assert document["start"] == first
        assert document["end"] == (first + len(media) - 1 if media else 0)
    for one in media:
        check_properties(one, provider)


def check_error(document: object, status: int) -> None:
    """Assert that this is a provider's error: four fields, and at times a detail."""
    assert isinstance(document, dict)
    assert set(document) - {"detail"} == _ERROR, f"the fields are {sorted(document)}"
    assert document["status"] == status
    assert type(document["code"]) is int
    assert 20_001 <= document["code"] <= 99_999
    assert isinstance(document["message"], str)
    assert document["message"]
    assert isinstance(document.get("detail", ""), str)
    assert re.fullmatch(r"https://\S+", document["more_info"])


def check_xml(text: str, status: int, provider: Provider) -> None:
    """Assert the same of XML: `TwilioResponse` around a media, a list of them or an error."""
    root = ET.fromstring(text)
    assert root.tag == "TwilioResponse"
    (inner,) = root
    match inner.tag:
        case "Media" if status == 200:
            check_properties(properties_in(inner), provider)
        case "MediaList" if status == 200:
            for one in inner:
                check_properties(properties_in(one), provider)
        case "RestException" if status >= 400:
            fields = {_snake(child.tag): child.text or "" for child in inner}
            check_error({**fields, "code": int(fields["code"]), "status": int(fields["status"])}, status)
        case other:
            raise AssertionError(f"{other} with status {status}")


def error_code(text: str) -> int:
    """Return the provider's code in an error, in whichever notation."""
    if text.startswith("{"):
        return int(json.loads(text)["code"])
    return int(ET.fromstring(text).findtext("RestException/Code", ""))


def properties_in(element: ET.Element) -> dict[str, str]:
    """Return the properties of a `Media` element, by their names in JSON."""
    assert element.tag == "Media"
    return {_snake(child.tag): child.text or "" for child in element}


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
