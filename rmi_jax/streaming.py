"""The engine: RMI in float32 and bounded memory (docs/theory, F1b to F3, F7).

Classes are visited slot by slot (`slots`). The cells of one class, a small share of the maps, are
read as a plane (`planes`); its region statistics are summed in strips (`strips`) and factored
(`fit`, `gaussian`). The gradient is the closed form of F2: one matrix per image and class, applied
to the same regions again.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero

from rmi_jax import gaussian, matrices
from rmi_jax.activations import log_total
from rmi_jax.centring import Centring, centred
from rmi_jax.fit import Fit, fit
from rmi_jax.gaussian import Prior, Terms
from rmi_jax.geometry import Maps, Scale
from rmi_jax.loops import each_slot, zeros_like_images
from rmi_jax.matrices import gram, matmul, transpose
from rmi_jax.planes import View, make_view, pull_probs, pull_targets, put_class, read_planes
from rmi_jax.region_gradients import pull_back
from rmi_jax.slots import Slots, by_class


def terms_of_scales(
    maps: Maps, prior: Prior, scales: tuple[Scale, ...], report: bool
) -> list[Terms]:
    """RMI of every scale, image and class (paper eq. 13-15)."""
    inputs, targets, *rest = maps
    total = None
    if scales[0].activation == "softmax":
        # An argument of its own, whose gradient couples the classes. It nearly cancels with the
        # gradients of the classes, so all of them are added up before rounding to the logits' type.
        inputs = inputs.astype(prior.jitter.dtype)
        total = log_total(inputs)
    return _streaming(scales, report, inputs, targets, total, rest, prior)


def _values(scales, report, inputs, targets, log_total, rest, prior):
    maps = Maps(inputs, targets, *rest)
    return [fit(scale, maps, log_total, prior, report=report, keep=False)[0] for scale in scales]


def _forward(scales, report, *args):
    inputs, targets, log_total, rest, prior = jax.tree.map(
        lambda arg: arg.value, args, is_leaf=lambda arg: hasattr(arg, "perturbed")
    )
    maps = Maps(inputs, targets, *rest)
    keep = _keeps_cells(scales)
    fits = [fit(scale, maps, log_total, prior, report=report, keep=keep) for scale in scales]
    terms, fits = zip(*fits, strict=True)
    # None where the targets need no gradient, which saves its computation.
    soft = targets if args[1].perturbed else None
    return list(terms), (maps, log_total, soft, prior, fits)


def _backward(scales, _, saved, cotangents):
    maps, log_total, soft, prior, fits = saved
    # Ties the gradient buffers to the forward pass, so that XLA cannot allocate them earlier.
    late = jnp.minimum(sum(jnp.sum(jnp.any(found.residual > 0)) for _, found in fits), 0)

    def zeros(m):
        return zeros_like_images(m, m.shape[1:]) + late.astype(m.dtype)

    grads = [jax.tree.map(zeros, arg) for arg in (maps.inputs, soft, log_total)]
    for i, (scale, (slots, found), cotangent) in enumerate(
        zip(scales, fits, cotangents, strict=True)
    ):
        view = make_view(maps, log_total, scale, prior.jitter.dtype)
        of_regions = _gradient_of_regions(found, slots, cotangent, view, prior, soft is not None)
        grads = _add_gradients(grads, view, slots, found, of_regions, add=i > 0)
    return (*grads, None, None)


_streaming = jax.custom_vjp(_values, nondiff_argnums=(0, 1))
_streaming.defvjp(_forward, _backward, symbolic_zeros=True)


def _keeps_cells(scales: tuple[Scale, ...]) -> bool:
    """Whether the cells are few enough to be kept for the backward pass.

    It then goes back to the pixels of all classes in one expression, which compilers fuse into
    the array that the cross entropy writes anyway. Several scales would need more such arrays at a
    time.
    """
    scale, *others = scales
    return scale.downsampling == "avg" and scale.is_coarse and not others


def _gradient_of_regions(
    fit: Fit, slots: Slots, cotangent: Terms, view: View, prior: Prior, soft: bool
) -> tuple[jax.Array, jax.Array]:
    """What `pull_back` takes for P (and Y): ``[C, B, m d, 2d]`` and ``[C, B, m d]`` (F2)."""
    regions, slope = view.scale.regions, fit.centre.slope

    def weight(value):
        if isinstance(value, SymbolicZero):
            value = matrices.zeros_from(slope.T)
        per_slot = jnp.take_along_axis(value.T, slots.classes, axis=0)
        per_slot = per_slot * (regions.thinning / regions.dim)
        per_slot = jnp.where(slots.varies, per_slot, 0)
        return per_slot[..., None, None]

    # With G = L22^-1 [-W, I], the gradient of X = [P; Y] is G' G X / d.
    rows = transpose(gaussian.to_regions(fit.residual, slope))
    rows = weight(cotangent.information) * (rows if soft else rows[..., : regions.dim, :])
    matrix = matmul(rows, fit.residual)
    if soft:
        # Targets are in the anchor, and in the entropy, as well.
        mirrored = gaussian.of_itself(fit.residual, slope)
        anchor = weight(cotangent.information) * prior.anchor * gram(transpose(mirrored))
        identity = matrices.identity_from(fit.chol_y)
        whitened = matrices.inverse(fit.chol_y)
        entropy = weight(cotangent.entropy) * gram(transpose(whitened))
        truth = jnp.concatenate([slope[..., None, None] * identity, identity], axis=-1)
        by_y = matmul(anchor + entropy, truth)
        matrix += jnp.concatenate([jnp.zeros_like(by_y), by_y], axis=-2)
    # With the mean of the residuals left in, gradients of near perfect predictions are noise.
    shift = matmul(matrix, fit.mean[..., None]) + matmul(rows, fit.mean_residual[..., None])
    return matrix, shift[..., 0]


def _add_gradients(
    grads: list[Any],
    view: View,
    slots: Slots,
    fit: Fit,
    of_regions: tuple[jax.Array, jax.Array],
    *,
    add: bool,
) -> list[Any]:
    """Adds one scale's gradients of inputs, targets and log-totals, the first to zeros."""

    def pulled(k, p, y):
        maps = centred(p, y, Centring(*(c[k] for c in fit.centre)))
        return pull_back(maps, view.sweep, *(m[k] for m in of_regions))

    cells = None
    if fit.cells is not None:
        p, y = fit.cells
        cells = each_slot(view.maps, slots.visits, lambda k: pulled(k, p[k], y[k]))

    def visit(k, grads):
        inputs, targets, log_total = grads
        classes = slots.classes[k]
        planes = read_planes(view, classes)
        of_class = pulled(k, *planes[:2]) if cells is None else cells[k]
        plane, per_pixel = planes.pull_probs(of_class[:, 0])
        inputs = put_class(inputs, classes, plane, add=add)
        if targets is not None:
            plane = planes.pull_targets(of_class[:, 1])[0]
            targets = put_class(targets, classes, plane, add=add)
        return [inputs, targets, jax.tree.map(jnp.add, log_total, per_pixel)]

    def one_by_one(grads):
        return lax.fori_loop(0, slots.visits, visit, grads)

    if cells is None:
        return one_by_one(grads)

    def all_at_once(grads, cells):
        inputs, log_total = pull_probs(view, by_class(cells[:, :, 0], slots))
        soft = grads[1] is not None
        targets = pull_targets(view, by_class(cells[:, :, 1], slots))[0] if soft else None
        return jax.tree.map(jnp.add, grads, [inputs, targets, log_total])

    if view.scale.activation != "softmax":
        return all_at_once(grads, cells)
    # All at once takes the exponentials again, which is cheap on accelerators and slow on CPUs.
    return lax.platform_dependent(
        *(grads, cells), cpu=lambda grads, _: one_by_one(grads), default=all_at_once
    )
