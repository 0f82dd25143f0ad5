"""The full objective against the oracle, and the meaning of each option of the mix."""

import functools
import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from compiling import enable_x64, quick_jit
from inputs import example
from tolerances import assert_grad, assert_value

import rmi_jax

DATA = example(2)
CLASS_WEIGHTS = np.array([0.5, 2.0, 0.0])

# Name: (labels or soft targets, mask, options).
OBJECTIVES = {
    "sigmoid": ("labels", None, {"factor": 2, "activation": "sigmoid"}),
    "weights": (
        "labels",
        "weights",
        {"factor": 1, "class_weights": CLASS_WEIGHTS, "bce_weight": 0.3},
    ),
    "mask": (
        "labels",
        "mask",
        {"factor": 2, "activation": "softmax", "class_weights": CLASS_WEIGHTS},
    ),
    "sum": (
        "labels",
        None,
        {"factor": 2, "bce_weight": 1.0, "rmi_weight": 0.7, "zero_floor": False},
    ),
    "zero": ("labels", "mask", {"factor": 2, "ignored": "zero", "activation": "softmax"}),
    "scales": ("labels", "mask", {"factor": (1, 2), "region_size": 2, "anchor": 0.5}),
    "soft_rmi": ("targets", None, {"factor": 2, "bce_weight": 0.0}),
    "soft_softmax": (
        "targets",
        "weights",
        {"factor": 2, "activation": "softmax", "class_weights": CLASS_WEIGHTS},
    ),
    "soft_scales": (
        "targets",
        "mask",
        {"factor": ((1, 2), 1), "scale_weights": (0.25, 2.0), "region_size": 2},
    ),
}


LOGITS = DATA.logits.astype("float32")
TARGETS = DATA.targets.astype("float32")


# By kind of truth: the function, and the defaults that differ.
FUNCTIONS = {"labels": rmi_jax.rmi_loss, "targets": rmi_jax.soft_rmi_loss}
DEFAULTS = {
    "labels": {"activation": "softmax", "anchor": 0.01},
    "targets": {"activation": "sigmoid", "anchor": 0.1},
}


@pytest.mark.parametrize("case", OBJECTIVES)
def test_objective(case, implementation, x64):
    kind, mask, options = OBJECTIVES[case]
    weights = mask and getattr(DATA, mask)
    targets = np.asarray(getattr(DATA, kind))
    if kind == "labels":
        wide_targets, valid = oracle.one_hot(targets, 3)
        expected_weights = valid * (1.0 if weights is None else weights)
    else:
        wide_targets, expected_weights = targets, weights
    expected, expected_grad = oracle.objective(
        DATA.logits, wide_targets, expected_weights, **{**DEFAULTS[kind], **options}
    )

    def loss_fn(logits):
        terms = FUNCTIONS[kind](
            logits,
            targets,
            where=weights,
            reduction="none",
            implementation=implementation,
            **options,
        )
        return terms.mean(), terms

    run = quick_jit(jax.value_and_grad(loss_fn, has_aux=True))
    (loss, terms), grad = run(DATA.logits)
    assert loss.shape == ()
    assert_value(terms, expected, "float64")
    assert_grad(grad, expected_grad, "float64")


def test_masked_pixels_do_not_matter(implementation):
    weights = DATA.weights
    options = {"where": weights, "factor": 1, "implementation": implementation}

    @quick_jit
    @jax.value_and_grad
    def run(logits, labels):
        return rmi_jax.rmi_loss(logits, labels, **options)

    noise = np.where(weights[..., None] > 0, 0, 30 * np.random.default_rng(0).normal(size=(3,)))
    loss, grad = run(LOGITS, DATA.labels)
    other, other_grad = run((LOGITS + noise).astype("float32"), np.where(weights, DATA.labels, 2))
    assert_value(other, loss, "float32")
    assert_grad(other_grad, grad, "float32")
    assert np.all(np.asarray(grad)[weights == 0] == 0)


