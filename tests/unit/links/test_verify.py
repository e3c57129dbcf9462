from __future__ import annotations

import string
from ipaddress import IPv4Network, IPv6Network, ip_address

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from proxy.errors import (
    LinkClaimUnmet,
    LinkError,
    LinkExpired,
    LinkKeyUnknown,
    LinkMalformed,
    LinkSignatureInvalid,
)
from proxy.links import (
    NO_CLAIMS,
    Claims,
    Disposition,
    Explanation,
    FindingState,
    KeyRing,
    LinkMinter,
    LinkPolicy,
    LinkScope,
    SigningKey,
    VerifiedLink,
    explain,
    verify,
)
from proxy.model import IPAddress, IPNetwork, MediaRef

NOW = 1_790_000_000
ORIGIN = "https://example.com"
CLIENT = ip_address("203.0.113.7")
DISPOSITIONS: tuple[Disposition | None, ...] = (None, "inline", "attachment")
BASE64URL = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"


def mint(ref: MediaRef, keys: KeyRing, claims: Claims = NO_CLAIMS, mount: str = "") -> str:
    """Return the request target of a link minted at NOW for 300 s, so that it ends at NOW + 340."""
    return LinkMinter(ORIGIN + mount, keys, clock=lambda: NOW).mint(ref, claims=claims).url[len(ORIGIN) :]


def check(
    target: str, keys: KeyRing, now: float = NOW, client: IPAddress | None = CLIENT, mount: str = ""
) -> VerifiedLink:
    return verify(target, keys=keys, policy=LinkPolicy(), now=now, client=client, mount=mount)


def tell(url: str, keys: KeyRing, now: float = NOW, client: IPAddress | None = CLIENT, mount: str = "") -> Explanation:
    public_url = ORIGIN + mount
    return explain(url, keys=keys, policy=LinkPolicy(), now=now, client=client, public_url=public_url)


def sign(keys: KeyRing, covered: str) -> str:
    return f"{covered}&signature={keys.sign(covered)}"


def client_networks(client: IPAddress) -> st.SearchStrategy[IPNetwork]:
    """Return every network that holds the client."""
    bits = client.max_prefixlen
    kind = IPv4Network if bits == 32 else IPv6Network
    return st.integers(0, bits).map(lambda prefix: kind((int(client) >> (bits - prefix) << (bits - prefix), prefix)))


TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=255)
CLAIMS = st.builds(
    Claims,
    not_before=st.none() | st.integers(0, NOW),
    ip=st.none() | client_networks(CLIENT),
    filename=st.none() | TEXT,
    disposition=st.sampled_from(DISPOSITIONS),
    scope=st.sampled_from(LinkScope),
)
HEX = st.text("0123456789abcdef", min_size=32, max_size=32)
REFS = st.one_of(
    st.builds(lambda a, m, e: MediaRef.parse(f"AC{a}", f"SM{m}", f"ME{e}"), HEX, HEX, HEX),
    st.builds(lambda a, m, e: MediaRef.parse(str(a), str(m), str(e)), st.uuids(), st.uuids(), st.uuids()),
)


@settings(max_examples=100)
@given(ref=REFS, claims=CLAIMS, mount=st.sampled_from(["", "/gw", "/media", "/a/b"]))
def test_what_was_minted_is_what_is_verified(ring: KeyRing, ref: MediaRef, claims: Claims, mount: str) -> None:
    link = check(mint(ref, ring, claims, mount), ring, mount=mount)
    assert link == VerifiedLink(ref, NOW + 340, claims, "new")


@settings(max_examples=300)
@given(claims=CLAIMS.filter(lambda claims: claims.scope is LinkScope.MEDIA), choose=st.data())
def test_a_link_with_any_byte_changed_is_refused(
    ring: KeyRing, ref: MediaRef, claims: Claims, choose: st.DataObject
) -> None:
    target = mint(ref, ring, claims)
    place = choose.draw(st.integers(0, len(target)))
    new = choose.draw(st.characters(max_codepoint=255) | st.sampled_from(BASE64URL + "%&=?/#"))
    how = choose.draw(st.sampled_from(["replace", "insert", "remove", "cut"]))
    mutated = {
        "replace": target[:place] + new + target[place + 1 :],
        "insert": target[:place] + new + target[place:],
        "remove": target[:place] + target[place + 1 :],
        "cut": target[:place],
    }[how]
    assume(mutated != target)
    with pytest.raises(LinkError) as refusal:
        check(mutated, ring)
    assert refusal.value.status == 403


