"""The folder of a sandbox: one process at a time, a file for each body, named by its content.

Every call blocks for a moment and belongs on the storage's own thread.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Final

from proxy.errors import SettingProblem, SettingsError

DATABASE: Final = "messages.sqlite3"
_LOCK: Final = "lock"
_BODIES: Final = "bodies"
_OURS: Final = frozenset({DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm", f"{DATABASE}-journal", _LOCK, _BODIES})
_BODY: Final = re.compile(r"[0-9a-f]{64}|new-[0-9a-z_]+", re.ASCII)


def unusable(fact: str) -> SettingsError:
    """Make the error of a folder that cannot be used."""
    return SettingsError([SettingProblem("folder", fact)])


class MessageFolder:
    """A folder that is held from `open` to `close`: the given one, or a temporary one that `close` removes."""

    def __init__(self, path: Path | None) -> None:
        self._given = path
        self._path: Path | None = None
        self._lock = -1

    @property
    def database(self) -> Path:
        """The file of the messages."""
        return self._held / DATABASE

    @property
    def _bodies(self) -> Path:
        return self._held / _BODIES

    @property
    def _held(self) -> Path:
        assert self._path is not None, "the folder is used while it is open"
        return self._path

    def open(self) -> None:
        """Make what is missing and take the lock. Raises `SettingsError` if the folder cannot be used."""
        try:
            self._path = self._given or Path(tempfile.mkdtemp(prefix="media-gateway-sandbox-"))
            self._prepare(self._path)
        except (FileExistsError, NotADirectoryError) as error:
            raise unusable("is not a folder") from error
        except OSError as error:
            raise unusable(f"cannot be written to: {error.strerror}") from error

    def _prepare(self, path: Path) -> None:
        path.mkdir(0o700, parents=True, exist_ok=True)
        names = {entry.name for entry in path.iterdir()}
        if DATABASE not in names and names - _OURS:
            raise unusable("is not empty, and does not hold a sandbox")
        self._lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise unusable("is in use by another sandbox") from error
        path.chmod(0o700)
        self._bodies.mkdir(0o700, exist_ok=True)
        # SQLite gives its other files the mode of the database.
        self.database.touch(0o600)

    def close(self) -> None:
        """Give the folder back, if `open` ran."""
        if self._path is not None and self._given is None:
            shutil.rmtree(self._path, ignore_errors=True)
        descriptor, self._lock = self._lock, -1
        if descriptor >= 0:
            os.close(descriptor)

    def body(self, sha256: str) -> Path:
        """Return the file of a body with that content."""
        return self._bodies / sha256

    def write(self, octets: bytes) -> tuple[str, bool]:
        """Write a body; return its SHA-256 and whether its file is new. The next start removes what no row names."""
        sha256 = hashlib.sha256(octets).hexdigest()
        if self.has(sha256, len(octets)):
            return sha256, False
        descriptor, written = tempfile.mkstemp(prefix="new-", dir=self._bodies)
        new = Path(written)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(octets)
            new.rename(self.body(sha256))
        except OSError:
            new.unlink(missing_ok=True)
            raise
        return sha256, True

    def has(self, sha256: str, size: int) -> bool:
        """Return whether the file of a body is there, with that many octets."""
        try:
            return self.body(sha256).stat().st_size == size
        except FileNotFoundError:
            return False

    def remove(self, sha256: str) -> None:
        """Remove a body that no row names any more."""
        self.body(sha256).unlink(missing_ok=True)

    def sweep(self, named: Collection[str]) -> None:
        """Remove the bodies that no row names: what was written and never committed."""
        for path in self._bodies.iterdir():
            if _BODY.fullmatch(path.name) and path.name not in named:
                path.unlink()
