"""Messages made of a user's own files."""

from __future__ import annotations

import asyncio
import hashlib
import mimetypes
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import Final

from proxy.errors import SettingProblem, SettingsError
from proxy.sandbox.creation import MEDIA_BYTES, MEDIA_LIMIT
from proxy.sandbox.sandbox import Sandbox

LARGEST_FILE: Final = 500_000_000
MOST_FILES: Final = 10_000

_UNKNOWN: Final = "application/octet-stream"
_TYPES: Final = MappingProxyType(
    {
        **mimetypes.MimeTypes().types_map[True],
        # Types that messages carry, and that the standard library does not know, or not in all its versions alike.
        ".3g2": "video/3gpp2",
        ".3gp": "video/3gpp",
        ".aac": "audio/aac",
        ".amr": "audio/amr",
        ".avif": "image/avif",
        ".bmp": "image/bmp",
        ".caf": "audio/x-caf",
        ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        ".gz": "application/gzip",
        ".heic": "image/heic",
        ".heif": "image/heif",
        ".ics": "text/calendar",
        ".js": "text/javascript",
        ".m4a": "audio/mp4",
        ".m4v": "video/mp4",
        ".markdown": "text/markdown",
        ".md": "text/markdown",
        ".mjs": "text/javascript",
        ".oga": "audio/ogg",
        ".ogg": "audio/ogg",
        ".opus": "audio/ogg",
        ".pkpass": "application/vnd.apple.pkpass",
        ".pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
        ".rst": "text/x-rst",
        ".rtf": "application/rtf",
        ".vcard": "text/vcard",
        ".vcf": "text/vcard",
        ".wav": "audio/wav",
        ".webm": "video/webm",
        ".webp": "image/webp",
        ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    }
)


@dataclass(frozen=True, slots=True)
class SeedFile:
    """A file to become a media; `name` is the user's own, below the path that was given; `size` counts octets."""

    path: Path
    name: str
    size: int


@dataclass(frozen=True, slots=True)
class SeedPlan:
    """The files of each folder, in the order of their names; `left_out` counts links that lead elsewhere."""

    folders: tuple[tuple[SeedFile, ...], ...] = ()
    left_out: int = 0

    @property
    def oversized(self) -> tuple[SeedFile, ...]:
        """The files that no provider would take with a message."""
        return tuple(file for folder in self.folders for file in folder if file.size > MEDIA_BYTES)


@dataclass(frozen=True, slots=True)
class Seeded:
    """The outcome of a plan: new messages, media in them, and files that were there before."""

    messages: int
    media: int
    known: int


def content_type_of(name: str) -> str:
    """Return the type that a file name's extension stands for, or that of octets of no known type."""
    return _TYPES.get(PurePath(name).suffix.lower(), _UNKNOWN)


def plan_seeding(paths: Sequence[Path]) -> SeedPlan:
    """Find the files that the paths mean: a file is itself, a folder is its files and those of its subfolders.

    Names that begin with a dot are left out, and links to files outside of the folder. Blocks on the disk.
    Raises `SettingsError` if a path is not there or holds no file, or if there is too much.
    """
    folders: list[tuple[SeedFile, ...]] = []
    left_out = count = 0
    for path in paths:
        before = len(folders)
        for files, strays in _found(path):
            left_out += strays
            count += len(files)
            if count > MOST_FILES:
                raise _unfit(path, f"there are more than {MOST_FILES:,} files")
            if files:
                folders.append(files)
        if len(folders) == before:
            raise _unfit(path, "holds no file")
    return SeedPlan(tuple(folders), left_out)


