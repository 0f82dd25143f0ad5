"""The contestants: functions of logits ``[B, H, W, C]`` and labels ``[B, H, W]``, 255 ignored."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import rmi_jax
from segmentation.baselines import (
    binary_cross_entropy,
    cross_entropy,
    cross_entropy_and_dice,
    dice,
    pixel_entropies,
    weighted_mean,
)
from segmentation.dataset import IGNORED
from studies.contestants import RMI, WITH_WARMUP
from studies.cwmi import cwmi

# (logits, labels, progress, class_weights) -> loss. Progress is the share of the steps done.
Loss = Callable[[jax.Array, jax.Array, jax.Array, jax.Array], jax.Array]


def weighted_cross_entropy(
    logits: jax.Array, labels: jax.Array, class_weights: jax.Array
) -> jax.Array:
    """Pixels count by their class; the median class counts 1 (Eigen and Fergus, 2015)."""
    weights = jnp.where(labels == IGNORED, 0, class_weights.at[labels].get(mode="clip"))
    return weighted_mean(pixel_entropies(logits, labels), weights)


def lovasz_softmax(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Lovasz-softmax over the whole batch, the mean over the classes in it (Berman et al., 2018).

    The loss of a class is the Lovasz extension of 1 - IoU: errors in descending order, each times
    what 1 - IoU grows by when its pixel joins the mistakes.
    """
    valid = (labels != IGNORED).ravel()
    probs = jax.nn.softmax(logits).reshape(-1, logits.shape[-1])

    def one_class(c: jax.Array, probs: jax.Array) -> tuple[jax.Array, jax.Array]:
        is_class = (labels.ravel() == c).astype(probs.dtype)
        errors = jnp.where(valid, jnp.abs(is_class - probs), 0)
        negated, is_class = jax.lax.sort((-errors, is_class), num_keys=1)
        size = is_class.sum()
        missed, wrong = jnp.cumsum(is_class), jnp.cumsum(1 - is_class)
        jaccard = 1 - (size - missed) / jnp.maximum(size + wrong, 1)
        growth = jax.lax.stop_gradient(jnp.diff(jaccard, prepend=0))
        return -jnp.sum(negated * growth), size > 0

    losses, present = jax.vmap(one_class, (0, 1))(jnp.arange(probs.shape[1]), probs)
    return weighted_mean(losses, present)


def complex_wavelets(logits: jax.Array, labels: jax.Array, class_weights: jax.Array) -> jax.Array:
    """Class-weighted cross entropy and CWMI, in the authors' mix; ignored pixels are zeros."""
    targets = jax.nn.one_hot(labels, logits.shape[-1])
    probs = jax.nn.softmax(logits) * (labels != IGNORED)[..., None]
    return 0.9 * weighted_cross_entropy(logits, labels, class_weights) + cwmi(probs, targets)


def even_mix_after(warmup: float, transition: float, progress: jax.Array) -> jax.Array:
    """Weight of the cross entropy: 1 for a share of the training, then linearly down to 0.5."""
    return 1 - 0.5 * jnp.clip((progress - warmup) / transition, 0, 1)


WARMUP = (0.3, 0.1)  # shares of the training


def options(name: str) -> dict[str, Any]:
    """What `rmi_jax.rmi_loss` gets, empty for the losses without it."""
    return RMI.get(name, {})


def loss(name: str) -> Loss:
    plain = {
        "ce": cross_entropy,
        "bce": binary_cross_entropy,
        "ce-dice": cross_entropy_and_dice,
        "ce-lovasz": lambda z, y: cross_entropy(z, y) + lovasz_softmax(z, y),
    }
    if name in plain:
        return lambda z, y, progress, class_weights: plain[name](z, y)
    weighted = {"ce-weighted": weighted_cross_entropy, "cwmi": complex_wavelets}
    if name in weighted:
        return lambda z, y, progress, class_weights: weighted[name](z, y, class_weights)

    def rmi(logits, labels, progress, class_weights):
        chosen = dict(RMI[name])
        if name in WITH_WARMUP:
            chosen["bce_weight"] = even_mix_after(*WARMUP, progress)
        if name.endswith("-weighted"):
            chosen["class_weights"] = class_weights
        value = rmi_jax.rmi_loss(logits, labels, **chosen)
        return value + dice(logits, labels) if name.endswith("-dice") else value

    return rmi
