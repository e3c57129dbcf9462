"""The express lane's rules: what it answers, what it leaves to the ordinary path, and what is known of its answers."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from proxy.cache.counters import Counter
from proxy.cache.engine import Engine
from proxy.erasure import Reach
from proxy.http_server.protocol import GatewayProtocol
from proxy.model import MediaRef
from proxy.sandbox import Media, Sandbox
from proxy.telemetry.metrics import ANSWERS, SENT
from tests.faults.origin import OTHER, REF, SMALL, FaultyOrigin, announcing, good, head
from tests.faults.serving import environment as faulty_environment
from tests.functional.express import (
    HeldClock,
    Start,
    Station,
    make_older,
    ordinary,
    request,
    station,
    turns,
    until,
    warm,
)
from tests.functional.harness import Reply, environment, logged

ELSEWHERE = MediaRef.parse("AC" + "1" * 32, "MM" + "2" * 32, "ME" + "3" * 32)


# --- what ends an answer --------------------------------------------------------------------------------------


async def test_a_link_ends_between_two_requests(start: Start, photo: Media) -> None:
    at = await start()
    async with at.connection() as connection:
        octets = at.get(photo.ref, ttl=60)
        expires = at.minter.policy.expires(at.clock.now, 60)
        await warm(connection, at, octets)
        at.clock.now = expires - 0.001
        before = at.express
        assert (await connection.ask(octets)).status == 200
        assert at.express == before + 1
        at.clock.now = float(expires)
        assert (await ordinary(connection, at, octets)).status == 410


async def test_a_link_begins_within_the_leeway_in_the_lane_too(start: Start, photo: Media) -> None:
    at = await start()
    async with at.connection() as connection:
        soon = int(at.clock.now) + 60
        octets, other = at.get(photo.ref, not_before=soon), at.get(photo.ref, not_before=soon, ttl=2_000)
        late = at.get(photo.ref, not_before=soon + 1)
        await warm(connection, at, octets)
        before = at.express
        for known_or_new in (octets, other):
            assert (await connection.ask(known_or_new)).status == 200
        assert at.express == before + 2
        assert (await ordinary(connection, at, late)).status == 403
        # A clock that is set back makes a link that the lane knows one that is not valid yet.
        at.clock.now -= 1
        assert (await ordinary(connection, at, octets)).status == 403


async def test_the_lane_judges_a_life_with_leeway_too(start: Start, photo: Media) -> None:
    at = await start()
    async with at.connection() as connection:
        policy = at.gateway.links.minter.policy
        target = f"/media/{photo.ref}?expires={int(at.clock.now) + policy.max_ttl + policy.window + 60}&key=k1"
        octets = request(f"{target}&signature={at.gateway.links.minter.keys.sign(target)}")
        await warm(connection, at, octets)
        before = at.express
        assert (await connection.ask(octets)).status == 200
        assert at.express == before + 1
        at.clock.now -= 1
        assert (await ordinary(connection, at, octets)).status == 403


Erase = Callable[[Engine, MediaRef], Awaitable[None]]


async def _purge(engine: Engine, ref: MediaRef) -> None:
    await engine.erase(Reach.of(ref))


async def _revoke(engine: Engine, ref: MediaRef) -> None:
    await engine.revoke(Reach.of(ref), 600)


async def _delete(engine: Engine, ref: MediaRef) -> None:
    await engine.mark_gone(ref, 600)


@pytest.mark.parametrize("first_seen", [False, True], ids=["repeated", "first-seen"])
@pytest.mark.parametrize("elsewhere", [False, True], ids=["here", "another-worker"])
@pytest.mark.parametrize(("erase", "status"), [(_purge, 200), (_revoke, 403), (_delete, 404)])
async def test_an_erasure_is_seen_by_the_next_request(
    start: Start,
    photo: Media,
    erase: Erase,
    status: int,
    elsewhere: bool,
    first_seen: bool,
) -> None:
    at = await start()
    other = await start() if elsewhere else at
    async with at.connection() as connection:
        await warm(connection, at, at.get(photo.ref, ttl=60))
        await erase(other.gateway.media.engine, photo.ref)
        reply = await ordinary(connection, at, at.get(photo.ref, ttl=600 if first_seen else 60))
    assert reply.status == status
    assert "hit" not in reply.headers.get("Cache-Status", "")


async def test_an_erasure_of_another_media_costs_one_ordinary_answer(start: Start, photo: Media) -> None:
    at = await start()
    async with at.connection() as connection:
        octets = at.get(photo.ref)
        await warm(connection, at, octets)
        await at.gateway.media.engine.erase(Reach.of(ELSEWHERE))
        assert "; hit" in (await ordinary(connection, at, octets)).headers["Cache-Status"]
        before = at.express
        await connection.ask(octets)
        assert at.express == before + 1


async def test_what_is_stale_is_validated_and_then_answered_anew(start: Start, photo: Media) -> None:
    at = await start(GATEWAY_CACHE_STALE_WHILE_REVALIDATE="0")
    async with at.connection() as connection:
        octets = at.get(photo.ref)
        first = await warm(connection, at, octets)
        await make_older(at, photo.ref, int(first.headers["Cache-Status"].rpartition("ttl=")[2]) - 10)
        before = at.express
        await connection.ask(octets)
        await connection.ask(octets)
        assert at.express == before + 1
        at.clock.now += 12
        reply = await ordinary(connection, at, octets)
        assert "fwd=stale" in reply.headers["Cache-Status"]
        assert int((await warm(connection, at, octets)).headers["Age"]) < 100


async def test_a_response_that_was_freshened_is_learnt_anew(start: Start, photo: Media) -> None:
    at = await start()
    async with at.connection() as connection:
        octets = at.get(photo.ref)
        assert int((await warm(connection, at, octets)).headers["Age"]) < 100
        await make_older(at, photo.ref, 100)
        assert int((await ordinary(connection, at, octets)).headers["Age"]) >= 100
        before = at.express
        assert int((await connection.ask(octets)).headers["Age"]) >= 100
        assert at.express == before + 1


async def test_media_dropped_from_ram_takes_the_ordinary_way(start: Start, photo: Media) -> None:
    at = await start()
    async with at.connection() as connection:
        octets = at.get(photo.ref)
        await warm(connection, at, octets)
        await at.gateway.media.engine.tiers.memory.delete(str(photo.ref))
        assert (await ordinary(connection, at, octets)).body == photo.read()


async def test_a_representation_that_was_replaced_is_not_shown_any_more(start: Start, photo: Media) -> None:
    at = await start()
    tiers = at.gateway.media.engine.tiers
    async with at.connection() as connection:
        octets = at.get(photo.ref)
        await warm(connection, at, octets)
        stored = await tiers.find(photo.ref)
        assert stored is not None
        other = msgspec.structs.replace(stored.entry, generation="newer", length=5, etag="newer")
        await tiers.keep(photo.ref, other, b"newer")
        reply = await ordinary(connection, at, octets)
        assert (reply.headers["ETag"], reply.body) == ('"newer"', b"newer")
        assert (await warm(connection, at, octets)).body == b"newer"


@pytest.mark.parametrize("why", ["draining", "retiring"])
async def test_the_last_answer_of_a_connection_says_so(start: Start, photo: Media, why: str) -> None:
    at = await start()
    async with at.connection() as connection:
        octets = at.get(photo.ref)
        await warm(connection, at, octets)
        setattr(at.gateway.readiness, why, True)
        assert (await ordinary(connection, at, octets)).headers["Connection"] == "close"
        assert await connection.reader.read() == b""


# --- what an answer says --------------------------------------------------------------------------------------


async def test_what_depends_on_time_is_made_anew_each_second(start: Start, photo: Media) -> None:
    at = await start(GATEWAY_CDN="1")
    async with at.connection() as connection:
        octets = at.get(photo.ref)
        expires = at.minter.policy.expires(at.clock.now, 3_000)
        first = await warm(connection, at, octets)
        age, ttl = int(first.headers["Age"]), int(first.headers["Cache-Status"].rpartition("ttl=")[2])
        began = at.clock.now
        for _ in range(5):
            at.clock.now += 1
            past, left = int(at.clock.now - began), int(expires - at.clock.now)
            reply = await connection.ask(octets)
            assert reply.headers["Age"] == str(age + past)
            assert reply.headers["Cache-Status"] == f"media-gateway; hit; ttl={ttl - past}"
            # RFC 9111 §4.2.3: each cache that stores it takes the age off.
            assert reply.headers["Cache-Control"] == f"public, max-age={left + age + past}"
            assert f"max-age={left + age + past}" in reply.headers["CDN-Cache-Control"]
    assert at.express == 6


async def test_two_links_to_one_media_have_each_their_own_end(start: Start, photo: Media) -> None:
    at = await start()
    async with at.connection() as connection:
        await warm(connection, at, at.get(photo.ref, ttl=600))
        longer = await connection.ask(at.get(photo.ref, ttl=1_200))
        shorter = await connection.ask(at.get(photo.ref, ttl=600))
    assert at.express == 3
    assert _max_age(longer) == _max_age(shorter) + 600


async def test_what_a_link_claims_is_shown_to_its_holder_alone(start: Start, photo: Media) -> None:
    at = await start()
    async with at.connection() as connection:
        plain = await warm(connection, at, at.get(photo.ref))
        await connection.ask(at.get(photo.ref, filename="a.jpg"))
        named = await connection.ask(at.get(photo.ref, filename="a.jpg"))
        again = await connection.ask(at.get(photo.ref))
    assert at.express == 3
    assert '"a.jpg"' in named.headers["Content-Disposition"]
    assert again.headers["Content-Disposition"] == plain.headers["Content-Disposition"]
    assert '"a.jpg"' not in again.headers["Content-Disposition"]


async def test_without_an_upstream_date_the_answer_s_second_stands_in(tmp_path: Path) -> None:
    async with FaultyOrigin().serving() as origin:
        origin.play((head("Content-Type: image/jpeg", "Date: yesterday", f"Content-Length: {len(SMALL)}"), SMALL))
        async with station(faulty_environment(origin, tmp_path / "cache")) as at, at.connection() as connection:
            octets = at.get(REF)
            dates = {(await warm(connection, at, octets)).headers["Date"]}
            for _ in range(3):
                at.clock.now += 1
                dates.add((await connection.ask(octets)).headers["Date"])
            assert at.express == 4
    assert len(dates) == 4


@pytest.mark.parametrize("form", ["$", "W/$", '"other"'])
async def test_one_entity_tag_is_compared_by_the_lane(start: Start, photo: Media, form: str) -> None:
    at = await start()
    async with at.connection() as connection:
        reply = await warm(connection, at, at.get(photo.ref, f"If-None-Match: {form.replace('$', photo.etag)}"))
    assert (reply.status, reply.body) == ((200, photo.read()) if "other" in form else (304, b""))
    assert ("Content-Length" in reply.headers) == (reply.status == 200)


async def test_a_head_has_no_body(start: Start, photo: Media) -> None:
    at = await start()
    async with at.connection() as connection:
        whole = await warm(connection, at, at.get(photo.ref))
        head = await warm(connection, at, at.get(photo.ref, method="HEAD"))
        assert (await connection.ask(at.get(photo.ref))).body == photo.read()
    assert head.headers["Content-Length"] == whole.headers["Content-Length"] == str(len(photo.read()))


async def test_a_large_media_s_lane_has_file_head_and_304(start: Start, film: Media) -> None:
    at = await start()
    async with at.connection() as connection:
        assert (await warm(connection, at, at.get(film.ref))).body == film.read()
        assert (await warm(connection, at, at.get(film.ref, f"If-None-Match: {film.etag}"))).status == 304
        assert (await warm(connection, at, at.get(film.ref, method="HEAD"))).headers["Content-Length"] == "5000000"


# --- what keeps a request off the lane ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ({"GATEWAY_TRUSTED_PROXIES": "127.0.0.1"}, "X-Request-Id: request-0123456789"),
        ({"GATEWAY_CORS_ORIGINS": "*"}, "Origin: https://app.example.com"),
        ({"GATEWAY_CORS_ORIGINS": "https://app.example.com"}, "Origin: https://app.example.com"),
        ({"GATEWAY_CACHE_REQUEST_DIRECTIVES": "1"}, "Cache-Control: max-stale=5"),
        ({"GATEWAY_CACHE_REQUEST_DIRECTIVES": "1"}, "Pragma: x"),
        ({"GATEWAY_SERVER_TIMING": "1"}, "Accept: */*"),
        ({"GATEWAY_EXPRESS": "0"}, "Accept: */*"),
        ({}, "If-None-Match: *"),
        ({}, 'If-None-Match: "a", "b"'),
        ({}, 'If-None-Match: "a"\r\nIf-None-Match: "b"'),
        ({}, "If-None-Match: broken"),
        ({}, "Range: bytes=0-1,500-501"),
        ({}, "If-Modified-Since: Sat, 01 Jan 2000 00:00:00 GMT"),
        ({}, "X-Unknown: 1"),
        ({}, "Content-Length: 0"),
        ({}, "Connection: keep-alive, x"),
    ],
)
async def test_a_field_the_answer_depends_on_takes_the_ordinary_way(
    start: Start, photo: Media, setting: dict[str, str], line: str
) -> None:
    at = await start(None, **setting)
    async with at.connection() as connection:
        for _ in range(4):
            reply = await ordinary(connection, at, at.get(photo.ref, line))
            assert reply.status in {200, 206, 304}
            assert ("Access-Control-Allow-Origin" in reply.headers) == ("GATEWAY_CORS_ORIGINS" in setting)
            assert not line.startswith("X-Request-Id") or reply.headers["X-Request-Id"] == "request-0123456789"


@pytest.mark.parametrize("line", ["Cache-Control: no-cache", "Pragma: no-cache", "Connection: Keep-Alive", "Accept: a"])
async def test_a_field_that_says_nothing_here_is_passed_over(start: Start, photo: Media, line: str) -> None:
    at = await start()
    async with at.connection() as connection:
        await warm(connection, at, at.get(photo.ref, line))


async def test_a_request_without_another_origin_gets_cors_fields(start: Start, photo: Media) -> None:
    at = await start(GATEWAY_CORS_ORIGINS="https://app.example.com")
    async with at.connection() as connection:
        octets = at.get(photo.ref)
        learnt = await connection.ask(octets)
        reply = await warm(connection, at, octets)
    assert reply.headers["Vary"] == learnt.headers["Vary"] == "Origin"


async def test_a_link_bound_to_an_address_takes_the_ordinary_way(start: Start, photo: Media) -> None:
    at = await start()
    async with at.connection() as connection, at.connection("127.0.0.2") as other:
        octets = at.get(photo.ref, ip="127.0.0.1/32")
        for _ in range(3):
            assert (await ordinary(connection, at, octets)).status == 200
        assert (await ordinary(other, at, octets)).status == 403


async def test_a_slow_reader_takes_the_ordinary_way_and_gets_all(start: Start, sandbox: Sandbox) -> None:
    message = await sandbox.add_message([("image/png", bytes(range(250)) * 3_600)])
    (big,) = message.media
    at = await start()
    octets = at.get(big.ref)
    async with at.connection() as connection:
        await warm(connection, at, octets)
    before, asked = at.express, 12
    async with at.connection(receive_buffer=4_096) as connection:
        for _ in range(asked):
            connection.writer.write(octets)
            await turns()
        for _ in range(asked):
            assert (await connection.answer()).body == big.read()
    # The first answers fill the kernel's buffer; from then on the lane gives none.
    assert 1 <= at.express - before < asked


async def test_unsent_bytes_go_out_before_the_next_answer(start: Start, sandbox: Sandbox) -> None:
    message = await sandbox.add_message([("image/png", bytes(range(250)) * 3_600)])
    (big,) = message.media
    at = await start()
    async with at.connection() as connection:
        await warm(connection, at, at.get(big.ref))
    before, asked = at.express, 12
    async with at.connection(receive_buffer=4_096) as connection:
        await until(lambda: len(at.server.connections) > 0)
        for one in at.server.connections:
            # Else what waits would take the next request off the lane.
            assert one.transport is not None
            one.transport.set_write_buffer_limits(high=1_000_000_000)
        for _ in range(asked):
            connection.writer.write(at.get(big.ref))
            await turns()
        for _ in range(asked):
            assert (await connection.answer()).body == big.read()
    assert at.express - before == asked


# --- connections ----------------------------------------------------------------------------------------------


async def test_a_connection_of_express_answers_stays_open_its_time(start: Start, photo: Media) -> None:
    at = await start(GATEWAY_LIMIT_KEEPALIVE_SECONDS="1")
    loop = asyncio.get_running_loop()
    async with at.connection() as first:
        await warm(first, at, at.get(photo.ref))
    async with at.connection() as connection:
        began = asked = loop.time()
        before = at.express
        while asked < began + 1.5:
            # The second begins with the answer, so not before this.
            asked = loop.time()
            assert (await connection.ask(at.get(photo.ref))).status == 200
            await asyncio.sleep(0.01)
        assert at.express > before + 10
        assert await connection.reader.read() == b""
    assert loop.time() - asked > 0.9


async def test_half_a_head_after_an_express_answer_times_out_too(start: Start, photo: Media) -> None:
    at = await start(GATEWAY_LIMIT_HEADER_SECONDS="1")
    async with at.connection() as connection:
        octets = at.get(photo.ref)
        await warm(connection, at, octets)
        connection.writer.write(octets[:40])
        async with asyncio.timeout(60):
            assert await connection.reader.read() == b""


async def test_an_express_answer_counts_as_a_head_in_time(start: Start, photo: Media) -> None:
    at = await start(GATEWAY_LIMIT_HEADER_SECONDS="1")
    async with at.connection() as connection:
        await warm(connection, at, at.get(photo.ref))
    async with at.connection() as connection:
        before = at.express
        await connection.ask(at.get(photo.ref))
        assert at.express == before + 1
        assert all(timer is None for timer in _head_timers(at))


def _head_timers(at: Station) -> list[asyncio.TimerHandle | None]:
    """Return the timers of connections that wait for the rest of a head."""
    return [one._head_timer for one in at.server.connections if isinstance(one, GatewayProtocol) and one.transport]


async def test_half_a_head_after_an_express_answer_joins_its_rest(start: Start, photo: Media) -> None:
    at = await start()
    async with at.connection() as connection:
        octets = at.get(photo.ref)
        await warm(connection, at, octets)
        connection.writer.write(octets[:40])
        await connection.writer.drain()
        await turns()
        assert (await ordinary(connection, at, octets[40:])).body == photo.read()
        before = at.express
        await connection.ask(octets)
        assert at.express == before + 1


async def test_no_answer_overtakes_one_that_is_under_way(tmp_path: Path) -> None:
    async with FaultyOrigin().serving() as origin:
        late = asyncio.Event()
        origin.play(good(SMALL), (announcing(5), late, b"later"))
        async with station(faulty_environment(origin, tmp_path / "cache")) as at, at.connection() as connection:
            octets = at.get(REF)
            await warm(connection, at, octets)
            before = at.express
            connection.writer.write(at.get(OTHER))
            await until(lambda: origin.asked == 2)
            connection.writer.write(octets)
            await turns()
            late.set()
            assert [(await connection.answer()).body for _ in range(2)] == [b"later", SMALL]
            assert at.express == before


async def test_a_unix_socket_has_the_lane_as_well(start: Start, photo: Media, tmp_path: Path) -> None:
    at = await start(GATEWAY_LISTEN=f"unix:{tmp_path}/gateway.sock", GATEWAY_PUBLIC_URL="http://media.example.com")
    async with logged() as logs, at.connection() as connection:
        assert (await warm(connection, at, at.get(photo.ref))).body == photo.read()
    assert not [entry for entry in logs.entries if "client" in entry]


# --- what is known of its answers -----------------------------------------------------------------------------


@pytest.mark.parametrize("as_json", [True, False], ids=["json", "text"])
async def test_the_log_s_lines_are_those_of_ordinary_answers(
    sandbox: Sandbox, tmp_path: Path, photo: Media, as_json: bool
) -> None:
    lines: dict[str, list[str]] = {}
    for express in ("1", "0"):
        environ = environment(sandbox, tmp_path / f"cache-{express}", GATEWAY_EXPRESS=express)
        environ["GATEWAY_PUBLIC_URL"] = "http://media.example.com"
        async with logged(as_json=as_json) as logs, station(environ, _CLOCK) as at, at.connection() as connection:
            agent = 'User-Agent: a "b" \\c key=d'
            asked = [at.get(photo.ref, agent), at.get(photo.ref), at.get(photo.ref, agent, method="HEAD")]
            asked.append(at.get(photo.ref, f"If-None-Match: {photo.etag}"))
            ids = [(await connection.ask(octets)).headers["X-Request-Id"] for octets in asked * 3]
        assert (at.express > 0) == (express == "1")
        lines[express] = sorted(_without(line, ids) for line in logs.lines)
    assert lines["1"] == lines["0"]
    assert len(lines["1"]) == 12


_CLOCK = HeldClock()


def _without(line: str, ids: list[str]) -> str:
    """Return a line without what each answer has of its own; every answer's id stands in one."""
    found = re.search(r'request_id[=": ]+([0-9a-f]{32})', line)
    assert found is not None
    ids.remove(found[1])
    line = line.replace(found[1], "*")
    line = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", "*", line)
    line = re.sub(r"ttl=\d+", "ttl=*", line)
    return re.sub(r'(?<=seconds)(=|": )0\.\d{1,4}(?=[ ,])', r"\1*", line)


