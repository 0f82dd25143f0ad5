"""Every public function x every kind of misuse: the exception, and what its message says.

A message names the argument, what it got and what would work; the table spells out all three.
"""

import inspect
from functools import partial
from operator import attrgetter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rmi_jax
from rmi_jax import metrics

SHAPE = (2, 9, 8, 3)
MAPS = np.random.default_rng(0).uniform(0.1, 0.9, SHAPE).astype("float32")
LABELS = np.zeros(SHAPE[:-1], "int32")
KEY = jax.random.key(0)
# What the metrics count for two classes: predictions that are right, and some that are not.
MATRIX = np.array([[50, 2], [3, 89]])
BOUNDARIES = np.array([[4, 6, 3, 5, 2, 9], [4, 4, 4, 4, 7, 7]])
IOUS = np.array([[0.5, np.nan], [0.25, 1.0]], "float32")  # of two images
CLASSES = {"predictions": LABELS, "labels": LABELS, "num_classes": 3}

ARGUMENTS = {
    "rmi_loss": {"logits": MAPS, "labels": LABELS},
    "soft_rmi_loss": {"logits": MAPS, "targets": MAPS},
    "region_information_loss": {"probs": MAPS, "targets": MAPS},
    "region_mutual_information": {"probs": MAPS, "targets": MAPS},
    "extract_regions": {"maps": MAPS, "region_size": 3},
    "downsample": {"maps": MAPS, "factor": 2},
    "warmup_schedule": {"warmup_steps": 30, "transition_steps": 10},
    "metrics.confusion_matrix": CLASSES,
    "metrics.iou": {"matrix": MATRIX},
    "metrics.mean_iou": {"matrix": MATRIX},
    "metrics.dice": {"matrix": MATRIX},
    "metrics.boundary_counts": {**CLASSES, "tolerance": 2},
    "metrics.boundary_f1": {"counts": BOUNDARIES},
    "metrics.boundary_iou": {"counts": BOUNDARIES},
    "metrics.image_iou": CLASSES,
    "metrics.mean_image_iou": {"ious": IOUS},
    "metrics.class_image_iou": {"ious": IOUS},
}
SOFT = ("soft_rmi_loss",)
LOSSES = ("rmi_loss", "soft_rmi_loss")
TERMS = ("region_information_loss", "region_mutual_information")
ALL = LOSSES + TERMS
ANCHORED = (*LOSSES, "region_information_loss")
EXTRACT, DOWNSAMPLE, SCHEDULE = ("extract_regions",), ("downsample",), ("warmup_schedule",)
MATRICES = ("metrics.iou", "metrics.mean_iou", "metrics.dice")
CONTOURS = ("metrics.boundary_f1", "metrics.boundary_iou")
BOUNDARY = ("metrics.boundary_counts",)
COUNTS = ("metrics.confusion_matrix", *BOUNDARY, "metrics.image_iou")
PER_IMAGE = ("metrics.mean_image_iou", "metrics.class_image_iou")


CAST = ".astype(jnp.int32)"  # of class indices that were cast to floats
EIGHT_BITS = jnp.asarray(MAPS).astype(jnp.float8_e4m3fn)


def full(value, shape=SHAPE[:-1], dtype: str | type = "float32"):
    return np.full(shape, value, dtype)


