"""File names as senders put them into a field: raw, percent-encoded, in words of RFC 2047, or extended by RFC 8187.

They come as field values come: one character for each octet. Pure; nothing here raises, and all is linear in the length
of a name. A decoded name may hold anything, so it has to be made safe before it is used.
"""

from __future__ import annotations

import binascii
import re
from types import MappingProxyType
from typing import Final
from urllib.parse import unquote_to_bytes

# Octets that ISO 8859-1 has as controls are what Windows-1252 has there, for browsers as for the senders
# (https://encoding.spec.whatwg.org/#names-and-labels).
_WINDOWS: Final = {
    octet: character for octet in range(0x80, 0xA0) if (character := bytes((octet,)).decode("cp1252", errors="ignore"))
}
_LATIN: Final = "latin-1"

# The charsets that names are read in, by what senders call them. None that hides ASCII (UTF-7), and none of Python's
# codecs that make anything but text.
_CHARSETS: Final = MappingProxyType(
    {
        label: codec
        for codec, labels in {
            "utf-8": "utf-8 utf8",
            _LATIN: "iso-8859-1 iso8859-1 latin1 latin-1 l1 us-ascii ascii windows-1252 cp1252",
            "iso8859-15": "iso-8859-15 latin9 latin-9",
            "iso8859-2": "iso-8859-2 latin2",
            "iso8859-5": "iso-8859-5",
            "iso8859-7": "iso-8859-7",
            "iso8859-9": "iso-8859-9 latin5",
            "cp1250": "windows-1250 cp1250",
            "cp1251": "windows-1251 cp1251",
            "koi8-r": "koi8-r",
            "koi8-u": "koi8-u",
            "iso2022_jp": "iso-2022-jp",
            "cp932": "shift_jis shift-jis sjis windows-31j cp932",
            "euc_jp": "euc-jp",
            "gb18030": "gb2312 gbk gb18030 cp936",
            "big5": "big5",
            "cp949": "euc-kr ks_c_5601-1987 cp949",
        }.items()
        for label in labels.split()
    }
)

# RFC 2047 §2 encoded-word, with the language of RFC 2231 §5. Spaces may stand in its text: some senders leave them.
_WORD: Final = re.compile(
    r"=\?(?P<charset>[0-9A-Za-z_.:+-]{1,40})(?:\*[0-9A-Za-z-]{0,40})?\?(?P<encoding>[BbQq])\?(?P<text>[^?]*)\?="
)


def decoded_name(value: str) -> str:
    """Return the text of a plain `filename`, read as browsers read it.

    Octets beyond ASCII are UTF-8 if they are that, else Latin-1. In ASCII alone, encoded words (RFC 2047) are
    decoded, and if there are none, percent-encoded UTF-8: `%E6%97%A5.jpg` is `日.jpg`, and `100%.jpg` is itself.
    """
    octets = _octets(value)
    if not octets.isascii():
        return _text(octets, "utf-8") or _latin(octets)
    words = _encoded_words(value) if "=?" in value else None
    if words is not None:
        return words
    return (_text(unquote_to_bytes(octets), "utf-8") or value) if "%" in value else value


def extended_name(value: str) -> str | None:
    """Return the text of a `filename*`: charset, language, percent-encoded text (RFC 8187 §3.2.1).

    None if it is malformed, empty, in a charset that is not read here, or not of its charset.
    """
    charset, _, rest = value.partition("'")
    codec = _CHARSETS.get(charset.strip(" \t").lower())
    return None if codec is None else _text(unquote_to_bytes(_octets(rest.partition("'")[2])), codec) or None


def _octets(value: str) -> bytes:
    """Return what a field's value was received as."""
    try:
        return value.encode("latin-1")
    except UnicodeEncodeError:
        # Text that never was a field: its own UTF-8.
        return value.encode("utf-8", "surrogatepass")


def _text(octets: bytes, codec: str) -> str | None:
    """Return octets as text, None if they are not of that charset."""
    if codec == _LATIN:
        return _latin(octets)
    try:
        return octets.decode(codec)
    except UnicodeDecodeError:
        return None


def _latin(octets: bytes) -> str:
    return octets.decode(_LATIN).translate(_WINDOWS)


def _encoded_words(value: str) -> str | None:
    """Return the value with its encoded words decoded; None if there is none, or one that cannot be."""
    # Neighbours in one charset are decoded together: some senders cut a name within a character.
    runs: list[tuple[str, bytearray]] = []
    position = 0
    for word in _WORD.finditer(value):
        between = value[position : word.start()]
        position = word.end()
        codec, octets = _CHARSETS.get(word["charset"].lower()), _word_octets(word["encoding"], word["text"])
        if codec is None or octets is None:
            return None
        if between.strip(" \t") or not runs:
            # Space between two words only parts them (RFC 2047 §6.2).
            runs.append((_LATIN, bytearray(between, "ascii")))
        if runs[-1][0] == codec:
            runs[-1][1].extend(octets)
        else:
            runs.append((codec, bytearray(octets)))
    if not runs:
        return None
    runs.append((_LATIN, bytearray(value[position:], "ascii")))
    texts = [_text(bytes(octets), codec) for codec, octets in runs]
    return None if None in texts else "".join(filter(None, texts))


def _word_octets(encoding: str, text: str) -> bytes | None:
    """Return the octets that an encoded word's text stands for (RFC 2047 §4), None if that cannot be told."""
    if encoding in "Qq":
        return binascii.a2b_qp(text, header=True)
    try:
        return binascii.a2b_base64(text + "=" * (-len(text) % 4))
    except binascii.Error:
        return None
