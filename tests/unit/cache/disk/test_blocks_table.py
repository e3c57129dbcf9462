"""The blocks of a folder: what each worker reads of them, their bounds, and that they outlive their index."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from proxy.cache.disk.blocks_table import SELECT_LAST, SELECT_NEW, restore
from proxy.cache.disk.corruption import LONGEST_VALUE
from proxy.cache.disk.index import Index
from proxy.cache.disk.index_file import SCHEMA_VERSION
from proxy.cache.invalidation.policy import KINDS, Block, Blocks, Erase, Lift
from proxy.erasure import BlockKind
from proxy.errors import RevocationsFull, StoreError

NOW = 1_800_000_000.0
PAGE = 4_096
REVOKED, GONE = BlockKind.REVOKED, BlockKind.GONE
_KILLED = """
import os, signal, sys
from pathlib import Path
from proxy.cache.disk.index import Index
from proxy.cache.invalidation.policy import Block
from proxy.erasure import BlockKind

index = Index(Path(sys.argv[1]))
index.apply(Block(BlockKind.GONE, "a/b/c", 1_800_000_120.0), 1_800_000_000.0)
os.kill(os.getpid(), signal.SIGKILL)
"""

both_kinds = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    opened = Index(tmp_path)
    opened.open()
    yield opened
    opened.close()


def database(folder: Path) -> Path:
    (path,) = folder.glob("index-*.sqlite3")
    return path


def held(index: Index, kind: BlockKind, now: float = NOW) -> dict[str, float]:
    found = index.blocks(-1).found
    return {block.prefix: block.until for block in found if block.kind is kind and block.until > now}


# --- what is read -----------------------------------------------------------------------------------------------


@both_kinds
def test_a_worker_reads_the_blocks_that_are_new_to_it(index: Index, kind: BlockKind) -> None:
    before = index.epoch()
    block = Block(kind, "a/b/", NOW + 60)
    number = index.apply(block, NOW)
    assert number > before
    assert index.blocks(before) == Blocks((block,), whole=False)
    assert index.blocks(number) == Blocks((), whole=False)


@both_kinds
def test_a_block_and_its_lift_erase_what_they_cover(index: Index, kind: BlockKind) -> None:
    before = index.epoch()
    given = index.apply(Block(kind, "a/b/", NOW + 60), NOW)
    assert index.erased("a/b/c", before)
    assert not index.erased("a/x/c", before)
    lifted = index.apply(Lift(kind, "a/b/"), NOW)
    assert lifted > given
    assert index.erased("a/b/c", given)


@both_kinds
def test_a_block_is_prolonged_and_never_shortened(index: Index, kind: BlockKind) -> None:
    index.apply(Block(kind, "a/b/c", NOW + 60), NOW)
    since = index.apply(Block(kind, "a/b/c", NOW + 90), NOW)
    assert held(index, kind) == {"a/b/c": NOW + 90}
    index.apply(Block(kind, "a/b/c", NOW + 10), NOW)
    assert index.blocks(since).found == (Block(kind, "a/b/c", NOW + 90),)


def test_a_deletion_that_holds_is_prolonged_and_erases_nothing(index: Index) -> None:
    given = index.apply(Block(BlockKind.GONE, "a/b/c", NOW + 60), NOW)
    prolonged = index.apply(Block(BlockKind.GONE, "a/b/c", NOW + 90), NOW + 59)
    assert prolonged > given
    assert held(index, BlockKind.GONE) == {"a/b/c": NOW + 90}
    assert not index.erased("a/b/c", given)


def test_a_deletion_that_has_ended_or_was_lifted_erases_again(index: Index) -> None:
    block = Block(BlockKind.GONE, "a/b/c", NOW + 60)
    given = index.apply(block, NOW)
    again = index.apply(Block(BlockKind.GONE, "a/b/c", NOW + 160), NOW + 60)
    assert index.erased("a/b/c", given)
    lifted = index.apply(Lift(BlockKind.GONE, "a/b/"), NOW + 61)
    assert index.erased("a/b/c", again)
    index.apply(block, NOW + 62)
    assert index.erased("a/b/c", lifted)


def test_a_revocation_that_holds_erases_again(index: Index) -> None:
    given = index.apply(Block(BlockKind.REVOKED, "a/b/c", NOW + 60), NOW)
    index.apply(Block(BlockKind.REVOKED, "a/b/c", NOW + 90), NOW)
    assert index.erased("a/b/c", given)


def test_a_block_that_erases_nothing_has_a_number_too(index: Index) -> None:
    block = Block(BlockKind.GONE, "a/b/c", NOW + 60)
    index.apply(block, NOW)
    prolonged = index.apply(block, NOW + 30)
    assert index.epoch() == prolonged
    assert index.apply(Erase("a/b/d"), NOW) > prolonged
    prolonged = index.apply(block, NOW + 59)
    index.forget_blocks(NOW + 60)
    assert index.epoch() == prolonged
    assert index.apply(Erase("a/b/d"), NOW) > prolonged


def test_a_lift_ends_only_covered_blocks_of_its_kind(index: Index) -> None:
    for prefix in ("a/b/", "a/b/c", "a/b/d", "a/x/", "a/"):
        index.apply(Block(REVOKED, prefix, NOW + 60), NOW)
    index.apply(Block(GONE, "a/b/c", NOW + 60), NOW)
    index.apply(Lift(REVOKED, "a/b/"), NOW)
    assert set(held(index, REVOKED)) == {"a/x/", "a/"}
    assert set(held(index, GONE)) == {"a/b/c"}


def test_a_lifted_block_stays_lifted_if_the_clock_goes_back(index: Index) -> None:
    index.apply(Block(REVOKED, "a/b/c", NOW + 60), NOW)
    index.apply(Lift(REVOKED, "a/b/c"), NOW)
    assert held(index, REVOKED, now=NOW - 10_000) == {}


def test_a_block_given_again_after_its_lift_holds(index: Index) -> None:
    index.apply(Block(REVOKED, "a/b/c", NOW + 60), NOW)
    since = index.apply(Lift(REVOKED, "a/b/c"), NOW)
    index.apply(Block(REVOKED, "a/b/c", NOW + 30), NOW)
    assert index.blocks(since).found == (Block(REVOKED, "a/b/c", NOW + 30),)


def test_who_missed_a_lifting_that_is_forgotten_reads_everything(index: Index) -> None:
    early = index.apply(Block(REVOKED, "a/b/c", NOW + 60), NOW)
    index.apply(Block(GONE, "a/b/d", NOW + 60), NOW)
    index.apply(Lift(REVOKED, "a/b/c"), NOW)
    late = index.apply(Block(REVOKED, "a/b/e", NOW + 60), NOW)
    index.forget_blocks(NOW)
    everything = (Block(REVOKED, "a/b/e", NOW + 60), Block(GONE, "a/b/d", NOW + 60))
    assert index.blocks(early) == Blocks(everything, whole=True)
    assert index.blocks(late) == Blocks((), whole=False)


def test_what_has_ended_is_forgotten_and_what_holds_is_not(index: Index) -> None:
    index.apply(Block(REVOKED, "a/b/c", NOW + 60), NOW)
    index.apply(Block(REVOKED, "a/b/d", NOW + 61), NOW)
    index.forget_blocks(NOW + 60)
    assert held(index, REVOKED, now=0.0) == {"a/b/d": NOW + 61}


def test_no_statement_reads_more_blocks_than_it_gives(index: Index, tmp_path: Path) -> None:
    with closing(sqlite3.connect(database(tmp_path))) as db:
        steps = [str(step[3]) for step in db.execute(f"EXPLAIN QUERY PLAN {SELECT_NEW}", (1, 0))]
        last = [str(step[3]) for step in db.execute(f"EXPLAIN QUERY PLAN {SELECT_LAST}", (1,))]
    assert steps == ["SEARCH verdict USING INDEX verdict_number (kind=? AND number>?)"]
    assert last == ["SEARCH verdict USING COVERING INDEX verdict_number (kind=?)"]


# --- bounds -----------------------------------------------------------------------------------------------------


@both_kinds
def test_one_block_too_many_is_refused_and_leaves_nothing(index: Index, kind: BlockKind) -> None:
    for prefix, other in (("a", REVOKED), ("b", GONE), ("c", kind)):
        index.apply(Block(other, prefix, NOW + 60), NOW, most=3)
    before = index.epoch()
    with pytest.raises(RevocationsFull) as refused:
        index.apply(Block(kind, "d", NOW + 60), NOW, most=3)
    assert "3 revocations" in refused.value.note
    assert "d" not in held(index, kind)
    assert index.epoch() == before


def test_ended_rows_go_once_the_bound_is_reached(index: Index, tmp_path: Path) -> None:
    for place in range(20):
        index.apply(Block(REVOKED, f"a/{place}", NOW + place + 1), NOW + place, most=3)
    with closing(sqlite3.connect(database(tmp_path))) as db:
        (rows,) = db.execute("SELECT count(*) FROM verdict").fetchone()
    assert rows <= 3


# --- the loss of a process or an index --------------------------------------------------------------------------


def test_a_block_of_a_killed_process_holds_until_its_end(tmp_path: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", _KILLED, str(tmp_path)], capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    with closing(Index(tmp_path)) as index:
        assert held(index, GONE, now=NOW + 119) == {"a/b/c": NOW + 120}
        assert held(index, GONE, now=NOW + 120) == {}


def harm_totals(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("DELETE FROM total")


def harm_version(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")


@pytest.mark.parametrize("harm", [harm_totals, harm_version])
def test_a_new_index_takes_over_the_blocks_of_the_old(tmp_path: Path, harm: object) -> None:
    assert callable(harm)
    blocks = (Block(REVOKED, "a/b/", NOW + 60), Block(GONE, "a/b/c", NOW + 60))
    with closing(Index(tmp_path)) as first:
        for block in blocks:
            first.apply(block, NOW)
    old = database(tmp_path)
    harm(old)
    with closing(Index(tmp_path)) as second:
        second.open()
        assert database(tmp_path) != old
        assert second.blocks(-1) == Blocks(blocks, whole=True)
        # They go on as any others do.
        second.apply(Lift(REVOKED, "a/b/"), NOW)
        assert held(second, REVOKED) == {}


def test_what_is_no_block_is_not_taken_over(tmp_path: Path) -> None:
    with closing(Index(tmp_path)) as first:
        first.apply(Block(REVOKED, "a/b/", NOW + 60), NOW)
    with closing(sqlite3.connect(database(tmp_path))) as db, db:
        db.execute("INSERT INTO verdict VALUES (1, x'ff', 5.0, 1), (1, 'c', 'late', 1), (2, 'd', 5.0, 'first')")
    harm_totals(database(tmp_path))
    with closing(Index(tmp_path)) as second:
        second.open()
        assert second.blocks(-1).found == (Block(REVOKED, "a/b/", NOW + 60),)


def test_blocks_after_an_unreadable_row_are_taken_over(tmp_path: Path) -> None:
    blocks = tuple(Block(REVOKED, prefix, NOW + 60) for prefix in ("a/", "m/", "z/"))
    with closing(Index(tmp_path)) as first:
        for block in blocks:
            first.apply(block, NOW)
    with closing(sqlite3.connect(database(tmp_path))) as db, db:
        db.execute("INSERT INTO verdict VALUES (1, CAST(x'62ff' AS TEXT), 5.0, 1)")
        db.execute("INSERT INTO verdict VALUES (1, printf('n%.*c', ?, '/'), 5.0, 1)", (LONGEST_VALUE,))
    harm_totals(database(tmp_path))
    with closing(Index(tmp_path)) as second:
        second.open()
        assert second.blocks(-1) == Blocks(blocks, whole=True)


def test_blocks_outlive_an_unreadable_page_of_the_index(tmp_path: Path) -> None:
    blocks = [Block(REVOKED, f"a/{place:05}/", NOW + place) for place in range(2_000)]
    with closing(Index(tmp_path)) as first:
        first.open()
        with closing(sqlite3.connect(database(tmp_path))) as db, db:
            restore(db, ((v.kind.value, v.prefix, v.until, number) for number, v in enumerate(blocks)))
    harm_totals(database(tmp_path))
    content = database(tmp_path).read_bytes()
    pages = [page for page in range(0, len(content), PAGE) if b"a/01000/" in content[page : page + PAGE]]
    assert len(pages) == 3, "the table and its two indexes have a page each with that prefix"
    for page in pages:
        folder = tmp_path / str(page)
        folder.mkdir()
        damaged = content[:page] + b"\xff" * PAGE + content[page + PAGE :]
        (folder / database(tmp_path).name).write_bytes(damaged)
        with closing(Index(folder)) as second:
            second.open()
            assert set(second.blocks(-1).found) == set(blocks)


def test_unreadable_blocks_do_not_keep_an_index_from_beginning_again(tmp_path: Path) -> None:
    with closing(Index(tmp_path)) as first:
        first.apply(Block(REVOKED, "a/b/", NOW + 60), NOW)
    database(tmp_path).write_bytes(os.urandom(40_000))
    with closing(Index(tmp_path)) as second:
        second.open()
        assert second.blocks(-1).found == ()


def test_what_another_worker_has_taken_over_already_is_left_alone(tmp_path: Path) -> None:
    first, second = Index(tmp_path), Index(tmp_path)
    with closing(first), closing(second):
        first.apply(Block(REVOKED, "a/b/", NOW + 60), NOW)
        second.open()
        harm_totals(database(tmp_path))
        with pytest.raises(StoreError):
            first.usage()
        first.apply(Block(REVOKED, "a/b/", NOW + 90), NOW)
        # As the second does where it met the damage at the same moment.
        second._file.remove()
        assert held(first, REVOKED) == held(second, REVOKED) == {"a/b/": NOW + 90}