def maps_rows(functions, name):
    """What can be wrong with a `[B, *S, C]` array."""
    return [
        (functions, {name: MAPS.tolist()}, TypeError, [name, "list", "asarray"]),
        (functions, {name: None}, TypeError, [name, "NoneType", "asarray"]),
        (functions, {name: MAPS.astype("int32")}, TypeError, [name, "int32", "astype"]),
        (functions, {name: MAPS.astype("complex64")}, TypeError, [name, "complex64", "astype"]),
        (functions, {name: MAPS > 0.5}, TypeError, [name, "bool", "astype"]),
        (functions, {name: EIGHT_BITS}, TypeError, [name, "float8", "astype"]),
        (functions, {name: MAPS.astype(">f4")}, TypeError, [name, ">f4", "astype('float32')"]),
        (functions, {name: np.ma.array(MAPS)}, TypeError, [name, "masked array", "where"]),
        (functions, {name: MAPS[0, 0]}, ValueError, [name, "(8, 3)", "spatial"]),
        (functions, {name: MAPS[None, None]}, ValueError, [name, "(1, 1, 2, 9, 8, 3)", "spatial"]),
        (functions, {name: MAPS[:0]}, ValueError, [name, "(0, 9, 8, 3)", "empty"]),
        (functions, {name: MAPS[..., :0]}, ValueError, [name, "(2, 9, 8, 0)", "empty"]),
    ]


def sides_rows(functions, name):
    """What can be wrong with an int, or one int per spatial axis."""
    return [
        (functions, {name: 0}, ValueError, [name, "got 0", "at least 1"]),
        (functions, {name: -2}, ValueError, [name, "got -2", "at least 1"]),
        (functions, {name: (2, 0)}, ValueError, [name, "got 0", "at least 1"]),
        (functions, {name: 1.5}, TypeError, [name, "1.5", "must be an int"]),
        (functions, {name: "3"}, TypeError, [name, "'3'", "must be an int"]),
        (functions, {name: None}, TypeError, [name, "None", "must be an int"]),
        (functions, {name: True}, TypeError, [name, "True", "must be an int"]),
        (functions, {name: (1,)}, ValueError, [name, "(1,)", "one int per spatial axis (2"]),
        (functions, {name: (1, 1, 1)}, ValueError, [name, "(1, 1, 1)", "one int per spatial axis"]),
        (functions, {name: ()}, ValueError, [name, "()", "one int per spatial axis"]),
        (functions, {name: 2**31}, ValueError, [name, "2147483648", "at most 2147483647"]),
    ]


def steps_rows(functions, name):
    """What can be wrong with a static number."""
    return [
        (functions, {name: 1.5}, TypeError, [name, "1.5", "must be an int"]),
        (functions, {name: "3"}, TypeError, [name, "'3'", "must be an int"]),
        (functions, {name: None}, TypeError, [name, "None", "must be an int"]),
        (functions, {name: True}, TypeError, [name, "True", "must be an int"]),
        (functions, {name: [3]}, TypeError, [name, "[3]", "must be an int"]),
        (functions, {name: float("nan")}, TypeError, [name, "nan", "must be an int"]),
        (functions, {name: 10**12}, ValueError, [name, "1000000000000", "at most"]),
    ]


def classes_rows(functions, name):
    """What can be wrong with a class map."""
    return [
        (functions, {name: MAPS[..., 0]}, TypeError, [name, "float32", "argmax"]),
        (functions, {name: LABELS > 0}, TypeError, [name, "bool", "integers", CAST]),
        (functions, {name: LABELS.astype("float64")}, TypeError, [name, "float64", CAST]),
        (functions, {name: LABELS[..., None]}, ValueError, [name, "(2, 9, 8, 1)", "[..., 0]"]),
        (functions, {name: LABELS.tolist()}, TypeError, [name, "list", "asarray"]),
        (functions, {name: LABELS.astype(">i4")}, TypeError, [name, ">i4", "astype('int32')"]),
        (functions, {name: np.ma.array(LABELS)}, TypeError, [name, "masked array", "where"]),
        (functions, {name: None}, TypeError, [name, "NoneType", "asarray"]),
    ]


