"""The engine over a scripted origin: reuse, validation, collapsing, failure, and what is never stored."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from proxy.cache.disk.integrity import BodyChecker
from proxy.cache.engine import Engine
from proxy.cache.fills.fill import Fill
from proxy.cache.fills.registry import FillBounds
from proxy.cache.stored import StoredResponse
from proxy.cache.tiers import Tiers
from proxy.erasure import Reach
from proxy.errors import (
    MediaNotFound,
    Overloaded,
    StoreError,
    UpstreamBusy,
    UpstreamError,
    UpstreamTimeout,
    UpstreamTooLarge,
    UpstreamTruncated,
    UpstreamUnreachable,
)
from proxy.model import AccountSid, MediaRef, MessageRef
from proxy.semantics.fields import Fields
from proxy.semantics.freshness import FreshnessPolicy
from tests.unit.cache.rigs import BIG, Rig, big, fetch, joined, persist, read, settled
from tests.unit.cache.scripted import NOTHING, REF, Script

both = pytest.mark.parametrize("size", ["small", "large"])


def script_of(size: str) -> Script:
    return Script() if size == "small" else big()


# --- reuse ------------------------------------------------------------------------------------------------------


@both
async def test_a_second_request_hits_the_same_bytes_and_etag(rig: Rig, size: str) -> None:
    engine = await rig.engine()
    rig.origin.then(script_of(size))
    async with engine.open(REF, NOTHING) as first:
        assert str(first.status) == "media-gateway; fwd=uri-miss; fwd-status=200; stored"
        whole = await read(first)
    rig.clock.now += 7
    async with engine.open(REF, NOTHING) as second:
        assert str(second.status) == "media-gateway; hit; ttl=93"
        assert (await read(second), second.age, second.remaining) == (whole, 7, 93)
        assert second.representation.etag == first.representation.etag
    assert len(rig.origin.asked) == 1


@both
async def test_a_stored_response_survives_a_restart(tmp_path: Path, size: str) -> None:
    async with AsyncExitStack() as first_run:
        first = Rig(first_run, tmp_path / "kept")
        first.origin.then(script_of(size))
        whole, _ = await fetch(await first.engine())
    async with AsyncExitStack() as second_run:
        second = Rig(second_run, tmp_path / "kept")
        assert await fetch(await second.engine()) == (whole, "media-gateway; hit; ttl=100")
        assert second.origin.asked == []


async def test_a_range_ahead_waits_for_its_own_bytes_only(rig: Rig) -> None:
    engine = await rig.engine()
    gate = asyncio.Semaphore(0)
    rig.origin.then(Script(chunks=(b"01234", b"56789"), chunk_gate=gate))
    async with engine.open(REF, NOTHING) as opened:
        ahead = asyncio.ensure_future(opened.body.read(7, 2))
        gate.release()
        assert await opened.body.read(0, 5) == b"01234"
        assert not ahead.done()
        gate.release()
        assert await ahead == b"78"


# --- §4.3: validation -------------------------------------------------------------------------------------------


async def test_rfc9111_s4_3_a_304_freshens_a_stale_response(rig: Rig) -> None:
    engine = await rig.engine()
    whole, _ = await fetch(engine)
    rig.clock.now += 101
    rig.origin.then(Script(status=304, fields=(("ETag", '"one"'), ("Cache-Control", "max-age=50"))))
    assert await fetch(engine) == (whole, "media-gateway; fwd=stale; fwd-status=304")
    assert rig.origin.asked[-1] is not None
    assert rig.origin.asked[-1].etag == '"one"'
    assert await fetch(engine) == (whole, "media-gateway; hit; ttl=50")


async def test_rfc9111_s4_3_4_a_304_about_others_fetches_again(rig: Rig) -> None:
    engine = await rig.engine()
    await fetch(engine)
    rig.clock.now += 101
    two = (("ETag", '"two"'),)
    rig.origin.then(Script(status=304, fields=two), Script(chunks=(b"new",), length=3, fields=two))
    assert (await fetch(engine))[0] == b"new"
    assert [asked is None for asked in rig.origin.asked] == [True, False, True]


async def test_rfc9111_s4_3_3_a_200_replaces_the_stored_response(rig: Rig) -> None:
    engine = await rig.engine()
    await fetch(engine)
    rig.clock.now += 101
    rig.origin.then(Script(chunks=(b"new",), length=3, fields=(("ETag", '"two"'),)))
    assert await fetch(engine) == (b"new", "media-gateway; fwd=stale; fwd-status=200; stored")
    assert (await fetch(engine))[0] == b"new"


async def test_rfc9111_s5_2_2_4_no_cache_is_always_validated(rig: Rig) -> None:
    engine = await rig.engine()
    fields = (("ETag", '"one"'), ("Cache-Control", "no-cache, max-age=100"))
    rig.origin.then(Script(fields=fields), Script(status=304, fields=fields))
    whole, _ = await fetch(engine)
    for _ in range(2):
        assert await fetch(engine) == (whole, "media-gateway; fwd=stale; fwd-status=304")
    assert len(rig.origin.asked) == 3


async def test_a_304_that_forbids_storing_serves_one_request(rig: Rig) -> None:
    engine = await rig.engine()
    whole, _ = await fetch(engine)
    rig.clock.now += 101
    rig.origin.then(Script(status=304, fields=(("Cache-Control", "no-store"),)), Script(chunks=(b"new",), length=3))
    assert await fetch(engine) == (whole, "media-gateway; fwd=stale; fwd-status=304")
    assert await fetch(engine) == (b"new", "media-gateway; fwd=uri-miss; fwd-status=200; stored")


@both
async def test_a_404_to_a_validation_erases_what_is_stored(rig: Rig, size: str) -> None:
    engine = await rig.engine(FreshnessPolicy(default_lifetime=100, stale_if_error=10_000))
    rig.origin.then(script_of(size))
    await fetch(engine)
    rig.clock.now += 101
    rig.origin.then(Script(error=MediaNotFound()))
    with pytest.raises(MediaNotFound):
        await fetch(engine)
    assert await engine.tiers.find(REF) is None


# --- RFC 5861 and §4.2.4: stale on purpose only -----------------------------------------------------------------


async def test_rfc5861_s4_an_error_serves_stale_within_the_window_alone(rig: Rig) -> None:
    engine = await rig.engine(FreshnessPolicy(default_lifetime=100, stale_if_error=50))
    whole, _ = await fetch(engine)
    rig.origin.then(Script(error=UpstreamUnreachable()))
    rig.clock.now += 149
    assert await fetch(engine) == (whole, "media-gateway; fwd=stale; detail=stale-if-error")
    rig.clock.now += 2
    with pytest.raises(UpstreamUnreachable):
        await fetch(engine)


async def test_rfc9111_s5_2_2_2_must_revalidate_never_serves_stale(rig: Rig) -> None:
    engine = await rig.engine(FreshnessPolicy(default_lifetime=100, stale_if_error=50, stale_while_revalidate=50))
    rig.origin.then(Script(fields=(("ETag", '"one"'), ("Cache-Control", "max-age=100, must-revalidate"))))
    await fetch(engine)
    rig.clock.now += 101
    rig.origin.then(Script(error=UpstreamTimeout()))
    with pytest.raises(UpstreamTimeout):
        await fetch(engine)


async def test_rfc5861_s3_a_stale_answer_is_validated_once_in_background(rig: Rig) -> None:
    engine = await rig.engine(FreshnessPolicy(default_lifetime=100, stale_while_revalidate=50))
    whole, _ = await fetch(engine)
    await settled(engine)
    rig.clock.now += 110
    gate = asyncio.Event()
    rig.origin.then(Script(status=304, fields=(("ETag", '"one"'),), head_gate=gate))
    for _ in range(3):
        assert await fetch(engine) == (whole, "media-gateway; hit; ttl=-10")
    gate.set()
    await settled(engine)
    assert len(rig.origin.asked) == 2
    assert await fetch(engine) == (whole, "media-gateway; hit; ttl=100")


# --- a media that fails again and again -------------------------------------------------------------------------


async def failing(engine: Engine, rig: Rig, error: UpstreamError, times: int) -> None:
    """Let that many fetches fail, one after the other."""
    rig.origin.then(Script(error=error))
    for _ in range(times):
        with pytest.raises(type(error)):
            await fetch(engine)
    await settled(engine)


async def test_a_media_that_failed_five_times_rests_ten_seconds(rig: Rig) -> None:
    engine = await rig.engine()
    await failing(engine, rig, UpstreamError(), 5)
    rig.origin.then(Script())
    rig.clock.now += 9.5
    with pytest.raises(UpstreamBusy) as caught:
        await fetch(engine)
    assert (caught.value.retry_after, len(rig.origin.asked)) == (1, 5)
    rig.clock.now += 0.5
    assert (await fetch(engine))[0] == b"0123456789"


async def test_a_fetch_that_succeeds_clears_the_count_of_failures(rig: Rig) -> None:
    engine = await rig.engine(FreshnessPolicy(default_lifetime=0))
    for _ in range(3):
        await failing(engine, rig, UpstreamError(), 4)
        rig.origin.then(Script())
        await fetch(engine)
        await settled(engine)


async def test_rfc5861_s4_a_media_left_alone_is_served_stale(rig: Rig) -> None:
    engine = await rig.engine(FreshnessPolicy(default_lifetime=100, stale_if_error=500))
    whole, _ = await fetch(engine)
    await settled(engine)
    rig.clock.now += 101
    rig.origin.then(Script(error=UpstreamTimeout()))
    asked = [(await fetch(engine), len(rig.origin.asked)) for _ in range(7)]
    stale = (whole, "media-gateway; fwd=stale; detail=stale-if-error")
    assert asked == [(stale, count) for count in (2, 3, 4, 5, 6, 6, 6)]


async def test_rfc5861_s4_a_refused_media_left_alone_is_not_stale(rig: Rig) -> None:
    engine = await rig.engine(FreshnessPolicy(default_lifetime=100, stale_if_error=500))
    await fetch(engine)
    await settled(engine)
    rig.clock.now += 101
    await failing(engine, rig, UpstreamTooLarge(), 5)
    with pytest.raises(UpstreamBusy):
        await fetch(engine)


async def test_a_media_left_alone_is_not_validated_in_the_background(rig: Rig) -> None:
    engine = await rig.engine(FreshnessPolicy(default_lifetime=100, stale_while_revalidate=500))
    await fetch(engine)
    rig.clock.now += 101
    rig.origin.then(Script(error=UpstreamTimeout()))
    for _ in range(8):
        await settled(engine)
        await fetch(engine)
    await settled(engine)
    assert len(rig.origin.asked) == 6


async def test_the_tries_of_one_fetch_count_as_one_failure(rig: Rig) -> None:
    engine = await rig.engine()
    rig.origin.then(Script(chunks=(UpstreamTruncated(),)))
    for count in range(1, 6):
        with pytest.raises(UpstreamTruncated):
            await persist(engine)
        assert len(rig.origin.asked) == 3 * count
    with pytest.raises(UpstreamBusy):
        await persist(engine)
    assert len(rig.origin.asked) == 15


async def test_a_reader_joins_a_running_fetch_of_a_failing_media(rig: Rig) -> None:
    engine = await rig.engine()
    await failing(engine, rig, UpstreamError(), 4)
    gate = asyncio.Event()
    rig.origin.then(Script(head_gate=gate))
    readers = [asyncio.create_task(fetch(engine)) for _ in range(3)]
    await joined(engine, 3)
    gate.set()
    assert [body for body, _ in await asyncio.gather(*readers)] == [b"0123456789"] * 3


# --- negative caching -------------------------------------------------------------------------------------------


async def test_a_404_of_an_old_media_is_remembered_briefly(rig: Rig) -> None:
    engine = await rig.engine(FreshnessPolicy(default_lifetime=100, negative_lifetime=10))
    rig.origin.then(Script(error=MediaNotFound()))
    for _ in range(3):
        with pytest.raises(MediaNotFound):
            await fetch(engine)
    assert len(rig.origin.asked) == 1
    rig.clock.now += 11
    with pytest.raises(MediaNotFound):
        await fetch(engine)
    assert len(rig.origin.asked) == 2


async def test_a_404_of_a_young_message_is_remembered_as_any(rig: Rig) -> None:
    engine = await rig.engine(FreshnessPolicy(default_lifetime=100, negative_lifetime=10))
    rig.origin.then(Script(error=MediaNotFound()), Script())
    for _ in range(3):
        with pytest.raises(MediaNotFound):
            await fetch(engine, young=True)
    assert len(rig.origin.asked) == 1
    rig.clock.now += 11
    assert (await fetch(engine, young=True))[0] == b"0123456789"


async def test_a_404_that_may_not_be_stored_is_not_remembered(rig: Rig) -> None:
    engine = await rig.engine(FreshnessPolicy(default_lifetime=100, negative_lifetime=10))
    rig.origin.then(Script(error=MediaNotFound(memory=0)), Script())
    with pytest.raises(MediaNotFound):
        await fetch(engine)
    assert (await fetch(engine))[0] == b"0123456789"


@pytest.mark.parametrize(("said", "lasts"), [(5.0, 5), (50.0, 10)])
async def test_a_404_is_remembered_as_it_and_the_settings_allow(rig: Rig, said: float, lasts: int) -> None:
    engine = await rig.engine(FreshnessPolicy(default_lifetime=100, negative_lifetime=10))
    rig.origin.then(Script(error=MediaNotFound(memory=said)))
    for _ in range(2):
        with pytest.raises(MediaNotFound):
            await fetch(engine)
        rig.clock.now += lasts - 1
    assert len(rig.origin.asked) == 1
    rig.clock.now += 2 - (lasts - 1)
    with pytest.raises(MediaNotFound):
        await fetch(engine)
    assert len(rig.origin.asked) == 2


# --- collapsing -------------------------------------------------------------------------------------------------


@both
async def test_any_number_of_readers_make_one_upstream_request(rig: Rig, size: str) -> None:
    engine = await rig.engine()
    script = script_of(size)
    script.head_gate = asyncio.Event()
    rig.origin.then(script)
    readers = [asyncio.ensure_future(fetch(engine)) for _ in range(100)]
    await joined(engine, 100)
    script.head_gate.set()
    answers = await asyncio.gather(*readers)
    assert {body for body, _ in answers} == {b"0123456789" if size == "small" else BIG}
    assert len(rig.origin.asked) == 1
    assert sum(status.endswith("; stored; collapsed") for _, status in answers) == 99


async def test_a_reader_that_joins_a_miss_looks_nothing_up(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = await rig.engine()
    look_ups, find = 0, engine.tiers.find

    async def counted(ref: MediaRef) -> StoredResponse | None:
        nonlocal look_ups
        look_ups += 1
        return await find(ref)

    monkeypatch.setattr(engine.tiers, "find", counted)
    script = Script(head_gate=(gate := asyncio.Event()))
    rig.origin.then(script)
    first = asyncio.ensure_future(fetch(engine))
    await joined(engine, 1)
    others = [asyncio.ensure_future(fetch(engine)) for _ in range(10)]
    await joined(engine, 11)
    assert look_ups == 1
    gate.set()
    assert {body for body, _ in await asyncio.gather(first, *others)} == {b"0123456789"}
    await settled(engine)
    assert await fetch(engine) == (b"0123456789", "media-gateway; hit; ttl=100")
    assert look_ups == 2


async def test_a_reader_late_for_a_fill_looks_for_its_response(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = await rig.engine()
    script = Script(head_gate=(gate := asyncio.Event()))
    rig.origin.then(script)
    first = asyncio.ensure_future(fetch(engine))
    await joined(engine, 1)
    joinable = engine._fills.joinable

    async def late(ref: MediaRef) -> Fill | None:
        # Another worker has erased something; to look up if it was this media takes as long as the fill.
        monkeypatch.setattr(engine._fills, "joinable", joinable)
        gate.set()
        await first
        await settled(engine)
        return await joinable(ref)

    monkeypatch.setattr(engine._fills, "joinable", late)
    assert await fetch(engine) == (b"0123456789", "media-gateway; hit; ttl=100")
    assert len(rig.origin.asked) == 1


async def test_a_reader_during_a_validation_finds_the_stored_response(rig: Rig) -> None:
    engine = await rig.engine(FreshnessPolicy(default_lifetime=100, stale_if_error=1_000))
    await fetch(engine)
    await settled(engine)
    rig.clock.now += 200
    gate = asyncio.Event()
    rig.origin.then(Script(head_gate=gate, error=UpstreamUnreachable()))
    readers = [asyncio.ensure_future(fetch(engine)) for _ in range(3)]
    await joined(engine, 3)
    gate.set()
    # Each of them may fall back on the stored response.
    assert {body for body, _ in await asyncio.gather(*readers)} == {b"0123456789"}


async def test_a_reader_that_comes_in_the_middle_gets_every_byte(rig: Rig) -> None:
    engine = await rig.engine()
    gate = asyncio.Semaphore(5)
    rig.origin.then(big(chunk_gate=gate))
    async with engine.open(REF, NOTHING) as first:
        assert await first.body.read(450_000, 1) == BIG[450_000:450_001]
        async with engine.open(REF, NOTHING) as second:
            assert second.status.collapsed
            for _ in range(20):
                gate.release()
            assert await read(second) == BIG
    assert len(rig.origin.asked) == 1


async def test_rfc9111_s4_an_unstorable_response_serves_one_request_alone(rig: Rig) -> None:
    engine = await rig.engine()
    gate = asyncio.Event()
    rig.origin.then(Script(fields=(("Cache-Control", "no-store"),), head_gate=gate))
    readers = [asyncio.ensure_future(fetch(engine)) for _ in range(5)]
    await joined(engine, 5)
    gate.set()
    assert {status for _, status in await asyncio.gather(*readers)} == {"media-gateway; fwd=uri-miss; fwd-status=200"}
    assert len(rig.origin.asked) == 5


async def test_rfc9111_s5_2_2_5_no_store_leaves_nothing_behind(rig: Rig) -> None:
    engine = await rig.engine(bounds=FillBounds(spool_bytes=1_200_000))  # more than one such body, less than two
    rig.origin.then(big(fields=(("Cache-Control", "no-store"),)))
    for _ in range(3):
        async with engine.open(REF, NOTHING) as opened:
            assert opened.in_order
            assert await read(opened) == BIG
    await settled(engine)
    assert [path for path in (rig.folder / "bodies").rglob("*") if path.is_file()] == []


async def test_the_last_readers_leaving_ends_an_unstorable_fill(rig: Rig) -> None:
    engine = await rig.engine()
    script = Script(
        chunks=(b"x" * 10, b"y"),
        length=11,
        fields=(("Cache-Control", "no-store"),),
        chunk_gate=asyncio.Semaphore(1),
    )
    rig.origin.then(script)
    async with engine.open(REF, NOTHING) as opened:
        await opened.body.read(0, 1)
        assert not script.left.is_set()
    await script.left.wait()
    rig.origin.then(Script())
    assert (await fetch(engine))[0] == b"0123456789"


async def test_a_reader_never_joins_a_fill_that_is_given_up(rig: Rig) -> None:
    engine = await rig.engine()
    rig.origin.then(
        Script(chunks=(b"0",) * 3, fields=(("Cache-Control", "no-store"),), chunk_gate=asyncio.Semaphore(1)), Script()
    )
    async with engine.open(REF, NOTHING) as opened:
        await opened.body.read(0, 1)
    assert (await fetch(engine))[0] == b"0123456789"


async def test_a_fill_outlives_a_reader_that_left_before_the_head(rig: Rig) -> None:
    engine = await rig.engine()
    gate = asyncio.Event()
    rig.origin.then(Script(head_gate=gate), Script(error=MediaNotFound()))
    first = asyncio.ensure_future(fetch(engine))
    await rig.origin.arrived.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    gate.set()
    assert (await fetch(engine))[0] == b"0123456789"
    assert len(rig.origin.asked) == 1


# --- failures ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chunks", "length"),
    [
        ((b"01234",), 10),
        ((b"0123456789", b"more"), 10),
        ((b"01234", UpstreamTruncated()), 10),
        ((b"01234", UpstreamTruncated()), None),
    ],
    ids=["short", "long", "reset", "reset without a length"],
)
async def test_a_broken_body_is_not_stored_and_cuts_readers_off(
    rig: Rig, chunks: tuple[bytes | Exception, ...], length: int | None
) -> None:
    engine = await rig.engine()
    rig.origin.then(Script(chunks=chunks, length=length))
    with pytest.raises(UpstreamTruncated):
        await fetch(engine)
    await settled(engine)
    assert await engine.tiers.find(REF) is None


async def test_readers_of_a_fill_broken_early_share_the_next_one(rig: Rig) -> None:
    engine = await rig.engine()
    gate = asyncio.Event()
    rig.origin.then(Script(chunks=(UpstreamTruncated(),), head_gate=gate), Script())
    readers = [asyncio.ensure_future(persist(engine)) for _ in range(20)]
    await joined(engine, 20)
    gate.set()
    assert await asyncio.gather(*readers) == [b"0123456789"] * 20
    assert len(rig.origin.asked) == 2


async def test_readers_of_fills_that_keep_breaking_fail_after_three(rig: Rig) -> None:
    engine = await rig.engine()
    gate = asyncio.Event()
    rig.origin.then(Script(chunks=(UpstreamTruncated(),), head_gate=gate), Script(chunks=(UpstreamTruncated(),)))
    readers = [asyncio.ensure_future(persist(engine)) for _ in range(20)]
    await joined(engine, 20)
    gate.set()
    failed = await asyncio.gather(*readers, return_exceptions=True)
    assert {type(error) for error in failed} == {UpstreamTruncated}
    assert len(rig.origin.asked) == 3


async def test_a_fault_of_ours_reaches_readers_as_upstream_error(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    engine = await rig.engine()
    rig.origin.then(Script(chunks=(ZeroDivisionError(),)))
    with pytest.raises(UpstreamError):
        await fetch(engine)
    await settled(engine)
    assert "A fill broke down" in caplog.text


async def test_more_fills_than_the_limit_are_refused(rig: Rig) -> None:
    engine = await rig.engine(bounds=FillBounds(most=1))
    rig.origin.then(Script(head_gate=asyncio.Event()))
    first = asyncio.ensure_future(fetch(engine))
    await rig.origin.arrived.wait()
    other = MediaRef.parse("AC" + "a" * 32, "MM" + "b" * 32, "ME" + "d" * 32)
    with pytest.raises(Overloaded):
        async with engine.open(other, NOTHING):
            pass
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_a_large_body_passes_unstored_if_there_is_no_disk(rig: Rig) -> None:
    engine = await rig.engine(disk=False, bounds=FillBounds(spool_bytes=2_000_000))
    rig.origin.then(big())
    for _ in range(5):
        assert (await fetch(engine))[0] == BIG
    assert len(rig.origin.asked) == 5


async def test_rfc9111_s5_2_1_7_only_if_cached_gets_504(rig: Rig) -> None:
    engine = await rig.engine(FreshnessPolicy(default_lifetime=100, honour_request_directives=True))
    with pytest.raises(UpstreamTimeout):
        await fetch(engine, Fields((("Cache-Control", "only-if-cached"),)))
    assert rig.origin.asked == []


async def test_a_body_of_unknown_length_is_measured_at_its_end(rig: Rig) -> None:
    engine = await rig.engine()
    rig.origin.then(Script(length=None))
    async with engine.open(REF, NOTHING) as opened:
        assert opened.representation.length is None
        assert await opened.body.measure() == 10
        assert await opened.body.read(5, 100) == b"56789"
    await settled(engine)
    async with engine.open(REF, NOTHING) as again:
        assert again.representation.length == 10


async def test_a_stored_file_that_has_vanished_is_fetched_again(rig: Rig) -> None:
    engine = await rig.engine()
    rig.origin.then(big())
    await fetch(engine)
    await settled(engine)
    for path in (rig.folder / "bodies").rglob("*"):
        if path.is_file():
            path.unlink()
    assert (await fetch(engine))[0] == BIG
    assert len(rig.origin.asked) == 2


# --- erasing ----------------------------------------------------------------------------------------------------

OTHER = MediaRef.parse("AC" + "a" * 32, "MM" + "e" * 32, "ME" + "f" * 32)
reaches = pytest.mark.parametrize(
    "erased", [REF, REF.parent, REF.account, None], ids=["media", "message", "account", "all"]
)


@both
@reaches
async def test_an_erased_media_is_fetched_again(
    rig: Rig, size: str, erased: MediaRef | MessageRef | AccountSid | None
) -> None:
    engine = await rig.engine()
    rig.origin.then(script_of(size))
    await fetch(engine)
    await engine.erase(Reach.of(erased))
    await fetch(engine)
    assert len(rig.origin.asked) == 2


async def test_an_erasure_spares_what_it_does_not_cover(rig: Rig) -> None:
    engine = await rig.engine()
    await fetch(engine)
    await settled(engine)
    await engine.erase(Reach.of(OTHER.parent))
    assert await fetch(engine) == (b"0123456789", "media-gateway; hit; ttl=100")


@both
@reaches
async def test_an_erasure_by_another_worker_holds_at_once(
    rig: Rig, tmp_path: Path, size: str, erased: MediaRef | MessageRef | AccountSid | None
) -> None:
    engine = await rig.engine()
    rig.origin.then(script_of(size))
    await fetch(engine)
    await settled(engine)
    async with AsyncExitStack() as stack:
        other = await Rig(stack, rig.folder).engine()
        assert (await fetch(other))[1].startswith("media-gateway; hit")
        await other.erase(Reach.of(erased))
    await fetch(engine)
    assert len(rig.origin.asked) == 2


@both
async def test_an_erasure_beats_a_fill_that_was_under_way(rig: Rig, size: str) -> None:
    engine = await rig.engine()
    script = script_of(size)
    script.head_gate = asyncio.Event()
    rig.origin.then(script, script_of(size))
    old = asyncio.ensure_future(fetch(engine))
    await rig.origin.arrived.wait()
    await engine.erase(Reach.of(REF))
    script.head_gate.set()
    await old
    await settled(engine)
    assert await engine.tiers.find(REF) is None


async def test_a_request_after_an_erasure_joins_no_earlier_fill(rig: Rig) -> None:
    engine = await rig.engine()
    gate = asyncio.Event()
    rig.origin.then(Script(chunks=(b"old",), length=3, head_gate=gate), Script(chunks=(b"new",), length=3))
    old = asyncio.ensure_future(fetch(engine))
    await rig.origin.arrived.wait()
    await engine.erase(Reach.of(None))
    assert (await fetch(engine))[0] == b"new"
    gate.set()
    assert (await old)[0] == b"old"
    await settled(engine)
    assert (await fetch(engine))[0] == b"new"


async def test_an_erasure_beats_a_later_304(rig: Rig) -> None:
    engine = await rig.engine()
    await fetch(engine)
    rig.clock.now += 101
    gate = asyncio.Event()
    rig.origin.arrived.clear()
    rig.origin.then(Script(status=304, fields=(("ETag", '"one"'),), head_gate=gate), Script(chunks=(b"new",), length=3))
    validating = asyncio.ensure_future(fetch(engine))
    await rig.origin.arrived.wait()
    await engine.erase(Reach.of(REF))
    gate.set()
    assert (await validating)[0] == b"new"


async def test_an_erasure_without_a_disk_holds_in_the_process(rig: Rig) -> None:
    engine = await rig.engine(disk=False)
    await fetch(engine)
    await engine.erase(Reach.of(REF))
    await fetch(engine)
    assert len(rig.origin.asked) == 2


async def test_an_erasure_lets_a_remembered_404_be_asked_again(rig: Rig) -> None:
    engine = await rig.engine(FreshnessPolicy(default_lifetime=100, negative_lifetime=10))
    rig.origin.then(Script(error=MediaNotFound()), Script())
    with pytest.raises(MediaNotFound):
        await fetch(engine)
    await engine.erase(Reach.of(REF.account))
    assert (await fetch(engine))[0] == b"0123456789"


# --- damage -----------------------------------------------------------------------------------------------------


def damage(folder: Path) -> None:
    """Change one byte in the middle of every stored body."""
    for path in (folder / "bodies").rglob("*"):
        if path.is_file():
            content = bytearray(path.read_bytes())
            content[len(content) // 2] ^= 1
            path.write_bytes(content)


async def test_a_small_body_damaged_on_disk_is_never_served(tmp_path: Path) -> None:
    async with AsyncExitStack() as first_run:
        await fetch(await Rig(first_run, tmp_path).engine())
    damage(tmp_path)
    async with AsyncExitStack() as second_run:
        second = Rig(second_run, tmp_path)
        assert await fetch(await second.engine()) == (
            b"0123456789",
            "media-gateway; fwd=uri-miss; fwd-status=200; stored",
        )


async def test_a_large_damaged_body_is_cut_off_and_fetched_again(
    tmp_path: Path,
) -> None:
    async with AsyncExitStack() as first_run:
        first = Rig(first_run, tmp_path)
        first.origin.then(big())
        await fetch(await first.engine())
    damage(tmp_path)
    async with AsyncExitStack() as second_run:
        second = Rig(second_run, tmp_path)
        second.origin.then(big())
        engine = await second.engine()
        with pytest.raises(StoreError):
            await fetch(engine)
        assert await persist(engine) == BIG
        assert len(second.origin.asked) == 1


async def test_a_sound_body_is_checked_once_after_a_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with AsyncExitStack() as first_run:
        first = Rig(first_run, tmp_path)
        first.origin.then(big())
        await fetch(await first.engine())
    checked = asyncio.Event()
    times = 0
    trust = BodyChecker.trust

    def trusted(verifier: BodyChecker, generation: str) -> None:
        nonlocal times
        times += 1
        trust(verifier, generation)
        checked.set()

    monkeypatch.setattr(BodyChecker, "trust", trusted)
    async with AsyncExitStack() as second_run:
        engine = await Rig(second_run, tmp_path).engine()
        for _ in range(3):
            assert (await fetch(engine))[0] == BIG
            await checked.wait()
    assert times == 1


async def test_a_reader_whose_finds_keep_changing_fetches_for_itself(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = await rig.engine()
    await fetch(engine)
    await settled(engine)

    async def gone(tiers: Tiers, ref: MediaRef, stored: StoredResponse, rescue: object) -> None:
        return None

    monkeypatch.setattr(Tiers, "open", gone)
    assert await fetch(engine) == (b"0123456789", "media-gateway; fwd=miss; fwd-status=200; stored")
    assert len(rig.origin.asked) == 2


async def test_a_fills_failure_counts_from_the_moment_it_ended(rig: Rig) -> None:
    engine = await rig.engine(disk=False)
    gate = asyncio.Semaphore(0)
    rig.origin.then(Script(chunks=(UpstreamTruncated(),), chunk_gate=gate))
    async with engine.open(REF, NOTHING, attempt=3):
        (fill,) = engine.fills
        gate.release()
        await fill.ended()
        # The callbacks of its task have not run yet: a late reader of an earlier fill begins no other one.
        with pytest.raises(UpstreamTruncated):
            async with engine.open(REF, NOTHING, attempt=2):
                pass
    assert len(rig.origin.asked) == 1
