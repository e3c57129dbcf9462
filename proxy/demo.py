"""The demo: the sandbox upstream, the gateway in front of it, and the console, in one program and for one machine."""

from __future__ import annotations

import asyncio
import json
import secrets
import shlex
import tempfile
from collections.abc import Callable
from typing import Final

from proxy.clients import new_secret
from proxy.errors import SettingProblem, SettingsError
from proxy.sandbox import Sandbox
from proxy.sandbox.fronting import gateway_account
from proxy.server.running import running, until_signalled
from proxy.settings import load

_CLIENT: Final = "demo"


async def run_demo(port: int, say: Callable[[str], None]) -> None:
    """Serve on loopback until SIGTERM or SIGINT; `say` prints a line. Port 0 is any free one.

    Raises `SettingsError` where the port cannot be had.
    """
    stopped = asyncio.create_task(until_signalled())
    secret = new_secret()
    try:
        async with Sandbox() as sandbox:
            with tempfile.TemporaryDirectory(prefix="media-gateway-demo-") as folder:
                settings = load(
                    {
                        **gateway_account(sandbox),
                        "GATEWAY_LISTEN": f"127.0.0.1:{port}",
                        "GATEWAY_SIGNING_KEYS": f"demo:{secrets.token_urlsafe(32)}",
                        "GATEWAY_CLIENTS": f"{_CLIENT}:{secret}",
                        "GATEWAY_CACHE_DIR": folder,
                        "GATEWAY_CACHE_BYTES": "200MB",
                        "GATEWAY_DRAIN_SECONDS": "1",
                    },
                    None,
                )
                async with running(settings, open_console=True) as bound:
                    for line in _welcome(str(bound.public_url), secret, sandbox):
                        say(line)
                    await stopped
    except SettingsError as error:
        # All but the port is chosen here.
        message = "; ".join(problem.message for problem in error.problems)
        raise SettingsError([SettingProblem("PORT", f"{message}; try another one, such as PORT=8081")]) from error
    finally:
        stopped.cancel()


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