def counts_rows(functions, name, origin):
    """What can be wrong with counts."""
    good = ARGUMENTS[functions[0]][name]
    return [
        (functions, {name: good.tolist()}, TypeError, [name, "list", "asarray"]),
        (functions, {name: None}, TypeError, [name, "NoneType", "asarray"]),
        (functions, {name: good > 3}, TypeError, [name, "bool", origin]),
        (functions, {name: good + 0j}, TypeError, [name, "complex128", origin]),
        (functions, {name: good - 10}, ValueError, [name, "-", "not negative"]),
        (functions, {name: good * np.nan}, ValueError, [name, "nan", "finite"]),
        (functions, {name: good * np.inf}, ValueError, [name, "inf", "finite"]),
        (functions, {name: good[0]}, ValueError, [name, str(good[0].shape), origin]),
        (functions, {name: good[:, 1:]}, ValueError, [name, str(good[:, 1:].shape), origin]),
        (functions, {name: good[:0]}, ValueError, [name, str(good[:0].shape), origin]),
    ]


def real_rows(functions, name):
    """What can be wrong with a real scalar that may not be negative."""
    return [
        (functions, {name: -0.1}, ValueError, [name, "-0.1"]),
        (functions, {name: np.float32(np.nan)}, ValueError, [name, "nan", "finite"]),
        (functions, {name: float("inf")}, ValueError, [name, "inf", "finite"]),
        (functions, {name: jnp.float32(-2)}, ValueError, [name, "-2.0"]),
        (functions, {name: 1e39}, ValueError, [name, "1e+39", "float32"]),
        (functions, {name: "0.5"}, TypeError, [name, "'0.5'", "real number"]),
        (functions, {name: 1j}, TypeError, [name, "1j", "real number"]),
        (functions, {name: np.complex64(1)}, ValueError, [name, "complex64", "real scalar"]),
        (functions, {name: True}, TypeError, [name, "True", "real number"]),
        (functions, {name: full(1, (2,))}, ValueError, [name, "(2,)", "real scalar"]),
    ]


def choice_rows(functions, name, choices, *wrong):
    return [
        (functions, {name: value}, ValueError, [name, repr(value), *map(repr, choices)])
        for value in (*wrong, None, 1)
        if not (value is None and name == "implementation")
    ]


def switch_rows(functions, name):
    return [
        (functions, {name: value}, TypeError, [name, repr(value), "True or False"])
        for value in (1, None, "yes")
    ]


