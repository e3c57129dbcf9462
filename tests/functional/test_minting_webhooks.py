"""`POST /links` with a provider's webhook: what a form may say, and that what is forged in one is refused by name."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

import pytest
from aiohttp import encode_basic_auth
from hypothesis import event, given
from hypothesis import strategies as st
from yarl import URL

from proxy.clients import Client
from proxy.errors import BadRequest, Forbidden
from proxy.links import LinkPolicy
from proxy.model import AccountSid, Provider
from proxy.sandbox import Media, Message, Sandbox, SandboxOptions
from proxy.settings import AllAccounts, Scope
from proxy.upstream.providers import Account, Accounts
from proxy.web.admin.mint_request import Terms
from proxy.web.admin.references import Asker
from proxy.web.admin.webhook import parse_webhook
from tests.functional.harness import CLIENT, Gateways, Reply, RunningGateway

OTHER: Final = "AC" + "0b" * 16
UNKNOWN: Final = "AC" + "0c" * 16


@pytest.fixture
async def message(sandbox: Sandbox) -> Message:
    """Return a message with two media."""
    return await sandbox.add_message([("image/jpeg", b"one"), ("image/png", b"two")])


@pytest.fixture
async def signalwire() -> AsyncIterator[Sandbox]:
    async with Sandbox(SandboxOptions(profile=Provider.SIGNALWIRE)) as started:
        yield started


@pytest.fixture
async def gateway(gateways: Gateways, sandbox: Sandbox, signalwire: Sandbox, tmp_path: Path) -> RunningGateway:
    """Return a gateway with two accounts at Twilio and a project at SignalWire."""
    config = tmp_path / "gateway.toml"
    config.write_text(
        f"""
        [[accounts]]
        provider = "twilio"
        account_sid = "{OTHER}"
        password = "{"p" * 32}"
        origin = "{sandbox.api_url}"

        [[accounts]]
        provider = "signalwire"
        account_sid = "{signalwire.account_sid}"
        password = "{signalwire.auth_token}"
        origin = "{signalwire.api_url}"
        redirect_hosts = ["{signalwire.cdn_host}"]
        """
    )
    return await gateways.start(config=config)


def form_of(sandbox: Sandbox, message: Message, **changes: str | None) -> dict[str, str]:
    """Return the form that Twilio posts for that message; a change of None leaves a field out."""
    form: dict[str, str | None] = {
        "ToCountry": "US",
        "SmsMessageSid": message.sid,
        "NumMedia": str(len(message.media)),
        "SmsSid": message.sid,
        "FromCity": "",
        "Body": "Grüße & Küsse = 100%",
        "From": "+15005550006",
        "MessageSid": message.sid,
        "AccountSid": sandbox.account_sid,
        **{f"MediaUrl{place}": sandbox.media_url(one) for place, one in enumerate(message.media)},
        **{f"MediaContentType{place}": one.content_type for place, one in enumerate(message.media)},
        "ApiVersion": "2010-04-01",
        **changes,
    }
    return {name: value for name, value in form.items() if value is not None}


async def post(gateway: RunningGateway, form: Mapping[str, str] | bytes) -> Reply:
    body = form if isinstance(form, bytes) else urlencode(form).encode()
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Authorization": encode_basic_auth(*CLIENT)}
    return await gateway.ask("POST", "/links", data=body, headers=headers)


def minted(reply: Reply) -> dict[str, str]:
    """Return the URLs, by media."""
    assert reply.status == 201, reply.body
    document: dict[str, list[dict[str, str]]] = json.loads(reply.body)
    return {link["media_sid"]: link["url"] for link in document["links"]}


def bad_fields(reply: Reply) -> set[str]:
    assert (reply.status, reply.headers["Content-Type"]) == (400, "application/problem+json")
    document: dict[str, list[dict[str, str]]] = json.loads(reply.body)
    return {error["field"] for error in document["errors"]}


def sids(message: Message) -> list[str]:
    return [media.sid for media in message.media]


# --- forms of the providers -----------------------------------------------------------------------------------


async def test_twilio_s_form_gives_links_that_open(gateway: RunningGateway, sandbox: Sandbox, message: Message) -> None:
    links = minted(await post(gateway, form_of(sandbox, message)))
    assert list(links) == sids(message)
    assert [(await gateway.get(url)).body for url in links.values()] == [b"one", b"two"]


@pytest.mark.parametrize("prefix", ["/api/laml/2010-04-01", "/2010-04-01"])
async def test_signalwire_s_form_gives_links_that_open(
    gateway: RunningGateway, signalwire: Sandbox, prefix: str
) -> None:
    message = await signalwire.add_message([("image/jpeg", b"one"), ("image/png", b"two")])
    form = form_of(signalwire, message, SmsMessageSid=None, ToCountry=None)
    links = minted(
        await post(gateway, {name: value.replace("/api/laml/2010-04-01", prefix) for name, value in form.items()})
    )
    assert list(links) == sids(message)
    assert [(await gateway.get(url)).body for url in links.values()] == [b"one", b"two"]


async def test_identifiers_are_one_whatever_the_case_of_their_digits(
    gateway: RunningGateway, sandbox: Sandbox, message: Message
) -> None:
    upper = message.sid[:2] + message.sid[2:].upper()
    assert list(minted(await post(gateway, form_of(sandbox, message, SmsSid=upper, MessageSid=upper)))) == sids(message)


@pytest.mark.parametrize("name", ["AccountSid", "MessageSid", "SmsMessageSid", "SmsSid", "MediaContentType0"])
@pytest.mark.parametrize("value", [None, ""])
async def test_what_the_media_say_themselves_may_be_left_out(
    gateway: RunningGateway, sandbox: Sandbox, message: Message, name: str, value: str | None
) -> None:
    assert list(minted(await post(gateway, form_of(sandbox, message, **{name: value})))) == sids(message)


# --- how many -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["MediaUrl2", "MediaUrl00", "MediaUrl01", "MediaUrl10", "MediaUrl99999999999999999999999999"]
)
async def test_a_media_beyond_the_count_is_named(
    gateway: RunningGateway, sandbox: Sandbox, message: Message, name: str
) -> None:
    form = form_of(sandbox, message, **{name: sandbox.media_url(message.media[0])})
    assert bad_fields(await post(gateway, form)) == {name}


@pytest.mark.parametrize("name", ["MediaUrl", "MediaUrlx", "MediaUrl-1", "MediaUrl٢", "mediaurl0", "XMediaUrl0"])
async def test_other_fields_mint_nothing(
    gateway: RunningGateway, sandbox: Sandbox, message: Message, name: str
) -> None:
    form = form_of(sandbox, message, **{name: f"{sandbox.media_url(message.media[0])[:-32]}{'9' * 32}"})
    assert list(minted(await post(gateway, form))) == sids(message)


@pytest.mark.parametrize(
    "count", ["", "x", "-1", "+2", " 2", "2 ", "02", "2.0", "0x2", "٢", "101", "1000", "1e1", "2\0"]
)
async def test_a_count_is_a_plain_number(
    gateway: RunningGateway, sandbox: Sandbox, message: Message, count: str
) -> None:
    assert bad_fields(await post(gateway, form_of(sandbox, message, NumMedia=count))) == {"NumMedia"}


async def test_a_form_that_counts_nothing_is_refused(
    gateway: RunningGateway, sandbox: Sandbox, message: Message
) -> None:
    assert bad_fields(await post(gateway, form_of(sandbox, message, NumMedia=None))) == {"NumMedia"}
    assert bad_fields(await post(gateway, b"")) == {"NumMedia"}


async def test_fewer_media_than_the_count_are_named(
    gateway: RunningGateway, sandbox: Sandbox, message: Message
) -> None:
    form = form_of(sandbox, message, NumMedia="4", MediaUrl0=None)
    assert bad_fields(await post(gateway, form)) == {"MediaUrl0", "MediaUrl2", "MediaUrl3"}


async def test_a_field_that_stands_twice_is_named(gateway: RunningGateway, sandbox: Sandbox, message: Message) -> None:
    form = urlencode(form_of(sandbox, message))
    for name in ("MediaUrl1", "NumMedia", "MessageSid", "Body"):
        assert bad_fields(await post(gateway, f"{form}&{name}=2".encode())) >= {name}
    # The same field, written another way.
    twice = f"{form}&Media%55rl1={sandbox.media_url(message.media[1])}"
    assert bad_fields(await post(gateway, twice.encode())) == {"MediaUrl1"}


@pytest.mark.parametrize("more", ["&x=1" * 500, "&Body=\u00fc", "&Body=%FF"])
async def test_what_is_no_form_is_refused_whole(
    gateway: RunningGateway, sandbox: Sandbox, message: Message, more: str
) -> None:
    reply = await post(gateway, (urlencode(form_of(sandbox, message)) + more).encode())
    assert (reply.status, reply.json["detail"]) == (400, "The body must be a form of name=value pairs.")


# --- whose ----------------------------------------------------------------------------------------------------


def forged(sandbox: Sandbox, media: Media) -> list[str]:
    """Draw URLs that are nearly a media's."""
    ours = sandbox.media_url(media)
    path = URL(ours).path
    authority = ours.removeprefix("http://").removesuffix(path)
    hosts = [
        "evil.example",
        "api.twilio.com.evil.example",
        "evil-api.twilio.com",
        "api.twilio.com.",
        "api.a.b.c.twilio.com",
        "api..twilio.com",
        # The dot, the letter l and the whole name as percent-encoded octets (RFC 3986 §3.2.2).
        "api%2Etwilio.com",
        "api.twi%6Cio.com",
        "%61%70%69.%74%77%69%6C%69%6F.%63%6F%6D",
        # Userinfo, of either kind (§3.2.1).
        "api.twilio.com@evil.example",
        "api.twilio.com:443@evil.example",
        "user@api.twilio.com",
        "user:secret@api.twilio.com",
        "@api.twilio.com",
        f"{authority}@evil.example",
        # Ports (§3.2.3).
        "api.twilio.com:8443",
        "api.twilio.com:80",
        "api.twilio.com:",
        "api.twilio.com:0443",
        "api.twilio.com:65979",
        authority.rpartition(":")[0],
        # Letters that look alike, as they are and as they are resolved (RFC 5891).
        "api.twіlio.com",
        "api.twilio.сom",
        "xn--api-twlio-2ld.com",
        "api.xn--twlio-iva.com",
        "ａｐｉ.twilio.com",
        "api。twilio。com",
        "apı.twilio.com",
        # Addresses, and another loopback.
        "[::1]",
        "169.254.169.254",
        "localhost:" + authority.rpartition(":")[2],
        # What some parsers take for the end of the host.
        "evil.example\\.api.twilio.com",
        "evil.example#.api.twilio.com",
        "evil.example?.api.twilio.com",
        "api.twilio.com\t",
        "api.twilio.com\n",
        " api.twilio.com",
        "",
    ]
    paths = [
        f"{path}?x=1",
        f"{path}#x",
        f"{path}/",
        f"/{path}",
        f"{path}.JSON",
        f"{path}.json?x=1",
        f"{path}%00",
        f"{path}\n",
        f"/x/..{path}",
        path.replace("/Media/", "/Media/../Media/"),
        path.replace("/Media/", "%2FMedia%2F"),
        path.replace("/Accounts/", "/accounts/"),
        path.replace("/2010-04-01/", "/2008-08-01/"),
        path.replace("/2010-04-01/", "/api/laml/2010-04-01/"),
        path.replace(sandbox.account_sid, UNKNOWN),
        path.replace("/ME", "/MF"),
        path[:-1],
        f"{path}0",
        "/",
        "",
    ]
    schemes = [f"{scheme}://api.twilio.com{path}" for scheme in ("http", "ftp", "HTTPS", "file", "//https", "")]
    return [
        *(f"https://{host}{path}" for host in hosts),
        *(f"https://api.twilio.com{other}" for other in paths),
        *schemes,
        f"https://{authority}{path}",
        sandbox.cdn_url + path,
        path.replace(sandbox.account_sid, UNKNOWN),
        f"//api.twilio.com{path}",
        f"/{path}",
        f"/x/..{path}",
        f"{path}?x=1",
        path.removeprefix("/"),
        "javascript:alert(1)",
        "x" * 10_000,
        "",
    ]


