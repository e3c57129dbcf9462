"""The treatment of a media in a browser: its type, shown or saved, its name, what it may do (RFC 6266, CSP)."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Final, Literal, TypeAlias
from urllib.parse import quote as percent_encode

from proxy.semantics.encoded_names import decoded_name, extended_name
from proxy.semantics.fields import TOKEN, quote, split_list, unquote
from proxy.semantics.file_types import extension

Disposition: TypeAlias = Literal["inline", "attachment"]

OCTET_STREAM: Final = "application/octet-stream"
_REMEMBERED: Final = 256

MAX_TYPE: Final = 512
"""Characters of a Content-Type; a longer one is not believed."""
MAX_PARAMETERS: Final = 8
MAX_DISPOSITION: Final = 8_192
"""Characters of a Content-Disposition; a longer one is not read."""
MAX_NAME: Final = 180
"""Bytes of a file name in UTF-8: room for a browser's " (1)" within the 255 of a file system."""
MAX_EXTENSION: Final = 16
"""Bytes of an extension, with its dot, that is kept when a name is cut."""


# --- Content-Type (RFC 9110 §8.3.1) ---------------------------------------------------------------------------

_TYPE: Final = re.compile(rf"[ \t]*(?P<type>{TOKEN.pattern}/{TOKEN.pattern})[ \t]*(?:;|\Z)")


def media_type(value: str | None) -> str:
    """Return an upstream's Content-Type in its one plain form: ASCII, names in lower case, well-formed parameters only.

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


@lru_cache(_REMEMBERED)
def lacks_charset(value: str | None) -> bool:
    """Return whether an upstream's Content-Type is a kind of text and says no charset."""
    plain = media_type(value)
    return plain.startswith("text/") and not any(
        member.strip(" \t").startswith("charset=") for member in split_list(plain, ";")[1:]
    )


@lru_cache(_REMEMBERED)
def described(value: str | None, *, utf8: bool) -> str:
    """Return an upstream's Content-Type as `media_type` does, with `charset=utf-8` for text known to be that.

    Text without a charset is read as windows-1252 by browsers.
    """
    plain = media_type(value)
    return f"{plain}; charset=utf-8" if utf8 and lacks_charset(plain) else plain


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
    """Return whether a browser may show this type in its own window: it runs no script of the media's."""
    main, sub = _essence(content_type)
    if main in _MEDIA:
        return not (sub.startswith("svg") or sub == "xml" or sub.endswith("+xml"))
    return f"{main}/{sub}" in _VIEWABLE


def display(content_type: str | None, asked: Disposition | None = None) -> Disposition:
    """Decide if a media is shown or saved: as `asked`, else shown; a type that is not `viewable` is always saved."""
    return "attachment" if not viewable(content_type) else asked or "inline"


# A quoted-string that holds any octet, and that the end of the field closes as well as a quote does.
_STRING: Final = re.compile(r'"([^"\\]*(?:\\.[^"\\]*)*)', re.DOTALL)
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)
# A name has an extension if letters and digits follow its last dot, not digits alone: `report v1.2` has none.
_EXTENSION: Final = re.compile(r"\.(?=[0-9]*[A-Za-z])[0-9A-Za-z]{1,10}\Z")


@lru_cache(_REMEMBERED)
def content_disposition(kind: Disposition, filename: str | None = None) -> str:
    """Write the field of RFC 6266: `filename` in plain ASCII, and `filename*` (RFC 8187) if that loses something.

    The name is made safe to save first, see `safe_filename`; a name of which nothing is left is not sent.
    """
    name = "" if filename is None else safe_filename(filename)
    if not name:
        return kind
    plain = _plain(name)
    field = f'{kind}; filename="{plain}"'
    return field if plain == name else f"{field}; filename*=UTF-8''{percent_encode(name, safe=_ATTR_CHAR)}"


def saved_name(disposition: str | None, content_type: str, identity: str) -> str | None:
    """Return the name that a media is saved under if its link gives none; None if there is nothing to go by.

    The upstream's own (`disposition` is its Content-Disposition, None if it sent none), with the type's extension
    if it has none; else `identity` with that extension. A type without an extension of its own adds nothing.
    """
    name, ending = filename_of(disposition), extension(content_type)
    if ending is None:
        return name
    if name is None:
        return f"{identity}.{ending}"
    return name if _EXTENSION.search(name) else f"{name}.{ending}"


@lru_cache(_REMEMBERED)
def filename_of(value: str | None) -> str | None:
    """Return the file name that an upstream's Content-Disposition gives, made safe, as browsers read it.

    `filename*` (RFC 8187) before `filename`; None if neither leaves anything. `value` has one character for each
    octet.
    """
    named = {} if value is None or len(value) > MAX_DISPOSITION else _parameters(value)
    for name in (extended_name(named.get("filename*", "")), decoded_name(named.get("filename", ""))):
        if name and (safe := safe_filename(name)):
            return safe
    return None


def _parameters(value: str) -> dict[str, str]:
    """Return the parameters by their names in lower case, of several of one name the first that is not empty.

    More is read than RFC 6266 §4.1 allows, as browsers do: no type before them, a value without quotes that holds
    spaces or raw octets, and a quote that nothing closes.
    """
    named: dict[str, str] = {}
    position = 0
    while position < len(value):
        end = _end(value, position)
        equals = value.find("=", position, end)
        if equals >= 0:
            name, text = value[position:equals].strip(" \t").lower(), value[equals + 1 : end].strip(" \t")
            if text.startswith('"'):
                quoted = _STRING.match(value, value.index('"', equals))
                assert quoted is not None, "the pattern matches whatever begins with a quote"
                text, end = _ESCAPE.sub(r"\1", quoted[1]), _end(value, quoted.end())
            if text:
                named.setdefault(name, text)
        position = end + 1
    return named


def _end(value: str, position: int) -> int:
    """Return the place of the next semicolon, or the end."""
    found = value.find(";", position)
    return len(value) if found < 0 else found


# RFC 8187 §3.2.1 attr-char, beyond the letters, digits and "_.-~" that are never encoded.
_ATTR_CHAR: Final = "!#$&+^`|"
_SEPARATORS: Final = str.maketrans("/\\", "__")
# Joiners shape letters and emoji; every other format character (direction overrides among them) only deceives.
_JOINERS: Final = frozenset("\u200c\u200d")
_HIDDEN: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
# What is left out of the plain form: quoted-string's own characters, and "%", which some clients decode.
_UNPLAIN: Final = re.compile(r'[^\x20-\x7e]|["\\%<>]')


def safe_filename(name: str) -> str:
    """Return a name that stays in its folder and is what it seems; empty if nothing is left.

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
    """Return the name in ASCII: letters lose their accents, and what has no plain form becomes `_`."""
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
    """Return what a document of this type may do: nothing, but for what video, audio and PDF viewing need."""
    match _essence(content_type):
        case ("audio" | "video", _) if viewable(content_type):
            return _PLAYER
        case ("application", "pdf"):
            return _PDF
        case _:
            return _STRICT