MISUSE = [
    # The arrays.
    *maps_rows(LOSSES, "logits"),
    *maps_rows(TERMS, "probs"),
    *maps_rows(SOFT + TERMS, "targets"),
    *maps_rows(EXTRACT + DOWNSAMPLE, "maps"),
    (SOFT + TERMS, {"targets": MAPS[:1]}, ValueError, ["targets", "(1, 9, 8, 3)", str(SHAPE)]),
    (SOFT + TERMS, {"targets": MAPS * 255}, ValueError, ["targets", "[0, 1]", "divide"]),
    (SOFT + TERMS, {"targets": MAPS - 1}, ValueError, ["targets", "[0, 1]", "from -0."]),
    (TERMS, {"probs": 20 * MAPS - 10}, ValueError, ["probs", "[0, 1]", "sigmoid"]),
    (
        LOSSES[:1],
        {"labels": MAPS[..., 0]},
        TypeError,
        ["labels", "float32", "soft_rmi_loss"],
    ),
    (LOSSES[:1], {"labels": MAPS}, TypeError, ["labels", "float32", "soft_rmi_loss"]),
    (LOSSES[:1], {"labels": np.eye(3)[LABELS]}, TypeError, ["labels", "soft_rmi_loss"]),
    (LOSSES[:1], {"labels": full(1)}, TypeError, ["labels", "float32", f"labels{CAST}"]),
    (LOSSES[:1], {"labels": jnp.ones((2, 9, 8), "bfloat16")}, TypeError, ["labels", CAST]),
    (LOSSES[:1], {"labels": full(1, (2, 9, 8, 1))}, TypeError, ["labels", "float32", CAST]),
    (LOSSES[:1], {"labels": LABELS > 0}, TypeError, ["labels", "bool", "integers", CAST]),
    (
        LOSSES[:1],
        {"labels": LABELS[..., None]},
        ValueError,
        ["labels", "(2, 9, 8, 1)", "(2, 9, 8)", "labels[..., 0]"],
    ),
    (LOSSES[:1], {"labels": LABELS.tolist()}, TypeError, ["labels", "list", "asarray"]),
    (LOSSES[:1], {"labels": np.ma.array(LABELS)}, TypeError, ["labels", "masked", "where"]),
    (LOSSES[:1], {"labels": LABELS.astype(">i2")}, TypeError, ["labels", ">i2", "'int16'"]),
    (
        LOSSES[:1],
        {"labels": jnp.asarray(LABELS).astype(jnp.int4)},
        TypeError,
        ["labels", "int4", "integers"],
    ),
    (LOSSES[:1], {"labels": MAPS.astype(int)}, ValueError, ["labels", str(SHAPE), "(2, 9, 8)"]),
    (LOSSES[:1], {"labels": LABELS[:, 1:]}, ValueError, ["labels", "(2, 8, 8)", "(2, 9, 8)"]),
    (
        LOSSES[:1],
        {"logits": MAPS[..., :1]},
        ValueError,
        ["logits", "got 1", "soft_rmi_loss"],
    ),
    (
        SOFT,
        {"logits": MAPS[..., :1], "targets": MAPS[:, :, :, 0]},
        ValueError,
        ["targets", "(2, 9, 8, 1)", "targets[..., None]"],
    ),
    (
        SOFT,
        {"logits": MAPS[..., :1], "targets": MAPS[..., :1], "activation": "softmax"},
        ValueError,
        ["softmax", "1 class", "sigmoid"],
    ),
    # The mix.
    *real_rows(LOSSES, "bce_weight"),
    *real_rows(LOSSES, "rmi_weight"),
    (LOSSES, {"bce_weight": None}, TypeError, ["bce_weight", "None", "real number"]),
    (LOSSES, {"bce_weight": 1.5}, ValueError, ["bce_weight", "1.5", "rmi_weight"]),
    (LOSSES, {"class_weights": full(1, (2,))}, ValueError, ["class_weights", "(2,)", "(3,)"]),
    (LOSSES, {"class_weights": 1.0}, ValueError, ["class_weights", "()", "(3,)"]),
    (LOSSES, {"class_weights": full(-1, (3,))}, ValueError, ["class_weights", "-1.0", "negative"]),
    (LOSSES, {"class_weights": full(np.nan, (3,))}, ValueError, ["class_weights", "nan", "finite"]),
    (LOSSES, {"class_weights": "abc"}, TypeError, ["class_weights", "'abc'"]),
    (
        LOSSES,
        {"class_weights": full(1, (3,), "complex64")},
        TypeError,
        ["class_weights", "complex64", "real"],
    ),
    (LOSSES, {"class_weights": (1, 1, 1e39)}, ValueError, ["class_weights", "1e+39", "finite"]),
    (LOSSES, {"class_weights": np.ma.ones(3)}, TypeError, ["class_weights", "masked array"]),
    *choice_rows(LOSSES, "reduction", ("mean", "none"), "sum", "Mean"),
    *choice_rows(LOSSES, "activation", ("sigmoid", "softmax"), "relu", "identity"),
    *switch_rows(LOSSES, "has_aux"),
    (LOSSES, {"axis_name": 3}, TypeError, ["axis_name", "3", "name of a mesh axis"]),
    (LOSSES, {"axis_name": ("data", 3)}, TypeError, ["axis_name", "3", "tuple of names"]),
    (LOSSES, {"axis_name": "data"}, ValueError, ["axis_name", "'data'", "shard_map"]),
    (LOSSES, {"axis_name": ("data",)}, ValueError, ["axis_name", "'data'", "shard_map"]),
    # The region term.
    *sides_rows(ALL, "region_size"),
    *sides_rows(ALL, "dilation"),
    *sides_rows(ALL, "region_stride"),
    (ALL, {"region_size": 4, "factor": 4}, ValueError, ["region_size", "(4, 4)", "smaller"]),
    (ALL, {"dilation": 5, "factor": 1}, ValueError, ["dilation", "(11, 11)", "smaller"]),
    (ALL, {"region_size": (1, 9), "factor": 1}, ValueError, ["region_size", "(9, 8)", "smaller"]),
    (ALL, {"factor": 0}, ValueError, ["factor", "got 0", "at least 1"]),
    (ALL, {"factor": (1, -2)}, ValueError, ["factor", "got -2", "at least 1"]),
    (ALL, {"factor": 2.0}, TypeError, ["factor", "2.0", "must be an int"]),
    (ALL, {"factor": (1, 2.0)}, TypeError, ["factor", "2.0", "must be an int"]),
    (ALL, {"factor": "2"}, TypeError, ["factor", "'2'", "must be an int"]),
    (ALL, {"factor": None}, TypeError, ["factor", "None", "must be an int"]),
    (ALL, {"factor": ()}, ValueError, ["factor", "empty", "1"]),
    (
        ALL,
        {"factor": ((1, 2, 2),)},
        ValueError,
        ["factor", "(1, 2, 2)", "one int per spatial axis"],
    ),
    (ALL, {"factor": 64}, ValueError, ["factor", "64", "(9, 8)", "smaller"]),
    (
        ALL,
        {"factor": 9, "downsampling": "interpolate"},
        ValueError,
        ["factor", "9", "(9, 8)", "smaller"],
    ),
    (
        ALL,
        {"factor": (1, 2), "scale_weights": (1.0,)},
        ValueError,
        ["scale_weights", "(2,)", "(1,)"],
    ),
    (ALL, {"scale_weights": (0.5, 0.5)}, ValueError, ["scale_weights", "(1,)", "(2,)"]),
    (ALL, {"scale_weights": 1.0}, ValueError, ["scale_weights", "()", "(1,)"]),
    (ALL, {"scale_weights": (-1.0,)}, ValueError, ["scale_weights", "-1.0", "negative"]),
    (ALL, {"scale_weights": (np.inf,)}, ValueError, ["scale_weights", "inf", "finite"]),
    (ALL, {"scale_weights": "1"}, TypeError, ["scale_weights", "'1'"]),
    *choice_rows(ALL, "downsampling", ("avg", "max", "interpolate"), "mean", "nearest"),
    *choice_rows(ALL, "ignored", ("exclude", "zero"), "skip"),
    *choice_rows(ALL, "implementation", ("patches", "streaming"), "fast", "Patches"),
    *real_rows(ALL, "jitter"),
    *real_rows(ANCHORED, "anchor"),
    (ANCHORED, {"anchor": -0.1}, ValueError, ["anchor", "-0.1", "negative"]),
    (ANCHORED, {"anchor": 1e7}, ValueError, ["anchor", "at most 1e+06", "10000000"]),
    (ALL, {"jitter": 0.0}, ValueError, ["jitter", "got 0.0", "at least 1e-12"]),
    (ALL, {"jitter": 1e-13}, ValueError, ["jitter", "got 1e-13", "at least 1e-12"]),
    (ALL, {"where": full(True)[:1]}, ValueError, ["where", "(1, 9, 8)", "(2, 9, 8)"]),
    (ALL, {"where": full(1, SHAPE)}, ValueError, ["where", str(SHAPE), "(2, 9, 8)"]),
    (ALL, {"where": full(1, (2, 9, 8, 1))}, ValueError, ["where", "(2, 9, 8, 1)", "where[..., 0]"]),
    (ALL, {"where": full(True).tolist()}, TypeError, ["where", "list", "asarray"]),
    (ALL, {"where": full(1, dtype="complex64")}, TypeError, ["where", "complex64", "mask"]),
    (ALL, {"where": full(-1)}, ValueError, ["where", "-1.0", "negative"]),
    (ALL, {"where": full(np.nan)}, ValueError, ["where", "nan", "finite"]),
    (ALL, {"where": full(np.inf)}, ValueError, ["where", "inf", "finite"]),
    (ALL, {"where": full(1e11)}, ValueError, ["where", "99999997952.0", "1e+12", "divide"]),
    (ALL, {"where": np.ma.array(full(1))}, TypeError, ["where", "masked array"]),
    *switch_rows(LOSSES + TERMS[:1], "zero_floor"),
    *switch_rows(TERMS[1:], "normalize"),
    (ALL, {"region_key": 0}, TypeError, ["region_key", "int 0", "jax.random.key"]),
    (ALL, {"region_key": full(0)}, TypeError, ["region_key", "jax.random.key"]),
    (ALL, {"region_key": jax.random.split(KEY, 2)}, TypeError, ["region_key", "jax.random.key"]),
    (ALL, {"spatial_axis_name": 3}, TypeError, ["spatial_axis_name", "3", "mesh axis"]),
    (ALL, {"spatial_axis_name": ("a", "b")}, TypeError, ["spatial_axis_name", "'b'", "one mesh"]),
    (ALL, {"spatial_axis_name": "rows"}, ValueError, ["spatial_axis_name", "'rows'", "leave it"]),
    (ALL, {"axis": 0}, ValueError, ["axis", "got 0", "batch"]),
    (ALL, {"axis": -4}, ValueError, ["axis", "got -4", "batch"]),
    (ALL, {"axis": 4}, ValueError, ["axis", "got 4", "4-D"]),
    (ALL, {"axis": 1.0}, TypeError, ["axis", "1.0", "int"]),
    (ALL, {"axis": None}, TypeError, ["axis", "None", "int"]),
    (ALL, {"axis": True}, TypeError, ["axis", "True", "int"]),
    # The steps before the statistics.
    *sides_rows(EXTRACT, "region_size"),
    *sides_rows(EXTRACT, "dilation"),
    *sides_rows(EXTRACT, "stride"),
    (EXTRACT, {"region_size": 10}, ValueError, ["region_size", "(10, 10)", "(9, 8)"]),
    (EXTRACT, {"dilation": 4}, ValueError, ["dilation", "(9, 9)", "(9, 8)"]),
    *sides_rows(DOWNSAMPLE, "factor"),
    (
        DOWNSAMPLE,
        {"factor": 9, "method": "nearest"},
        ValueError,
        ["factor", "9", "(9, 8)", "smaller"],
    ),
    *choice_rows(DOWNSAMPLE, "method", ("avg", "max", "interpolate", "nearest"), "mean"),
    (DOWNSAMPLE, {"where": full(1)}, TypeError, ["where", "float32", "boolean"]),
    (DOWNSAMPLE, {"where": full(True, SHAPE, bool)}, ValueError, ["where", str(SHAPE)]),
    # The schedule.
    *steps_rows(SCHEDULE, "warmup_steps"),
    *steps_rows(SCHEDULE, "transition_steps"),
    (SCHEDULE, {"warmup_steps": -1}, ValueError, ["warmup_steps", "got -1", "at least 0"]),
    (SCHEDULE, {"transition_steps": 0}, ValueError, ["transition_steps", "got 0", "at least 1"]),
    *real_rows(SCHEDULE, "final_weight"),
    (SCHEDULE, {"final_weight": 1.1}, ValueError, ["final_weight", "1.1", "at most 1"]),
    (SCHEDULE, {"final_weight": None}, TypeError, ["final_weight", "None", "real number"]),
    # The metrics.
    (PER_IMAGE, {"ious": LABELS}, TypeError, ["ious", "int32", "floating point"]),
    (PER_IMAGE, {"ious": IOUS[0]}, ValueError, ["ious", "(2,)"]),
    (PER_IMAGE, {"worst": 0.0}, ValueError, ["worst", "0.0", "(0, 1]"]),
    (PER_IMAGE, {"worst": 1.5}, ValueError, ["worst", "1.5", "(0, 1]"]),
    (PER_IMAGE, {"worst": None}, TypeError, ["worst", "None", "real number"]),
    *classes_rows(COUNTS, "predictions"),
    *classes_rows(COUNTS, "labels"),
    (COUNTS, {"predictions": LABELS[:1]}, ValueError, ["predictions", "(1, 9, 8)", "(2, 9, 8)"]),
    (
        COUNTS,
        {"predictions": LABELS[0, 0], "labels": LABELS[0, 0]},
        ValueError,
        ["labels", "(8,)", "[batch, *spatial]"],
    ),
    (
        COUNTS,
        {"predictions": LABELS[:0], "labels": LABELS[:0]},
        ValueError,
        ["labels", "(0, 9, 8)", "empty"],
    ),
    *steps_rows(COUNTS, "num_classes"),
    (COUNTS, {"num_classes": 0}, ValueError, ["num_classes", "got 0", "at least 1"]),
    (COUNTS[:1], {"num_classes": 50_000}, ValueError, ["num_classes", "50000", "at most 46340"]),
    (COUNTS, {"where": full(True)[..., None] > 0}, ValueError, ["where", "where[..., 0]"]),
    (COUNTS, {"where": LABELS}, TypeError, ["where", "int32", "where > 0"]),
    (COUNTS, {"where": full(1)}, TypeError, ["where", "float32", "where > 0"]),
    (COUNTS, {"where": full(True).tolist()}, TypeError, ["where", "list", "asarray"]),
    (
        COUNTS,
        {"where": full(True, (2, 9, 1), bool)},
        ValueError,
        ["where", "(2, 9, 1)", "(2, 9, 8)"],
    ),
    *real_rows(BOUNDARY, "tolerance"),
    (BOUNDARY, {"tolerance": 0.9}, ValueError, ["tolerance", "0.9", "at least 1"]),
    (BOUNDARY, {"tolerance": None}, TypeError, ["tolerance", "None", "real number"]),
    *counts_rows(MATRICES, "matrix", "confusion_matrix"),
    *counts_rows(CONTOURS, "counts", "boundary_counts"),
    (CONTOURS, {"counts": np.eye(6)}, ValueError, ["counts", "1.0", "boundary_counts"]),
    # Names that do not exist are Python's own business, but must not pass; nor those of PyTorch.
    *(
        (tuple(ARGUMENTS), {name: 3}, TypeError, [name, "unexpected keyword"])
        for name in ("radius", "rmi_radius", "rmi_pool_size", "ignore_index", "loss_weight_lambda")
    ),
]


