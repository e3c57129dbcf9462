from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import SettingsError
from proxy.links import LinkPolicy


@given(now=st.integers(0, 2**40), ttl=st.integers(1, 86_400), window=st.integers(1, 86_400))
def test_expires_is_the_first_multiple_of_the_window_that_gives_the_whole_ttl(now: int, ttl: int, window: int) -> None:
    expires = LinkPolicy(window=window).expires(now, ttl)
    assert expires % window == 0
    assert now + ttl <= expires < now + ttl + window


@given(now=st.floats(0, 2**33), ttl=st.integers(1, 86_400), window=st.integers(1, 86_400))
def test_a_fraction_of_a_second_never_shortens_the_ttl_nor_passes_the_latest(now: float, ttl: int, window: int) -> None:
    policy = LinkPolicy(window=window)
    assert now + ttl <= policy.expires(now, ttl) <= policy.latest(now)


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
