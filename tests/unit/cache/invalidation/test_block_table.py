"""Blocks in RAM: bounded, and whatever the changes are, what each worker knows is what was decided."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.cache.disk.index import Index
from proxy.cache.invalidation.block_table import BlockTable
from proxy.cache.invalidation.policy import KINDS, Block, Blocks, Lift
from proxy.erasure import BlockKind

NOW = 1_800_000_000.0
REVOKED, GONE = BlockKind.REVOKED, BlockKind.GONE
KEYS = ("a/b/c", "a/b/d", "a/x/c", "z/b/c")
PREFIXES = ("", "a/", "a/b/", "a/b/c", "a/b/d", "a/x/c", "z/")


def gone(*prefixes: str, seconds: float = 60.0) -> tuple[Block, ...]:
    return tuple(Block(GONE, prefix, NOW + seconds) for prefix in prefixes)


def test_any_number_of_blocks_is_taken_over_until_their_ends() -> None:
    table = BlockTable()
    table.take_over(Blocks(gone("long", seconds=9_999), whole=False), NOW)
    for place in range(5_000):
        table.take_over(Blocks((Block(GONE, f"{place}", NOW + place + 1),), whole=False), NOW + place)
    assert table.kinds("long", NOW + 5_000) is GONE
    assert len(table.blocks()) <= 1_001
    many = tuple(Block(REVOKED, f"r{place}", NOW + 9_999) for place in range(5_000))
    table.take_over(Blocks(many, whole=False), NOW + 5_000)
    assert all(table.kinds(block.prefix, NOW + 5_000) is REVOKED for block in many)


def test_all_there_is_takes_the_place_of_what_was_known() -> None:
    table = BlockTable()
    table.take_over(Blocks(gone("a/b/c"), whole=False), NOW)
    table.take_over(Blocks(gone("a/b/d"), whole=True), NOW)
    assert [table.kinds(key, NOW) for key in KEYS] == [BlockKind.NONE, GONE, BlockKind.NONE, BlockKind.NONE]


@dataclass(frozen=True)
class Step:
    """`seconds` to hold, None to lift; then so much time goes by, and perhaps what has ended is forgotten."""

    worker: int
    kind: BlockKind
    prefix: str
    seconds: float | None
    wait: float
    forget: bool
    watched: bool


changes = st.builds(
    Step,
    worker=st.integers(0, 1),
    kind=st.sampled_from(KINDS),
    prefix=st.sampled_from(PREFIXES),
    seconds=st.sampled_from([None, 1.0, 5.0, 60.0]),
    wait=st.sampled_from([0.0, 1.0, 7.0]),
    forget=st.booleans(),
    watched=st.booleans(),
)


@settings(max_examples=60)
@given(st.lists(changes, max_size=14))
def test_a_worker_that_follows_knows_what_was_decided(steps: Sequence[Step]) -> None:
    now = NOW
    decided: dict[tuple[BlockKind, str], float] = {}
    alone, follower, seen = BlockTable(), BlockTable(), -1
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(Index(Path(folder))) as one,
        closing(Index(Path(folder))) as two,
    ):
        for step in steps:
            index = (one, two)[step.worker]
            place = (step.kind, step.prefix)
            if step.seconds is None:
                index.apply(Lift(step.kind, step.prefix), now)
                alone.apply(Lift(step.kind, step.prefix), now)
                for kind, prefix in list(decided):
                    if kind is step.kind and prefix.startswith(step.prefix):
                        del decided[kind, prefix]
            else:
                block = Block(step.kind, step.prefix, now + step.seconds)
                index.apply(block, now)
                alone.apply(block, now)
                decided[place] = max(decided.get(place, 0.0), block.until)
            now += step.wait
            if step.forget:
                index.forget_blocks(now)
            if step.watched:
                number = two.epoch()
                follower.take_over(two.blocks(seen), now)
                seen = number
                for key in KEYS:
                    expected = BlockKind.NONE
                    for (kind, prefix), until in decided.items():
                        if key.startswith(prefix) and until > now:
                            expected |= kind
                    assert follower.kinds(key, now) == alone.kinds(key, now) == expected
