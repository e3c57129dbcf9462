"""A folder of accounts: one TOML file for each, looked at again and again while the gateway serves.

1. A file is read when it is new, or when its inode, size or times have changed, or those of its `password_file`. Any
   other file costs a `stat` at each look. Links are followed, so that the exchange of a whole Kubernetes volume
   (`..data`) is seen as a change of each file.
2. A file that cannot be used keeps the account that it had, if it had one. It is a problem under its own name, and does
   not concern other files.
3. A file that is gone takes its account with it. So does a link that leads nowhere: a key that is removed from a
   Kubernetes volume is one for a moment. A folder that cannot be read takes nothing.
4. An account is configured in one place. A second file with it, or one beside the other settings, is a problem that
   names both places. The first place keeps the account; when it goes, the file that waits takes over. The same holds
   for the one account of a provider that has subaccounts.
"""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, Self

from proxy.errors import SettingProblem, SettingsError
from proxy.model import AccountSid, Provider
from proxy.settings.accounts import MAX_ACCOUNTS, AccountSettings, Configured, one_parent
from proxy.settings.secret_files import others_may_write

MAX_FILE_BYTES: Final = 65_536
_SUFFIX: Final = ".toml"
_FOLDER: Final = "GATEWAY_ACCOUNTS_DIR"

_Stamp = tuple[int, ...]
"""Stamp that changes when a file does: mode, group, device, inode, size and times; empty without a file."""

Parse = Callable[[str, Mapping[str, object]], tuple[AccountSettings | None, tuple[SettingProblem, ...]]]
"""Reader of a table's account, or of the problems with it, in whose names the text stands before each key."""


class Look(NamedTuple):
    """Changes since the look before.

    Accounts that are new or have changed have `come`. `problems` are new ones. `mended` are the names of files that can
    be used again, `exposed` those of files that were read and that other users may read.
    """

    come: tuple[AccountSettings, ...] = ()
    gone: tuple[AccountSid, ...] = ()
    problems: tuple[SettingProblem, ...] = ()
    mended: tuple[str, ...] = ()
    exposed: tuple[str, ...] = ()


@dataclass(slots=True)
class _File:
    """A file as it was read last.

    `good` is the account that is served, `waiting` one that was read and has not replaced it. `beside` is the path of
    its `password_file`.
    """

    stamp: _Stamp
    good: AccountSettings | None = None
    waiting: AccountSettings | None = None
    problems: tuple[SettingProblem, ...] = ()
    beside: Path | None = None
    beside_stamp: _Stamp = ()
    exposed: bool = False


