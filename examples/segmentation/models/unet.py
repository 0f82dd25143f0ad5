"""A small U-Net (Ronneberger et al., 2015) in Flax NNX."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike


class UNet(nnx.Module):
    """Images ``[B, H, W, channels]`` to logits ``[B, H, W, classes]``, or volumes with 3 axes.

    H and W must be multiples of ``2 ** (len(widths) - 1)``. Parameters are float32; the network
    computes in ``dtype``, which None leaves to the images.
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        *,
        widths: Sequence[int] = (16, 32, 64),
        axes: int = 2,
        dtype: DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        options = {"dtype": dtype, "rngs": rngs}
        self.level = Level(channels, widths, axes, **options)
        self.head = nnx.Conv(widths[0], classes, kernel_size=(1,) * axes, **options)

    def __call__(self, images: jax.Array) -> jax.Array:
        return self.head(self.level(images))


class Level(nnx.Module):
    """Convolutions at one resolution, with a detour through the level below at half of it."""

    def __init__(self, channels: int, widths: Sequence[int], axes: int, **options):
        width, *below = widths
        half = (2,) * axes
        self.encode = Convolutions(channels, width, axes, **options)
        self.is_lowest = not below
        if below:
            self.below = Level(width, below, axes, **options)
            self.up = nnx.ConvTranspose(below[0], width, half, strides=half, **options)
            self.decode = Convolutions(2 * width, width, axes, **options)

    def __call__(self, features: jax.Array) -> jax.Array:
        features = self.encode(features)
        if self.is_lowest:
            return features
        half = (2,) * (features.ndim - 2)
        coarse = self.below(nnx.max_pool(features, half, strides=half))
        return self.decode(jnp.concatenate([features, self.up(coarse)], axis=-1))


class Convolutions(nnx.Module):
    """Twice: convolution, group normalization, ReLU."""

    def __init__(self, channels: int, width: int, axes: int, **options):
        kernel = (3,) * axes
        self.conv1 = nnx.Conv(channels, width, kernel, use_bias=False, **options)
        self.norm1 = nnx.GroupNorm(width, num_groups=4, **options)
        self.conv2 = nnx.Conv(width, width, kernel, use_bias=False, **options)
        self.norm2 = nnx.GroupNorm(width, num_groups=4, **options)

    def __call__(self, features: jax.Array) -> jax.Array:
        features = nnx.relu(self.norm1(self.conv1(features)))
        return nnx.relu(self.norm2(self.conv2(features)))
