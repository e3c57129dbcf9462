"""Paths of the Media resource, as the providers write them, parsed to frozen values. Nothing is decoded or tidied."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import Final

from proxy.errors import IdentifierError
from proxy.model import MediaRef, MessageRef, Provider
from proxy.upstream.providers import media_list_path, media_path, prefixes

ROOTS: Final = ("/2010-04-01", "/api/laml/2010-04-01")
"""Beginnings of all paths of the resource, with the mount path before them or not."""

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
        """The path at the provider."""
        return media_path(self.ref, self.prefix)


@dataclass(frozen=True, slots=True)
class Properties:
    """The properties of one media."""

    ref: MediaRef
    prefix: str
    form: Form

    @property
    def target(self) -> str:
        """The path at the provider."""
        return f"{media_path(self.ref, self.prefix)}.{self.form}"


@dataclass(frozen=True, slots=True)
class MediaList:
    """The list of a message's media. With `form` None the provider chooses the notation."""

    ref: MessageRef
    prefix: str
    form: Form | None

    @property
    def target(self) -> str:
        """The path at the provider."""
        return media_list_path(self.ref, self.prefix, "" if self.form is None else f".{self.form}")


Resource = Content | Properties | MediaList


def parse_resource(path: str, mount: str) -> Resource | None:
    """Return the resource that a path names, with the mount path or without; None for any other path."""
    return _parse(path) or (_parse(path.removeprefix(mount)) if mount and path.startswith(f"{mount}/") else None)


def error_form(path: str) -> Form:
    """Return the notation of a path's errors: JSON for `.json`, XML for all else."""
    return Form.JSON if path.endswith(".json") else Form.XML


def provider_of(path: str, resource: Resource | None) -> Provider:
    """Return the provider whose habits the answers to a path follow, even if the path names no resource."""
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
