"""What hypothesis draws: inputs as recipes that print in a few lines, options as table rows."""

import itertools
import random
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st
from inputs import Example, smooth

from rmi_jax.downsampling import cell_counts

# --- Inputs


class Layer(NamedTuple):
    """What is painted over a part of an array, on top of the layers before it."""

    kind: str
    size: float
    part: str
    seed: int


class Recipe(NamedTuple):
    logits: list[Layer]
    labels: list[Layer]
    weights: list[Layer]
    softness: float  # of the target maps: 0 is one-hot, 1 is noise
    jitter: float
    anchor: float
    bce_weight: float
    rmi_weight: float
    class_weights: list[float]  # for as many classes as there can be
    scale_weights: list[float]
    seed: int  # of everything else


def _along(values):
    """``[rows]`` values as a map ``[B, rows, *S, C]``."""
    return lambda shape: values(shape[1]).reshape(1, -1, *[1] * (len(shape) - 2))


_sine = _along(lambda rows: np.sin(np.arange(rows) / 5))
_powers = _along(lambda rows: 10 ** np.linspace(-30, 30, rows))

# Of [B, *S, C] logits, to be scaled by the layer's size.
LOGITS = {
    "noise": lambda rng, shape, truth: rng.normal(size=shape),
    "smooth": lambda rng, shape, truth: smooth(rng.normal(size=shape)),
    "truth": lambda rng, shape, truth: np.roll(2 * truth - 1, rng.integers(3), axis=1),
    "constant": lambda rng, shape, truth: 1,
    "signs": lambda rng, shape, truth: rng.choice([-1, 1], size=shape),
    "sine": lambda rng, shape, truth: _sine(shape),
    # All classes are equal, and so are many pixels.
    "ties": lambda rng, shape, truth: rng.integers(-1, 2, size=(*shape[:-1], 1)),
    # All magnitudes in one image.
    "ramp": lambda rng, shape, truth: rng.choice([-1, 1], size=shape) * _powers(shape),
}
TAME_LOGITS = ("noise", "smooth", "truth", "sine")

