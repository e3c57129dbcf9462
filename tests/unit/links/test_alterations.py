"""Alterations of a link on its way: recognised, told in words, and undone to see whether that was all."""

from __future__ import annotations

import html
import json
import quopri
from collections.abc import Callable
from ipaddress import ip_address
from urllib.parse import parse_qsl, quote, unquote, urlencode

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from yarl import URL

from proxy.errors import LinkError
from proxy.links import Claims, Explanation, KeyRing, LinkMinter, LinkPolicy, SigningKey, explain, verify
from proxy.links.alterations import LONGEST, Alterations, find_alterations
from proxy.links.target import IDENTIFIER
from proxy.model import MediaRef

NOW = 1_790_000_000
ORIGIN = "https://example.com"
CLIENT = ip_address("203.0.113.7")
REF = MediaRef.parse("AC" + "a1" * 16, "MM" + "b2" * 16, "ME" + "c3" * 16)
EVERYTHING = Claims.parse(
    not_before=NOW - 5, ip="203.0.113.0/24", filename="a (1)/\u00e9 x+y.jpg", disposition="inline", scope="message"
)

Program = Callable[[str], str]


def mint(keys: KeyRing, claims: Claims = EVERYTHING, mount: str = "") -> str:
    return LinkMinter(ORIGIN + mount, keys, clock=lambda: NOW).mint(REF, claims=claims).url


def tell(url: str, keys: KeyRing, now: float = NOW, mount: str = "") -> Explanation:
    return explain(url, keys=keys, policy=LinkPolicy(), now=now, client=CLIENT, public_url=ORIGIN + mount)


def said(told: Explanation, name: str) -> list[str]:
    return [finding.text for finding in told.findings if finding.name == name]


def unescaped_in_html(link: str) -> str:
    """Read a link as a browser does from an attribute that was written without escaping."""
    return link.replace("&not_before", "\u00ac_before")


def form_encoded(link: str) -> str:
    path, _, query = link.partition("?")
    return f"{path}?{urlencode(parse_qsl(query))}"


def sorted_query(link: str) -> str:
    path, _, query = link.partition("?")
    return f"{path}?{'&'.join(sorted(query.split('&')))}"


def quoted_printable(link: str) -> str:
    return quopri.encodestring(link.encode()).decode()


def wrapped(link: str) -> str:
    return f"https://eur01.safelinks.protection.outlook.com/?url={quote(link, safe='')}&data=05%7C02&reserved=0"


