"""The ways in which programs change a link: HTML, URL libraries, mail and chat programs, logs, shells.

A link is good byte for byte, so any program that rewrites it breaks it. The traces of the usual culprits are looked for
one by one and undone; if the signature then fits, that is certainly what happened. Each is told in a sentence. Pure;
never repeats a signature or a value.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Final
from urllib.parse import unquote

from proxy.errors import LinkError
from proxy.links.claims import CLAIM_NAMES, encode_value
from proxy.links.keys import KeyRing
from proxy.links.target import LONGEST_TARGET, SIGNATURE, read_target
from proxy.links.verify import require_key, require_signature

LONGEST: Final = 4 * LONGEST_TARGET
"""Characters of a text that is looked at: each character of a link may have become several."""

_TAKE_AGAIN: Final = "Take the link from where it was minted, or mint another one."
_IN_HTML: Final = (
    "It was taken from the source of an HTML or XML page, where & is written &amp;. Write &amp; in a page, and & where"
    " the link is used as it is."
)
_NOT_SIGN: Final = (
    "A browser read &not in it as the sign ¬: the link was put into HTML without escaping. Write & as &amp; there;"
    " every template engine can do it."
)
_ESCAPED: Final = (
    "It holds backslashes, as JSON, scripts and shells write them. Decode the text that it was taken from."
)
_MAILED: Final = (
    "It was taken from the source of an e-mail, where = is written =3D and long lines are broken. Take it from the"
    " message as it is shown."
)
_BROKEN: Final = "There is a line break in it, as programs make in long lines. Join the lines."
_AROUND: Final = (
    "Characters of the text around it were taken for a part of it, such as a full stop, a bracket or a quotation mark."
    " Leave them off; in a text put < and > around the link."
)
_PADDED: Final = "Its signature is padded with =. Base64url stands here without padding."
_WITHIN: Final = (
    "It stands percent-encoded within another link, as mail programs that check links write it (Safe Links and others)."
    " Open that link, or take the address out of it and decode it once."
)
_ENCODED_WHOLE: Final = "It was percent-encoded as a whole. A minted link is used as it is."
_ENCODED_TWICE: Final = "Its values were percent-encoded once more. A minted link is used as it is."
_ENCODED_ANEW: Final = (
    "A program decoded its values and encoded them in another way, as yarl and aiohttp do with a link that is given as"
    " a text. Hand it on as it was minted; in Python that is yarl.URL(link, encoded=True)."
)
_PLUS: Final = "A space in it became +, as in forms. A space of a link is %20."
_ORDER: Final = "Its parameters were put into another order. Hand it on as it was minted."
_TWICE: Final = "A parameter stands in it twice."
_FRAGMENT: Final = "A fragment was added, which begins with #. Leave it off."
_LOGGED: Final = f"It comes from a log, where *** stands in place of a signature. {_TAKE_AGAIN}"
_LOWER: Final = f"A program made its capital letters small. {_TAKE_AGAIN}"
_SHELL: Final = (
    "It ends before the first &, which a shell takes for the end of a command. Put the link between single quotes."
)
_CUT: Final = f"Its end is missing: it ends with a signature of 43 characters. {_TAKE_AGAIN}"
_MORE: Final = (
    "Even without that its signature does not fit: it was changed in another way too, or signed with a key that is not"
    " on the ring."
)

_KNOWN_TRACKERS: Final = re.compile(
    r"utm_[a-z_]{1,20}|fbclid|gclid|gclsrc|gbraid|wbraid|dclid|msclkid|mc_[ce]id|_hsenc|_hsmi|hsctatracking|igshid|igsh"
    r"|yclid|twclid|ttclid|li_fat_id|_ga|_gl|vero_id|mkt_tok|oly_(?:anon|enc)_id|s_cid|rb_clickid|wickedid|epik|ref"
)
_ORDERED: Final = ("expires", "key", "not_before", "ip", "filename", "disposition", "scope")

_OPENING: Final = re.compile(r"[\s<(\[{\"'\u2018\u201c\u201e\u00ab*_`]+")
_ORIGIN: Final = re.compile(r"https?://[^/?#\\%]*", re.IGNORECASE)
_WHOLE_SIGNATURE: Final = re.compile(rf"&signature={SIGNATURE}")
_AFTER: Final = re.compile(
    r"(?:&(?:gt|quot|apos|#34|#39|#62|rsquo|rdquo);|[\s.,;:!?)\]}>\"'*`\u2019\u201d\u201c\u00bb\u2026]|%(?:20|22|27|29|2C|2E|3B|3E|5D|7D|E2%80%9[9D]|C2%BB))+",
    re.IGNORECASE,
)
_NOT: Final = re.compile(r"(?:¬|Â¬|%C3%82%C2%AC|%C2%AC|%AC|&not;|&#172;|&#xAC;)_before=", re.IGNORECASE)
_AMPERSAND: Final = re.compile(r"&(?:amp|#0*38|#x0*26);", re.IGNORECASE)
_ENTITY: Final = re.compile(r"&(?:amp|quot|apos|lt|gt|#[0-9]{1,8}|#[xX][0-9A-Fa-f]{1,6});")
_ENCODED_LINK: Final = re.compile(r"https?%3A%2F%2F[^&\s]*%2Fmedia%2F[^&\s]*", re.IGNORECASE)
_HIDDEN: Final = re.compile(r"signature=(?:\*{3}|%2A%2A%2A)", re.IGNORECASE)
_ONE_PARAMETER: Final = re.compile(r"expires=[0-9]+")
_SHORT_SIGNATURE: Final = re.compile(r"[A-Za-z0-9_-]{0,42}")
_SMALL: Final = re.compile(r"/media/ac[0-9a-f]{32}/")


@dataclass(slots=True)
class Alterations:
    """The changes to a link, each in a sentence with what to do, in the order in which they are undone.

    `restored` is the request target, without a mount, whose signature fits once all of that is undone, or None.
    """

    sentences: list[str] = field(default_factory=list)
    restored: str | None = None


def find_alterations(text: str, keys: KeyRing) -> Alterations:
    """Return what was done to a link that is refused for its form or its signature.

    `text` is whatever was given for the link: a URL, a request target, or what is left of one. At most `LONGEST`
    characters are looked at; nothing is said of a longer text.
    """
    found = Alterations()
    if len(text) > LONGEST:
        return found
    for undo, sentence in _STEPS:
        undone = undo(text)
        if undone != text:
            found.sentences.append(sentence)
            text = undone
    if _HIDDEN.search(text):
        found.sentences.append(_LOGGED)
    elif _SMALL.search(text):
        found.sentences.append(_LOWER)
    else:
        _restore(text, keys, found)
        if found.restored is None:
            found.sentences.extend(_why_nothing_fits(text) or ([_MORE] if found.sentences else []))
    found.sentences = list(dict.fromkeys(found.sentences))
    return found


def _why_nothing_fits(text: str) -> list[str]:
    """Return what is missing at the end of a link, if anything is."""
    _, _, query = text.partition("?")
    if _ONE_PARAMETER.fullmatch(query):
        return [_SHELL]
    _, _, signature = query.partition("&signature=")
    return [_CUT] if query and _SHORT_SIGNATURE.fullmatch(signature) else []


# --- what can be undone without reading the link ---------------------------------------------------------------


def _without_opening(text: str) -> str:
    match = _OPENING.match(text)
    return text if match is None else text[match.end() :]


def _unquoted_printable(text: str) -> str:
    joined = re.sub(r"=\r?\n", "", text)
    return joined.replace("=3D", "=") if "expires=3D" in joined else text


def _joined(text: str) -> str:
    lines = text.strip().splitlines()
    return "".join(line.strip() for line in lines) if len(lines) > 1 else text


def _unescaped(text: str) -> str:
    text = re.sub(r"\\u00(26|3d|2f|3f)", lambda match: chr(int(match[1], 16)), text, flags=re.IGNORECASE)
    return re.sub(r"\\([/?&=%])", r"\1", text)


def _without_entities(text: str) -> str:
    # One that was escaped several times is &amp;amp;.
    for _ in range(4):
        if _AMPERSAND.search(text):
            text = _ENTITY.sub(lambda match: html.unescape(match[0]), text)
    return text


def _with_not_before(text: str) -> str:
    return _NOT.sub("&not_before=", text)


def _taken_out(text: str) -> str:
    match = None if "/media/" in text.partition("?")[0] else _ENCODED_LINK.search(text)
    return text if match is None else unquote(match[0])


def _decoded_whole(text: str) -> str:
    if "signature=" in text or "signature%3d" not in text.lower():
        return text
    return unquote(text)


def _without_fragment(text: str) -> str:
    return text.partition("#")[0]


def _without_tail(text: str) -> str:
    match = _WHOLE_SIGNATURE.search(text)
    if match is None:
        return text
    rest = text[match.end() :]
    after = _AFTER.match(rest)
    return text if after is None else text[: match.end()] + rest[after.end() :]


def _without_padding(text: str) -> str:
    return re.sub(rf"(&signature={SIGNATURE})(?:=|%3D)(?=&|$)", r"\1", text, flags=re.ASCII)


_STEPS: Final[Sequence[tuple[Callable[[str], str], str]]] = (
    (_unquoted_printable, _MAILED),
    (_without_opening, _AROUND),
    (_joined, _BROKEN),
    (_unescaped, _ESCAPED),
    (_taken_out, _WITHIN),
    (_decoded_whole, _ENCODED_WHOLE),
    (_with_not_before, _NOT_SIGN),
    (_without_entities, _IN_HTML),
    (_without_fragment, _FRAGMENT),
    (_without_padding, _PADDED),
    (_without_tail, _AROUND),
)


# --- what is undone by writing the link again ------------------------------------------------------------------


def _restore(text: str, keys: KeyRing, found: Alterations) -> None:
    """Write the link again from what can be read of it, and say what was not as it is minted."""
    text = _ORIGIN.sub("", text, count=1)
    path, question, query = text.partition("?")
    place = path.rfind("/media/")
    if place < 0 or not question:
        return
    path = path[place:]
    pairs = [(name, value) for name, _, value in (pair.partition("=") for pair in query.split("&"))]
    added = [name for name, _ in pairs if name not in CLAIM_NAMES and name not in {"expires", "key", "signature"}]
    kept = [pair for pair in dict.fromkeys(pairs) if pair[0] not in added]
    if added:
        found.sentences.append(_say_added(added))
    if len(dict(kept)) < len(kept):
        return
    if len(kept) + len(added) < len(pairs):
        found.sentences.append(_TWICE)
    values = dict(kept)
    signature = values.pop("signature", "")
    unlike = [name for name, value in values.items() if encode_value(unquote(value)) != value]
    path_anew = unquote(path)
    for plus, twice, ordered in product((False, True), repeat=3):
        names = [name for name in _ORDERED if name in values] if ordered else list(values)
        written = "&".join(f"{name}={_written(values[name], plus=plus, twice=twice)}" for name in names)
        target = f"{path_anew}?{written}&signature={signature}"
        if not _fits(target, keys):
            continue
        found.restored = target
        others = [name for name in unlike if not (plus and _only_plus(values[name]))]
        if path_anew != path or others:
            found.sentences.append(_ENCODED_ANEW)
        if plus:
            found.sentences.append(_PLUS)
        if twice:
            found.sentences.append(_ENCODED_TWICE)
        if ordered and names != list(values):
            found.sentences.append(_ORDER)
        return
    if unlike or path_anew != path:
        found.sentences.append(_ENCODED_ANEW)


def _say_added(names: Sequence[str]) -> str:
    known = list(dict.fromkeys(name for name in names if _KNOWN_TRACKERS.fullmatch(name)))[:5]
    if not known:
        return "A parameter was added that is not one of a link's. Leave it off: nothing may be added to a link."
    return f"{', '.join(known)} was added to it. Leave that off; tell the program that sends the link not to track it."


def _written(value: str, *, plus: bool, twice: bool) -> str:
    text = unquote(value.replace("+", " ") if plus else value)
    return encode_value(unquote(text) if twice else text)


def _only_plus(value: str) -> bool:
    """Return whether a value is as minted but for + in place of spaces."""
    return encode_value(unquote(value.replace("+", " "))) == value.replace("+", "%20")


def _fits(target: str, keys: KeyRing) -> bool:
    try:
        link = read_target(target)
        require_signature(link, require_key(link, keys))
    except LinkError:
        return False
    return True
