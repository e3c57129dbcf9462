"""A tier that fails costs speed and never an answer: it is told of, and passed over."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from proxy.errors import StoreError

_log: Final = logging.getLogger("media_gateway.cache")


@contextmanager
def fail_open() -> Iterator[None]:
    """Go on without what fails in here."""
    try:
        yield
    except StoreError as error:
        warn(error)


def warn(error: StoreError) -> None:
    """Say that a tier has failed."""
    _log.warning("A cache tier failed; going on without it: %s", error.note)
