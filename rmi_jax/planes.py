"""The cells of one class per image: read from the maps, and gradients written back to them."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from rmi_jax.activations import LogTotal, normalized, sigmoid
from rmi_jax.cells import cell_probs, cell_targets, cell_weights, position_weights, shift_grid
from rmi_jax.downsampling import cell_counts
from rmi_jax.geometry import Maps, Scale
from rmi_jax.halo import owned
from rmi_jax.labels import is_class
from rmi_jax.loops import zeros_like_images
from rmi_jax.strips import Sweep, plan


class View(NamedTuple):
    """The maps as one scale sees them; what is here is shared by all classes."""

    maps: Maps
    log_total: LogTotal | None  # of the logits, for softmax
    cell_weights: jax.Array  # [B, *cells]
    sweep: Sweep
    scale: Scale
    probs: jax.Array | None  # [B, *cells, C], where all classes are downsampled at once


class Planes(NamedTuple):
    """One class of every image, ``[B, *cells]`` each, and the way back to the pixels."""

    probs: jax.Array
    targets: jax.Array
    pull_probs: Callable[[jax.Array], tuple[jax.Array, LogTotal | None]]
    pull_targets: Callable[[jax.Array], tuple[jax.Array]]


def make_view(
    maps: Maps, log_total: LogTotal | None, scale: Scale, dtype: jnp.dtype, *, pooled: bool = False
) -> View:
    """Prepares one scale. ``pooled``: for `read_cells`."""
    spatial = maps.inputs.shape[1:-1]

    def ones(shape):
        return 1 + zeros_like_images(maps.inputs, shape).astype(dtype)

    pixels = ones(spatial) if maps.pixel_weights is None else maps.pixel_weights
    cells = cell_weights(pixels, scale)
    if cells is None:
        cells = ones(cell_counts(spatial, scale.factors, scale.downsampling))
    cells = shift_grid(cells, maps.offset, scale.regions)
    positions = owned(position_weights(cells, scale.regions), scale, scale.regions.span[0])
    sweep = plan(positions, scale.regions)
    view = View(maps, log_total, owned(cells, scale), sweep, scale, None)
    return view._replace(probs=_pooled(view)) if pooled else view


def read_cells(view: View, classes: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Probabilities and targets of class ``classes[b]`` of every image b, ``[B, *cells]`` each."""

    def from_pixels(*_):
        plane = take_class(view.maps.inputs, classes)
        return _probs(view, plane[..., None], view.log_total)[..., 0]

    def from_cells(probs):
        return take_class(probs, classes)

    targets = _targets(view, _target_plane(view, classes)[..., None])[..., 0]
    if view.probs is None:
        return from_pixels(), targets
    return lax.platform_dependent(view.probs, cpu=from_pixels, default=from_cells), targets


def read_planes(view: View, classes: jax.Array) -> Planes:
    """The same from the pixels, with the way back to them."""

    def probs(plane, log_total):
        return _probs(view, plane[..., None], log_total)[..., 0]

    def targets(plane):
        return _targets(view, plane[..., None])[..., 0]

    inputs = take_class(view.maps.inputs, classes).astype(view.cell_weights.dtype)
    p, pull_probs = jax.vjp(probs, inputs, view.log_total)
    y, pull_targets = jax.vjp(targets, _target_plane(view, classes))
    return Planes(p, y, pull_probs, pull_targets)


def pull_probs(view: View, gradient: jax.Array) -> tuple[jax.Array, LogTotal | None]:
    """Gradients of inputs and log-totals from those of all cells, ``[B, *cells, C]``."""
    return jax.vjp(partial(_probs, view), view.maps.inputs, view.log_total)[1](gradient)


def pull_targets(view: View, gradient: jax.Array) -> tuple[jax.Array]:
    """Gradient of target maps from that of all cells, ``[B, *cells, C]``."""
    return jax.vjp(partial(_targets, view), view.maps.targets)[1](gradient)


def _pooled(view: View) -> jax.Array | None:
    """Probabilities of the cells of all classes, where they are few enough to be kept.

    A CPU reads the classes that it visits from the pixels. An accelerator is slow at that, one
    class of one image being scattered over its memory, and reads all of them once.
    """
    if not view.scale.is_coarse:
        return None
    inputs = view.maps.inputs

    def unread(inputs, _):
        cells = (*view.cell_weights.shape[1:], inputs.shape[-1])
        return zeros_like_images(inputs, cells).astype(view.cell_weights.dtype)

    return lax.platform_dependent(inputs, view.log_total, cpu=unread, default=partial(_probs, view))


def _target_plane(view: View, classes: jax.Array) -> jax.Array:
    targets, dtype = view.maps.targets, view.cell_weights.dtype
    if targets.ndim < view.maps.inputs.ndim:
        return is_class(targets, classes.reshape(-1, *[1] * (targets.ndim - 1))).astype(dtype)
    return take_class(targets, classes).astype(dtype)


def _probs(view: View, inputs: jax.Array, log_total: LogTotal | None) -> jax.Array:
    """Probabilities of the cells ``[B, *cells, K]`` from inputs ``[B, *S, K]``."""
    maps, scale, dtype = view.maps, view.scale, view.cell_weights.dtype
    probs = inputs.astype(dtype)
    if scale.activation == "sigmoid":
        probs = sigmoid(probs)
    elif log_total is not None:
        probs = normalized(probs, log_total)
    return shift_grid(cell_probs(probs, maps.pixel_weights, scale), maps.offset, scale.regions)


def _targets(view: View, targets: jax.Array) -> jax.Array:
    """Targets of the cells ``[B, *cells, K]`` from maps ``[B, *S, K]``."""
    maps, scale = view.maps, view.scale
    return shift_grid(cell_targets(targets, maps.pixel_weights, scale), maps.offset, scale.regions)


def take_class(maps: jax.Array, classes: jax.Array) -> jax.Array:
    """``maps[b, ..., classes[b]]``: ``[B, *S]`` from ``[B, *S, C]``."""
    return jax.vmap(lambda m, c: lax.dynamic_index_in_dim(m, c, -1, keepdims=False))(maps, classes)


def put_class(maps: jax.Array, classes: jax.Array, planes: jax.Array, *, add: bool) -> jax.Array:
    """Writes ``[B, *S]`` to ``maps[b, ..., classes[b]]``, or adds it to what is there."""

    def put(image, c, plane):
        if add:
            plane += lax.dynamic_index_in_dim(image, c, -1, keepdims=False)
        return lax.dynamic_update_index_in_dim(image, plane, c, -1)

    return jax.vmap(put)(maps, classes, planes.astype(maps.dtype))