async def test_a_url_of_another_place_is_named_and_never_asked(
    gateway: RunningGateway, sandbox: Sandbox, message: Message
) -> None:
    for url in forged(sandbox, message.media[1]):
        reply = await post(gateway, form_of(sandbox, message, MediaUrl1=url))
        assert bad_fields(reply) == {"MediaUrl1"}, url
        assert b"evil" not in reply.body
    assert not sandbox.requests


@pytest.mark.parametrize(
    "host",
    ["api.twilio.com", "API.TWILIO.COM", "api.twilio.com:443", "api.ie1.twilio.com", "api.dublin.ie1.twilio.com"],
)
async def test_the_provider_s_own_hosts_are_the_account_s(
    gateway: RunningGateway, sandbox: Sandbox, message: Message, host: str
) -> None:
    there = {
        f"MediaUrl{place}": f"https://{host}{URL(sandbox.media_url(one)).path}"
        for place, one in enumerate(message.media)
    }
    assert list(minted(await post(gateway, form_of(sandbox, message, **there)))) == sids(message)


async def test_media_of_two_accounts_are_no_form(gateway: RunningGateway, sandbox: Sandbox, message: Message) -> None:
    theirs = sandbox.media_url(message.media[1]).replace(sandbox.account_sid, OTHER)
    for account in (sandbox.account_sid, None):
        form = form_of(sandbox, message, AccountSid=account, MediaUrl1=theirs)
        assert bad_fields(await post(gateway, form)) == {"MediaUrl1"}
    # All of them are of another account than the form's.
    both = {
        f"MediaUrl{place}": sandbox.media_url(one).replace(sandbox.account_sid, OTHER)
        for place, one in enumerate(message.media)
    }
    assert bad_fields(await post(gateway, form_of(sandbox, message, **both))) == {"MediaUrl0", "MediaUrl1"}


