"""Text files in any encoding, whatever the locale (`pytest -m examples`)."""

import ast
import codecs
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import miniature
import pytest

with miniature.importing_examples():
    from segmentation import folder, texts
    from segmentation.problems import BadData

pytestmark = pytest.mark.examples

ROOT = Path(__file__).parents[2]
TEXT = 'ignored = 255\n[classes]\nmer = 0\n"forêt 木" = 1\n'


@pytest.mark.parametrize(
    "content",
    [
        TEXT.encode(),
        codecs.BOM_UTF8 + TEXT.encode(),
        TEXT.encode("utf-16"),
        codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
        TEXT.encode("utf-32"),
        TEXT.replace("\n", "\r\n").encode(),
        unicodedata.normalize("NFD", TEXT).encode(),
    ],
    ids=["utf-8", "mark", "utf-16", "utf-16-be", "utf-32", "windows", "nfd"],
)
def test_tables_are_read_in_every_encoding_with_a_mark(content, tmp_path):
    file = tmp_path / "classes.toml"
    file.write_bytes(content)
    classes, _, table = folder.read_table(file)
    assert classes == ("mer", "forêt 木")
    assert dict(table.meanings) == {0: 0, 1: 1, 255: 255}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('"forêt" = 1'.encode("latin-1"), r"not in UTF-8 \(byte 4 is 0xea\)"),
        (TEXT.encode("utf-16-le"), "zero bytes|not in UTF-8"),
        ("[classes]\nsea = 0".encode("utf-16-le"), "zero bytes"),
    ],
)
def test_other_encodings_are_named(content, message, tmp_path):
    file = tmp_path / "classes.toml"
    file.write_bytes(content)
    with pytest.raises(BadData, match=message) as error:
        folder.read_table(file)
    assert str(error.value).startswith(f"{file}: ")


def test_lines_end_as_on_any_system_and_keep_the_rest(tmp_path):
    file = tmp_path / "list.txt"
    file.write_bytes(" a b.1\r\n\r\nc\u2028d\x0b\n  \ne\rf".encode())
    assert texts.lines(file, "a list") == [" a b.1", "c\u2028d\x0b", "e", "f"]
    with pytest.raises(BadData, match="cannot be read"):
        texts.lines(tmp_path, "a list")


def test_the_locale_does_not_matter(tmp_path):
    file = tmp_path / "classes.toml"
    file.write_text(TEXT, encoding="utf-8")
    code = f"""
import sys
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "examples")!r}]
from pathlib import Path
from segmentation import folder, writing
name = folder.read_table(Path({str(file)!r}))[0][1]
writing.write_whole(Path({str(tmp_path / "written")!r}), name)
writing.append(Path({str(tmp_path / "log")!r}), name)
"""
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | plain)
    for name in ("written", "log"):
        assert (tmp_path / name).read_bytes() == "forêt 木".encode()


@pytest.mark.parametrize("part", ["examples", "benchmarks", "docs"])
def test_no_text_file_is_left_to_the_locale(part):
    files = sorted((ROOT / part).rglob("*.py"))
    assert files
    left = [
        f"{file}:{call.lineno}"
        for file in files
        for call in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and opens_text(call) and not has_encoding(call)
    ]
    assert not left


def opens_text(call: ast.Call) -> bool:
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    if name != "open" or ast.unparse(call.func) == "Image.open":
        return name in ("read_text", "write_text")
    mode = call.args[-1] if call.args else None
    return not (isinstance(mode, ast.Constant) and "b" in str(mode.value))


def has_encoding(call: ast.Call) -> bool:
    return any(keyword.arg == "encoding" for keyword in call.keywords)
