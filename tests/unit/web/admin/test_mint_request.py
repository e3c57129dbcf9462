"""`POST /links`: what may be asked, and a 400 that names every bad field."""

from __future__ import annotations

import json
from collections.abc import Callable
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import settings as settings_of_hypothesis
from hypothesis import strategies as st

from proxy.clients import AllAccounts, Client, Scope
from proxy.errors import BadRequest, Forbidden
from proxy.links import NO_CLAIMS, Claims, LinkPolicy, LinkScope
from proxy.model import AccountSid, MediaRef, MessageRef, Provider
from proxy.upstream.providers import Account, Accounts
from proxy.web.admin.mint_request import MintRequest, Terms, Wanted, parse_json
from proxy.web.admin.references import MOST_MEDIA, Asker, References
from proxy.web.admin.webhook import parse_webhook

ACCOUNT = "AC" + "0a" * 16
OTHER = "AC" + "0b" * 16
PROJECT = "6f1d0a52-93c8-4be7-a1d4-5e2c80b97f36"
MESSAGE = "MM" + "1a" * 16
MEDIA = "ME" + "2a" * 16
ORIGIN = "https://media.internal:8443"
NOW = 1_790_000_000.0

REF = MediaRef.parse(ACCOUNT, MESSAGE, MEDIA)
OBJECT = {"account_sid": ACCOUNT, "message_sid": MESSAGE, "media_sid": MEDIA}
RESOURCE = f"/2010-04-01/Accounts/{ACCOUNT}/Messages/{MESSAGE}/Media/{MEDIA}"
TWILIO = f"https://api.twilio.com{RESOURCE}"

CLIENT = Client("app", frozenset({Scope.MINT}), AllAccounts.ALL)
ACCOUNTS = Accounts([Account.create(Provider.TWILIO, AccountSid.parse(ACCOUNT), ACCOUNT, "token", ORIGIN)])
TERMS = Terms(Asker(CLIENT, ACCOUNTS), LinkPolicy(), NOW)


def read(document: object, terms: Terms = TERMS) -> MintRequest:
    return parse_json(json.dumps(document).encode(), terms)


def accounts(asked: MintRequest) -> set[AccountSid]:
    return {subject.account for _, subject in asked.references.named}


def refused(parse: Callable[[bytes, Terms], MintRequest], body: bytes) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        parse(body, TERMS)
    return caught.value


def bad_fields(document: object, terms: Terms = TERMS) -> list[str]:
    with pytest.raises(BadRequest) as caught:
        read(document, terms)
    return [fault.field for fault in caught.value.errors]


# --- JSON -----------------------------------------------------------------------------------------------------


def test_three_identifiers_or_a_url_name_a_media() -> None:
    asked = read({"media": [OBJECT, {"url": TWILIO}, {"url": ORIGIN + RESOURCE}]})
    assert asked.references == References((REF, REF, REF))
    assert accounts(asked) == {REF.account}


def test_a_message_is_named_by_its_two_identifiers() -> None:
    asked = read({"message": {"account_sid": ACCOUNT, "message_sid": MESSAGE}})
    assert asked == MintRequest(References(message=MessageRef.parse(ACCOUNT, MESSAGE)))
    assert asked.references.named == (("message", MessageRef.parse(ACCOUNT, MESSAGE)),)
    assert accounts(asked) == {REF.account}


def test_hex_digits_fold_to_lower_case() -> None:
    upper = {name: text[:2] + text[2:].upper() for name, text in OBJECT.items()}
    assert read({"media": [upper]}).references.media == (REF,)


def test_ttl_and_claims_are_read() -> None:
    asked = read(
        {
            "media": [OBJECT],
            "ttl": 300,
            "not_before": int(NOW) + 10,
            "filename": "photo.jpg",
            "disposition": "attachment",
            "ip": "203.0.113.7/32",
            "scope": "message",
        }
    )
    assert asked.ttl == 300
    assert asked.claims == Claims.parse(
        not_before=int(NOW) + 10, filename="photo.jpg", disposition="attachment", ip="203.0.113.7", scope="message"
    )
    assert asked.claims.scope is LinkScope.MESSAGE


def test_null_is_the_same_as_nothing() -> None:
    absent = dict.fromkeys(("ttl", "not_before", "filename", "disposition", "ip", "scope"))
    own = dict.fromkeys(("filename", "disposition"))
    assert read({"media": [{**OBJECT, **own}], **absent}).wanted == (Wanted(REF, NO_CLAIMS),)


