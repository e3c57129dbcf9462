"""Which version this is."""

from __future__ import annotations

from functools import cache


@cache
def version() -> str:
    """The distribution's version; `0+unknown` where nothing is installed."""
    # Reading the distribution's metadata costs more than most imports, and few ask for it.
    from importlib import metadata

    try:
        return metadata.version("media-gateway")
    except metadata.PackageNotFoundError:
        return "0+unknown"