def row_id(row):
    name, change = row[0], row[1]
    values = ",".join(f"{k}={v}"[:24] if np.ndim(v) == 0 else k for k, v in change.items())
    return f"{name}-{values}"


ROWS = [
    (name, change, exception, fragments)
    for functions, change, exception, fragments in MISUSE
    for name in functions
]


@pytest.mark.parametrize(
    ("name", "change", "exception", "fragments"), ROWS, ids=[row_id(row) for row in ROWS]
)
def test_misuse_raises_a_helpful_message(name, change, exception, fragments):
    with pytest.raises(exception) as raised:
        attrgetter(name)(rmi_jax)(**ARGUMENTS[name] | change)
    message = str(raised.value)
    assert type(raised.value) is exception
    assert [part for part in fragments if part not in message] == [], message


def public_functions():
    for module, prefix in ((rmi_jax, ""), (metrics, "metrics.")):
        for name, function in inspect.getmembers(module, inspect.isfunction):
            if not name.startswith("_"):
                yield prefix + name, function


def test_the_table_has_every_argument_of_every_public_function():
    arguments = {
        (name, argument)
        for name, function in public_functions()
        for argument in inspect.signature(function).parameters
    }
    assert len({name for name, _ in arguments}) == len(ARGUMENTS)
    assert (
        arguments - {(name, argument) for name, change, *_ in ROWS for argument in change} == set()
    )