PROGRAMS: dict[str, tuple[Program, str]] = {
    "HTML source": (html.escape, "&amp;"),
    "HTML source, escaped twice": (lambda link: html.escape(html.escape(link)), "&amp;"),
    "HTML source, by number": (lambda link: link.replace("&", "&#38;"), "&amp;"),
    "HTML source, by hexadecimal number": (lambda link: link.replace("&", "&#x26;"), "&amp;"),
    "HTML without escaping": (unescaped_in_html, "sign \u00ac"),
    "HTML without escaping, then a browser": (lambda link: str(URL(html.unescape(link), encoded=True)), "sign \u00ac"),
    "HTML without escaping, UTF-8": (lambda link: link.replace("&not_", "%C2%AC_"), "sign \u00ac"),
    "HTML without escaping, Latin-1": (lambda link: link.replace("&not_", "%AC_"), "sign \u00ac"),
    "HTML without escaping, wrongly read": (
        lambda link: link.replace("&not_", "\u00c2\u00ac_"),
        "sign \u00ac",
    ),
    "yarl": (lambda link: str(URL(link)), "yarl.URL(link, encoded=True)"),
    "decoded brackets": (lambda link: link.replace("%28", "(").replace("%29", ")"), "decoded its values"),
    "decoded slashes": (lambda link: link.replace("%2F", "/"), "decoded its values"),
    "small hexadecimal digits": (lambda link: link.replace("%C3%A9", "%c3%a9"), "decoded its values"),
    "an address bar": (lambda link: link.replace("%C3%A9", "\u00e9"), "decoded its values"),
    "a form": (form_encoded, "became +"),
    "sorted": (sorted_query, "another order"),
    "encoded twice": (lambda link: link.replace("%", "%25"), "once more"),
    "encoded whole": (lambda link: quote(link, safe=":/"), "as a whole"),
    "a mail program's check": (wrapped, "within another link"),
    "a newsletter": (lambda link: f"{link}&utm_source=a&utm_medium=b&utm_source=c", "utm_source, utm_medium was added"),
    "a social network": (lambda link: f"{link}&fbclid=IwAR0", "fbclid was added"),
    "an advertisement": (lambda link: link.replace("?", "?gclid=x&"), "gclid was added"),
    "a parameter of nobody's": (lambda link: f"{link}&width=5", "A parameter was added"),
    "a full stop": (lambda link: f"{link}.", "text around it"),
    "a bracket": (lambda link: f"{link})", "text around it"),
    "a bracket and a full stop": (lambda link: f"{link}).", "text around it"),
    "an angle bracket": (lambda link: f"{link}>", "text around it"),
    "an encoded angle bracket": (lambda link: f"{link}%3E", "text around it"),
    "an escaped angle bracket": (lambda link: f"{link}&gt;", "text around it"),
    "angle brackets": (lambda link: f"<{link}>", "text around it"),
    "quotation marks": (lambda link: f'"{link}"', "text around it"),
    "an encoded quotation mark": (lambda link: f"{link}%22", "text around it"),
    "typographic quotation marks": (lambda link: f"\u201c{link}\u201d", "text around it"),
    "Markdown": (lambda link: f"[{link}]", "text around it"),
    "a comma and a space": (lambda link: f"{link}, ", "text around it"),
    "a line break": (lambda link: f"{link[:150]}\r\n  {link[150:]}", "line break"),
    "the source of an e-mail": (quoted_printable, "=3D"),
    "JSON in HTML": (lambda link: link.replace("&", "\\u0026"), "backslashes"),
    "JSON with slashes": (lambda link: json.dumps(link)[1:-1].replace("/", "\\/"), "backslashes"),
    "a shell's escapes": (lambda link: link.replace("?", "\\?").replace("&", "\\&").replace("=", "\\="), "backslashes"),
    "a fragment": (lambda link: f"{link}#:~:text=a", "fragment"),
    "padding": (lambda link: f"{link}=", "padded"),
    "encoded padding": (lambda link: f"{link}%3D", "padded"),
}


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("mount", ["", "/gw", "/media"])
def test_what_a_program_did_is_told_and_undone(ring: KeyRing, name: str, mount: str) -> None:
    change, says = PROGRAMS[name]
    link = mint(ring, mount=mount)
    told = tell(change(link), ring, mount=mount)
    assert (told.accepted, told.status) == (False, 403)
    assert any(says in sentence for sentence in said(told, "changed")), said(told, "changed")
    assert said(told, "as_minted") == ["As it was minted, the link is accepted."]
    ended = tell(change(link), ring, now=NOW + 999, mount=mount)
    (otherwise,) = said(ended, "as_minted")
    assert otherwise == "As it was minted, the link is refused for another reason: The link has expired."


@pytest.mark.parametrize("name", PROGRAMS)
def test_only_what_happened_is_told(ring: KeyRing, name: str) -> None:
    change, _ = PROGRAMS[name]
    assert len(find_alterations(change(mint(ring)), ring).sentences) == 1


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda link: link[:-43] + "***", "a log"),
        (lambda link: link[:-43] + "%2A%2A%2A", "a log"),
        (lambda link: html.escape(link[:-43]) + "***", "a log"),
        (str.lower, "capital letters small"),
        (lambda link: link.partition("&")[0], "a shell"),
        (lambda link: link[:-1], "end is missing"),
        (lambda link: link[:-43], "end is missing"),
        (lambda link: link[:-60], "end is missing"),
        (lambda link: html.escape(link)[:-1] + "x", "changed in another way too"),
        (lambda link: link.replace("key=new", "key=other") + ".", "changed in another way too"),
    ],
)
def test_what_cannot_be_undone_is_told(ring: KeyRing, change: Program, says: str) -> None:
    told = tell(change(mint(ring)), ring)
    assert says in said(told, "changed")[-1]
    assert not said(told, "as_minted")