class AccountsFolder:
    """The accounts of a folder, as they were at the last look."""

    def __init__(self, path: Path, configured: Configured, parse: Parse) -> None:
        self.path = path
        self._parse = parse
        self._configured = configured
        self._most = max(0, MAX_ACCOUNTS - len(configured.accounts))
        self._files: dict[str, _File] = {}
        self._accounts: dict[AccountSid, AccountSettings] = {}
        self._own_problem: SettingProblem | None = None

    @classmethod
    def open(cls, path: Path, configured: Configured, parse: Parse, before: AccountsFolder | None = None) -> Self:
        """Look for the first time. A file that cannot be used keeps the account that it had in `before`.

        Raises `SettingsError` if the folder cannot be read.
        """
        folder = cls(path, configured, parse)
        if before is not None and before.path == path:
            # No file has this stamp, so that each one is read.
            folder._files = {name: _File((), good=file.good) for name, file in before._files.items()}
        folder.look()
        if folder._own_problem is not None and not folder._files:
            raise SettingsError([folder._own_problem])
        return folder

    @property
    def accounts(self) -> tuple[AccountSettings, ...]:
        """The accounts of the folder that are served."""
        return tuple(self._accounts.values())

    @property
    def everyone(self) -> tuple[AccountSettings, ...]:
        """Return the folder's accounts and those of the other settings."""
        return (*(found.account for found in self._configured.accounts.values()), *self._accounts.values())

    @property
    def problems(self) -> tuple[SettingProblem, ...]:
        """All problems that there are now, each under the name of its file."""
        own = () if self._own_problem is None else (self._own_problem,)
        return (*own, *(problem for _, file in sorted(self._files.items()) for problem in file.problems))

    @property
    def exposed(self) -> tuple[str, ...]:
        """The names of files that other users may read."""
        return tuple(sorted(name for name, file in self._files.items() if file.exposed))

    def look(self) -> Look:
        """Look again, take over what has changed, and return it. Reads from the disk."""
        before = self._own_problem
        try:
            listed = self._list()
        except OSError as error:
            self._own_problem = SettingProblem(_FOLDER, f"the folder cannot be read: {error.strerror}")
            return Look(problems=() if before == self._own_problem else (self._own_problem,))
        problems = [] if self._own_problem in (None, before) else [self._own_problem]
        had = {name: self._files[name].problems for name in self._files if self._files[name].problems}
        vanished = self._files.keys() - listed.keys()
        for name in vanished:
            del self._files[name]
        changed = [name for name, stamp in sorted(listed.items()) if self._is_changed(name, stamp)]
        read = [name for name in changed if self._read(name, listed[name])]
        back = () if before is None or self._own_problem is not None else (_FOLDER,)
        if not (read or vanished):
            return Look(problems=tuple(problems), mended=back)
        self._settle()
        accounts = {file.good.sid: file.good for file in self._files.values() if file.good is not None}
        known, self._accounts = self._accounts, accounts
        now = {name: file.problems for name, file in self._files.items()}
        return Look(
            come=tuple(account for sid, account in accounts.items() if _differs(known.get(sid), account)),
            gone=tuple(sid for sid in known if sid not in accounts),
            problems=(*problems, *(one for name in sorted(now) if now[name] != had.get(name, ()) for one in now[name])),
            mended=(*back, *(shown(name) for name in sorted(had) if now.get(name) == ())),
            exposed=tuple(shown(name) for name in read if name in self._files and self._files[name].exposed),
        )

    # --- looking ---

    def _list(self) -> dict[str, _Stamp]:
        """List the names of the files with their stamps. Raises `OSError`."""
        found: dict[str, _Stamp] = {}
        with os.scandir(self.path) as entries:
            for entry in entries:
                # Names that begin with a dot belong to editors and to Kubernetes.
                if entry.name.endswith(_SUFFIX) and not entry.name.startswith("."):
                    try:
                        found[entry.name] = _stamp(entry.stat())
                    except FileNotFoundError:
                        continue
                    except OSError:
                        # Reading it will tell why it cannot be used.
                        found[entry.name] = ()
        self._own_problem = None
        if len(found) > self._most:
            self._own_problem = SettingProblem(
                _FOLDER, f"the folder holds more than {self._most} files; those that came last are left out"
            )
            known = [name for name in found if name in self._files][: self._most]
            new = sorted(found.keys() - self._files.keys())
            found = {name: found[name] for name in (*known, *new[: self._most - len(known)])}
        return found

    def _is_changed(self, name: str, stamp: _Stamp) -> bool:
        file = self._files.get(name)
        return file is None or file.stamp != stamp or file.beside_stamp != _stamp_at(file.beside)

    def _read(self, name: str, stamp: _Stamp) -> bool:
        """Read a file and note its contents; return whether there was such a file."""
        file = self._files.get(name)
        known = file or _File(())
        # A file that is replaced meanwhile has another stamp at the next look.
        known.stamp = stamp
        known.waiting, known.beside, known.beside_stamp, known.exposed = None, None, (), False
        problems: tuple[SettingProblem, ...] = ()
        try:
            known.stamp, content = _content(self.path / name)
            table = tomllib.loads(content.decode())
            known.beside = _beside(table)
            known.beside_stamp = _stamp_at(known.beside)
            # Whether the file beside it is exposed is told where that is read.
            known.exposed = known.beside is None and bool(known.stamp[0] & stat.S_IROTH)
            if known.beside_stamp:
                _require_sound(known.beside_stamp, "the file that password_file names ")
            known.waiting, problems = self._parse(f"{shown(name)}: ", table)
        except FileNotFoundError:
            # It is gone since it was listed: the next look will see that.
            return file is not None
        except OSError as error:
            problems = (SettingProblem(shown(name), f"cannot be read: {error.strerror}"),)
        except UnicodeDecodeError:
            problems = (SettingProblem(shown(name), "is not UTF-8"),)
        except tomllib.TOMLDecodeError as error:
            problems = (SettingProblem(shown(name), f"is not TOML: {error}"),)
        except RecursionError:
            problems = (SettingProblem(shown(name), "is not the TOML of an account"),)
        except ValueError as error:
            problems = (SettingProblem(shown(name), str(error)),)
        known.problems = problems
        self._files[name] = known
        return True

    # --- which account stands where ---

    def _settle(self) -> None:
        """Let each file that waits have its account, if no other place has it."""
        waiting = sorted(name for name, file in self._files.items() if file.waiting is not None)
        holders = {file.good.sid: name for name, file in self._files.items() if file.good is not None}
        parents = {
            file.good.provider: name
            for name, file in self._files.items()
            if file.good is not None and file.good.subaccounts
        }
        # First all of them let go, so that two files may exchange their accounts.
        for name in waiting:
            good = self._files[name].good
            if good is not None:
                del holders[good.sid]
                if good.subaccounts:
                    del parents[good.provider]
        for name in waiting:
            file = self._files[name]
            assert file.waiting is not None, "it waits"
            problem = self._conflict(name, file.waiting, holders, parents)
            if problem is None:
                file.good, file.waiting, file.problems = file.waiting, None, ()
                _hold(name, file.good, holders, parents)
            else:
                file.problems = (problem,)
        for name in waiting:
            file = self._files[name]
            if file.waiting is not None and file.good is not None:
                if self._conflict(name, file.good, holders, parents) is None:
                    _hold(name, file.good, holders, parents)
                else:
                    file.good = None

    def _conflict(
        self,
        name: str,
        account: AccountSettings,
        holders: Mapping[AccountSid, str],
        parents: Mapping[Provider, str],
    ) -> SettingProblem | None:
        """Return the problem of an account that another place has already, or None."""
        elsewhere = self._configured.accounts.get(account.sid)
        place = (
            elsewhere.name if elsewhere is not None else shown(holders[account.sid]) if account.sid in holders else ""
        )
        if place:
            return SettingProblem(
                f"{shown(name)}: account_sid", f"this account is configured twice, here and at {place}"
            )
        if account.subaccounts:
            parent = self._configured.parents.get(account.provider)
            other = parents.get(account.provider)
            place = parent.of_subaccounts if parent is not None else shown(other) if other is not None else ""
        if place:
            return SettingProblem(f"{shown(name)}: subaccounts", one_parent(place))
        return None


