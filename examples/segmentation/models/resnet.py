"""ResNets (He et al., 2016) as feature extractors, with torchvision's names and arithmetic.

Attributes are called as in torchvision, so that `pretrained.py` can copy its weights by name.
"""

from typing import Any, NamedTuple

import jax
from flax import nnx

# As in the authors' training code: torch's momentum 0.05 is Flax's 0.95.
NORM_MOMENTUM = 0.95


class Features(NamedTuple):
    low: jax.Array  # [B, ceil(H / 4), ceil(W / 4), .]
    high: jax.Array  # [B, ceil(H / 16), ceil(W / 16), .]


class ResNet(nnx.Module):
    """Images ``[B, H, W, 3]`` to features at stride 4 and, with a dilated last stage, stride 16."""

    def __init__(self, depths: tuple[int, ...], width: int, bottleneck: bool, *, dtype, rngs):
        options = {"dtype": dtype, "rngs": rngs}
        block = Bottleneck if bottleneck else BasicBlock
        self.conv1 = conv(3, width, 7, stride=2, **options)
        self.bn1 = norm(width, **options)
        channels = width

        def stage(index: int, stride: int = 1, dilation: int = 1) -> nnx.Sequential:
            nonlocal channels
            blocks, planes = [], width * 2**index
            for number in range(depths[index]):
                # torchvision: the first block of a dilated stage keeps the dilation before it.
                step, spread = (stride, 1) if number == 0 else (1, dilation)
                blocks.append(block(channels, planes, step, spread, **options))
                channels = planes * block.expansion
            return nnx.Sequential(*blocks)

        self.layer1 = stage(0)
        self.low_channels = channels
        self.layer2 = stage(1, stride=2)
        self.layer3 = stage(2, stride=2)
        self.layer4 = stage(3, dilation=2)
        self.high_channels = channels

    def __call__(self, images: jax.Array) -> Features:
        features = nnx.relu(self.bn1(self.conv1(images)))
        padding: Any = ((1, 1), (1, 1))  # of which Flax's annotation does not know
        features = nnx.max_pool(features, (3, 3), strides=(2, 2), padding=padding)
        low = self.layer1(features)
        return Features(low, self.layer4(self.layer3(self.layer2(low))))


class BasicBlock(nnx.Module):
    expansion = 1

    def __init__(self, channels: int, planes: int, stride: int, dilation: int, **options):
        self.conv1 = conv(channels, planes, 3, stride=stride, dilation=dilation, **options)
        self.bn1 = norm(planes, **options)
        self.conv2 = conv(planes, planes, 3, dilation=dilation, **options)
        self.bn2 = norm(planes, **options)
        self.downsample = shortcut(channels, planes, stride, **options)

    def __call__(self, inputs: jax.Array) -> jax.Array:
        features = nnx.relu(self.bn1(self.conv1(inputs)))
        return nnx.relu(self.bn2(self.conv2(features)) + self.downsample(inputs))


class Bottleneck(nnx.Module):
    expansion = 4

    def __init__(self, channels: int, planes: int, stride: int, dilation: int, **options):
        self.conv1 = conv(channels, planes, 1, **options)
        self.bn1 = norm(planes, **options)
        self.conv2 = conv(planes, planes, 3, stride=stride, dilation=dilation, **options)
        self.bn2 = norm(planes, **options)
        self.conv3 = conv(planes, 4 * planes, 1, **options)
        self.bn3 = norm(4 * planes, **options)
        self.downsample = shortcut(channels, 4 * planes, stride, **options)

    def __call__(self, inputs: jax.Array) -> jax.Array:
        features = nnx.relu(self.bn1(self.conv1(inputs)))
        features = nnx.relu(self.bn2(self.conv2(features)))
        return nnx.relu(self.bn3(self.conv3(features)) + self.downsample(inputs))


def shortcut(channels: int, planes: int, stride: int, **options) -> nnx.Sequential:
    if stride == 1 and channels == planes:
        return nnx.Sequential()
    projection = conv(channels, planes, 1, stride=stride, **options)
    return nnx.Sequential(projection, norm(planes, **options))


def conv(channels: int, planes: int, size: int, *, stride: int = 1, dilation: int = 1, **options):
    """A convolution without bias, padded alike on all sides, which "SAME" does not do."""
    pad = dilation * (size // 2)
    return nnx.Conv(
        channels,
        planes,
        kernel_size=(size, size),
        strides=stride,
        padding=((pad, pad), (pad, pad)),
        kernel_dilation=dilation,
        use_bias=False,
        kernel_init=nnx.initializers.kaiming_normal(),
        **options,
    )


def norm(channels: int, **options) -> nnx.BatchNorm:
    return nnx.BatchNorm(channels, momentum=NORM_MOMENTUM, **options)
