"""The index: whole at every moment, shared by workers, and replaced if it is damaged."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from proxy.cache.disk.index import Index
from proxy.cache.disk.index_file import SCHEMA_VERSION
from proxy.cache.disk.responses_table import (
    COUNT_PREFIX,
    REMOVE_PREFIX,
    ROW_BYTES,
    SELECT_OLDEST,
    Placing,
    ResponseRow,
    Usage,
)
from proxy.errors import StoreError

_WORKER = """
import random, sys
from pathlib import Path
from proxy.cache.disk.index import Index
from proxy.cache.disk.responses_table import ResponseRow

seed, folder = int(sys.argv[1]), Path(sys.argv[2])
chance = random.Random(seed)
index = Index(folder)
index.open()
print("open", flush=True)
sys.stdin.readline()
for n in range(int(sys.argv[3])):
    key = f"key-{chance.randrange(40)}"
    match chance.randrange(8):
        case 0:
            index.remove(key)
        case 1:
            index.evict(200_000)
        case 2:
            index.touch([(key, float(n))])
        case 3:
            index.remove_prefix("key-3")
        case _:
            index.put(key, ResponseRow(f"g{seed}n{n}", chance.randrange(9_000), 1 << 62, b"m"), used=float(n))
index.close()
"""
_KILLED = """
import os, signal, sys
from pathlib import Path
from proxy.cache.disk.index import Index
from proxy.cache.disk.responses_table import ResponseRow

index = Index(Path(sys.argv[1]))
index.put("kept", ResponseRow("aa", 10, 1 << 62, b"m"), used=1.0)
db = index._file.connection()
db.execute("BEGIN IMMEDIATE")
db.execute("DELETE FROM response")
db.execute("INSERT INTO response VALUES ('half', 'bb', 99, 1.0, NULL, 0, x'00')")
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    opened = Index(tmp_path)
    opened.open()
    yield opened
    opened.close()


def _row(generation: str = "aa", length: int = 10, metadata: bytes = b"m") -> ResponseRow:
    return ResponseRow(generation, length, 1 << 62, metadata)


def _database(folder: Path) -> Path:
    (path,) = folder.glob("index-*.sqlite3")
    return path


def _summed(folder: Path) -> Usage:
    db = sqlite3.connect(_database(folder))
    try:
        held, entries = db.execute("SELECT coalesce(sum(length), 0), count(*) FROM response").fetchone()
    finally:
        db.close()
    return Usage(held, entries)


def test_a_row_comes_back_as_it_was_put(index: Index) -> None:
    assert index.put("a", _row(), used=1.0) == Placing(done=True)
    assert index.get("a") == _row()
    assert index.get("b") is None


def test_replacing_names_the_generation_that_was_replaced(index: Index) -> None:
    index.put("a", _row("aa"), used=1.0)
    assert index.put("a", _row("bb"), used=2.0) == Placing(done=True, replaced="aa")
    assert index.put("a", _row("bb", metadata=b"n"), used=3.0) == Placing(done=True)
    assert index.usage() == Usage(10, 1)


def test_freshening_touches_only_its_own_generation(index: Index) -> None:
    index.put("a", _row("aa"), used=1.0)
    assert index.freshen("a", "bb", b"new") is False
    assert index.freshen("a", "aa", b"new") is True
    assert index.get("a") == _row("aa", metadata=b"new")


def test_removing_a_generation_leaves_another(index: Index) -> None:
    index.put("a", _row("aa"), used=1.0)
    assert index.remove("a", "bb") is None
    assert index.remove("a", None, b"other") is None
    assert index.remove("a", "aa") == "aa"
    assert index.remove("a") is None
    assert index.usage() == Usage(0, 0)


def test_knows_the_generations_that_have_a_row(index: Index) -> None:
    index.put("a", _row("aa"), used=1.0)
    assert (index.knows("aa"), index.knows("bb")) == (True, False)


def test_eviction_takes_only_as_many_least_recently_used_as_needed(index: Index) -> None:
    for n in range(5):
        index.put(f"k{n}", _row(f"g{n}", 1_000), used=float(n))
    index.touch([("k0", 50.0), ("absent", 60.0)])
    bound = 3 * (1_000 + ROW_BYTES)
    assert index.evict(bound) == ["g1", "g2"]
    assert index.evict(bound) == []
    assert index.usage() == Usage(3_000, 3)


