"""Which mask belongs to which picture: the one of the same name. One rule for all layouts."""

import re
from pathlib import Path
from typing import NamedTuple

from segmentation import texts
from segmentation.listing import Listing, natural, tell


class Pair(NamedTuple):
    name: str
    image: Path
    mask: Path


def pairs(pictures: Listing, masks: Listing) -> tuple[list[Pair], list[str]]:
    """All pictures of a folder, with their masks, in order; and what is left out."""
    found = [_pair(name, pictures, masks) for name in sorted(pictures.files, key=natural)]
    alone = [file for name, file in masks.files.items() if name not in pictures.files]
    left_out = tell(alone, f"in {masks.folder} have no picture in {pictures.folder}")
    return found, [*pictures.told(), *left_out]


def listed(lines: list[str], pictures: Listing, masks: Listing, root: Path) -> list[Pair]:
    """The pictures that the lines of a list name: as often, and in the order that it says.

    A line is a name, with or without ending and folder. It may name the mask too, after a blank:
    "/JPEGImages/a.jpg /SegmentationClassAug/a.png". Blanks may also be part of a name.
    """
    return [_named(line, pictures, masks, root) for line in lines]


def _named(line: str, pictures: Listing, masks: Listing, root: Path) -> Pair:
    name = pictures.find(line)
    if name is not None:
        return _pair(name, pictures, masks)
    for blank in re.finditer(r"\s+", line.strip()):
        first, second = line.strip()[: blank.start()], line.strip()[blank.end() :]
        name = pictures.find(first)
        if name is not None:
            mask = masks.find(second)
            stated = root / second.lstrip("/")
            if mask is not None and not stated.is_file():
                stated = masks.files[mask]
            return Pair(name, pictures.files[name], stated)
    return _pair(texts.same(line.strip()), pictures, masks)


def _pair(name: str, pictures: Listing, masks: Listing) -> Pair:
    # Where no file has the name, reading fails with the name of this one.
    image, mask = (
        found.files.get(name, Path(f"{found.folder}/{name}{found.tail}.png"))
        for found in (pictures, masks)
    )
    return Pair(name, image, mask)
