"""Starting, stopping, and the knobs for other processes."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import ClientConnectionError, ClientPayloadError, ClientResponse, ClientSession

from proxy.errors import IdentifierError, SettingsError
from proxy.model import Provider
from proxy.sandbox import Media, Mode, Oversize, Sandbox, SandboxOptions, StallBody, StallHeaders, Status

Ask = Callable[..., Awaitable[ClientResponse]]


async def test_after_the_scope_nothing_listens_and_no_task_is_left(ask: Ask) -> None:
    before = asyncio.all_tasks()
    async with Sandbox() as sandbox:
        assert (await ask("GET", sandbox.api_url, {"Connection": "close"})).status == 401
        assert (await ask("GET", sandbox.cdn_url, {"Connection": "close"})).status == 403
    assert asyncio.all_tasks() <= before
    for url in (sandbox.api_url, sandbox.cdn_url):
        with pytest.raises(ClientConnectionError):
            await ask("GET", url)


async def test_stopping_lets_stalled_answers_go_on(options: SandboxOptions, session: ClientSession) -> None:
    async with Sandbox(dataclasses.replace(options, mode=Mode.DIRECT)) as sandbox:
        photo = sandbox.messages[0].media[0]
        whole = photo.read()
        headers = {"Authorization": sandbox.authorization}
        rules = [sandbox.fault(StallHeaders(), times=1), sandbox.fault(StallBody(5), times=1)]

        async def fetch() -> bytes:
            async with session.get(sandbox.media_url(photo), headers=headers) as response:
                return await response.read()

        fetching = [asyncio.ensure_future(fetch()) for _ in rules]
        for rule in rules:
            await rule.reached()
    assert await asyncio.gather(*fetching) == [whole] * 2


async def test_stopping_does_not_wait_for_a_stalled_reader(options: SandboxOptions, session: ClientSession) -> None:
    async with Sandbox(dataclasses.replace(options, mode=Mode.DIRECT)) as sandbox:
        photo = sandbox.messages[0].media[0]
        sandbox.fault(Oversize(10**11))
        response = await session.get(sandbox.media_url(photo), headers={"Authorization": sandbox.authorization})
    with pytest.raises(ClientPayloadError):
        async for _ in response.content.iter_any():
            pass
    response.close()


async def test_a_port_that_is_taken_leaves_nothing_behind(sandbox: Sandbox) -> None:
    host, _, port = sandbox.cdn_host.partition(":")
    before = asyncio.all_tasks()
    with pytest.raises(OSError, match="in use"):
        async with Sandbox(SandboxOptions(api_listen=(host, int(port)))):
            pass
    assert asyncio.all_tasks() <= before


async def test_ipv6_is_written_with_brackets(ask: Ask) -> None:
    async with Sandbox(SandboxOptions(api_listen=("::1", 0))) as sandbox:
        assert sandbox.api_url.startswith("http://[::1]:")
        assert (await ask("GET", sandbox.api_url)).status == 401


def test_the_account_follows_the_profile() -> None:
    with pytest.raises(SettingsError, match="account_sid"):
        Sandbox(SandboxOptions(profile=Provider.SIGNALWIRE, account_sid=f"AC{'0' * 32}"))
    with pytest.raises(IdentifierError):
        Sandbox(SandboxOptions(account_sid="me"))


async def test_without_seeds_there_is_nothing_until_something_is_added(options: SandboxOptions) -> None:
    async with Sandbox(dataclasses.replace(options, seed=False)) as sandbox:
        before = sandbox.messages
        message = await sandbox.add_message([("image/png", b"abc")], body="hello")
        (media,) = message.media
        assert (before, sandbox.messages) == ((), (message,))
        assert (media.content_type, media.length, media.read(), media.date_created) == (
            "image/png", 3, b"abc", 1_800_000_000,
        )  # fmt: skip
        assert media.sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


async def test_the_record_of_requests_has_a_bound(options: SandboxOptions, ask: Ask) -> None:
    async with Sandbox(dataclasses.replace(options, record_limit=3)) as sandbox:
        for number in range(5):
            await ask("GET", f"{sandbox.api_url}/{number}")
        assert [record.path for record in sandbox.requests] == ["/2", "/3", "/4"]


async def test_a_record_cleared_during_its_request_stays_gone(sandbox: Sandbox, api: Ask, photo: Media) -> None:
    rule = sandbox.fault(StallHeaders())
    asking = asyncio.ensure_future(api(sandbox.media_url(photo)))
    await rule.reached()
    sandbox.clear_requests()
    rule.release()
    assert (await asking).status == 307
    assert sandbox.requests == ()


class TestControl:
    @pytest.fixture
    def control(self, sandbox: Sandbox, session: ClientSession) -> Ask:
        async def control(method: str, path: str, json: object = None) -> ClientResponse:
            response = await session.request(method, f"{sandbox.api_url}/_sandbox{path}", json=json)
            await response.read()
            return response

        return control

    async def test_a_fault_laid_on_and_taken_off(
        self, sandbox: Sandbox, control: Ask, fetch: Ask, photo: Media
    ) -> None:
        order = {"fault": {"kind": "status", "status": 429, "retry_after": "2"}, "media_sid": photo.sid, "times": 1}
        laid = await control("POST", "/faults", order)
        assert laid.status == 201
        assert (await laid.json())["point"] == "content"
        (shown,) = await (await control("GET", "/faults")).json()
        assert (shown["fault"], shown["remaining"]) == (order["fault"], 1)
        assert (await fetch(photo)).status == 429
        assert (await fetch(photo)).status == 200
        assert (await control("DELETE", "/faults")).status == 204
        assert await (await control("GET", "/faults")).json() == []

    async def test_a_fault_for_some_seconds_at_a_point(
        self, control: Ask, fetch: Ask, photo: Media, set_clock: Callable[[float], None]
    ) -> None:
        raw = base64.b64encode(b"HTTP/1.1 204 No Content\r\n\r\n").decode()
        await control("POST", "/faults", {"fault": {"kind": "raw", "octets": raw}, "point": "bytes", "seconds": 1.5})
        assert (await fetch(photo)).status == 204
        set_clock(1_800_000_001.5)
        assert (await fetch(photo)).status == 200

    async def test_a_stall_is_released(self, sandbox: Sandbox, control: Ask, api: Ask, photo: Media) -> None:
        number = (await (await control("POST", "/faults", {"fault": {"kind": "stall-headers"}})).json())["number"]
        asking = asyncio.ensure_future(api(sandbox.media_url(photo)))
        assert (await control("PUT", f"/faults/{number}/release")).status == 204
        assert (await asking).status == 307
        assert (await control("PUT", "/faults/999/release")).status == 404

    @pytest.mark.parametrize(
        "order",
        [
            {},
            {"fault": {"kind": "nothing"}},
            {"fault": {"kind": "status", "status": 99}},
            {"fault": {"kind": "truncate", "after": 1}, "point": "list"},
            {"fault": {"kind": "disconnect"}, "times": 0},
            {"fault": {"kind": "disconnect"}, "time": 1},
        ],
    )
    async def test_a_bad_order_is_400_and_changes_nothing(self, control: Ask, order: object) -> None:
        answer = await control("POST", "/faults", order)
        assert answer.status == 400
        assert (await answer.json())["error"]
        assert await (await control("GET", "/faults")).json() == []

    async def test_a_form_of_another_origin_changes_nothing(self, sandbox: Sandbox, session: ClientSession) -> None:
        order = '{"fault": {"kind": "disconnect"}}'
        async with session.post(f"{sandbox.api_url}/_sandbox/faults", data=order) as response:
            assert response.status == 400
        async with session.put(f"{sandbox.api_url}/_sandbox/mode", data='{"mode": "direct"}') as response:
            assert response.status == 400
        assert sandbox.mode is Mode.REDIRECT_SIGNED

    async def test_the_mode_is_read_and_changed(self, sandbox: Sandbox, control: Ask) -> None:
        assert await (await control("GET", "/mode")).json() == {"mode": "redirect-signed"}
        assert (await control("PUT", "/mode", {"mode": "direct"})).status == 200
        assert sandbox.mode is Mode.DIRECT
        assert (await control("PUT", "/mode", {"mode": "other"})).status == 400

    async def test_requests_are_shown_and_cleared_without_those_of_control(
        self, sandbox: Sandbox, control: Ask, api: Ask
    ) -> None:
        await api("/Messages.json?PageSize=2")
        (record,) = await (await control("GET", "/requests")).json()
        assert (record["origin"], record["method"], record["query"], record["status"]) == (
            "api", "GET", "PageSize=2", 200,
        )  # fmt: skip
        assert ["Authorization", sandbox.authorization] in record["headers"]
        assert (await control("DELETE", "/requests")).status == 204
        assert await (await control("GET", "/requests")).json() == []

    async def test_messages_are_shown_with_the_addresses_of_their_media(
        self, sandbox: Sandbox, control: Ask, api: Ask
    ) -> None:
        shown = await (await control("GET", "/messages")).json()
        assert [message["sid"] for message in shown] == [message.sid for message in sandbox.messages]
        first = shown[0]["media"][0]
        assert first["url"] == sandbox.media_url(sandbox.messages[0].media[0])
        assert (await api(first["url"])).status == 307

    async def test_faults_do_not_touch_the_knobs(self, sandbox: Sandbox, control: Ask) -> None:
        for point in ("content", "messages", "list"):
            await control("POST", "/faults", {"fault": {"kind": "status", "status": 500}, "point": point})
        sandbox.fault(Status(500))
        assert (await control("GET", "/messages")).status == 200
