"""The cover of an erasure, and the prefixes under which a media is looked up."""

from __future__ import annotations

import pytest

from proxy.erasure import BlockKind, Reach, prefixes
from proxy.model import AccountSid, MediaRef, MessageRef

REF = MediaRef.parse("AC" + "a" * 32, "MM" + "b" * 32, "ME" + "c" * 32)
OTHER = MediaRef.parse("AC" + "a" * 32, "MM" + "b" * 32, "ME" + "d" * 32)
SUBJECTS = pytest.mark.parametrize(
    "subject", [REF, REF.parent, REF.account, None], ids=lambda value: type(value).__name__
)


@SUBJECTS
def test_a_reach_covers_media_that_have_its_prefix(
    subject: MediaRef | MessageRef | AccountSid | None,
) -> None:
    reach = Reach.of(subject)
    for ref in (REF, OTHER):
        assert reach.covers(ref) == (reach.prefix in prefixes(str(ref)))
    assert reach.covers(REF)
    assert reach.covers(OTHER) == (subject != REF)


def test_a_message_is_looked_up_under_each_wider_prefix() -> None:
    key = Reach.of(REF.parent).prefix
    assert set(prefixes(key)) == {"", f"{REF.account}/", f"{REF.parent}/"}


def test_a_reach_is_named_by_its_identifiers() -> None:
    named = [str(Reach.of(subject)) for subject in (REF, REF.parent, REF.account, None)]
    assert named == [str(REF), str(REF.parent), str(REF.account), "*"]


def test_a_media_may_be_revoked_and_gone_at_once() -> None:
    both = BlockKind.REVOKED | BlockKind.GONE
    assert BlockKind.REVOKED in both
    assert BlockKind.GONE in both
    assert not BlockKind.NONE
