"""The layouts of public data sets, as they come."""

from pathlib import Path

from segmentation import catalogue, matching, texts
from segmentation.dataset import IGNORED, Dataset, Sample, Table, from_files
from segmentation.listing import listing, natural
from segmentation.matching import Pair
from segmentation.problems import BadData

FOLDS = 5  # of isbi


def voc(root: Path, split: str) -> Dataset:
    """PASCAL VOC 2012. `root` is VOC2012 or a folder above it, as VOCdevkit."""
    root = _below(root, "VOCdevkit/VOC2012", "VOC2012")
    return _voc(root, root / f"ImageSets/Segmentation/{split}.txt", "SegmentationClass")


def voc_sbd(root: Path, split: str) -> Dataset:
    """VOC 2012 with the labels of SBD in a folder `SegmentationClassAug` (10582 to train on).

    They are listed in `trainaug.txt`, or else are all masks there but those of `val.txt`. The split
    "val" is VOC's own.
    """
    if split != "train":
        return voc(root, split)
    root = _below(root, "VOCdevkit/VOC2012", "VOC2012")
    lists, masks = root / "ImageSets/Segmentation", "SegmentationClassAug"
    for file in (lists / "trainaug.txt", lists / "train_aug.txt"):
        if file.exists():
            return _voc(root, file, masks)
    val = voc(root, "val").names
    stems = sorted(listing(root / masks).files.keys() - set(val), key=natural)
    return _voc(root, stems, masks)


def _voc(root: Path, lines: Path | list[str], masks: str) -> Dataset:
    if isinstance(lines, Path):
        lines = texts.lines(lines, "the list of pictures")
    found = matching.listed(lines, listing(root / "JPEGImages"), listing(root / masks), root)
    table = Table((*((c, c) for c in range(21)), (IGNORED, IGNORED)))
    return from_files(catalogue.VOC, catalogue.palette(21), _samples(found, table))


def cityscapes(root: Path, split: str) -> Dataset:
    """Cityscapes. Masks are `labelTrainIds` where present, else `labelIds`."""
    classes = range(len(catalogue.CITYSCAPES))
    train_ids = Table((*((c, c) for c in classes), (IGNORED, IGNORED)))
    ids = dict.fromkeys(range(34), IGNORED) | {c.id: n for n, c in enumerate(catalogue.CITYSCAPES)}
    label_ids = Table(tuple(ids.items()))
    pictures = listing(root / "leftImg8bit" / split, "_leftImg8bit")
    masks = root / "gtFine" / split
    by_train_ids = listing(masks, "_gtFine_labelTrainIds")
    by_ids = listing(masks, "_gtFine_labelIds")
    samples = []
    for name in sorted(pictures.files):
        is_train = name in by_train_ids.files
        chosen, table = (by_train_ids, train_ids) if is_train else (by_ids, label_ids)
        missing = masks / f"{name}_gtFine_labelIds.png"
        mask = chosen.files.get(name, missing)
        samples.append(Sample(name, pictures.files[name], mask, table))
    names = tuple(c.name for c in catalogue.CITYSCAPES)
    colours = [c.colour for c in catalogue.CITYSCAPES]
    return from_files(names, colours, samples, pictures.told())


def ade20k(root: Path, split: str) -> Dataset:
    """ADE20K's scene parsing benchmark. In the masks 0 is unlabelled, 1 to 150 are the classes."""
    root = _below(root, "ADEChallengeData2016")
    part = {"train": "training", "val": "validation"}.get(split, split)
    table = Table(((0, IGNORED), *((c + 1, c) for c in range(150))))
    found, left_out = matching.pairs(
        listing(root / "images" / part), listing(root / "annotations" / part)
    )
    info = root / "objectInfo150.txt"  # a title line, then: index, three numbers, names
    if info.exists():
        rows = [line.split("\t") for line in texts.lines(info, "the names of the classes")[1:]]
        classes = tuple(row[-1].split(",")[0].strip() for row in rows)
        if len(classes) != 150:
            raise BadData(f"{info}: names {len(classes)} classes, not 150")
    else:
        classes = tuple(f"class {c + 1}" for c in range(150))
    return from_files(classes, catalogue.palette(151)[1:], _samples(found, table), left_out)


