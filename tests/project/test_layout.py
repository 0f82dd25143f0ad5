"""The maps in CONTRIBUTING.md are complete, of the library and of its tests; imports go down."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / "rmi_jax"
TESTS = ROOT / "tests" / "library"


def imported(file):
    """Names of the files that a file of the library imports from."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "rmi_jax":
            yield from (f"{alias.name}.py" for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module.startswith("rmi_jax."):
            yield node.module.removeprefix("rmi_jax.") + ".py"


def section(title):
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return page.partition(f"## {title}\n")[2].partition("\n## ")[0]


def names(text):
    return re.findall(r"`([\w/]+(?:\.py|/))`", text)


def library_files():
    return {file.name: file for file in LIBRARY.glob("*.py") if file.name != "__init__.py"}


def test_every_file_is_on_the_map_and_imports_from_below():
    lines = section("The files of the library").splitlines()
    order = [name for line in lines if line.startswith("| `") for name in names(line.split("|")[1])]
    files = library_files()
    assert sorted(order) == sorted(files)
    above = {
        f"{name} imports {other}"
        for i, name in enumerate(order)
        for other in imported(files[name])
        if other in order[: i + 1]
    }
    assert above == set()


def test_every_file_has_tests_of_its_name_or_says_which_are_its():
    table = section("A map of the tests").partition("| its tests |")[2].partition("\n\n")[0]
    rows = [line.split("|")[1:3] for line in table.splitlines() if line.startswith("| `")]
    elsewhere = [name for files, _ in rows for name in names(files)]
    of_its_name = [name for name in library_files() if (TESTS / f"test_{name}").exists()]
    assert sorted(elsewhere + of_its_name) == sorted(library_files())
    for _, tests in rows:
        assert names(tests)
        assert all((TESTS / name).exists() for name in names(tests))
