"""The map of the library in CONTRIBUTING.md is complete, and imports follow it downwards."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / "rmi_jax"


def imported(file):
    """Names of the files that a file of the library imports from."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "rmi_jax":
            yield from (f"{alias.name}.py" for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module.startswith("rmi_jax."):
            yield node.module.removeprefix("rmi_jax.") + ".py"


def test_every_file_is_on_the_map_and_imports_from_below():
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = page.partition("## The files of the library")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    order = [name for row in rows for name in re.findall(r"`(\w+\.py)`", row)]
    files = {file.name: file for file in LIBRARY.glob("*.py") if file.name != "__init__.py"}
    assert sorted(order) == sorted(files)
    above = {
        f"{name} imports {other}"
        for i, name in enumerate(order)
        for other in imported(files[name])
        if other in order[: i + 1]
    }
    assert above == set()
