from __future__ import annotations

import pytest

from proxy.model import AccountSid, MediaRef, MessageRef, Provider
from proxy.sandbox import targets
from proxy.sandbox.targets import Notation, Target

A, M, ME = f"AC{'a' * 32}", f"MM{'b' * 32}", f"ME{'c' * 32}"
UUID = "446e9986-0848-4d46-a617-48793c5f5e07"
REF = MediaRef.parse(A, M, ME)
BASE = f"/2010-04-01/Accounts/{A}"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (f"{BASE}/Messages", targets.MessageListing(REF.account, Notation.XML)),
        (f"{BASE}/Messages.json", targets.MessageListing(REF.account, Notation.JSON)),
        (f"{BASE}/Messages/{M}.json", targets.MessageProperties(REF.parent, Notation.JSON)),
        (f"{BASE}/Messages/{M}/Media", targets.MediaListing(REF.parent, Notation.XML)),
        (f"{BASE}/Message/{M}/Media.xml", targets.MediaListing(REF.parent, Notation.XML)),
        (f"{BASE}/Messages/{M}/Media.json", targets.MediaListing(REF.parent, Notation.JSON)),
        (f"{BASE}/Message/{M}/Media/{ME}", targets.MediaContent(REF)),
        (f"{BASE}/Messages/{M}/Media/{ME.replace('c', 'C')}", targets.MediaContent(REF)),
        (f"{BASE}/Messages/{M}/Media/{ME}.xml", targets.MediaProperties(REF, Notation.XML)),
        (f"{BASE}/Message", None),
        (f"{BASE}/Messages/{M}/Media/{ME}.gif", None),
        (f"{BASE}/Messages/{M}/Media/{ME}/", None),
        (f"{BASE}/Messages/{M}/Media/{M}", None),
        (f"{BASE}/Messages/{M}/Media/%4d{ME[1:]}", None),
        (f"/api/laml{BASE}/Messages.json", None),
        ("/", None),
    ],
)
def test_a_path_names_exactly_one_target(path: str, expected: Target | None) -> None:
    assert targets.parse(path, Provider.TWILIO) == expected


@pytest.mark.parametrize("prefix", ["", "/api/laml"])
def test_signalwire_takes_both_prefixes_and_lists_in_json(prefix: str) -> None:
    path = f"{prefix}/2010-04-01/Accounts/{UUID}/Messages/{UUID}/Media"
    assert targets.parse(path, Provider.SIGNALWIRE) == targets.MediaListing(MessageRef.parse(UUID, UUID), Notation.JSON)


def test_every_target_has_an_account() -> None:
    every: tuple[Target, ...] = (
        targets.MessageListing(REF.account, Notation.JSON),
        targets.MessageProperties(REF.parent, Notation.JSON),
        targets.MediaListing(REF.parent, Notation.JSON),
        targets.MediaProperties(REF, Notation.JSON),
        targets.MediaContent(REF),
    )
    assert {target.account for target in every} == {AccountSid.parse(A)}
