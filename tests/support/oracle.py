"""The loss written out in plain loops, in extended precision: what the library is compared with.

Shares no code with `rmi_jax` and knows no JAX. It follows the textbook: regions are cut out one by
one, the conditional scatter is ``Y Y' - Y P' (P P' + alpha I)^-1 P Y'`` as the paper prints it
(affordable in extended precision only), and gradients are its closed form, pushed back by hand.
Slow on purpose; maps of a few hundred pixels are its range.

Maps are ``[*S]`` for one image and one class; the functions at the end loop over ``[B, *S, C]``.
"""

import itertools
import math
from typing import NamedTuple

import numpy as np

REAL = np.longdouble
PerAxis = int | tuple[int, ...]
MIN_PROB = 1e-6  # what the authors' code adds to every probability


# --- From pixels to cells: each cell is a list of taps (pixel, coefficient).


def _cells_along(size, factor, method):
    if factor == 1:
        return size
    if method in ("avg", "max"):
        return (size + 2 * (factor // 2) - factor) // factor + 1
    return size // factor


def _taps_along(i, size, factor, method):
    if factor == 1:
        return [(i, 1.0)]
    if method in ("avg", "max"):
        return [(i * factor - factor // 2 + j, 1 / factor) for j in range(factor)]
    cells = size // factor
    if method == "nearest":
        return [(i * size // cells, 1.0)]
    low, rest = divmod(i * (size - 1), max(cells - 1, 1))
    share = rest / max(cells - 1, 1)
    return [(low, 1 - share), (low + 1, share)] if share else [(low, 1.0)]


def downsampling_taps(values, factors, method, valid=None):
    """Taps of every cell of one map, in a dict keyed by cell.

    Args:
      values: the map ``[*S]`` (maximum pooling looks at it).
      factors: pixels per cell, one per axis.
      method: "avg", "max", "interpolate" or "nearest".
      valid: None: every pixel counts, and so do the padded zeros of average pooling. Or a boolean
        map: only valid pixels count, the others' share is spread over them.
    """
    shape = values.shape
    cells = [_cells_along(s, f, method) for s, f in zip(shape, factors, strict=True)]
    taps = {}
    for cell in np.ndindex(*cells):
        along = [_taps_along(i, s, f, method) for i, s, f in zip(cell, shape, factors, strict=True)]
        found = []
        for combination in itertools.product(*along):
            pixel = tuple(index for index, _ in combination)
            coefficient = math.prod(c for _, c in combination)
            inside = all(0 <= index < size for index, size in zip(pixel, shape, strict=True))
            if inside and (valid is None or valid[pixel]):
                found.append((pixel, coefficient))
        if method == "max" and found:
            top = max(values[pixel] for pixel, _ in found)
            winners = [pixel for pixel, _ in found if values[pixel] == top]
            found = [(pixel, 1 / len(winners)) for pixel in winners]
        elif valid is not None:
            total = sum(c for _, c in found)
            found = [(pixel, c / total) for pixel, c in found]
        taps[cell] = found
    return taps


def apply_taps(values, taps):
    """The downsampled map."""
    cells = np.zeros([n + 1 for n in max(taps)], REAL)
    for cell, found in taps.items():
        for pixel, coefficient in found:
            cells[cell] += coefficient * values[pixel]
    return cells


def spread_taps(cell_grad, taps, shape):
    """Adjoint of `apply_taps`: the gradient by pixel."""
    grad = np.zeros(shape, REAL)
    for cell, found in taps.items():
        for pixel, coefficient in found:
            grad[pixel] += coefficient * cell_grad[cell]
    return grad


# --- Regions and their statistics.


def region_cells(shape, size, dilation, stride):
    """Yields, for every position where a region fits, the list of its cells in row-major order."""
    starts = [
        range(0, n - (k - 1) * g, s)
        for n, k, g, s in zip(shape, size, dilation, stride, strict=True)
    ]
    for start in itertools.product(*starts):
        offsets = itertools.product(*(range(k) for k in size))
        yield [
            tuple(a + g * o for a, g, o in zip(start, dilation, off, strict=True))
            for off in offsets
        ]


def _cholesky(matrix):
    size = len(matrix)
    lower = np.zeros((size, size), REAL)
    for i in range(size):
        for j in range(i + 1):
            rest = matrix[i, j] - sum((lower[i, k] * lower[j, k] for k in range(j)), REAL(0))
            lower[i, j] = np.sqrt(rest) if i == j else rest / lower[j, j]
    return lower


def _inverse(matrix):
    lower = _cholesky(matrix)
    size = len(matrix)
    inverse = np.zeros((size, size), REAL)
    for column in range(size):
        x = np.zeros(size, REAL)
        x[column] = 1
        for i in range(size):
            x[i] = (x[i] - lower[i, :i] @ x[:i]) / lower[i, i]
        for i in reversed(range(size)):
            x[i] = (x[i] - lower[i + 1 :, i] @ x[i + 1 :]) / lower[i, i]
        inverse[:, column] = x
    return inverse


def _log_det(matrix):
    return 2 * np.sum(np.log(np.diagonal(_cholesky(matrix))))


class Statistics(NamedTuple):
    """What one map pair gives; gradients are of the loss, by cell."""

    loss: np.floating  # 1/(2d) log det(M + alpha I) with the anchor, no floor subtracted
    information: np.floating  # 1/(2d) log [det(Y Y' + alpha I) / det(M + alpha I)]
    normalized: np.floating  # information / (1/(2d) log det(I + Y Y' / alpha)), 0 where that is 0
    probs_grad: np.ndarray
    targets_grad: np.ndarray


def statistics(probs, targets, weights, *, region_size, dilation, stride, jitter, anchor):
    """Paper equations 13 to 15 on cell maps ``[*S]``, by the textbook formula."""
    positions, position_weights, p, y = [], [], [], []
    for cells in region_cells(probs.shape, region_size, dilation, stride):
        positions.append(cells)
        position_weights.append(min(weights[cell] for cell in cells))
        p.append([probs[cell] for cell in cells])
        y.append([targets[cell] for cell in cells])
    w = np.asarray(position_weights, REAL)
    p, y = np.asarray(p, REAL).T, np.asarray(y, REAL).T  # [d, n]
    d = len(p)
    if w.sum() > 0:
        p = p - (p @ w / w.sum())[:, None]
        y = y - (y @ w / w.sum())[:, None]
    # One region of every stride^N stands for all of them.
    w = w * math.prod(stride)
    alpha = REAL(jitter) * np.eye(d, dtype=REAL)
    entropy = _log_det((y * w) @ y.T + alpha)
    conditional, *_ = _conditional(p, y, w, alpha)
    information = entropy - conditional
    available = entropy - d * np.log(REAL(jitter))
    # Rounding leaves about 1e-19 where the label map is constant.
    normalized = information / available if available > 1e-12 else REAL(0)

    # The anchor, word for word: tau copies of the truth, each with itself for a prediction.
    n = len(positions)
    both = np.concatenate([p, y], axis=1), np.concatenate([y, y], axis=1)
    conditional, by_p, by_y = _conditional(*both, np.concatenate([w, REAL(anchor) * w]), alpha)
    by_p, by_y = by_p[:, :n], by_y[:, :n] + by_p[:, n:] + by_y[:, n:]
    probs_grad, targets_grad = np.zeros(probs.shape, REAL), np.zeros(probs.shape, REAL)
    for x, cells in enumerate(positions):
        for i, cell in enumerate(cells):
            probs_grad[cell] += by_p[i, x]
            targets_grad[cell] += by_y[i, x]
    return Statistics(
        conditional / (2 * d), information / (2 * d), normalized, probs_grad, targets_grad
    )


def _conditional(p, y, w, alpha):
    """``log det(M + alpha I)`` of weighted columns, and its gradients by them over ``2 d``."""
    yy, pp, yp = (y * w) @ y.T, (p * w) @ p.T, (y * w) @ p.T
    w_star = yp @ _inverse(pp + alpha)
    m = yy - w_star @ yp.T
    m = (m + m.T) / 2 + alpha
    pull = _inverse(m) @ (y - w_star @ p) * w / len(p)
    return _log_det(m), -(w_star.T @ pull), pull


# --- The functions of the library.


class RegionLoss(NamedTuple):
    """Values ``[B, C]`` and gradients ``[B, *S, C]`` of the sum over images and classes."""

    loss: np.ndarray
    information: np.ndarray
    normalized: np.ndarray
    probs_grad: np.ndarray
    targets_grad: np.ndarray


def region_loss(
    probs,
    targets,
    weights=None,
    *,
    region_size: PerAxis = 3,
    dilation: PerAxis = 1,
    factor: PerAxis = 1,
    downsampling="avg",
    jitter=5e-4,
    anchor=0.0,
    ignored="exclude",
    zero_floor=True,
    region_stride: PerAxis = 1,
):
    """Region statistics of ``[B, *S, C]`` maps at one scale, with every option of the library.

    ``weights`` ``[B, *S]`` are the pixel weights; 0 marks an ignored pixel.
    """
    probs, targets = np.asarray(probs, REAL), np.asarray(targets, REAL)
    batch, *spatial, classes = probs.shape
    per_axis = lambda value: tuple(np.broadcast_to(value, len(spatial)).tolist())  # noqa: E731
    factors = per_axis(factor)
    if weights is None:
        weights = np.ones((batch, *spatial))
    weights = np.asarray(weights, REAL)
    label_method = "nearest" if downsampling == "interpolate" else downsampling
    weight_method = "nearest" if downsampling == "interpolate" else "avg"

    values = np.zeros((3, batch, classes), REAL)
    grads = np.zeros((2, *probs.shape), REAL)
    for b, c in np.ndindex(batch, classes):
        valid = weights[b] > 0
        p, y = probs[b, ..., c], targets[b, ..., c]
        if ignored == "zero":
            p, y = np.where(valid, p, 0) + MIN_PROB, np.where(valid, y, 0)
            p_taps = downsampling_taps(p, factors, downsampling)
            y_taps = downsampling_taps(y, factors, label_method)
            cell_weights = np.ones([n + 1 for n in max(p_taps)], REAL)
        else:
            p_taps = downsampling_taps(p, factors, downsampling, valid)
            y_taps = downsampling_taps(y, factors, label_method, valid)
            w_taps = downsampling_taps(weights[b], factors, weight_method, valid)
            cell_weights = apply_taps(weights[b], w_taps)
            for cell, found in p_taps.items():
                if not found:
                    cell_weights[cell] = 0
        result = statistics(
            apply_taps(p, p_taps),
            apply_taps(y, y_taps),
            cell_weights,
            region_size=per_axis(region_size),
            dilation=per_axis(dilation),
            stride=per_axis(region_stride),
            jitter=jitter,
            anchor=anchor,
        )
        values[:, b, c] = result.loss, result.information, result.normalized
        grads[0, b, ..., c] = spread_taps(result.probs_grad, p_taps, p.shape) * valid
        grads[1, b, ..., c] = spread_taps(result.targets_grad, y_taps, y.shape) * valid
    if zero_floor:
        values[0] -= np.log(REAL(jitter)) / 2
    return RegionLoss(*values.astype(np.float64), *grads.astype(np.float64))


def one_hot(labels, classes):
    """Target maps ``[B, *S, C]`` and valid pixels ``[B, *S]`` of integer labels."""
    labels = np.asarray(labels)
    targets = np.zeros((*labels.shape, classes))
    for c in range(classes):
        targets[..., c] = labels == c
    return targets, (labels >= 0) & (labels < classes)


def objective(
    logits,
    targets,
    weights=None,
    *,
    bce_weight=0.5,
    rmi_weight=None,
    activation="softmax",
    class_weights=None,
    factor=1,
    scale_weights=None,
    anchor=0.01,
    **options,
):
    """The full objective on target maps: terms ``[B]`` and the gradient of their mean."""
    logits, targets = np.asarray(logits, REAL), np.asarray(targets, REAL)
    batch, *spatial, classes = logits.shape
    weights = np.ones((batch, *spatial), REAL) if weights is None else np.asarray(weights, REAL)
    class_weights = np.ones(classes, REAL) if class_weights is None else np.asarray(class_weights)
    rmi_weight = 1 - bce_weight if rmi_weight is None else rmi_weight

    # Cross entropy, summed over classes, per valid pixel.
    if activation == "sigmoid":
        probs = np.where(logits > 0, 1, np.exp(-np.abs(logits))) / (1 + np.exp(-np.abs(logits)))
        softplus = np.maximum(logits, 0) + np.log1p(np.exp(-np.abs(logits)))
        by_pixel = (softplus - targets * logits) * class_weights
        bce_grad = (probs - targets) * class_weights
    else:
        shifted = logits - logits.max(axis=-1, keepdims=True)
        log_probs = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
        probs = np.exp(log_probs)
        by_pixel = -targets * class_weights * log_probs
        weighted = targets * class_weights
        bce_grad = probs * weighted.sum(axis=-1, keepdims=True) - weighted
    by_pixel = np.where(weights[..., None] > 0, by_pixel * weights[..., None], 0)
    bce_grad = np.where(weights[..., None] > 0, bce_grad * weights[..., None], 0)
    normalizer = weights.sum() + 1
    terms = bce_weight * batch * by_pixel.reshape(batch, -1).sum(axis=1) / normalizer
    grad = bce_weight * bce_grad / normalizer

    # Region mutual information: mean over images, weighted sum over classes and scales.
    factors = factor if isinstance(factor, (tuple, list)) else (factor,)
    if scale_weights is None:
        scale_weights = [2.0**-k for k in range(len(factors))]
        scale_weights = [weight / sum(scale_weights) for weight in scale_weights]
    probs_grad = np.zeros(logits.shape, REAL)
    for one_factor, scale_weight in zip(factors, scale_weights, strict=True):
        result = region_loss(probs, targets, weights, factor=one_factor, anchor=anchor, **options)
        terms = terms + rmi_weight * scale_weight * result.loss @ class_weights
        probs_grad += scale_weight * result.probs_grad * class_weights
    if activation == "sigmoid":
        opposite = np.where(logits > 0, np.exp(-np.abs(logits)), 1) / (1 + np.exp(-np.abs(logits)))
        logits_grad = probs_grad * probs * opposite
    else:
        inner = (probs_grad * probs).sum(axis=-1, keepdims=True)
        logits_grad = probs * (probs_grad - inner)
    grad = grad + rmi_weight * logits_grad / batch
    return terms.astype(np.float64), grad.astype(np.float64)
