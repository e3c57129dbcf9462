"""The folder of a sandbox: one process at a time, a file for each body, named by its content.

Every call blocks for a moment and belongs on the storage's own thread.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Final

from proxy.cache.disk.files import unlink_quietly, write_new
from proxy.cache.disk.orphans import listing, make_private
from proxy.errors import SettingProblem, SettingsError
from proxy.sandbox.messages import StoredBody

DATABASE: Final = "messages.sqlite3"
_LOCK: Final = "lock"
_BODIES: Final = "bodies"
_OURS: Final = frozenset({DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm", f"{DATABASE}-journal", _LOCK, _BODIES})
_BODY: Final = re.compile(r"[0-9a-f]{64}|new-[0-9a-f]{16}", re.ASCII)


def unusable(fact: str) -> SettingsError:
    """The error of a folder that cannot be used."""
    return SettingsError([SettingProblem("folder", fact)])


class Folder:
    """A folder that is held from `open` to `close`: the given one, or a temporary one that `close` removes."""

    def __init__(self, path: Path | None) -> None:
        self._given = path
        self._path: Path | None = None
        self._lock = -1

    @property
    def database(self) -> Path:
        """The file of the messages."""
        return self._open_path / DATABASE

    @property
    def _open_path(self) -> Path:
        assert self._path is not None, "the folder is used while it is open"
        return self._path

    def open(self) -> None:
        """Make what is missing and take the lock. Raises `SettingsError` where the folder cannot be used."""
        try:
            self._path = self._given or Path(tempfile.mkdtemp(prefix="media-gateway-sandbox-"))
            self._prepare(self._path)
        except NotADirectoryError as error:
            raise unusable("is no folder") from error
        except OSError as error:
            raise unusable(f"cannot be written to: {error.strerror}") from error

    def _prepare(self, path: Path) -> None:
        make_private(path)
        if not path.is_dir():
            raise unusable("is no folder")
        names = {entry.name for entry in path.iterdir()}
        if DATABASE not in names and names - _OURS:
            raise unusable("is not empty, and holds no sandbox")
        self._lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise unusable("is in use by another sandbox") from error
        path.chmod(0o700)
        (path / _BODIES).mkdir(mode=0o700, exist_ok=True)
        # SQLite gives its other files the mode of the database.
        os.close(os.open(self.database, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))

    def close(self) -> None:
        """Give the folder back; nothing where `open` never ran."""
        if self._path is not None and self._given is None:
            shutil.rmtree(self._path, ignore_errors=True)
        descriptor, self._lock = self._lock, -1
        if descriptor >= 0:
            os.close(descriptor)

    def body(self, sha256: str, size: int) -> StoredBody:
        """Where a body of that content lies."""
        return StoredBody(self._open_path / _BODIES / sha256, size, sha256)

    def write(self, octets: bytes) -> tuple[StoredBody, bool]:
        """A file of that content, and whether it is new. Until a row names it, the next start removes it."""
        body = self.body(hashlib.sha256(octets).hexdigest(), len(octets))
        if self.has(body):
            return body, False
        new = body.path.with_name(f"new-{secrets.token_hex(8)}")
        write_new(new, octets)
        new.rename(body.path)
        return body, True

    def has(self, body: StoredBody) -> bool:
        """Whether the file is there, of its length."""
        with contextlib.suppress(FileNotFoundError):
            return body.path.stat().st_size == body.size
        return False

    def remove(self, body: StoredBody) -> None:
        """Remove a body that no row names any more."""
        unlink_quietly(body.path)

    def sweep(self, named: Collection[str]) -> None:
        """Remove the bodies whose names no row has: what was written, and never committed."""
        for path in listing(self._open_path / _BODIES):
            if _BODY.fullmatch(path.name) and path.name not in named:
                path.unlink()
