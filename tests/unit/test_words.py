"""The rules of words in CONTRIBUTING.md, as far as a program can hold them."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
MOST_WORDS: Final = 10
"""Words of a test's name, behind `test_`."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# The imperatives that a function's docstring may begin with. Another verb may be added; another kind of word may not.
VERBS: Final = _words(
    """
    abort accept acquire act add adjust admit adopt advance align allocate allow amend announce answer append apply
    arrange ask assemble assert assign attach attempt await ban begin bind block borrow bound break bring broadcast
    build bundle cache calculate call cancel carry catch change charge check choose claim classify clean clear clone
    close coalesce collapse collect combine come commit compare complete compose compress compute configure confirm
    connect construct consume continue convert copy count create cut deal decide declare decode decompress defer
    define delay delete deliver deny derive describe detach detect determine digest disable disallow discard
    disconnect discover dispatch display divide do double download drain draw drop dump empty enable encode end
    enqueue ensure enter enumerate erase escape establish estimate evaluate evict examine exclude execute exit
    expand expect expire explain export expose express extend extract fail feed fetch fill filter find finish fit
    fix flag flatten flush fold follow forbid force forget fork format forward frame free freeze freshen gather
    generate get give go grant group grow guard guess halt hand handle hash have hear hide hold identify ignore
    import include increase increment indent index infer inform inherit initialise inject insert inspect install
    interpret interrupt invalidate invoke issue iterate join judge keep kill label launch lay lead learn leave let
    lift limit link list listen load locate lock log look lower make map mark match measure meet mend merge migrate
    mint mirror move multiply name narrow negotiate normalise note notice notify number observe obtain occupy offer
    omit open order outline own pack pad pair parse pass patch pause permit pick place play poll pop post prepare
    prevent print probe proceed process produce prolong promise protect prove provide prune publish pull purge push
    put quarantine query queue quit quote raise rank rate read rebuild receive reclaim recognise reconnect record
    recover redact redirect reduce refer refill refresh refuse register reject relay release reload remember remove
    rename render renew repair repeat replace reply report represent request require reserve reset resolve respond
    restart restore resume retry return reuse revalidate revert revoke rewrite rotate round route run sample satisfy
    save say scan schedule scrape script search see seed select send separate serialise serve set settle share
    shield show shrink shut sign signal simulate skip sleep slice smooth snapshot sort spawn speak spell spend split
    spread stamp start state step stop store stream strip subscribe substitute subtract sum supply suppress suspend
    swap sweep switch synchronise take tear tell terminate test tighten time toggle total touch trace track transfer
    transform translate traverse trim truncate trust try turn undo unescape unlink unlock unmap unpack unquote
    update upgrade upload use validate verify visit wait wake walk want warn watch weigh widen withdraw withhold
    work wrap write yield
    """
)
# The words that open no noun phrase. The list is of the language, so that none has to be added.
NO_NOUN: Final = _words(
    """
    after also anew as at because before but by for from how if in into it meanwhile no-one nobody nor of on once or
    since so somebody that then there these they those though to under unless until up upon what whatever when whenever
    where wherever whether which whichever while who whoever whom whose why with within without
    """
)
DETERMINERS: Final = _words("a all an any both each every its no one some the their them this what")
PHRASES: Final = {
    "anew": re.compile(r"\banew\b", re.IGNORECASE),
    "whoever": re.compile(r"\bwhoever\b", re.IGNORECASE),
    "at the most": re.compile(r"\bat the most\b", re.IGNORECASE),
    # English has "there is no room", and "not a link" for the rest.
    "is no …": re.compile(
        r"(?<!\bthere )\bis no (?!longer\b|more than\b|less than\b|[a-z]+er than\b)\w+", re.IGNORECASE
    ),
}

Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
Rule = Callable[[Path], list[str]]


