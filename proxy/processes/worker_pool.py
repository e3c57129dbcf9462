"""The workers as the supervisor knows them: a generation under one reading of the settings, with a place for each."""

from __future__ import annotations

import enum
import socket
import time
from dataclasses import dataclass, field
from typing import Final

from proxy.errors import SettingProblem
from proxy.processes.account_changes import Untold
from proxy.settings import Settings

_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 10.0
_STEADY_SECONDS: Final = 60.0
"""A worker that has lived for so long is replaced as if none had died before it."""
_START_SECONDS: Final = 60.0
_SPARE_SECONDS: Final = 15.0
"""What a worker is given beyond the time for draining: to store what has come, to close, to end."""


def pause_after(deaths: int) -> float:
    """Seconds to wait before a worker is started in a place where so many have died in a row."""
    return min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(deaths, 32))


class Stage(enum.Enum):
    """Of a worker's life."""

    STARTING = enum.auto()
    SERVING = enum.auto()
    LEAVING = enum.auto()


@dataclass(eq=False, slots=True)
class Worker:
    """A process: its number, its row of cells, the line to it. At the `deadline` it is killed.

    `untold` are changes of the accounts, `unsent` the octets for it that its line has not taken yet.
    `said` are the bytes of a report that has not come whole; `problems` those that it reported with its settings. It
    `accepts` connections until it reports that it does not. Times are of the monotonic clock.
    """

    pid: int
    row: int
    line: socket.socket
    place: Place
    began: float = field(default_factory=time.monotonic)
    stage: Stage = Stage.STARTING
    deadline: float | None = None
    accepts: bool = True
    said: bytearray = field(default_factory=bytearray)
    untold: Untold = field(default_factory=Untold)
    unsent: bytearray = field(default_factory=bytearray)
    problems: list[SettingProblem] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.deadline = self.began + _START_SECONDS

    def serves(self) -> None:
        """It has said so."""
        self.stage, self.deadline = Stage.SERVING, None

    def leaves(self) -> None:
        """It has been told to; its time runs."""
        self.stage = Stage.LEAVING
        self.deadline = time.monotonic() + self.place.generation.settings.drain_seconds + _SPARE_SECONDS


@dataclass(eq=False, slots=True)
class Place:
    """Where one worker of a generation is, or is `due` to be started; `deaths` in a row before that."""

    generation: Generation
    worker: Worker | None = None
    due: float | None = None
    deaths: int = 0

    def vacate(self) -> None:
        """Its worker has gone, and another one is to come after a pause."""
        now = time.monotonic()
        if self.worker is not None and now - self.worker.began >= _STEADY_SECONDS:
            self.deaths = 0
        self.worker, self.due = None, now + pause_after(self.deaths)
        self.deaths += 1


@dataclass(eq=False, slots=True)
class Generation:
    """Workers under the same settings."""

    settings: Settings
    places: list[Place] = field(default_factory=list)

    @classmethod
    def of(cls, settings: Settings, workers: int) -> Generation:
        """With so many places, all of them empty."""
        generation = cls(settings)
        generation.places = [Place(generation) for _ in range(workers)]
        return generation

    @property
    def serves(self) -> bool:
        """Whether every one of its workers does."""
        return all(place.worker is not None and place.worker.stage is Stage.SERVING for place in self.places)

    @property
    def accepts(self) -> bool:
        """Whether one of its workers still takes connections."""
        return any(place.worker is not None and place.worker.accepts for place in self.places)

    @property
    def deaths(self) -> int:
        """Of all places together."""
        return sum(place.deaths for place in self.places)
