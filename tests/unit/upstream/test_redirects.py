from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.errors import UpstreamError, UpstreamMalformed, UpstreamRedirectRefused
from proxy.model import AccountSid, MediaRef, Provider
from proxy.semantics.fields import Fields
from proxy.upstream.providers import Account, media_path, media_paths
from proxy.upstream.redirects import MAX_HOPS, Hop, first_hop, follow

AC = "AC" + "a1" * 16
OTHER = "AC" + "b2" * 16
REF = MediaRef.parse(AC, "MM" + "c3" * 16, "ME" + "d4" * 16)
UA, UB, UC = (f"{n}{n}{n}{n}{n}{n}{n}{n}-0000-4000-8000-00000000000{n}" for n in (1, 2, 3))
UUIDS = MediaRef.parse(UA, UB, UC)
TWILIO = Account.create(Provider.TWILIO, AccountSid.parse(AC), "u", "p", "https://api.twilio.com")
SPACE = Account.create(Provider.SIGNALWIRE, AccountSid.parse(UA), "u", "p", "https://acme.signalwire.com")
LOOPBACK = Account.create(
    Provider.TWILIO, AccountSid.parse(AC), "u", "p", "http://127.0.0.1:9001", [("127.0.0.1", 9002), ("cdn.test", None)]
)
S3 = "https://s3-external-1.amazonaws.com/media.twiliocdn.com"


def _to(location: str, account: Account = TWILIO, hop: Hop | None = None, ref: MediaRef = REF) -> Hop:
    return follow(account, ref, hop or first_hop(account, ref), Fields.of([("Location", location)]))


def test_the_first_hop_carries_the_credentials() -> None:
    hop = first_hop(TWILIO, REF)
    assert str(hop.url) == f"https://api.twilio.com{media_path(REF)}"
    assert hop.credentials
    assert hop.number == 0


@pytest.mark.parametrize(
    "location",
    [
        "https://mms.twiliocdn.com/AC1/ff?Expires=1&Signature=a~b-_%7Ec%2f%2F+&Key-Pair-Id=K",
        "https://mms.twiliocdn.com/a%20b/%zz?x=[1]|{2}^`",
        "https://media.twiliocdn.com/x?",
        "https://mms.twiliocdn.com/?a//b/../c",
        f"{S3}/{AC}/ff",
    ],
)
def test_rule_2_a_listed_redirect_is_followed_exactly_without_credentials(location: str) -> None:
    hop = _to(location)
    assert f"{hop.origin}{hop.target}" == location
    assert hop.url.raw_path_qs == hop.target.rstrip("?")
    assert not hop.credentials
    assert hop.number == 1


def test_a_fragment_is_dropped() -> None:
    assert _to("https://mms.twiliocdn.com/a?b#c?d").target == "/a?b"


def test_a_location_s_host_and_scheme_have_no_case() -> None:
    assert str(_to("HTTPS://MMS.TwilioCDN.com:443/Ab").url) == "https://mms.twiliocdn.com/Ab"


def test_a_location_with_no_path_asks_for_the_root() -> None:
    assert _to("https://mms.twiliocdn.com").target == "/"
    assert _to("https://mms.twiliocdn.com?q").target == "/?q"


@pytest.mark.parametrize(
    "location",
    [
        "http://mms.twiliocdn.com/x",
        "https://mms.twiliocdn.com:8443/x",
        "https://mms.twiliocdn.com:80/x",
        "https://mms.twiliocdn.com./x",
        "https://mms.twiliocdn.com.evil.example/x",
        "https://evil-mms.twiliocdn.com/x",
        "https://evil.example/x",
        "https://user@mms.twiliocdn.com/x",
        "https://user:pw@mms.twiliocdn.com/x",
        "https://mms.twiliocdn.com@evil.example/x",
        "https://mms.twiliocdn.com:443@evil.example/x",
        "https://mms.twiliocdn.com:/x",
        "https://mms.twiliocdn.com:443:443/x",
        "https://%6dms.twiliocdn.com/x",
        "https://[::1]/x",
        "https://127.0.0.1/x",
        "https://169.254.169.254/latest",
        "https:///x",
        "ftp://mms.twiliocdn.com/x",
        "file:///etc/passwd",
        "https://api.twilio.com/",
        "https://api.twilio.com/2010-04-01/Accounts",
        "https://s3-external-1.amazonaws.com/other-bucket/x",
        f"{S3}/{OTHER}/x",
        f"{S3}/{AC}",
        f"{S3}/{AC}/../{OTHER}/x",
        f"{S3}/{AC}/%2e%2E/{OTHER}/x",
        f"{S3}/{AC}/..%2f{OTHER}/x",
        f"{S3}/{AC}/..%5c{OTHER}/x",
        f"{S3}/{AC}/./x",
        "https://mms.twiliocdn.com/a/../b",
        "//evil.example/x",
        "/elsewhere",
        "x/y",
        "?query",
    ],
)
def test_rule_2_a_redirect_to_any_other_place_is_refused(location: str) -> None:
    if location == "?query":  # the media's own path
        assert _to(location).credentials
        return
    with pytest.raises(UpstreamRedirectRefused):
        _to(location)


