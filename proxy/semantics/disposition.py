"""How a browser is to take a media: its type, saved or shown, under what name, with what it may do (RFC 6266, CSP)."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Final, Literal, TypeAlias
from urllib.parse import quote as percent_encode
from urllib.parse import unquote as percent_decode

from proxy.semantics.fields import TOKEN, quote, split_list, unquote

Disposition: TypeAlias = Literal["inline", "attachment"]

OCTET_STREAM: Final = "application/octet-stream"
_REMEMBERED: Final = 256

MAX_TYPE: Final = 512
"""Characters of a Content-Type; a longer one is not believed."""
MAX_PARAMETERS: Final = 8
MAX_NAME: Final = 180
"""Bytes of a file name in UTF-8: room for a browser's " (1)" within the 255 of a file system."""
MAX_EXTENSION: Final = 16
"""Bytes of an extension, with its dot, that is kept when a name is cut."""


# --- Content-Type (RFC 9110 §8.3.1) ---------------------------------------------------------------------------

_TYPE: Final = re.compile(rf"[ \t]*(?P<type>{TOKEN.pattern}/{TOKEN.pattern})[ \t]*(?:;|\Z)")


def media_type(value: str | None) -> str:
    """An upstream's Content-Type in its one plain form: ASCII, names in lower case, well-formed parameters only.

    `application/octet-stream` for none, for a malformed one and for a range of types (`image/*`).
    """
    return stated_type(value) or OCTET_STREAM


def stated_type(value: str | None) -> str | None:
    """Return a Content-Type in that form; None for none, for a malformed or overlong one, and for a range of types."""
    return None if value is None or len(value) > MAX_TYPE else _media_type(value)


@lru_cache(_REMEMBERED)
def _media_type(value: str) -> str | None:
    match = _TYPE.match(value) if value.isascii() else None
    if match is None or "*" in match["type"]:
        return None
    parameters: dict[str, str] = {}
    for member in split_list(match.string[match.end() :], ";"):
        name, _, text = member.partition("=")
        content = text if TOKEN.fullmatch(text) else unquote(text)
        if content is not None and TOKEN.fullmatch(name) and len(parameters) < MAX_PARAMETERS:
            parameters.setdefault(name.lower(), content)
    written = (f"; {name}={text if TOKEN.fullmatch(text) else quote(text)}" for name, text in parameters.items())
    return match["type"].lower() + "".join(written)


def _essence(content_type: str | None) -> tuple[str, str]:
    main, _, sub = media_type(content_type).partition(";")[0].partition("/")
    return main, sub


# --- Content-Disposition --------------------------------------------------------------------------------------

# Text that a browser shows as text or hands to the address book or calendar. Every other text may run script
# somewhere (HTML, XML, JavaScript), as may any XML and SVG; a type that is not known here is saved.
_VIEWABLE: Final = frozenset({"application/pdf", "text/plain", "text/vcard", "text/x-vcard", "text/calendar"})
_MEDIA: Final = frozenset({"image", "audio", "video"})


@lru_cache(_REMEMBERED)
def viewable(content_type: str | None) -> bool:
    """Whether a browser may show this type in its own window: it runs no script of the media's."""
    main, sub = _essence(content_type)
    if main in _MEDIA:
        return not (sub.startswith("svg") or sub == "xml" or sub.endswith("+xml"))
    return f"{main}/{sub}" in _VIEWABLE


def display(content_type: str | None, asked: Disposition | None = None) -> Disposition:
    """Shown or saved: what is `asked`, else shown; a type that is not `viewable` is saved, whatever is asked."""
    return "attachment" if not viewable(content_type) else asked or "inline"


@lru_cache(_REMEMBERED)
def content_disposition(kind: Disposition, filename: str | None = None) -> str:
    """RFC 6266: `filename` in plain ASCII for every client, and `filename*` (RFC 8187) where that loses something.

    The name is made safe to save first, see `safe_filename`; a name of which nothing is left is not sent.
    """
    name = "" if filename is None else safe_filename(filename)
    if not name:
        return kind
    plain = _plain(name)
    field = f'{kind}; filename="{plain}"'
    return field if plain == name else f"{field}; filename*=UTF-8''{percent_encode(name, safe=_ATTR_CHAR)}"