def files(*folders: str) -> list[Path]:
    """Return the project's own Python files below folders, without those that tests install beside them."""
    found = (path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    return sorted(path for path in found if "node_modules" not in path.parts)


def docstrings(path: Path) -> Iterator[tuple[ast.AST, int, str]]:
    """Yield each documented thing of a file, its line and its text; a constant's is the string behind it."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, Documented) and node.body and (text := ast.get_docstring(node)):
            yield node, node.body[0].lineno, text
        body = node.body if isinstance(node, ast.Module | ast.ClassDef) else []
        for before, after in pairwise(body):
            if isinstance(before, ast.Assign | ast.AnnAssign) and isinstance(after, ast.Expr):
                match after.value:
                    case ast.Constant(value=str() as text):
                        yield before, after.lineno, text


def first_words(text: str) -> tuple[str, str]:
    """Return the first two words, in lower case and without what stands around them."""
    words = [*(word.strip(".,:;()").lower() for word in text.split()[:2]), "", ""]
    return words[0], words[1]


def is_property(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and any(
        ast.unparse(decorator).endswith("property") for decorator in node.decorator_list
    )


def opens_noun_phrase(first: str, second: str) -> bool:
    """Tell "Requests of a client" from "Requests a media": a verb has a determiner behind it."""
    if first in NO_NOUN or (first == "the" and second == "same"):
        return False
    is_verb = first in VERBS or any(first == verb + ending for verb in VERBS for ending in ("s", "es"))
    return not (is_verb and second in DETERMINERS)


def wrong_first_words(path: Path) -> list[str]:
    found = []
    for node, line, text in docstrings(path):
        first, second = first_words(text)
        if getattr(node, "name", "").startswith("test_"):
            # A test states its rule by its name; its text may say why.
            good = True
        elif is_property(node):
            good = first == "return" or opens_noun_phrase(first, second)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            good = first in VERBS
        else:
            good = opens_noun_phrase(first, second)
        if not good:
            found.append(f"{path.relative_to(ROOT)}:{line} begins with {' '.join(text.split()[:4])!r}")
    return found


def comments(path: Path) -> Iterator[tuple[int, str]]:
    """Yield each comment with its first line; lines that follow each other are one comment."""
    start, last, words = 0, 0, ""
    for token in tokenize.generate_tokens(io.StringIO(path.read_text("utf-8")).readline):
        if token.type != tokenize.COMMENT:
            continue
        line = token.start[0]
        if words and line != last + 1:
            yield start, words
            words = ""
        if not words:
            start = line
        words, last = f"{words} {token.string.lstrip('#').strip()}", line
    if words:
        yield start, words


def wrong_phrases(path: Path) -> list[str]:
    texts = [*comments(path), *((line, text) for _, line, text in docstrings(path))]
    return [
        f"{path.relative_to(ROOT)}:{line} says {name!r}"
        for line, text in texts
        for name, phrase in PHRASES.items()
        if phrase.search(" ".join(text.split()))
    ]


def long_names(path: Path) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name} has {count} words"
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
        if (count := len(node.name.removeprefix("test_").split("_"))) > MOST_WORDS
    ]


RULES: Final[Mapping[str, tuple[tuple[str, ...], Rule]]] = {
    "first-words": (("proxy", "tests"), wrong_first_words),
    "phrases": (("proxy", "tests"), wrong_phrases),
    "test-names": (("tests",), long_names),
}


@pytest.mark.parametrize("rule", RULES)
def test_docstrings_comments_and_names_hold_to_the_words(rule: str) -> None:
    folders, check = RULES[rule]
    assert [wrong for path in files(*folders) for wrong in check(path)] == []


@pytest.mark.parametrize(
    ("text", "rule", "good"),
    [
        ("def f(): 'Return the length.'", "first-words", True),
        ("def f(): 'Whether it is so.'", "first-words", False),
        ("def f(): 'The length.'", "first-words", False),
        ("@property\ndef f(): 'The length.'", "first-words", True),
        ("@property\ndef f(): 'Return whether it is so.'", "first-words", True),
        ("@property\ndef f(): 'Whether it is so.'", "first-words", False),
        ("class A: 'A length.'", "first-words", True),
        ("class A: 'Requests of a client.'", "first-words", True),
        ("class A: 'Requests a media.'", "first-words", False),
        ("class A: 'The same for a media.'", "first-words", False),
        ("'How it is done.'", "first-words", False),
        ("A = 1\n'What it is.'", "first-words", False),
        ("# It is no link.", "phrases", False),
        ("# There is no link.", "phrases", True),
        ("# It is no longer there.", "phrases", True),
        ("'Read it anew.'", "phrases", False),
        ("# Two at the\n# most.", "phrases", False),
        ("'Two at the\\nmost.'", "phrases", False),
        ("def test_a_b_c_d_e_f_g_h_i_j(): ...", "test-names", True),
        ("def test_a_b_c_d_e_f_g_h_i_j_k(): ...", "test-names", False),
    ],
)
def test_a_rule_tells_good_words_from_bad(
    text: str, rule: str, good: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    path = tmp_path / "module.py"
    path.write_text(text)
    assert (RULES[rule][1](path) == []) is good


def test_no_two_classes_share_a_name() -> None:
    places: dict[str, list[str]] = {}
    for path in files("proxy"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    # The sandbox's `Origin` is a public name.
    assert {name: found for name, found in places.items() if len(found) > 1 and name != "Origin"} == {}