def test_bodies_of_nothing_are_bounded_too(index: Index) -> None:
    for n in range(100):
        index.put(f"k{n:03}", _row(f"g{n}", 0), used=float(n))
    while index.evict(10 * ROW_BYTES):
        pass
    assert index.usage() == Usage(0, 10)


def test_a_use_that_is_noted_late_makes_nothing_older(index: Index) -> None:
    index.put("a", _row("aa"), used=10.0)
    index.put("b", _row("bb"), used=5.0)
    index.touch([("a", 1.0)])
    assert index.evict(10 + ROW_BYTES) == ["bb"]


def test_removal_by_prefix_goes_on_until_nothing_is_left(index: Index) -> None:
    for n in range(1_100):
        index.put(f"x/{n}", _row(f"g{n}"), used=1.0)
    index.put("y", _row("yy"), used=1.0)
    removed: list[str] = []
    while gone := index.remove_prefix("x/"):
        removed += gone
    assert sorted(removed) == sorted(f"g{n}" for n in range(1_100))
    assert index.usage() == Usage(10, 1)


def test_removal_before_an_erasure_spares_what_is_stored_since(index: Index) -> None:
    old, since = 1 << 61, 1 << 62
    for name, epoch in (("x/old", old), ("x/new", since), ("y", old)):
        index.put(name, ResponseRow(name[-3:].replace("/", ""), 10, epoch, b"m"), used=1.0)
    assert index.count_prefix("x/") == 2
    assert index.remove_prefix("x/", since) == ["old"]
    assert index.remove_prefix("x/", since) == []
    assert (index.count_prefix("x/"), index.count_prefix("")) == (1, 2)


def test_the_last_gateway_to_begin_sets_the_folder_s_bound(tmp_path: Path) -> None:
    said: list[int | None] = []
    for max_bytes in (None, 10, 2**70, None):
        index = Index(tmp_path, max_bytes=max_bytes)
        said.append(index.bound())
        index.close()
    assert said == [None, 10, 2**63 - 1, 2**63 - 1]


def test_a_new_index_knows_the_bound_too(tmp_path: Path) -> None:
    index = Index(tmp_path, max_bytes=10)
    index.open()
    _database(tmp_path).unlink()
    assert index.bound() == 10
    index.close()


@pytest.mark.parametrize(
    ("statement", "parameters", "plan"),
    [
        (SELECT_OLDEST, (64,), "SCAN response USING INDEX response_used"),
        (REMOVE_PREFIX, ("x", "y", None, 64), "SEARCH response USING PRIMARY KEY (key>? AND key<?)"),
        (COUNT_PREFIX, ("x", "y"), "SEARCH response USING PRIMARY KEY (key>? AND key<?)"),
        ("SELECT 1 FROM response WHERE generation = ?", ("g",), "USING COVERING INDEX response_generation"),
    ],
)
def test_no_statement_reads_more_rows_than_it_gives(
    index: Index, tmp_path: Path, statement: str, parameters: tuple[object, ...], plan: str
) -> None:
    db = sqlite3.connect(_database(tmp_path))
    try:
        steps = [str(step[3]) for step in db.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)]
    finally:
        db.close()
    assert any(plan in step for step in steps), steps
    assert not any("TEMP B-TREE" in step for step in steps), steps
    assert not any(step == "SCAN response" for step in steps), steps


def test_its_files_are_its_owner_s_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        index = Index(tmp_path)
        index.put("a", _row(), used=1.0)
        modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
        index.close()
    finally:
        os.umask(before)
    assert len(modes) == 5
    assert set(modes.values()) == {0o600}


# --- several workers --------------------------------------------------------------------------------------------


