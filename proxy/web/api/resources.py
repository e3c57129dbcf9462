"""Paths of the Media resource as the providers write them, to frozen resources. Nothing is decoded or tidied."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import Final

from proxy.errors import IdentifierError
from proxy.model import MediaRef, MessageRef, Provider
from proxy.upstream.providers import media_list_path, media_path, prefixes

ROOTS: Final = ("/2010-04-01", "/api/laml/2010-04-01")
"""What every path of the resource begins with, under the mount or not."""

_PATH: Final = re.compile(
    r"(?P<prefix>(?:/api/laml)?/2010-04-01)/Accounts/(?P<account>[^/.]+)/Messages?/(?P<message>[^/.]+)"
    r"/Media(?:/(?P<media>[^/.]+))?(?P<suffix>\.json|\.xml)?"
)


class Form(enum.StrEnum):
    """The notation of properties, lists and errors."""

    JSON = "json"
    XML = "xml"


@dataclass(frozen=True, slots=True)
class Content:
    """The bytes of one media."""

    ref: MediaRef
    prefix: str

    @property
    def target(self) -> str:
        """The provider's own path for it."""
        return media_path(self.ref, self.prefix)


@dataclass(frozen=True, slots=True)
class Properties:
    """What is known of one media."""

    ref: MediaRef
    prefix: str
    form: Form

    @property
    def target(self) -> str:
        """The provider's own path for it."""
        return f"{media_path(self.ref, self.prefix)}.{self.form}"


@dataclass(frozen=True, slots=True)
class MediaList:
    """The media of a message; `form` None is the one that the provider chooses."""

    ref: MessageRef
    prefix: str
    form: Form | None

    @property
    def target(self) -> str:
        """The provider's own path for it."""
        return media_list_path(self.ref, self.prefix, "" if self.form is None else f".{self.form}")


Resource = Content | Properties | MediaList


def parse_resource(path: str, mount: str) -> Resource | None:
    """The resource that a path names, with the mount or without; None for any other path."""
    return _parse(path) or (_parse(path.removeprefix(mount)) if mount and path.startswith(f"{mount}/") else None)


def error_form(path: str) -> Form:
    """In which notation errors of a path are told: JSON for `.json`, XML for all else."""
    return Form.JSON if path.endswith(".json") else Form.XML


def provider_of(path: str, resource: Resource | None) -> Provider:
    """Whose habits the answers to a path follow, also where it names no resource."""
    if resource is not None:
        return resource.ref.provider
    return Provider.SIGNALWIRE if "/api/laml/2010-04-01/" in path else Provider.TWILIO


def _parse(path: str) -> Resource | None:
    match = _PATH.fullmatch(path)
    if match is None:
        return None
    prefix, form = match["prefix"], Form(match["suffix"][1:]) if match["suffix"] else None
    resource: Resource
    try:
        if match["media"] is None:
            resource = MediaList(MessageRef.parse(match["account"], match["message"]), prefix, form)
        else:
            ref = MediaRef.parse(match["account"], match["message"], match["media"])
            resource = Content(ref, prefix) if form is None else Properties(ref, prefix, form)
    except IdentifierError:
        return None
    return resource if prefix in prefixes(resource.ref.provider) else None
