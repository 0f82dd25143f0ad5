"""Many optimizer steps in bfloat16 on real crops, with the worst batches a run can meet thrown in.

Nothing may become non-finite, grow or be compiled again, and the network must have learnt what the
crops show all the same. The quick tests make a few hundred steps, `pytest -m slow` makes 20,000.
"""

import gc
import itertools
import os
import resource
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import miniature
import numpy as np
import optax
import pytest
from compiling import optimized_jit, quick_jit

import rmi_jax

with miniature.importing_examples():
    from segmentation import satellite

BATCH, SIZE, CLASSES, WIDTH = 4, 16, 3, 8
EVERY = 10  # every tenth batch is a bad one
LARGEST = 1e30  # the largest logits for which the library promises a finite loss
IGNORED = 255

STEPS = 20_000
SPARE = 8e6  # bytes that resident memory may grow: a few hundred per step
COMPILED = "/jax/core/compile/backend_compile_duration"


class Batch(NamedTuple):
    images: np.ndarray  # [B, H, W, 3]
    labels: np.ndarray  # [B, H, W]
    peak: np.ndarray | np.float32 = np.float32(
        0
    )  # if not 0, logits are scaled so that their largest is this
    shift: np.ndarray | np.float32 = np.float32(0)  # is added to all logits


# --- What goes wrong. Everything is data, so that nothing needs to be compiled again.


def relabelled(labels_of):
    return lambda batch: batch._replace(labels=labels_of(batch.labels.copy()))


def filled(value):
    return relabelled(lambda labels: np.full_like(labels, value))


def marked(outside, inside, where):
    """Labels of one class, and another at ``where``."""

    def change(labels):
        labels[:] = outside
        labels[where] = inside
        return labels

    return relabelled(change)


def one_image_ignored(labels):
    labels[0] = IGNORED
    return labels


def noise(labels):
    return np.random.default_rng(0).integers(0, CLASSES, labels.shape, labels.dtype)


EVENTS = {
    "all ignored": filled(IGNORED),
    "ignored labels at the ends of int32": lambda batch: batch._replace(
        labels=np.where(batch.labels > 0, 2**31 - 1, -(2**31)).astype("int32")
    ),
    "one image ignored": relabelled(one_image_ignored),
    "one pixel not ignored": marked(IGNORED, 1, np.s_[:, 5, 7]),
    "class 0 alone": filled(0),
    "class 2 alone": filled(2),
    "one-pixel objects": marked(0, 2, np.s_[:, 5, 7]),
    "an object in the corner": marked(1, 2, np.s_[:, 0, 0]),
    "stripes": marked(0, 1, np.s_[:, ::2]),
    "noise": relabelled(noise),
    "black images": lambda batch: batch._replace(images=np.zeros_like(batch.images)),
    "glaring images": lambda batch: batch._replace(images=np.float32(1e4) * batch.images),
    "confident": lambda batch: batch._replace(peak=np.float32(1e4)),
    "confident and inverted": lambda batch: batch._replace(peak=np.float32(-1e4)),
    "saturated": lambda batch: batch._replace(peak=np.float32(LARGEST)),
    "saturated and inverted": lambda batch: batch._replace(peak=np.float32(-LARGEST)),
    "saturated, all ignored": lambda batch: filled(IGNORED)(
        batch._replace(peak=np.float32(LARGEST))
    ),
    "all logits at the top": lambda batch: batch._replace(shift=np.float32(LARGEST)),
    "all logits at the bottom": lambda batch: batch._replace(shift=np.float32(-LARGEST)),
    "tiny logits": lambda batch: batch._replace(peak=np.float32(1e-30)),
}


def event_at(step):
    """Name of the event at a step, or None."""
    cycle, rest = divmod(step, EVERY)
    return list(EVENTS)[cycle % len(EVENTS)] if rest == EVERY - 1 else None


def batches(tiles, crops):
    """Endless crops, with the events at their steps."""
    for step, batch in enumerate(crops(tiles, seed=0, batch=BATCH, size=SIZE)):
        batch, event = Batch(*batch), event_at(step)
        yield batch if event is None else EVENTS[event](batch)


# --- A network and its training step.


def network(params, images):
    """Three convolutions in bfloat16; the parameters are float32, as mixed precision has them."""
    features = images.astype(jnp.bfloat16)
    for layer, (kernel, bias) in enumerate(params):
        features = jax.lax.conv_general_dilated(
            features,
            kernel.astype(jnp.bfloat16),
            window_strides=(1, 1),
            padding="SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        ) + bias.astype(jnp.bfloat16)
        if layer < len(params) - 1:
            features = jax.nn.relu(features)
    return features


def initial(seed):
    sides = itertools.pairwise((3, WIDTH, WIDTH, CLASSES))
    rng = np.random.default_rng(seed)
    return [(he_normal(rng, s), jnp.zeros(s[1])) for s in sides]


def he_normal(rng, sides):
    kernel = np.sqrt(2 / (9 * sides[0])) * rng.normal(size=(3, 3, *sides))
    return jnp.asarray(kernel, jnp.float32)


def disturbed(logits, peak, shift):
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(logits), initial=1e-6))
    scale = jnp.where(peak == 0, 1, peak / largest.astype(jnp.float32))
    return logits * scale.astype(logits.dtype) + shift.astype(logits.dtype)


