"""The loop that runs the gateway."""

from __future__ import annotations

import asyncio
import sys

import pytest
import uvloop

from proxy.errors import SettingsError
from proxy.processes.event_loop import run
from proxy.settings import EventLoop


async def _module() -> str:
    return type(asyncio.get_running_loop()).__module__.partition(".")[0]


@pytest.mark.parametrize(
    ("loop", "module"), [(EventLoop.ASYNCIO, "asyncio"), (EventLoop.UVLOOP, uvloop.__name__), (None, uvloop.__name__)]
)
def test_the_loop_is_uvloop_unless_another_is_asked_for(loop: EventLoop | None, module: str) -> None:
    assert run(_module, loop) == module


def test_without_uvloop_asyncio_s_runs_unless_uvloop_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert run(_module, None) == "asyncio"
    with pytest.raises(SettingsError) as caught:
        run(_module, EventLoop.UVLOOP)
    assert [problem.name for problem in caught.value.problems] == ["GATEWAY_LOOP"]