def _hold(name: str, account: AccountSettings, holders: dict[AccountSid, str], parents: dict[Provider, str]) -> None:
    holders[account.sid] = name
    if account.subaccounts:
        parents[account.provider] = name


def _differs(known: AccountSettings | None, account: AccountSettings) -> bool:
    # An account that was not read again is the same object, which is faster to see than to compare.
    return known is not account and known != account


# --- files ----------------------------------------------------------------------------------------------------


def shown(name: str) -> str:
    """Return a file's name in a form that may stand in a line of the log."""
    return name if name.isprintable() else ascii(name)


def _stamp(status: os.stat_result) -> _Stamp:
    return (
        status.st_mode,
        status.st_gid,
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )


def _stamp_at(path: Path | None) -> _Stamp:
    try:
        return () if path is None else _stamp(path.stat())
    except (OSError, ValueError):
        return ()


def _beside(table: Mapping[str, object]) -> Path | None:
    written = table.get("password_file")
    return Path(written.strip()) if isinstance(written, str) and written.strip() else None


def _content(path: Path) -> tuple[_Stamp, bytes]:
    """Return the contents of a file, with its stamp from before they were read.

    Raises `OSError`, and `ValueError` if the file is unsound or too large.
    """
    # Without O_NONBLOCK, opening a pipe would wait for its writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        stamp = _stamp(os.fstat(descriptor))
        _require_sound(stamp, "")
        content = os.read(descriptor, MAX_FILE_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(content) > MAX_FILE_BYTES:
        raise ValueError(f"is larger than {MAX_FILE_BYTES} bytes")
    return stamp, content


def _require_sound(stamp: _Stamp, what: str) -> None:
    """Raise `ValueError` unless the stamp is that of a regular file to which other users may not write."""
    mode, group, *_ = stamp
    if not stat.S_ISREG(mode):
        raise ValueError(f"{what}is not a regular file")
    if others_may_write(mode, group):
        raise ValueError(f"{what}may be written by other users")
