"""The sources: the environment and a TOML file become named values; a variable wins over the file."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from proxy.errors import SettingProblem
from proxy.settings.accounts import parse_space
from proxy.settings.catalogue import SPELLINGS
from proxy.settings.secret_files import MOST_BYTES, read_secret_file
from proxy.settings.values import parse_text

CONFIG_VARIABLE: Final = "GATEWAY_CONFIG"
"""The variable that names the TOML file; it is not a setting itself."""
TABLES: Final = frozenset({"accounts", "clients"})
_STAND_IN: Final = "x" * 32


@dataclass(frozen=True, slots=True)
class Written:
    """A value and the name it was written under; with `file`, the value is the path of the file that holds it."""

    name: str
    value: object = field(repr=False)
    file: bool = False

    @property
    def base(self) -> str:
        """The name without `_FILE`."""
        return self.name[: -len("_FILE")] if self.file else self.name


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name.lower(), SPELLINGS, n=1, cutoff=0.8)
    if not near:
        return "is not a setting"
    return f"is not a setting; did you mean {near[0].upper() if name.isupper() else near[0]}?"


def read_environment(environ: Mapping[str, str], problems: list[SettingProblem]) -> dict[str, list[Written]]:
    """Find the settings among variables. An empty one counts as unset; an unknown `GATEWAY_…` is a problem."""
    found: dict[str, list[Written]] = {}
    for name in sorted(name for name in environ if name == name.upper()):
        spelling = SPELLINGS.get(name.lower())
        if spelling is None:
            if name.startswith("GATEWAY_") and name != CONFIG_VARIABLE:
                problems.append(SettingProblem(name, _unknown(name)))
        elif environ[name].strip():
            found.setdefault(spelling.key, []).append(Written(name, environ[name], spelling.file))
    return found


def read_table(table: Mapping[str, object], problems: list[SettingProblem]) -> dict[str, list[Written]]:
    """Find the settings at the top of a TOML file, apart from `accounts` and `clients`; an unknown key is a problem."""
    found: dict[str, list[Written]] = {}
    for name in sorted(table.keys() - TABLES):
        spelling = SPELLINGS.get(name)
        if spelling is None:
            problems.append(SettingProblem(name, _unknown(name)))
        else:
            found.setdefault(spelling.key, []).append(Written(name, table[name], spelling.file))
    return found


def read_toml(path: Path, problems: list[SettingProblem]) -> dict[str, object]:
    """Read a TOML file; if that cannot be done, note a problem under its path."""
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        problems.append(SettingProblem(str(path), f"cannot be read: {error.strerror}"))
    except UnicodeDecodeError:
        problems.append(SettingProblem(str(path), "is not UTF-8"))
    except tomllib.TOMLDecodeError as error:
        problems.append(SettingProblem(str(path), f"is not TOML: {error}"))
    return {}


def tables(
    table: Mapping[str, object], kind: str, problems: list[SettingProblem]
) -> Iterator[tuple[str, dict[str, object]]]:
    """Yield the tables of `[[kind]]`, each with its name, such as `accounts[0]`."""
    listed = table.get(kind, [])
    if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
        problems.append(SettingProblem(kind, f"expected tables, each under [[{kind}]]"))
        return
    for number, entry in enumerate(listed):
        yield f"{kind}[{number}]", entry


def _content(written: Written) -> object:
    """Return the value itself, read from its file if it is in one. Raises `ValueError`."""
    if not written.file:
        return written.value
    try:
        content = read_secret_file(written.name, Path(parse_text(written.value)))
    except OSError as error:
        raise ValueError(f"the file it names cannot be read: {error.strerror}") from None
    if len(content) > MOST_BYTES:
        raise ValueError(f"the file it names is larger than {MOST_BYTES} bytes")
    try:
        return content.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise ValueError("the file it names is not UTF-8") from None


def _meaning(key: str, value: object) -> object:
    """Return the value by which two spellings of a setting are compared."""
    try:
        return parse_space(value) if key == "signalwire_space" else parse_text(value)
    except ValueError:
        return value


def settle(key: str, spellings: Iterable[Written], problems: list[SettingProblem]) -> Written | None:
    """Settle the one value of a setting that may be spelled in several ways; return None if that is a problem."""
    settled: Written | None = None
    bases: set[str] = set()
    for spelling in spellings:
        if spelling.base.lower() in bases:
            problems.append(
                SettingProblem(spelling.name, f"is set together with {spelling.base}; expected only one of them")
            )
            return None
        bases.add(spelling.base.lower())
        try:
            value = Written(spelling.name, _content(spelling))
        except ValueError as error:
            problems.append(SettingProblem(spelling.name, str(error)))
            return None
        if settled and _meaning(key, settled.value) != _meaning(key, value.value):
            problems.append(SettingProblem(value.name, f"differs from {settled.name}, which is the same setting"))
            return None
        settled = value
    return settled


def settle_table(
    before: str, entry: Mapping[str, object], secret: str, problems: list[SettingProblem]
) -> dict[str, object]:
    """Return a table with its secret read from `{secret}_file`; `before` stands before each key in a problem."""
    spelled = f"{secret}_file"
    found = [Written(f"{before}{key}", entry[key], key == spelled) for key in (secret, spelled) if key in entry]
    rest = {key: value for key, value in entry.items() if key not in {secret, spelled}}
    if not found:
        return rest
    settled = settle(secret, found, problems)
    # With the stand-in, the rest of the table can be checked; it is never used, because there is a problem now.
    return rest | {secret: _STAND_IN if settled is None else settled.value}
