"""The anchor: tau copies of the truth that predict themselves, and what they do to the loss."""

import functools

import jax
import numpy as np
import pytest
from compiling import both_implementations, quick_jit
from filtered import problem
from inputs import smooth
from terms import term_and_grads
from tolerances import assert_grad, assert_value

import rmi_jax

ALPHA, DIM = 5e-4, 9
CELLS = (1, 16, 16, 1)
BOUND = 1 / (2 * np.sqrt(ALPHA))


def soft_truth(seed=0):
    """A map ``[1, 16, 16, 1]`` in (0, 1) of which every linear filter is another map."""
    return 0.5 + 0.4 * np.tanh(4 * smooth(np.random.default_rng(seed).normal(size=CELLS), 1))


Y = soft_truth()
NOISE = soft_truth(seed=1)


def centred_regions(maps):
    """Region vectors ``[9, n]`` of a map ``[1, *S, 1]``, minus their mean."""
    rows = np.lib.stride_tricks.sliding_window_view(maps[0, ..., 0], (3, 3)).reshape(-1, DIM)
    return (rows - rows.mean(axis=0)).T


def onto_the_map(regions):
    """Adds up region vectors ``[9, n]`` where they were cut from."""
    rows, columns = CELLS[1] - 2, CELLS[2] - 2
    total = np.zeros(CELLS[1:3])
    for i in range(DIM):
        row, column = divmod(i, 3)
        total[row : row + rows, column : column + columns] += regions[i].reshape(rows, columns)
    return total[None, ..., None]


def log_det(matrix):
    return np.linalg.slogdet(matrix)[1]


S = centred_regions(Y) @ centred_regions(Y).T
IDENTITY = np.eye(DIM)


def scaled(s, offset=0.0):
    """``P = s Y`` up to a constant, as a probability."""
    return 0.5 + s * (Y - 0.5) + offset


@functools.cache
def compiled(implementation):
    def loss_fn(probs, targets, anchor, jitter, where):
        terms = rmi_jax.region_information_loss(
            probs, targets, anchor=anchor, jitter=jitter, where=where, implementation=implementation
        )
        return terms.sum()

    return quick_jit(jax.value_and_grad(loss_fn, (0, 1)))


@pytest.fixture
def run(implementation):
    """``run(probs, targets, anchor, jitter, where) -> term, gradients by both maps``."""

    def run(probs, targets, anchor, jitter=ALPHA, where=None):
        value, grads = compiled(implementation)(probs, targets, anchor, jitter, where)
        return float(value), [np.asarray(grad, np.float64) for grad in grads]

    return run


# --- What it is


@both_implementations
def test_without_an_anchor_it_is_the_papers_term(run, implementation, x64):
    p, y = centred_regions(NOISE), centred_regions(Y)
    m = y @ y.T - y @ p.T @ np.linalg.solve(p @ p.T + ALPHA * IDENTITY, p @ y.T)
    value, grads = run(NOISE, Y, 0.0)
    assert_value(value, log_det(m / ALPHA + IDENTITY) / (2 * DIM), "float64")
    term, default = term_and_grads(implementation=implementation)(NOISE, Y)
    assert_value(value, term.sum(), "float64")
    for grad, other in zip(grads, default, strict=True):
        assert_grad(grad, other, "float64")
    # And hardly anything else where there is hardly an anchor.
    assert 0 < abs(run(NOISE, Y, 1e-6)[0] - value) < 1e-5


@both_implementations
@pytest.mark.parametrize("anchor", [0.3, 3.0])
def test_it_equals_copies_of_the_truth_beside_the_prediction(run, anchor, x64):
    # Two maps of one mean, whose margin is even, so that each cell of a region has that mean.
    def with_margin(maps):
        inner = maps[:, 2:-2, 2:-2]
        framed = np.full(CELLS, 0.5)
        framed[:, 2:-2, 2:-2] += 0.8 * (inner - inner.mean())
        return framed

    p, y = with_margin(NOISE), with_margin(Y)
    value, (by_p, by_y) = run(p, y, anchor)
    # One image: the truth, which weighs as many copies; a row that is ignored; the prediction.
    row = np.zeros((1, 1, *CELLS[2:]))
    weights = np.concatenate(
        [np.full(CELLS[:-1], anchor), np.zeros((1, 1, CELLS[2])), np.ones(CELLS[:-1])], axis=1
    )
    beside, grads = run(
        np.concatenate([y, row, p], axis=1), np.concatenate([y, row, y], axis=1), 0.0, where=weights
    )
    assert_value(value, beside, "float64")
    by_copy, by_p_beside, by_y_beside = (
        grads[0][:, : CELLS[1]],
        grads[0][:, -CELLS[1] :],
        grads[1][:, : CELLS[1]] + grads[1][:, -CELLS[1] :],
    )
    assert_grad(by_p, by_p_beside, "float64")
    assert_grad(by_y, by_y_beside + by_copy, "float64")
    assert np.linalg.norm(by_copy) > 1e-3 * np.linalg.norm(by_y)


