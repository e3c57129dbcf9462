"""The modules of the program as a whole: what import-linter's layers cannot say of them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
TREES: Final = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): ast.parse(path.read_text("utf-8"))
    for path in (ROOT / "proxy").rglob("*.py")
}


def imports(tree: ast.Module) -> Iterator[str]:
    """Yield the modules of the program that a module imports, also those for its types alone."""
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                yield from (alias.name for alias in node.names if alias.name in TREES)
            case ast.ImportFrom(module=str() as module):
                members = [f"{module}.{alias.name}" for alias in node.names]
                yield from (member if member in TREES else module for member in members)


def test_no_module_imports_itself_in_a_circle() -> None:
    order = TopologicalSorter({name: set(imports(tree)) for name, tree in TREES.items()})
    # It raises an error that names the circle.
    order.prepare()
