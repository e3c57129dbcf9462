"""Annotations of a setting's type that say how it is read and described."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sealed:
    """The value is secret: the setting also takes `NAME_FILE`, the path of a file that holds it."""


@dataclass(frozen=True, slots=True)
class Shown:
    """Text for a default whose value does not describe it."""

    default: str