def test_zero_floor(implementation):
    def loss_fn(logits, zero_floor):
        terms = rmi_jax.region_information_loss(
            jax.nn.sigmoid(logits),
            oracle.one_hot(DATA.labels, 3)[0],
            factor=1,
            zero_floor=zero_floor,
            implementation=implementation,
        )
        return terms.sum(), terms

    run = quick_jit(jax.grad(loss_fn, has_aux=True), static_argnums=1)
    (grad, terms), (raw_grad, raw) = run(LOGITS, True), run(LOGITS, False)
    assert_value(terms - raw, np.full((2, 3), -np.log(5e-4) / 2), "float32")
    assert_grad(grad, raw_grad, "float32")
    # The third class is absent from the second image: exactly zero, and so is its gradient.
    assert terms[1, 2] == 0
    assert np.all(np.asarray(grad)[1, ..., 2] == 0)
    assert np.all(np.delete(np.asarray(terms), 5) > 0)


def test_the_floor_follows_the_weights_of_the_scales():
    data = example(1)

    @quick_jit
    def run(probs, targets):
        options = {"factor": (1, 2), "scale_weights": (0.25, 2.0), "region_size": 2}
        return [
            rmi_jax.region_information_loss(probs, targets, zero_floor=zero_floor, **options)
            for zero_floor in (False, True)
        ]

    raw, above = run(data.probs.astype("float32"), data.targets.astype("float32"))
    assert_value(raw - above, np.full((2, 3), 2.25 * np.log(5e-4) / 2), "float32")


@pytest.mark.parametrize("ignored", ["exclude", "zero"])
def test_a_fully_ignored_image_costs_nothing(ignored, implementation):
    labels = np.array(DATA.labels)
    labels[0] = 255
    options = {"ignored": ignored, "factor": 2, "implementation": implementation}

    def loss_fn(logits, labels):
        terms = rmi_jax.rmi_loss(logits, labels, reduction="none", **options)
        return terms.mean(), terms

    run = quick_jit(jax.value_and_grad(loss_fn, has_aux=True))
    (_, terms), grad = run(LOGITS, labels)
    assert terms[0] == 0
    assert np.all(np.asarray(grad)[0] == 0)
    (_, terms), grad = run(LOGITS, np.full_like(labels, -1))
    assert np.all(np.asarray(terms) == 0)
    assert np.all(np.asarray(grad) == 0)


def test_a_bad_image_spoils_no_other(implementation):
    @quick_jit
    def run(logits):
        return rmi_jax.rmi_loss(
            logits, DATA.labels, factor=2, reduction="none", implementation=implementation
        )

    expected = run(LOGITS)
    for bad in (np.nan, np.inf, -np.inf):
        spoilt = np.array(LOGITS)
        spoilt[0, 5, 5, 1] = bad
        terms = run(spoilt)
        assert_value(terms[1], expected[1], "float32")
        if np.isnan(bad):
            assert np.isnan(terms[0])


@pytest.mark.parametrize(
    ("how", "ignored"), [("labels", "exclude"), ("where", "zero"), ("targets", "exclude")]
)
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_what_an_ignored_pixel_holds_does_not_matter(activation, how, ignored, implementation):
    out = np.zeros(DATA.labels.shape, bool)
    out[0, 3, 4] = out[1, :2] = True
    options = {"activation": activation, "ignored": ignored, "implementation": implementation}

    @quick_jit
    @jax.value_and_grad
    def run(logits):
        loss = partial(rmi_jax.rmi_loss, logits, factor=(1, 2), **options)
        if how == "labels":
            return loss(jnp.where(out, 255, DATA.labels))
        if how == "where":
            return loss(DATA.labels, where=~out)
        targets = jax.nn.one_hot(DATA.labels, logits.shape[-1])
        targets = jnp.where(out[..., None], jnp.nan, targets)
        return rmi_jax.soft_rmi_loss(logits, targets, factor=(1, 2), where=~out, **options)

    logits = LOGITS.astype("float32")
    expected, expected_grad = run(logits)
    for held in (np.nan, np.inf, -np.inf):
        loss, grad = run(np.where(out[..., None], np.float32(held), logits))
        np.testing.assert_array_equal(loss, expected)
        np.testing.assert_array_equal(grad, expected_grad)
        assert not np.any(np.asarray(grad)[out])


