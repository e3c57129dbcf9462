"""The workers as the supervisor knows them: a pool under one reading of the settings, with a slot for each."""

from __future__ import annotations

import enum
import socket
import time
from dataclasses import dataclass, field
from typing import Final

from proxy.errors import SettingProblem
from proxy.processes.orders import PendingChanges
from proxy.settings import Settings

_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 10.0
_STEADY_SECONDS: Final = 60.0
"""Life after which a worker is replaced as if none had died before it."""
_START_SECONDS: Final = 60.0
_SPARE_SECONDS: Final = 15.0
"""Time beyond that for draining in which a worker stores what has come, closes and ends."""


def pause_after(deaths: int) -> float:
    """Return the seconds to wait before a worker is started in a slot where so many have died in a row."""
    return min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(deaths, 32))


class Stage(enum.Enum):
    """Stages of a worker's life, in their order."""

    STARTING = enum.auto()
    SERVING = enum.auto()
    LEAVING = enum.auto()


@dataclass(eq=False, slots=True)
class Worker:
    """A process: its number, its row of counters, and the line to it. It is killed at the `deadline`.

    `pending` are changes of the accounts, and `unsent` octets, that its line has not taken yet. `said` are the bytes of
    a report that has not come whole, `problems` those that it reported with its settings. It `accepts` connections
    until it reports that it does not. Times are of the monotonic clock.
    """

    pid: int
    row: int
    line: socket.socket
    slot: Slot
    began: float = field(default_factory=time.monotonic)
    stage: Stage = Stage.STARTING
    deadline: float | None = None
    accepts: bool = True
    said: bytearray = field(default_factory=bytearray)
    pending: PendingChanges = field(default_factory=PendingChanges)
    unsent: bytearray = field(default_factory=bytearray)
    problems: list[SettingProblem] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.deadline = self.began + _START_SECONDS

    def mark_serving(self) -> None:
        """Note that the worker has reported that it serves."""
        self.stage, self.deadline = Stage.SERVING, None

    def mark_leaving(self) -> None:
        """Note that the worker was ordered to leave; from now on its time is limited."""
        self.stage = Stage.LEAVING
        self.deadline = time.monotonic() + self.slot.pool.settings.drain_seconds + _SPARE_SECONDS


@dataclass(eq=False, slots=True)
class Slot:
    """Room for one worker of a pool; empty, it has one started when `due`, after so many `deaths` in a row."""

    pool: WorkerPool
    worker: Worker | None = None
    due: float | None = None
    deaths: int = 0

    def vacate(self) -> None:
        """Empty the slot, whose worker has ended, and have another one started after a pause."""
        now = time.monotonic()
        if self.worker is not None and now - self.worker.began >= _STEADY_SECONDS:
            self.deaths = 0
        self.worker, self.due = None, now + pause_after(self.deaths)
        self.deaths += 1


@dataclass(eq=False, slots=True)
class WorkerPool:
    """Workers under the same settings."""

    settings: Settings
    slots: list[Slot] = field(default_factory=list)

    @classmethod
    def of(cls, settings: Settings, workers: int) -> WorkerPool:
        """Make a pool for so many workers, with no worker yet."""
        pool = cls(settings)
        pool.slots = [Slot(pool) for _ in range(workers)]
        return pool

    @property
    def serves(self) -> bool:
        """Return whether every one of its workers serves."""
        return all(slot.worker is not None and slot.worker.stage is Stage.SERVING for slot in self.slots)

    @property
    def accepts(self) -> bool:
        """Return whether one of its workers still accepts connections."""
        return any(slot.worker is not None and slot.worker.accepts for slot in self.slots)

    @property
    def deaths(self) -> int:
        """Deaths in all slots together."""
        return sum(slot.deaths for slot in self.slots)