def test_of_a_link_that_nobody_changed_nothing_is_told(ring: KeyRing) -> None:
    link = mint(ring)
    stranger = KeyRing([SigningKey("new", "x" * 32)])
    for told in (
        tell(link, ring),
        tell(link, ring, now=NOW + 999),
        tell(mint(ring, Claims(not_before=NOW + 300)), ring),
        tell(mint(stranger), ring),
        tell(mint(KeyRing([SigningKey("other", "x" * 32)])), ring),
    ):
        assert not said(told, "changed") + said(told, "as_minted")


TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=40)
CLAIMS = st.builds(
    Claims.parse,
    not_before=st.none() | st.integers(0, NOW),
    ip=st.sampled_from([None, "203.0.113.0/24", "2001:db8::/32"]),
    filename=st.none() | TEXT,
    disposition=st.sampled_from([None, "inline", "attachment"]),
    scope=st.sampled_from([None, "message"]),
)
# As it goes on a way: a program handles the link, puts it into a source, and a reader takes it from a text.
HANDLED = ["", "yarl", "decoded brackets", "decoded slashes", "a newsletter", "a social network", "an advertisement"]
PUT = ["", "HTML source", "HTML source, escaped twice", "JSON in HTML", "a shell's escapes", "a mail program's check"]
TAKEN = ["", "a full stop", "a bracket and a full stop", "angle brackets", "quotation marks", "a comma and a space"]


@settings(max_examples=300)
@given(claims=CLAIMS, names=st.tuples(*map(st.sampled_from, (HANDLED, PUT, TAKEN))))
def test_a_link_that_several_programs_changed_is_found_again(
    ring: KeyRing, claims: Claims, names: tuple[str, ...]
) -> None:
    link = changed = mint(ring, claims)
    for name in filter(None, names):
        changed = PROGRAMS[name][0](changed)
    assume(changed != link)
    found = find_alterations(changed, ring)
    assert found.restored == link.removeprefix(ORIGIN)
    assert found.sentences


@settings(max_examples=300)
@given(claims=CLAIMS, names=st.lists(st.sampled_from(sorted(PROGRAMS)), max_size=3), cut=st.integers(0, 60))
def test_explain_decides_as_verify_does_and_shows_no_signature(
    ring: KeyRing, claims: Claims, names: list[str], cut: int
) -> None:
    link = changed = mint(ring, claims)
    for name in names:
        # yarl refuses some texts.
        assume("yarl" not in name and "browser" not in name)
        changed = PROGRAMS[name][0](changed)
    changed = changed[: len(changed) - cut]
    told = tell(changed, ring)
    target = changed.removeprefix(ORIGIN)
    decided: LinkError | None = None
    try:
        verify(target, keys=ring, policy=LinkPolicy(), now=NOW, client=CLIENT)
    except LinkError as error:
        decided = error
    assert type(told.refusal) is type(decided)
    signature = link[-43:]
    assert not any(signature[at : at + 8] in repr(told.findings) for at in range(36))


@given(
    st.text(max_size=300)
    | st.text("/media/?&=%2526#<>.\\\r\n*expirsgnatukyACME0a_\u00ac;", max_size=300)
    | st.from_regex(rf"/media/({IDENTIFIER}/){{3}}\?expires=1&key=new&[a-z_=%&+]{{0,40}}&signature=[A-Za-z]{{40,46}}")
)
def test_any_text_is_looked_at_without_an_error(ring: KeyRing, text: str) -> None:
    found = find_alterations(text, ring)
    assert found.restored is None
    assert len(found.sentences) == len(set(found.sentences))


@pytest.mark.parametrize(
    "unit",
    ["a=b&", "&amp;", "http%3A%2F%2F", "/media/", " ", "\r\n", "%25", "&signature=", "<", "\\u0026", "expires=1&"],
)
def test_a_long_text_is_looked_at_up_to_a_bound(ring: KeyRing, unit: str) -> None:
    whole = (f"/media/x?{unit * LONGEST}")[:LONGEST]
    assert find_alterations(whole, ring).restored is None
    assert find_alterations(f"{whole}.", ring) == Alterations()


def test_what_is_restored_is_never_the_link_of_another_media(ring: KeyRing) -> None:
    other = mint(ring, Claims()).replace("/ME", "/Me")
    assert find_alterations(unquote(other), ring).restored is None
