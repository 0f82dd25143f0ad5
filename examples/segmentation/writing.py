"""Writes files completely or not at all, and never over a file that somebody else wrote.

A file is the program's own if a hidden file beside it, `.rmi_jax_written`, records its content.
What it did not write stays as it is, and so does what it wrote and somebody has changed since. Text
is UTF-8 whatever the locale, with the line endings of Unix.
"""

import hashlib
import json
import os
import secrets
from pathlib import Path

from segmentation.problems import BadData

RECORD = ".rmi_jax_written"
ANY = "*"  # in place of a digest: a log, which grows


class ForeignFile(BadData):
    """In the way is a file that the program did not write. The message names it."""


def write_whole(file: Path, content: str | bytes, *, source: str = "-") -> None:
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
    if not _known(file, ANY):
        _record(file, ANY, "-")
    with file.open("a", encoding="utf-8", newline="\n") as opened:
        opened.write(text)


def check(*files: Path) -> None:
    """Before long work: `ForeignFile` names what stands in the way."""
    foreign = [file for file in files if os.path.lexists(file) and not is_own(file)]
    if foreign:
        others = f" (and {len(foreign) - 1} more)" if len(foreign) > 1 else ""
        raise ForeignFile(
            f"{foreign[0]}{others}: is in the way, and is not as this program wrote it. It stays "
            "as it is: move it away, or choose another folder for the output"
        )


def is_from(file: Path, source: str) -> bool:
    """Whether the file is there as `write` left it when it was made from this source."""
    return _known(file) and file.is_file() and _known(file, _digest(file.read_bytes()), source)


def is_own(file: Path) -> bool:
    """Whether the program wrote the file as it is now."""
    return _known(file, ANY) or (
        _known(file) and file.is_file() and _known(file, _digest(file.read_bytes()))
    )


# Of each record, how much was read and what it says, so that thousands of files take no time.
_read: dict[Path, tuple[int, set[tuple[bytes, ...]]]] = {}


def _known(file: Path, *digest_and_source: str) -> bool:
    """Whether the record has the file, with this digest, made from this source."""
    record = file.with_name(RECORD)
    begin, lines = _read.get(record, (0, set()))
    end = record.stat().st_size if record.exists() else 0
    if end < begin:  # another folder of the same name
        begin, lines = 0, set()
    if end > begin:
        with record.open("rb") as opened:
            opened.seek(begin)
            for line in opened.read(end - begin).splitlines():
                digest, _, rest = line.partition(b" ")
                source, _, name = rest.partition(b" ")
                lines |= {(name,), (name, digest), (name, digest, source)}
    _read[record] = end, lines
    return (_quoted(file), *(word.encode() for word in digest_and_source)) in lines


def _record(file: Path, digest: str, source: str) -> None:
    # A line of its own, even after one that a killed process left half-way.
    with file.with_name(RECORD).open("ab") as record:
        record.write(b"\n%s %s %s\n" % (digest.encode(), source.encode(), _quoted(file)))


def _quoted(file: Path) -> bytes:
    return json.dumps(file.name).encode()


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
