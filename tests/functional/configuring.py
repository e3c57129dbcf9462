"""Configuration files with accounts and clients, and the documents by which a client names media."""

from __future__ import annotations

from pathlib import Path

from proxy.model import MediaRef
from proxy.sandbox import Media, Sandbox

OTHER = "AC" + "0b" * 16
"""An account that is configured, and not every client's."""


def account_table(origin: str, sid: str = OTHER) -> str:
    """Return the table of an account at this origin, which does not know it."""
    return f"""
[[accounts]]
provider = "twilio"
account_sid = "{sid}"
password = "{"w" * 32}"
origin = "{origin}"
"""


def client_table(credentials: tuple[str, str], scopes: str, accounts: str = "*") -> str:
    """Return the table of a client with scopes, parted by spaces, for one account or all."""
    name, secret = credentials
    return f"""
[[clients]]
id = "{name}"
secret = "{secret}"
scopes = {scopes.split()}
accounts = ["{accounts}"]
"""


def write_config(folder: Path, *tables: str) -> Path:
    """Write a configuration file of these tables into the folder."""
    path = folder / "gateway.toml"
    path.write_text("".join(tables))
    return path


def message_of(ref: MediaRef) -> dict[str, str]:
    return {"account_sid": str(ref.account), "message_sid": str(ref.message)}


def identifiers(ref: MediaRef) -> dict[str, str]:
    return {**message_of(ref), "media_sid": str(ref.media)}


async def conversation(sandbox: Sandbox) -> tuple[Media, Media, Media]:
    """Add two media of one message, and one of another."""
    one = await sandbox.add_message([("image/png", b"first"), ("image/png", b"second")], date_created=1.7e9)
    another = await sandbox.add_message([("image/png", b"other")], date_created=1.7e9)
    (first, second), (other,) = one.media, another.media
    return first, second, other
