from __future__ import annotations

import pytest

from proxy.errors import IdentifierError
from proxy.links import parse_reference
from proxy.model import MediaRef

A, M, ME = "AC" + "a" * 32, "MM" + "b" * 32, "ME" + "c" * 32
UUID = "b3877c40-da60-4998-90ad-b792e98472af"
PATH = f"/2010-04-01/Accounts/{A}/Messages/{M}/Media/{ME}"
LAML = f"/2010-04-01/Accounts/{UUID}/Messages/{UUID}/Media/{UUID}"
TWILIO, SIGNALWIRE = MediaRef.parse(A, M, ME), MediaRef.parse(UUID, UUID, UUID)


@pytest.mark.parametrize(
    ("text", "ref"),
    [
        (f"{A}/{M}/{ME}", TWILIO),
        (f"AC{'A' * 32}/{M}/{ME}", TWILIO),
        (f"https://api.twilio.com{PATH}", TWILIO),
        (f"https://API.Twilio.com:443{PATH}", TWILIO),
        (f"https://api.dublin.ie1.twilio.com{PATH}", TWILIO),
        (f"https://api.twilio.com{PATH.replace('/Messages/', '/Message/')}", TWILIO),
        (PATH, TWILIO),
        (PATH.replace("/Messages/", "/Message/"), TWILIO),
        *((text + suffix, TWILIO) for text in (PATH, f"https://api.twilio.com{PATH}") for suffix in (".json", ".xml")),
        (LAML, SIGNALWIRE),
        (f"/api/laml{LAML}.json", SIGNALWIRE),
        (f"https://My-Space.SIGNALWIRE.com/api/laml{LAML}.xml", SIGNALWIRE),
        (f"{UUID}/{UUID}/{UUID}", SIGNALWIRE),
        (f"https://my-space.signalwire.com/api/laml{LAML}", SIGNALWIRE),
        (f"https://my-space.signalwire.com{LAML}", SIGNALWIRE),
    ],
)
def test_identifiers_or_the_provider_s_url_name_a_media(text: str, ref: MediaRef) -> None:
    assert parse_reference(text) == ref


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"{A}/{M}",
        f"{A}/{M}/{ME}/",
        f"{A}/{M}/{M}",
        f"{A}/{M}/{UUID}",
        f"http://api.twilio.com{PATH}",
        f"https://api.twilio.com:8443{PATH}",
        f"https://api.twilio.com.example.com{PATH}",
        f"https://xapi.twilio.com{PATH}",
        f"https://api.a.b.c.twilio.com{PATH}",
        f"https://api..twilio.com{PATH}",
        f"https://user@api.twilio.com{PATH}",
        f"https://api.twilio.com{PATH}?x=1",
        f"https://api.twilio.com{PATH}#x",
        f"https://api.twilio.com{PATH}.JSON",
        f"https://api.twilio.com{PATH}.json.json",
        f"https://api.twilio.com{PATH}.csv",
        f"https://api.twilio.com{PATH}.json?x=1",
        f"https://ap\u0131.twilio.com{PATH}",
        f"https://api.tw\u0130lio.com{PATH}",
        f"{A}/{M}/{ME}.json",
        f"//api.twilio.com{PATH}",
        f"/{PATH}",
        f"/..{PATH}",
        f"/x/..{PATH}",
        PATH.replace("/Media/", "/Media//"),
        f"{PATH}?x=1",
        f"{PATH}#x",
        f"{PATH}/",
        f"/api/laml{PATH}",
        f"{PATH}.json/",
        f"https://api.twilio.com{PATH}/",
        f"https://api.twilio.com{PATH}\n",
        f"https://api.twilio.com/x/..{PATH}",
        f"https://api.twilio.com/api/laml{PATH}",
        f"https://api.twilio.com{LAML}",
        f"https://my-space.signalwire.com{PATH}",
        f"https://api.twilio.com{PATH.replace('/Accounts', '/accounts')}",
        f"https://{'a' * 64}.signalwire.com{LAML}",
        f"http://127.0.0.1:8081{PATH}",
    ],
)
def test_anything_else_names_no_media(text: str) -> None:
    with pytest.raises(IdentifierError):
        parse_reference(text)
