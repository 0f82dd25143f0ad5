"""The MNI152 brain template with tissue labels.

The template is the average of 152 brains at 1 mm (ICBM 2009a; Fonov et al., 2011), skull-stripped,
and comes inside nilearn's wheel, so that nothing is downloaded. It shows how to handle such data;
scores on it say little about real scans, since an average brain has no noise and no anatomy of its
own. Those who train on it add noise (`NOISE`) for that reason.

Left and right halves are equal, so training and test data are separated along the second axis
(back to front), in slabs with a gap between them.
"""

import importlib.util
from pathlib import Path
from typing import NamedTuple

import nibabel
import numpy as np

CLASSES = ("background", "fluid", "grey matter", "white matter")
COLOURS = np.array([[20, 20, 30], [70, 130, 220], [150, 150, 150], [245, 240, 225]], np.uint8)
NOISE = 40  # grey levels, of 255; fluid, grey and white matter differ by about 60
SLAB, GAP = 16, 3  # slices; every fourth slab is for testing


class Volume(NamedTuple):
    image: np.ndarray  # float32 [197, 233, 189], grey levels from 0 (outside the brain) to 255
    labels: np.ndarray  # int32, same shape: indices into CLASSES


def volume() -> Volume:
    """Axes: right to left, back to front, bottom to top, 1 mm each."""
    package = importlib.util.find_spec("nilearn")
    if package is None or package.origin is None:
        raise SystemExit(
            "the brain template comes with nilearn, of the extra brain: "
            "pip install --editable '.[brain]'"
        )
    # The files alone: importing nilearn takes seconds.
    folder = Path(package.origin).parent / "datasets" / "data"

    def read(name: str) -> np.ndarray:
        file = folder / f"mni_icbm152_{name}_tal_nlin_sym_09a_converted.nii.gz"
        return np.asanyarray(nibabel.Nifti1Image.from_filename(file).dataobj).astype(np.float32)

    image, grey, white = map(read, ("t1", "gm", "wm"))
    # The likeliest tissue; what is neither grey nor white inside the brain is mostly fluid.
    labels = np.stack([255 - grey - white, grey, white]).argmax(axis=0) + 1
    return Volume(image, np.where((image == 0) & (labels == 1), 0, labels).astype(np.int32))


def slabs(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices along the second axis for training and for testing, from back to front."""
    (brain,) = np.nonzero((labels != 0).mean(axis=(0, 2)) > 0.02)
    position = (brain - brain[0]) % (4 * SLAB) - 2 * SLAB  # 0 to SLAB - 1 is the test slab
    is_test = (position >= 0) & (position < SLAB)
    near_test = (position >= -GAP) & (position < SLAB + GAP)
    return brain[~near_test], brain[is_test]
