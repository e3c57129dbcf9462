"""An origin whose answers a test writes and whose bytes it lets go one by one, and a clock that it holds."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from proxy.errors import GatewayError
from proxy.model import MediaRef
from proxy.origin import OriginHead
from proxy.semantics.fields import Fields
from proxy.semantics.stored import Validators

REF = MediaRef.parse("AC" + "a" * 32, "MM" + "b" * 32, "ME" + "c" * 32)
NOTHING = Fields()


@dataclass
class HeldClock:
    """A clock that stands still until moved, and is earlier than the time of any file, so that no file is old."""

    now: float = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Script:
    """One answer: a status, fields and chunks; an exception among the chunks ends it."""

    status: int = 200
    fields: Sequence[tuple[str, str]] = (("Content-Type", "image/jpeg"), ("ETag", '"one"'))
    chunks: Sequence[bytes | Exception] = (b"0123456789",)
    length: int | None = 10
    coded: bool = False
    error: GatewayError | None = None
    head_gate: asyncio.Event | None = None
    chunk_gate: asyncio.Semaphore | None = None
    left: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the engine has left the answer."""


class ScriptedAnswer:
    def __init__(self, script: Script, now: float) -> None:
        self._script = script
        length = script.length if script.status == 200 else None
        self.head = OriginHead(script.status, Fields(tuple(script.fields)), length, now, now, script.coded)

    async def chunks(self) -> AsyncIterator[bytes]:
        for chunk in self._script.chunks:
            if self._script.chunk_gate is not None:
                await self._script.chunk_gate.acquire()
            if isinstance(chunk, Exception):
                raise chunk
            yield chunk


class ScriptedOrigin:
    """An origin that plays one script for each request, and the last one again and again."""

    def __init__(self, clock: HeldClock, *scripts: Script) -> None:
        self._clock = clock
        self._scripts = deque(scripts)
        self.asked: list[Validators | None] = []
        self.arrived = asyncio.Event()

    def then(self, *scripts: Script) -> None:
        """Play these from the next request on."""
        self._scripts = deque(scripts)

    @asynccontextmanager
    async def open(
        self, ref: MediaRef, validators: Validators | None = None, *, young: bool = False
    ) -> AsyncIterator[ScriptedAnswer]:
        self.asked.append(validators)
        self.arrived.set()
        script = self._scripts.popleft() if len(self._scripts) > 1 else self._scripts[0]
        try:
            if script.head_gate is not None:
                await script.head_gate.wait()
            if script.error is not None:
                raise script.error
            yield ScriptedAnswer(script, self._clock())
        finally:
            script.left.set()
