from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import BadRequest, SettingsError
from proxy.links import Claims, KeyRing, LinkMinter, LinkPolicy, LinkScope
from proxy.links.target import LONGEST_TARGET
from proxy.model import MediaRef

NOW = 1_790_000_000
KEYS = "k1:" + "s" * 32


def minter_at(now: float, public_url: str = "https://example.com/gw", policy: LinkPolicy | None = None) -> LinkMinter:
    return LinkMinter(public_url, KEYS, policy or LinkPolicy(), clock=lambda: now)


def bad_fields(error: pytest.ExceptionInfo[BadRequest]) -> list[str]:
    return [problem.field for problem in error.value.errors]


@given(offsets=st.tuples(st.floats(0, 60), st.floats(0, 60)), window_number=st.integers(1, 5 * 10**7))
def test_minting_twice_within_a_window_gives_the_same_url(
    ref: MediaRef, offsets: tuple[float, float], window_number: int
) -> None:
    ends = window_number * 60
    first, second = (minter_at(max(ends - 60 + 1e-3, ends - offset)).mint(ref, ttl=300) for offset in offsets)
    assert first == second
    assert minter_at(ends + 0.01).mint(ref, ttl=300).url != first.url


def test_a_link_tells_its_end_and_its_refresh(ref: MediaRef) -> None:
    link = minter_at(NOW).mint(ref)
    assert (link.ref, link.ttl, link.expires_at, link.refresh_at) == (ref, 300, NOW + 340, NOW + 340 - 150)
    assert minter_at(NOW).mint(ref, ttl=301).refresh_at == NOW + 340 - 151
    assert minter_at(NOW).mint(ref, ttl=1).refresh_at == NOW + 40 - 1


def test_the_default_ttl_is_the_policys(ref: MediaRef) -> None:
    assert minter_at(NOW, policy=LinkPolicy(default_ttl=7_200)).mint(ref).ttl == 7_200


def test_minted_identifiers_are_folded() -> None:
    url = minter_at(NOW).url(("AC" + "A" * 32, "MM" + "B" * 32, "ME" + "C" * 32))
    assert f"/media/AC{'a' * 32}/MM{'b' * 32}/ME{'c' * 32}?" in url


@pytest.mark.parametrize("ttl", [0, -1, 86_401])
def test_a_ttl_outside_1_to_the_maximum_is_400(ref: MediaRef, ttl: int) -> None:
    with pytest.raises(BadRequest) as refusal:
        minter_at(NOW).mint(ref, ttl=ttl)
    assert bad_fields(refusal) == ["ttl"]


def test_not_before_must_come_before_the_end(ref: MediaRef) -> None:
    assert "&not_before=1790000339&" in minter_at(NOW).mint(ref, claims=Claims(not_before=NOW + 339)).url
    with pytest.raises(BadRequest) as refusal:
        minter_at(NOW).mint(ref, ttl=86_401, claims=Claims(not_before=NOW + 90_000))
    assert bad_fields(refusal) == ["ttl", "not_before"]
    with pytest.raises(BadRequest) as refusal:
        minter_at(NOW).mint(ref, claims=Claims(not_before=NOW + 340))
    assert bad_fields(refusal) == ["not_before"]


def test_plain_values_give_the_link_of_the_typed_ones(ref: MediaRef) -> None:
    minter = minter_at(NOW)
    claims = Claims.parse(not_before=NOW, ip="203.0.113.7", filename="a b.jpg", disposition="inline", scope="message")
    expected = minter.mint(ref, ttl=600, claims=claims).url
    for media in (ref, str(ref), (ref.account.value, ref.message.value, ref.media.value)):
        assert expected == minter.url(
            media, ttl=600, not_before=NOW, ip="203.0.113.7", filename="a b.jpg", disposition="inline", scope="message"
        )


def test_a_providers_media_url_is_a_media(ref: MediaRef) -> None:
    url = f"https://api.twilio.com/2010-04-01/Accounts/{ref.account}/Messages/{ref.message}/Media/{ref.media}"
    assert minter_at(NOW).url(url) == minter_at(NOW).mint(ref).url


