"""The Media resource through `twilio` and `@signalwire/compatibility-api`, the providers' own libraries for Node.

Every case is asked of the provider's stand-in itself and of a gateway over it: the libraries see no difference.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

import pytest

from proxy.sandbox import Media, Point, Status
from tests.clients.drivers import Drivers
from tests.clients.node_programs import (
    MOMENT,
    Outcome,
    Side,
    Target,
    call_library,
    require_node_modules,
    serving,
    tls_in_front,
)
from tests.clients.systems import (
    API_KEY,
    SECRET,
    Place,
    System,
    unknown_account,
    unknown_media,
    unknown_message,
    upstream_of,
)
from tests.functional.harness import CLIENT, bare, converse

pytestmark = pytest.mark.system("node")

Call = Mapping[str, object]
Ask = Callable[..., Awaitable[list[Outcome]]]

DAY: Final = MOMENT.date().isoformat()
NEXT_DAY: Final = "2026-03-05"
DAY_BEFORE: Final = "2026-03-03"
AT: Final = "2026-03-04T12:30:15Z"
# The moment itself passes both inequalities; a day begins at 00:00 UTC.
FILTERS: Final[list[tuple[dict[str, str], bool]]] = [
    ({"dateCreated": DAY}, True),
    ({"dateCreated": AT}, True),
    ({"dateCreated": NEXT_DAY}, False),
    ({"dateCreated": DAY_BEFORE}, False),
    ({"dateCreatedAfter": DAY}, True),
    ({"dateCreatedAfter": AT}, True),
    ({"dateCreatedAfter": "2026-03-04T12:30:16Z"}, False),
    ({"dateCreatedAfter": NEXT_DAY}, False),
    ({"dateCreatedBefore": NEXT_DAY}, True),
    ({"dateCreatedBefore": AT}, True),
    ({"dateCreatedBefore": "2026-03-04T12:30:14Z"}, False),
    ({"dateCreatedBefore": DAY}, False),
    ({"dateCreatedAfter": DAY, "dateCreatedBefore": NEXT_DAY}, True),
    ({"dateCreatedAfter": NEXT_DAY, "dateCreatedBefore": NEXT_DAY}, False),
]


@pytest.fixture(params=list(Side), ids=str)
async def target(request: pytest.FixtureRequest, system: System, tmp_path: Path) -> AsyncIterator[Target]:
    async with serving(request.param, system, tmp_path) as started:
        yield started


def order(place: Place, **changes: object) -> dict[str, object]:
    """Return a client for that place, as its provider's documents make one: the user name is the account."""
    library = "twilio" if place.account.startswith("AC") else "signalwire"
    return {
        "library": library,
        "base": place.base,
        "username": place.username,
        "password": place.password,
        # A user name that is not an account needs the account beside it.
        "account": None if place.username == place.account else place.account,
        **changes,
    }


@pytest.fixture
def ask(program_path: Callable[[str], str], drivers: Drivers) -> Ask:
    """Make calls with the library of a place."""
    require_node_modules()

    async def ask(place: Place, *calls: Call, environ: Mapping[str, str] | None = None, **changes: object) -> object:
        return await call_library(program_path("node"), order(place, **changes), calls, environ or {}, drivers)

    return ask  # type: ignore[return-value]


def properties(media: Media, target: Target) -> dict[str, str]:
    """Return a media as the library shows it."""
    moment = MOMENT.strftime("%Y-%m-%dT%H:%M:%S.000Z")
    return {
        "accountSid": target.place.account,
        "contentType": media.content_type,
        "dateCreated": moment,
        "dateUpdated": moment,
        "parentSid": target.message.sid,
        "sid": media.sid,
        "uri": target.place.path(target.message, media, ".json"),
    }


def refused(outcome: Outcome) -> tuple[object, object]:
    """Return status and code of the library's own error."""
    assert outcome.error is not None, outcome.value
    assert outcome.error["moreInfo"] == f"https://www.twilio.com/docs/errors/{outcome.error['code']}"
    return outcome.error["status"], outcome.error["code"]


async def test_a_media_is_fetched(target: Target, ask: Ask) -> None:
    (outcome,) = await ask(target.place, {"call": "fetch", "message": target.message.sid, "sid": target.first.sid})
    assert outcome.value == properties(target.first, target)


async def test_media_are_fetched_at_once_and_one_after_another(target: Target, ask: Ask) -> None:
    message = target.message.sid
    many, *single = await ask(
        target.place,
        {"call": "fetchMany", "message": message, "sids": target.sids},
        *({"call": "fetch", "message": message, "sid": sid} for sid in target.sids),
    )
    expected = [properties(media, target) for media in target.message.media]
    assert many.value == expected
    assert [outcome.value for outcome in single] == expected