@pytest.mark.parametrize(
    "url",
    [
        f"https://api.twilio.com.evil.example{RESOURCE}",
        f"https://evil.example{RESOURCE}",
        f"http://api.twilio.com{RESOURCE}",
        f"https://api.twilio.com:8443{RESOURCE}",
        f"https://user@api.twilio.com{RESOURCE}",
        f"https://api.twilio.com@evil.example{RESOURCE}",
        f"https://media.internal{RESOURCE}",
        f"http://media.internal:8443{RESOURCE}",
        f"https://api.twilio.com{RESOURCE}?x=1",
        f"https://api.twilio.com{RESOURCE}/",
        f"https://api.twilio.com/x/..{RESOURCE}",
        f"//api.twilio.com{RESOURCE}",
        f"file://{RESOURCE}",
        TWILIO.replace(ACCOUNT, OTHER),
        TWILIO.replace(MEDIA, "ME1"),
        TWILIO.replace("/Media/", "/Media%2f"),
        "\ud800",
        "",
    ],
)
def test_a_url_of_another_place_is_refused_by_name(url: str) -> None:
    assert bad_fields({"media": [OBJECT, {"url": url}]}) == ["media[1].url"]


@pytest.mark.parametrize(
    "url",
    [
        RESOURCE,
        *(url + suffix for url in (RESOURCE, TWILIO, ORIGIN + RESOURCE) for suffix in (".json", ".xml")),
        TWILIO.replace("api.twilio.com", "API.Twilio.COM"),
        ORIGIN.replace("media.internal", "Media.INTERNAL") + RESOURCE,
        RESOURCE.replace("/Messages/", "/Message/"),
    ],
)
def test_a_url_is_what_the_api_itself_gives(url: str) -> None:
    assert read({"media": [{"url": url}]}).references.media == (REF,)
    assert parse_webhook(form(url), TERMS).references.media == (REF,)


def test_a_suffix_is_the_urls_and_never_the_identifiers() -> None:
    for suffix in (".json", ".xml"):
        assert bad_fields({"media": [{**OBJECT, "media_sid": MEDIA + suffix}]}) == ["media[0].media_sid"]


def test_own_name_and_disposition_win_over_the_common_ones() -> None:
    document = {
        "media": [
            {**OBJECT, "filename": "own.jpg"},
            {"url": TWILIO, "disposition": "attachment"},
            OBJECT,
            {**OBJECT, "filename": None, "disposition": "attachment"},
        ],
        "filename": "common.jpg",
        "disposition": "inline",
        "ip": "203.0.113.7",
    }
    assert [(one.claims.filename, one.claims.disposition) for one in read(document).wanted] == [
        ("own.jpg", "inline"),
        ("common.jpg", "attachment"),
        ("common.jpg", "inline"),
        ("common.jpg", "attachment"),
    ]
    assert {str(one.claims.ip) for one in read(document).wanted} == {"203.0.113.7/32"}


@pytest.mark.parametrize(
    ("query", "fields"),
    [("ttl=5", ["ttl"]), ("a&b=1&a=2", ["a", "b"]), ("=", ["query"]), ("&", ["query"]), ("x/y=1", ["x/y"])],
)
def test_beside_json_there_is_no_query(query: str, fields: list[str]) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_json(json.dumps({"media": [OBJECT]}).encode(), TERMS, query)
    assert [fault.field for fault in caught.value.errors] == fields


NO_LIVES: list[object] = [True, "300", 300.5, 0, -1, 86_401, 10**400, [], {}]