async def test_media_of_two_providers_are_no_form(
    gateway: RunningGateway, sandbox: Sandbox, signalwire: Sandbox, message: Message
) -> None:
    theirs = signalwire.media_url(signalwire.messages[0].media[0])
    unnamed = dict.fromkeys(("AccountSid", "MessageSid", "SmsMessageSid", "SmsSid"))
    for changes in ({}, unnamed):
        form = form_of(sandbox, message, MediaUrl1=theirs, **changes)
        assert bad_fields(await post(gateway, form)) == {"MediaUrl1"}


async def test_media_of_two_messages_are_no_form(gateway: RunningGateway, sandbox: Sandbox, message: Message) -> None:
    other = await sandbox.add_message([("image/png", b"three")])
    unnamed = dict.fromkeys(("MessageSid", "SmsMessageSid", "SmsSid"))
    for changes in ({}, unnamed):
        form = form_of(sandbox, message, MediaUrl1=sandbox.media_url(other.media[0]), **changes)
        assert bad_fields(await post(gateway, form)) == {"MediaUrl1"}


@pytest.mark.parametrize("name", ["SmsMessageSid", "SmsSid"])
async def test_the_names_of_the_message_agree(
    gateway: RunningGateway, sandbox: Sandbox, message: Message, name: str
) -> None:
    form = form_of(sandbox, message, **{name: "MM" + "9" * 32})
    assert bad_fields(await post(gateway, form)) == {name}
    # Without the first name, the others say which message it is.
    named = {"MessageSid": None, "SmsMessageSid": None, "SmsSid": None, name: "MM" + "9" * 32}
    assert bad_fields(await post(gateway, form_of(sandbox, message, **named))) == {"MediaUrl0", "MediaUrl1"}