async def test_the_client_that_a_trusted_proxy_names_is_logged(sandbox: Sandbox, tmp_path: Path, photo: Media) -> None:
    environ = environment(sandbox, tmp_path / "cache", GATEWAY_TRUSTED_PROXIES="127.0.0.1,127.0.0.2")
    async with logged() as logs, station(environ) as at:
        async with at.connection("127.0.0.4") as connection:
            await warm(connection, at, at.get(photo.ref))
        before = at.express
        for source in ("127.0.0.1", "127.0.0.2", "127.0.0.3"):
            async with at.connection(source) as connection:
                for forwarded in ("203.0.113.7", "nonsense"):
                    for _ in range(3):
                        await connection.ask(at.get(photo.ref, f"X-Forwarded-For: {forwarded}"))
        # Each trusted proxy's heads are its own.
        assert at.express == before + 12
    clients = [entry["client"] for entry in logs.entries]
    named = {str(client): clients.count(client) for client in clients if client != "127.0.0.4"}
    assert named == {"203.0.113.7": 6, "127.0.0.1": 3, "127.0.0.2": 3, "127.0.0.3": 6}


@pytest.mark.parametrize("front", ["127.0.0.1", "127.0.0.1 ", " 127.0.0.1 "])
async def test_a_proxy_address_before_a_request_makes_no_peer_trusted(start: Start, photo: Media, front: str) -> None:
    at = await start(GATEWAY_TRUSTED_PROXIES="127.0.0.1")
    octets = at.get(photo.ref, "X-Forwarded-For: 203.0.113.7")
    async with at.connection("127.0.0.1") as connection:
        await warm(connection, at, octets)
        before = at.express
        await connection.ask(octets)
        assert at.express == before + 1
    async with at.connection("127.0.0.4") as connection:
        reply = await ordinary(connection, at, front.encode() + octets)
    # The front is a part of a method that is none (RFC 9110 §9.1), or of a line that is none.
    assert reply.status in {400, 405, 501}