@pytest.mark.parametrize("name", ARGUMENTS)
def test_options_must_be_named(name):
    parameters = inspect.signature(attrgetter(name)(rmi_jax)).parameters.values()
    positional = [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY]
    assert set(positional) <= set(ARGUMENTS[name])
    with pytest.raises(TypeError, match="positional argument"):
        attrgetter(name)(rmi_jax)(*(ARGUMENTS[name][one] for one in positional), 1)


STATIC = [
    *((name, option) for name in ALL for option in ("region_size", "dilation", "factor")),
    *((name, option) for name in ALL for option in ("region_stride", "axis")),
    *((name, option) for name in ALL for option in ("downsampling", "ignored", "implementation")),
    *((name, option) for name in LOSSES for option in ("activation", "reduction", "has_aux")),
    *((name, "zero_floor") for name in (*LOSSES, TERMS[0])),
    (TERMS[1], "normalize"),
    (*DOWNSAMPLE, "method"),
    *((*EXTRACT, option) for option in ("region_size", "dilation", "stride")),
    (*DOWNSAMPLE, "factor"),
    *((*SCHEDULE, option) for option in ("warmup_steps", "transition_steps")),
    *((name, "num_classes") for name in COUNTS),
    (*BOUNDARY, "tolerance"),
]


