"""The cache folder: its owner's alone, and nothing in it is reached through a link.

Another user who can write there might put a link in the place of a file, and so have the gateway write to, or serve,
something else. So each folder on the way is opened from the descriptor of the one before, and no link is followed
(`O_NOFOLLOW`). The path of the cache folder itself is the operator's, and may be a link. SQLite takes paths only: those
of the index are checked before they are handed over. Every call blocks.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from proxy.cache.disk.files import write_all
from proxy.errors import SettingProblem, SettingsError

_log: Final = logging.getLogger("media_gateway.cache")

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


class Folder:
    """The cache folder at `path`. The paths that its methods take lie below it. They raise `OSError`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def prepare(self) -> None:
        """Make the folder if it is missing, and close it to other users. Raises `SettingsError` if another owns it."""
        missing = [place for place in (self.path, *self.path.parents) if not place.exists()]
        for place in reversed(missing):
            place.mkdir(mode=0o700, exist_ok=True)
        self._make_private(self.path)

    def require_own(self) -> None:
        """Raise `SettingsError` if the folder belongs to another user."""
        with self._directory(self.path) as descriptor:
            _require_own(descriptor, self.path)

    def make(self, path: Path) -> None:
        """Make a folder below this one if it is missing, and close it to other users."""
        with self._directory(path.parent) as parent, contextlib.suppress(FileExistsError):
            os.mkdir(path.name, 0o700, dir_fd=parent)
        self._make_private(path)

    def _make_private(self, path: Path) -> None:
        with self._directory(path) as descriptor:
            _require_own(descriptor, path)
            mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
            if mode & _OTHERS:
                os.fchmod(descriptor, 0o700)
                # Kubernetes' fsGroup opens the folder again at each mount.
                _log.warning("%s was open to other users (mode %04o); it is 0700 now", path, mode)

    def open(self, path: Path, flags: int, mode: int = 0o600) -> int:
        """Return the descriptor of a regular file, as `os.open` does."""
        with self._directory(path.parent) as parent:
            # Opening a pipe in the place of a file would block.
            extra = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = os.open(path.name, flags | extra, mode, dir_fd=parent)
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file")

    def create(self, path: Path) -> int:
        """Create a file that its owner alone can read and write, and return its descriptor."""
        return self.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)

    def open_whole(self, path: Path, length: int) -> int | None:
        """Return the descriptor of a file; None if it is missing or of another length."""
        try:
            descriptor = self.open(path, os.O_RDONLY)
        except OSError:
            return None
        if os.fstat(descriptor).st_size == length:
            return descriptor
        os.close(descriptor)
        return None

    def read_whole(self, path: Path, length: int) -> bytes | None:
        """Return the bytes of a file; None if it is missing or of another length."""
        descriptor = self.open_whole(path, length)
        if descriptor is None:
            return None
        content = bytearray()
        try:
            while len(content) < length and (block := os.pread(descriptor, length - len(content), len(content))):
                content += block
        finally:
            os.close(descriptor)
        return bytes(content)

    def write_new(self, path: Path, content: bytes) -> None:
        """Create a file with that content; if it cannot be written, it is removed again."""
        descriptor = self.create(path)
        try:
            write_all(descriptor, [content], 0)
        except OSError:
            self.unlink_quietly(path)
            raise
        finally:
            os.close(descriptor)

    def body_path(self, generation: str) -> Path:
        """Return the path of the body of a generation."""
        return self.path / "bodies" / generation[:2] / generation

    def place(self, path: Path, target: Path) -> None:
        """Move a whole body to its place, before its row is written."""
        with self._directory(path.parent) as parent:
            # Its age counts from now on, not from its last byte: see `orphans.old_bodies`.
            os.utime(path.name, dir_fd=parent, follow_symlinks=False)
        try:
            self.rename(path, target)
        except FileNotFoundError:
            # This is the first body of its shard.
            self.make(target.parent)
            self.rename(path, target)

    def rename(self, path: Path, target: Path) -> None:
        """Move a file; it replaces one at `target`."""
        with self._directory(path.parent) as source, self._directory(target.parent) as destination:
            os.rename(path.name, target.name, src_dir_fd=source, dst_dir_fd=destination)

    def unlink_quietly(self, path: Path) -> None:
        """Remove a file, if it is there."""
        with contextlib.suppress(FileNotFoundError), self._directory(path.parent) as parent:
            os.unlink(path.name, dir_fd=parent)

    def remove_tree(self, path: Path) -> None:
        """Remove a folder and everything in it, as far as that can be done."""
        with contextlib.suppress(OSError), self._directory(path.parent) as parent:
            shutil.rmtree(path.name, ignore_errors=True, dir_fd=parent)

    def listing(self, path: Path) -> list[Path]:
        """Return what a folder holds; nothing if it is missing, not a folder, or a link."""
        try:
            with self._directory(path) as descriptor:
                return [path / name for name in os.listdir(descriptor)]  # noqa: PTH208 - of a descriptor
        except (FileNotFoundError, NotADirectoryError):
            return []

    def modified(self, path: Path) -> float:
        """Return when a file, or the link in its place, was last written, in Unix seconds."""
        with self._directory(path.parent) as parent:
            return os.stat(path.name, dir_fd=parent, follow_symlinks=False).st_mtime

    def refuse_links(self, *paths: Path) -> None:
        """Raise `OSError` if one of these files, which may be missing, is a link."""
        for path in paths:
            with contextlib.suppress(FileNotFoundError), self._directory(path.parent) as parent:
                # Not by opening it: closing a file ends the locks that this process has on it.
                if stat.S_ISLNK(os.stat(path.name, dir_fd=parent, follow_symlinks=False).st_mode):
                    raise OSError(errno.ELOOP, "a link is in the place of the index")

    @contextmanager
    def _directory(self, path: Path) -> Iterator[int]:
        """Give the descriptor of a folder at or below this one, open meanwhile."""
        descriptor = os.open(self.path, _DIRECTORY)
        try:
            for name in path.relative_to(self.path).parts:
                inner = os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = inner
            yield descriptor
        finally:
            os.close(descriptor)


def _require_own(descriptor: int, path: Path) -> None:
    if os.fstat(descriptor).st_uid != os.geteuid():
        message = f"{path} belongs to another user; use a folder of your own, or run as that user"
        raise SettingsError([SettingProblem("GATEWAY_CACHE_DIR", message)])
