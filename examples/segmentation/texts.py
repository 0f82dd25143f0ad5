"""Reads text files that others wrote, lists and tables, as UTF-8 whatever the locale."""

import codecs
import re
import unicodedata
from pathlib import Path

from segmentation.problems import BadData

MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before that of UTF-16, which it begins with
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def read(file: Path, what: str) -> str:
    """The text: UTF-8, or what a mark at its start says, as of Windows' UTF-16.

    Args:
        file: where it is.
        what: what the file is for, to say where it is not there.
    """
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        raise BadData(f"{file}: there is no such file, {what}") from None
    except OSError as error:
        raise BadData(f"{file}: cannot be read, {error}") from error
    encoding = next((name for mark, name in MARKS.items() if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise BadData(
            f"{file}: is not in UTF-8 (byte {error.start} is 0x{data[error.start]:02x}). Save it "
            "as UTF-8"
        ) from error
    if "\0" in text:
        raise BadData(f"{file}: holds zero bytes, as UTF-16 without its mark. Save it as UTF-8")
    return text


def lines(file: Path, what: str) -> list[str]:
    """The lines that are not blank, with their spaces; line endings may be of any system."""
    return [line for line in re.split(r"\r\n|\r|\n", read(file, what)) if line.strip()]


def same(name: str) -> str:
    """One form for names that look the same: é may be one character, or an e and an accent."""
    return unicodedata.normalize("NFC", name)