@pytest.mark.parametrize("of", ["logits", "probs", "targets"])
def test_what_a_nan_spoils_is_reported_as_nan(of, implementation):
    probs, targets = (np.asarray(maps, "float32") for maps in (DATA.probs, DATA.targets))
    maps = {"logits": LOGITS.astype("float32"), "probs": probs, "targets": targets}
    maps[of] = maps[of].copy()
    maps[of][0, 5, 5, 1] = np.nan

    @quick_jit
    def run(logits, probs, targets):
        options = {"factor": 1, "implementation": implementation}
        both = [
            metric(probs, targets, **options)
            for metric in (rmi_jax.region_mutual_information, rmi_jax.region_information_loss)
        ]
        _, parts = rmi_jax.soft_rmi_loss(logits, targets, has_aux=True, **options)
        return both, parts

    both, parts = run(**maps)
    for terms in both:
        spoilt = np.zeros(terms.shape, bool)
        spoilt[0, 1] = of != "logits"
        np.testing.assert_array_equal(np.isnan(terms), spoilt)
    if of == "probs":
        return
    spoilt = np.arange(probs.shape[-1]) == 1
    for part in (parts.rmi, parts.mutual_information, parts.slope):
        np.testing.assert_array_equal(np.isnan(part), spoilt)
    np.testing.assert_array_equal(parts.images, 2)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_a_class_that_is_ruled_out(activation, implementation):
    # As labels, and as targets of 0, it costs what a very small logit costs.
    labels = np.minimum(DATA.labels, 1)
    targets = np.asarray(labels[..., None] == np.arange(3), "float32")
    options = {"activation": activation, "factor": 2, "implementation": implementation}

    @quick_jit
    def run(logits):
        hard = jax.value_and_grad(rmi_jax.rmi_loss)(logits, labels, **options)
        soft = jax.value_and_grad(rmi_jax.soft_rmi_loss, (0, 1))(logits, targets, **options)
        return hard, (soft[0], soft[1][0])

    logits = LOGITS.astype("float32")
    logits[..., 2] = -1e30
    expected = run(logits)
    logits[..., 2] = -np.inf
    for actual, wanted in zip(jax.tree.leaves(run(logits)), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=1e-6, atol=1e-9)


def test_a_truth_too_faint_to_measure_has_no_entropy(implementation):
    noise = np.random.default_rng(0).random((2, 1, 200, 1)).astype("float32")
    run = quick_jit(
        partial(rmi_jax.region_mutual_information, normalize=True, implementation=implementation)
    )
    for faint in (1e-5, 1e-6):
        assert np.all(run(noise[0], faint * noise[1]) == 0)
        assert np.all(run(noise[1], faint * noise[1]) == 0)
    assert 0.9 < run(noise[1], noise[1])[0, 0] < 1


def test_aux_reports_the_parts(implementation):
    @quick_jit
    def run(logits):
        return rmi_jax.rmi_loss(
            logits,
            DATA.labels,
            bce_weight=0.25,
            has_aux=True,
            factor=2,
            activation="sigmoid",
            implementation=implementation,
        )

    loss, aux = run(LOGITS)
    assert isinstance(aux, rmi_jax.LossParts)
    assert all(part.shape == (3,) for part in aux)
    assert_value(0.25 * aux.cross_entropy.sum() + 0.75 * aux.rmi.sum(), loss, "float32")
    np.testing.assert_array_equal(aux.images, [2, 2, 1])
    assert np.all((np.asarray(aux.mutual_information) > 0) & (aux.mutual_information < 1))

    # The slope tells a prediction of a tenth of the contrast, and an inverted one.
    truth = oracle.one_hot(np.clip(DATA.labels, 0, 2), 3)[0]
    for low, high in ((0.05, 0.95), (0.01, 0.1), (0.95, 0.05)):
        probs = low + (high - low) * truth
        slope = run(np.log(probs / (1 - probs)).astype("float32"))[1].slope
        np.testing.assert_allclose(slope[:2], 1 / (high - low), rtol=0.02)


def test_the_slope_that_is_reported_does_not_depend_on_the_weights_of_scales():
    @quick_jit
    def slopes(logits):
        loss = partial(rmi_jax.rmi_loss, factor=2, has_aux=True)
        return [loss(logits, DATA.labels, scale_weights=w)[1].slope for w in (None, (2.0,))]

    np.testing.assert_allclose(*slopes(LOGITS), rtol=1e-5)


