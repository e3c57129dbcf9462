from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import IdentifierError, SettingsError
from proxy.model import AccountSid, MediaRef, Provider
from proxy.upstream.providers import (
    Account,
    Accounts,
    RedirectPlace,
    WebOrigin,
    media_list_path,
    media_list_paths,
    media_path,
    media_paths,
    messages_path,
    parse_media_url,
)

AC = "AC" + "a1" * 16
OTHER = "AC" + "b2" * 16
MM = "MM" + "c3" * 16
ME = "ME" + "d4" * 16
UA, UB, UC = (f"{n}{n}{n}{n}{n}{n}{n}{n}-0000-4000-8000-00000000000{n}" for n in (1, 2, 3))
REF = MediaRef.parse(AC, MM, ME)
UUIDS = MediaRef.parse(UA, UB, UC)

TWILIO = Account.create(Provider.TWILIO, AccountSid.parse(AC), "u", "s3cret-word", "https://api.twilio.com")
SPACE = Account.create(Provider.SIGNALWIRE, AccountSid.parse(UA), "u", "p", "https://acme.signalwire.com")
ACCOUNTS = Accounts([TWILIO, SPACE])
LOOPBACK = Accounts(
    [Account.create(Provider.TWILIO, AccountSid.parse(AC), "u", "p", "http://127.0.0.1:9001", [("127.0.0.1", 9002)])]
)

NAMED_LOOPBACK = Accounts(
    [Account.create(Provider.TWILIO, AccountSid.parse(AC), "u", "p", "http://localhost:9001", [("localhost", 9002)])]
)


def test_paths_are_the_providers_own() -> None:
    assert media_path(REF) == f"/2010-04-01/Accounts/{AC}/Messages/{MM}/Media/{ME}"
    assert media_path(UUIDS) == f"/api/laml/2010-04-01/Accounts/{UA}/Messages/{UB}/Media/{UC}"
    assert media_list_path(REF.parent) == f"/2010-04-01/Accounts/{AC}/Messages/{MM}/Media.json"
    assert messages_path(UUIDS.account) == f"/api/laml/2010-04-01/Accounts/{UA}/Messages.json"


def test_both_folder_names_and_both_signalwire_prefixes_name_a_media() -> None:
    assert media_paths(REF) == {
        f"/2010-04-01/Accounts/{AC}/Messages/{MM}/Media/{ME}",
        f"/2010-04-01/Accounts/{AC}/Message/{MM}/Media/{ME}",
    }
    assert len(media_paths(UUIDS)) == 4
    assert len(media_list_paths(UUIDS.parent)) == 8


def test_the_password_is_never_in_the_representation() -> None:
    assert "s3cret-word" not in repr(TWILIO)


@pytest.mark.parametrize(
    "text",
    [
        "https://h/", "https://h/p", "https://u@h", "https://u:p@h", "https://h:0", "https://h:0443", "https://h:65536",
        "https://h:", "https://", "ftp://h", "https://h?x", "https://h#x", "https://H", " https://h", "https://h\n",
        "https://[::1", "https://[:::]", "https://h.", "https://é", "h", "",
    ],
)  # fmt: skip
def test_an_origin_is_scheme_host_and_port_alone(text: str) -> None:
    assert WebOrigin.parse(text) is None


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://h:443", "https://h"),
        ("http://h:80", "http://h"),
        ("https://h:80", "https://h:80"),
        ("http://[::1]:9", "http://[::1]:9"),
        ("https://a_b.c-d", "https://a_b.c-d"),
    ],
)
def test_an_origin_leaves_out_its_schemes_own_port(text: str, shown: str) -> None:
    assert str(WebOrigin.parse(text)) == shown