# Of [B, *S] labels.
LABELS = {
    "objects": lambda rng, shape, classes: smooth(rng.normal(size=(*shape, classes))).argmax(-1),
    # Blocks of 3 pixels, from which a shift takes little information.
    "blocks": lambda rng, shape, classes: rng.integers(classes, size=shape)[
        np.ix_(range(shape[0]), *(np.arange(n) // 3 for n in shape[1:]))
    ],
    "class": lambda rng, shape, classes: rng.integers(classes),
    "noise": lambda rng, shape, classes: rng.integers(classes, size=shape),
    "ignored": lambda rng, shape, classes: rng.choice([-1, 255]),
    "ignored noise": lambda rng, shape, classes: rng.choice([-1, 0, 1, 255], size=shape),
}

# Of [B, *S] weights, to be scaled by the layer's size.
WEIGHTS = {
    "one": lambda rng, shape, _: 1,
    "zero": lambda rng, shape, _: 0,
    "noise": lambda rng, shape, _: rng.uniform(size=shape),
    "mask": lambda rng, shape, _: rng.integers(2, size=shape),
}

_PARTS = ("all", "image", "box", "pixel")
_SEEDS = st.integers(0, 2**32 - 1)
TAME = st.sampled_from([0.3, 1.0, 3.0, -3.0])
WILD = (
    TAME
    | st.sampled_from([0.0, 1e-30, 1e-6, 12.0, 40.0, -40.0, 100.0, 1e4, -1e20, 1e30, -1e30])
    | st.floats(-30, 30).map(lambda exponent: 10.0**exponent)
)


def _layers(kinds, sizes, most=3, parts=_PARTS):
    layer = st.builds(Layer, st.sampled_from(list(kinds)), sizes, st.sampled_from(parts), _SEEDS)
    return st.lists(layer, min_size=1, max_size=most)


def recipes(
    kinds=tuple(LOGITS),
    sizes=WILD,
    jitters=(5e-4, 1.0, 1e4),
    anchors=(0.0, 0.01, 1.0, 100.0),
    largest_weight=4.0,
):
    """Recipes of inputs and of the options that may be traced."""
    share = st.sampled_from([0.5, 0.0, 0.3, 1.0])
    vector = st.lists(st.sampled_from([1.0, 0.0, 0.3, largest_weight]), min_size=5, max_size=5)
    return st.builds(
        Recipe,
        logits=_layers(kinds, sizes, parts=(*_PARTS, "class")),
        labels=_layers(LABELS, st.just(1.0)),
        weights=_layers(WEIGHTS, st.sampled_from([1.0, 1e-3, 2.5 * largest_weight]), most=2),
        softness=st.sampled_from([0.0, 0.1, 1.0]),
        jitter=st.sampled_from(jitters),
        anchor=st.sampled_from(anchors),
        bce_weight=share,
        rmi_weight=share,
        class_weights=vector,
        scale_weights=vector,
        seed=_SEEDS,
    )


def arrays(recipe, shape, largest=1e30):
    """What a recipe makes of maps ``[B, *S, C]``: float64, with logits up to ``largest``."""
    *pixels, classes = shape
    rng = np.random.default_rng(recipe.seed)
    labels = _painted(LABELS["objects"](rng, pixels, classes), recipe.labels, LABELS, classes)
    truth = (labels[..., None] == np.arange(classes)).astype(np.float64)
    logits = _painted(3 * smooth(rng.normal(size=shape)), recipe.logits, LOGITS, truth)
    logits = np.clip(logits, -largest, largest)
    probs = (1 + np.tanh(logits / 2)) / 2  # does not overflow
    targets = (1 - recipe.softness) * truth + recipe.softness * rng.uniform(size=shape)
    weights = _painted(np.ones(pixels), recipe.weights, WEIGHTS, None)
    return Example(logits, probs, targets, labels.astype(np.int32), weights > 0, weights)


def _painted(array, layers, kinds, context):
    for layer in layers:
        rng = np.random.default_rng(layer.seed)
        part = _part(rng, layer.part, array.shape)
        paint = np.broadcast_to(kinds[layer.kind](rng, array.shape, context), array.shape)
        array = np.array(array)
        array[part] = layer.size * paint[part]
    return array


def _part(rng, name, shape):
    """Index of one class, one image, or a box or a pixel of an image."""
    index = [slice(None)] * len(shape)
    if name == "class":
        index[-1] = rng.integers(shape[-1])
    elif name != "all":
        index[0] = rng.integers(shape[0])
    if name in ("box", "pixel"):
        for axis, size in enumerate(shape[1:], start=1):
            start = rng.integers(size)
            index[axis] = slice(
                start, start + 1 if name == "pixel" else rng.integers(start, size) + 1
            )
    return tuple(index)


# --- Options

# What each may be; tuples of three are one entry per spatial axis. True means that it is passed.
OPTIONS = {
    "function": ("rmi_loss", "soft_rmi_loss"),
    "implementation": ("streaming", "patches"),
    "dtype": ("float32", "bfloat16", "float16", "float64"),
    "label_dtype": ("int32", "uint8", "int8"),
    "ndim": (2, 1, 3),
    "margin": (3, 0, 1, 6),  # by which the map is larger than what just holds a region
    "batch": (2, 1, 3),
    "classes": (3, 2, 1, 5),
    "region_size": ((3, 3, 3), (1, 1, 1), (2, 2, 2), (3, 1, 2), (4, 2, 1), (3, 3, 2)),
    "dilation": ((1, 1, 1), (1, 1, 1), (2, 2, 2), (1, 2, 1)),
    "factor": (1, 4, 2, ((1, 2, 2),), (1, 2, 4), (3, (2, 1, 1))),
    "downsampling": ("avg", "max", "interpolate"),
    "ignored": ("exclude", "zero"),
    "region_stride": ((1, 1, 1), (1, 1, 1), (2, 2, 2), (3, 1, 2)),
    "activation": ("sigmoid", "softmax"),
    "zero_floor": (True, False),
    "reduction": ("mean", "none"),
    "has_aux": (True, False),
    "axis": (-1, 1),
    "where": (None, "mask", "weights"),
    "region_key": (False, True),
    "scale_weights": (False, True),
    "rmi_weight": (False, True),
    "without_cross_entropy": (False, False, False, True),  # a bce_weight that is known to be 0
    "class_weights": (False, True),
}
_PER_AXIS = ("region_size", "dilation", "region_stride")


def table(rows, seed, *, flips=False, first=False, **narrowed):
    """Rows in which each value of an option is as frequent as the others, and combined at random.

    Args:
      rows: how many.
      seed: of their combination.
      flips: whether cells and regions must lie symmetrically on the maps.
      first: whether the first values are those that occur where there are fewer rows than values.
      narrowed: other choices than those of OPTIONS.
    """
    rng = random.Random(seed)
    columns = {}
    for name, values in {**OPTIONS, **narrowed}.items():
        values = list(values)
        if not first:
            rng.shuffle(values)
        columns[name] = list(itertools.islice(itertools.cycle(values), rows))
        rng.shuffle(columns[name])
    found = (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
    return [_row(seed + i, flips, options) for i, options in enumerate(found)]


def _row(seed, flips, options):
    """Makes the options fit each other, and a map that fits them; adds its shape and a seed."""
    row = SimpleNamespace(**options, seed=seed)
    if not isinstance(row.factor, int):
        row.factor = tuple(f if isinstance(f, int) else f[: row.ndim] for f in row.factor)
    scales = (row.factor,) if isinstance(row.factor, int) else row.factor
    row.scales = [(f,) * row.ndim if isinstance(f, int) else f for f in scales]
    if flips and len(row.scales) > 1:
        # There are no sides on which every second region of factors 1, 2 and 4 is symmetric.
        row.region_stride = (1,) * row.ndim
    sizes = {name: getattr(row, name)[: row.ndim] for name in _PER_AXIS}
    for name, per_axis in sizes.items():
        setattr(row, name, per_axis[0] if len(set(per_axis)) == 1 else per_axis)
    sides = []
    for axis, size in enumerate(zip(*sizes.values(), strict=True)):
        fit = _sides([f[axis] for f in row.scales], row.downsampling, *size, flips=flips)
        sides.append(next(itertools.islice(fit, row.margin, None)))
    least = 2 if row.function == "rmi_loss" or row.activation == "softmax" else 1
    row.shape = (row.batch, *sides, max(row.classes, least))
    return row


def _sides(factors, downsampling, size, dilation, stride, flips):
    """Yields lengths of an axis, the shortest first."""
    span = (size - 1) * dilation
    for side in range(1, 1000):  # an end, for none may fit
        cells = [cell_counts([side], [f], downsampling)[0] for f in factors]
        padded = [side + 2 * (f // 2) if f > 1 else side for f in factors]
        symmetric = all(p % f == 0 for p, f in zip(padded, factors, strict=True)) and all(
            (n - span - 1) % stride == 0 for n in cells
        )
        if min(cells) > span and (symmetric or not flips):
            yield side