def test_a_weight_may_be_scheduled_without_recompiling(implementation):
    traces = []

    @quick_jit
    def run(logits, weight):
        traces.append(None)
        return rmi_jax.rmi_loss(
            logits,
            DATA.labels,
            bce_weight=weight,
            has_aux=True,
            factor=2,
            implementation=implementation,
        )

    losses = [run(LOGITS, jnp.float32(weight))[0] for weight in (0, 0.5, 1)]
    assert len(traces) == 1
    assert_value(losses[1], (losses[0] + losses[2]) / 2, "float32")
    assert_value(losses[2], run(LOGITS, jnp.float32(0))[1].cross_entropy.sum(), "float32")


@pytest.mark.parametrize(
    ("weights", "reduction", "loops"),
    [((1.0, None), "mean", 0), ((1, 0), "none", 0), ((0, 0), "mean", 1)],
)
def test_a_static_weight_of_0_leaves_a_part_out_of_the_program(weights, reduction, loops):
    def loss_of(logits, rmi_weight):
        options = {"bce_weight": weights[0], "rmi_weight": rmi_weight, "reduction": reduction}
        return rmi_jax.rmi_loss(logits, DATA.labels, **options)

    static = functools.partial(loss_of, rmi_weight=weights[1])
    assert ("while" in str(jax.make_jaxpr(static)(LOGITS))) == bool(loops)
    if not loops:  # and the value is what a traced weight gives
        traced = quick_jit(loss_of)(LOGITS, jnp.float32(0))
        assert_value(quick_jit(static)(LOGITS), traced, "float32")


@pytest.mark.parametrize("shape", [(), (2,)])
def test_two_weights_of_0_are_a_loss_of_0(shape):
    reduction = "none" if shape else "mean"
    options = {"bce_weight": 0, "rmi_weight": 0, "reduction": reduction}
    loss = quick_jit(functools.partial(rmi_jax.rmi_loss, **options))(LOGITS, DATA.labels)
    np.testing.assert_array_equal(loss, np.zeros(shape))


def test_mutual_information_is_symmetric_and_blind_to_scale(implementation, x64):
    @quick_jit
    def information(probs, targets):
        return rmi_jax.region_mutual_information(
            probs, targets, factor=1, jitter=1e-9, implementation=implementation
        )

    p, y = DATA.probs, DATA.targets
    forward = information(p, y)
    assert_value(information(y, p), forward, "float64")
    # F5: exact but for the jitter.
    np.testing.assert_allclose(information(0.1 + 0.5 * p, y), forward, rtol=1e-5)


def test_the_region_term_is_even(implementation):
    # F6: a prediction and its inverse are the same to RMI.
    @quick_jit
    def loss_fn(logits):
        return rmi_jax.rmi_loss(
            logits,
            DATA.labels,
            bce_weight=0.0,
            factor=2,
            activation="sigmoid",
            anchor=0.0,
            implementation=implementation,
        )

    assert_value(loss_fn(-LOGITS), loss_fn(LOGITS), "float32")


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_the_dtype_follows_the_logits_alone(dtype, implementation):
    expected = "float64" if dtype == "float64" else "float32"
    with enable_x64():

        def loss_fn(logits):
            return rmi_jax.soft_rmi_loss(
                logits,
                jnp.asarray(DATA.targets),
                where=jnp.asarray(DATA.weights),
                class_weights=jnp.asarray(CLASS_WEIGHTS),
                bce_weight=jnp.asarray(0.5),
                jitter=np.float64(5e-4),
                implementation=implementation,
            )

        loss, grad = jax.eval_shape(
            quick_jit(jax.value_and_grad(loss_fn)), jax.ShapeDtypeStruct(DATA.logits.shape, dtype)
        )
    assert loss.dtype == expected
    assert grad.dtype == dtype


@pytest.mark.parametrize(
    "name",
    [
        "rmi_loss",
        "soft_rmi_loss",
        "region_information_loss",
        "region_mutual_information",
        "extract_regions",
        "downsample",
    ],
)
def test_arrays_are_positional_and_options_are_keyword_only(name):
    parameters = inspect.signature(getattr(rmi_jax, name)).parameters.values()
    positional = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert len(positional) == 2
    assert all(p.default is p.empty for p in positional)
    assert all(p.kind is p.KEYWORD_ONLY for p in parameters if p not in positional)
    assert all(p.annotation is not p.empty for p in parameters)
