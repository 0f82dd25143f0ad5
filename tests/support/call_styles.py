"""Every array that a public function takes, every way to hand it over, every way to call.

Where an array comes from (`SOURCES`) and what the call stands in (`CALLS`) are one table each;
`tests/library/test_call_styles.py` runs their product.
"""

import inspect
from operator import attrgetter

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import rmi_jax

SHAPE = (2, 4, 5, 2)
RNG = np.random.default_rng(0)
MAPS = RNG.uniform(0.1, 0.9, SHAPE).astype("float32")
LABELS = (MAPS[..., 1] > MAPS[..., 0]).astype("int32")
MASK = RNG.uniform(size=SHAPE[:-1]) > 0.2
WEIGHTS = np.where(MASK, RNG.uniform(0.5, 1, MASK.shape), 0).astype("float32")
MATRIX = np.array([[50, 2], [3, 89]], "int32")
IOUS = np.array([[0.5, 1.0], [np.nan, 0.25], [np.nan, np.nan]], "float32")
BOUNDARIES = np.array([[4, 6, 3, 5, 2, 9], [4, 4, 4, 4, 7, 7]], "int32")

TERM = {
    "scale_weights": np.array([0.75], "float32"),
    "jitter": np.float32(1e-3),
    "where": WEIGHTS,
    "region_key": np.array([0, 7], "uint32"),
}
ANCHOR = {"anchor": np.float32(0.5)}
MIX = {
    "bce_weight": np.float32(0.5),
    "rmi_weight": np.float32(0.25),
    "class_weights": np.array([1.0, 3.0], "float32"),
}
REGIONS = {"factor": ((1, 2),), "region_size": (1, 2), "region_stride": (1, 2)}
CLASSES = {"predictions": LABELS[::-1], "labels": LABELS, "where": MASK}
TWO = {"num_classes": 2}

# function: (its arrays, what else it needs)
FUNCTIONS = {
    "rmi_loss": ({"logits": 4 * MAPS - 2, "labels": LABELS, **MIX, **ANCHOR, **TERM}, REGIONS),
    "soft_rmi_loss": ({"logits": 4 * MAPS - 2, "targets": MAPS, **MIX, **ANCHOR, **TERM}, REGIONS),
    "region_information_loss": ({"probs": MAPS, "targets": MAPS[::-1], **ANCHOR, **TERM}, REGIONS),
    "region_mutual_information": ({"probs": MAPS, "targets": MAPS[::-1], **TERM}, REGIONS),
    "extract_regions": ({"maps": MAPS}, {"region_size": 2}),
    "downsample": ({"maps": MAPS, "where": MASK}, {"factor": 2}),
    "warmup_schedule": ({"final_weight": np.float32(0.5)}, {"warmup_steps": 2}),
    "metrics.confusion_matrix": (CLASSES, TWO),
    "metrics.iou": ({"matrix": MATRIX}, {}),
    "metrics.mean_iou": ({"matrix": MATRIX}, {}),
    "metrics.dice": ({"matrix": MATRIX}, {}),
    "metrics.image_iou": (CLASSES, TWO),
    "metrics.mean_image_iou": ({"ious": IOUS}, {"worst": 0.5}),
    "metrics.class_image_iou": ({"ious": IOUS}, {"worst": 0.5}),
    "metrics.boundary_counts": (CLASSES, {**TWO, "tolerance": 1}),
    "metrics.boundary_f1": ({"counts": BOUNDARIES}, {}),
    "metrics.boundary_iou": ({"counts": BOUNDARIES}, {}),
}
# What is no array, or not only that, and must be known before tracing.
STATIC = {"activation", "axis", "axis_name", "dilation", "downsampling", "factor", "has_aux"}
STATIC |= {"ignored", "implementation", "method", "normalize", "num_classes", "reduction"}
STATIC |= {"region_size", "region_stride", "spatial_axis_name", "stride", "tolerance", "zero_floor"}
STATIC |= {"transition_steps", "warmup_steps", "worst"}

LISTS = ("class_weights", "scale_weights")


def array_arguments(name):
    """Names of the arguments that may be arrays, by the function's signature."""
    return set(inspect.signature(attrgetter(name)(rmi_jax)).parameters) - STATIC


def call(name, arrays, **options):
    """Calls a public function; what it returns."""
    function, static = attrgetter(name)(rmi_jax), FUNCTIONS[name][1] | options
    if name == "warmup_schedule":
        return function(transition_steps=2, **static, **arrays)(jnp.int32(3))
    return function(**arrays, **static)


# Where the arrays of the function come from: those that it is called with, and those that it has
# closed over, made from NumPy arrays.
SOURCES = {
    "argument": lambda value: value,
    "closed-over JAX array": jnp.asarray,
    "closed-over NumPy array": np.asarray,
    "list": lambda value: value.tolist(),
    "list of JAX scalars": lambda value: [jnp.asarray(entry) for entry in value],
}


def _summed(function):
    """A scalar function ``(scale, operand)`` that can be differentiated by its first argument."""

    def total(scale, operand):
        leaves = jax.tree.leaves(function(operand))
        return scale * sum(jnp.sum(leaf.astype(jnp.float32)) for leaf in leaves)

    return total


def _grad(function, operand):
    by = (0, 1) if jnp.issubdtype(operand.dtype, jnp.floating) else 0
    return jax.grad(function, argnums=by)(1.0, operand)


def _scanned(function, operands):
    return jax.lax.scan(lambda carry, one: (carry, function(one)), 0, operands)


def _stacked(operand):
    return jnp.stack([operand, operand])


# What a call stands in. All trace a function of one operand.
CALLS = {
    "eval_shape": jax.eval_shape,
    "jit": lambda f, x: jax.eval_shape(jax.jit(f), x),
    "donated": lambda f, x: jax.jit(f, donate_argnums=0).trace(x),
    "nnx.jit": lambda f, x: jax.eval_shape(nnx.jit(f), x),
    "grad of jit": lambda f, x: jax.eval_shape(lambda y: _grad(jax.jit(_summed(f)), y), x),
    "jit of grad": lambda f, x: jax.eval_shape(lambda y: _grad(_summed(f), y), x),
    "checkpoint": lambda f, x: jax.eval_shape(lambda y: _grad(jax.checkpoint(_summed(f)), y), x),
    "scan": lambda f, x: jax.eval_shape(lambda y: _scanned(f, y), _stacked(x)),
    "vmap": lambda f, x: jax.eval_shape(jax.vmap(f), _stacked(x)),
}