@pytest.mark.parametrize(
    ("document", "fields"),
    [
        ({}, ["media"]),
        ({"media": [OBJECT], "message": {"account_sid": ACCOUNT, "message_sid": MESSAGE}}, ["media"]),
        ({"media": []}, ["media"]),
        ({"media": {}}, ["media"]),
        ({"media": None}, ["media"]),
        ({"media": [[], "x", None, 1]}, ["media[0]", "media[1]", "media[2]", "media[3]"]),
        ({"media": [{}]}, ["media[0].account_sid", "media[0].message_sid", "media[0].media_sid"]),
        ({"media": [{**OBJECT, "more": 1}]}, ["media[0].more"]),
        ({"media": [{**OBJECT, "media_sid": 1}]}, ["media[0].media_sid"]),
        ({"media": [{**OBJECT, "url": TWILIO}]}, ["media[0]"]),
        ({"media": [{"url": 1}]}, ["media[0].url"]),
        ({"media": [{"url": TWILIO, "more": 1}]}, ["media[0].more"]),
        ({"media": [{"url": TWILIO, "variant": "auto"}]}, ["media[0].variant"]),
        *(({"media": [{**OBJECT, "filename": name}]}, ["media[0].filename"]) for name in (1, "", "a\nb", "x" * 256)),
        *(({"media": [{"url": TWILIO, "disposition": how}]}, ["media[0].disposition"]) for how in (1, "", "INLINE")),
        (
            {"media": [OBJECT, {**OBJECT, "media_sid": "x", "filename": ""}]},
            ["media[1].media_sid", "media[1].filename"],
        ),
        ({"media": [{**OBJECT, "ttl": 5, "ip": "1.2.3.4"}]}, ["media[0].ttl", "media[0].ip"]),
        ({"message": {"account_sid": ACCOUNT, "message_sid": MESSAGE, "filename": "x"}}, ["message.filename"]),
        ({"media": [{**OBJECT, "message_sid": "x", "media_sid": "y"}]}, ["media[0].message_sid", "media[0].media_sid"]),
        ({"media": [{**OBJECT, "account_sid": PROJECT}]}, ["media[0].account_sid", "media[0]"]),
        ({"media": [{**OBJECT, "account_sid": OTHER}]}, ["media[0].account_sid"]),
        ({"message": []}, ["message"]),
        ({"message": {"account_sid": OTHER, "message_sid": MESSAGE}}, ["message.account_sid"]),
        ({"message": {"account_sid": ACCOUNT}}, ["message.message_sid"]),
        (
            {"message": {"account_sid": ACCOUNT, "message_sid": PROJECT}},
            ["message"],
        ),
        ({"media": [OBJECT], "surprise": 1}, ["surprise"]),
        ({"media": [OBJECT], "a/b~c": 1}, ["a/b~c"]),
        ({"media": [OBJECT], "\ud800": 1}, ["\\ud800"]),
        ({"media": [OBJECT], "x" * 100: 1}, ["x" * 64]),
        *(({"media": [OBJECT], "ttl": ttl}, ["ttl"]) for ttl in NO_LIVES),
        *(({"media": [OBJECT], "not_before": moment}, ["not_before"]) for moment in (True, "1", -1, 10**12, 1e300)),
        ({"media": [OBJECT], "not_before": int(NOW) + 400}, ["not_before"]),
        *(({"media": [OBJECT], "ip": ip}, ["ip"]) for ip in (1, "", "10.0.0.1/8", "localhost", "\ud800")),
        *(({"media": [OBJECT], "filename": name}, ["filename"]) for name in (1, "", "a\nb", "\ud800", "x" * 256)),
        *(({"media": [OBJECT], "disposition": how}, ["disposition"]) for how in (1, "form-data", "INLINE")),
        *(({"media": [OBJECT], "scope": scope}, ["scope"]) for scope in (1, "account", "")),
    ],
)
def test_a_bad_field_is_named(document: object, fields: list[str]) -> None:
    assert bad_fields(document) == fields


def test_every_bad_field_is_named_at_once() -> None:
    document = {
        "media": [{**OBJECT, "media_sid": "x"}, {"url": "https://evil.example/"}, {**OBJECT, "account_sid": OTHER}],
        "ttl": 0,
        "not_before": -1,
        "filename": "",
        "disposition": "x",
        "ip": "x",
        "scope": "x",
        "other": 1,
    }
    assert sorted(bad_fields(document)) == sorted(
        [
            "media[0].media_sid",
            "media[1].url",
            "media[2].account_sid",
            "ttl",
            "not_before",
            "filename",
            "disposition",
            "ip",
            "scope",
            "other",
        ]
    )


def test_at_most_100_media_a_call() -> None:
    assert len(read({"media": [OBJECT] * MOST_MEDIA}).references.media) == MOST_MEDIA == 100
    assert bad_fields({"media": [OBJECT] * (MOST_MEDIA + 1)}) == ["media"]


