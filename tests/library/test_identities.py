"""What must hold whatever the numbers are: symmetries, limits and equivalences of the options."""

import itertools
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import oracle
import pytest
from compiling import both_implementations, quick_jit
from inputs import SHAPES, example, smooth
from terms import term_and_grads
from tolerances import assert_grad, assert_value

import rmi_jax

DTYPES = ["float64", "float32"]
REGION_SIZE = {1: 3, 2: 3, 3: (2, 1, 3)}
TRUTH = {ndim: oracle.one_hot(np.clip(example(ndim).labels, 0, 2), 3)[0] for ndim in SHAPES}


# --- Ignored pixels and weights.


@pytest.mark.parametrize("ndim", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_weights_repeat_region_positions(ndim, implementation, x64):
    # Regions that share no cell: a region of weight w is a region that is there w times.
    side = 2
    cells = (12, 6, 4)[:ndim]
    rng = np.random.default_rng(0)
    data = example(ndim, (1, *cells, 2))
    repeats = rng.integers(0, 4, size=cells[0] // side)
    weights = np.repeat(repeats, side).reshape(1, -1, *[1] * (ndim - 1))
    weights = np.broadcast_to(weights, (1, *cells)).astype("float64")

    def repeated(maps):
        blocks = maps.reshape(1, -1, side, *maps.shape[2:])
        return np.repeat(blocks, repeats, axis=1).reshape(1, -1, *maps.shape[2:])

    run = term_and_grads(
        factor=1, region_size=side, region_stride=side, implementation=implementation
    )
    probs, targets = data.probs, data.targets
    weighted, _ = run(probs, targets, weights)
    expected, _ = run(repeated(probs), repeated(targets))
    assert_value(weighted, expected, "float64")


def test_weights_repeat_overlapping_regions(implementation, x64):
    # The textbook's formula on regions that are written down as often as their weight says.
    rng = np.random.default_rng(1)
    data, jitter = example(2), 0.1
    weights = rng.choice(4, p=[0.02, 0.18, 0.4, 0.4], size=data.labels.shape).astype("float64")
    run = term_and_grads(factor=1, zero_floor=False, jitter=jitter, implementation=implementation)
    values, _ = run(data.probs, data.targets, weights)

    def regions(maps):
        windows = np.lib.stride_tricks.sliding_window_view(maps, (3, 3))
        return windows.reshape(-1, 9)

    expected = np.zeros_like(values)
    for b, c in np.ndindex(*expected.shape):
        times = regions(weights[b]).min(axis=1).astype(int)
        p, y = (np.repeat(regions(m[b, ..., c]), times, axis=0) for m in (data.probs, data.targets))
        p, y = p - p.mean(axis=0), y - y.mean(axis=0)
        ridge = np.linalg.solve(p.T @ p + jitter * np.eye(9), p.T @ y)
        m = y.T @ y - y.T @ p @ ridge
        expected[b, c] = np.linalg.slogdet(m + jitter * np.eye(9))[1] / 18
    assert_value(values, expected, "float64")


def test_scaling_all_weights_is_a_change_of_jitter(implementation, x64):
    data = example(2)
    run = term_and_grads(factor=1, implementation=implementation)
    values, _ = run(data.probs, data.targets, data.weights, 5e-4)
    scaled, _ = run(data.probs, data.targets, 7 * data.weights, 7 * 5e-4)
    assert_value(scaled, values, "float64")


# --- Images, classes and directions.


@both_implementations
@pytest.mark.parametrize("soft", [False, True])
def test_a_truth_that_is_constant_over_the_positions_tells_nothing(soft, implementation):
    """Though it varies over the image, beside the positions: rounding is no information."""
    rng = np.random.default_rng(0)
    labels = np.zeros((1, 18, 18), np.int32)
    labels[0, 5, 3], labels[0, 7, 1::2] = 1, 2  # in no region of size 1 and stride 2
    logits = 2 * rng.normal(size=(1, 18, 18, 3)).astype(np.float32)
    logits[..., 1] += 4 * (labels == 1)
    targets = np.eye(3, dtype=np.float32)[labels]
    options = {"region_size": 1, "region_stride": 2, "implementation": implementation}
    loss = rmi_jax.soft_rmi_loss if soft else rmi_jax.rmi_loss

    def loss_fn(logits):
        truth = targets if soft else labels
        return loss(logits, truth, bce_weight=0.0, has_aux=True, **options)

    (value, aux), gradient = quick_jit(jax.value_and_grad(loss_fn, has_aux=True))(logits)
    assert value == 0
    assert np.all(gradient == 0)
    assert np.all(aux.images == 0)
    assert np.all(aux.mutual_information == 0)
    probs = jax.nn.softmax(logits)
    share = partial(rmi_jax.region_mutual_information, normalize=True, **options)
    assert np.all(quick_jit(share)(probs, targets) == 0)


@pytest.mark.parametrize(
    ("function", "axis"),
    [
        ("rmi_loss", 1),
        ("soft_rmi_loss", -2),
        ("region_information_loss", -2),
        ("region_mutual_information", 1),
    ],
)
def test_the_class_axis_may_be_anywhere(function, axis, implementation, x64):
    data = example(1)
    maps, truth = data.probs, data.labels if function == "rmi_loss" else data.targets

    @quick_jit
    def both(maps):
        call = partial(getattr(rmi_jax, function), factor=2, implementation=implementation)
        moved = [jnp.moveaxis(m, -1, 1) if m.ndim == 3 else m for m in (maps, truth)]
        return call(maps, truth), call(*moved, axis=axis)

    last, moved = both(maps)
    assert_value(moved, last, "float64")


@pytest.mark.parametrize("ignored", ["exclude", "zero"])
def test_absent_classes_add_nothing(ignored, implementation):
    data = example(1)
    labels = np.clip(data.labels, 0, 2)
    logits = data.logits.astype("float32")
    noise = np.random.default_rng(0).normal(size=(*labels.shape, 2)).astype("float32")

    @quick_jit
    @partial(jax.value_and_grad, has_aux=True)
    def run(logits):
        terms = rmi_jax.rmi_loss(
            logits,
            labels,
            bce_weight=0.0,
            activation="sigmoid",
            factor=2,
            ignored=ignored,
            reduction="none",
            implementation=implementation,
        )
        return terms.sum(), terms

    (_, terms), grad = run(logits)
    (_, more_terms), more_grad = run(np.concatenate([logits, 9 * noise], axis=-1))
    assert_value(more_terms, terms, "float32")
    assert_grad(more_grad[..., :3], grad, "float32")
    assert np.all(np.asarray(more_grad)[..., 3:] == 0)


# --- The parts of the objective.


def test_class_and_image_weights_multiply_the_parts(implementation, x64):
    data = example(2)
    weights = np.array([0.5, 0.0, 3.0])

    @quick_jit
    def run(logits):
        def weighed(logits, class_weights):
            return rmi_jax.rmi_loss(
                logits,
                data.labels,
                bce_weight=0.3,
                activation="sigmoid",
                class_weights=class_weights,
                factor=2,
                reduction="none",
                has_aux=True,
                implementation=implementation,
            )

        terms, aux = weighed(logits, weights)
        per_image = jax.jacrev(lambda logits: weighed(logits, weights)[0])(logits)
        return terms, aux, per_image

    terms, aux, per_image = run(data.logits)
    parts = 0.3 * aux.cross_entropy + 0.7 * aux.rmi
    assert_value(terms.mean(), (weights * parts).sum(), "float64")
    # With reduction="none" every image can be given a weight: its term is its own.
    assert per_image.shape == (2, *data.logits.shape)
    for image, other in ((0, 1), (1, 0)):
        assert np.all(np.asarray(per_image)[image, other] == 0)
        assert np.any(np.asarray(per_image)[image, image] != 0)
    # The second class weighs nothing.
    assert np.all(np.asarray(per_image)[..., 1] == 0)


@pytest.mark.parametrize("ndim", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_two_channels_are_one(ndim, implementation, x64):
    """Softmax over (0, l), sigmoids of (-l, l) and one channel l are the same problem."""
    data = example(ndim)
    logit, truth = data.logits[..., :1], data.targets[..., :1]
    zero = np.zeros_like(logit)
    options = {"factor": 2, "region_size": 2, "where": data.weights}

    @quick_jit
    def losses(logit):
        call = partial(rmi_jax.soft_rmi_loss, implementation=implementation, **options)
        pair = jnp.concatenate([1 - truth, truth], axis=-1)
        softmax = call(
            jnp.concatenate([zero, logit], axis=-1),
            pair,
            activation="softmax",
            bce_weight=0.3,
            rmi_weight=0.7,
        )
        sigmoids = call(jnp.concatenate([-logit, logit], axis=-1), pair, bce_weight=0.3)
        # Channels 1 - p and p carry the same information, and each counts once.
        return (
            softmax,
            call(logit, truth, bce_weight=0.3, rmi_weight=1.4),
            sigmoids,
            2 * call(logit, truth, bce_weight=0.3),
        )

    softmax, one, sigmoids, twice = losses(logit)
    assert_value(softmax, one, "float64")
    assert_value(sigmoids, twice, "float64")


@pytest.mark.parametrize("ndim", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_one_hot_targets_and_shifted_softmax_logits(ndim, implementation):
    data = example(ndim)
    targets, valid = oracle.one_hot(data.labels, 3)

    @quick_jit
    def run(logits, shift):
        options = {
            "factor": 2,
            "region_size": 2,
            "activation": "softmax",
            "anchor": 0.01,
            "implementation": implementation,
        }
        return (
            rmi_jax.rmi_loss(logits, data.labels, **options),
            rmi_jax.soft_rmi_loss(logits + shift, targets, where=valid, **options),
        )

    shift = 3 * np.random.default_rng(0).normal(size=(*data.labels.shape, 1))
    hard, soft = run(data.logits.astype("float32"), shift.astype("float32"))
    assert_value(soft, hard, "float32")


def test_one_channel_trains_to_the_right_sign(implementation):
    # A linear model that starts at a constant prediction, where RMI without an anchor is flat.
    data = example(2, (4, 16, 16, 1))
    truth = (smooth(np.random.default_rng(3).normal(size=data.probs.shape)) > 0).astype("float32")
    noise = np.random.default_rng(4).normal(size=(*truth.shape[:-1], 2))
    features = np.concatenate([2 * truth - 1 + 0.3 * noise[..., :1], noise], -1).astype("float32")
    schedule = rmi_jax.warmup_schedule(20, 20, final_weight=0.1)

    @quick_jit
    def step(params, weight):
        def loss_fn(params):
            logits = features @ params["w"] + params["b"]
            return rmi_jax.soft_rmi_loss(
                logits,
                truth,
                bce_weight=weight,
                anchor=0.0,
                region_size=2,
                implementation=implementation,
            )

        loss, grads = jax.value_and_grad(loss_fn)(params)
        return loss, grads, optax.apply_updates(params, jax.tree.map(lambda g: -0.5 * g, grads))

    params = {"w": jnp.zeros((3, 1)), "b": jnp.zeros((1, 1, 1, 1))}
    loss, grads, _ = step(params, jnp.float32(0))
    assert all(np.all(np.asarray(grad) == 0) for grad in grads.values())
    for i in range(80):
        loss, _, params = step(params, jnp.asarray(schedule(i), "float32"))
    assert np.isfinite(loss)
    accuracy = np.mean((features @ params["w"] + params["b"] > 0) == (truth > 0))
    assert accuracy > 0.95


# --- Limits of the values.


@pytest.mark.parametrize(("ndim", "dtype"), [(1, "float64"), (2, "float32")])
def test_the_floor_and_its_upper_bound_when_perfect(ndim, dtype, implementation, precision):
    data = example(ndim)
    run = term_and_grads(factor=1, region_size=2, implementation=implementation)
    for targets in (TRUTH[ndim].astype(dtype), data.targets.astype(dtype)):
        perfect, _ = run(targets, targets)
        assert np.all(perfect >= 0)
        assert np.all(perfect <= np.log(2) / 2)
        imperfect, _ = run(data.probs.astype(dtype), targets)
        assert np.all((imperfect > perfect) | (imperfect == 0))


@pytest.mark.parametrize(("ndim", "dtype"), [(1, "float64"), (3, "float32")])
def test_mutual_information(ndim, dtype, implementation, precision):
    data = example(ndim)
    truth = TRUTH[ndim].astype(dtype)
    noise = np.random.default_rng(0).uniform(size=truth.shape)

    @quick_jit
    def information(probs, targets):
        call = partial(
            rmi_jax.region_mutual_information,
            factor=1,
            region_size=2,
            implementation=implementation,
        )
        return call(probs, targets), call(probs, targets, normalize=True)

    share = None
    for strength in (0, 0.1, 0.3, 0.6, 1):
        probs = ((1 - strength) * truth + strength * noise).astype(dtype)
        nats, normalized = (np.asarray(value) for value in information(probs, truth))
        assert np.all(nats >= 0)
        assert np.all((normalized >= 0) & (normalized < 1))
        varies = truth.reshape(2, -1, 3).any(axis=1)
        assert np.all(nats[~varies] == 0)
        assert np.all(normalized[~varies] == 0)
        assert share is None or np.all(normalized[varies] < share[varies])
        share = normalized
        if strength == 0:
            assert np.all(normalized[varies] > 0.9)
    constant = np.full_like(truth, 0.3)
    assert_value(information(constant, truth)[0], np.zeros_like(share), dtype)
    forward, _ = information(data.probs.astype(dtype), data.targets.astype(dtype))
    backward, _ = information(data.targets.astype(dtype), data.probs.astype(dtype))
    assert_value(backward, forward, dtype)


def test_gradients_of_mutual_information_are_finite_differences(implementation, x64):
    data = example(1)
    directions = np.random.default_rng(0).normal(size=(2, *data.probs.shape))

    @quick_jit
    @partial(jax.value_and_grad, argnums=(0, 1))
    def run(probs, targets):
        return rmi_jax.region_mutual_information(
            probs, targets, factor=1, implementation=implementation
        ).sum()

    step, (u, v) = 1e-6, directions
    targets = np.clip(data.targets, 0.01, 0.99)
    _, grads = run(data.probs, targets)
    for i, (by_probs, by_targets) in enumerate(((u, 0 * v), (0 * u, v))):
        ahead, behind = (
            run(data.probs + h * by_probs, targets + h * by_targets)[0] for h in (step, -step)
        )
        slope = np.sum(grads[i] * directions[i])
        np.testing.assert_allclose(slope, (ahead - behind) / (2 * step), rtol=1e-5)


def test_independent_noise_shares_d_over_2n(implementation):
    rng = np.random.default_rng(0)
    size, shape = 2, (4, 24, 22, 4)
    probs, targets = rng.uniform(size=(2, *shape)).astype("float32")
    nats = quick_jit(
        partial(
            rmi_jax.region_mutual_information,
            factor=1,
            region_size=size,
            implementation=implementation,
        )
    )(probs, targets)
    expected = size**2 / (2 * 23 * 21)
    np.testing.assert_allclose(np.mean(nats), expected, rtol=0.3)


def test_an_affine_prediction_changes_little(implementation, x64):
    # F5, for the raw loss: what remains is the jitter's share.
    data = example(2)
    run = term_and_grads(factor=1, jitter=1e-9, zero_floor=False, implementation=implementation)
    expected, _ = run(data.probs, data.targets)
    for scale, offset in ((0.5, 0.1), (-1, 1), (0.01, 0)):
        values, _ = run(offset + scale * data.probs, data.targets)
        np.testing.assert_allclose(values, expected, atol=1e-4)


# --- Scales, shapes of regions, and thinning.


def test_volumes_with_anisotropic_factors_and_regions(implementation, x64):
    data = example(3)
    shared: dict[str, Any] = {"region_size": (1, 3, 2), "dilation": (1, 1, 2)}
    weights = (0.3, 1.1)
    factors = ((1, 2, 1), (2, 1, 1))
    arrays = data.probs, data.targets, data.weights
    values, _ = term_and_grads(
        factor=factors, scale_weights=weights, implementation=implementation, **shared
    )(*arrays)
    expected = sum(
        weight * oracle.region_loss(*arrays, factor=factor, **shared).loss
        for weight, factor in zip(weights, factors, strict=True)
    )
    assert_value(values, expected, "float64")


def test_several_scales_add_up(implementation):
    data = example(1)
    probs, targets = data.probs.astype("float32"), data.targets.astype("float32")
    # By default each scale weighs half of the one before, and all weigh 1 together.
    weights = {1: 4 / 7, 2: 2 / 7, 4: 1 / 7}

    @quick_jit
    def run(probs, targets):
        call = partial(
            rmi_jax.region_information_loss,
            region_size=2,
            zero_floor=False,
            implementation=implementation,
        )
        parts = [weight * call(probs, targets, factor=k) for k, weight in weights.items()]
        return call(probs, targets, factor=tuple(weights)), sum(parts)

    together, summed = run(probs, targets)
    assert_value(together, summed, "float32")


def keys_of_all_offsets(stride, ndim):
    """One PRNG key for each of the stride^ndim shifts of the grid."""
    keys, seeds = {}, itertools.count()
    while len(keys) < stride**ndim:
        key = jax.random.key(next(seeds))
        offset = jax.random.randint(key, (ndim,), 0, np.full(ndim, stride))
        keys[tuple(np.asarray(offset).tolist())] = key
    return keys


def test_a_key_without_thinning_changes_nothing(implementation):
    data = example(2)

    @quick_jit
    def run(probs, targets, key):
        call = partial(
            rmi_jax.region_information_loss,
            factor=1,
            region_size=2,
            implementation=implementation,
        )
        return call(probs, targets), call(probs, targets, region_key=key)

    plain, keyed = run(
        data.probs.astype("float32"), data.targets.astype("float32"), jax.random.key(3)
    )
    assert_value(keyed, plain, "float32")


@pytest.mark.parametrize("ndim", [1, 2])
def test_thinned_scatters_average_to_the_full_one(ndim, implementation, x64):
    """For a huge jitter the loss is ``trace(Y Y') / (2 d jitter)``: linear in the scatter."""
    stride, jitter = 2, 1e9
    data = example(ndim)
    targets = np.array(data.targets)
    # Every grid's mean is made the same, for the scatter is taken about the mean of the grid.
    for start in itertools.product(range(stride), repeat=ndim):
        grid = targets[:, *(slice(s, None, stride) for s in start)]
        grid -= grid.mean(axis=tuple(range(1, ndim + 1)), keepdims=True)
    targets = 0.5 + targets / (2 * np.abs(targets).max())
    call = partial(
        rmi_jax.region_information_loss,
        factor=1,
        region_size=1,
        jitter=jitter,
        implementation=implementation,
    )
    thinned = quick_jit(lambda key: call(data.probs, targets, region_stride=stride, region_key=key))
    scatters = [jitter * thinned(key) for key in keys_of_all_offsets(stride, ndim).values()]
    full = np.square(targets - targets.mean(axis=tuple(range(1, ndim + 1)), keepdims=True))
    expected = full.sum(axis=tuple(range(1, ndim + 1))) / 2
    np.testing.assert_allclose(np.mean(scatters, axis=0), expected, rtol=1e-5)
    # They are not all alike: it is the average that is right.
    assert np.max(np.std(scatters, axis=0) / expected) > 0.01


def test_thinned_losses_are_nearly_the_full_one(implementation):
    data = example(2, (2, 33, 30, 3))
    probs, targets = data.probs.astype("float32"), data.targets.astype("float32")
    call = partial(
        rmi_jax.region_information_loss, factor=1, region_size=2, implementation=implementation
    )
    thinned = quick_jit(lambda key: call(probs, targets, region_stride=2, region_key=key))
    losses = [thinned(key) for key in keys_of_all_offsets(2, 2).values()]
    full = quick_jit(call)(probs, targets)
    np.testing.assert_allclose(np.mean(losses, axis=0), full, atol=0.03)