def camvid(root: Path, split: str) -> Dataset:
    """CamVid with 11 classes, folders `train` and `trainannot`, `val` and `valannot`, ..."""
    names, colours = zip(*catalogue.CAMVID, strict=True)
    table = Table((*((c, c) for c in range(11)), (11, IGNORED)))
    found, left_out = matching.pairs(listing(root / split), listing(root / f"{split}annot"))
    return from_files(names, colours, _samples(found, table), left_out)


def drive(root: Path, split: str) -> Dataset:
    """DRIVE, vessels of the retina; what lies outside the field of view (`mask`) is ignored.

    The split "val" is every fourth picture of `training`: 5 of 20.
    """
    root = _below(root, "DRIVE/datasets", "DRIVE", "datasets")
    part = "training"
    if split == "test":
        part = "testing" if (root / "testing").is_dir() else "test"
    tail = {"testing": "test"}.get(part, part)
    views = listing(root / part / "mask", f"_{tail}_mask")
    found, left_out = matching.pairs(
        listing(root / part / "images", f"_{tail}"),
        listing(root / part / "1st_manual", "_manual1"),
    )
    if split != "test":
        found = [pair for n, pair in enumerate(found) if (n % 4 == 3) == (split == "val")]
    table = Table(((0, 0), (1, 1), (255, 1)))
    missing = f"{views.folder}/{{}}{views.tail}.gif"
    samples = [
        Sample(*pair, table, views.files.get(pair.name, Path(missing.format(pair.name))))
        for pair in found
    ]
    return from_files(("background", "vessel"), [(0, 0, 0), (220, 60, 40)], samples, left_out)


def isbi(root: Path, split: str, fold: int) -> Dataset:
    """ISBI 2012, membranes in 30 slices of electron microscopy: `image/N.png` and `label/N.png`.

    Each fold tests on another fifth of the slices in a row, and validates on the fifth that
    follows. One slice to each side of these parts is left out, since neighbours are much alike.
    """
    if not 0 <= fold < FOLDS:
        raise BadData(f"the layout isbi has folds 0 to {FOLDS - 1}, got {fold}")
    root = _below(root, "data/membrane/train", "membrane/train", "train")
    found, left_out = matching.pairs(listing(root / "image"), listing(root / "label"))
    chosen, gaps = parts(len(found), fold)
    if gaps:
        names = ", ".join(found[n].name for n in gaps)
        left_out.append(f"{len(gaps)} slices lie between the parts of fold {fold}: {names}")
    table = Table(((255, 0), (0, 1)))
    samples = _samples([found[n] for n in chosen[split]], table)
    return from_files(("cell", "membrane"), [(200, 200, 200), (200, 30, 60)], samples, left_out)


def parts(slices: int, fold: int) -> tuple[dict[str, list[int]], list[int]]:
    """Slices of each split, and those between them."""

    def block(number: int) -> set[int]:
        number %= FOLDS
        return set(range(slices * number // FOLDS, slices * (number + 1) // FOLDS))

    def beside(part: set[int]) -> set[int]:
        return {n + step for n in part for step in (-1, 0, 1)}

    test = block(fold)
    val = block(fold + 1) - beside(test)
    train = set(range(slices)) - beside(test) - beside(val)
    chosen = {"train": sorted(train), "val": sorted(val), "test": sorted(test)}
    return chosen, sorted(set(range(slices)) - train - val - test)


def _samples(found: list[Pair], table: Table) -> list[Sample]:
    return [Sample(*pair, table) for pair in found]


def _below(root: Path, *folders: str) -> Path:
    return next((root / folder for folder in folders if (root / folder).is_dir()), root)
