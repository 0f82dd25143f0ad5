"""DeepLabV3+ (Chen et al., 2018), output stride 16, on a ResNet."""

import jax
import jax.numpy as jnp
from flax import nnx

from segmentation.models.resnet import ResNet, conv, norm

RATES = (6, 12, 18)  # of the paper, for output stride 16
DROPOUT = 0.1

# Blocks in each stage, channels of the first, and whether blocks are bottlenecks.
BACKBONES = {
    "tiny": ((1, 1, 1, 1), 8, False),  # for tests
    "resnet18": ((2, 2, 2, 2), 64, False),
    "resnet50": ((3, 4, 6, 3), 64, True),
    "resnet101": ((3, 4, 23, 3), 64, True),
}


class DeepLabV3Plus(nnx.Module):
    """Images ``[B, H, W, 3]`` of any size to float32 logits ``[B, H, W, classes]``."""

    def __init__(self, classes: int, backbone: str, *, dtype, rngs: nnx.Rngs):
        depths, width, bottleneck = BACKBONES[backbone]
        options = {"dtype": dtype, "rngs": rngs}
        planes = 4 * width
        self.backbone = ResNet(depths, width, bottleneck, **options)
        self.pyramid = Pyramid(self.backbone.high_channels, planes, **options)
        few = 3 * width // 4  # so few that the coarse features, which know more, are heard
        self.low = ConvNorm(self.backbone.low_channels, few, 1, **options)
        self.refine1 = ConvNorm(planes + few, planes, 3, **options)
        self.refine2 = ConvNorm(planes, planes, 3, **options)
        self.dropout = nnx.Dropout(DROPOUT, rngs=rngs)
        self.head = nnx.Conv(planes, classes, (1, 1), **options)

    def __call__(self, images: jax.Array) -> jax.Array:
        low, high = self.backbone(images)
        low = self.low(low)
        high = upsample(self.pyramid(high), 4, low.shape[1:3])
        features = self.refine2(self.refine1(jnp.concatenate([high, low], axis=-1)))
        logits = self.head(self.dropout(features))
        return upsample(logits.astype(jnp.float32), 4, images.shape[1:3])


class Pyramid(nnx.Module):
    """Atrous spatial pyramid pooling: convolutions with several reaches, and the whole image."""

    def __init__(self, channels: int, planes: int, *, dtype, rngs: nnx.Rngs):
        options = {"dtype": dtype, "rngs": rngs}
        self.point = ConvNorm(channels, planes, 1, **options)
        self.near, self.middle, self.far = (
            ConvNorm(channels, planes, 3, rate, **options) for rate in RATES
        )
        self.image = ConvNorm(channels, planes, 1, **options)
        self.project = ConvNorm(5 * planes, planes, 1, **options)
        self.dropout = nnx.Dropout(DROPOUT, rngs=rngs)

    def __call__(self, features: jax.Array) -> jax.Array:
        branches = [f(features) for f in (self.point, self.near, self.middle, self.far)]
        image = self.image(features.mean(axis=(1, 2), keepdims=True))
        branches.append(jnp.broadcast_to(image, branches[0].shape))
        return self.dropout(self.project(jnp.concatenate(branches, axis=-1)))


class ConvNorm(nnx.Module):
    def __init__(self, channels: int, planes: int, size: int, rate: int = 1, **options):
        self.conv = conv(channels, planes, size, dilation=rate, **options)
        self.norm = norm(planes, **options)

    def __call__(self, features: jax.Array) -> jax.Array:
        return nnx.relu(self.norm(self.conv(features)))


def upsample(maps: jax.Array, stride: int, size: tuple[int, ...]) -> jax.Array:
    """Linear interpolation where cell i lies on pixel ``stride * i``, as strided convolutions do.

    For sizes of ``stride * n + 1``, such as 513, this is the usual "align corners"; other sizes
    continue the last cell to the edge.
    """
    for axis, length in ((1, size[0]), (2, size[1])):
        cells = maps.shape[axis]
        at = jnp.clip(jnp.arange(length) / stride, 0, cells - 1)
        taps = jnp.maximum(1 - jnp.abs(at[:, None] - jnp.arange(cells)), 0).astype(maps.dtype)
        maps = jnp.moveaxis(jnp.tensordot(maps, taps, axes=(axis, 1)), -1, axis)
    return maps