async def test_lists_are_read_over_several_pages(target: Target, ask: Ask) -> None:
    message, sids = target.message.sid, target.sids
    outcomes = await ask(
        target.place,
        {"call": "list", "message": message},
        {"call": "list", "message": message, "options": {"pageSize": 2}},
        {"call": "list", "message": message, "options": {"pageSize": 2, "limit": 3}},
        {"call": "list", "message": message, "options": {"limit": 20}},
        {"call": "each", "message": message, "options": {"pageSize": 2}},
        {"call": "pageAt", "message": message, "options": {"pageSize": 2}},
        {"call": "pages", "message": message, "options": {"pageSize": 2}},
    )
    pages = [sids[:2], sids[2:4], sids[4:], sids[2:4], sids[:2]]
    assert [outcome.value for outcome in outcomes] == [sids, sids, sids[:3], sids, sids, sids[2:4], pages]


async def test_lists_are_filtered_by_date_on_every_page(target: Target, ask: Ask) -> None:
    calls = [
        {"call": "list", "message": target.message.sid, "options": {**chosen, "pageSize": 2}} for chosen, _ in FILTERS
    ]
    outcomes = await ask(target.place, *calls)
    assert [outcome.value for outcome in outcomes] == [target.sids if passes else [] for _, passes in FILTERS]


async def test_a_bad_date_is_refused(target: Target, ask: Ask) -> None:
    (outcome,) = await ask(
        target.place, {"call": "list", "message": target.message.sid, "options": {"dateCreated": "yesterday"}}
    )
    assert refused(outcome) == (400, 20001)


async def test_a_removed_media_is_gone(target: Target, ask: Ask) -> None:
    one = {"message": target.message.sid, "sid": target.first.sid}
    outcomes = await ask(
        target.place,
        {"call": "fetch", **one},
        {"call": "remove", **one},
        {"call": "fetch", **one},
        {"call": "remove", **one},
        {"call": "list", **one},
    )
    assert outcomes[0].value == properties(target.first, target)
    assert outcomes[1].value is True
    assert [refused(outcome) for outcome in outcomes[2:4]] == [(404, 20404)] * 2
    assert outcomes[4].value == target.sids[1:]
    assert [media.sid for media in target.sandbox.messages[0].media] == target.sids[1:]


async def test_identifiers_that_are_not_known_are_404(target: Target, ask: Ask) -> None:
    message, media = target.message.sid, target.first
    outcomes = await ask(
        target.place,
        {"call": "fetch", "message": message, "sid": unknown_media(media)},
        {"call": "remove", "message": message, "sid": unknown_media(media)},
        {"call": "fetch", "message": unknown_message(media), "sid": media.sid},
        {"call": "list", "message": unknown_message(media)},
        {"call": "fetch", "message": message, "sid": "nonsense"},
    )
    (elsewhere,) = await ask(
        target.place, {"call": "fetch", "message": message, "sid": media.sid}, account=unknown_account(media.ref)
    )
    assert [refused(outcome) for outcome in (*outcomes, elsewhere)] == [(404, 20404)] * 6
    for outcome in outcomes:
        assert outcome.error is not None
        assert str(outcome.error["message"]).endswith("was not found")


@pytest.mark.parametrize(("username", "password"), [("same", "wrong"), ("other", "same"), ("other", "wrong")])
async def test_wrong_credentials_are_401(target: Target, ask: Ask, username: str, password: str) -> None:
    place = target.place.known_as(
        target.place.username if username == "same" else unknown_account(target.first.ref),
        target.place.password if password == "same" else "w" * 40,
    )
    one = {"message": target.message.sid, "sid": target.first.sid}
    # The account that is asked about stays the same.
    outcomes = await ask(
        place, {"call": "fetch", **one}, {"call": "list", **one}, {"call": "remove", **one}, account=place.account
    )
    assert [refused(outcome) for outcome in outcomes] == [(401, 20003)] * 3
    assert [outcome.error and outcome.error["message"] for outcome in outcomes] == ["Authenticate"] * 3
    assert len(target.sandbox.messages[0].media) == 5