def test_every_single_bit_of_a_link_counts(ring: KeyRing, ref: MediaRef) -> None:
    target = mint(ref, ring, Claims(filename="é.jpg", ip=IPv4Network("203.0.113.7/32")))
    for place, letter in enumerate(target):
        for bit in range(8):
            with pytest.raises(LinkError):
                check(target[:place] + chr(ord(letter) ^ (1 << bit)) + target[place + 1 :], ring)


def test_one_spelling_of_a_signature_is_accepted(ring: KeyRing, ref: MediaRef) -> None:
    target = mint(ref, ring)
    last = BASE64URL.index(target[-1])
    same_bytes = [BASE64URL[last - last % 4 + spare] for spare in range(4)]
    assert same_bytes[0] == target[-1]
    for spelled in (*(target[:-1] + letter for letter in same_bytes[1:]), target + "=", target + "\n", target + "!!"):
        with pytest.raises(LinkMalformed):
            check(spelled, ring)


def test_every_key_of_the_ring_verifies_and_no_other(ring: KeyRing, ref: MediaRef) -> None:
    old = KeyRing([SigningKey("old", "o" * 32)])
    assert check(mint(ref, old), ring).kid == "old"
    with pytest.raises(LinkKeyUnknown):
        check(mint(ref, ring), old)
    with pytest.raises(LinkSignatureInvalid):
        check(mint(ref, KeyRing([SigningKey("old", "x" * 32)])), ring)


def test_the_mount_is_removed_once_where_present(ring: KeyRing, ref: MediaRef) -> None:
    target = mint(ref, ring)
    assert check(f"/gw{target}", ring, mount="/gw") == check(target, ring, mount="/gw") == check(target, ring)
    assert check(f"/media{target}", ring, mount="/media") == check(target, ring, mount="/media")
    for wrong in (f"/gw/gw{target}", f"/GW{target}", f"/gw/{target}", f"gw{target}"):
        with pytest.raises(LinkMalformed):
            check(wrong, ring, mount="/gw")
    with pytest.raises(LinkMalformed):
        check(f"/gw{target}", ring)


def test_a_link_begins_at_not_before_and_ends_at_expires(ring: KeyRing, ref: MediaRef) -> None:
    target = mint(ref, ring, Claims(not_before=NOW))
    # A minute of leeway at the beginning, for minters whose clocks are ahead; none at the end.
    with pytest.raises(LinkClaimUnmet, match="not valid yet"):
        check(target, ring, now=NOW - 60.001)
    assert check(target, ring, now=NOW - 60) == check(target, ring, now=NOW + 339.999)
    with pytest.raises(LinkExpired):
        check(target, ring, now=NOW + 340)


def test_a_link_living_longer_than_mintable_is_403(ring: KeyRing, ref: MediaRef) -> None:
    latest = NOW + 86_400 + 60 + 60
    assert check(sign(ring, f"/media/{ref}?expires={latest}&key=new"), ring).expires == latest
    with pytest.raises(LinkClaimUnmet, match="longer"):
        check(sign(ring, f"/media/{ref}?expires={latest + 1}&key=new"), ring)


def test_a_client_outside_the_network_or_unknown_is_refused(ring: KeyRing, ref: MediaRef) -> None:
    target = mint(ref, ring, Claims(ip=IPv4Network("203.0.113.0/24")))
    assert check(target, ring, client=ip_address("::ffff:203.0.113.9")).claims.ip == IPv4Network("203.0.113.0/24")
    for client in (None, ip_address("203.0.114.1"), ip_address("2001:db8::1")):
        with pytest.raises(LinkClaimUnmet, match="address"):
            check(target, ring, client=client)


def test_a_message_scope_opens_all_media_of_that_message_only(ring: KeyRing, ref: MediaRef) -> None:
    target = mint(ref, ring, Claims(scope=LinkScope.MESSAGE))
    other = "ME" + "0" * 32
    assert check(target.replace(ref.media.value, other), ring).ref == ref.parent.media(type(ref.media)(other))
    with pytest.raises(LinkSignatureInvalid):
        check(target.replace(ref.message.value, "MM" + "0" * 32), ring)
    with pytest.raises(LinkSignatureInvalid):
        check(mint(ref, ring).replace("&signature", "&scope=message&signature"), ring)


