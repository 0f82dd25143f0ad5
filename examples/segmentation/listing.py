"""The pictures in a folder, by name. One rule for all layouts, and for pictures and masks alike.

A picture's name is its path inside the folder without the ending, as "a" or "site 1/a.b". Endings
count in any case. Hidden files, and those that file managers leave behind, are passed over. Other
files that are not read are reported, with their number and the name of one.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from segmentation import images, texts
from segmentation.problems import BadData

LEFT_BEHIND = {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir"}


@dataclass
class Listing:
    """Files by name, and those that are no pictures."""

    folder: Path
    tail: str = ""
    files: dict[str, Path] = field(default_factory=dict)
    others: list[Path] = field(default_factory=list)

    def find(self, text: str) -> str | None:
        """The name that a line of a list means: a name, or a path with or without the folder."""
        text = texts.same(text)
        for name in (text, text.strip()):
            path = name.removeprefix("./").removeprefix("/")
            inside = path.removeprefix(f"{self.folder.name}/")
            for candidate in (name, path, inside, without_ending(inside)):
                if candidate in self.files:
                    return candidate
        return None

    def told(self) -> list[str]:
        tail = self.tail and f" whose names end in {self.tail}"
        return tell(self.others, f"in {self.folder} are no pictures that can be read{tail}")


def listing(
    folder: Path,
    tail: str = "",
    *,
    why: str = "",
    without: Path | None = None,
    skip: Callable[[Path], bool] = lambda file: False,
) -> Listing:
    """All pictures in a folder, and in the folders within it.

    Args:
        folder: where to look.
        tail: what the names of the pictures must end in, and are given without.
        why: said where there is no such folder.
        without: a folder within that is not looked into.
        skip: whether a file is passed over.
    """
    if not folder.is_dir():
        raise BadData(f"{folder}: there is no such folder{why and f'; {why}'}")
    found = Listing(folder, tail)
    for file in _visible(folder, without):
        if skip(file):
            continue
        name = texts.same(without_ending(file.relative_to(folder).as_posix()))
        if not is_picture(file) or not name.endswith(tail):
            found.others.append(file)
            continue
        name = name[: len(name) - len(tail)]
        if found.files.setdefault(name, file) != file:
            other = found.files[name].relative_to(folder)
            raise BadData(f"{file}: has the same name as {other}, but for the ending")
    return found


def is_picture(file: Path) -> bool:
    return file.suffix.lower() in images.ENDINGS


def without_ending(name: str) -> str:
    stem, ending = os.path.splitext(name)
    return stem if ending.lower() in images.ENDINGS else name


def natural(name: str) -> list[tuple[int, int, str]]:
    """To sort 2 before 10."""
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in re.split(r"(\d+)", name) if p]


def tell(files: Iterable[Path], what: str) -> list[str]:
    """One line for all of them, with their number and the first of them."""
    files = sorted(files)
    return [f"{len(files)} files {what}, such as {files[0]}"] if files else []


def _visible(folder: Path, without: Path | None) -> Iterator[Path]:
    seen = set()
    left_out = without and without.resolve()
    for path, folders, files in os.walk(folder, followlinks=True):
        real = Path(path).resolve()
        if real in seen or real == left_out:  # a link may lead back up
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not _is_hidden(name))
        yield from (Path(path, name) for name in sorted(files) if not _is_hidden(name))


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in LEFT_BEHIND
