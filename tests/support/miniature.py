"""Every layout of `examples/segmentation/layouts.py` in miniature, with real pictures in it.

The pictures are crops of the satellite imagery that ships with the examples; the land cover classes
stand in for each data set's own.
"""

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from segmentation.layouts import Split

EXAMPLES = Path(__file__).parents[2] / "examples"
SIZE = (56, 72)  # height and width; they differ, so that a mix-up shows
COLOURS = ("#142878", "#1e6e32", "#a0a03c", "#8cc850", "#dcb450", "#c8b4a0", "#f0f0ff")


class Expected(NamedTuple):
    name: str
    image: np.ndarray  # uint8 [H, W, 3], before JPEG where the layout has JPEG files
    labels: np.ndarray  # uint8 [H, W], as `read` should give them


@contextmanager
def importing_examples() -> Iterator[None]:
    """Makes `import segmentation` work, as beside the scripts."""
    sys.path.insert(0, str(EXAMPLES))
    try:
        yield
    finally:
        sys.path.remove(str(EXAMPLES))


@cache
def crops() -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """16 crops with at least four classes each, some with ignored pixels."""
    with importing_examples():
        selection = importlib.import_module("segmentation.satellite").select("land-cover")
    pairs = []
    for picture, labels in zip(selection.pictures, selection.labels, strict=True):
        corner = np.s_[30 : 30 + SIZE[0], 20 : 20 + SIZE[1]]
        if len(np.unique(labels[corner])) >= 5:
            pairs.append((picture[corner], labels[corner]))
    return tuple(pairs[:: len(pairs) // 16][:16])


def build(name: str, root: Path, count: int = 4) -> "dict[Split, list[Expected]]":
    """Writes the data set; returns what its splits "train" and "val" should read as.

    A name may end in a variant: "cityscapes:labelIds", "folder:colours", "folder:lists".
    """
    layout, _, variant = name.partition(":")
    pairs = iter(crops())
    expected: dict[Split, list[Expected]] = {}
    for split in ("train", "val"):
        chosen = [next(pairs) for _ in range(count)]
        expected[split] = sorted(
            WRITERS[layout](root, split, variant, *pair) for pair in _named(chosen)
        )
    if layout == "folder":
        _write_table(root, variant)
    return expected


def _named(pairs: list) -> list[tuple[str, np.ndarray, np.ndarray]]:
    return [(f"2007_{i:06d}", *pair) for i, pair in enumerate(pairs)]


def save(file: Path, pixels: np.ndarray, palette: np.ndarray | None = None) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(pixels)
    if palette is not None:
        picture.putpalette(palette.astype(np.uint8).tobytes())  # mode P: pixels stay indices
    picture.save(file, quality=95) if file.suffix == ".jpg" else picture.save(file)


def mapped(labels: np.ndarray, values: Any, ignored: int) -> np.ndarray:
    lookup = np.full(256, ignored)
    lookup[: len(values)] = values
    return lookup[np.asarray(labels, np.uint8)].astype(np.uint8)


def _voc(root, split, variant, stem, image, labels, masks="SegmentationClass"):
    stem = f"{stem}_{split}"
    labels = mapped(labels, [0, 3, 7, 12, 15, 19, 20], 255)
    voc = root / "VOCdevkit/VOC2012"
    save(voc / f"JPEGImages/{stem}.jpg", image)
    # A palette whose brightness is nothing like the index: a reader that converts would show.
    palette = np.random.default_rng(0).integers(0, 256, (256, 3))
    folder = masks if split == "train" else "SegmentationClass"
    save(voc / folder / f"{stem}.png", labels, palette)
    lists = voc / "ImageSets/Segmentation"
    lists.mkdir(parents=True, exist_ok=True)
    name = f"{split}.txt" if masks == "SegmentationClass" or split == "val" else variant
    if name:
        paths = name == "train_aug.txt"  # which is how some of these lists are written
        line = f"/JPEGImages/{stem}.jpg /{folder}/{stem}.png" if paths else stem
        with (lists / name).open("a") as file:
            file.write(f"{line}\n")
    return Expected(stem, image, labels)


def _voc_sbd(root, split, variant, stem, image, labels):
    if split == "val":  # its masks are in the augmented folder too, and must not be trained on
        save(root / f"VOCdevkit/VOC2012/SegmentationClassAug/{stem}_{split}.png", labels)
    return _voc(root, split, variant, stem, image, labels, "SegmentationClassAug")


def _cityscapes(root, split, variant, stem, image, labels):
    stem, city = f"aachen_{stem}_{split}", f"aachen_{split}"
    save(root / "leftImg8bit" / split / city / f"{stem}_leftImg8bit.png", image)
    mask = root / "gtFine" / split / city / f"{stem}_gtFine_labelIds.png"
    train_ids = [0, 2, 8, 10, 13, 16, 18]
    save(mask, mapped(labels, [7, 11, 21, 23, 26, 31, 33], 4))
    labels = mapped(labels, train_ids, 255)
    if variant != "labelIds":
        save(mask.with_name(f"{stem}_gtFine_labelTrainIds.png"), labels)
    return Expected(f"{city}/{stem}", image, labels)


def _ade20k(root, split, variant, stem, image, labels):
    part = {"train": "training", "val": "validation"}[split]
    top = root / "ADEChallengeData2016"
    save(top / f"images/{part}/{stem}.jpg", image)
    values = np.array([1, 5, 22, 60, 99, 149, 150])
    save(top / f"annotations/{part}/{stem}.png", mapped(labels, values, 0))
    return Expected(stem, image, mapped(labels, values - 1, 255))


def _camvid(root, split, variant, stem, image, labels):
    save(root / split / f"{stem}.png", image)
    values = [0, 1, 3, 5, 7, 9, 10]
    save(root / f"{split}annot" / f"{stem}.png", mapped(labels, values, 11))
    return Expected(stem, image, mapped(labels, values, 255))


def _drive(root, split, variant, stem, image, labels):
    """By numbers; training holds the splits train and val, every fourth picture being val."""
    part = "test" if split == "test" else "training"
    top = root / f"DRIVE/{part if variant != 'testing' else {'test': 'testing'}.get(part, part)}"
    seen = np.ones(SIZE, bool)
    seen[:5], seen[:, -7:] = False, False
    save(top / f"images/{stem}_{part}.tif", image)
    save(top / f"1st_manual/{stem}_manual1.gif", mapped(labels == 1, [0, 255], 0))
    save(top / f"mask/{stem}_{part}_mask.gif", mapped(seen, [0, 255], 0))
    return Expected(stem, image, np.where(seen, labels == 1, 255).astype(np.uint8))


def drive(root: Path, variant: str = "") -> "dict[Split, list[Expected]]":
    """Eight pictures to train and validate with, four to test with."""
    pairs = crops()
    made = {
        f"{number:02d}": _drive(
            root, "train" if number > 20 else "test", variant, f"{number:02d}", *pairs[n]
        )
        for n, number in enumerate((*range(21, 29), *range(1, 5)))
    }
    return {
        "train": [made[name] for name in ("21", "22", "23", "25", "26", "27")],
        "val": [made[name] for name in ("24", "28")],
        "test": [made[name] for name in ("01", "02", "03", "04")],
    }


def isbi(root: Path, slices: int = 15) -> list[Expected]:
    """Grey slices 0 to N, without leading zeros, and masks in which membranes are black."""
    made = []
    for n in range(slices):
        image, labels = crops()[n]
        top, membrane = root / "data/membrane/train", labels == 1
        save(top / f"image/{n}.png", image[..., 0])
        save(top / f"label/{n}.png", mapped(membrane, [255, 0], 0))
        grey = np.repeat(image[..., :1], 3, axis=-1)
        made.append(Expected(str(n), grey, membrane.astype(np.uint8)))
    return made


def _folder(root, split, variant, stem, image, labels):
    inside = "" if variant == "lists" else split
    if variant == "lists":
        stem = f"{stem}_{split}"
        with (root / f"{split}.txt").open("a") as file:
            file.write(f"{stem}\n")
    save(root / "images" / inside / f"{stem}.png", image)
    if variant == "colours":
        shown = [int(colour[1:], 16) for colour in COLOURS]
        lookup = np.zeros((256, 3), np.uint8)
        lookup[: len(shown)] = [(c >> 16, c >> 8 & 255, c & 255) for c in shown]
        mask = lookup[labels]
    else:
        mask = mapped(labels, np.arange(7) * 20, 255)
    save(root / "masks" / inside / f"{stem}.png", mask)
    return Expected(stem, image, labels)


def _write_table(root: Path, variant: str) -> None:
    names = ("water", "forest", "shrub", "grass", "crop", "barren", "snow")
    if variant == "colours":
        classes = dict(zip(names, COLOURS, strict=True))
        (root / "classes.json").write_text(json.dumps({"classes": classes, "ignored": "#000000"}))
    else:
        lines = [f"{name} = {20 * i}" for i, name in enumerate(names)]
        (root / "classes.toml").write_text("\n".join(["ignored = 255", "[classes]", *lines]))


WRITERS: dict[str, Callable[..., Expected]] = {
    "voc": _voc,
    "voc-sbd": _voc_sbd,
    "cityscapes": _cityscapes,
    "ade20k": _ade20k,
    "camvid": _camvid,
    "folder": _folder,
}
