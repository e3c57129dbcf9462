"""The version of this distribution."""

from __future__ import annotations

from functools import cache


@cache
def version() -> str:
    """Return the distribution's version; `0+unknown` if nothing is installed."""
    # Reading the distribution's metadata costs more than most imports, and few programs ask for it.
    from importlib import metadata

    try:
        return metadata.version("media-gateway")
    except metadata.PackageNotFoundError:
        return "0+unknown"