async def seed(sandbox: Sandbox, plan: SeedPlan) -> Seeded:
    """Add a message for each folder, or several if one would hold more than a provider takes.

    A message's text lists its files, each with the beginning of its SHA-256. A file that a message lists so is not
    added again, even if its media was deleted since. Raises `SettingsError` if a file cannot be read, `StoreError` if
    the disk fails.
    """
    noted = {line for message in sandbox.messages for line in message.body.splitlines()}
    messages = media = known = 0
    for folder in plan.folders:
        batch: list[_Loaded] = []
        for file in folder:
            loaded = await asyncio.to_thread(_load, file)
            if loaded.line in noted:
                known += 1
                continue
            noted.add(loaded.line)
            media += 1
            if batch and not _fits(batch, loaded):
                await _add(sandbox, batch)
                messages += 1
                batch = []
            batch.append(loaded)
        if batch:
            await _add(sandbox, batch)
            messages += 1
    return Seeded(messages, media, known)


@dataclass(frozen=True, slots=True)
class _Loaded:
    content_type: str
    octets: bytes
    line: str


def _load(file: SeedFile) -> _Loaded:
    try:
        with file.path.open("rb") as source:
            octets = source.read(LARGEST_FILE + 1)
    except OSError as error:
        raise _unreadable(file.path, error) from error
    _check_size(file.path, len(octets))
    return _Loaded(
        content_type_of(file.name), octets, f"{file.name} (sha256 {hashlib.sha256(octets).hexdigest()[:16]})"
    )


def _fits(batch: Sequence[_Loaded], more: _Loaded) -> bool:
    octets = sum(len(loaded.octets) for loaded in batch) + len(more.octets)
    return len(batch) < MEDIA_LIMIT and octets <= MEDIA_BYTES


async def _add(sandbox: Sandbox, batch: Sequence[_Loaded]) -> None:
    media = [(loaded.content_type, loaded.octets) for loaded in batch]
    await sandbox.add_message(media, body="\n".join(loaded.line for loaded in batch))


def _found(path: Path) -> Iterator[tuple[tuple[SeedFile, ...], int]]:
    """Yield the files of the path, folder by folder, and the number of links that lead elsewhere in each."""
    try:
        root = Path(os.path.realpath(path, strict=True))
    except OSError as error:
        raise _unreadable(path, error) from error
    if not root.is_dir():
        yield (_file(root, root.name),), 0
        return
    try:
        yield from _below(root)
    except OSError as error:
        raise _unreadable(Path(error.filename or root), error) from error


def _below(root: Path) -> Iterator[tuple[tuple[SeedFile, ...], int]]:
    for place, folders, names in os.walk(root, onerror=_raise):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        # A linked folder is not entered: its files are met in their own place, or lie outside of the root.
        strays = sum(not _is_inside(Path(place) / name, root) for name in folders)
        files: list[SeedFile] = []
        for name in sorted(names):
            path = Path(place) / name
            if name.startswith("."):
                continue
            if not _is_inside(path, root):
                strays += 1
            elif path.is_file():
                files.append(_file(path, str(path.relative_to(root.parent))))
        yield tuple(files), strays


def _is_inside(path: Path, root: Path) -> bool:
    if not path.is_symlink():
        return True
    try:
        return Path(os.path.realpath(path, strict=True)).is_relative_to(root)
    except OSError:
        return False  # the link leads nowhere


def _file(path: Path, name: str) -> SeedFile:
    if not path.is_file():
        raise _unfit(path, "is neither a file nor a folder")
    size = path.stat().st_size
    _check_size(path, size)
    return SeedFile(path, _printable(name), size)


def _check_size(path: Path, size: int) -> None:
    if size > LARGEST_FILE:
        raise _unfit(path, f"is larger than {LARGEST_FILE:,} bytes")


def _printable(name: str) -> str:
    # A name of a POSIX file system may be any octets, and a message's text may not.
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in name)


def _raise(error: OSError) -> None:
    raise error


def _unreadable(path: Path, error: OSError) -> SettingsError:
    return _unfit(path, (error.strerror or "cannot be read").lower())


def _unfit(path: Path, reason: str) -> SettingsError:
    return SettingsError([SettingProblem("seed_media", f"{_printable(str(path))}: {reason}")])
