"""The catalogue of settings by name, made from the models: what may be written, and what it means."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from proxy.settings.accounts import SignalWireVariables, TwilioVariables, UpstreamVariables
from proxy.settings.annotations import Sealed, Shown
from proxy.settings.credentials import ClientVariables
from proxy.settings.model import Limits, Settings
from proxy.settings.values import format_size

_SECTIONS: Final[tuple[tuple[str, type[BaseModel]], ...]] = (
    ("twilio_", TwilioVariables),
    ("signalwire_", SignalWireVariables),
    ("gateway_", UpstreamVariables),
    ("gateway_", Settings),
    ("gateway_", ClientVariables),
    ("gateway_limit_", Limits),
)

ALIASES: Final = MappingProxyType(
    {"signalwire_space_url": "signalwire_space", "signalwire_token": "signalwire_api_token"}
)
"""Other spellings of a setting, each with the setting that it stands for."""


@dataclass(frozen=True, slots=True)
class SettingDescription:
    """One setting: its variable, its meaning, and its default as text (`none` if there is none).

    A `secret` one may also be written as `NAME_FILE`.
    """

    name: str
    meaning: str
    default: str
    secret: bool


@dataclass(frozen=True, slots=True)
class Spelling:
    """The setting that a name stands for, in a file or, in upper case, in the environment."""

    key: str
    file: bool


def settings_of(prefix: str, model: type[BaseModel]) -> dict[str, str]:
    """Return the settings of a model: key (`gateway_listen`) to field (`listen`)."""
    return {prefix + field: field for field, about in model.model_fields.items() if about.description}


def _default(field: str, about: FieldInfo) -> str:
    for mark in about.metadata:
        if isinstance(mark, Shown):
            return mark.default
    match about.default:
        case bool() as flag:
            return str(int(flag))
        case int() as number if field.endswith("_bytes"):
            return format_size(number)
        case enum.StrEnum() as member:
            return member.value
        case None | ():
            return "none"
        case default:
            return str(default)


def describe() -> tuple[SettingDescription, ...]:
    """Describe every setting that has a name of its own, in the order of the models."""
    return tuple(
        SettingDescription(
            name=key.upper(),
            meaning=about.description or "",
            default=_default(field, about),
            secret=any(isinstance(mark, Sealed) for mark in about.metadata),
        )
        for prefix, model in _SECTIONS
        for key, field in settings_of(prefix, model).items()
        for about in (model.model_fields[field],)
    )


def _spellings() -> dict[str, Spelling]:
    secret = {described.name.lower(): described.secret for described in describe()}
    names = {key: key for key in secret} | ALIASES
    spelled = {name: Spelling(key, file=False) for name, key in names.items()}
    return spelled | {f"{name}_file": Spelling(key, file=True) for name, key in names.items() if secret[key]}


SPELLINGS: Final = MappingProxyType(_spellings())
"""Every name that may be written, in lower case."""
