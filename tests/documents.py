"""The documents of the repository, read as a reader reads them.

Run as a program, the module writes the generated tables again: the settings and the metrics.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from proxy.settings import SettingDescription, describe
from proxy.telemetry.metrics import FAMILIES

ROOT: Final = Path(__file__).parents[1]
README: Final = ROOT / "README.md"
LINKS: Final = ROOT / "proxy/links/README.md"
WEB: Final = ROOT / "proxy/web/README.md"
SETTINGS: Final = ROOT / "proxy/settings/README.md"
TELEMETRY: Final = ROOT / "proxy/telemetry/README.md"
DEPLOY: Final = ROOT / "deploy/README.md"
OBSERVABILITY: Final = ROOT / "deploy/observability/README.md"

_FOREIGN: Final = {"node_modules", "site"}
"""Folders whose documents are not this repository's own: packages, and the built site."""

DOCUMENTS: Final = tuple(
    path
    for pattern in ("*.md", "proxy/**/*.md", "deploy/**/*.md", "tests/**/*.md")
    for path in sorted(ROOT.glob(pattern))
    if not _FOREIGN & set(path.relative_to(ROOT).parts)
)

_FENCED: Final = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_HEADING: Final = re.compile(r"^#+ (?P<title>.+)$", re.MULTILINE)
_LINK: Final = re.compile(r"\]\((?P<target>[^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A fenced block; `title` is that of the section it stands in."""

    document: str
    title: str
    language: str
    text: str
    line: int

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"


def name_of(document: Path) -> str:
    """Return the path of a document within the repository."""
    return str(document.relative_to(ROOT))


def blocks(*languages: str, document: Path = README, title: str | None = None) -> list[Block]:
    """Return a document's fenced blocks in those languages, or all of them if none is named."""
    text = document.read_text("utf-8")
    found: list[Block] = []
    for match in _FENCED.finditer(text):
        titles = [heading["title"] for heading in _HEADING.finditer(_without_blocks(text[: match.start()]))]
        line = text.count("\n", 0, match.start()) + 1
        found.append(Block(name_of(document), titles[-1], match["language"], match["text"], line))
    return [
        block
        for block in found
        if (not languages or block.language in languages) and (title is None or block.title == title)
    ]


def all_blocks(*languages: str) -> list[Block]:
    """Return the fenced blocks in those languages of every document."""
    return [block for document in DOCUMENTS for block in blocks(*languages, document=document)]


def prose(document: Path) -> str:
    """Return a document without its fenced blocks."""
    return _without_blocks(document.read_text("utf-8"))


def headings(document: Path) -> list[str]:
    """Return the titles of a document."""
    return [match["title"] for match in _HEADING.finditer(prose(document))]


def links(document: Path) -> list[str]:
    """Return the targets of a document's links and pictures."""
    return [match["target"] for match in _LINK.finditer(prose(document))]


def rows(document: Path, title: str, first_column: str) -> list[tuple[str, ...]]:
    """Return the rows, without backticks, of the table in that section whose first column has that name."""
    section = prose(document).partition(f" {title}\n")[2]
    lines = section[section.index(f"| {first_column} |") :].splitlines()[2:]
    found: list[tuple[str, ...]] = []
    for line in lines:
        if not line.startswith("|"):
            break
        found.append(tuple(cell.strip().replace("`", "") for cell in line.strip("|").split(" | ")))
    return found


def _without_blocks(text: str) -> str:
    return _FENCED.sub("", text)


# --- the generated tables -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Table:
    """A generated table, between the marks `<!-- NAME -->` and `<!-- /NAME -->` of a document."""

    document: Path
    made: Callable[[], str]


def settings_table() -> str:
    """Return the table of settings, from their descriptions."""
    return _table(("setting", "meaning", "default"), [_setting(setting) for setting in describe()])


def metrics_table() -> str:
    """Return the table of metrics, from their families."""
    cells = [
        (f"`{family.exported}`", ", ".join(f"`{label}`" for label in family.labels) or "-", family.meaning.rstrip("."))
        for family in FAMILIES
    ]
    return _table(("metric", "labels", "meaning"), cells)


TABLES: Final[Mapping[str, Table]] = {
    "settings": Table(SETTINGS, settings_table),
    "metrics": Table(TELEMETRY, metrics_table),
}


def written_table(name: str) -> str:
    """Return a generated table as it stands in its document."""
    match = _marked(name).search(TABLES[name].document.read_text("utf-8"))
    assert match is not None, f"{name_of(TABLES[name].document)} has no marks around its {name}"
    return match[0]


def _setting(setting: SettingDescription) -> tuple[str, str, str]:
    names = [setting.name, f"{setting.name}_FILE"] if setting.secret else [setting.name]
    return ", ".join(f"`{name}`" for name in names), setting.meaning, setting.default


def _table(titles: tuple[str, ...], rows_of_cells: list[tuple[str, str, str]]) -> str:
    lines = [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
    lines += [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |" for cells in rows_of_cells]
    return "\n".join(lines) + "\n"


def _marked(name: str) -> re.Pattern[str]:
    return re.compile(rf"(?<=<!-- {name} -->\n).*?(?=<!-- /{name} -->)", re.DOTALL)


def _write_table(name: str) -> None:
    document, text = TABLES[name].document, TABLES[name].made()
    document.write_text(_marked(name).sub(lambda _: text, document.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    for table in TABLES:
        _write_table(table)
