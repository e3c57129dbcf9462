from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from itsdangerous import Signer

from proxy.errors import SettingsError
from proxy.links import KeyRing, SigningKey

A, B = "a" * 32, "b" * 32


@settings(max_examples=50)
@given(
    secret=st.text(st.characters(exclude_categories=["Cs"]), min_size=32, max_size=100),
    covered=st.text(st.characters(codec="ascii")),
)
def test_a_key_derived_once_signs_as_one_derived_each_time(secret: str, covered: str) -> None:
    plain = Signer(secret, salt="media-gateway.link.v1", key_derivation="hmac", digest_method=hashlib.sha256)
    assert KeyRing([SigningKey("k", secret)]).sign(covered) == plain.get_signature(covered).decode()


def test_the_first_key_signs_and_all_are_found() -> None:
    ring = KeyRing.parse(f"k1:{A},k2:{B}")
    assert (ring.current, ring.kids) == ("k1", ("k1", "k2"))
    assert ring.sign("x") == KeyRing.parse(f"k1:{A}").sign("x") != KeyRing.parse(f"k2:{B}").sign("x")
    assert ring.get("k2") is not None
    assert ring.get("k3") is None


def test_a_secret_may_hold_colons_and_empty_entries_drop() -> None:
    secret = "with:colons:" + A
    assert KeyRing.parse(f" k1: {secret} ,\n k2:{B},\n").sign("x") == KeyRing([SigningKey("k1", secret)]).sign("x")


@pytest.mark.parametrize(
    "text",
    [
        "",
        " , ",
        A,
        f":{A}",
        f"k 1:{A}",
        f"{'k' * 65}:{A}",
        f"k1:{A[1:]}",
        "k1:",
        f"k1:{A},k1:{B}",
        f"k1:{A}\ud800",
    ],
)
def test_a_bad_ring_names_its_setting_and_no_secret(text: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        KeyRing.parse(text)
    assert {problem.name for problem in refusal.value.problems} == {"GATEWAY_SIGNING_KEYS"}
    assert A[1:] not in str(refusal.value)


def test_every_bad_entry_is_named_at_once() -> None:
    with pytest.raises(SettingsError) as refusal:
        KeyRing.parse(f"nothing,k1:{A},k2:short,!:{B}")
    assert [problem.message.split(":")[0].split(" is")[0] for problem in refusal.value.problems] == [
        "entry 1",
        "entry 3",
        "entry 4",
    ]


def test_a_ring_needs_a_key() -> None:
    with pytest.raises(SettingsError, match="at least one"):
        KeyRing([])


def test_no_secret_is_ever_shown() -> None:
    key = SigningKey("k1", A)
    assert A not in f"{key} {key!r} {KeyRing([key])!r} {KeyRing([key])}"
    assert repr(KeyRing([key])) == "KeyRing('k1',)"
