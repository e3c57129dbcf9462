"""The watch over the folder of accounts: what has changed is logged, and told to the workers."""

from __future__ import annotations

import logging
import time
from typing import Final

from proxy.errors import SettingProblem
from proxy.processes.orders import AccountChange
from proxy.settings import AccountsFolder
from proxy.settings.accounts_folder import Look

_log: Final = logging.getLogger("media_gateway.server")

_PAUSE_SECONDS: Final = 1.0
_LONGEST_PAUSE_SECONDS: Final = 5.0
_SHARE: Final = 0.05
"""Share of a processor's time that looking may take: a folder of very many files is looked at less often."""
_NAMED: Final = 20
"""Problems of one look that are logged; of more, only their number is."""


class FolderWatch:
    """A watch over a folder; `due` is the moment of the monotonic clock for the next look."""

    def __init__(self, folder: AccountsFolder) -> None:
        self._folder = folder
        self.due = time.monotonic()

    def look(self) -> AccountChange | None:
        """Look now, and return the accounts that have changed, if any have."""
        began = time.process_time()
        seen = self._folder.look()
        # Only a look that finds nothing is typical: reading what has changed takes longer.
        spent = time.process_time() - began if seen == Look() else 0.0
        self.due = time.monotonic() + min(max(_PAUSE_SECONDS, spent / _SHARE), _LONGEST_PAUSE_SECONDS)
        log_problems(seen.problems)
        for name in seen.mended[:_NAMED]:
            _log.info("%s is good again", name)
        log_exposed(seen.exposed)
        if not (seen.come or seen.gone):
            return None
        _log.info("accounts: %s new or changed, %s gone", len(seen.come), len(seen.gone))
        return AccountChange(seen.come, seen.gone)


def log_folder(folder: AccountsFolder | None) -> None:
    """Log everything that is wrong with a folder that was just opened."""
    if folder is not None:
        log_problems(folder.problems)
        log_exposed(folder.exposed)


def log_problems(problems: tuple[SettingProblem, ...]) -> None:
    """Log what is wrong with files, each by its name."""
    for problem in problems[:_NAMED]:
        _log.error("%s: %s; the account that the file had before, if any, is kept", problem.name, problem.message)
    if len(problems) > _NAMED:
        _log.error("%s more files of accounts cannot be used; `media-gateway check` names them", len(problems) - _NAMED)


def log_exposed(names: tuple[str, ...]) -> None:
    """Warn about files that other users may read."""
    if names:
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        _log.warning("%s%s in the folder of accounts may be read by other users; chmod o-r is safer", names[0], more)
