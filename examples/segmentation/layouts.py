"""The layouts of public data sets, and of a folder of one's own.

`open_dataset` only lists files. What is wrong inside them is found by reading (`check.py`).
"""

from dataclasses import replace
from pathlib import Path
from typing import Literal

from segmentation import folder, public, shipped
from segmentation.dataset import Dataset, FileReader
from segmentation.problems import BadData

LayoutName = Literal[
    "voc",
    "voc-sbd",
    "cityscapes",
    "ade20k",
    "camvid",
    "drive",
    "isbi",
    "folder",
    "water",
    "land-cover",
]
Split = Literal["train", "val", "test"]


def open_dataset(
    name: LayoutName,
    root: Path | None,
    split: Split,
    *,
    table: Path | None = None,
    fold: int = 0,
    max_pixels: int | None = None,
) -> Dataset:
    """One split of a data set.

    Args:
        name: the layout.
        root: the data set's folder. `water` and `land-cover` ship with these examples: None.
        split: "train", "val", or "test" where the data set has one with labels.
        table: for the layout "folder", the file that names the classes, by default
            ``root/classes.toml`` or ``root/classes.json``.
        fold: for the layout "isbi", which fifth of the slices is the split "test".
        max_pixels: pictures of more pixels are refused, by default of more than `images.LIMIT`.

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
        opened = folder.open_folder(root, split, table)
    elif name == "isbi":
        opened = public.isbi(root, split, fold)
    else:
        opened = {
            "voc": public.voc,
            "voc-sbd": public.voc_sbd,
            "cityscapes": public.cityscapes,
            "ade20k": public.ade20k,
            "camvid": public.camvid,
            "drive": public.drive,
        }[name](root, split)
    if not len(opened):
        left_out = "".join(f"\n{line}" for line in opened.left_out)
        raise BadData(
            f"{root}: no picture of the split {split} of {name} is in this folder{left_out}"
        )
    assert isinstance(opened.reader, FileReader)
    return replace(opened, reader=replace(opened.reader, limit=max_pixels))
