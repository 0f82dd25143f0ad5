"""The tasks, each in training, validation and test parts that share no picture and no region.

Settings are chosen on the validation part, tables show the test part. `drive`, `isbi` and `camvid`
are public sets that the reader fetches: `root/drive` holds `training` and `testing`, `root/isbi`
holds `image` and `label`, `root/camvid` holds `train`, `trainannot` and so on (README.md);
`camvid-half` is the latter at half the resolution. `water`, `land-cover` and `brain` come with
these examples.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
from PIL import Image

from segmentation import satellite
from segmentation.dataset import IGNORED

TaskName = Literal["isbi", "drive", "water", "camvid", "camvid-half", "land-cover", "brain"]
NAMES: tuple[TaskName, ...] = get_args(TaskName)


class Maps(NamedTuple):
    images: np.ndarray  # float32 [N, H, W, channels], standardized over the training part
    labels: np.ndarray  # uint8 [N, H, W], 255 is ignored


class Split(NamedTuple):
    """Indices of pictures."""

    train: Sequence[int] | np.ndarray
    validation: Sequence[int] | np.ndarray
    test: Sequence[int] | np.ndarray


@dataclass(frozen=True)
class Task:
    name: TaskName
    classes: tuple[str, ...]
    train: Maps
    validation: Maps
    test: Maps
    seek_classes: bool = False  # draw a class first, then a crop that shows it
    upright: bool = False  # what is up stays up: crops are mirrored, and not turned
    cells: int | None = None  # the class whose connected parts are objects, if they are


def load(name: TaskName, root: Path | None = None, *, fold: int = 0) -> Task:
    """Reads one task.

    Args:
        name: which one.
        root: the folder with the sets that do not come with these examples.
        fold: of `isbi`: by how many thirds of the stack all parts are moved.
    """
    if name == "water" or name == "land-cover":
        return _satellite(name)
    if name == "brain":
        return _brain()
    if root is None:
        raise SystemExit(f"{name} needs --root, the folder that holds the folder {name}")
    folder = Path(root) / name.removesuffix("-half")
    if not folder.is_dir():
        raise SystemExit(f"{folder}: there is no such folder; README.md says where to get {name}")
    if name == "camvid" or name == "camvid-half":
        return _camvid(name, folder)
    return _drive(folder) if name == "drive" else _isbi(folder, fold)


def isbi_split(fold: int = 0) -> Split:
    """Contiguous slices of the stack, and one slice of gap wherever two parts meet."""
    slices = (np.arange(30) + 10 * fold) % 30
    return Split(slices[1:18], slices[19:24], slices[25:30])


def drive_split() -> Split:
    """Of the 20 pictures for training the last 5 validate; the 20 for testing follow."""
    return Split(range(15), range(15, 20), range(20, 40))


# Columns of tiles, 8.5 degrees of longitude each. Every part has a share of the Americas, of Europe
# and Africa, and of Asia and Australia.
VALIDATION_COLUMNS = (14, 15, 22, 23, 30, 31)
TEST_COLUMNS = (10, 11, 26, 27, 32, 33)


def satellite_split(columns: np.ndarray) -> Split:
    """Tiles by region, from the column of each."""
    validation, test = (np.isin(columns, c) for c in (VALIDATION_COLUMNS, TEST_COLUMNS))
    return Split(*(np.flatnonzero(part) for part in (~validation & ~test, validation, test)))


def brain_split(count: int) -> Split:
    """Slabs of slices from back to front, and 3 slices of gap between them."""
    position = np.arange(count) % 64
    train = (position < 13) | ((position >= 35) & (position < 46))
    test = (position >= 16) & (position < 32)
    validation = (position >= 49) & (position < 61)
    return Split(*(np.flatnonzero(part) for part in (train, validation, test)))


def _task(
    name: TaskName,
    classes: tuple[str, ...],
    pictures: np.ndarray,
    labels: np.ndarray,
    split: Split,
    **options,
) -> Task:
    """`pictures` ``[N, H, W, channels]`` and `labels` ``[N, H, W]``, divided and standardized."""
    seen = pictures[np.asarray(split.train)].astype(np.float32)
    mean, std = seen.mean(axis=(0, 1, 2)), seen.std(axis=(0, 1, 2))

    def part(chosen: Sequence[int] | np.ndarray) -> Maps:
        index = np.asarray(chosen)
        images = (pictures[index].astype(np.float32) - mean) / std
        return Maps(images, labels[index].astype(np.uint8))

    train, validation, test = map(part, split)
    return Task(name, classes, train, validation, test, **options)


def _read(files: Sequence[Path]) -> np.ndarray:
    pictures = []
    for file in files:
        with Image.open(file) as picture:
            pictures.append(np.asarray(picture))
    return np.stack(pictures)


def _files(folder: Path, pattern: str, count: int, order=None) -> list[Path]:
    files = sorted(folder.glob(pattern), key=order)
    if len(files) != count:
        raise SystemExit(f"{folder}: {count} files {pattern} expected, found {len(files)}")
    return files


def _drive(folder: Path) -> Task:
    pictures, labels = [], []
    for part in ("training", "testing"):
        pictures.append(_read(_files(folder / part / "images", "*.tif", 20)))
        vessels = _read(_files(folder / part / "1st_manual", "*.gif", 20)) > 127
        view = _read(_files(folder / part / "mask", "*.gif", 20)) > 127
        labels.append(np.where(view, vessels, IGNORED))
    pictures, labels = np.concatenate(pictures), np.concatenate(labels)
    return _task("drive", ("background", "vessel"), pictures, labels, drive_split())


def _isbi(folder: Path, fold: int) -> Task:
    def stack(part: str) -> np.ndarray:
        return _read(_files(folder / part, "*.png", 30, order=lambda file: int(file.stem)))

    pictures, cells = stack("image")[..., None], stack("label") > 127
    return _task("isbi", ("membrane", "cell"), pictures, cells, isbi_split(fold), cells=1)


CAMVID = (
    "sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian",
    "cyclist",
)  # fmt: skip


def _camvid(name: Literal["camvid", "camvid-half"], folder: Path) -> Task:
    pictures, labels = [], []
    for part, count in (("train", 367), ("val", 101), ("test", 233)):
        pictures.append(_read(_files(folder / part, "*.png", count)))
        labels.append(_read(_files(folder / f"{part}annot", "*.png", count)))
    pictures, labels = np.concatenate(pictures), np.concatenate(labels)
    if name == "camvid-half":  # means of 2 x 2 pixels; of labels, which have no mean, one of the 4
        count, height, width, channels = pictures.shape
        cells = pictures.reshape(count, height // 2, 2, width // 2, 2, channels)
        pictures, labels = cells.mean(axis=(2, 4), dtype=np.float32), labels[:, ::2, ::2]
    labels = np.where(labels < len(CAMVID), labels, IGNORED)
    split = Split(range(367), range(367, 468), range(468, 701))
    return _task(name, CAMVID, pictures, labels, split, upright=True)


def _satellite(name: Literal["water", "land-cover"]) -> Task:
    selection = satellite.select(name)
    split = satellite_split(selection.columns)
    return _task(
        name, selection.classes, selection.pictures, selection.labels, split, seek_classes=True
    )


def _brain() -> Task:
    from segmentation import mni152  # here: the other tasks do not need the `brain` extra

    image, labels = (np.moveaxis(maps, 1, 0) for maps in mni152.volume())
    brain = np.flatnonzero((labels != 0).mean(axis=(1, 2)) > 0.02)
    image, labels = image[brain], labels[brain]
    noise = np.random.default_rng(0).standard_normal(image.shape, np.float32)
    pictures = (image + mni152.NOISE * noise)[..., None]
    return _task("brain", mni152.CLASSES, pictures, labels, brain_split(len(brain)))
