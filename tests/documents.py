"""The root's documents, read as a reader reads them; run as a program, it writes the table of settings anew."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from proxy.settings import SettingDescription, describe

ROOT: Final = Path(__file__).parents[1]
README: Final = ROOT / "README.md"
DOCUMENTS: Final = tuple(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"))

_FENCED: Final = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_TABLE: Final = re.compile(r"(?<=<!-- settings -->\n).*?(?=<!-- /settings -->)", re.DOTALL)
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


def blocks(*languages: str, document: Path = README, title: str | None = None) -> list[Block]:
    """The fenced blocks in those languages, all of them where none is named."""
    text = document.read_text("utf-8")
    found: list[Block] = []
    for match in _FENCED.finditer(text):
        titles = [heading["title"] for heading in _HEADING.finditer(_without_blocks(text[: match.start()]))]
        line = text.count("\n", 0, match.start()) + 1
        found.append(Block(document.name, titles[-1], match["language"], match["text"], line))
    return [
        block
        for block in found
        if (not languages or block.language in languages) and (title is None or block.title == title)
    ]


def all_blocks(*languages: str) -> list[Block]:
    """The same of every document."""
    return [block for document in DOCUMENTS for block in blocks(*languages, document=document)]


def prose(document: Path) -> str:
    """A document without its fenced blocks."""
    return _without_blocks(document.read_text("utf-8"))


def headings(document: Path) -> list[str]:
    """The titles of a document."""
    return [match["title"] for match in _HEADING.finditer(prose(document))]


def links(document: Path) -> list[str]:
    """The targets of a document's links and pictures."""
    return [match["target"] for match in _LINK.finditer(prose(document))]


def rows(document: Path, title: str, first_column: str) -> list[tuple[str, ...]]:
    """The rows of the table in that section whose first column has that name, backticks left out."""
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


# --- the table of settings ------------------------------------------------------------------------------------


def settings_table() -> str:
    """The table that README holds, from the settings themselves."""
    lines = ["| setting | meaning | default |", "|---|---|---|", *(_row(setting) for setting in describe())]
    return "\n".join(lines) + "\n"


def _row(setting: SettingDescription) -> str:
    names = [setting.name, f"{setting.name}_FILE"] if setting.secret else [setting.name]
    cells = (", ".join(f"`{name}`" for name in names), setting.meaning, setting.default)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def written_table() -> str:
    """The table as it stands in README."""
    match = _TABLE.search(README.read_text("utf-8"))
    assert match is not None, "README has no marks around its settings"
    return match[0]


def _write_table() -> None:
    table = settings_table()
    README.write_text(_TABLE.sub(lambda _: table, README.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    _write_table()
