"""The losses that train.py offers."""

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import rmi_jax
from rmi_jax import LossParts
from segmentation.config import Config
from segmentation.dataset import IGNORED

Objective = Callable[..., tuple[jax.Array, LossParts]]


def make(config: Config) -> Objective:
    """``(logits, labels, step, share=1) -> (loss, parts)``.

    All three call `rmi_loss`. With a weight of 1 the cross entropy is the whole loss, and the
    parts still tell the mutual information. ``share`` is for a part of a batch, see `shares`.
    """
    options = config.rmi
    weight_at = bce_weight(config)

    def objective(logits, labels, step, share=1):
        weight = weight_at(step)
        loss, parts = rmi_jax.rmi_loss(
            logits,
            labels,
            bce_weight=weight * share,
            rmi_weight=1 - weight,
            activation=options.activation if config.loss == "rmi" else config.loss,
            factor=options.factor,
            region_size=options.region_size,
            downsampling=options.downsampling,
            anchor=options.anchor,
            has_aux=True,
        )
        return loss, parts._replace(cross_entropy=share * parts.cross_entropy)

    return objective


def check(config: Config, classes: int) -> None:
    """Traces the loss once; what the library refuses ends with a message that names the flags."""
    logits = jax.ShapeDtypeStruct((1, *config.crop, classes), jnp.float32)
    labels = jax.ShapeDtypeStruct(logits.shape[:-1], jnp.int32)
    try:
        jax.eval_shape(make(config), logits, labels, jax.ShapeDtypeStruct((), jnp.int32))
    except (TypeError, ValueError) as error:
        names = [field.name for field in dataclasses.fields(config.rmi)]
        message = re.sub(rf"\b({'|'.join(names)})\b", flag, str(error))
        height, width = config.crop
        raise SystemExit(f"--crop {height} {width}: {message}") from error


def flag(name: re.Match[str]) -> str:
    return f"--rmi.{name[0].replace('_', '-')}"


def shares(labels: jax.Array) -> jax.Array:
    """Factors on the cross entropies of the parts of a batch, labels ``[parts, B, H, W]``.

    The library divides a cross entropy by the number of labelled pixels + 1, so that a mean over
    parts would give the pixels of a part with few of them more weight. With these factors the mean
    over parts is the cross entropy of the whole batch. RMI is a mean over images and needs none.
    """
    labelled = (labels != IGNORED).sum((1, 2, 3))
    return (labelled + 1) * (len(labels) / (labelled.sum() + 1))


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
    """Parts of several batches, or of one that was cut up, stacked along a first axis, as of one.

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