def test_every_bad_field_is_named_at_once(ref: MediaRef) -> None:
    with pytest.raises(BadRequest) as refusal:
        minter_at(NOW).url("nothing", ttl=0, filename="", scope="x", ip="x", disposition="x", not_before=-1)
    assert sorted(bad_fields(refusal)) == ["disposition", "filename", "ip", "media", "not_before", "scope", "ttl"]
    with pytest.raises(BadRequest) as refusal:
        minter_at(NOW).url("nothing")
    assert bad_fields(refusal) == ["media"]
    with pytest.raises(BadRequest) as refusal:
        minter_at(NOW).url(ref, filename="", ttl=5)
    assert bad_fields(refusal) == ["filename"]


@pytest.mark.parametrize("media", [None, 5, b"x", (), ("AC", "MM"), (1, 2, 3), {}, object(), ["a", "b", None]])
def test_anything_that_names_no_media_is_a_bad_request(media: Any) -> None:
    with pytest.raises(BadRequest, match=r"media: must be a URL, ACCOUNT/MESSAGE/MEDIA") as refusal:
        minter_at(NOW).url(media)
    assert bad_fields(refusal) == ["media"]
    with pytest.raises(BadRequest) as refusal:
        minter_at(NOW).mint(media, ttl=0)
    assert bad_fields(refusal) == ["media", "ttl"]


NO_LIVES: list[object] = ["300", 300.5, True, [], b"1", float("nan")]
NO_MOMENTS: list[object] = ["1", 1.5, True, [], float("inf")]
NO_TEXTS: list[object] = [5, b"x", True, [], {}]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("ttl", value) for value in NO_LIVES),
        *(("not_before", value) for value in NO_MOMENTS),
        *((name, value) for name in ("ip", "filename", "disposition", "scope") for value in NO_TEXTS),
    ],
)
def test_a_value_of_another_type_is_named_as_bad(ref: MediaRef, name: str, value: Any) -> None:
    wishes: dict[str, Any] = {name: value}
    with pytest.raises(BadRequest, match=f"{name}: must be ") as refusal:
        minter_at(NOW).url(ref, **wishes)
    assert bad_fields(refusal) == [name]


def test_an_error_says_its_reasons() -> None:
    with pytest.raises(BadRequest) as refusal:
        minter_at(NOW).url("nothing", ttl=0, disposition="x")
    assert str(refusal.value) == (
        "A link like this cannot be minted. "
        "media: is neither ACCOUNT/MESSAGE/MEDIA nor the URL of a media at its provider; "
        "disposition: must be inline or attachment; ttl: must be a whole number of seconds from 1 to 86400"
    )


def test_a_message_scope_gives_each_media_the_same_signature(ref: MediaRef) -> None:
    other = MediaRef.parse(ref.account.value, ref.message.value, "ME" + "d" * 32)
    claims = Claims(scope=LinkScope.MESSAGE)
    first, second = (minter_at(NOW).mint(each, claims=claims).url for each in (ref, other))
    assert first != second
    assert first.partition("?")[2] == second.partition("?")[2]


def test_the_longest_link_fits_the_bound_of_a_target() -> None:
    uuid = "b3877c40-da60-4998-90ad-b792e98472af"
    keys = KeyRing.parse("k" * 64 + ":" + "s" * 32)
    url = LinkMinter("https://example.com", keys, clock=lambda: 10**11).url(
        (uuid, uuid, uuid),
        not_before=10**11,
        ip="2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff/128",
        filename="\U0001f388" * 255,
        disposition="attachment",
        scope="message",
    )
    assert len(url) - len("https://example.com") <= LONGEST_TARGET


def test_a_minter_refuses_keys_and_urls_that_cannot_be_used() -> None:
    with pytest.raises(SettingsError):
        LinkMinter("https://example.com", "k1:short")
    with pytest.raises(SettingsError):
        LinkMinter("example.com", KEYS)


def test_the_clock_is_the_systems_unless_another_is_given(ref: MediaRef) -> None:
    assert LinkMinter("https://example.com", KEYS).mint(ref).expires_at > NOW - 10**8


def test_a_bad_ttl_of_any_size_is_a_bad_request(ref: MediaRef) -> None:
    with pytest.raises(BadRequest):
        LinkMinter("https://media.example", f"k:{'s' * 32}").mint(ref, ttl=10**400)
