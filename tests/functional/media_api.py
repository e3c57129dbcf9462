"""The Media resource as a provider's library asks for it: paths, clients, and the two providers' sandboxes."""

from __future__ import annotations

from pathlib import Path

from aiohttp import encode_basic_auth

from proxy.model import MediaRef, MessageRef
from proxy.sandbox import Media, Sandbox
from tests.functional.configuring import OTHER, account_table, client_table, write_config
from tests.functional.harness import CLIENT, Gateways, Reply, RunningGateway

LAML = "/api/laml/2010-04-01"
PLAIN = "/2010-04-01"
UNKNOWN = "AC" + "0f" * 16
READER, ERASER, STRANGER, MINTER = (
    ("reader", "r" * 40), ("eraser", "e" * 40), ("stranger", "x" * 40), ("minter", "m" * 40),
)  # fmt: skip
"""Clients: of the sandbox's account, that may read or delete alone; of the other account; and one that only mints."""


def list_path(
    ref: MediaRef | MessageRef, suffix: str = ".json", *, prefix: str = PLAIN, folder: str = "Messages"
) -> str:
    return f"{prefix}/Accounts/{ref.account}/{folder}/{ref.message}/Media{suffix}"


def path(media: Media | MediaRef, suffix: str = "", *, prefix: str = PLAIN, folder: str = "Messages") -> str:
    ref = media if isinstance(media, MediaRef) else media.ref
    return list_path(ref, f"/{ref.media}{suffix}", prefix=prefix, folder=folder)


async def ask(
    gateway: RunningGateway,
    method: str,
    target: str,
    client: tuple[str, str] | None = CLIENT,
    **headers: str,
) -> Reply:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if client is not None:
        sent["Authorization"] = encode_basic_auth(*client)
    return await gateway.ask(method, target, headers=sent, allow_redirects=False)


async def get(gateway: RunningGateway, target: str, client: tuple[str, str] | None = CLIENT, **headers: str) -> Reply:
    return await ask(gateway, "GET", target, client, **headers)


async def delete(
    gateway: RunningGateway, target: str, client: tuple[str, str] | None = CLIENT, **headers: str
) -> Reply:
    return await ask(gateway, "DELETE", target, client, **headers)


def said(reply: Reply) -> tuple[int, object, object]:
    """Return status, code and message of an error in JSON, whose own status agrees."""
    assert reply.headers["Content-Type"] == "application/json"
    assert reply.json["status"] == reply.status
    assert reply.json["more_info"] == f"https://www.twilio.com/docs/errors/{reply.json['code']}"
    return reply.status, reply.json["code"], reply.json["message"]


def not_found(target: str) -> tuple[int, object, object]:
    """Return what `said` gives if a path is not a resource or leads to none."""
    return 404, 20404, f"The requested resource {target} was not found"


def write_clients(folder: Path, sandbox: Sandbox) -> Path:
    """Write a second account at the same sandbox, which does not know it, and the clients above."""
    return write_config(
        folder,
        account_table(sandbox.api_url),
        client_table(READER, "read", sandbox.account_sid),
        client_table(ERASER, "delete", sandbox.account_sid),
        client_table(STRANGER, "read delete", OTHER),
        client_table(MINTER, "mint revoke purge observe"),
    )


async def start_signalwire(gateways: Gateways, sandbox: Sandbox) -> RunningGateway:
    """Return a gateway over a sandbox of SignalWire's profile."""
    return await gateways.start(
        TWILIO_ACCOUNT_SID="",
        TWILIO_AUTH_TOKEN="",
        GATEWAY_UPSTREAM_URL="",
        SIGNALWIRE_SPACE=sandbox.api_url,
        SIGNALWIRE_PROJECT_ID=sandbox.account_sid,
        SIGNALWIRE_API_TOKEN=sandbox.auth_token,
    )
