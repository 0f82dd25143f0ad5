"""A folder of one's own: `images/` and `masks/` with the same stems.

A split is the stems listed in `train.txt` (`val.txt`, `test.txt`), one on a line; without that
file, the sub folders `images/train/` and `masks/train/`. The classes stand in `classes.toml`:

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
import tomllib
from pathlib import Path
from typing import Any

import numpy as np

from segmentation import catalogue
from segmentation.dataset import IGNORED, BadData, Dataset, Sample, Table, from_files

SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}


def open_folder(root: Path, split: str, table_file: Path | None) -> Dataset:
    classes, colours, table = read_table(table_file or _find_table(root))
    listed = root / f"{split}.txt"
    if listed.exists():
        images, masks = root / "images", root / "masks"
    else:
        images, masks = root / "images" / split, root / "masks" / split
    image_files = _by_stem(images, why=f"{listed} is not there either")
    mask_files = _by_stem(masks, why=f"it should hold the masks of {images}")
    stems = listed.read_text().split("\n") if listed.exists() else list(image_files)
    samples = [
        # Where no file has the stem, this one is named when it is read and found missing.
        Sample(
            stem,
            image_files.get(stem, images / f"{stem}.png"),
            mask_files.get(stem, masks / f"{stem}.png"),
            table,
        )
        for stem in map(str.strip, stems)
        if stem
    ]
    if not samples:
        raise BadData(f"{listed if listed.exists() else images}: names no picture")
    return from_files(classes, colours, samples)


def read_table(file: Path) -> tuple[tuple[str, ...], np.ndarray, Table]:
    """Names and colours of the classes, and what the pixels of masks mean."""
    try:
        text = file.read_text()
        content = json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
    except FileNotFoundError:
        raise BadData(f"{file}: there is no such file, the table of classes") from None
    except (json.JSONDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadData(f"{file}: cannot be read, {error}") from error
    classes = content.get("classes")
    if not isinstance(classes, dict) or not 1 <= len(classes) <= IGNORED:
        raise BadData(f"{file}: needs a table `classes` of 1 to {IGNORED} names")
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
    for name, colour in (drawn | content.get("colours", {})).items():
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
    if isinstance(text, str) and len(text) == 7 and text[0] == "#":
        try:
            return int(text[1:], 16)
        except ValueError:
            pass
    raise BadData(f'{file}: wants values from 0 to 65535 and colours as "#1e5aa0", got {text!r}')


def _find_table(root: Path) -> Path:
    toml, json_file = root / "classes.toml", root / "classes.json"
    return json_file if json_file.exists() and not toml.exists() else toml


def _by_stem(folder: Path, why: str) -> dict[str, Path]:
    if not folder.is_dir():
        raise BadData(f"{folder}: there is no such folder; {why}")
    found: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() in SUFFIXES and found.setdefault(file.stem, file) != file:
            raise BadData(f"{file}: has the same stem as {found[file.stem].name}")
    return found