@pytest.mark.parametrize(
    ("provider", "sid", "username", "origin", "hosts", "name"),
    [
        (Provider.TWILIO, UA, "u", "https://h", [], "account_sid"),
        (Provider.TWILIO, AC, "u:v", "https://h", [], "username"),
        (Provider.TWILIO, AC, "u", "https://h/path", [], "origin"),
        (Provider.TWILIO, AC, "u", "http://api.twilio.com", [], "origin"),
        (Provider.TWILIO, AC, "u", "http://10.0.0.1", [], "origin"),
        (Provider.TWILIO, AC, "u", "https://h", [("a/b", None)], "redirect_hosts"),
        (Provider.TWILIO, AC, "u", "https://h", [("a@b", None)], "redirect_hosts"),
    ],
)
def test_an_unusable_account_is_named_by_a_settings_error(
    provider: Provider, sid: str, username: str, origin: str, hosts: list[tuple[str, int | None]], name: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        Account.create(provider, AccountSid.parse(sid), username, "hidden-word", origin, hosts)
    assert [problem.name for problem in caught.value.problems] == [name]
    assert "hidden-word" not in str(caught.value)


def test_twilio_redirects_lead_to_its_cdn_or_s3_folder() -> None:
    assert TWILIO.places == (
        RedirectPlace(WebOrigin("https", "mms.twiliocdn.com", 443)),
        RedirectPlace(WebOrigin("https", "media.twiliocdn.com", 443)),
        RedirectPlace(WebOrigin("https", "s3-external-1.amazonaws.com", 443), f"/media.twiliocdn.com/{AC}/"),
    )
    assert TWILIO.local == frozenset()


def test_signalwire_redirects_lead_to_its_files_and_to_the_space() -> None:
    assert {str(place.origin) for place in SPACE.places} == {
        "https://files.signalwire.com",
        "https://acme.signalwire.com",
    }


def _places(origin: str, hosts: list[tuple[str, int | None]]) -> tuple[set[str], set[str]]:
    account = Account.create(Provider.TWILIO, AccountSid.parse(AC), "u", "p", origin, hosts)
    return (
        {str(place.origin) for place in account.places} - {str(place.origin) for place in TWILIO.places},
        {str(origin) for origin in account.local},
    )


def test_loopback_and_plain_http_need_a_port_and_loopback_origin() -> None:
    both = {"http://cdn.test:9002", "https://cdn.test:9002"}
    assert _places("http://127.0.0.1:9001", [("cdn.test", 9002)]) == (both, both | {"http://127.0.0.1:9001"})
    assert _places("http://localhost:9001", [("CDN.test", None)]) == ({"https://cdn.test"}, {"http://localhost:9001"})
    assert _places("https://api.twilio.com", [("127.0.0.1", 9002)]) == ({"https://127.0.0.1:9002"}, set())
    assert _places("http://[::1]:9001", [("::1", 80)]) == (
        {"http://[::1]", "https://[::1]:80"},
        {"http://[::1]", "https://[::1]:80", "http://[::1]:9001"},
    )


def test_an_origin_written_as_a_private_address_exempts_itself_alone() -> None:
    assert _places("https://10.0.0.5", [("10.0.0.6", 443)]) == ({"https://10.0.0.6"}, {"https://10.0.0.5"})


def test_accounts_are_found_by_identifier_and_stand_once() -> None:
    assert ACCOUNTS.get(AccountSid.parse(AC)) is TWILIO
    assert ACCOUNTS.get(AccountSid.parse(OTHER)) is None
    assert list(ACCOUNTS) == [TWILIO, SPACE]
    assert len(ACCOUNTS) == 2
    with pytest.raises(SettingsError):
        Accounts([TWILIO, TWILIO])


PARENT = Account.create(
    Provider.TWILIO,
    AccountSid.parse(AC),
    "SK1",
    "p",
    "http://127.0.0.1:9001",
    [("127.0.0.1", 9002)],
    subaccounts=True,
)


def test_an_unconfigured_account_is_reached_through_its_parent() -> None:
    accounts, sid = Accounts([PARENT, SPACE]), AccountSid.parse(OTHER)
    account = accounts.get(sid)
    assert account is not None
    assert (account.sid, account.parent, account.holder) == (sid, PARENT.sid, PARENT.sid)
    assert (account.username, account.password, account.origin) == (PARENT.username, PARENT.password, PARENT.origin)
    assert account.local == PARENT.local
    assert not account.subaccounts
    # The folder at S3 is its own.
    assert f"/media.twiliocdn.com/{OTHER}/" in {place.path_prefix for place in account.places}
    assert f"/media.twiliocdn.com/{AC}/" not in {place.path_prefix for place in account.places}
    assert accounts.get(PARENT.sid) is PARENT
    assert accounts.parent(sid) == PARENT.sid
    assert accounts.parent(PARENT.sid) is None
    assert [sid in accounts, PARENT.sid in accounts, len(accounts)] == [True, True, 2]


def test_a_parent_is_of_its_own_provider_alone() -> None:
    accounts, project = Accounts([PARENT]), AccountSid.parse(UA)
    assert (accounts.get(project), accounts.parent(project), project in accounts) == (None, None, False)


def test_one_account_of_a_provider_has_subaccounts() -> None:
    second = Account.create(Provider.TWILIO, AccountSid.parse(OTHER), "u", "p", "https://h", subaccounts=True)
    with pytest.raises(SettingsError, match="have subaccounts"):
        Accounts([PARENT, second])


MEDIA_PATH = f"/2010-04-01/Accounts/{AC}/Messages/{MM}/Media/{ME}"
GOOD = f"https://api.twilio.com{MEDIA_PATH}"


@pytest.mark.parametrize(
    "url",
    [
        GOOD,
        GOOD.replace("/Messages/", "/Message/"),
        GOOD.replace(".com", ".com:443"),
        GOOD.replace("api.", "api.ie1."),
        GOOD.replace("api.", "api.dublin.ie1."),
        GOOD.replace(MM, "SM" + "C3" * 16).replace(ME, ME.upper()),
        GOOD.replace("api.twilio.com", "API.Twilio.COM"),
        GOOD.replace("api.twilio.com", "API.IE1.Twilio.com:443"),
        MEDIA_PATH,
        MEDIA_PATH.replace("/Messages/", "/Message/"),
        *(url + suffix for url in (GOOD, MEDIA_PATH) for suffix in (".json", ".xml")),
    ],
)
def test_rule_1_a_media_url_of_twilios_api_is_understood(url: str) -> None:
    ref = parse_media_url(url, ACCOUNTS)
    assert (str(ref.account), str(ref.media)) == (AC, ME)


@pytest.mark.parametrize("origin", ["https://acme.signalwire.com", "https://ACME.SignalWire.com:443", ""])
@pytest.mark.parametrize("prefix", ["/api/laml", ""])
@pytest.mark.parametrize("suffix", ["", ".json", ".xml"])
def test_rule_1_a_space_s_media_url_has_either_prefix(origin: str, prefix: str, suffix: str) -> None:
    url = f"{origin}{prefix}/2010-04-01/Accounts/{UA}/Messages/{UB}/Media/{UC}{suffix}"
    assert parse_media_url(url, ACCOUNTS) == UUIDS


def test_rule_1_the_configured_loopback_origin_is_understood_too() -> None:
    assert parse_media_url(f"http://127.0.0.1:9001{MEDIA_PATH}", LOOPBACK) == REF
    assert parse_media_url(GOOD, LOOPBACK) == REF
    assert parse_media_url(f"http://127.0.0.1:9001{MEDIA_PATH}.json", LOOPBACK) == REF
    assert parse_media_url(f"http://LocalHost:9001{MEDIA_PATH}", NAMED_LOOPBACK) == REF


@pytest.mark.parametrize(
    "url",
    [
        "",
        "garbage",
        MEDIA_PATH.replace(AC, OTHER),
        f"{AC}/{MM}/{ME}",
        f"//api.twilio.com{MEDIA_PATH}",
        f"/{MEDIA_PATH}",
        f"/.{MEDIA_PATH}",
        f"/x/..{MEDIA_PATH}",
        f"{MEDIA_PATH}?x=1",
        f"{MEDIA_PATH}?",
        f"{MEDIA_PATH}#f",
        f"{MEDIA_PATH}/",
        f"{MEDIA_PATH}/.json",
        f"{MEDIA_PATH}.json?x=1",
        f"/api/laml{MEDIA_PATH}",
        MEDIA_PATH[1:],
        MEDIA_PATH.replace("/", "\\"),
        MEDIA_PATH.rsplit("/", 1)[0] + ".json",
        GOOD.replace("https:", "http:"),
        GOOD.replace("https:", "HTTPS:"),
        GOOD.replace("https:", "ftp:"),
        GOOD.replace("api.", "user@api."),
        GOOD.replace("api.", "user:pw@api."),
        GOOD.replace(".com", ".com:8443"),
        GOOD.replace(".com", ".com:80"),
        GOOD.replace(".com", ".com:"),
        GOOD.replace(".com", ".com:0443"),
        GOOD.replace(".com", ".com."),
        GOOD.replace(".com", ".com.evil.example"),
        GOOD.replace("api.twilio.com", "evil.example"),
        GOOD.replace("api.twilio.com", "apixtwilio.com"),
        GOOD.replace("api.", "evil.api."),
        GOOD.replace("api.", "api.a.b.c."),
        GOOD.replace("api.", "api.-a."),
        GOOD.replace("api.twilio.com", "evil.example\\@api.twilio.com"),
        GOOD.replace("api.twilio.com", "api.twilio.com\\.evil.example"),
        GOOD.replace("api.twilio.com", "acme.signalwire.com"),
        GOOD.replace("api.twilio.com", "mms.twiliocdn.com"),
        GOOD + "?x=1",
        GOOD + "?",
        GOOD + "#f",
        GOOD + "/",
        GOOD + ".JSON",
        GOOD + ".csv",
        GOOD + ".",
        GOOD + ".json.json",
        GOOD + ".json/",
        GOOD + ".json?x=1",
        GOOD + "%2ejson",
        GOOD.replace("api.twilio.com", "ap\u0131.twilio.com"),
        GOOD.replace("api.twilio.com", "api.tw\u0130lio.com"),
        GOOD + " ",
        GOOD + "\n",
        " " + GOOD,
        GOOD + "\x00",
        GOOD.replace("/Media/", "/Media//"),
        GOOD.replace("/Media/", "/%4dedia/"),
        GOOD.replace("/Messages/", "/messages/"),
        GOOD.replace("/Messages/", "/x/../Messages/"),
        GOOD.replace("/2010-04-01", "/api/laml/2010-04-01"),
        GOOD.replace(AC, OTHER),
        GOOD.replace(AC, UA),
        GOOD.replace(ME, UC),
        GOOD.replace(ME, ME[:-1]),
        GOOD.rsplit("/", 2)[0],
        f"https://evil.signalwire.com/api/laml/2010-04-01/Accounts/{UA}/Messages/{UB}/Media/{UC}",
        f"https://acme.signalwire.com/api/laml/2010-04-01/Accounts/{UA}/Messages/{UB}",
        f"http://127.0.0.1:9001{MEDIA_PATH}",
    ],
)
def test_rule_1_any_other_url_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(IdentifierError) as caught:
        parse_media_url(url, ACCOUNTS)
    assert not url or url not in caught.value.detail


def test_rule_1_an_edge_of_twilio_is_not_a_space() -> None:
    with pytest.raises(IdentifierError):
        parse_media_url(f"https://api.twilio.com/2010-04-01/Accounts/{UA}/Messages/{UB}/Media/{UC}", ACCOUNTS)


@given(st.text() | st.from_regex(r"https?://[a-z:@.\\]{0,12}twilio\.com[!-~]{0,40}", fullmatch=True))
def test_any_text_is_a_configured_media_or_an_identifier_error(text: str) -> None:
    try:
        ref = parse_media_url(text, ACCOUNTS)
    except IdentifierError:
        return
    assert ACCOUNTS.get(ref.account) is not None


@given(st.integers(0, len(GOOD) - 1), st.characters(codec="ascii"))
def test_one_changed_character_never_leads_to_another_host_or_account(position: int, character: str) -> None:
    url = GOOD[:position] + character + GOOD[position + 1 :]
    try:
        ref = parse_media_url(url, ACCOUNTS)
    except IdentifierError:
        return
    assert url.lower().startswith("https://api.twilio.com/2010-04-01/accounts/")
    assert str(ref.account) == AC


# --- accounts that change -------------------------------------------------------------------------------------


def _account(sid: str, origin: str = "https://api.twilio.com", *, subaccounts: bool = False) -> Account:
    return Account.create(Provider.TWILIO, AccountSid.parse(sid), "u", "p", origin, subaccounts=subaccounts)


def test_accounts_come_change_and_go() -> None:
    accounts, lost = Accounts([_account(AC)]), list[str]()
    accounts.on_loss(lambda: lost.append("lost"))
    accounts.change([_account(OTHER), _account(AC, "https://elsewhere.example")], [])
    account = accounts.get(AccountSid.parse(AC))
    assert account is not None
    assert (str(account.origin), len(accounts), lost) == ("https://elsewhere.example", 2, [])
    accounts.change([], [AccountSid.parse(AC), AccountSid.parse("AC" + "f" * 32)])
    assert (accounts.get(AccountSid.parse(AC)), len(accounts), lost) == (None, 1, ["lost"])
    accounts.change([], [AccountSid.parse(AC)])
    assert lost == ["lost"]


def test_exempt_origins_are_those_of_the_accounts_there_are() -> None:
    first, second = "http://127.0.0.1:9001", "http://127.0.0.1:9002"
    accounts = Accounts([_account(AC, first), _account(OTHER, first)])
    assert {str(origin) for origin in accounts.local} == {first}
    accounts.change([_account(AC, second)], [])
    assert {str(origin) for origin in accounts.local} == {first, second}
    accounts.change([], [AccountSid.parse(OTHER)])
    assert {str(origin) for origin in accounts.local} == {second}


@pytest.mark.parametrize("gone", [True, False])
def test_subaccounts_go_with_their_parent(*, gone: bool) -> None:
    accounts, lost, sid = Accounts([PARENT]), list[str](), AccountSid.parse(OTHER)
    accounts.on_loss(lambda: lost.append("lost"))
    assert sid in accounts
    accounts.change([] if gone else [_account(AC)], [PARENT.sid] if gone else [])
    assert (sid in accounts, accounts.get(sid), accounts.parent(sid), lost) == (False, None, None, ["lost"])


@pytest.mark.parametrize("order", [0, 1])
def test_another_account_takes_over_the_subaccounts(order: int) -> None:
    accounts, sid = Accounts([PARENT]), AccountSid.parse("AC" + "f" * 32)
    come = [_account(AC), _account(OTHER, subaccounts=True)]
    accounts.change(come[::-1] if order else come, [])
    assert accounts.parent(sid) == AccountSid.parse(OTHER)