async def test_express_answers_are_counted(start: Start, photo: Media, monkeypatch: pytest.MonkeyPatch) -> None:
    # What was counted is not written down meanwhile.
    monkeypatch.setattr("proxy.cache.disk.write_behind._SECONDS", 3_600.0)
    at = await start()
    async with at.connection() as connection:
        octets = at.get(photo.ref)
        await warm(connection, at, octets)
        counters = at.gateway.media.engine.tiers.counters
        counters.note_written(counters.unwritten())
        before = at.gateway.telemetry.totals()
        for _ in range(5):
            await connection.ask(octets)
        after = at.gateway.telemetry.totals()
    assert after[ANSWERS.first] - before[ANSWERS.first] == 5
    assert after[SENT.first] - before[SENT.first] == 5 * len(photo.read())
    assert counters.unwritten() == {Counter.RAM_HITS: 5}


async def test_an_unwritten_batch_is_written_at_the_end(sandbox: Sandbox, tmp_path: Path, photo: Media) -> None:
    environ = environment(sandbox, tmp_path / "cache")
    async with logged() as logs, station(environ) as at, at.connection() as connection:
        await warm(connection, at, at.get(photo.ref))
        for _ in range(100):
            await connection.ask(at.get(photo.ref))
        express, every = at.express, sum(at.gateway.telemetry.totals()[ANSWERS.first : ANSWERS.first + 2])
    assert express == 101
    assert len(logs.entries) == every


def _max_age(reply: Reply) -> int:
    return int(reply.headers["Cache-Control"].partition("max-age=")[2])
