"""The cache folder: its owner's alone, and nothing in it is reached through a link.

A user who can write there might put a link in the place of a file, and have the gateway write to, or serve, something
else. So each folder on the way is opened from the descriptor of the one before, and no link is
followed (`O_NOFOLLOW`). The path of the folder itself is the operator's, and may be a link. SQLite wants paths: those
of the index are looked at before they are handed over. All of it blocks.
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

from proxy.errors import SettingProblem, SettingsError

_log: Final = logging.getLogger("media_gateway.cache")

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


class Folder:
    """The cache folder at `path`. Paths that are given lie below it. Methods raise `OSError`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def prepare(self) -> None:
        """Make the folder where it is missing, and let nobody else in; raise `SettingsError` where it is another's."""
        missing = [place for place in (self.path, *self.path.parents) if not place.exists()]
        for place in reversed(missing):
            place.mkdir(mode=0o700, exist_ok=True)
        self._make_private(self.path)

    def require_own(self) -> None:
        """Raise `SettingsError` where the folder belongs to another user."""
        with self._directory(self.path) as descriptor:
            _require_own(descriptor, self.path)

    def make(self, path: Path) -> None:
        """Make a folder below this one, or let nobody else into the one that is there."""
        with self._directory(path.parent) as parent, contextlib.suppress(FileExistsError):
            os.mkdir(path.name, 0o700, dir_fd=parent)
        self._make_private(path)

    def _make_private(self, path: Path) -> None:
        with self._directory(path) as descriptor:
            _require_own(descriptor, path)
            mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
            if mode & _OTHERS:
                os.fchmod(descriptor, 0o700)
                # Kubernetes' fsGroup opens it at each mount.
                _log.warning("%s was open to other users (mode %04o); it is 0700 now", path, mode)

    def open(self, path: Path, flags: int, mode: int = 0o600) -> int:
        """Return the descriptor of a regular file, as `os.open` does."""
        with self._directory(path.parent) as parent:
            # A pipe in the place of a file would be waited for.
            extra = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = os.open(path.name, flags | extra, mode, dir_fd=parent)
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
        raise OSError(errno.EINVAL, "what should be a file is none")

    def place(self, path: Path, target: Path) -> None:
        """Move a whole file to where the index will look for it."""
        with self._directory(path.parent) as parent:
            # Its age counts from now on, not from its last byte: see `reclaiming.old_bodies`.
            os.utime(path.name, dir_fd=parent, follow_symlinks=False)
        try:
            self.rename(path, target)
        except FileNotFoundError:
            # The first body of its shard.
            self.make(target.parent)
            self.rename(path, target)

    def rename(self, path: Path, target: Path) -> None:
        """Move a file; one in the place of `target` goes."""
        with self._directory(path.parent) as source, self._directory(target.parent) as destination:
            os.rename(path.name, target.name, src_dir_fd=source, dst_dir_fd=destination)

    def unlink_quietly(self, path: Path) -> None:
        """Remove a file, if it is there."""
        with contextlib.suppress(FileNotFoundError), self._directory(path.parent) as parent:
            os.unlink(path.name, dir_fd=parent)

    def remove_tree(self, path: Path) -> None:
        """Remove a folder and what is in it, as far as that can be done."""
        with contextlib.suppress(OSError), self._directory(path.parent) as parent:
            shutil.rmtree(path.name, ignore_errors=True, dir_fd=parent)

    def listing(self, path: Path) -> list[Path]:
        """Return what lies in a folder; nothing where it is none, or a link."""
        try:
            with self._directory(path) as descriptor:
                return [path / name for name in os.listdir(descriptor)]  # noqa: PTH208 - of a descriptor
        except (FileNotFoundError, NotADirectoryError):
            return []

    def modified(self, path: Path) -> float:
        """Return when a file, or the link in its place, was written last, in Unix seconds."""
        with self._directory(path.parent) as parent:
            return os.stat(path.name, dir_fd=parent, follow_symlinks=False).st_mtime

    def refuse_links(self, *paths: Path) -> None:
        """Raise `OSError` where a link lies in the place of one of these files, which need not be there."""
        for path in paths:
            with contextlib.suppress(FileNotFoundError), self._directory(path.parent) as parent:
                # Not opened: closing a file ends the locks that this process has on it.
                if stat.S_ISLNK(os.stat(path.name, dir_fd=parent, follow_symlinks=False).st_mode):
                    raise OSError(errno.ELOOP, "a link lies in the place of the index")

    @contextmanager
    def _directory(self, path: Path) -> Iterator[int]:
        """Open a folder at or below this one, meanwhile."""
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
