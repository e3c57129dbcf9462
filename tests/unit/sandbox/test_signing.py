from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.sandbox.signing import LinkSigner

PATH = "/AC5a4db0c57e9f4c3d8b21e6f0a97c13d4/0123456789abcdef0123456789abcdef"
EXPIRES = 1_800_000_000
BEFORE = EXPIRES - 1_000.0


def pair() -> tuple[str, str]:
    signer = LinkSigner(b"secret")
    return signer.sign(PATH, EXPIRES), signer.sign(PATH, EXPIRES)


def test_tildes_are_written_plain_and_encoded_in_turn() -> None:
    plain, encoded = pair()
    assert "~" in plain
    assert "%7E" not in plain
    assert "%7E" in encoded
    assert "~" not in encoded
    assert re.search(r"&Signature=[A-Za-z0-9_~%-]+&Key-Pair-Id=K[0-9A-Z]+$", plain)


@pytest.mark.parametrize("turn", [0, 1])
def test_what_was_signed_verifies_until_it_expires(turn: int) -> None:
    signer = LinkSigner(b"secret")
    target = pair()[turn]
    match = re.search("Expires=([0-9]+)", target)
    assert match is not None
    assert EXPIRES - 100 < int(match[1]) <= EXPIRES
    assert signer.verify(target, int(match[1]) - 0.001)
    assert not signer.verify(target, int(match[1]))


def test_rewriting_a_tilde_breaks_the_signature() -> None:
    signer = LinkSigner(b"secret")
    plain, encoded = pair()
    assert not signer.verify(plain.replace("~", "%7E"), BEFORE)
    assert not signer.verify(plain.replace("~", "%7e"), BEFORE)
    assert not signer.verify(encoded.replace("%7E", "~"), BEFORE)
    assert not signer.verify(encoded.replace("%7E", "~", 1), BEFORE)


def test_another_secret_key_pair_or_shape_is_refused() -> None:
    plain, _ = pair()
    assert LinkSigner(b"secret").verify(plain, BEFORE)
    assert not LinkSigner(b"other").verify(plain, BEFORE)
    assert not LinkSigner(b"secret").verify(plain[:-1], BEFORE)
    assert not LinkSigner(b"secret").verify(plain + "&x=1", BEFORE)
    assert not LinkSigner(b"secret").verify(PATH, BEFORE)
    assert not LinkSigner(b"secret").verify(plain.replace("Expires=", "Expires=0"), BEFORE)


@given(st.data())
def test_any_changed_octet_is_refused(draw: st.DataObject) -> None:
    target = draw.draw(st.sampled_from(pair()))
    place = draw.draw(st.integers(0, len(target) - 1))
    other = draw.draw(st.sampled_from([c for c in "Aa0~%_-/?&=\udcff" if c != target[place]]))
    assert not LinkSigner(b"secret").verify(target[:place] + other + target[place + 1 :], BEFORE)
