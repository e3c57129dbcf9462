"""The demo: the sandbox upstream, the gateway in front of it, and the console, in one program and for one machine."""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
import shlex
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from proxy.clients import new_secret
from proxy.errors import SettingProblem, SettingsError
from proxy.processes.event_loop import until_signalled
from proxy.processes.service import serving_alone
from proxy.sandbox import Sandbox
from proxy.settings import load

_CLIENT: Final = "demo"
_LOOK_SECONDS: Final = 0.25
_CAUGHT: Final = re.compile(r"^SigCgt:\s*([0-9a-f]{1,32})$", re.MULTILINE)
_ENDING: Final = sum(1 << (number - 1) for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM))


async def run_demo(port: int, say: Callable[[str], None], parent: int | None = None) -> None:
    """Serve on loopback until SIGTERM or SIGINT, or until the process `parent` ends; `say` prints a line.

    Port 0 is any free one. Raises `SettingsError` if the port cannot be had.
    """
    stopped = asyncio.create_task(_until_told(parent))
    secret = new_secret()
    try:
        async with Sandbox() as sandbox:
            with tempfile.TemporaryDirectory(prefix="media-gateway-demo-") as folder:
                settings = load(
                    {
                        **sandbox.gateway_account,
                        "GATEWAY_LISTEN": f"127.0.0.1:{port}",
                        "GATEWAY_SIGNING_KEYS": f"demo:{secrets.token_urlsafe(32)}",
                        "GATEWAY_CLIENTS": f"{_CLIENT}:{secret}",
                        "GATEWAY_CACHE_DIR": folder,
                        "GATEWAY_CACHE_BYTES": "200MB",
                        "GATEWAY_DRAIN_SECONDS": "1",
                    },
                    None,
                )
                async with serving_alone(settings, open_console=True) as bound:
                    for line in _welcome(str(bound.public_url), secret, sandbox):
                        say(line)
                    await stopped
    except SettingsError as error:
        # All but the port is chosen here.
        message = "; ".join(problem.message for problem in error.problems)
        raise SettingsError([SettingProblem("PORT", f"{message}; try another one, such as PORT=8081")]) from error
    finally:
        stopped.cancel()


async def _until_told(parent: int | None) -> None:
    """Wait for a signal that ends the demo, or for the end of the parent."""
    async with asyncio.TaskGroup() as waits:
        signalled = waits.create_task(until_signalled())
        if parent is not None:
            ended = waits.create_task(_until_parent_ends(parent))
            await asyncio.wait({signalled, ended}, return_when=asyncio.FIRST_COMPLETED)
            signalled.cancel()
            ended.cancel()


async def _until_parent_ends(parent: int) -> None:
    """Wait until the parent has ended, or is about to.

    `make` passes SIGTERM on to its children. If SIGINT or SIGHUP comes to `make` alone, and not to its whole process
    group as from a terminal, it gives up its handler of that signal and then waits for its children, without a signal
    to them. SIGKILL leaves it no time for anything.
    """
    caught = await asyncio.to_thread(_caught, parent)
    while os.getppid() == parent and not caught & ~await asyncio.to_thread(_caught, parent):  # noqa: ASYNC110 - no event
        await asyncio.sleep(_LOOK_SECONDS)


def _caught(process: int) -> int:
    """Return the set of the signals that end a process and that it handles; an empty one if it cannot be read."""
    try:
        found = _CAUGHT.search(Path(f"/proc/{process}/status").read_text("ascii", "replace"))
    except OSError:
        return 0
    return 0 if found is None else int(found[1], 16) & _ENDING


def _welcome(url: str, secret: str, sandbox: Sandbox) -> list[str]:
    media = next(media for message in sandbox.messages for media in message.media)
    ref = media.ref
    asked = {
        "media": [
            {"account_sid": str(ref.account), "message_sid": str(ref.message), "media_sid": str(ref.media)},
        ]
    }
    command = [
        "curl", "-s", "-u", f"{_CLIENT}:{secret}", "-H", "Content-Type: application/json",
        "-d", json.dumps(asked), f"{url}/links",
    ]  # fmt: skip
    return [
        "",
        "The media gateway runs, in front of a sandbox that stands in for the provider. All of it is on this machine.",
        "",
        f"Console:      {url}/console",
        f"Sandbox API:  {sandbox.api_url}",
        "",
        "Mint a link, as your backend would:",
        "",
        f"  {shlex.join(command)}",
        "",
        'The "url" in the answer opens the media for five minutes, in a browser or with curl.',
        "",
        "Ctrl-C ends everything.",
    ]
