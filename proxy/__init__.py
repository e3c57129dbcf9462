"""Signed, cached, seekable links to the media of Twilio and SignalWire messages.

What an application needs to mint links of its own is here: `LinkMinter`, `LinkPolicy`, `Claims`, `MediaRef`. They are
loaded when they are asked for, and with them neither the server nor any of its dependencies but itsdangerous.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxy.links import Claims, LinkMinter, LinkPolicy
    from proxy.model import MediaRef

__all__ = ["Claims", "LinkMinter", "LinkPolicy", "MediaRef", "__version__"]


__version__: str

if not TYPE_CHECKING:  # to a type checker, a module with __getattr__ has every name

    def __getattr__(name: str) -> object:
        match name:
            case "Claims" | "LinkMinter" | "LinkPolicy":
                from proxy import links

                return getattr(links, name)
            case "MediaRef":
                from proxy.model import MediaRef

                return MediaRef
            case "__version__":
                from proxy.version import version

                return version()
            case _:
                raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
