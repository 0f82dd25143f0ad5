"""What predictions ``[N, H, W]`` are worth, in percent (of information: in bits)."""

# The extra `study` need not be where types are checked.
# pyright: reportMissingImports=false

from typing import Any

import jax
import numpy as np
from scipy import ndimage

from rmi_jax import metrics
from studies.data import IGNORED

TOLERANCE = 2  # pixels by which a predicted boundary may miss the true one


def confusion(predictions: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    valid = labels != IGNORED
    pairs = labels[valid].astype(np.int64) * classes + predictions[valid]
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def ious(matrix: np.ndarray) -> np.ndarray:
    """Per class, NaN for one that is neither there nor predicted."""
    hits = np.diagonal(matrix)
    union = matrix.sum(0) + matrix.sum(1) - hits
    return 100 * np.divide(hits, union, out=np.full(len(hits), np.nan), where=union > 0)


def mean_iou(predictions: np.ndarray, labels: np.ndarray, classes: int) -> float:
    return float(np.nanmean(ious(confusion(predictions, labels, classes))))


def scores(
    predictions: np.ndarray, labels: np.ndarray, classes: tuple[str, ...], cells: int | None = None
) -> dict[str, Any]:
    """Mean IoU over the part, mean of the images' own, IoU per class, boundary F1, and of cells."""
    number = len(classes)
    images = [confusion(p, y, number) for p, y in zip(predictions, labels, strict=True)]
    iou = ious(np.sum(images, axis=0))
    counts = jax.jit(metrics.boundary_counts, static_argnames=("num_classes", "tolerance"))
    contours = [
        np.asarray(counts(p[None], y[None], num_classes=number, tolerance=TOLERANCE), np.float64)
        for p, y in zip(predictions.astype(np.int32), labels.astype(np.int32), strict=True)
    ]
    return {
        "miou": float(np.nanmean(iou)),
        "image_iou": float(np.mean([np.nanmean(ious(matrix)) for matrix in images])),
        "boundary_f1": 100 * float(np.nanmean(metrics.boundary_f1(np.sum(contours, axis=0)))),
        "iou": {
            name: None if np.isnan(v) else float(v) for name, v in zip(classes, iou, strict=True)
        },
        **({} if cells is None else partition(predictions == cells, labels == cells)),
    }


def partition(predicted: np.ndarray, true: np.ndarray) -> dict[str, float]:
    """How well the connected parts of two masks agree, away from the true membranes.

    Variation of information in bits and adapted Rand error in percent, each averaged over images.
    """
    from skimage import metrics as skimage  # needs the `study` extra, which no other score does

    bits, rand = [], []
    for p, y in zip(predicted, true, strict=True):
        parts, truth = _connected(p), _connected(y)
        bits.append(np.sum(skimage.variation_of_information(truth, parts, ignore_labels=(0,))))
        rand.append(skimage.adapted_rand_error(truth, parts)[0])
    return {"vi": float(np.mean(bits)), "rand_error": 100 * float(np.mean(rand))}


def _connected(mask: np.ndarray) -> np.ndarray:
    """Numbers the connected parts; 0 is outside."""
    parts = np.zeros(mask.shape, np.int32)
    ndimage.label(mask, output=parts)
    return parts
