"""The losses that train.py offers."""

from collections.abc import Callable
from typing import Any

import jax

import rmi_jax
from rmi_jax import LossParts
from segmentation.config import Config

Objective = Callable[[jax.Array, jax.Array, Any], tuple[jax.Array, LossParts]]


def make(config: Config) -> Objective:
    """``(logits, labels, step) -> (loss, parts)``.

    All three are `rmi_loss`: with a weight of 1 for the cross entropy that is all there is, and the
    parts tell its mutual information too.
    """
    options = config.rmi
    size = {
        "factor": options.factor,
        "region_size": options.region_size,
        "downsampling": options.downsampling,
        "has_aux": True,
    }
    if config.loss != "rmi":

        def cross_entropy(logits, labels, step):
            return rmi_jax.rmi_loss(logits, labels, bce_weight=1.0, activation=config.loss, **size)

        return cross_entropy

    schedule = bce_weight(config)

    def mixed(logits, labels, step):
        return rmi_jax.rmi_loss(
            logits, labels, bce_weight=schedule(step), activation=options.activation, **size
        )

    return mixed


def bce_weight(config: Config) -> Callable[[Any], Any]:
    """The weight of the cross entropy at a step."""
    if config.loss != "rmi":
        return lambda step: 1.0
    options = config.rmi
    if options.warmup == 0:
        return lambda step: options.bce_weight
    return rmi_jax.warmup_schedule(
        int(options.warmup * config.steps),
        max(int(options.transition * config.steps), 1),
        final_weight=options.bce_weight,
    )


def mean(parts: LossParts) -> LossParts:
    """Parts of several batches, stacked along a first axis, as those of one batch.

    Mutual information and slope are means over the images in which a class varies.
    """
    images = parts.images
    total = images.sum(0).clip(min=1)
    return LossParts(
        parts.cross_entropy.mean(0),
        parts.rmi.mean(0),
        (parts.mutual_information * images).sum(0) / total,
        (parts.slope * images).sum(0) / total,
        images.sum(0),
    )
