from __future__ import annotations

import msgspec
import pytest

from proxy.sandbox import faults
from proxy.sandbox.fault_board import FaultBoard, Met
from proxy.sandbox.faults import Fault, Headers, Point, StallHeaders, Status, Truncate, WrongType, points

EVERY: tuple[Fault, ...] = (
    faults.Status(503, "3"),
    faults.Disconnect(),
    faults.Raw(b"\x00\xff"),
    faults.StallHeaders(),
    faults.StallBody(7),
    faults.Truncate(7),
    faults.Overrun(7),
    faults.Oversize(7, announced=False),
    faults.Unlengthed(chunked=True),
    faults.WrongType("text/html"),
    faults.Headers((("A", "b"),), ("C",)),
    faults.RedirectStatus(302),
    faults.RedirectHops(3, 308),
    faults.RedirectLoop(301),
    faults.RedirectTo("http://example.com/", 303),
)


@pytest.mark.parametrize("fault", EVERY, ids=lambda fault: type(fault).__name__)
def test_every_fault_reads_back_from_json_and_has_a_point(fault: Fault) -> None:
    assert msgspec.json.decode(msgspec.json.encode(fault), type=Fault) == fault
    assert points(fault)
    assert FaultBoard().add(fault).point is points(fault)[0]


@pytest.mark.parametrize(
    "text",
    [
        '{"kind": "status", "status": 200}',
        '{"kind": "truncate", "after": -1}',
        '{"kind": "overrun", "extra": 0}',
        '{"kind": "redirect-to", "location": "/", "status": 200}',
        '{"kind": "redirect-hops", "hops": 0}',
        '{"kind": "redirect-loop", "status": 300}',
        '{"kind": "redirect-status", "status": 304}',
        '{"kind": "nonsense"}',
        '{"kind": "disconnect", "more": 1}',
    ],
)
def test_what_is_no_fault_is_refused(text: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(text, type=Fault)


def test_the_oldest_rule_is_met_until_it_is_spent() -> None:
    board = FaultBoard()
    first = board.add(Status(404), times=2)
    second = board.add(Status(429), times=1)
    met = [board.take(Point.CONTENT, "ME1", 0).rule for _ in range(4)]
    assert met == [first, first, second, None]


def test_a_rule_keeps_to_its_point_media_and_time() -> None:
    board = FaultBoard()
    rule = board.add(Status(404), media_sid="ME1", until=100, point=Point.PROPERTIES)
    assert board.take(Point.CONTENT, "ME1", 99) == Met()
    assert board.take(Point.PROPERTIES, "ME2", 99) == Met()
    assert board.take(Point.PROPERTIES, None, 99) == Met()
    assert board.take(Point.PROPERTIES, "ME1", 99) == Met(rule)
    assert board.take(Point.PROPERTIES, "ME1", 100) == Met()


def test_header_changes_come_together_and_beside_another_fault() -> None:
    board = FaultBoard()
    wrong, headers, short = WrongType("text/html"), Headers(drop=("ETag",)), Truncate(3)
    board.add(wrong, times=1)
    board.add(headers)
    rule = board.add(short)
    assert board.take(Point.BYTES, "ME1", 0) == Met(rule, (wrong, headers))
    assert board.take(Point.BYTES, "ME1", 0) == Met(rule, (headers,))


def test_a_fault_that_cannot_act_there_is_refused() -> None:
    with pytest.raises(ValueError, match="bytes"):
        FaultBoard().add(Truncate(1), point=Point.LIST)
    with pytest.raises(ValueError, match="times"):
        FaultBoard().add(Status(404), times=0)


def test_the_board_has_a_bound() -> None:
    board = FaultBoard()
    for _ in range(1_000):
        board.add(Status(404))
    with pytest.raises(ValueError, match="1000"):
        board.add(Status(404))


async def test_clearing_releases_what_is_stalled() -> None:
    board = FaultBoard()
    rule = board.add(StallHeaders())
    board.take(Point.CONTENT, None, 0)
    await rule.reached()
    board.clear()
    await rule.stall(60)
    assert list(board) == []


async def test_a_stall_ends_at_its_limit() -> None:
    await FaultBoard().add(StallHeaders()).stall(0.001)