async def test_too_many_requests_are_429(target: Target, ask: Ask) -> None:
    for point in (Point.PROPERTIES, Point.LIST, Point.DELETE):
        target.sandbox.fault(Status(429, retry_after="0"), point=point)
    one = {"message": target.message.sid, "sid": target.first.sid}
    outcomes = await ask(target.place, {"call": "fetch", **one}, {"call": "list", **one}, {"call": "remove", **one})
    assert [refused(outcome) for outcome in outcomes] == [(429, 20429)] * 3


async def test_a_library_that_tries_again_gets_through(tmp_path: Path, ask: Ask) -> None:
    async with serving(Side.GATEWAY, System.SIGNED, tmp_path, GATEWAY_LIMIT_RETRY_SECONDS="0") as target:
        target.sandbox.fault(Status(429, retry_after="1"), point=Point.PROPERTIES, times=2)
        (outcome,) = await ask(
            target.place,
            {"call": "fetch", "message": target.message.sid, "sid": target.first.sid},
            options={"autoRetry": True},
        )
    assert outcome.value == properties(target.first, target)


async def test_all_that_a_library_is_told_is_told_alike(system: System, tmp_path: Path, ask: Ask) -> None:
    async with serving(Side.GATEWAY, system, tmp_path) as target:
        message, media = target.message.sid, target.first
        calls: list[Call] = [
            {"call": "fetch", "message": message, "sid": media.sid},
            {"call": "fetch", "message": message, "sid": unknown_media(media)},
            {"call": "list", "message": unknown_message(media)},
            {"call": "list", "message": message, "options": {"dateCreatedAfter": "2026-13-01"}},
            {"call": "list", "message": message, "options": {"pageSize": 0}},
            {"call": "list", "message": message, "options": {"pageNumber": 1}},
            {"call": "pages", "message": message, "options": {"pageSize": 2, "dateCreatedAfter": DAY}},
            {"call": "remove", "message": message, "sid": unknown_media(media)},
        ]
        assert await ask(target.place, *calls) == await ask(upstream_of(target.sandbox), *calls)


# --- credentials ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", list(Side), ids=str)
async def test_an_api_key_opens_the_account_named_beside_it(side: Side, tmp_path: Path, ask: Ask) -> None:
    async with serving(side, System.SIGNED, tmp_path) as target:
        key = (API_KEY, SECRET) if side is Side.GATEWAY else target.sandbox.api_key
        (outcome,) = await ask(
            target.place.known_as(*key), {"call": "fetch", "message": target.message.sid, "sid": target.first.sid}
        )
        assert outcome.value == properties(target.first, target)


@pytest.mark.parametrize("name", [CLIENT[0], API_KEY])
async def test_any_client_s_id_stands_in_for_the_account_s(name: str, system: System, tmp_path: Path, ask: Ask) -> None:
    async with serving(Side.GATEWAY, system, tmp_path) as target:
        fetched, listed = await ask(
            target.place.known_as(name, SECRET),
            {"call": "fetch", "message": target.message.sid, "sid": target.first.sid},
            {"call": "list", "message": target.message.sid, "options": {"pageSize": 2}},
        )
    assert fetched.value == properties(target.first, target)
    assert listed.value == target.sids


# --- SignalWire's own habits ----------------------------------------------------------------------------------


@pytest.mark.system("openssl")
@pytest.mark.parametrize("side", list(Side), ids=str)
async def test_signalwire_s_library_finds_its_space_by_https(
    side: Side, tmp_path: Path, ask: Ask, program_path: Callable[[str], str]
) -> None:
    async with (
        serving(side, System.SIGNALWIRE, tmp_path) as target,
        tls_in_front(target.place.base, tmp_path, program_path("openssl")) as (space, certificate),
    ):
        fetched, paged = await ask(
            target.place,
            {"call": "fetch", "message": target.message.sid, "sid": target.first.sid},
            {"call": "pages", "message": target.message.sid, "options": {"pageSize": 2}},
            base=None,
            space=space,
            environ={"NODE_EXTRA_CA_CERTS": str(certificate)},
        )
    sids = target.sids
    assert fetched.value == properties(target.first, target)
    assert paged.value == [sids[:2], sids[2:4], sids[4:], sids[2:4], sids[:2]]


async def test_rfc_9112_9_6_a_connection_closes_when_told(system: System, tmp_path: Path) -> None:
    # SignalWire's library asks for the close, and would use the connection again.
    async with serving(Side.GATEWAY, system, tmp_path) as target:
        assert target.gateway is not None
        for media in (target.first, None):
            path = target.place.path(target.message, media, ".json")
            head = f"GET {path} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n"
            answer = bare(await converse(target.gateway, head.encode()))
            assert (answer.status, answer.headers["Connection"]) == (401, "close")
