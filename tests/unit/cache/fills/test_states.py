"""The table of a fill's states: what it admits, and that fills follow it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.cache import fills
from proxy.cache.engine import Engine
from proxy.cache.fills.fill import Fill
from proxy.cache.fills.states import OVER, TRANSITIONS, FillEvent, FillState, following
from proxy.errors import GatewayError, UpstreamTruncated
from tests.unit.cache.rigs import Rig, fetch, read, settled
from tests.unit.cache.scripted import NOTHING, REF, Script

BYTES_COME = {FillState.RECEIVING, FillState.WITHHOLDING}
FAILED = {FillState.REFUSED, FillState.BROKEN, FillState.ABANDONED}

# --- the table ----------------------------------------------------------------------------------------------------


def test_the_table_is_the_one_that_the_package_explains() -> None:
    rows = re.findall(r"^    ([A-Z_]+)  +([A-Z_]+)  +([A-Z_]+)$", fills.__doc__ or "", re.MULTILINE)
    explained = [(FillState[state], FillEvent[event], FillState[after]) for state, event, after in rows]
    assert explained == [(state, event, after) for state, ways in TRANSITIONS.items() for event, after in ways.items()]


def test_every_state_and_every_event_is_in_the_table() -> None:
    assert set(TRANSITIONS) == set(FillState)
    assert {event for ways in TRANSITIONS.values() for event in ways} == set(FillEvent)


def test_a_fill_that_is_over_stays_so() -> None:
    assert {FillState.DONE, *FAILED} == OVER
    for state in OVER:
        for event in FillEvent:
            with pytest.raises(KeyError):
                following(state, event)


@pytest.mark.parametrize("state", [state for state in FillState if state not in OVER])
def test_a_failure_ends_every_fill_that_is_not_over(state: FillState) -> None:
    after = following(state, FillEvent.FAILURE)
    assert after in OVER or following(after, FillEvent.STORED) in OVER


@pytest.mark.parametrize(
    ("state", "event"),
    [
        (FillState.ASKING, FillEvent.LAST_BYTE),
        (FillState.ASKING, FillEvent.STORED),
        (FillState.RECEIVING, FillEvent.HEAD),
        (FillState.RECEIVING, FillEvent.USABLE),
        (FillState.RECEIVING, FillEvent.STORED),
        (FillState.WITHHOLDING, FillEvent.CODED_HEAD),
        (FillState.WHOLE, FillEvent.LAST_BYTE),
        (FillState.WHOLE, FillEvent.UNWANTED),
    ],
)
def test_an_event_out_of_its_order_is_a_fault(state: FillState, event: FillEvent) -> None:
    with pytest.raises(KeyError):
        following(state, event)


@given(st.lists(st.sampled_from(FillEvent), max_size=30))
def test_any_life_of_a_fill_holds_to_the_rules(events: list[FillEvent]) -> None:
    state, passed = FillState.ASKING, [FillState.ASKING]
    for event in events:
        if event in TRANSITIONS[state]:
            state = following(state, event)
            passed.append(state)
    # No state comes again, so that every fill ends.
    assert len(passed) == len(set(passed))
    # Bytes come before a body is whole, and a whole one does not fail.
    assert FillState.WHOLE not in passed or (BYTES_COME & set(passed) and not FAILED & set(passed))
    assert FillState.BROKEN not in passed or BYTES_COME & set(passed)
    assert FillState.REFUSED not in passed or not BYTES_COME & set(passed)


# --- fills that follow it -----------------------------------------------------------------------------------------


@pytest.fixture
def passed(monkeypatch: pytest.MonkeyPatch) -> list[FillState]:
    """Return the states that fills have come to, in order."""
    states: list[FillState] = []
    advance = Fill._advance

    def noted(fill: Fill, event: FillEvent) -> None:
        advance(fill, event)
        states.append(fill.state)

    monkeypatch.setattr(Fill, "_advance", noted)
    return states


@pytest.mark.parametrize(
    ("script", "states"),
    [
        (Script(), [FillState.RECEIVING, FillState.WHOLE, FillState.DONE]),
        (Script(fields=(("Cache-Control", "no-store"),)), [FillState.RECEIVING, FillState.WHOLE, FillState.DONE]),
        (Script(coded=True, length=None), [FillState.WITHHOLDING, FillState.WHOLE, FillState.DONE]),
        (Script(error=UpstreamTruncated()), [FillState.REFUSED]),
        (Script(chunks=(b"01", UpstreamTruncated())), [FillState.RECEIVING, FillState.BROKEN]),
        (Script(chunks=(b"01",)), [FillState.RECEIVING, FillState.BROKEN]),
    ],
    ids=["stored", "not storable", "coded", "refused", "broken", "too short"],
)
async def test_a_fill_passes_through_the_states_of_its_answer(
    script: Script, states: list[FillState], rig: Rig, passed: list[FillState]
) -> None:
    engine = await rig.engine()
    rig.origin.then(script)
    try:
        await fetch(engine)
    except GatewayError:
        assert states[-1] in FAILED
    await settled(engine)
    assert passed == states


async def test_a_coded_body_that_breaks_is_asked_for_again(rig: Rig, passed: list[FillState]) -> None:
    engine = await rig.engine()
    rig.origin.then(Script(chunks=(b"01", UpstreamTruncated()), coded=True, length=None), Script())
    assert (await fetch(engine))[0] == b"0123456789"
    await settled(engine)
    assert passed[:3] == [FillState.WITHHOLDING, FillState.BROKEN, FillState.RECEIVING]


async def test_a_validation_is_done_as_soon_as_it_is_answered(rig: Rig, passed: list[FillState]) -> None:
    engine = await rig.engine()
    await fetch(engine)
    await settled(engine)
    rig.clock.now += 101
    rig.origin.then(Script(status=304, fields=(("ETag", '"one"'),)))
    passed.clear()
    await fetch(engine)
    assert passed == [FillState.DONE]


async def _leave(engine: Engine) -> None:
    async with engine.open(REF, NOTHING) as opened:
        await opened.body.read(0, 1)


async def _drain(engine: Engine) -> None:
    await _leave(engine)
    engine.drain()


@pytest.mark.parametrize(
    ("fields", "end"),
    [((("Cache-Control", "no-store"),), _leave), ((), _drain)],
    ids=["not storable", "drain"],
)
async def test_a_fill_that_nothing_needs_is_abandoned(
    fields: tuple[tuple[str, str], ...],
    end: Callable[[Engine], Awaitable[None]],
    rig: Rig,
    passed: list[FillState],
) -> None:
    engine = await rig.engine()
    gate = asyncio.Semaphore(1)
    rig.origin.then(Script(chunks=(b"01234", b"56789"), fields=fields, chunk_gate=gate))
    await end(engine)
    await settled(engine)
    assert passed == [FillState.RECEIVING, FillState.ABANDONED]


async def test_a_tier_that_fails_as_it_stores_breaks_no_answer(
    rig: Rig, passed: list[FillState], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = await rig.engine()

    async def cancelled(*_: object) -> bool:
        raise asyncio.CancelledError

    monkeypatch.setattr(engine.tiers, "keep", cancelled)
    async with engine.open(REF, NOTHING) as opened:
        assert await read(opened) == b"0123456789"
        await settled(engine)
        assert await opened.body.read(0, 10) == b"0123456789"
    assert passed == [FillState.RECEIVING, FillState.WHOLE, FillState.DONE]