def test_the_first_refusal_in_order_is_told(ring: KeyRing, ref: MediaRef) -> None:
    stranger = KeyRing([SigningKey("x", "x" * 32)])
    everything_wrong = Claims(not_before=NOW + 300, ip=IPv4Network("198.51.100.1/32"))
    target = mint(ref, stranger, everything_wrong)
    with pytest.raises(LinkMalformed):
        check(target + "=", ring, now=NOW + 999)
    with pytest.raises(LinkKeyUnknown):
        check(target, ring, now=NOW + 999)
    forged = mint(ref, ring, everything_wrong).replace("&not_before=1", "&not_before=2")
    with pytest.raises(LinkSignatureInvalid):
        check(forged, ring, now=NOW + 999)
    with pytest.raises(LinkClaimUnmet):
        check(mint(ref, ring, everything_wrong), ring, now=NOW + 999)


def test_a_target_has_at_most_4096_characters_after_the_mount(ring: KeyRing, ref: MediaRef) -> None:
    kid = "k" * (4096 - len(f"/media/{ref}?expires=1&key=&signature=") - 43)
    longest = sign(ring, f"/media/{ref}?expires=1&key={kid}")
    assert len(longest) == 4096
    with pytest.raises(LinkKeyUnknown):
        check(f"/gw{longest}", ring, mount="/gw")
    with pytest.raises(LinkMalformed, match="too long"):
        check(sign(ring, f"/media/{ref}?expires=1&key={kid}k"), ring)


@given(st.text(max_size=300))
def test_any_text_is_a_refusal_and_never_another_error(ring: KeyRing, text: str) -> None:
    with pytest.raises(LinkMalformed):
        check(text, ring)


@given(query=st.text("exp=&%2Fkey1signature.", max_size=80))
def test_any_query_is_a_refusal_and_never_another_error(ring: KeyRing, ref: MediaRef, query: str) -> None:
    with pytest.raises(LinkError):
        check(f"/media/{ref}?{query}&signature={'A' * 43}", ring)


def test_a_refusal_repeats_nothing_of_the_signature(ring: KeyRing, ref: MediaRef) -> None:
    target = mint(ref, ring)
    signature = target[-43:]
    for wrong in (target + "=", target.replace("key=new", "key=x"), target.replace("key=new", "key=old")):
        with pytest.raises(LinkError) as refusal:
            check(wrong, ring)
        assert signature not in f"{refusal.value}{refusal.value.detail}{refusal.value.note}"


# --- explain --------------------------------------------------------------------------------------------------


@settings(max_examples=300)
@given(
    claims=CLAIMS,
    now=st.sampled_from([NOW - 90_000, NOW, NOW + 339, NOW + 340]),
    client=st.sampled_from([None, CLIENT, ip_address("::1")]),
    mount=st.sampled_from(["", "/gw"]),
    whole=st.booleans(),
    choose=st.data(),
)
def test_explain_decides_as_verify_does(
    ring: KeyRing,
    ref: MediaRef,
    claims: Claims,
    now: int,
    client: IPAddress | None,
    mount: str,
    whole: bool,
    choose: st.DataObject,
) -> None:
    target = mint(ref, ring, claims, mount)
    if choose.draw(st.booleans()):
        place = choose.draw(st.integers(1, len(target)))
        target = target[:place] + choose.draw(st.text("A1%&=?/#", max_size=2)) + target[place + 1 :]
    told = tell((ORIGIN if whole else "") + target, ring, now, client, mount)
    assert told.accepted is all(finding.state is not FindingState.BAD for finding in told.findings)
    if told.refusal is None:
        assert (told.link, told.status) == (check(target, ring, now, client, mount), 200)
        return
    with pytest.raises(LinkError) as refusal:
        check(target, ring, now, client, mount)
    assert (told.link, type(told.refusal), told.status) == (None, refusal.type, refusal.value.status)
    assert str(told.refusal) == str(refusal.value)