async def test_another_message_than_the_form_s_is_named_in_place(
    gateway: RunningGateway, sandbox: Sandbox, message: Message
) -> None:
    other = dict.fromkeys(("MessageSid", "SmsMessageSid", "SmsSid"), "MM" + "9" * 32)
    assert bad_fields(await post(gateway, form_of(sandbox, message, **other))) == {"MediaUrl0", "MediaUrl1"}


@pytest.mark.parametrize("name", ["AccountSid", "MessageSid", "SmsMessageSid", "SmsSid"])
@pytest.mark.parametrize("value", ["x", "MM", "AC" + "g" * 32, "mm" + "9" * 32, "../" * 11 + "x"])
async def test_what_is_no_identifier_is_named(
    gateway: RunningGateway, sandbox: Sandbox, message: Message, name: str, value: str
) -> None:
    assert bad_fields(await post(gateway, form_of(sandbox, message, **{name: value}))) == {name}
    # Also if there are no media.
    bare = {"NumMedia": "0", name: value}
    assert bad_fields(await post(gateway, bare)) == {name}


async def test_a_form_without_media_needs_a_configured_account(gateway: RunningGateway, sandbox: Sandbox) -> None:
    reply = await post(gateway, {"NumMedia": "0", "AccountSid": UNKNOWN})
    assert (reply.status, [error["field"] for error in json.loads(reply.body)["errors"]]) == (403, ["AccountSid"])
    own = await post(gateway, {"NumMedia": "0", "AccountSid": sandbox.account_sid})
    assert (own.status, own.json["links"]) == (201, [])


