"""The networks, as pure functions of named arrays.

A network is built from Flax NNX modules and handed on as an `apply` function with a flat dictionary
of parameters, named as in ``backbone.layer1.0.conv1.kernel``. That is what the optimizer masks by,
what a checkpoint holds and what `pretrained.py` fills.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from flax.traverse_util import flatten_dict, unflatten_dict

from segmentation.models.deeplab import DeepLabV3Plus
from segmentation.models.unet import UNet

ModelName = Literal["unet", "deeplabv3plus"]
BackboneName = Literal["tiny", "resnet18", "resnet50", "resnet101"]
Arrays = dict[str, jax.Array]


class Weights(NamedTuple):
    params: Arrays  # float32
    statistics: Arrays  # running means and variances of batch normalization; may be empty


class Network(NamedTuple):
    weights: Weights  # random
    predict: Callable[..., jax.Array]  # (weights, images) -> float32 logits
    train: Callable[..., tuple[jax.Array, Arrays]]  # (weights, images, key) and new statistics


def build(name: ModelName, classes: int, *, backbone: BackboneName, dtype: str, seed: int):
    """The network with random weights, the same for a seed, computing in ``dtype``."""
    compute = jnp.dtype(dtype)

    def make(key: jax.Array) -> nnx.Module:
        rngs = nnx.Rngs(key)
        if name == "unet":
            return UNet(3, classes, dtype=compute, rngs=rngs)
        return DeepLabV3Plus(classes, backbone, dtype=compute, rngs=rngs)

    def split(model: nnx.Module):
        return nnx.split(model, nnx.Param, nnx.BatchStat, ...)

    @jax.jit  # one program, where eager initialization would compile one for every shape
    def initialize(key: jax.Array) -> Weights:
        _, params, statistics, _ = split(make(key))
        return Weights(named(params), named(statistics))

    # A third of the time to compile that Threefry, JAX's default, would take.
    key = jax.random.key(seed, impl="rbg")
    skeleton = nnx.eval_shape(make, key)
    skeleton.eval()
    fixed, *layout = split(skeleton)
    skeleton.train()
    learning, *_ = split(skeleton)

    def rebuild(graph, weights: Weights, key: jax.Array) -> nnx.Module:
        states = (filled(*pair) for pair in zip(layout, weights, strict=False))
        return nnx.merge(graph, *states, reseeded(layout[-1], key))

    def predict(weights: Weights, images: jax.Array) -> jax.Array:
        logits = rebuild(fixed, weights, key)(images.astype(compute))
        return logits.astype(jnp.float32)

    def train(weights: Weights, images: jax.Array, key: jax.Array):
        model = rebuild(learning, weights, key)
        logits = model(images.astype(compute)).astype(jnp.float32)
        return logits, named(nnx.state(model, nnx.BatchStat))

    return Network(initialize(key), predict, train)


def filled(layout: nnx.State, arrays: Arrays) -> dict:
    """The named arrays as the nested dictionary that `nnx.merge` takes."""
    paths = flatten_dict(nnx.to_pure_dict(layout))
    return unflatten_dict({path: arrays[dotted(path)] for path in paths})


def reseeded(layout: nnx.State, key: jax.Array) -> nnx.State:
    """The random streams of dropout, each started anew from the key."""
    leaves, structure = jax.tree.flatten(layout)
    return structure.unflatten(
        jax.random.fold_in(key, number)
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        else jnp.zeros(leaf.shape, leaf.dtype)
        for number, leaf in enumerate(leaves)
    )


def named(state: nnx.State) -> Arrays:
    """The arrays of a state by dotted path."""
    paths: dict[tuple, Any] = flatten_dict(nnx.to_pure_dict(state))
    return {dotted(path): array for path, array in paths.items()}


def dotted(path: tuple) -> str:
    """As torchvision names its layers: ``layer1.0``, where Flax has ``layer1.layers.0``."""
    return ".".join(str(part) for part in path if part != "layers")