def test_a_client_learns_nothing_of_accounts_of_others() -> None:
    bound = Client("app", frozenset({Scope.MINT}), frozenset({AccountSid.parse(OTHER)}))
    terms = Terms(Asker(bound, ACCOUNTS), TERMS.policy, NOW)
    third = {**OBJECT, "account_sid": "AC" + "0c" * 16}
    # Whether an account of others is configured is left to the 403 that both get.
    assert len(accounts(read({"media": [OBJECT, third]}, terms))) == 2
    assert bad_fields({"media": [{**OBJECT, "account_sid": OTHER}]}, terms) == ["media[0].account_sid"]


def test_a_bad_field_s_message_never_repeats_its_value() -> None:
    error = refused(parse_json, json.dumps({"media": [{"url": "https://u:hunter2@api.twilio.com/"}]}).encode())
    assert "hunter2" not in repr(error.errors) + error.detail


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nul",
        b"\xff\xfe",
        b'{"media": "\xff"}',
        '{"media": []}'.encode("utf-16"),
        b"\xef\xbb\xbf{}",
        b'{"ttl": NaN}',
        b'{"ttl": Infinity}',
        b'{"ttl": -Infinity}',
        b'{"ttl": ' + b"9" * 5_000 + b"}",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"media": [],}',
        b"{'media': []}",
        b'{"media": []} {}',
        b'{"a": "\n"}',
    ],
)
def test_rfc_8259_what_is_no_json_is_refused(body: bytes) -> None:
    assert refused(parse_json, body).detail == "The body is not JSON."


@pytest.mark.parametrize("body", [b"[]", b"1", b'"x"', b"null", b"true", b"1e999"])
def test_what_is_no_object_is_refused(body: bytes) -> None:
    assert refused(parse_json, body).detail == "The body is not a JSON object."


def test_rfc_8259_section_4_a_repeated_name_is_refused() -> None:
    whole = json.dumps({"media": [OBJECT]})[:-1]
    for body, name in [
        (whole + ', "ttl": 1, "ttl": 2}', "ttl"),
        (whole.replace('{"account_sid"', '{"media_sid": "x", "account_sid"') + "}", "media_sid"),
        (whole + ', "ttl": 1, "\\u0074tl": 2}', "ttl"),
    ]:
        assert [fault.field for fault in refused(parse_json, body.encode()).errors] == [name]


# --- a provider's webhook -------------------------------------------------------------------------------------


def form(*urls: str, **fields: str) -> bytes:
    media = {f"MediaUrl{place}": url for place, url in enumerate(urls)}
    types = {f"MediaContentType{place}": "image/jpeg" for place in range(len(urls))}
    return urlencode(
        {"AccountSid": ACCOUNT, "MessageSid": MESSAGE, "NumMedia": str(len(urls)), **media, **types, **fields}
    ).encode()


def form_faults(body: bytes) -> list[str]:
    return [fault.field for fault in refused(parse_webhook, body).errors]


@pytest.mark.parametrize("count", [0, 1, 10, 100])
def test_a_webhook_names_its_media(count: int) -> None:
    asked = parse_webhook(form(*[TWILIO] * count, Body="Grüße & mehr", From="+1555"), TERMS)
    assert asked.wanted == (Wanted(REF, NO_CLAIMS, "image/jpeg"),) * count
    assert [field for field, _ in asked.references.named] == [f"MediaUrl{place}" for place in range(count)]


def test_a_webhooks_urls_name_the_configured_or_the_providers_origin() -> None:
    assert parse_webhook(form(TWILIO, ORIGIN + RESOURCE), TERMS).references.media == (REF, REF)


def test_a_webhook_s_identifiers_have_no_case() -> None:
    assert parse_webhook(
        form(TWILIO, AccountSid=ACCOUNT.upper(), MessageSid=MESSAGE.upper()), TERMS
    ).references.media == (REF,)


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (b"", ["NumMedia"]),
        (b"NumMedia=", ["NumMedia"]),
        *(
            (urlencode({"NumMedia": count}).encode(), ["NumMedia"])
            for count in ("x", "-1", "1.0", "101", "00", "01", "0000999999999", "9" * 9_999, "٣", " 1", "+1", "1_0")
        ),
        (form(NumMedia="2"), ["MediaUrl0", "MediaUrl1"]),
        (form(TWILIO, NumMedia="0"), ["MediaUrl0"]),
        (form(TWILIO, MediaUrl1=TWILIO), ["MediaUrl1"]),
        (form(TWILIO, MediaUrl1000=TWILIO, MediaUrl00=TWILIO), ["MediaUrl1000", "MediaUrl00"]),
        (form(TWILIO, AccountSid=OTHER), ["MediaUrl0"]),
        (form(TWILIO, MessageSid="MM" + "1b" * 16), ["MediaUrl0"]),
        (form(TWILIO.replace(ACCOUNT, OTHER)), ["MediaUrl0"]),
        (form(TWILIO, f"https://evil.example{RESOURCE}", "", TWILIO), ["MediaUrl1", "MediaUrl2"]),
        (b"NumMedia=0&NumMedia=0", ["NumMedia"]),
    ],
)
def test_a_bad_field_of_a_webhook_is_named(body: bytes, fields: list[str]) -> None:
    assert form_faults(body) == fields