@pytest.mark.parametrize("anchor", [0.01, 1.0])
def test_the_formula_for_a_scaled_truth(run, anchor, x64):
    spectrum = np.linalg.eigvalsh(S)
    for s in (-1.0, -0.5, -0.1, 0.0, 0.1, 0.5, 1.0):
        # With the jitter it holds in every direction of the regions by itself.
        left = (1 + anchor) * spectrum - (spectrum * (s + anchor)) ** 2 / (
            spectrum * (s**2 + anchor) + ALPHA
        )
        expected = np.sum(np.log1p(left / ALPHA)) / (2 * DIM)
        assert_value(run(scaled(s), Y, anchor)[0], expected, "float64")
        # Without, M / S is the same in all of them.
        if s != 1:
            tiny = 1e-10
            share = anchor * (1 - s) ** 2 / (s**2 + anchor)
            limit = log_det(share * S / tiny + IDENTITY) / (2 * DIM)
            assert abs(run(scaled(s), Y, anchor, tiny)[0] - limit) < 1e-4


# --- Where it is zero, and how it falls


@both_implementations
def test_the_truth_has_no_loss_but_for_the_jitter(run, x64):
    def blank(anchor, jitter):
        return run(scaled(0), Y, anchor, jitter)[0]

    for anchor in (0.01, 1.0, 1e6):
        shares = []
        for jitter in (1e-2, 1e-5, 1e-8, 1e-11):
            value, _ = run(scaled(1), Y, anchor, jitter)
            assert 0 <= value <= np.log(2) / 2 + 1e-9
            for offset in (-0.05, 0.05):
                assert_value(run(scaled(1, offset), Y, anchor, jitter)[0], value, "float64")
            shares.append(value / blank(anchor, jitter))
        assert np.all(np.diff(shares) < 0)
        assert shares[-1] < 0.04


def test_nothing_but_the_truth_has_no_loss(run, x64):
    inverted, pale, moved = scaled(-1), scaled(0.3), np.roll(Y, 1, axis=1)
    # The paper's term takes the first two for the truth.
    assert run(inverted, Y, 0.0)[0] == pytest.approx(run(Y, Y, 0.0)[0], abs=1e-9)
    assert run(pale, Y, 0.0)[0] < 0.3 * run(scaled(0), Y, 0.0)[0]
    for anchor in (0.1, 1.0):
        truth = run(Y, Y, anchor)[0]
        for other in (inverted, pale, moved, smooth(Y, 1)):
            assert run(other, Y, anchor)[0] > truth + 0.3


@both_implementations
def test_it_falls_from_blank_to_truth(run, x64):
    for anchor in (1e-3, 0.1, 1.0, 100.0):
        for offset in (-0.1, 0.0):
            way = [run(scaled(s, offset), Y, anchor)[0] for s in np.linspace(0, 1, 12)]
            assert np.all(np.diff(way) < 0), anchor
    # With tau = 1 from the inverted truth on: no other basin for probabilities.
    way = [run(scaled(s), Y, 1.0)[0] for s in np.linspace(-1, 1, 21)]
    assert np.all(np.diff(way) < 0)
    # With less it rises up to s = -tau, where the gradient is zero.
    around = [run(scaled(s), Y, 0.25)[0] for s in (-0.35, -0.25, -0.15)]
    assert around[1] == max(around)
    gradient = run(scaled(-0.25), Y, 0.25)[1][0]
    assert np.linalg.norm(gradient) < 1e-9 * BOUND


# --- Its gradient