def _workers(folder: Path, number: int, steps: int) -> list[subprocess.Popen[str]]:
    return [
        subprocess.Popen(
            [sys.executable, "-c", _WORKER, str(seed), str(folder), str(steps)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for seed in range(number)
    ]


def test_workers_at_once_keep_the_totals_equal_to_the_sum(tmp_path: Path) -> None:
    workers = _workers(tmp_path, 4, 300)
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "open\n"
    index = Index(tmp_path)
    outcomes = [worker.communicate("go\n") for worker in workers]
    assert [(worker.returncode, error) for worker, (_, error) in zip(workers, outcomes, strict=True)] == [(0, "")] * 4
    assert index.usage() == _summed(tmp_path)
    assert index.usage().entries > 0
    index.close()


def test_a_kill_within_a_transaction_leaves_what_was_before_it(tmp_path: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", _KILLED, str(tmp_path)], capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    index = Index(tmp_path)
    assert index.get("kept") == ResponseRow("aa", 10, 1 << 62, b"m")
    assert index.get("half") is None
    assert index.usage() == _summed(tmp_path) == Usage(10, 1)
    index.close()


def test_a_kill_leaves_the_totals_equal_to_the_sum(tmp_path: Path) -> None:
    for _ in range(3):
        (worker,) = _workers(tmp_path, 1, 10**9)
        assert worker.stdin is not None
        assert worker.stdout is not None
        assert worker.stdout.readline() == "open\n"
        worker.stdin.write("go\n")
        worker.stdin.flush()
        index = Index(tmp_path)
        while index.usage().entries < 3:
            pass
        worker.kill()
        worker.communicate()
        assert index.usage() == _summed(tmp_path)
        assert index.put("after", _row("zz"), used=1.0).done
        index.remove("after")
        index.close()


# --- damage -----------------------------------------------------------------------------------------------------


def _set_user_version(path: Path) -> None:
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    db.close()


def _drop_a_table(path: Path) -> None:
    db = sqlite3.connect(path)
    db.execute("DROP TABLE total")
    db.close()


def _empty_the_totals(path: Path) -> None:
    db = sqlite3.connect(path)
    with db:
        db.execute("DELETE FROM total")
    db.close()


def _foreign_database(path: Path) -> None:
    path.unlink()
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE other (thing)")
    db.close()


_DAMAGES: dict[str, Callable[[Path], object]] = {
    "garbage": lambda path: path.write_bytes(b"garbage" * 5_000),
    "empty": lambda path: path.write_bytes(b""),
    "short": lambda path: path.write_bytes(path.read_bytes()[:5_000]),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "header": lambda path: path.write_bytes(b"SQLite format 3\0" + b"\xff" * 9_000),
    "newer": _set_user_version,
    "no-table": _drop_a_table,
    "no-totals": _empty_the_totals,
    "foreign": _foreign_database,
    "gone": lambda path: path.unlink(),
}


@pytest.mark.parametrize("damage", sorted(_DAMAGES))
def test_a_damaged_or_foreign_index_is_replaced_at_the_start(tmp_path: Path, damage: str) -> None:
    first = Index(tmp_path)
    for n in range(50):
        first.put(f"k{n}", _row(f"g{n}", metadata=b"m" * 200), used=1.0)
    first.close()
    _DAMAGES[damage](_database(tmp_path))
    second = Index(tmp_path)
    second.open()
    assert second.usage() == Usage(0, 0)
    assert second.put("a", _row(), used=1.0).done
    assert second.get("a") == _row()
    second.close()
    third = Index(tmp_path)
    assert third.get("a") == _row()
    third.close()


def test_an_index_of_this_version_is_kept(tmp_path: Path) -> None:
    first = Index(tmp_path)
    first.put("a", _row(), used=1.0)
    first.close()
    second = Index(tmp_path)
    second.open()
    assert second.get("a") == _row()
    second.close()


@pytest.mark.parametrize("seed", range(12))
def test_flipped_bytes_raise_only_store_errors_until_a_new_index(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    first = Index(tmp_path)
    for n in range(60):
        first.put(f"k{n}", _row(f"g{n}", metadata=os.urandom(300)), used=float(n))
    first.close()
    path = _database(tmp_path)
    content = bytearray(path.read_bytes())
    for _ in range(200):
        content[chance.randrange(100, len(content))] = chance.randrange(256)
    path.write_bytes(content)
    index = Index(tmp_path)
    calls: list[Callable[[], object]] = [
        lambda: index.get(f"k{chance.randrange(60)}"),
        lambda: index.put(f"k{chance.randrange(60)}", _row("new"), used=100.0),
        lambda: index.evict(30 * ROW_BYTES),
        lambda: index.evict(0),
        lambda: index.remove_prefix(""),
        lambda: index.knows("g5"),
        lambda: index.touch([("k7", 1.0)]),
        lambda: index.remove("k9"),
    ]
    for _ in range(5):
        for call in calls:
            try:
                call()
            except StoreError:
                continue
    while index.evict(-1):
        pass
    assert index.put("after", _row("zz"), used=1.0).done
    assert index.get("after") == _row("zz")
    index.close()


def test_a_row_of_other_types_is_damage(index: Index, tmp_path: Path) -> None:
    db = sqlite3.connect(_database(tmp_path))
    with db:
        db.execute("INSERT INTO response VALUES ('a', '../../x', 1, 1.0, NULL, 0, x'00')")
        db.execute("INSERT INTO response VALUES ('b', 'bb', 'long', 1.0, NULL, 0, x'00')")
    db.close()
    with pytest.raises(StoreError):
        index.remove("a")
    assert index.usage() == Usage(0, 0)


@pytest.mark.parametrize("column", ["length", "generation", "metadata"])
@pytest.mark.parametrize("call", ["get", "evict"])
def test_a_column_of_another_type_is_damage(index: Index, tmp_path: Path, column: str, call: str) -> None:
    for n in range(3):
        index.put(f"k{n}", _row(f"g{n}", 10), used=float(n))
    db = sqlite3.connect(_database(tmp_path))
    with db:
        db.execute("DROP TRIGGER response_removed")
        db.execute(f"UPDATE response SET {column} = '/no/'")
    db.close()
    with contextlib.suppress(StoreError):
        if call == "get":
            index.get("k0")
        else:
            index.evict(ROW_BYTES)
    assert index.get("k0") is None


def test_totals_that_count_what_is_not_there_are_damage(index: Index, tmp_path: Path) -> None:
    db = sqlite3.connect(_database(tmp_path))
    with db:
        db.execute("UPDATE total SET bytes = 1000000")
    db.close()
    with pytest.raises(StoreError):
        index.evict(1_000)
    assert index.usage() == Usage(0, 0)


def test_every_worker_moves_to_the_index_that_replaces_another(tmp_path: Path) -> None:
    first, second = Index(tmp_path), Index(tmp_path)
    first.put("a", _row("aa"), used=1.0)
    assert second.get("a") == _row("aa")
    db = sqlite3.connect(_database(tmp_path))
    with db:
        db.execute("DELETE FROM total")
    db.close()
    with pytest.raises(StoreError):
        first.usage()
    first.put("b", _row("bb"), used=1.0)
    assert second.get("a") is None
    assert second.get("b") == _row("bb")
    second.put("c", _row("cc"), used=1.0)
    second.close()
    assert first.get("c") == _row("cc")
    first.close()
    assert _summed(tmp_path) == Usage(20, 2)


def test_an_index_that_is_removed_under_a_worker_is_replaced(tmp_path: Path) -> None:
    index = Index(tmp_path)
    index.put("a", _row("aa"), used=1.0)
    for path in tmp_path.iterdir():
        path.unlink()
    assert index.get("a") is None
    assert index.put("a", _row("bb"), used=1.0).done
    index.close()


# --- faults of the system ---------------------------------------------------------------------------------------


def test_a_file_in_place_of_the_folder_hides_its_path(tmp_path: Path) -> None:
    place = tmp_path / "file"
    place.write_bytes(b"")
    index = Index(place)
    with pytest.raises(StoreError) as caught:
        index.open()
    assert str(tmp_path) not in caught.value.note
    index.close()


def test_a_lock_that_another_process_keeps_is_a_store_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    monkeypatch.setattr("proxy.cache.disk.index_file._LOCK_TRIES", 2)
    with (tmp_path / "index.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        index = Index(tmp_path)
        with pytest.raises(StoreError, match="cache is not available"):
            index.get("a")
    assert index.get("a") is None
    index.close()


def test_a_full_database_is_a_store_error_and_passes(index: Index) -> None:
    db = index._file.connection()
    (pages,) = db.execute("PRAGMA page_count").fetchone()
    db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreError):
        index.put("a", _row(metadata=bytes(60_000)), used=1.0)
    assert index.usage() == Usage(0, 0)
    db.execute(f"PRAGMA max_page_count = {pages + 100}")
    assert index.put("a", _row(metadata=bytes(60_000)), used=1.0).done


def test_a_commit_that_fails_leaves_no_transaction_open(index: Index) -> None:
    db = index._file.connection()
    db.execute("PRAGMA foreign_keys = ON")
    db.executescript(
        "CREATE TABLE parent (id INTEGER PRIMARY KEY);"
        "CREATE TABLE child (id REFERENCES parent DEFERRABLE INITIALLY DEFERRED);"
        "CREATE TEMP TRIGGER orphan AFTER INSERT ON main.response BEGIN INSERT INTO child VALUES (7); END;"
    )
    with pytest.raises(StoreError):
        index.put("a", _row(), used=1.0)
    db.execute("DROP TRIGGER orphan")
    assert index.put("a", _row(), used=1.0).done
    assert index.usage() == Usage(10, 1)
