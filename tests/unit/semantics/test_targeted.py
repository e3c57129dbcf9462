"""RFC 9213: fields for a CDN in front."""

from __future__ import annotations

import pytest

from proxy.model import MediaRef
from proxy.semantics.targeted import cache_tags, cdn_cache_control, for_shared_caches


@pytest.mark.parametrize(("lifetime", "value"), [(300, "max-age=300"), (0, "max-age=0"), (-5, "max-age=0")])
def test_s2_1_a_cdn_never_serves_past_its_lifetime(lifetime: int, value: str) -> None:
    assert cdn_cache_control(lifetime) == f"{value}, must-revalidate"


REF = MediaRef.parse("AC" + "0" * 32, "MM" + "1" * 32, "ME" + "A" * 32)


def test_a_media_is_tagged_by_account_message_and_media() -> None:
    assert cache_tags(REF) == (f"account-AC{'0' * 32}", f"message-MM{'1' * 32}", f"media-ME{'a' * 32}")


def test_the_tags_stand_in_both_forms() -> None:
    fields = for_shared_caches(REF, 300)
    assert fields["CDN-Cache-Control"] == cdn_cache_control(300)
    assert fields["Cache-Tag"].split(",") == fields["Surrogate-Key"].split(" ") == list(cache_tags(REF))