@both_implementations
def test_at_a_constant_prediction_the_gradient_points_to_the_truth(run, x64):
    y = centred_regions(Y)
    for anchor in (0.01, 1.0):
        regression = anchor * S @ np.linalg.inv(anchor * S + ALPHA * IDENTITY)
        m = (1 + anchor) * S - regression @ (anchor * S)
        expected = -onto_the_map(regression.T @ np.linalg.solve(m + ALPHA * IDENTITY, y)) / DIM
        by_p = run(scaled(0), Y, anchor)[1][0]
        assert_grad(by_p, expected, "float64")
        assert np.sum(by_p * Y) < -0.5
    # Where the jitter is small, W is the identity whatever the anchor.
    limit = -onto_the_map(np.linalg.solve(S + 1e-9 * IDENTITY, y)) / DIM
    assert np.linalg.norm(run(scaled(0), Y, 1.0, 1e-9)[1][0] - limit) < 1e-4 * np.linalg.norm(limit)
    # The paper's term is flat here, to the last digit.
    assert not np.any(run(scaled(0), Y, 0.0)[1][0])


@both_implementations
def test_its_gradients_are_finite_differences(run, x64):
    direction = np.random.default_rng(2).normal(size=(2, *CELLS))
    for anchor in (0.05, 2.0):
        step = 1e-6
        ahead, behind = (
            run(NOISE + h * direction[0], Y + h * direction[1], anchor)[0] for h in (step, -step)
        )
        slope = sum(np.sum(g * d) for g, d in zip(run(NOISE, Y, anchor)[1], direction, strict=True))
        np.testing.assert_allclose(slope, (ahead - behind) / (2 * step), rtol=1e-5)


# --- In float32, of filtered truths, misplaced ones, and all sizes


@pytest.fixture(scope="module")
def drawn():
    return problem(np.random.default_rng(3), 16, (33, 33), 3)


@pytest.fixture(scope="module")
def narrow():
    def terms(probs, targets, anchor):
        values = rmi_jax.region_information_loss(probs, targets, anchor=anchor)
        return values.sum(), values

    return quick_jit(jax.grad(terms, has_aux=True))


def test_the_bound_of_the_gradient_holds(narrow, drawn):
    largest = 0
    for anchor in (0.0, 0.01, 1.0, 100.0, 1e6):
        grad, values = narrow(drawn.probs, drawn.targets, anchor)
        norms = np.linalg.norm(np.asarray(grad, np.float64), axis=(1, 2))
        assert np.isfinite(values).all(), anchor
        assert np.isfinite(norms).all(), anchor
        assert norms.max() <= BOUND * (1 + 1e-3), anchor
        largest = max(largest, norms.max())
    assert largest > 0.1 * BOUND


def test_a_large_anchor_leaves_nothing_to_fit(narrow, drawn):
    # W = I, and M is the scatter of the errors, with the jitter once more.
    def scatter(maps):
        windows = np.lib.stride_tricks.sliding_window_view(maps, (3, 3), (1, 2))
        rows = np.moveaxis(windows, 3, 1).reshape(*values.shape, -1, DIM)
        rows = rows - rows.mean(axis=2, keepdims=True)
        return np.swapaxes(rows, -1, -2) @ rows

    values = np.asarray(narrow(drawn.probs, drawn.targets, 1e6)[1])
    errors = scatter(drawn.probs.astype(np.float64) - drawn.targets)
    expected = log_det(errors / ALPHA + 2 * IDENTITY) / (2 * DIM)
    # But where a truth of a few pixels has no spread in some direction.
    spread = np.linalg.eigvalsh(scatter(drawn.targets.astype(np.float64)))[..., 0]
    assert np.mean(spread > 0.1) > 0.7
    assert np.all(np.abs(values - expected)[spread > 0.1] < 1e-2)


# --- In the losses


@both_implementations
def test_it_may_be_scheduled_without_recompiling(implementation, x64):
    traces = []

    @quick_jit
    def term(anchor):
        traces.append(anchor)
        return rmi_jax.region_information_loss(
            NOISE, Y, anchor=anchor, implementation=implementation
        ).sum()

    values = [float(term(anchor)) for anchor in (0.0, 0.1, 1.0, 1e6)]
    assert len(traces) == 1
    assert len(set(values)) == 4