def test_explain_goes_through_every_claim_of_a_good_link(ring: KeyRing, ref: MediaRef) -> None:
    claims = Claims.parse(not_before=1, ip="203.0.113.7", filename="é.jpg", disposition="inline", scope="message")
    told = tell(ORIGIN + mint(ref, ring, claims), ring)
    assert [(finding.name, finding.state.value) for finding in told.findings] == [
        ("form", "ok"),
        ("media", "info"),
        ("key", "ok"),
        ("signature", "ok"),
        ("not_before", "ok"),
        ("ip", "ok"),
        ("filename", "ok"),
        ("disposition", "ok"),
        ("scope", "ok"),
        ("lifetime", "ok"),
        ("expires", "ok"),
        ("state", "info"),
    ]


def test_explain_names_everything_that_is_wrong(ring: KeyRing, ref: MediaRef) -> None:
    claims = Claims.parse(not_before=NOW + 300, ip="198.51.100.1")
    told = tell("https://elsewhere.example" + mint(ref, ring, claims)[:-2] + "AA", ring, client=None)
    assert [finding.name for finding in told.findings if finding.state is FindingState.BAD] == [
        "signature",
        "not_before",
        "ip",
    ]
    assert told.findings[0].name == "origin"
    assert isinstance(told.refusal, LinkSignatureInvalid)


def test_explain_says_that_an_unknown_key_leaves_the_signature_open(ring: KeyRing, ref: MediaRef) -> None:
    told = tell(mint(ref, KeyRing([SigningKey("x", "x" * 32)])), ring, now=NOW + 999)
    states = {finding.name: finding.state for finding in told.findings}
    assert (states["key"], states["signature"], states["expires"]) == ("bad", "info", "bad")
    assert told.status == 403


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t + "#top", "fragment"),
        (lambda t: "/x" + t, "does not begin"),
        (lambda t: t.replace("/ME", "/XX/ME"), "/media/{account_sid}"),
        (lambda t: t.replace("/AC", "/AB"), "does not name a media"),
        (lambda t: t.partition("?")[0], "no query"),
        (lambda t: t.partition("&signature")[0], "no signature"),
        (lambda t: t + "=", "43 characters"),
        (lambda t: t + "&x=1", "43 characters"),
        (lambda t: t.replace("&key", "&&key"), "Parameter 2"),
        (lambda t: t.replace("&key=new", "&filename=%c3&key=new"), "Parameter 2"),
        (lambda t: t.replace("&key=new", "&filename=%61&key=new"), "canonical encoding"),
        (lambda t: t.replace("&key=new", ""), "expires or key is missing"),
        (lambda t: t.replace("&key=new", "&key=new&key=new"), "key stands twice"),
        (lambda t: t.replace("&key=new", "&key=new&width=1"), "not known"),
        (lambda t: t.replace("expires=", "expires=0"), "expires is not a Unix time"),
        (lambda t: t.replace("&key=new", "&key=new&filename=" + "a" * 4096), "too long"),
        (lambda t: t.replace("&key=new", "&key=new&ip=1.2.3.4"), "ip is not in its canonical form"),
    ],
)
def test_explain_names_the_part_of_the_form_that_is_wrong(
    ring: KeyRing, ref: MediaRef, change: type[str], says: str
) -> None:
    told = tell(change(mint(ref, ring)), ring)
    assert [finding.name for finding in told.findings if finding.state is FindingState.BAD] == ["form"]
    assert says in told.findings[0].text
    assert isinstance(told.refusal, LinkMalformed)


def test_explain_shows_a_moment_that_no_calendar_has(ring: KeyRing, ref: MediaRef) -> None:
    told = tell(sign(ring, f"/media/{ref}?expires=999999999999&key=new"), ring)
    assert "second 999999999999" in next(finding.text for finding in told.findings if finding.name == "lifetime")


@given(claims=CLAIMS, tail=st.sampled_from(["", "=", "#x", "&x=1"]), now=st.sampled_from([NOW, NOW + 999]))
def test_explain_never_shows_the_signature_or_a_secret(
    ring: KeyRing, ref: MediaRef, claims: Claims, tail: str, now: int
) -> None:
    target = mint(ref, ring, claims)
    shown = repr(tell(ORIGIN + target + tail, ring, now))
    assert target[-43:] not in shown
    assert "n" * 32 not in shown
