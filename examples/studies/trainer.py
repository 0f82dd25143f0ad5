"""One run: a U-Net, a loss, a task. What differs between contestants is the loss alone."""

import functools
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from tqdm import tqdm

from segmentation.models.unet import UNet
from studies import losses, scores
from studies.batches import batches
from studies.data import Maps, Task

BATCHES_SEEN = 100  # of the first, for the frequencies of classes where crops seek the rare ones


@dataclass(frozen=True)
class Settings:
    """What tells runs apart."""

    task: str
    loss: str
    steps: int
    rate: float = 3e-3
    seed: int = 0  # of the weights and the batches
    fold: int = 0
    foreground: float | None = None  # thinned to this share of the pixels
    batch: int = 4
    crop: int = 64
    widths: tuple[int, ...] = (16, 32, 64)
    evaluations: int = 6  # of the validation part along the run


def setup(settings: Settings) -> Settings:
    """What all runs of one table share: all but the loss, its learning rate and the seeds."""
    return replace(settings, loss="", rate=0.0, seed=0, fold=0)


def settings_of(record: dict[str, Any]) -> Settings:
    chosen = record["settings"]
    return Settings(**{**chosen, "widths": tuple(chosen["widths"])})


def network(widths: tuple[int, ...], channels: int, classes: int, seed: int):
    """Its fixed part and its parameters, which a seed decides."""
    return nnx.split(UNet(channels, classes, widths=widths, rngs=nnx.Rngs(seed)))


def class_weights(maps: Maps, classes: int) -> np.ndarray:
    """Median frequency over frequency, where frequencies count the pictures that show the class."""
    counts = np.stack([np.bincount(y.ravel(), minlength=256)[:classes] for y in maps.labels])
    totals = counts.sum(axis=1, keepdims=True) * (counts > 0)
    frequencies = counts.sum(axis=0) / np.maximum(totals.sum(axis=0), 1)
    return (np.median(frequencies) / np.maximum(frequencies, 1e-6)).astype(np.float32)


def maps_seen(settings: Settings, task: Task) -> Maps:
    """What frequencies are taken of: the pictures, or crops where those seek rare classes."""
    if not task.seek_classes:
        return task.train
    stream = itertools.islice(stream_of(settings, task), BATCHES_SEEN)
    return Maps(*map(np.concatenate, zip(*stream, strict=True)))


def stream_of(settings: Settings, task: Task) -> Iterator[Maps]:
    return batches(
        task.train,
        seed=settings.seed,
        batch=settings.batch,
        crop=settings.crop,
        seek_classes=task.seek_classes,
        upright=task.upright,
    )


@functools.lru_cache(maxsize=32)  # every contestant of a task
def compiled(loss: str, widths: tuple[int, ...], channels: int, classes: int) -> Callable:
    """A step of AdamW. Seeds and learning rates share the program: both are arguments."""
    graph, _ = network(widths, channels, classes, 0)
    loss_of = losses.loss(loss)
    tx = optimizer()

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state, images, labels, weights, rate, progress):
        def value(params):
            return loss_of(nnx.merge(graph, params)(images), labels, progress, weights)

        loss, gradient = jax.value_and_grad(value)(params)
        updates, state = tx.update(gradient, state, params)
        params = jax.tree.map(lambda p, u: p - rate * u, params, updates)
        return params, state, loss

    return step


def optimizer() -> optax.GradientTransformation:
    """AdamW without its learning rate."""
    return optax.chain(optax.scale_by_adam(), optax.add_decayed_weights(1e-4))


@functools.lru_cache(maxsize=4)
def predictor(widths: tuple[int, ...], channels: int, classes: int) -> Callable:
    graph, _ = network(widths, channels, classes, 0)
    return jax.jit(lambda params, image: jnp.argmax(nnx.merge(graph, params)(image), axis=-1))


def predict(settings: Settings, params, maps: Maps, classes: int) -> np.ndarray:
    """The likeliest class. Pictures are mirrored up to a size that the U-Net can halve."""
    function = predictor(settings.widths, maps.images.shape[-1], classes)
    multiple = 2 ** (len(settings.widths) - 1)
    height, width = maps.labels.shape[1:]
    margins = [(0, 0), (0, -height % multiple), (0, -width % multiple), (0, 0)]
    predictions = [
        np.asarray(function(params, np.pad(image[None], margins, mode="reflect")))
        for image in maps.images
    ]
    return np.concatenate(predictions)[:, :height, :width].astype(np.uint8)


Watch = Callable[[int, Any], None]


def train(
    settings: Settings, task: Task, watch: Watch = lambda step, params: None
) -> dict[str, Any]:
    """Trains one network and scores it.

    Args:
        settings: of the run.
        task: what to train on.
        watch: called with the number of steps done and the parameters.

    Returns:
        `curve`, a list of (step, mean loss since the last one, mean IoU on the validation part);
        `validation` and `test`, the scores of the trained network; `seconds_per_step`, processor
        time without the batch.
    """
    s, classes, channels = settings, len(task.classes), task.train.images.shape[-1]
    _, params = network(s.widths, channels, classes, s.seed)
    state = optimizer().init(params)
    step_of = compiled(s.loss, s.widths, channels, classes)
    rate_at = optax.warmup_cosine_decay_schedule(0, s.rate, max(s.steps // 20, 1), s.steps)
    rates = np.asarray(jax.vmap(rate_at)(jnp.arange(s.steps) + 1))
    weights = class_weights(maps_seen(s, task), classes)
    stream = stream_of(s, task)
    at = np.unique(np.linspace(0, s.steps, s.evaluations + 1).astype(int))[1:]
    curve, recent, durations = [], [], []
    title = f"{s.task} {s.loss} {s.rate:g} {s.seed}"
    for step in tqdm(range(s.steps), desc=title, mininterval=10):
        images, labels = next(stream)
        start = time.process_time()
        params, state, loss = step_of(
            params, state, images, labels, weights, rates[step], np.float32(step / s.steps)
        )
        recent.append(float(loss))
        durations.append(time.process_time() - start)
        watch(step + 1, params)
        if step + 1 in at:
            predicted = predict(s, params, task.validation, classes)
            reached = scores.mean_iou(predicted, task.validation.labels, classes)
            curve.append([step + 1, round(float(np.mean(recent)), 5), round(reached, 3)])
            recent = []

    def scored(part: Maps) -> dict[str, Any]:
        predictions = predict(s, params, part, classes)
        return scores.scores(predictions, part.labels, task.classes, task.cells)

    return {
        "settings": asdict(s),
        "options": losses.options(s.loss),
        "curve": curve,
        "validation": scored(task.validation),
        "test": scored(task.test),
        "seconds_per_step": float(np.median(durations)),
    }