def test_the_wishes_of_a_webhook_stand_in_the_query() -> None:
    query = urlencode(
        {
            "ttl": "600",
            "not_before": str(int(NOW) + 10),
            "filename": "Grüße & mehr.jpg",
            "disposition": "attachment",
            "ip": "203.0.113.7/32",
            "scope": "message",
        }
    )
    asked = parse_webhook(form(TWILIO), TERMS, query)
    assert asked.ttl == 600
    assert asked.claims == Claims.parse(
        not_before=int(NOW) + 10,
        filename="Grüße & mehr.jpg",
        disposition="attachment",
        ip="203.0.113.7",
        scope="message",
    )
    assert [one.claims for one in asked.wanted] == [asked.claims]


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ("ttl=0", ["ttl"]),
        ("ttl=86401", ["ttl"]),
        *((f"ttl={text}", ["ttl"]) for text in ("", "x", "5.0", "+5", "%205", "-1", "1e3", "9" * 5_000, "%D9%A5")),
        *((f"not_before={text}", ["not_before"]) for text in ("", "x", "1000000000000", str(int(NOW) + 400))),
        ("ttl=5&ttl=5", ["ttl"]),
        ("filename=a&file%6eame=b", ["filename"]),
        ("filename=", ["filename"]),
        ("filename=a%0Ab", ["filename"]),
        ("disposition=INLINE", ["disposition"]),
        ("ip=x", ["ip"]),
        ("scope=variants", ["scope"]),
        ("variant=auto", ["variant"]),
        ("TTL=5", ["TTL"]),
        ("media=x&ttl", ["media", "ttl"]),
        ("NumMedia=1", ["NumMedia"]),
        ("=x", ["query"]),
    ],
)
def test_a_bad_wish_of_a_webhook_is_named(query: str, fields: list[str]) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_webhook(form(TWILIO), TERMS, query)
    assert [fault.field for fault in caught.value.errors] == fields


def test_bad_fields_and_bad_wishes_are_named_at_once() -> None:
    with pytest.raises(BadRequest) as caught:
        parse_webhook(form("x", NumMedia="2"), TERMS, "ttl=0&x=1")
    assert [fault.field for fault in caught.value.errors] == ["x", "ttl", "MediaUrl0", "MediaUrl1"]


@pytest.mark.parametrize("query", ["filename=%FF", "filename=\xfc", "&".join(f"a{n}=1" for n in range(101))])
def test_what_is_no_query_is_refused(query: str) -> None:
    for parse, body in ((parse_webhook, form(TWILIO)), (parse_json, json.dumps({"media": [OBJECT]}).encode())):
        with pytest.raises(BadRequest, match="query") as caught:
            parse(body, TERMS, query)
        assert not caught.value.errors


@given(st.text(max_size=60) | st.text("tlfnamepscoi_beor=&%+0123456789", max_size=60))
def test_any_query_is_wishes_or_a_bad_request(query: str) -> None:
    try:
        asked = parse_webhook(form(TWILIO), TERMS, query)
    except BadRequest:
        return
    assert asked.ttl is None or 1 <= asked.ttl <= TERMS.policy.max_ttl


@pytest.mark.parametrize(
    ("told", "content_type"),
    [
        ("image/jpeg", "image/jpeg"),
        ("Text/VCard; CHARSET=utf-8", "text/vcard; charset=utf-8"),
        *((told, None) for told in ("", "jpeg", "image/*", "*/*", "image/jpeg\r\nX: y", "ä/b", "a/" + "b" * 600)),
    ],
)
def test_a_valid_type_in_a_webhook_is_believed(told: str, content_type: str | None) -> None:
    asked = parse_webhook(form(TWILIO, MediaContentType0=told), TERMS)
    assert [one.content_type for one in asked.wanted] == [content_type]


