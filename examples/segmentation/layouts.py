"""The layouts of public data sets, and of a folder of one's own.

`open_dataset` only lists files. What is wrong inside them is found by reading (`check.py`).
"""

from pathlib import Path
from typing import Literal

from segmentation import catalogue, folder, shipped
from segmentation.dataset import IGNORED, BadData, Dataset, Sample, Table, from_files

LayoutName = Literal[
    "voc", "voc-sbd", "cityscapes", "ade20k", "camvid", "folder", "water", "land-cover"
]
Split = Literal["train", "val", "test"]


def open_dataset(
    name: LayoutName, root: Path | None, split: Split, *, table: Path | None = None
) -> Dataset:
    """One split of a data set.

    Args:
        name: the layout.
        root: the data set's folder. `water` and `land-cover` ship with these examples: None.
        split: "train", "val", or "test" where the data set has one with labels.
        table: for the layout "folder", the file that names the classes, by default
            ``root/classes.toml`` or ``root/classes.json``.

    Raises:
        BadData: files that the layout needs are not there. The message names them.
    """
    if name == "water" or name == "land-cover":
        return shipped.open_task(name, split)
    if root is None:
        raise BadData(f"the layout {name} needs the data set's folder, got None")
    root = Path(root)
    if not root.is_dir():
        raise BadData(f"{root}: there is no such folder")
    if name == "folder":
        return folder.open_folder(root, split, table)
    opened = {
        "voc": voc,
        "voc-sbd": voc_sbd,
        "cityscapes": cityscapes,
        "ade20k": ade20k,
        "camvid": camvid,
    }[name](root, split)
    if not len(opened):
        raise BadData(f"{root}: no picture of the split {split} of {name} is in this folder")
    return opened


def voc(root: Path, split: Split) -> Dataset:
    """PASCAL VOC 2012. `root` is VOC2012 or a folder above it, as VOCdevkit."""
    root = _below(root, "VOCdevkit/VOC2012", "VOC2012")
    return _voc(root, _listed(root / f"ImageSets/Segmentation/{split}.txt"), "SegmentationClass")


def voc_sbd(root: Path, split: Split) -> Dataset:
    """VOC 2012 with the labels of SBD in a folder `SegmentationClassAug` (10582 to train on).

    They are listed in `trainaug.txt`, or else are all masks there but those of `val.txt`. The split
    "val" is VOC's own.
    """
    if split != "train":
        return voc(root, split)
    root = _below(root, "VOCdevkit/VOC2012", "VOC2012")
    lists = root / "ImageSets/Segmentation"
    for file in (lists / "trainaug.txt", lists / "train_aug.txt"):
        if file.exists():
            stems = _listed(file)
            break
    else:
        masks = (root / "SegmentationClassAug").glob("*.png")
        stems = sorted({mask.stem for mask in masks} - set(_listed(lists / "val.txt")))
    return _voc(root, stems, "SegmentationClassAug")


def _voc(root: Path, stems: list[str], masks: str) -> Dataset:
    table = Table((*((c, c) for c in range(21)), (IGNORED, IGNORED)))
    samples = [
        Sample(stem, root / f"JPEGImages/{stem}.jpg", root / f"{masks}/{stem}.png", table)
        for stem in stems
    ]
    return from_files(catalogue.VOC, catalogue.palette(21), samples)


def cityscapes(root: Path, split: Split) -> Dataset:
    """Cityscapes. Masks are `labelTrainIds` where present, else `labelIds`."""
    classes = range(len(catalogue.CITYSCAPES))
    train_ids = Table((*((c, c) for c in classes), (IGNORED, IGNORED)))
    ids = dict.fromkeys(range(34), IGNORED) | {c.id: n for n, c in enumerate(catalogue.CITYSCAPES)}
    label_ids = Table(tuple(ids.items()))
    samples = []
    for image in (root / "leftImg8bit" / split).glob("*/*_leftImg8bit.png"):
        name = image.name.removesuffix("_leftImg8bit.png")
        masks = root / "gtFine" / split / image.parent.name
        mask, table = masks / f"{name}_gtFine_labelTrainIds.png", train_ids
        if not mask.exists():
            mask, table = masks / f"{name}_gtFine_labelIds.png", label_ids
        samples.append(Sample(name, image, mask, table))
    names = tuple(c.name for c in catalogue.CITYSCAPES)
    return from_files(names, [c.colour for c in catalogue.CITYSCAPES], samples)


def ade20k(root: Path, split: Split) -> Dataset:
    """ADE20K's scene parsing benchmark. In the masks 0 is unlabelled, 1 to 150 are the classes."""
    root = _below(root, "ADEChallengeData2016")
    part = {"train": "training", "val": "validation"}.get(split, split)
    table = Table(((0, IGNORED), *((c + 1, c) for c in range(150))))
    samples = [
        Sample(image.stem, image, root / f"annotations/{part}/{image.stem}.png", table)
        for image in (root / "images" / part).glob("*.jpg")
    ]
    info = root / "objectInfo150.txt"  # a title line, then: index, three numbers, names
    if info.exists():
        rows = [line.split("\t") for line in info.read_text().splitlines()[1:] if line.strip()]
        classes = tuple(row[-1].split(",")[0].strip() for row in rows)
        if len(classes) != 150:
            raise BadData(f"{info}: names {len(classes)} classes, not 150")
    else:
        classes = tuple(f"class {c + 1}" for c in range(150))
    return from_files(classes, catalogue.palette(151)[1:], samples)


def camvid(root: Path, split: Split) -> Dataset:
    """CamVid with 11 classes, folders `train` and `trainannot`, `val` and `valannot`, ..."""
    names, colours = zip(*catalogue.CAMVID, strict=True)
    table = Table((*((c, c) for c in range(11)), (11, IGNORED)))
    samples = [
        Sample(image.stem, image, root / f"{split}annot" / image.name, table)
        for image in (root / split).glob("*.png")
    ]
    return from_files(names, colours, samples)


def _below(root: Path, *folders: str) -> Path:
    return next((root / folder for folder in folders if (root / folder).is_dir()), root)


def _listed(file: Path) -> list[str]:
    if not file.exists():
        raise BadData(f"{file}: there is no such file, the list of pictures")
    # Some lists name both files: "/JPEGImages/a.jpg /SegmentationClassAug/a.png".
    return [Path(line.split()[0]).stem for line in file.read_text().splitlines() if line.strip()]
