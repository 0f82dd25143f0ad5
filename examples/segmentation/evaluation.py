"""Scores of a network on whole pictures."""

import heapq
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from rmi_jax import metrics
from segmentation import hosts
from segmentation.augment import normalize
from segmentation.dataset import IGNORED, Dataset
from segmentation.pipeline import eval_pictures
from segmentation.windows import Predict

SHOWN = 3
CHUNK = 1 << 18  # pixels counted at a time, so that one program serves pictures of every size


class Picture(NamedTuple):
    score: float  # mIoU over the classes in this picture
    name: str
    image: np.ndarray  # uint8 [H, W, 3]
    labels: np.ndarray  # uint8 [H, W]
    prediction: np.ndarray  # uint8 [H, W]


class Evaluation(NamedTuple):
    matrix: np.ndarray  # int64 [C, C], row: true class, column: predicted
    first: list[Picture]  # the same ones in every evaluation, to see them change
    best: list[Picture]  # of those that this process has read
    worst: list[Picture]


def evaluate(predict: Predict, dataset: Dataset) -> Evaluation:
    """Over all processes, each of which reads its shard of the pictures."""
    classes = len(dataset.classes)
    total = np.zeros((classes, classes), np.int64)
    first: list[Picture] = []
    best: list[Picture] = []
    worst: list[Picture] = []
    index, count = hosts.shard()
    bar = tqdm(
        eval_pictures(dataset, (index, count)),
        desc="evaluating",
        total=-(-(len(dataset) - index) // count),
        unit="picture",
        mininterval=1,
        leave=False,
        disable=None if hosts.is_first() else True,
    )
    for name, image, labels in bar:
        prediction = predict(normalize(image))
        matrix = confusion(prediction, labels, classes)
        total += matrix
        if matrix.any():  # a picture may be ignored altogether
            picture = Picture(mean_iou(matrix), name, image, labels, prediction)
            if len(first) < SHOWN:
                first.append(picture)
            best = heapq.nlargest(SHOWN, [*best, picture], key=score)
            worst = heapq.nsmallest(SHOWN, [*worst, picture], key=score)
    return Evaluation(hosts.summed(total), first, best, worst)


def score(picture: Picture) -> float:
    return picture.score


def confusion(prediction: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """int64 ``[C, C]``, counted in chunks of one size."""
    total = np.zeros((classes, classes), np.int64)
    pad = (0, -labels.size % CHUNK)
    flat_labels = np.pad(labels.ravel(), pad, constant_values=IGNORED).reshape(-1, 1, CHUNK)
    flat_prediction = np.pad(prediction.ravel(), pad).reshape(-1, 1, CHUNK)
    for predicted, true in zip(flat_prediction, flat_labels, strict=True):
        total += np.asarray(metrics.confusion_matrix(predicted, true, classes))
    return total


def iou(matrix: np.ndarray) -> np.ndarray:
    """``[C]``; NaN for a class that is neither there nor predicted."""
    return np.asarray(metrics.iou(matrix))


def mean_iou(matrix: np.ndarray) -> float:
    return float(metrics.mean_iou(matrix))
