"""Names and colours of the classes of public data sets."""

from typing import NamedTuple

import numpy as np

VOC = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair",
    "cow", "dining table", "dog", "horse", "motorbike", "person", "potted plant", "sheep", "sofa",
    "train", "tv monitor",
)  # fmt: skip


class CityscapesClass(NamedTuple):
    id: int  # in the `labelIds` masks; every other id from 0 to 33 is ignored
    name: str
    colour: tuple[int, int, int]


# In the order of `labelTrainIds`.
CITYSCAPES = (
    CityscapesClass(7, "road", (128, 64, 128)),
    CityscapesClass(8, "sidewalk", (244, 35, 232)),
    CityscapesClass(11, "building", (70, 70, 70)),
    CityscapesClass(12, "wall", (102, 102, 156)),
    CityscapesClass(13, "fence", (190, 153, 153)),
    CityscapesClass(17, "pole", (153, 153, 153)),
    CityscapesClass(19, "traffic light", (250, 170, 30)),
    CityscapesClass(20, "traffic sign", (220, 220, 0)),
    CityscapesClass(21, "vegetation", (107, 142, 35)),
    CityscapesClass(22, "terrain", (152, 251, 152)),
    CityscapesClass(23, "sky", (70, 130, 180)),
    CityscapesClass(24, "person", (220, 20, 60)),
    CityscapesClass(25, "rider", (255, 0, 0)),
    CityscapesClass(26, "car", (0, 0, 142)),
    CityscapesClass(27, "truck", (0, 0, 70)),
    CityscapesClass(28, "bus", (0, 60, 100)),
    CityscapesClass(31, "train", (0, 80, 100)),
    CityscapesClass(32, "motorcycle", (0, 0, 230)),
    CityscapesClass(33, "bicycle", (119, 11, 32)),
)

CAMVID = (
    ("sky", (128, 128, 128)),
    ("building", (128, 0, 0)),
    ("pole", (192, 192, 128)),
    ("road", (128, 64, 128)),
    ("pavement", (60, 40, 222)),
    ("tree", (128, 128, 0)),
    ("sign", (192, 128, 128)),
    ("fence", (64, 64, 128)),
    ("car", (64, 0, 128)),
    ("pedestrian", (64, 64, 0)),
    ("bicyclist", (0, 128, 192)),
)


def palette(count: int) -> np.ndarray:
    """The colours of VOC, uint8 ``[count, 3]``: the bits of an index, dealt to red, green, blue."""
    index = np.arange(count)[:, None] >> np.arange(8)[None] & 1  # the bits, lowest first
    bits = np.zeros((count, 3, 8), np.uint8)
    for bit in range(8):
        bits[:, bit % 3, 7 - bit // 3] = index[:, bit]
    return np.packbits(bits, axis=-1, bitorder="little")[..., 0]