def filename_of(value: str | None) -> str | None:
    """The file name that an upstream's Content-Disposition gives: `filename*` (RFC 8187) before `filename`, else None.

    It is made safe by `content_disposition` only.
    """
    if value is None:
        return None
    named: dict[str, str] = {}
    for member in split_list(value, ";")[1:]:
        name, _, text = (part.strip(" \t") for part in member.partition("="))
        content = text if TOKEN.fullmatch(text) else unquote(text)
        if content:
            named.setdefault(name.lower(), content)
    charset, _, rest = named.get("filename*", "").partition("'")
    encoded = rest.partition("'")[2]
    if charset.lower() == "utf-8" and encoded:
        try:
            return percent_decode(encoded, errors="strict")
        except UnicodeDecodeError:
            pass
    return named.get("filename")


# RFC 8187 §3.2.1 attr-char, beyond the letters, digits and "_.-~" that are never encoded.
_ATTR_CHAR: Final = "!#$&+^`|"
_SEPARATORS: Final = str.maketrans("/\\", "__")
# Joiners shape letters and emoji; every other format character (direction overrides among them) only deceives.
_JOINERS: Final = frozenset("\u200c\u200d")
_HIDDEN: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
# What is left out of the plain form: quoted-string's own characters, and "%", which some clients decode.
_UNPLAIN: Final = re.compile(r'[^\x20-\x7e]|["\\%<>]')


def safe_filename(name: str) -> str:
    """A name that stays in its folder and is what it seems; empty where nothing is left.

    Without controls, hidden and direction-changing characters, leading dots, and dots or spaces at the end; path
    separators become `_`; at most `MAX_NAME` bytes of UTF-8, cut before the extension.
    """
    normal = unicodedata.normalize("NFC", name)
    seen = "".join(char for char in normal if not _hidden(char))
    tidy = " ".join(seen.translate(_SEPARATORS).split())
    return _cut(tidy.strip(". "))


def _hidden(char: str) -> bool:
    return unicodedata.category(char) in _HIDDEN and char not in _JOINERS


def _cut(name: str) -> str:
    if len(name.encode()) <= MAX_NAME:
        return name
    stem, dot, extension = name.rpartition(".")
    ending = dot + extension
    if not stem or len(ending.encode()) > MAX_EXTENSION:
        stem, ending = name, ""
    kept = stem.encode()[: MAX_NAME - len(ending.encode())].decode(errors="ignore")
    return kept.rstrip(". ") + ending


def _plain(name: str) -> str:
    """The name in ASCII: letters lose their accents, and what has no plain form becomes `_`."""
    bare = "".join(char for char in unicodedata.normalize("NFKD", name) if not unicodedata.combining(char))
    return _UNPLAIN.sub("_", bare.translate(_SEPARATORS)).strip(". ") or "_"


# --- Content-Security-Policy ----------------------------------------------------------------------------------

_STRICT: Final = "default-src 'none'; sandbox"
# A window of its own for a video or a sound loads the media once more, as a sub-resource of the document's own
# origin, which an unqualified sandbox takes away. No script can run in it all the same.
_PLAYER: Final = "default-src 'none'; media-src 'self'; sandbox allow-same-origin"
# A PDF is drawn by a plugin within a page of the browser's own making, and a plugin is not run under a sandbox.
_PDF: Final = "default-src 'none'; object-src 'self'; style-src 'unsafe-inline'"


@lru_cache(_REMEMBERED)
def content_security_policy(content_type: str | None) -> str:
    """What a document of this type may do: nothing, but for what video, audio and PDF viewing need."""
    match _essence(content_type):
        case ("audio" | "video", _) if viewable(content_type):
            return _PLAYER
        case ("application", "pdf"):
            return _PDF
        case _:
            return _STRICT
