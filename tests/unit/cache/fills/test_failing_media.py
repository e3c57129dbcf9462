"""A media that fails again and again is left alone, for its own failures and for a short while."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.cache.fills.failing_media import PAUSE_SECONDS, FailingMedia
from proxy.errors import MediaNotFound, UpstreamBusy, UpstreamError, UpstreamTimeout, UpstreamUnreachable
from proxy.model import MediaRef, MediaSid
from tests.unit.cache.scripted import REF

T = 1_000.0


def after(*moments: float, failure: UpstreamError | None = None) -> FailingMedia:
    """Return the table after `REF` has failed at these seconds after `T`."""
    table = FailingMedia()
    for moment in moments:
        table.failed(REF, failure or UpstreamError(), T + moment)
    return table


def waits(table: FailingMedia, seconds: float, ref: MediaRef = REF) -> float | None:
    left = table.left_alone(ref, T + seconds)
    return None if left is None else left.seconds


def test_five_failures_in_a_row_leave_it_alone_ten_seconds() -> None:
    table = after(0, 1, 2, 3)
    assert waits(table, 3) is None
    assert table.failed(REF, UpstreamTimeout(), T + 4)
    assert (waits(table, 4), waits(table, 13.5), waits(table, 14)) == (10, 0.5, None)


def test_each_failure_after_the_pause_begins_another_one() -> None:
    table = after(0, 1, 2, 3, 4)
    assert table.failed(REF, UpstreamError(), T + 14)
    assert waits(table, 14) == 10


def test_five_failures_within_more_than_a_minute_are_no_row() -> None:
    assert waits(after(0, 1, 2, 3, 60), 60) == 10
    assert waits(after(0, 1, 2, 3, 60.5), 60.5) is None


def test_an_answer_ends_the_row() -> None:
    table = after(0, 1, 2, 3)
    table.answered(REF)
    assert not table.failed(REF, UpstreamError(), T + 4)
    assert waits(table, 4) is None


def test_a_404_is_an_answer() -> None:
    table = after(0, 1, 2, 3)
    assert not table.failed(REF, MediaNotFound(), T + 4)
    assert not table.failed(REF, UpstreamError(), T + 4)


def unconnected() -> UpstreamError:
    error = UpstreamUnreachable()
    error.host_away = True
    return error


@pytest.mark.parametrize("failure", [UpstreamBusy(), UpstreamBusy(rate_limited=True), unconnected()])
def test_an_absent_or_busy_host_says_nothing_of_its_media(failure: UpstreamError) -> None:
    table = after(*[0] * 10, failure=failure)
    assert waits(table, 0) is None
    mixed = after(0, 1, 2, 3)
    mixed.failed(REF, failure, T + 4)
    assert mixed.failed(REF, UpstreamError(), T + 5)


def test_other_media_are_asked_for() -> None:
    table = after(0, 1, 2, 3, 4)
    assert waits(table, 4, REF.parent.media(MediaSid.parse("ME" + "0" * 32))) is None


def test_the_refusal_names_whole_seconds_and_the_last_failure() -> None:
    left = after(0, 1, 2, 3, 4, failure=UpstreamTimeout()).left_alone(REF, T + 4.5)
    assert left is not None
    assert isinstance(left.failure, UpstreamTimeout)
    refusal = left.refusal()
    assert (refusal.status, refusal.retry_after, refusal.rate_limited) == (503, 10, False)


def test_no_more_than_ten_thousand_media_are_remembered() -> None:
    table = after(0, 1, 2, 3, 4)
    for number in range(10_000):
        table.failed(REF.parent.media(MediaSid.parse(f"ME{number:032x}")), UpstreamError(), T + 4)
    assert waits(table, 4) is None


@given(st.lists(st.tuples(st.sampled_from(["fail", "answer"]), st.floats(0, 70)), max_size=40))
def test_it_is_left_alone_after_five_failures_for_ten_seconds(
    events: list[tuple[str, float]],
) -> None:
    table, now, row = FailingMedia(), T, list[float]()
    for event, passed in events:
        now += passed
        if event == "answer":
            table.answered(REF)
            row.clear()
        else:
            table.failed(REF, UpstreamError(), now)
            row.append(now)
        left = table.left_alone(REF, now)
        due = len(row) >= 5 and row[-1] - row[-5] <= 60
        assert (left is not None) == due
        assert left is None or 0 < left.seconds <= PAUSE_SECONDS
