"""Files that the express lane sends: the log has the lines, and the metrics the numbers, of ordinary answers."""

from __future__ import annotations

import pytest

from proxy.sandbox import Media
from proxy.telemetry.metrics import ABORTED, ANSWERS, REQUEST_SECONDS, REQUESTS, SENT, CacheOutcome
from tests.functional.express import Connection, Start, Station, until, warm
from tests.functional.harness import logged

PART = "Range: bytes=1000000-3999999"
SIZE = 3_000_000
_REQUESTED = REQUESTS.places()["media", "206"]
_TIMES = REQUEST_SECONDS.first + CacheOutcome.HIT_DISK * REQUEST_SECONDS.stride
_SUM = _TIMES + REQUEST_SECONDS.stride - 1


async def asked_once(connection: Connection, at: Station, octets: bytes, *, cut: bool) -> None:
    """Read one answer, whole or left in the middle, and the end of its connection."""
    if cut:
        connection.pause()
        connection.writer.write(octets)
        await until(lambda: at.sending == 1)
    else:
        assert len((await connection.ask(octets)).body) == SIZE
    connection.writer.transport.abort()
    await until(lambda: not at.server.connections)
    await at.settled()


@pytest.mark.parametrize("express", ["1", "0"], ids=["express", "ordinary"])
@pytest.mark.parametrize("cut", [False, True], ids=["whole", "cut"])
async def test_an_answer_is_logged_and_counted(start: Start, film: Media, cut: bool, express: str) -> None:
    async with logged() as logs:
        at = await start(GATEWAY_EXPRESS=express)
        octets = at.get(film.ref, PART, "User-Agent: a")
        async with at.connection() as connection:
            if express == "1":
                await warm(connection, at, octets)
            else:
                while "; hit" not in (await connection.ask(octets)).headers["Cache-Status"]:
                    pass
        await until(lambda: not (at.server.connections or at.gateway.media.engine.fills))
        before = at.gateway.telemetry.totals()
        async with at.connection(receive_buffer=4_096) as connection:
            await asked_once(connection, at, octets, cut=cut)
        after = at.gateway.telemetry.totals()
        at.gateway.telemetry.access.flush()
    entry = logs.entries[-1]
    sent = int(str(entry["bytes"]))
    assert (0 < sent < SIZE) if cut else (sent == SIZE)
    assert entry.get("aborted") == (True if cut else None)
    assert (entry["status"], entry["user_agent"], entry["client"]) == (206, "a", "127.0.0.1")
    assert list(entry)[4:] == [
        "client", "method", "target", "status", "bytes", "cache", *(["aborted"] if cut else []), "user_agent",
        "seconds", "request_id",
    ]  # fmt: skip
    changed = {place: after[place] - before[place] for place in range(len(after)) if after[place] != before[place]}
    times = [changed.pop(place) for place in range(_TIMES, _SUM) if place in changed]
    changed.pop(_SUM, None)
    assert times == [1]
    broken_off = {ABORTED.first: 1} if cut else {}
    assert changed == {_REQUESTED: 1, SENT.first: sent, ANSWERS.first + (express == "0"): 1, **broken_off}


async def test_an_answer_s_time_runs_from_request_to_end(start: Start, film: Media) -> None:
    async with logged() as logs:
        at = await start()
        octets = at.get(film.ref)
        async with at.connection() as connection:
            await warm(connection, at, octets)
        async with at.connection(receive_buffer=4_096) as connection:
            before = at.gateway.telemetry.totals()[_SUM]
            connection.pause()
            connection.writer.write(octets)
            await until(lambda: at.sending == 1)
            at.clock.now += 7
            connection.resume()
            await connection.answer()
            await at.settled()
            counted = at.gateway.telemetry.totals()[_SUM] - before
        at.gateway.telemetry.access.flush()
    assert counted > 0
    assert abs(float(str(logs.entries[-1]["seconds"])) - counted) < 0.001


async def test_each_file_hit_counts_once_for_the_folder(
    start: Start, film: Media, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What was counted is not written down meanwhile.
    monkeypatch.setattr("proxy.cache.disk.write_behind._SECONDS", 3_600.0)
    at = await start()
    counters = at.gateway.media.engine.tiers.counters
    async with at.connection(receive_buffer=4_096) as connection:
        await warm(connection, at, at.get(film.ref))
        counters.note_written(counters.unwritten())
        await connection.ask(at.get(film.ref))
        await connection.ask(at.get(film.ref, PART))
        await connection.ask(at.get(film.ref, PART))
        await connection.ask(at.get(film.ref, method="HEAD"))
    await at.settled()
    at.gateway.telemetry.totals()
    assert {counter.name: count for counter, count in counters.unwritten().items()} == {"DISK_HITS": 4}
