"""The engine: RMI at full resolution in one pass, float32 and bounded memory (docs/theory, F1-F3).

Classes are visited slot by slot (`slots`). The cells of one class, a small share of the maps, are
read as a plane (`planes`); its region statistics are summed in strips (`strips`) and conditioned
(`gaussian`). The gradient is the closed form of F2: one matrix per image and class, applied to the
same regions again.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero

from rmi_jax import gaussian
from rmi_jax.activations import LogTotal, log_total
from rmi_jax.centring import Centring, centred, centring, combined, spread
from rmi_jax.gaussian import Frame, Scatter, Terms, matmul, transpose
from rmi_jax.geometry import Maps, Scale
from rmi_jax.halo import summed
from rmi_jax.planes import View, add_class, make_view, pull_probs, pull_targets, read_planes
from rmi_jax.slots import Slots, by_class, make_slots
from rmi_jax.strips import Mix, Moments, moments, pull_back, zeros_like_images

# Where conditioning leaves less than one part in this of the errors' scatter, its float32 sums
# have lost digits that matter, and a second pass sums the residuals themselves.
_CANCELLATION = 100.0


class Fit(NamedTuple):
    """The regression of truth on prediction, ``[C, B, ...]``; all that the backward pass needs."""

    centring: Centring
    mix: Mix  # what the second pass measures [P; D] in, the identity where it is not needed
    mean_z: jax.Array  # [C, B, 2d] mean of the columns z, [P; D] in that basis
    weights: jax.Array  # [C, B, d, d] W
    residual: jax.Array  # [C, B, d, 2d] takes z to R = Y - W P
    truth: jax.Array  # [C, B, d, 2d] takes z to Y
    chol: jax.Array  # [C, B, d, d] of M + alpha I
    chol_y: jax.Array  # [C, B, d, d] of Y Y' + alpha I
    cells: tuple[jax.Array, jax.Array] | None  # [C, B, *cells] of p and y, where they are few


def region_terms(maps: Maps, jitter: jax.Array, scales: tuple[Scale, ...]) -> list[Terms]:
    """RMI of every scale, image and class (paper eq. 13-15)."""
    inputs, targets, *rest = maps
    total = None
    if scales[0].activation == "softmax":
        # An argument of its own: through its gradient the classes compete. What it and the classes
        # add to the gradient cancels, so nothing is rounded to the logits' type before the end.
        inputs = inputs.astype(jitter.dtype)
        total = log_total(inputs)
    return _streaming(scales, inputs, targets, total, rest, jitter)


def _values(scales, inputs, targets, log_total, rest, jitter):
    maps = Maps(inputs, targets, *rest)
    return [_fit(scale, maps, log_total, jitter, keep=False)[0] for scale in scales]


def _forward(scales, *args):
    inputs, targets, log_total, rest, jitter = jax.tree.map(
        lambda arg: arg.value, args, is_leaf=lambda arg: hasattr(arg, "perturbed")
    )
    maps = Maps(inputs, targets, *rest)
    keep = _keeps_cells(scales)
    fits = [_fit(scale, maps, log_total, jitter, keep) for scale in scales]
    terms, fits = zip(*fits, strict=True)
    # Marks by its presence that the targets want a gradient too, which not every caller does.
    soft = targets if args[1].perturbed else None
    return list(terms), (maps, log_total, soft, jitter, fits)


def _backward(scales, saved, cotangents):
    maps, log_total, soft, jitter, fits = saved
    # A zero that is known after the forward pass: until then its arrays may use this memory.
    late = jnp.minimum(sum(jnp.sum(fit.mix.wanted) for _, fit in fits), 0)

    def zeros(m):
        return zeros_like_images(m, m.shape[1:]) + late.astype(m.dtype)

    grads = [jax.tree.map(zeros, arg) for arg in (maps.inputs, soft, log_total)]
    for scale, (slots, fit), cotangent in zip(scales, fits, cotangents, strict=True):
        view = make_view(maps, log_total, scale, jitter.dtype)
        matrix = _gradient_matrix(fit, slots, cotangent, view, soft is not None)
        grads = _add_gradients(grads, view, slots, fit, matrix)
    return (*grads, None, None)


_streaming = jax.custom_vjp(_values, nondiff_argnums=(0,))
_streaming.defvjp(_forward, _backward, symbolic_zeros=True)


def _fit(
    scale: Scale, maps: Maps, log_total: LogTotal | None, jitter: jax.Array, keep: bool
) -> tuple[Terms, tuple[Slots, Fit]]:
    """Statistics of every slot, then the conditioning of all of them at once."""
    view = make_view(maps, log_total, scale, jitter.dtype)
    slots = make_slots(maps, scale)

    def measure(k):
        p, y, *_ = read_planes(view, slots.classes[k])
        return spread(p, y, view.weights)

    shared = None
    if scale.halo is not None:
        # In a loop of its own: one sum over the devices for all slots, none within a loop.
        parts = _each_slot(view, slots.visits, measure)
        shared = centring(combined(parts, view.weights, scale.halo), jitter)

    def visit(k):
        p, y, *_ = read_planes(view, slots.classes[k])
        if shared is None:
            centre = centring(spread(p, y, view.weights), jitter)
        else:
            centre = Centring(*(c[k] for c in shared))
        sums = moments(centred(p, y, centre), view.sweep)
        return centre, sums, (p, y) if keep else None

    centre, sums, cells = _each_slot(view, slots.visits, visit)
    centre = centre if shared is None else shared
    mean_z, scatter = _scatter(sums, view)
    identity = gaussian.identity_from(scatter.pp)
    guess = centre.slope[..., None, None] * identity
    plain = Frame(guess, identity, identity)
    first = gaussian.condition(scatter, plain, jitter)
    # Whitened predictions and residuals of a close fit have no digits to lose.
    again = slots.varies & (first.cancellation > _CANCELLATION)
    q, t = (gaussian.solve(chol, identity) for chol in (first.chol_a, first.chol))
    close = Frame(guess + first.step, q, t)
    choose = partial(_where, again)
    nothing = gaussian.zeros_from(identity)
    same = _block([[identity, nothing], [nothing, identity]])
    mix = choose(_block([[q, nothing], [-matmul(t, first.step), t]]), same)
    closer_mean, closer = _mixed_scatter(view, slots, centre, mix, again)
    conditional = gaussian.condition(
        jax.tree.map(choose, closer, scatter),
        jax.tree.map(choose, close, plain),
        jitter,
    )
    chol_y = gaussian.cholesky(gaussian.truth_scatter(scatter, guess, jitter), jitter)
    terms = gaussian.terms(scatter, guess, conditional.chol, chol_y, jitter)
    terms = [by_class(jnp.where(slots.varies, term, 0), slots) for term in terms]

    # The way back from z. Not its product with W - s I, in which the digits would be lost again.
    known, unmixed_p = choose(first.step, nothing), choose(first.chol_a, identity)
    unmixed_d = choose(first.chol, identity)
    fit = Fit(
        centre,
        Mix(mix, jnp.any(again, axis=1)),
        jnp.where(again[..., None], closer_mean, mean_z),
        guess + known + conditional.step,
        _block([[-matmul(conditional.step, unmixed_p), unmixed_d]]),
        _block([[matmul(guess + known, unmixed_p), unmixed_d]]),
        conditional.chol,
        chol_y,
        cells,
    )
    return Terms(*terms), (slots, fit)


def _keeps_cells(scales: tuple[Scale, ...]) -> bool:
    """Whether the cells are few enough to be kept for the backward pass.

    It then goes back to the pixels of all classes in one expression, which compilers fuse into
    the array that the cross entropy writes anyway. Softmax and several scales would need more such
    arrays at a time.
    """
    scale, *others = scales
    averages = scale.downsampling == "avg" and math.prod(scale.factors) >= 4
    return averages and scale.activation != "softmax" and not others


def _scatter(sums: Moments, view: View) -> tuple[jax.Array, Scatter]:
    """Mean regions ``[C, B, 2d]`` and scatter matrices about them."""
    weights = view.sweep.weights
    total = jnp.sum(weights, axis=tuple(range(1, weights.ndim)))[:, None]
    total, sums = summed((total, sums), view.scale.halo)
    mean = sums.first / jnp.where(total > 0, total, 1)[None]
    second = sums.second - sums.first[..., :, None] * mean[..., None, :]
    # Every k-th region stands for k of them, so that alpha keeps its meaning.
    dim, thinning = view.scale.regions.dim, math.prod(view.scale.regions.stride)
    p, d = slice(0, dim), slice(dim, None)
    blocks = thinning * second
    return mean, Scatter(blocks[..., p, p], blocks[..., d, p], blocks[..., d, d])


def _mixed_scatter(
    view: View, slots: Slots, centre: Centring, mix: jax.Array, again: jax.Array
) -> tuple[jax.Array, Scatter]:
    """Mean and scatter of ``mix [P; D]``, for the slots where any image asks for it."""
    asked = jnp.any(again, axis=1)
    order = jnp.argsort(~asked, stable=True)

    def visit(k):
        planes = read_planes(view, slots.classes[k])
        maps = centred(*planes[:2], Centring(*(c[k] for c in centre)))
        return moments(maps, view.sweep, mix[k])

    return _scatter(_each_slot(view, jnp.sum(asked), visit, order), view)


def _gradient_matrix(fit: Fit, slots: Slots, cotangent: Terms, view: View, soft: bool) -> jax.Array:
    """The linear map from ``z`` to the gradient of P (and Y), ``[C, B, m d, 2d]`` (F2)."""
    regions = view.scale.regions
    identity = gaussian.identity_from(fit.chol)

    def weight(value):
        if isinstance(value, SymbolicZero):
            value = gaussian.zeros_from(fit.centring.slope.T)
        per_slot = jnp.take_along_axis(value.T, slots.classes, axis=0)
        per_slot = per_slot * (math.prod(regions.stride) / regions.dim)
        per_slot = jnp.where(slots.varies, per_slot, 0)
        return per_slot[..., None, None]

    def inverse(chol):
        return gaussian.solve(chol, gaussian.solve(chol, identity), transposed=True)

    # g/d (M + alpha I)^-1 R
    explained = weight(cotangent.information) * matmul(inverse(fit.chol), fit.residual)
    rows = [[-matmul(transpose(fit.weights), explained)]]
    if soft:
        entropy = weight(cotangent.entropy) * inverse(fit.chol_y)
        rows.append([explained + matmul(entropy, fit.truth)])
    return _block(rows)


def _add_gradients(
    grads: list[Any], view: View, slots: Slots, fit: Fit, matrices: jax.Array
) -> list[Any]:
    """Adds one scale's gradients of inputs, targets and log-totals."""

    def pulled(k, p, y):
        maps = centred(p, y, Centring(*(c[k] for c in fit.centring)))
        shift = matmul(matrices[k], fit.mean_z[k][..., None])[..., 0]
        mix = jax.tree.map(lambda m: m[k], fit.mix)
        return pull_back(maps, view.sweep, matrices[k], shift, mix)

    def visit(k, grads):
        inputs, targets, log_total = grads
        classes = slots.classes[k]
        planes = read_planes(view, classes)
        cells = pulled(k, *planes[:2])
        plane, per_pixel = planes.pull_probs(cells[:, 0])
        inputs = add_class(inputs, classes, plane)
        if targets is not None:
            targets = add_class(targets, classes, *planes.pull_targets(cells[:, 1]))
        return [inputs, targets, jax.tree.map(jnp.add, log_total, per_pixel)]

    if fit.cells is None:
        return lax.fori_loop(0, slots.visits, visit, grads)
    p, y = fit.cells
    cells = _each_slot(view, slots.visits, lambda k: pulled(k, p[k], y[k]))
    inputs, log_total = pull_probs(view, by_class(cells[:, :, 0], slots))
    targets = None if grads[1] is None else pull_targets(view, by_class(cells[:, :, 1], slots))[0]
    return jax.tree.map(jnp.add, grads, [inputs, targets, log_total])


def _each_slot(
    view: View,
    count: jax.Array,
    visit: Callable[[jax.Array], Any],
    order: jax.Array | None = None,
) -> Any:
    """Stacks ``visit(k)`` of the first ``count`` slots (of ``order``), 0 for the others."""
    classes = view.maps.inputs.shape[-1]

    def step(i, stacked):
        k = i if order is None else order[i]
        return jax.tree.map(
            lambda s, v: lax.dynamic_update_index_in_dim(s, v, k, 0), stacked, visit(k)
        )

    def start(value):
        zeros = zeros_like_images(view.maps.inputs, value.shape[1:]).astype(value.dtype)
        return jnp.broadcast_to(zeros, (classes, *value.shape))

    stacked = jax.tree.map(start, jax.eval_shape(visit, jnp.int32(0)))
    return lax.fori_loop(0, count, step, stacked)


def _block(rows: list[list[jax.Array]]) -> jax.Array:
    return jnp.concatenate([jnp.concatenate(row, axis=-1) for row in rows], axis=-2)


def _where(condition: jax.Array, a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.where(condition[..., None, None], a, b)
