"""Files that the program writes: each whole or not at all, and never in place of somebody else's.

A file is the program's own if a hidden file beside it, `.rmi_jax_written`, records its content.
What it did not write stays as it is, and so does what it wrote and somebody has changed since. Text
is UTF-8 whatever the locale, with the line endings of Unix.
"""

import hashlib
import json
import os
import re
import secrets
from pathlib import Path

from segmentation.dataset import BadData

RECORD = ".rmi_jax_written"
ANY = "*"  # in place of a digest: a log, which grows


class ForeignFile(BadData):
    """In the way is a file that the program did not write. The message names it."""


def write(file: Path, content: str | bytes, *, source: str = "-") -> None:
    """All of the file or nothing, should the process be killed meanwhile.

    Args:
        file: where to. Its folder must be there.
        content: text, or bytes.
        source: one word that says what this was made from, for `is_from`.

    Raises:
        ForeignFile: there is such a file, and the program did not write it.
    """
    check(file)
    data = content.encode() if isinstance(content, str) else content
    partial = file.with_name(f".{secrets.token_hex(8)}.partial")
    try:
        with partial.open("xb") as opened:
            opened.write(data)
        # First the record: of a file that is not there yet it does no harm, and both the old and
        # the new content are known, wherever the process is killed.
        _record(file, _digest(data), source)
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


def append(file: Path, text: str) -> None:
    """Adds to a log. Whatever it holds, `write` may replace it later."""
    check(file)
    if not _is_recorded(file, re.escape(ANY)):
        _record(file, ANY, "-")
    with file.open("a", encoding="utf-8", newline="\n") as opened:
        opened.write(text)


def check(*files: Path) -> None:
    """Before long work: `ForeignFile` names what stands in the way."""
    foreign = [file for file in files if os.path.lexists(file) and not _is_own(file)]
    if foreign:
        others = f" (and {len(foreign) - 1} more)" if len(foreign) > 1 else ""
        raise ForeignFile(
            f"{foreign[0]}{others}: is in the way, and is not as this program wrote it. It stays "
            "as it is: move it away, or choose another folder for the output"
        )


def is_from(file: Path, source: str) -> bool:
    """Whether the file is there as `write` left it when it was made from this source."""
    return file.is_file() and _is_recorded(file, _digest(file.read_bytes()), re.escape(source))


def _is_own(file: Path) -> bool:
    return _is_recorded(file, re.escape(ANY)) or (
        file.is_file() and _is_recorded(file, _digest(file.read_bytes()))
    )


def _is_recorded(file: Path, digest: str, source: str = r"\S+") -> bool:
    record = file.with_name(RECORD)
    line = rf"^{digest} {source} {re.escape(json.dumps(file.name))}$"
    return record.exists() and bool(re.search(line.encode(), record.read_bytes(), re.MULTILINE))


def _record(file: Path, digest: str, source: str) -> None:
    # A line of its own, even after one that a killed process left half-way.
    with file.with_name(RECORD).open("ab") as record:
        record.write(f"\n{digest} {source} {json.dumps(file.name)}\n".encode())


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
