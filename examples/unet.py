"""A small U-Net (Ronneberger et al., 2015) in Flax NNX."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx


class UNet(nnx.Module):
    """Images ``[B, H, W, channels]`` to logits ``[B, H, W, classes]``, or volumes with 3 axes.

    H and W must be multiples of ``2 ** (len(widths) - 1)``.
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        *,
        widths: Sequence[int] = (16, 32, 64),
        axes: int = 2,
        rngs: nnx.Rngs,
    ):
        self.level = Level(channels, widths, axes, rngs=rngs)
        self.head = nnx.Conv(widths[0], classes, kernel_size=(1,) * axes, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        return self.head(self.level(images))


class Level(nnx.Module):
    """Convolutions at one resolution, with a detour through the level below at half of it."""

    def __init__(self, channels: int, widths: Sequence[int], axes: int, *, rngs: nnx.Rngs):
        width, *below = widths
        half = (2,) * axes
        self.encode = Convolutions(channels, width, axes, rngs=rngs)
        self.is_lowest = not below
        if below:
            self.below = Level(width, below, axes, rngs=rngs)
            self.up = nnx.ConvTranspose(below[0], width, half, strides=half, rngs=rngs)
            self.decode = Convolutions(2 * width, width, axes, rngs=rngs)

    def __call__(self, features: jax.Array) -> jax.Array:
        features = self.encode(features)
        if self.is_lowest:
            return features
        half = (2,) * (features.ndim - 2)
        coarse = self.below(nnx.max_pool(features, half, strides=half))
        return self.decode(jnp.concatenate([features, self.up(coarse)], axis=-1))


class Convolutions(nnx.Module):
    """Twice: convolution, group normalization, ReLU."""

    def __init__(self, channels: int, width: int, axes: int, *, rngs: nnx.Rngs):
        kernel = (3,) * axes
        self.conv1 = nnx.Conv(channels, width, kernel, use_bias=False, rngs=rngs)
        self.norm1 = nnx.GroupNorm(width, num_groups=4, rngs=rngs)
        self.conv2 = nnx.Conv(width, width, kernel, use_bias=False, rngs=rngs)
        self.norm2 = nnx.GroupNorm(width, num_groups=4, rngs=rngs)

    def __call__(self, features: jax.Array) -> jax.Array:
        features = nnx.relu(self.norm1(self.conv1(features)))
        return nnx.relu(self.norm2(self.conv2(features)))
