from __future__ import annotations

import asyncio
import hashlib
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import SettingsError
from proxy.sandbox import Sandbox, SandboxOptions, seeding
from proxy.sandbox.creation import MEDIA_BYTES
from proxy.sandbox.seeding import SeedPlan, content_type_of, plan_seeding, seed


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(SandboxOptions(seed=False)) as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Lay out `photos/`: two pictures, and one in a subfolder."""
    root = tmp_path / "photos"
    (root / "sub").mkdir(parents=True)
    (root / "b.png").write_bytes(b"picture b")
    (root / "a.heic").write_bytes(b"picture a")
    (root / "sub" / "c.PDF").write_bytes(b"paper c")
    return root


def names(plan: SeedPlan) -> list[list[str]]:
    return [[file.name for file in folder] for folder in plan.folders]


def texts(sandbox: Sandbox) -> list[list[str]]:
    """Return the files that each message names."""
    return [[line.partition(" (sha256 ")[0] for line in message.body.splitlines()] for message in sandbox.messages]


def refusal(*paths: Path) -> str:
    with pytest.raises(SettingsError) as caught:
        plan_seeding(paths)
    (problem,) = caught.value.problems
    assert problem.name == "seed_media"
    return problem.message


# --- types ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("a.jpg", "image/jpeg"),
        ("a.JPEG", "image/jpeg"),
        ("a.heic", "image/heic"),
        ("a.webp", "image/webp"),
        ("a.amr", "audio/amr"),
        ("a.3gp", "video/3gpp"),
        ("a.mp4", "video/mp4"),
        ("a.vcf", "text/vcard"),
        ("a.pkpass", "application/vnd.apple.pkpass"),
        ("a.b.pdf", "application/pdf"),
        ("a.tar.gz", "application/gzip"),
        ("a.js", "text/javascript"),
        ("a.mjs", "text/javascript"),
        ("a.markdown", "text/markdown"),
        ("a.rst", "text/x-rst"),
        ("a.unheard", "application/octet-stream"),
        ("jpg", "application/octet-stream"),
        ("folder.jpg/file", "application/octet-stream"),
    ],
)
def test_the_extension_gives_the_type(name: str, content_type: str) -> None:
    assert content_type_of(name) == content_type


@given(st.text(max_size=30))
def test_every_name_has_a_type_that_a_header_can_hold(name: str) -> None:
    assert re.fullmatch(r"[a-z]+/[A-Za-z0-9.+-]+", content_type_of(name))


# --- what is found --------------------------------------------------------------------------------------------


def test_a_folder_is_its_files_then_its_subfolders_by_name(folder: Path) -> None:
    plan = plan_seeding([folder])
    assert names(plan) == [["photos/a.heic", "photos/b.png"], ["photos/sub/c.PDF"]]
    assert [file.size for files in plan.folders for file in files] == [9, 9, 7]
    assert plan.left_out == 0


def test_a_file_stands_for_itself(folder: Path) -> None:
    assert names(plan_seeding([folder / "b.png", folder / "sub" / "c.PDF"])) == [["b.png"], ["c.PDF"]]


def test_a_relative_path_gives_a_folder_its_own_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert names(plan_seeding([Path()])) == names(plan_seeding([folder]))


def test_names_that_begin_with_a_dot_are_left_out(folder: Path) -> None:
    (folder / ".DS_Store").write_bytes(b"x")
    (folder / ".git").mkdir()
    (folder / ".git" / "config.jpg").write_bytes(b"x")
    assert names(plan_seeding([folder])) == [["photos/a.heic", "photos/b.png"], ["photos/sub/c.PDF"]]


def test_links_that_lead_out_or_nowhere_are_not_followed(folder: Path) -> None:
    outside = folder.parent / "outside"
    outside.mkdir()
    (outside / "secret.txt").write_bytes(b"secret")
    (folder / "file.txt").symlink_to(outside / "secret.txt")
    (folder / "all").symlink_to(outside)
    (folder / "gone").symlink_to(folder / "nothing")
    (folder / "round").symlink_to(folder / "round")
    (folder / "inside.png").symlink_to(folder / "b.png")
    (folder / "up").symlink_to(folder)
    plan = plan_seeding([folder])
    assert names(plan) == [["photos/a.heic", "photos/b.png", "photos/inside.png"], ["photos/sub/c.PDF"]]
    assert plan.left_out == 4


def test_a_link_that_is_named_is_followed(folder: Path) -> None:
    link = folder.parent / "link"
    link.symlink_to(folder)
    assert names(plan_seeding([link])) == names(plan_seeding([folder]))


def test_a_pipe_is_passed_over_and_refused_by_name(folder: Path) -> None:
    os.mkfifo(folder / "pipe.jpg")
    assert names(plan_seeding([folder])) == [["photos/a.heic", "photos/b.png"], ["photos/sub/c.PDF"]]
    assert refusal(folder / "pipe.jpg") == f"{folder / 'pipe.jpg'}: is neither a file nor a folder"


def test_a_path_that_gives_nothing_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "gone") == f"{tmp_path / 'gone'}: no such file or directory"
    (tmp_path / "empty").mkdir()
    assert refusal(tmp_path / "empty") == f"{tmp_path / 'empty'}: holds no file"


def test_the_number_and_size_of_files_are_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (folder / "huge.bin").open("wb") as huge:
        huge.truncate(seeding.LARGEST_FILE + 1)
    assert refusal(folder) == f"{folder / 'huge.bin'}: is larger than 500,000,000 bytes"
    (folder / "huge.bin").unlink()
    monkeypatch.setattr(seeding, "MOST_FILES", 2)
    assert refusal(folder) == f"{folder}: there are more than 2 files"


def test_files_that_no_provider_takes_are_named(folder: Path) -> None:
    for name, size in (("just.mov", MEDIA_BYTES), ("more.mov", MEDIA_BYTES + 1)):
        with (folder / name).open("wb") as film:
            film.truncate(size)
    assert [file.name for file in plan_seeding([folder]).oversized] == ["photos/more.mov"]


# --- what is added --------------------------------------------------------------------------------------------


async def planned(*paths: Path) -> SeedPlan:
    return await asyncio.to_thread(plan_seeding, paths)


async def test_a_folder_becomes_a_message_and_a_subfolder_another(sandbox: Sandbox, folder: Path) -> None:
    seeded = await seed(sandbox, await planned(folder))
    assert (seeded.messages, seeded.media, seeded.known) == (2, 3, 0)
    assert [[(media.content_type, media.sha256) for media in message.media] for message in sandbox.messages] == [
        [
            ("image/heic", hashlib.sha256(b"picture a").hexdigest()),
            ("image/png", hashlib.sha256(b"picture b").hexdigest()),
        ],
        [("application/pdf", hashlib.sha256(b"paper c").hexdigest())],
    ]
    assert texts(sandbox) == [["photos/a.heic", "photos/b.png"], ["photos/sub/c.PDF"]]


async def test_a_message_takes_ten_files(sandbox: Sandbox, tmp_path: Path) -> None:
    for number in range(21):
        (tmp_path / f"{number:02}.txt").write_text(str(number))
    assert (await seed(sandbox, await planned(tmp_path))).messages == 3
    assert [len(message.media) for message in sandbox.messages] == [10, 10, 1]


async def test_a_message_takes_5_mb_or_one_larger_file(sandbox: Sandbox, tmp_path: Path) -> None:
    for name, size in (("a", 1), ("b", MEDIA_BYTES - 1), ("c", 1), ("d", MEDIA_BYTES + 1), ("e", 1)):
        (tmp_path / name).write_bytes(name.encode() * size)
    await seed(sandbox, await planned(tmp_path))
    assert [[media.length for media in message.media] for message in sandbox.messages] == [
        [1, MEDIA_BYTES - 1], [1], [MEDIA_BYTES + 1], [1],
    ]  # fmt: skip


async def test_what_was_added_before_is_not_added_again(sandbox: Sandbox, folder: Path) -> None:
    await seed(sandbox, await planned(folder))
    again = await seed(sandbox, await planned(folder))
    assert (again.messages, again.media, again.known) == (0, 0, 3)
    assert len(sandbox.messages) == 2


async def test_other_bytes_or_another_name_are_another_media(sandbox: Sandbox, folder: Path) -> None:
    await seed(sandbox, await planned(folder))
    (folder / "a.heic").write_bytes(b"picture A")
    (folder / "b.png").rename(folder / "d.png")
    added = await seed(sandbox, await planned(folder))
    assert (added.messages, added.media, added.known) == (1, 2, 1)
    assert texts(sandbox)[-1] == ["photos/a.heic", "photos/d.png"]


async def test_a_file_named_twice_is_added_once(sandbox: Sandbox, folder: Path) -> None:
    seeded = await seed(sandbox, await planned(folder / "b.png", folder / "b.png"))
    assert (seeded.messages, seeded.media, seeded.known) == (1, 1, 1)


async def test_a_name_that_is_not_text_takes_one_line(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"a\nb\xff.jpg")).write_bytes(b"x")
    await seed(sandbox, await planned(tmp_path))
    (message,) = sandbox.messages
    assert [line.partition(" ")[0].rpartition("/")[2] for line in message.body.splitlines()] == ["a\ufffdb\ufffd.jpg"]
    assert message.media[0].content_type == "image/jpeg"
    assert (await seed(sandbox, await planned(tmp_path))).known == 1


async def test_an_error_names_a_file_that_went_away(sandbox: Sandbox, folder: Path) -> None:
    plan = await planned(folder)
    (folder / "a.heic").unlink()
    with pytest.raises(SettingsError) as caught:
        await seed(sandbox, plan)
    assert str(caught.value) == f"seed_media: {folder / 'a.heic'}: no such file or directory"


async def test_a_file_that_grew_meanwhile_is_refused(
    sandbox: Sandbox, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = await planned(folder)
    monkeypatch.setattr(seeding, "LARGEST_FILE", 5)
    with pytest.raises(SettingsError, match="is larger than 5 bytes"):
        await seed(sandbox, plan)
    assert sandbox.messages == ()


def test_a_folder_that_cannot_be_read_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Root may read every folder, so no real one can refuse.
    scandir = os.scandir

    def refusing(path: str) -> object:
        if str(path).endswith("sub"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    assert refusal(folder) == f"{folder / 'sub'}: permission denied"
