"""Losses to compare RMI with: logits ``[B, H, W, C]``, labels ``[B, H, W]`` with 255 ignored."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from segmentation.dataset import IGNORED


def weighted_mean(losses: jax.Array, weights: jax.Array) -> jax.Array:
    """0 where all weights are 0."""
    return jnp.sum(losses * weights) / jnp.maximum(jnp.sum(weights), 1e-6)


def pixel_entropies(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Softmax cross entropy of each pixel, ``[B, H, W]``; of ignored ones it means nothing."""
    classes = jnp.where(labels == IGNORED, 0, labels)
    return optax.softmax_cross_entropy_with_integer_labels(logits, classes)


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return weighted_mean(pixel_entropies(logits, labels), labels != IGNORED)


def binary_cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """A sigmoid for each class, summed over the classes."""
    targets = jax.nn.one_hot(labels, logits.shape[-1])
    losses = optax.sigmoid_binary_cross_entropy(logits, targets).sum(axis=-1)
    return weighted_mean(losses, labels != IGNORED)


def dice(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Optax's Dice loss of the softmax over the whole batch, the mean over the classes."""
    # Ignored pixels become one more class, whose Dice is left out.
    classes = logits.shape[-1]
    ignored = (labels == IGNORED)[..., None]
    extended = jnp.concatenate([logits, jnp.zeros_like(logits[..., :1])], axis=-1)
    extended = jnp.where(ignored == (jnp.arange(classes + 1) == classes), extended, -1e9)
    targets = jax.nn.one_hot(jnp.where(ignored[..., 0], classes, labels), classes + 1)
    axes: Any = (0, 1, 2)  # of which Optax's annotation does not know
    losses = optax.losses.dice_loss(extended, targets, axis=axes, reduction="none")
    return losses[:-1].mean()


def cross_entropy_and_dice(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return cross_entropy(logits, labels) + dice(logits, labels)
