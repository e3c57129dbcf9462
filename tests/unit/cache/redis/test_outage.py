"""The policy for an outage of the shared tier."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.cache.redis.outage import SPREAD, VALIDATION_SECONDS, Contact, Trust, is_recent, period, trust
from proxy.settings import SharedAway

NOW = 1_700_000_000.0
LONG_AGO = NOW - 1_000
KEYS = st.text(max_size=100)
TIMES = st.floats(min_value=0, max_value=4e9)


def judged(
    mode: SharedAway = SharedAway.BOUNDED,
    contact: Contact = Contact.AWAY,
    *,
    behind: bool = False,
    validated_at: float = LONG_AGO,
    asked_at: float = 0.0,
) -> Trust:
    return trust(mode, contact, behind=behind, key="AC/MM/ME", validated_at=validated_at, asked_at=asked_at, now=NOW)


@pytest.mark.parametrize("mode", SharedAway)
def test_a_worker_that_hears_everything_trusts_what_is_stored(mode: SharedAway) -> None:
    assert judged(mode, Contact.CURRENT) is Trust.FULL


@pytest.mark.parametrize("mode", SharedAway)
@pytest.mark.parametrize("contact", Contact)
def test_what_is_older_than_a_gap_is_validated_first(mode: SharedAway, contact: Contact) -> None:
    assert judged(mode, contact, behind=True, validated_at=NOW, asked_at=NOW) is Trust.NONE


def test_a_worker_that_cannot_tell_validates_first() -> None:
    assert judged(contact=Contact.UNKNOWN, validated_at=NOW, asked_at=NOW) is Trust.NONE


def test_strict_trusts_no_earlier_validation() -> None:
    assert judged(SharedAway.STRICT, validated_at=NOW, asked_at=NOW) is Trust.NONE


def test_bounded_asks_once_in_a_period() -> None:
    assert judged() is Trust.FALLBACK
    assert judged(validated_at=NOW - VALIDATION_SECONDS + 0.01) is Trust.FULL
    assert judged(asked_at=NOW - VALIDATION_SECONDS + 0.01) is Trust.FULL
    longest = VALIDATION_SECONDS * (1 + SPREAD)
    assert judged(validated_at=NOW - longest, asked_at=NOW - longest) is Trust.FALLBACK


def test_a_clock_that_was_set_back_vouches_for_nothing() -> None:
    assert judged(validated_at=NOW + 1, asked_at=NOW + 1) is Trust.FALLBACK


@given(KEYS, TIMES)
def test_a_period_is_ten_seconds_or_a_little_longer(key: str, began: float) -> None:
    assert VALIDATION_SECONDS <= period(key, began) <= VALIDATION_SECONDS * (1 + SPREAD)
    assert is_recent(key, began, began)


def test_periods_of_media_that_were_validated_together_end_apart() -> None:
    periods = {round(period(f"AC/MM/ME{number}", NOW), 1) for number in range(200)}
    assert len(periods) > 20