@pytest.mark.parametrize(("function", "name"), STATIC)
def test_a_traced_value_where_a_static_one_is_needed(function, name):
    def call(value):
        return attrgetter(function)(rmi_jax)(**ARGUMENTS[function] | {name: value})

    with pytest.raises(TypeError) as raised:
        jax.eval_shape(call, 2)
    assert name in str(raised.value)
    assert "static" in str(raised.value)
    assert "JitTracer" in str(raised.value) or "int32" in str(raised.value)


@pytest.mark.parametrize("function", ARGUMENTS)
def test_the_arguments_of_the_table_are_valid(function):
    made = attrgetter(function)(rmi_jax)
    if function == "warmup_schedule":
        assert made(**ARGUMENTS[function])(0) == 1
    else:
        jax.eval_shape(lambda: made(**ARGUMENTS[function]))


def test_counts_may_be_traced():
    """Nothing is known of their values then, and nothing is refused."""
    assert jax.jit(metrics.mean_iou)(MATRIX).shape == ()
    assert jax.jit(metrics.boundary_f1)(BOUNDARIES).shape == (2,)


INTS = [
    *((function, "region_size") for function in (TERMS[0], *EXTRACT)),
    *((function, "factor") for function in (TERMS[0], *DOWNSAMPLE)),
]


