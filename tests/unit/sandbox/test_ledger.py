"""The blocking half of the storage: rows and files that agree, whatever fails."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import os
import random
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.errors import StoreError
from proxy.model import AccountSid
from proxy.sandbox.ledger import Ledger
from proxy.sandbox.messages import Attachment, Direction, Draft, Media, Message

ACCOUNT = AccountSid.parse(f"AC{'a' * 32}")


@contextmanager
def opened(folder: Path | None) -> Iterator[tuple[Ledger, list[Message]]]:
    with closing(Ledger(ACCOUNT, folder)) as ledger:
        yield ledger, ledger.open()


def draft(*bodies: bytes) -> Draft:
    media = tuple(Attachment("image/png", "a picture", body) for body in bodies)
    return Draft("+1", "+2", "hello", Direction.INBOUND, 1_800_000_000, media)


def bodies(folder: Path) -> set[str]:
    return {path.name for path in (folder / "bodies").iterdir()}


def name(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def test_the_next_start_removes_only_what_no_row_names(tmp_path: Path) -> None:
    with opened(tmp_path) as (ledger, _):
        ledger.add([draft(b"kept")])
    strange = {f"new-{'0' * 16}", name(b"orphan")}
    for one in (*strange, "letter.txt"):
        (tmp_path / "bodies" / one).write_bytes(b"x")
    with opened(tmp_path) as (_, messages):
        assert [media.read() for message in messages for media in message.media] == [b"kept"]
    assert bodies(tmp_path) == {name(b"kept"), "letter.txt"}


def test_a_body_that_was_cut_is_written_anew(tmp_path: Path) -> None:
    with opened(tmp_path) as (ledger, _):
        (first,) = ledger.add([draft(b"content")])
        first.media[0].path.write_bytes(b"con")
        (second,) = ledger.add([draft(b"content")])
        assert second.media[0].read() == b"content"


def test_several_drafts_are_added_all_or_none(tmp_path: Path) -> None:
    with opened(tmp_path) as (ledger, _):
        ledger.add([draft(b"before")])
        with closing(sqlite3.connect(tmp_path / "messages.sqlite3")) as other:
            other.execute(
                "CREATE TRIGGER bar BEFORE INSERT ON media WHEN new.size = 3 BEGIN SELECT raise(ABORT, 'no'); END"
            )
        with pytest.raises(StoreError):
            ledger.add([draft(b"first", b"before"), draft(b"two")], samples=True)
        assert bodies(tmp_path) == {name(b"before")}
        assert not ledger.has_samples()
    with opened(tmp_path) as (_, messages):
        assert len(messages) == 1


def test_a_full_disk_keeps_nothing_and_spoils_nothing_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with opened(tmp_path) as (ledger, _):
        with monkeypatch.context() as patched:
            patched.setattr("proxy.sandbox.folder.Path.rename", full)
            with pytest.raises(StoreError) as failure:
                ledger.add([draft(b"content")])
        assert "No space left" in failure.value.note
        assert bodies(tmp_path) == set()
        ledger.add([draft(b"content")])


def test_the_sample_conversation_is_noted_with_its_messages(tmp_path: Path) -> None:
    with opened(tmp_path) as (ledger, _):
        assert not ledger.has_samples()
        ledger.add([draft()], samples=True)
        assert ledger.has_samples()
    with opened(tmp_path) as (ledger, _):
        assert ledger.has_samples()


def test_a_second_deletion_finds_nothing(tmp_path: Path) -> None:
    with opened(tmp_path) as (ledger, _):
        (message,) = ledger.add([draft(b"a", b"b")])
        assert [ledger.delete_media(message.media[0]) for _ in range(2)] == [True, False]
        assert [ledger.delete_message(message) for _ in range(2)] == [True, False]
        assert bodies(tmp_path) == set()


CONTENTS = st.sampled_from([b"", b"a", b"b", b"c" * 70_000])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.lists(CONTENTS, max_size=3)),
        st.tuples(st.just("delete message"), st.integers(0, 9)),
        st.tuples(st.just("delete media"), st.integers(0, 9)),
        st.tuples(st.just("restart"), st.none()),
    ),
    max_size=12,
)


@given(steps=STEPS)
@settings(max_examples=40)
def test_rows_and_files_agree_after_any_steps(
    tmp_path_factory: pytest.TempPathFactory, steps: Sequence[tuple[str, object]]
) -> None:
    folder = tmp_path_factory.mktemp("ledger")
    held: dict[str, Message] = {}
    given_out: set[str] = set()
    ledger = Ledger(ACCOUNT, folder)
    ledger.open()
    try:
        for step, of in steps:
            messages = list(held.values())
            media = [one for message in messages for one in message.media]
            if step == "add":
                assert isinstance(of, list)
                (message,) = ledger.add([draft(*of)])
                sids = {message.sid, *(one.sid for one in message.media)}
                assert given_out.isdisjoint(sids)
                given_out |= sids
                held[message.sid] = message
            elif step == "restart":
                ledger.close()
                ledger = Ledger(ACCOUNT, folder)
                held = {message.sid: message for message in ledger.open()}
                assert list(held.values()) == messages
            elif step == "delete message" and messages:
                assert isinstance(of, int)
                gone = messages[of % len(messages)]
                assert ledger.delete_message(held.pop(gone.sid))
            elif step == "delete media" and media:
                assert isinstance(of, int)
                held = without(held, media[of % len(media)], ledger)
            left = [one for message in held.values() for one in message.media]
            assert bodies(folder) == {one.sha256 for one in left}
            assert all(name(one.read()) == one.sha256 for one in left)
    finally:
        ledger.close()


def without(held: dict[str, Message], media: Media, ledger: Ledger) -> dict[str, Message]:
    assert ledger.delete_media(media)
    return {
        sid: dataclasses.replace(message, media=tuple(one for one in message.media if one != media))
        for sid, message in held.items()
    }


def test_a_large_body_is_read_whole(tmp_path: Path) -> None:
    octets = random.Random(1).randbytes(3_000_001)
    with opened(tmp_path) as (ledger, _):
        (message,) = ledger.add([draft(octets)])
        assert message.media[0].read() == octets