def test_a_webhook_without_media_needs_an_account_of_the_client() -> None:
    assert parse_webhook(form(), TERMS).wanted == ()
    assert parse_webhook(form(AccountSid=""), TERMS).wanted == ()
    bound = Client("app", frozenset({Scope.MINT}), frozenset({AccountSid.parse(OTHER)}))
    for client, account in ((CLIENT, OTHER), (bound, ACCOUNT), (bound, OTHER)):
        with pytest.raises(Forbidden) as caught:
            parse_webhook(form(AccountSid=account), Terms(Asker(client, ACCOUNTS), TERMS.policy, NOW))
        assert [fault.field for fault in caught.value.errors] == ["AccountSid"]


@pytest.mark.parametrize(
    "body",
    [
        b"\xff",
        b"NumMedia=0&a=%ff",
        "NumMedia=0&ä=1".encode(),
        b"NumMedia=0&" + b"&".join(b"a%d=1" % n for n in range(500)),
    ],
)
def test_what_is_no_form_is_refused(body: bytes) -> None:
    assert not refused(parse_webhook, body).errors


# --- anything -------------------------------------------------------------------------------------------------

_LEAF = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=True),
    st.text(max_size=20),
    st.sampled_from([ACCOUNT, OTHER, MESSAGE, MEDIA, TWILIO, "\ud800", "message", "inline", "10.0.0.0/8"]),
)
_NAMES = st.one_of(
    st.sampled_from(
        ["media", "message", "ttl", "not_before", "filename", "disposition", "ip", "scope", *OBJECT, "url"]
    ),
    st.text(max_size=5),
    st.just("\ud800"),
)
_JSON = st.recursive(
    _LEAF, lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(_NAMES, inner, max_size=6))
)


def _only_400_or_a_request(parse: Callable[[bytes, Terms], MintRequest], body: bytes) -> None:
    try:
        asked = parse(body, TERMS)
    except BadRequest as error:
        for fault in error.errors:
            fault.field.encode()
            fault.message.encode()
    else:
        assert accounts(asked) <= {REF.account}
        assert asked.ttl is None or 1 <= asked.ttl <= TERMS.policy.max_ttl
        assert len(asked.references.media) <= MOST_MEDIA


@given(_JSON)
@settings_of_hypothesis(max_examples=200)
def test_any_json_is_a_request_or_a_400(document: object) -> None:
    _only_400_or_a_request(parse_json, json.dumps(document).encode())


@given(st.dictionaries(_NAMES, _JSON, max_size=4), st.sampled_from([OBJECT, {"url": TWILIO}]))
@settings_of_hypothesis(max_examples=200)
def test_any_document_is_a_request_or_a_400(more: dict[str, object], media: object) -> None:
    _only_400_or_a_request(parse_json, json.dumps({**more, "media": [media]}).encode())


@given(st.one_of(st.binary(max_size=200), st.text(max_size=100).map(lambda text: json.dumps(text).encode()[:-1])))
def test_any_bytes_are_no_json_request(body: bytes) -> None:
    _only_400_or_a_request(parse_json, body)


@given(
    st.one_of(
        st.binary(max_size=200),
        st.dictionaries(
            st.one_of(
                st.sampled_from(["NumMedia", "MediaUrl0", "MediaUrl1", "AccountSid", "MessageSid"]),
                st.from_regex(r"MediaUrl\d{1,4}", fullmatch=True),
            ),
            st.one_of(
                st.sampled_from([TWILIO, ACCOUNT, OTHER, MESSAGE, "1", "2"]),
                st.text(st.characters(codec="utf-8"), max_size=10),
            ),
            max_size=6,
        ).map(lambda fields: urlencode(fields).encode()),
    )
)
@settings_of_hypothesis(max_examples=200)
def test_any_bytes_are_a_webhook_or_a_400(body: bytes) -> None:
    _only_400_or_a_request(parse_webhook, body)


def test_a_name_is_the_place_of_its_field() -> None:
    fields = bad_fields({"media": [OBJECT, {**OBJECT, "media_sid": ""}], "ttl": 0})
    assert fields == ["media[1].media_sid", "ttl"]
