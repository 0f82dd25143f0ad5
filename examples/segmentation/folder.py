"""A folder of one's own: `images/` and `masks/` with the same stems.

A split is the names listed in `train.txt` (`val.txt`, `test.txt`), one on a line, as often and in
the order that they stand there; without that file, all that is in the sub folders `images/train/`
and `masks/train/` and in folders within them. The classes stand in `classes.toml`:

    ignored = [255]                  # may be left out; then every pixel must have a class

    [classes]                        # in the order of the class indices
    sea = 0                          # the value of the pixels in a mask,
    land = [1, 4]                    # or several of them

    [colours]                        # to draw with; may be left out
    sea = "#1e5aa0"

or, for masks in colour, with `sea = "#1e5aa0"` or `sea = ["#1e5aa0", "#000080"]` under `[classes]`
and in `ignored`. A `classes.json` with the same keys does as well.
"""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import numpy as np

from segmentation import catalogue, matching, texts
from segmentation.dataset import IGNORED, Dataset, Sample, Table, from_files
from segmentation.listing import listing
from segmentation.problems import BadData

KEYS = ("classes", "ignored", "colours")


def open_folder(root: Path, split: str, table_file: Path | None) -> Dataset:
    classes, colours, table = read_table(table_file or _find_table(root))
    listed = root / f"{split}.txt"
    if listed.exists():
        images, masks = root / "images", root / "masks"
    else:
        images, masks = root / "images" / split, root / "masks" / split
    pictures = listing(images, why=f"{listed} is not there either")
    mask_files = listing(masks, why=f"it should hold the masks of {images}")
    if listed.exists():
        lines = texts.lines(listed, "the list of pictures")
        found, left_out = matching.listed(lines, pictures, mask_files, root), []
    else:
        found, left_out = matching.pairs(pictures, mask_files)
    samples = [Sample(*pair, table) for pair in found]
    if not samples:
        told = "".join(f"\n{line}" for line in left_out)
        raise BadData(f"{listed if listed.exists() else images}: names no picture{told}")
    return from_files(classes, colours, samples, left_out)


def read_table(file: Path) -> tuple[tuple[str, ...], np.ndarray, Table]:
    """Names and colours of the classes, and what the pixels of masks mean."""
    text = texts.read(file, "the table of classes")
    try:
        if file.suffix.lower() == ".json":
            content = json.loads(text, object_pairs_hook=_without_repetition)
        else:
            content = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadData(f"{file}: cannot be read, {error}") from error
    is_table = isinstance(content, dict)
    unknown = sorted(set(content) - set(KEYS)) if is_table else type(content).__name__
    if unknown:
        raise BadData(f"{file}: knows `classes`, `ignored` and `colours`, got {unknown}")
    classes = content.get("classes")
    if not isinstance(classes, dict) or not 2 <= len(classes) <= IGNORED:
        raise BadData(
            f"{file}: needs a table `classes` of 2 to {IGNORED} names. To find one class, name "
            "what else there is as a class too, such as the background"
        )
    classes, named = (_same_names(given, file) for given in (classes, content.get("colours", {})))
    meanings: dict[int, int] = {}
    kinds = set()
    for meaning, pixels in [*enumerate(classes.values()), (IGNORED, content.get("ignored", []))]:
        for pixel in pixels if isinstance(pixels, list) else [pixels]:
            key = _key(pixel, file)
            if meanings.setdefault(key, meaning) != meaning:
                raise BadData(f"{file}: {pixel!r} stands for two classes")
            kinds.add(type(pixel))
    if len(kinds) != 1:
        raise BadData(f"{file}: give either values or colours for all classes")
    colours = catalogue.palette(len(classes))
    drawn = classes if kinds == {str} else {}
    for name, colour in (drawn | named).items():
        if name not in classes:
            raise BadData(f"{file}: there is a colour for {name!r}, but no such class")
        key = _colour(colour[0] if isinstance(colour, list) else colour, file)
        colours[list(classes).index(name)] = key >> 16, key >> 8 & 255, key & 255
    return tuple(classes), colours, Table(tuple(meanings.items()), is_rgb=kinds == {str})


def _key(pixel: Any, file: Path) -> int:
    if isinstance(pixel, int) and not isinstance(pixel, bool) and 0 <= pixel < 2**16:
        return pixel
    return _colour(pixel, file)


def _colour(text: Any, file: Path) -> int:
    if isinstance(text, str) and re.fullmatch("#[0-9a-fA-F]{6}", text):
        return int(text[1:], 16)
    raise BadData(f'{file}: wants values from 0 to 65535 and colours as "#1e5aa0", got {text!r}')


def _find_table(root: Path) -> Path:
    toml, json_file = root / "classes.toml", root / "classes.json"
    return json_file if json_file.exists() and not toml.exists() else toml


def _without_repetition(items: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(items)
    if len(found) < len(items):
        raise ValueError(f"a name stands there twice: {[name for name, _ in items]}")
    return found


def _same_names(given: Any, file: Path) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise BadData(f"{file}: wants a table of names and colours, got {given!r}")
    found = {texts.same(name): value for name, value in given.items()}
    if len(found) < len(given):
        raise BadData(f"{file}: two names look the same: {list(given)}")
    return found
