"""RFC 9111 §3: what may be stored, and what is kept of it."""

from __future__ import annotations

import pytest

from proxy.semantics.fields import Fields
from proxy.semantics.stored import (
    NotStorable,
    Storable,
    StoredMetadata,
    StoringBar,
    Validators,
    storable,
)

MODIFIED = "Mon, 21 Sep 2026 14:00:00 GMT"


@pytest.mark.parametrize(
    ("status", "lines", "bar"),
    [
        (200, [], None),
        (200, [("Cache-Control", "max-age=0")], None),
        (200, [("Cache-Control", "no-cache")], None),
        (200, [("Cache-Control", "must-understand, no-store")], None),
        (200, [("Vary", "Accept-Encoding, Origin")], None),
        (200, [("Pragma", "no-cache")], None),
        (200, [("Set-Cookie", "a=b")], None),
        (200, [("Cache-Control", "no-store")], StoringBar.NO_STORE),
        (200, [("Cache-Control", "max-age=60"), ("Cache-Control", "No-Store")], StoringBar.NO_STORE),
        (200, [("Cache-Control", "private")], StoringBar.PRIVATE),
        (200, [("Cache-Control", 'private="Set-Cookie"')], StoringBar.PRIVATE),
        (200, [("Cache-Control", "must-understand, no-store, private")], StoringBar.PRIVATE),
        (200, [("Vary", "*")], StoringBar.VARY),
        (200, [("Vary", "Accept"), ("Vary", "*")], StoringBar.VARY),
        (200, [("Vary", "*, Accept")], StoringBar.VARY),
        (200, [("Vary", "Accept,*")], StoringBar.VARY),
        (200, [("Vary", "not a name")], StoringBar.VARY),
        (100, [], StoringBar.STATUS),
        (203, [("Cache-Control", "max-age=60")], StoringBar.STATUS),
        (206, [("Cache-Control", "max-age=60")], StoringBar.STATUS),
        (304, [("Cache-Control", "max-age=60")], StoringBar.STATUS),
        (404, [("Cache-Control", "max-age=60")], StoringBar.STATUS),
        (500, [("Cache-Control", "must-understand, max-age=60")], StoringBar.STATUS),
    ],
)
def test_s3_storing(status: int, lines: list[tuple[str, str]], bar: StoringBar | None) -> None:
    expected = Storable() if bar is None else NotStorable(bar)
    assert storable(status, Fields.of(lines)) == expected


def test_s3_1_no_credential_of_the_fill_is_stored() -> None:
    sent = Fields.of(
        [("Authorization", "Basic c2VjcmV0"), ("Accept-Encoding", "identity"), ("If-None-Match", '"a"'), ("Host", "x")]
    )
    kept = StoredMetadata.received(Fields(), sent, requested_at=1, answered_at=2)
    assert kept == StoredMetadata(Fields(), 1, 2, Fields((("Accept-Encoding", "identity"),)))


@pytest.mark.parametrize(
    ("lines", "validators"),
    [
        ([], Validators()),
        ([("ETag", '"a"')], Validators('"a"')),
        ([("ETag", 'W/"a"')], Validators('W/"a"')),
        ([("ETag", '"a"'), ("Last-Modified", MODIFIED)], Validators('"a"', MODIFIED)),
        ([("Last-Modified", MODIFIED)], Validators(None, MODIFIED)),
        ([("ETag", "a"), ("Last-Modified", MODIFIED)], Validators(None, MODIFIED)),
        ([("ETag", 'w/"a"')], Validators()),
        ([("ETag", '"a"'), ("ETag", '"b"')], Validators()),
        ([("ETag", '"a"'), ("Last-Modified", "yesterday")], Validators('"a"')),
    ],
)
def test_s4_3_1_only_well_formed_validators_are_sent(lines: list[tuple[str, str]], validators: Validators) -> None:
    response = StoredMetadata.received(Fields.of(lines), Fields(), requested_at=1.79e9, answered_at=1.79e9)
    assert response.validators == validators
    assert bool(response.validators) is (validators != Validators())