@pytest.mark.parametrize(("function", "name"), INTS)
def test_an_int_may_be_an_array_without_axes(function, name):
    shapes = [
        jax.eval_shape(partial(attrgetter(function)(rmi_jax), **ARGUMENTS[function] | {name: two}))
        for two in (2, np.int64(2), np.array(2))
    ]
    assert shapes[0] == shapes[1] == shapes[2]


@pytest.mark.parametrize("maps", [False, True])
def test_traced_floats_are_taken_for_labels_by_their_shape(maps):
    labels = jax.ShapeDtypeStruct(SHAPE if maps else SHAPE[:-1], "float32")
    remedy = "soft_rmi_loss" if maps else "astype"
    with pytest.raises(TypeError, match=remedy):
        jax.eval_shape(rmi_jax.rmi_loss, jax.ShapeDtypeStruct(SHAPE, "float32"), labels)


def test_classes_where_pytorch_has_them():
    logits = jnp.zeros((2, 3, 9, 8))
    with pytest.raises(ValueError, match=r"labels must have shape \(2, 3, 9\).*use axis=1"):
        rmi_jax.rmi_loss(logits, LABELS)
    with pytest.raises(ValueError, match=r"\(2, 3, 9, 8\) \(the shape of logits\).*\(2, 9, 8, 3\)"):
        rmi_jax.soft_rmi_loss(logits, MAPS, axis=1)
