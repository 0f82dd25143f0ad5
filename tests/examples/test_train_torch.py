"""The backbone of `examples/train.py` computes what torchvision's does (`pytest -m torch`)."""

import jax
import miniature
import numpy as np
import pytest
import resnet_weights
from flax import nnx

torch = pytest.importorskip("torch", reason="needs the `torch` extra")
F = torch.nn.functional

with miniature.importing_examples():
    from segmentation import models
    from segmentation.models import deeplab, pretrained, resnet

pytestmark = pytest.mark.torch


def torch_features(stored, images):
    """torchvision's ResNet with its last stride replaced by dilation, in words of `torch`."""
    weights = {name: torch.from_numpy(value) for name, value in stored.items()}

    def conv(x, key, stride=1, dilation=1):
        kernel = weights[f"{key}.weight"]
        padding = dilation * (kernel.shape[-1] // 2)
        return F.conv2d(x, kernel, stride=stride, padding=padding, dilation=dilation)

    def norm(x, key):
        parts = (weights[f"{key}.{p}"] for p in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *parts, training=False)

    def block(x, key, stride, dilation):
        is_bottleneck = f"{key}.conv3.weight" in weights
        # The 3x3 convolution that strides: the second of three, or the first of two.
        steps = [(1, 1), (stride, dilation), (1, 1)]
        if not is_bottleneck:
            steps = [(stride, dilation), (1, dilation)]
        y = x
        for number, (s, d) in enumerate(steps, start=1):
            y = norm(conv(y, f"{key}.conv{number}", s, d), f"{key}.bn{number}")
            if number < len(steps):
                y = F.relu(y)
        if f"{key}.downsample.0.weight" in weights:
            x = norm(conv(x, f"{key}.downsample.0", stride), f"{key}.downsample.1")
        return F.relu(x + y)

    x = torch.from_numpy(images.transpose(0, 3, 1, 2))
    x = F.max_pool2d(F.relu(norm(conv(x, "conv1", 2), "bn1")), 3, 2, 1)
    results = []
    for stage in range(1, 5):
        number = 0
        while f"layer{stage}.{number}.conv1.weight" in weights:
            stride = 2 if stage in (2, 3) and number == 0 else 1
            dilation = 2 if stage == 4 and number > 0 else 1
            x = block(x, f"layer{stage}.{number}", stride, dilation)
            number += 1
        results.append(x.numpy().transpose(0, 2, 3, 1))
    return results[0], results[-1]


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50"])
def test_features_equal_those_of_torch(backbone, tmp_path):
    stored = resnet_weights.state_dict(backbone, seed=1)
    file = resnet_weights.save(stored, tmp_path)
    images = np.random.default_rng(2).normal(size=(1, 65, 80, 3)).astype(np.float32)
    found = backbone_features(backbone, file, images)
    for ours, theirs in zip(found, torch_features(stored, images), strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3 * np.abs(theirs).max())


def backbone_features(name, file, images):
    depths, width, bottleneck = deeplab.BACKBONES[name]

    def make():
        return resnet.ResNet(depths, width, bottleneck, dtype="float32", rngs=nnx.Rngs(0))

    skeleton = nnx.eval_shape(make)
    skeleton.eval()
    graph, *layouts = nnx.split(skeleton, nnx.Param, nnx.BatchStat)
    blank = models.Weights(
        *({f"backbone.{name}": a for name, a in models.named(s).items()} for s in layouts)
    )
    weights = pretrained.load(blank, file)
    states = [
        models.filled(layout, {name.removeprefix("backbone."): a for name, a in arrays.items()})
        for layout, arrays in zip(layouts, weights, strict=True)
    ]
    return jax.jit(lambda *states: nnx.merge(graph, *states)(images))(*states)
