"""Signed, cached, seekable links to the media of Twilio and SignalWire messages.

What an application needs to mint links of its own is here: `LinkMinter`, `LinkPolicy`, `Claims`, `MediaRef`.
Importing it loads neither the server nor any of its dependencies but itsdangerous.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.links import Claims, LinkMinter, LinkPolicy
from proxy.model import MediaRef

__all__ = ["Claims", "LinkMinter", "LinkPolicy", "MediaRef", "__version__"]


__version__: str

if not TYPE_CHECKING:  # to a type checker, a module with __getattr__ has every name

    def __getattr__(name: str) -> str:
        # Reading the distribution's metadata costs more than all the rest of the import, and few ask for it.
        if name != "__version__":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("media-gateway")
        except PackageNotFoundError:
            return "0+unknown"