async def test_every_bad_field_is_named_at_once(gateway: RunningGateway, sandbox: Sandbox, message: Message) -> None:
    form = form_of(
        sandbox, message, AccountSid="x", SmsSid="y", MediaUrl0="https://evil.example/", MediaUrl7="z", NumMedia="3"
    )
    assert bad_fields(await post(gateway, form)) == {"AccountSid", "SmsSid", "MediaUrl0", "MediaUrl2", "MediaUrl7"}


# --- any form at all ------------------------------------------------------------------------------------------

_ACCOUNTS: Final = Accounts(
    Account.create(Provider.TWILIO, AccountSid.parse(sid), sid, "p" * 32, "https://api.twilio.com")
    for sid in (OTHER, "AC" + "0d" * 16)
)
_TERMS: Final = Terms(Asker(Client("backend", frozenset(Scope), AllAccounts.ALL), _ACCOUNTS), LinkPolicy(), 0.0)
_SIDS: Final = st.sampled_from([OTHER, "AC" + "0d" * 16, UNKNOWN])
_MESSAGES: Final = st.sampled_from(["MM" + "1" * 32, "SM" + "1" * 32])
_URLS: Final = st.builds(
    "https://{}/2010-04-01/Accounts/{}/Messages/{}/Media/{}".format,
    st.sampled_from(["api.twilio.com"] * 5 + ["evil.example"]),
    _SIDS,
    _MESSAGES,
    st.sampled_from(["ME" + "2" * 32, "ME" + "3" * 32]),
)
_FIELDS: Final = st.fixed_dictionaries(
    {"NumMedia": st.sampled_from(["0", "1", "2", "02"])},
    optional={
        "AccountSid": _SIDS,
        "MessageSid": _MESSAGES,
        "SmsSid": _MESSAGES,
        **dict.fromkeys(("MediaUrl0", "MediaUrl1", "MediaUrl01"), _URLS),
    },
)


@given(_FIELDS)
def test_a_form_gives_its_message_s_media_or_is_refused(form: dict[str, str]) -> None:
    try:
        media = parse_webhook(urlencode(form).encode(), _TERMS).references.media
    except (BadRequest, Forbidden):
        event("refused")
        return
    event(f"{len(media)} media")
    assert len(media) == int(form["NumMedia"])
    assert len({ref.parent for ref in media}) <= 1
    for place, ref in enumerate(media):
        assert (
            form[f"MediaUrl{place}"]
            == f"https://api.twilio.com/2010-04-01/Accounts/{ref.account}/Messages/{ref.message}/Media/{ref.media}"
        )
        assert form.get("AccountSid", str(ref.account)) == str(ref.account)
        assert {form.get(name, str(ref.message)) for name in ("MessageSid", "SmsSid")} == {str(ref.message)}
        assert _ACCOUNTS.get(ref.account) is not None


@given(st.binary(max_size=200))
def test_any_octets_are_a_form_or_a_bad_request(body: bytes) -> None:
    try:
        assert parse_webhook(body, _TERMS).references.media == ()
    except BadRequest:
        return