@pytest.mark.parametrize(
    "location",
    [
        "",
        "https:/mms.twiliocdn.com/x",
        "https:mms.twiliocdn.com/x",
        "javascript:alert(1)",
        "data:,x",
        "https://mms.twiliocdn.com/a b",
        "https://mms.twiliocdn.com\\@evil.example/x",
        "https://mms.twiliocdn.com/a\x01b",
        "https://mms.twiliocdn.com/a\tb",
        "https://mms.twiliocdn.com/a\x7fb",
        "https://mms.twiliocdn.com/é",
        "https://mms.twiliocdn.com/" + "a" * 9_000,
    ],
)
def test_a_location_that_is_no_uri_reference_is_malformed(location: str) -> None:
    with pytest.raises(UpstreamMalformed):
        _to(location)


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [("Location", "https://mms.twiliocdn.com/a"), ("Location", "https://mms.twiliocdn.com/b")],
        [("Location", "https://mms.twiliocdn.com/a"), ("location", "https://mms.twiliocdn.com/a")],
    ],
)
def test_a_missing_or_repeated_location_is_malformed(lines: list[tuple[str, str]]) -> None:
    with pytest.raises(UpstreamMalformed):
        follow(TWILIO, REF, first_hop(TWILIO, REF), Fields.of(lines))


def test_rule_2_at_most_three_redirects() -> None:
    hop = first_hop(TWILIO, REF)
    for number in range(MAX_HOPS):
        hop = _to(f"https://mms.twiliocdn.com/{number}", hop=hop)
    assert hop.number == MAX_HOPS == 3
    with pytest.raises(UpstreamRedirectRefused):
        _to("https://mms.twiliocdn.com/4", hop=hop)


def test_rule_2_only_the_media_s_path_keeps_the_credentials() -> None:
    own = media_path(REF)
    assert _to(own + "?again=1").credentials
    assert _to(own.replace("/Messages/", "/Message/")).credentials
    for path in (own + "/", own + ".json", own[:-1] + "0", own.replace(AC, OTHER), own.rsplit("/", 1)[0]):
        with pytest.raises(UpstreamRedirectRefused):
            _to(path)


def test_rule_2_another_path_of_a_space_gets_no_credentials() -> None:
    assert _to(media_path(UUIDS), SPACE, ref=UUIDS).credentials
    assert not _to("/other/path", SPACE, ref=UUIDS).credentials
    assert not _to("//acme.signalwire.com/other", SPACE, ref=UUIDS).credentials


def test_rule_2_a_walk_off_the_origin_never_regains_credentials() -> None:
    away = _to("https://files.signalwire.com/x", SPACE, ref=UUIDS)
    back = _to(f"https://acme.signalwire.com{media_path(UUIDS)}", SPACE, away, UUIDS)
    assert not back.credentials
    assert not _to(media_path(UUIDS), SPACE, back, UUIDS).credentials


def test_relative_locations_are_resolved_against_the_hop_that_sent_them() -> None:
    cdn = _to("https://mms.twiliocdn.com/a/b/c?q")
    assert _to("d?e=%7E~", hop=cdn).target == "/a/b/d?e=%7E~"
    assert _to("../d", hop=cdn).target == "/a/d"
    assert _to("/d", hop=cdn).target == "/d"
    assert str(_to("//media.twiliocdn.com/d", hop=cdn).url) == "https://media.twiliocdn.com/d"


def test_only_the_configured_loopback_port_may_be_plain_http() -> None:
    assert str(_to("http://127.0.0.1:9002/x", LOOPBACK).url) == "http://127.0.0.1:9002/x"
    assert str(_to("https://cdn.test/x", LOOPBACK).url) == "https://cdn.test/x"
    for location in ("http://127.0.0.1:9003/x", "http://127.0.0.1/x", "http://cdn.test/x", "http://localhost:9002/x"):
        with pytest.raises(UpstreamRedirectRefused):
            _to(location, LOOPBACK)


@pytest.mark.parametrize("location", ["https://evil.example/p?Signature=s3cret", f"{S3}/{OTHER}/x?Signature=s3cret"])
def test_a_refusal_s_note_holds_no_path_or_query(location: str) -> None:
    with pytest.raises(UpstreamRedirectRefused) as caught:
        _to(location)
    assert "s3cret" not in caught.value.note + caught.value.detail
    assert OTHER not in caught.value.note


ORIGINS = st.sampled_from(
    ["https://api.twilio.com", "https://mms.twiliocdn.com", "https://acme.signalwire.com", "https://evil.example",
     "http://127.0.0.1:9001", "http://127.0.0.1:9002", S3, "//api.twilio.com", "//evil.example", "", "https:"]
)  # fmt: skip
JUNK = st.text(st.sampled_from("@:/\\?#.%2eab[]"), max_size=6)
TAILS = st.sampled_from([media_path(REF), media_path(UUIDS), "/", "/x", f"/{AC}/x", "?q", ""]) | st.text(max_size=8)


@given(
    account=st.sampled_from([TWILIO, SPACE, LOOPBACK]),
    walk=st.lists(st.tuples(ORIGINS, JUNK, TAILS, JUNK).map("".join) | st.text(max_size=20), min_size=1, max_size=5),
)
@example(account=TWILIO, walk=["https://api.twilio.com@evil.example" + media_path(REF)])
def test_only_an_exactly_allowed_url_gets_the_credentials(account: Account, walk: list[str]) -> None:
    ref = UUIDS if account is SPACE else REF
    hop = first_hop(account, ref)
    for location in walk:
        before = hop
        try:
            hop = _to(location, account, hop, ref)
        except UpstreamError:
            return
        url = hop.url
        # What the connection is made to, as the HTTP client reads the URL.
        assert (url.scheme, url.raw_host, url.port) == (
            hop.origin.scheme,
            hop.origin.host.strip("[]"),
            hop.origin.port,
        )
        assert not url.user
        assert not url.raw_fragment
        allowed = {(place.origin.scheme, place.origin.host, place.origin.port) for place in account.places}
        if hop.credentials:
            assert before.credentials
            assert hop.origin == account.origin
            assert url.raw_path in media_paths(ref)
        else:
            assert (url.scheme, url.raw_host, url.port) in allowed
        assert hop.number == before.number + 1 <= MAX_HOPS