@both_implementations
def test_the_report_does_not_depend_on_it(implementation, x64):
    targets = np.concatenate([Y, NOISE], axis=-1)
    logits = 3 * (np.concatenate([NOISE + Y, NOISE], axis=-1) - 0.7)
    probs = 1 / (1 + np.exp(-logits))

    @quick_jit
    def run(anchor):
        _, aux = rmi_jax.soft_rmi_loss(
            logits, targets, anchor=anchor, has_aux=True, implementation=implementation
        )
        return aux, rmi_jax.region_mutual_information(
            probs, targets, normalize=True, implementation=implementation
        )

    slopes = []
    for c in range(2):
        p, y = (centred_regions(m[..., c : c + 1]) for m in (probs, targets))
        slopes.append(np.sum(y * p) / (np.sum(p * p) + ALPHA))
    terms = []
    for anchor in (0.0, 0.1, 30.0):
        aux, information = run(anchor)
        assert_value(aux.mutual_information, information[0], "float64")
        assert_value(aux.slope, slopes, "float64")
        terms.append(aux.rmi.sum())
    assert len(set(map(float, terms))) == 3


def test_the_paper_in_one_word(x64):
    labels = (Y[..., 0] > 0.5).astype(np.int32)
    logits = np.concatenate([NOISE, 1 - NOISE], axis=-1)

    def loss(**options):
        return float(quick_jit(lambda: rmi_jax.rmi_loss(logits, labels, **options))())

    paper = {"activation": "sigmoid", "factor": 4, "anchor": 0.0, "zero_floor": False}
    assert loss(**rmi_jax.PAPER) == pytest.approx(loss(**paper, ignored="zero"), abs=1e-12)
    # What helps is the default: softmax at full resolution, with a small anchor.
    default = {"activation": "softmax", "factor": 1, "anchor": 0.01}
    assert loss() == pytest.approx(loss(**default), abs=1e-12)
    assert loss(**{**default, "anchor": 0.02}) != pytest.approx(loss(), abs=1e-6)


# --- It starts by itself


LABELS = (Y[..., 0] > 0.5).astype(np.int32)
ONE_HOT = np.eye(2)[LABELS]
HALF_INVERTED = 0.5 - 0.25 * (2 * ONE_HOT - 1)  # s = -0.5
# One image each: a constant prediction and the half inverted one.
STARTS = {
    "softmax": np.concatenate([0 * ONE_HOT, np.log(HALF_INVERTED)]),
    "sigmoid": np.concatenate([0 * ONE_HOT, np.log(HALF_INVERTED / (1 - HALF_INVERTED))]),
}
# With which both take the same way: of two softmax logits each moves the other's probability too.
RATES = {"softmax": 20.0, "sigmoid": 80.0}


@pytest.mark.parametrize("activation", STARTS)
def test_it_starts_by_itself(activation):
    # No warm-up, no cross entropy, nothing but plain gradient descent on the logits.
    labels = np.concatenate([LABELS, LABELS])
    start = STARTS[activation].astype(np.float32)

    def loss_fn(logits, anchor):
        return rmi_jax.rmi_loss(
            logits, labels, bce_weight=0.0, rmi_weight=1.0, activation=activation, anchor=anchor
        )

    @quick_jit
    def descend(logits, anchor):
        def step(_, logits):
            return logits - RATES[activation] * jax.grad(loss_fn)(logits, anchor)

        return getattr(jax.nn, activation)(jax.lax.fori_loop(0, 100, step, logits))

    def error(probs):  # of each image, up to a constant, as a share of the truth's spread
        off = probs - ONE_HOT
        spread = ONE_HOT - ONE_HOT.mean(axis=(1, 2), keepdims=True)
        off = off - off.mean(axis=(1, 2), keepdims=True)
        return np.sqrt(np.sum(off**2, axis=(1, 2, 3)) / np.sum(spread**2))

    constant, inverted = error(np.asarray(descend(start, 1.0), np.float64))
    assert constant < 0.05
    assert inverted < 0.05
    # The paper's term stays where it is, or makes the inverted prediction a perfect negative.
    constant, inverted = error(np.asarray(descend(start, 0.0), np.float64))
    assert constant == pytest.approx(1, abs=1e-6)
    assert inverted > 1.9
