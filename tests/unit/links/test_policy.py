from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import SettingsError
from proxy.links import LinkPolicy
from proxy.links.policy import LEEWAY_SECONDS

NOW = 1_790_000_000


@given(now=st.integers(0, 2**40), ttl=st.integers(1, 86_400), window=st.integers(1, 86_400))
def test_expires_is_the_first_window_multiple_after_the_ttl(now: int, ttl: int, window: int) -> None:
    expires = LinkPolicy(window=window).expires(now, ttl)
    assert expires % window == 0
    assert now + ttl <= expires < now + ttl + window


@given(now=st.floats(0, 2**33), ttl=st.integers(1, 86_400), window=st.integers(1, 86_400))
def test_a_fraction_never_shortens_the_ttl_nor_passes_latest(now: float, ttl: int, window: int) -> None:
    policy = LinkPolicy(window=window)
    assert now + ttl <= policy.expires(now, ttl) <= policy.latest(now)


def test_a_minter_a_minute_ahead_mints_good_links() -> None:
    policy = LinkPolicy()
    assert LEEWAY_SECONDS == 60
    assert policy.expires(NOW + 60, policy.max_ttl) <= policy.latest(NOW) == NOW + 86_400 + 60 + 60


@given(expires=st.integers(0, 2**40), not_before=st.none() | st.integers(0, 2**40), offset=st.integers(-200, 90_000))
def test_a_link_is_acceptable_from_its_earliest_second(expires: int, not_before: int | None, offset: int) -> None:
    policy = LinkPolicy()
    now = (expires if not_before is None else not_before) - offset
    good = expires <= policy.latest(now) and (not_before is None or not_before <= now + LEEWAY_SECONDS)
    assert good is (now >= policy.earliest(expires, not_before))


def test_a_moment_after_a_window_begins_belongs_to_it() -> None:
    just_after = 1_790_000_040.0000002
    assert just_after > 1_790_000_040
    assert LinkPolicy().expires(just_after, 300) == 1_790_000_400


@pytest.mark.parametrize(("ttl", "good"), [(-1, False), (0, False), (1, True), (86_400, True), (86_401, False)])
def test_a_ttl_is_from_1_to_the_maximum(ttl: int, good: bool) -> None:
    assert (LinkPolicy().ttl_problem(ttl) is None) is good


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ((0, 86_400, 60), ["GATEWAY_LINK_TTL"]),
        ((301, 300, 60), ["GATEWAY_LINK_TTL"]),
        ((300, 86_400, 0), ["GATEWAY_LINK_WINDOW"]),
        ((5, 0, 0), ["GATEWAY_LINK_MAX_TTL", "GATEWAY_LINK_TTL", "GATEWAY_LINK_WINDOW"]),
    ],
)
def test_a_policy_that_cannot_hold_names_every_setting(values: tuple[int, int, int], names: list[str]) -> None:
    with pytest.raises(SettingsError) as refusal:
        LinkPolicy(*values)
    assert [problem.name for problem in refusal.value.problems] == names