def finite(tree):
    return jnp.all(jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]))


class State(NamedTuple):
    params: optax.Params
    optimizer: optax.OptState
    step: jax.Array
    first_bad: jax.Array  # the first step with anything that is not finite, or -1


def make_step(activation, steps):
    schedule = rmi_jax.warmup_schedule(steps // 5, steps // 10)
    # Without clipping a gradient of 1e30 would overflow in Adam's own squares.
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(3e-3))

    def loss_fn(params, batch, step):
        logits = disturbed(network(params, batch.images), batch.peak, batch.shift)
        return rmi_jax.rmi_loss(
            logits, batch.labels, bce_weight=schedule(step), activation=activation, factor=1
        )

    def train_step(state, batch):
        loss, grads = jax.value_and_grad(loss_fn)(state.params, batch, state.step)
        updates, moments = optimizer.update(grads, state.optimizer)
        params = optax.apply_updates(state.params, updates)
        bad = (state.first_bad < 0) & ~finite((loss, grads, params, moments))
        first_bad = jnp.where(bad, state.step, state.first_bad)
        return State(params, moments, state.step + 1, first_bad), loss

    return optimizer, train_step


# --- The run, and what is seen of it.


@pytest.fixture
def compilations():
    """What XLA compiled since, whatever asked for it."""
    seen = []

    def listener(event, duration_secs, **_):
        if event == COMPILED:
            seen.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(listener)
    yield seen
    if hasattr(jax.monitoring, "unregister_event_duration_listener"):  # newer than JAX 0.7
        jax.monitoring.unregister_event_duration_listener(listener)


def resident():
    """Resident memory of this process in bytes but for files; where unknown, its peak."""
    gc.collect()
    try:
        _, pages, of_files, *_ = map(int, Path("/proc/self/statm").read_text().split())
    except FileNotFoundError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return (pages - of_files) * os.sysconf("SC_PAGE_SIZE")


class Reading(NamedTuple):
    memory: int
    arrays: int
    compiled: int


def judge(params, batch, activation):
    """The loss at the final mix, and the share of right pixels."""

    @quick_jit
    def run(params):
        logits = network(params, batch.images)
        loss = rmi_jax.rmi_loss(logits, batch.labels, activation=activation, factor=1)
        return loss, jnp.mean(jnp.argmax(logits, axis=-1) == batch.labels)

    return map(float, run(params))


def check_run(compilations, activation, steps, jit=optimized_jit):
    data = satellite.load("water")
    unseen = next(satellite.crops(data.test, seed=1, batch=64, size=SIZE))
    params = initial(0)
    loss_before, _ = judge(params, unseen, activation)
    optimizer, train_step = make_step(activation, steps)
    step = jit(train_step, donate_argnums=0)
    state = State(params, optimizer.init(params), jnp.int32(0), jnp.int32(-1))
    stream = batches(data.train, satellite.crops)

    gc.freeze()  # what is there by now: the collections below look at what the run makes
    compiled_before, readings = len(compilations), []
    for number, batch in enumerate(itertools.islice(stream, steps), start=1):
        state, _ = step(state, batch)
        if number % (steps // 40) == 0:
            jax.block_until_ready(state)
            readings.append(Reading(resident(), len(jax.live_arrays()), len(compilations)))

    gc.unfreeze()
    first_bad = int(state.first_bad)
    assert first_bad == -1, f"not finite from step {first_bad}, event {event_at(first_bad)!r}"
    assert int(state.step) == steps
    assert steps >= 2 * EVERY * len(EVENTS), "not every event was met twice"
    # One compilation: of the step, at its first call, and none of anything since.
    assert step._cache_size() == 1
    assert [reading.compiled for reading in readings] == [compiled_before + 1] * len(readings)
    # Memory: no array of JAX's more, and none of the process's pages.
    assert len({reading.arrays for reading in readings}) == 1
    early, late = (
        np.median([reading.memory for reading in part]) for part in (readings[4:12], readings[-8:])
    )
    assert late - early < SPARE, f"resident memory grew by {(late - early) / 1e6:.1f} MB"
    # All this on a network that learns.
    loss, accuracy = judge(state.params, unseen, activation)
    majority = np.bincount(unseen.labels.ravel()).max() / unseen.labels.size
    assert loss < loss_before
    assert accuracy > majority + 0.1


def test_some_hundred_steps(compilations):
    check_run(compilations, "softmax", 400, quick_jit)


@pytest.mark.slow
@pytest.mark.parametrize(("activation", "steps"), [("softmax", STEPS), ("sigmoid", STEPS // 4)])
def test_long_run(compilations, activation, steps):
    check_run(compilations, activation, steps)
