"""Flax Linen and `TrainState`: what changes in a training step to use RMI.

The lines marked `RMI` are the change; everything else is a training script as it always was, here
for a small network on crops of satellite imagery.
"""

import jax
import jax.numpy as jnp
import optax
import tyro
from flax import linen as nn
from flax.training.train_state import TrainState
from tqdm import tqdm

from rmi_jax import metrics, rmi_loss  # RMI 1
from segmentation import satellite


class Network(nn.Module):
    """Images ``[B, H, W, channels]`` to logits ``[B, H, W, classes]``."""

    classes: int

    @nn.compact
    def __call__(self, features):
        for dilation in (1, 2, 4, 8, 1):
            features = nn.Conv(24, (3, 3), kernel_dilation=dilation, use_bias=False)(features)
            features = nn.relu(nn.GroupNorm(num_groups=4)(features))
        return nn.Conv(self.classes, (1, 1))(features)


def main(steps: int = 300, seed: int = 0) -> None:
    """Trains a small network and prints how well it does on the test tiles.

    Args:
        steps: training steps.
        seed: for the initial weights and the batches.
    """
    data = satellite.load("water")
    network = Network(len(data.classes))
    state = TrainState.create(
        apply_fn=network.apply,
        params=network.init(jax.random.key(seed), data.train.images[:1])["params"],
        tx=optax.adamw(optax.cosine_decay_schedule(3e-3, steps)),
    )

    @jax.jit
    def train_step(state, images, labels):
        def loss_of(params):
            logits = state.apply_fn({"params": params}, images)
            # Before: optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
            return rmi_loss(logits, labels)  # RMI 2

        loss, gradient = jax.value_and_grad(loss_of)(state.params)
        return state.apply_gradients(grads=gradient), loss

    bar = tqdm(range(steps), unit="step", mininterval=1)
    batches = satellite.crops(data.train, seed=seed, batch=8, size=32)
    for step, (images, labels) in zip(bar, batches, strict=False):
        state, loss = train_step(state, images, labels)
        if step % 10 == 0 or step == steps - 1:
            bar.set_postfix(loss=f"{float(loss):.3f}", refresh=False)

    logits = jax.jit(network.apply)({"params": state.params}, data.test.images)
    predictions = jnp.argmax(logits, axis=-1)
    matrix = metrics.confusion_matrix(predictions, data.test.labels, len(data.classes))
    for name, value in zip(data.classes, metrics.iou(matrix), strict=True):
        print(f"IoU {name}: {100 * float(value):.1f} %")
    print(f"mIoU: {100 * float(metrics.mean_iou(matrix)):.1f} %")


if __name__ == "__main__":
    tyro.cli(main)
