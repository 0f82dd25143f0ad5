"""Breaks the library in listed ways and shows that the tests notice every one.

    python tests/mutations.py                   # all of them; fails if one survives
    python tests/mutations.py --only NAME ...   # some
    python tests/mutations.py --write           # and store what was run in tests/mutations.md

Each mutation replaces one piece of text in a copy of the library, never in the checkout, and runs a
few tests on the copy, which must fail by what they assert. A mutation that raises an exception
instead, such as a NameError, proves nothing and is reported as invalid.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "tests" / "mutations.md"
HEADER = "| mutation | file | first test to fail | seconds |\n|---|---|---|--:|"
TIMEOUT = 1200  # seconds for the tests of one mutation: a loop may have lost its end


class Mutation(NamedTuple):
    name: str
    file: str
    old: str  # occurs exactly once
    new: str
    tests: tuple[str, ...]  # the fewest and quickest that should notice


def region_term(*cases: str) -> tuple[str, ...]:
    return tuple(f"test_oracle.py::test_every_option_of_the_region_term[{case}]" for case in cases)


def identity(test: str) -> tuple[str, ...]:
    return (f"test_identities.py::test_{test}",)


def loss(test: str) -> tuple[str, ...]:
    return (f"test_losses.py::test_{test}",)


def engine(test: str) -> tuple[str, ...]:
    return (f"test_engine.py::test_{test}",)


def metric(test: str) -> tuple[str, ...]:
    return (f"test_metrics.py::test_{test}",)


# Values and both gradients of a signal with weights: compiles quickest.
SIGNAL = region_term("streaming-1-weights-options1")
PLATFORMS = (
    "test_platforms.py::test_accelerators_compute_the_same_loss[targets-weights-options1]",
)
THINNED = region_term("streaming-2-mask-options5")
INFORMATION = ("test_oracle.py::test_mutual_information[streaming-1-mask-options0]",)
SCIKIT = metric("confusion_matrix_and_ratios_match_scikit_learn[shape0]")
# The same with an anchor.
ANCHORED = region_term("streaming-1-None-options18")
FURTHER = engine("further_passes_change_nothing_but_rounding")
REPORT = ("test_anchor.py::test_the_report_does_not_depend_on_it[streaming]",)
PAPER = ("test_anchor.py::test_the_paper_in_one_word",)
SPREAD = ("test_spatial_sharding.py::test_shared_images_equal_one_device",)

MUTATIONS = (
    # The statistics of one pair of region vectors.
    Mutation(
        "factor 1/d in place of 1/(2d)",
        "gaussian.py",
        "value = jnp.mean(jnp.log(above[..., above.shape[-1] // 2 :]), axis=-1)",
        "value = 2 * jnp.mean(jnp.log(above[..., above.shape[-1] // 2 :]), axis=-1)",
        SIGNAL,
    ),
    Mutation(
        "what is left open of the prediction",
        "gaussian.py",
        "jnp.log(above[..., above.shape[-1] // 2 :])",
        "jnp.log(above[..., : above.shape[-1] // 2])",
        SIGNAL,
    ),
    Mutation(
        "jitter left out of the joint matrix",
        "gaussian.py",
        "prior.anchor * itself + prior.jitter * noise",
        "prior.anchor * itself + 0 * noise",
        SIGNAL,
    ),
    Mutation(
        "jitter doubled in the joint matrix",
        "gaussian.py",
        "prior.anchor * itself + prior.jitter * noise",
        "prior.anchor * itself + 2 * prior.jitter * noise",
        SIGNAL,
    ),
    Mutation(
        "jitter of the errors in place of the truth's",
        "gaussian.py",
        "noise = gram(to_regions(change, slope))",
        "noise = gram(change)",
        SIGNAL,
    ),
    Mutation(
        "anchor left out of the joint matrix",
        "gaussian.py",
        "scatter + prior.anchor * itself + prior",
        "scatter + 0 * itself + prior",
        ANCHORED,
    ),
    Mutation(
        "mirrored truth without its errors",
        "gaussian.py",
        "return p + (1 - slope[..., None, None]) * d",
        "return p",
        ANCHORED,
    ),
    Mutation(
        "mirrored truth with the errors of a slope of 0",
        "gaussian.py",
        "return p + (1 - slope[..., None, None]) * d",
        "return p + d",
        ANCHORED,
    ),
    Mutation(
        "sign of the slope in the change to regions",
        "gaussian.py",
        "jnp.concatenate([p - slope[..., None, None] * d, d], axis=-1)",
        "jnp.concatenate([p + slope[..., None, None] * d, d], axis=-1)",
        SIGNAL,
    ),
    Mutation(
        "factor not inverted",
        "gaussian.py",
        "inverse = solve(chol, identity_from(chol))",
        "inverse = chol",
        SIGNAL,
    ),
    Mutation(
        "floor of the first basis in every pass",
        "gaussian.py",
        "floor = prior.jitter * jnp.square(diagonal(change))",
        "floor = prior.jitter + 0 * diagonal(change)",
        FURTHER,
    ),
    Mutation(
        "floor of M for that of the whole factor",
        "gaussian.py",
        "above = diagonal(whitening.chol) / jnp.sqrt(whitening.floor)",
        "above = diagonal(whitening.chol) / jnp.sqrt(whitening.floor[..., :1])",
        FURTHER,
    ),
    Mutation(
        "jitter left out of Y Y'",
        "gaussian.py",
        "return scatter + jitter * identity_from(scatter)",
        "return scatter + 1e-9 * identity_from(scatter)",
        INFORMATION,
    ),
    Mutation(
        "cross term of Y Y' left out",
        "gaussian.py",
        "return slope[..., None, None] * p + d",
        "return d",
        INFORMATION,
    ),
    Mutation(
        "back substitution of the wrong rows",
        "gaussian.py",
        "later = index < j if transposed else index > j",
        "later = index < j - 1 if transposed else index > j",
        engine("further_passes_change_nothing_but_rounding"),
    ),
    Mutation(
        "Cholesky factor without its last column",
        "gaussian.py",
        "lax.fori_loop(0, a.shape[-1], eliminate, a)",
        "lax.fori_loop(0, a.shape[-1] - 1, eliminate, a)",
        SIGNAL,
    ),
    Mutation(
        "no floor under the pivots",
        "gaussian.py",
        "jnp.maximum(pivot, _at(floor, j, -1))",
        "pivot",
        engine("pivots_that_rounding_took_are_lifted_to_their_floor"),
    ),
    Mutation(
        "entries beside a lifted pivot not clipped",
        "gaussian.py",
        "column = _repaired(column, jnp.clip(column, -bound, bound))",
        "column = _repaired(column, column)",
        engine("entries_beside_a_lifted_pivot_stay_bounded"),
    ),
    Mutation(
        "entries of the factor clipped at half of their bound",
        "gaussian.py",
        "column = _repaired(column, jnp.clip(column, -bound, bound))",
        "column = jnp.clip(column, -bound / 2, bound / 2)",
        SIGNAL,
    ),
    Mutation(
        "slope of the errors reported",
        "gaussian.py",
        "(dp + slope * pp) / (pp + jitter)",
        "dp / (pp + jitter)",
        loss("aux_reports_the_parts[streaming]"),
    ),
    Mutation(
        "columns of the Cholesky factor unrolled",
        "gaussian.py",
        "lax.fori_loop(0, a.shape[-1], eliminate, a)",
        "lax.fori_loop(0, a.shape[-1], eliminate, a, unroll=True)",
        engine("the_size_of_the_program_does_not_grow_with_the_region"),
    ),
    Mutation(
        "rows of the triangular solve unrolled",
        "gaussian.py",
        "lax.fori_loop(0, dim, substitute, b)",
        "lax.fori_loop(0, dim, substitute, b, unroll=True)",
        engine("the_size_of_the_program_does_not_grow_with_the_region"),
    ),
    # Centring.
    Mutation(
        "truth not scaled to the prediction",
        "centring.py",
        "return (yp + prior.anchor * yy) / (pp",
        "return 0 * (yp + prior.anchor * yy) / (pp",
        engine("float32_is_enough"),
    ),
    Mutation(
        "errors of the uncentred prediction",
        "centring.py",
        "    p = p - mean_p\n    return jnp.stack([p,",
        "    return jnp.stack([p - mean_p,",
        engine("float32_is_enough"),
    ),
    Mutation(
        "regions not centred, in the reference",
        "patches.py",
        "return rows - summed(jnp.sum(share[:, None] * rows, axis=0, keepdims=True), scale.halo)",
        "return rows",
        region_term("patches-1-weights-options1"),
    ),
    # Strips of regions.
    Mutation(
        "rows that two strips share counted twice",
        "strips.py",
        "fresh = first + jnp.arange(rows) >= i * rows",
        "fresh = first + jnp.arange(rows) >= 0 * i",
        identity("strips_of_any_height_give_the_same"),
    ),
    Mutation(
        "rows that two strips share counted twice where all weights are 1",
        "strips.py",
        "((0, 0), (0, strips * rows - positions)))",
        "((0, 0), (0, strips * rows - positions)), constant_values=True)",
        identity("strips_of_any_height_give_the_same"),
    ),
    Mutation(
        "last strip left out where it is not full",
        "strips.py",
        "return lax.fori_loop(0, math.ceil(positions / rows), step, start)",
        "return lax.fori_loop(0, positions // rows, step, start)",
        identity("strips_of_any_height_give_the_same"),
    ),
    Mutation(
        "strips start at the wrong row of a thinned grid",
        "strips.py",
        "strip = lax.dynamic_slice_in_dim(maps, first * stride, reach, 2)",
        "strip = lax.dynamic_slice_in_dim(maps, first, reach, 2)",
        identity("strips_of_any_height_give_the_same"),
    ),
    Mutation(
        "weights dropped from the second moments",
        "strips.py",
        '_matmul("bin,bjn->bij", _weighed(x, w, even[i]), x)',
        '_matmul("bin,bjn->bij", x, x)',
        SIGNAL,
    ),
    Mutation(
        "weights dropped from the gradient",
        "strips.py",
        "return _weighed(pulled, _flat(w[:, None]), even[i])",
        "return pulled",
        SIGNAL,
    ),
    Mutation(
        "mean dropped from the gradient",
        "strips.py",
        "matrix, z) - shift, w, i)",
        "matrix, z), w, i)",
        SIGNAL,
    ),
    Mutation(
        "gradient not measured in its basis by a CPU",
        "strips.py",
        "return lax.cond(change.wanted, in_basis, lambda z: z, z)",
        "return z",
        FURTHER,
    ),
    Mutation(
        "weights squared on accelerators",
        "strips.py",
        "jnp.sqrt(weights), regions",
        "weights, regions",
        PLATFORMS,
    ),
    Mutation(
        "weights dropped from the gradient on accelerators",
        "strips.py",
        "return pulled * _flat(w[:, None])",
        "return pulled",
        PLATFORMS,
    ),
    Mutation(
        "strips widened by positions that count",
        "strips.py",
        "pad(weights, more)",
        "jnp.pad(weights, [(0, 0)] * (weights.ndim - 1) + [(0, more)], mode='edge')",
        PLATFORMS,
    ),
    Mutation(
        "dilation left out of the regions",
        "components.py",
        "for start in range(0, size * dilation, dilation)",
        "for start in range(size)",
        SIGNAL,
    ),
    # The forward half of the engine, and its further passes.
    Mutation(
        "statistics of regions not centred",
        "fit.py",
        "scatter = sums.second - sums.first[..., :, None] * mean[..., None, :]",
        "scatter = sums.second",
        SIGNAL,
    ),
    Mutation(
        "stride left out of the statistics",
        "fit.py",
        "regions.thinning * scatter",
        "scatter",
        THINNED,
    ),
    Mutation(
        "no further pass",
        "fit.py",
        "_INFLATION = 100.0",
        "_INFLATION = 1e30",
        engine("second_pass_restores_what_one_pass_loses[129]"),
    ),
    Mutation(
        "a further pass for everything",
        "fit.py",
        "_INFLATION = 100.0",
        "_INFLATION = 0.5",
        engine("second_pass_runs_where_needed_only"),
    ),
    Mutation(
        "a further pass sums in the first basis",
        "fit.py",
        "return matmul(change[k], z), matmul(mirrored[k]",
        "return z, matmul(mirrored[k]",
        FURTHER,
    ),
    Mutation(
        "mirrored truth of a further pass in the basis before",
        "fit.py",
        "mirrored = gaussian.of_itself(change, centre.slope)",
        "mirrored = gaussian.of_itself(last.change, centre.slope)",
        FURTHER,
    ),
    Mutation(
        "mean not subtracted in a further pass",
        "fit.py",
        "z = z - mean[k][..., None]",
        "z = z",
        FURTHER,
    ),
    Mutation(
        "gradient not measured in the basis of the last pass",
        "fit.py",
        "wanted = jnp.any(last.change != identity, axis=(1, 2, 3))",
        "wanted = jnp.zeros(last.change.shape[0], bool)",
        FURTHER,
    ),
    Mutation(
        "factor of the pass before kept",
        "fit.py",
        "(mean_z, found),\n            (last.mean_z, last.whitening),",
        "(mean_z, last.whitening),\n            (last.mean_z, last.whitening),",
        FURTHER,
    ),
    Mutation(
        "anchored information in the report",
        "fit.py",
        "jnp.where(prior.anchor > 0, unanchored, information)",
        "information",
        REPORT,
    ),
    Mutation(
        "anchored slope in the report",
        "fit.py",
        "gaussian.explanatory_slope(scatter, centre.slope, prior.jitter)",
        "centre.slope",
        REPORT,
    ),
    # The backward half.
    Mutation(
        "sign of the gradient",
        "streaming.py",
        "residual = weight(cotangent.information) * fit.residual",
        "residual = -weight(cotangent.information) * fit.residual",
        SIGNAL,
    ),
    Mutation(
        "residuals of the prediction",
        "fit.py",
        "jnp.split(last.whitening.inverse, 2, axis=-2)[1]",
        "jnp.split(last.whitening.inverse, 2, axis=-2)[0]",
        SIGNAL,
    ),
    Mutation(
        "prediction's and truth's gradient swapped",
        "streaming.py",
        "of_p, of_y = jnp.split(transpose(from_regions), 2, axis=-2)",
        "of_y, of_p = jnp.split(transpose(from_regions), 2, axis=-2)",
        SIGNAL,
    ),
    Mutation(
        "entropy's part of the gradient by targets left out",
        "streaming.py",
        "matmul(anchor + entropy, truth)",
        "matmul(anchor, truth)",
        identity("gradients_of_mutual_information_are_finite_differences[streaming]"),
    ),
    Mutation(
        "anchor's part of the gradient by targets left out",
        "streaming.py",
        "matmul(anchor + entropy, truth)",
        "matmul(entropy, truth)",
        ANCHORED,
    ),
    Mutation(
        "anchor's part of the gradient counts one copy",
        "streaming.py",
        "prior.anchor * gram(transpose(mirrored))",
        "gram(transpose(mirrored))",
        ANCHORED,
    ),
    Mutation(
        "truth of the gradient not in the basis of the last pass",
        "streaming.py",
        "gaussian.solve(change, transpose(scaled), transposed=True)",
        "transpose(scaled)",
        FURTHER,
    ),
    Mutation(
        "stride left out of the gradient",
        "streaming.py",
        "per_slot * (regions.thinning / regions.dim)",
        "per_slot * (1 / regions.dim)",
        THINNED,
    ),
    Mutation(
        "targets get the prediction's gradient",
        "streaming.py",
        "planes.pull_targets(cells[:, 1])",
        "planes.pull_targets(cells[:, 0])",
        SIGNAL,
    ),
    Mutation(
        "classes do not compete in softmax's gradient",
        "streaming.py",
        "return [inputs, targets, jax.tree.map(jnp.add, log_total, per_pixel)]",
        "return [inputs, targets, log_total]",
        loss("objective[streaming-labels-mask-options2]"),
    ),
    # The reference.
    Mutation(
        "stride left out of the reference",
        "patches.py",
        "weights = weights * regions.thinning",
        "weights = weights * 1",
        region_term("patches-2-mask-options5"),
    ),
    Mutation(
        "scatter without weights in the reference",
        "patches.py",
        "(weights[:, None] * rows).T, rows)",
        "rows.T, rows)",
        region_term("patches-1-weights-options1"),
    ),
    Mutation(
        "anchor left out of the reference",
        "patches.py",
        "return gaussian.whiten(columns, itself, change",
        "return gaussian.whiten(columns, 0 * itself, change",
        region_term("patches-1-None-options18"),
    ),
    Mutation(
        "anchored information in the reference's report",
        "patches.py",
        "jnp.where(prior.anchor > 0, plain, found)",
        "found",
        ("test_anchor.py::test_the_report_does_not_depend_on_it[patches]",),
    ),
    # Classes: which are read, and where their gradients go.
    Mutation(
        "gradients of all scales but the last lost",
        "planes.py",
        "if add:",
        "if add and False:",
        loss("objective[streaming-labels-mask-options5]"),
    ),
    Mutation(
        "softmax without its denominator",
        "activations.py",
        "return jnp.exp(logits - largest - log_sum)",
        "return jnp.exp(logits - largest - 0 * log_sum)",
        loss("objective[streaming-labels-mask-options2]"),
    ),
    Mutation(
        "as many classes visited as the poorest image has",
        "slots.py",
        "count = jnp.max(jnp.sum(",
        "count = jnp.min(jnp.sum(",
        loss("zero_floor[streaming]"),
    ),
    Mutation(
        "values handed to the wrong classes",
        "slots.py",
        "order = jnp.argsort(slots.classes, axis=0)",
        "order = slots.classes",
        identity("classes_keep_their_order_whichever_are_present"),
    ),
    Mutation(
        "a class that fills the image passed over among padded zeros",
        "slots.py",
        'if scale.ignored == "zero":',
        'if scale.ignored == "never":',
        identity("a_class_that_fills_the_image_varies_among_padded_zeros"),
    ),
    # From pixels to cells.
    Mutation(
        "a region weighs as its heaviest cell",
        "cells.py",
        "cells = jnp.minimum(cells, other)",
        "cells = jnp.maximum(cells, other)",
        SIGNAL,
    ),
    Mutation(
        "weights of undilated regions",
        "cells.py",
        "for start in range(0, size * dilation, dilation)",
        "for start in range(size)",
        SIGNAL,
    ),
    Mutation(
        "targets of ignored pixels kept",
        "cells.py",
        "targets = targets if weights is None else _zeroed(targets, weights)",
        "targets = targets",
        region_term("streaming-2-weights-options11"),
    ),
    Mutation(
        "the authors' 1e-6 left out",
        "cells.py",
        "_MIN_PROB = 1e-6",
        "_MIN_PROB = 0",
        region_term("streaming-2-weights-options11"),
    ),
    Mutation(
        "the grid of positions never shifted",
        "cells.py",
        "[0, *offset, *(0 for _ in tail)]",
        "[0, *(0 * offset), *(0 for _ in tail)]",
        ("test_oracle.py::test_a_region_key_shifts_the_grid_of_positions[streaming]",),
    ),
    Mutation(
        "no padding before the first window",
        "downsampling.py",
        "before = factor // 2 if factor > 1 else 0",
        "before = 0",
        region_term("streaming-1-None-options2"),
    ),
    Mutation(
        "windows of the mean moved by a pixel",
        "downsampling.py",
        "(f // 2, f // 2) if f > 1",
        "(f // 2 - 1, f // 2 + 1) if f > 1",
        region_term("streaming-1-mask-options0"),
    ),
    Mutation(
        "mean over the window in place of its valid pixels",
        "downsampling.py",
        "total / jnp.where(share > 0, share, 1)",
        "total / jnp.where(share > 0, 1, 1)",
        region_term("streaming-1-mask-options0"),
    ),
    Mutation(
        "ignored pixels count as zeros in a maximum",
        "downsampling.py",
        '-jnp.inf if method == "max" else 0)',
        "0)",
        identity("a_maximum_is_that_of_the_valid_pixels"),
    ),
    Mutation(
        "interpolation weights swapped",
        "downsampling.py",
        "return lower * (1 - weight) + upper * weight",
        "return lower * weight + upper * (1 - weight)",
        region_term("streaming-2-None-options10"),
    ),
    Mutation(
        "nearest pixels at multiples of the factor",
        "downsampling.py",
        "np.arange(cells) * size // cells",
        "np.arange(cells) * factor",
        region_term("streaming-2-None-options10"),
    ),
    Mutation(
        "wrong frequencies in the region basis",
        "regions.py",
        "np.cos(np.pi * k * (2 * x + 1) / (2 * size))",
        "np.cos(np.pi * k * (2 * x) / (2 * size))",
        SIGNAL,
    ),
    Mutation(
        "cells of a volume's region in the wrong order",
        "regions.py",
        "jnp.moveaxis(patches, (-1, -2, -3), (-3, -2, -1))",
        "jnp.moveaxis(patches, (-1, -2, -3), (-2, -3, -1))",
        ("test_regions.py::test_regions_are_exact_copies[3]",),
    ),
    # Activations and cross entropy.
    Mutation(
        "derivative of the sigmoid",
        "activations.py",
        "tangent * sigmoid(logits) * sigmoid(-logits)",
        "tangent * sigmoid(logits) * sigmoid(logits)",
        loss("objective[streaming-targets-None-options6]"),
    ),
    Mutation(
        "p (1 - p), which loses its digits near p = 1",
        "activations.py",
        "tangent * sigmoid(logits) * sigmoid(-logits)",
        "tangent * sigmoid(logits) * (1 - sigmoid(logits))",
        loss("the_sigmoid_keeps_its_derivative_where_it_is_near_1"),
    ),
    Mutation(
        "derivative of the softplus",
        "activations.py",
        "return softplus(logits), tangent * sigmoid(logits)",
        "return softplus(logits), tangent * sigmoid(-logits)",
        loss("objective[streaming-targets-mask-options8]"),
    ),
    Mutation(
        "softplus that overflows",
        "activations.py",
        "jnp.maximum(logits, 0) + jnp.log1p(jnp.exp(-jnp.abs(logits)))",
        "jnp.log1p(jnp.exp(logits))",
        engine("finite_for_every_finite_logit[sigmoid]"),
    ),
    Mutation(
        "derivative of the softmax's denominator left out",
        "activations.py",
        "return log_sum, jnp.sum(probs * tangents[0], axis=-1)",
        "return log_sum, jnp.sum(0 * probs * tangents[0], axis=-1)",
        loss("objective[streaming-targets-weights-options7]"),
    ),
    Mutation(
        "+ 1 left out of the normalizer",
        "cross_entropy.py",
        "share = pixel_weights * (images / (total + 1))",
        "share = pixel_weights * (images / jnp.maximum(total, 1))",
        loss("objective[streaming-labels-None-options0]"),
    ),
    Mutation(
        "sign of the labels in the cross entropy",
        "cross_entropy.py",
        "return _image_sums(softplus(logits), share) - at_labels",
        "return _image_sums(softplus(logits), share) + at_labels",
        loss("objective[streaming-labels-None-options0]"),
    ),
    Mutation(
        "sign of the labels in the cross entropy on accelerators",
        "cross_entropy.py",
        "jnp.where(_is_label(logits, labels), -logits, logits)",
        "jnp.where(_is_label(logits, labels), logits, -logits)",
        ("test_platforms.py::test_accelerators_compute_the_same_cross_entropy[sigmoid]",),
    ),
    Mutation(
        "sign of the labels in the cross entropy's gradient",
        "cross_entropy.py",
        "slope = sigmoid(logits) - _is_label(logits, labels)",
        "slope = sigmoid(logits) + _is_label(logits, labels)",
        loss("objective[streaming-labels-None-options0]"),
    ),
    # The objective and its options.
    Mutation(
        "weights of the two parts swapped",
        "objective.py",
        "bce_weight * entropy + rmi_weight * rmi",
        "rmi_weight * entropy + bce_weight * rmi",
        loss("objective[streaming-labels-weights-options1]"),
    ),
    Mutation(
        "cross entropy's weight on both parts",
        "objective.py",
        "return bce_weight, 1 - bce_weight",
        "return bce_weight, bce_weight",
        loss("objective[streaming-labels-weights-options1]"),
    ),
    Mutation(
        "class weights dropped",
        "objective.py",
        "per_image = jnp.sum(class_weights * (",
        "per_image = jnp.sum(1 * (",
        loss("objective[streaming-labels-weights-options1]"),
    ),
    Mutation(
        "sum over images in place of their mean",
        "objective.py",
        'loss = per_image if reduction == "none" else jnp.mean(per_image)',
        'loss = per_image if reduction == "none" else jnp.sum(per_image)',
        loss("aux_reports_the_parts[streaming]"),
    ),
    Mutation(
        "labels not in the classes count where there are weights",
        "losses.py",
        "else jnp.where(valid, weights, 0)",
        "else weights",
        loss("objective[streaming-labels-mask-options2]"),
    ),
    Mutation(
        "RMI computed at weight 0",
        "objective.py",
        "active = has_aux or rmi_weight != 0",
        "active = True",
        engine("weight_of_one_skips_rmi"),
    ),
    Mutation(
        "anchored mutual information reported",
        "objective.py",
        "mutual_information(terms.unanchored, terms.entropy",
        "mutual_information(terms.information, terms.entropy",
        REPORT,
    ),
    Mutation(
        "no anchor by default for labels",
        "losses.py",
        "anchor: float | jax.Array = 0.01,",
        "anchor: float | jax.Array = 0.0,",
        loss("objective[streaming-labels-weights-options1]"),
    ),
    Mutation(
        "no anchor by default for target maps",
        "losses.py",
        "anchor: float | jax.Array = 0.1,",
        "anchor: float | jax.Array = 0.0,",
        loss("objective[streaming-targets-None-options6]"),
    ),
    Mutation(
        "sigmoids by default for labels",
        "losses.py",
        'activation: str = "softmax",',
        'activation: str = "sigmoid",',
        loss("objective[streaming-labels-weights-options1]"),
    ),
    Mutation(
        "the paper with an anchor",
        "losses.py",
        '"anchor": 0.0,',
        '"anchor": 0.01,',
        PAPER,
    ),
    Mutation(
        "the paper with softmax",
        "losses.py",
        '"activation": "sigmoid",',
        '"activation": "softmax",',
        PAPER,
    ),
    Mutation(
        "the paper with ignored pixels left out",
        "losses.py",
        '"ignored": "zero",',
        '"ignored": "exclude",',
        PAPER,
    ),
    Mutation(
        "the paper with the floor subtracted",
        "losses.py",
        '"zero_floor": False,',
        '"zero_floor": True,',
        PAPER,
    ),
    Mutation(
        "floor subtracted twice",
        "terms.py",
        "return terms.information + floor",
        "return terms.information - floor",
        region_term("streaming-2-None-options3"),
    ),
    Mutation(
        "Y and P swapped",
        "information.py",
        "p, y = maps[0], maps[1].astype(dtype)",
        "p, y = maps[1], maps[0].astype(dtype)",
        SIGNAL,
    ),
    Mutation(
        "mutual information normalized by what is left open",
        "terms.py",
        "explained / jnp.where(varies, entropy, 1)",
        "explained / jnp.where(varies, information, 1)",
        INFORMATION,
    ),
    Mutation(
        "floor of one scale for several",
        "terms.py",
        "floor = 0.5 * jnp.log(options.prior.jitter) * jnp.sum(options.scale_weights)",
        "floor = 0.5 * jnp.log(options.prior.jitter)",
        loss("the_floor_follows_the_weights_of_the_scales"),
    ),
    Mutation(
        "all scales weigh the same",
        "options.py",
        "decay = 0.5 ** np.arange(scales)",
        "decay = 1.0 ** np.arange(scales)",
        loss("objective[streaming-labels-mask-options5]"),
    ),
    Mutation(
        "warm-up a step short",
        "schedules.py",
        "transition_begin=warmup_steps",
        "transition_begin=warmup_steps - 1",
        ("test_schedules.py::test_warmup_schedule",),
    ),
    Mutation(
        "warm-up ends at the weight of the other part",
        "schedules.py",
        "0.0, 1 - final_weight, transition_steps",
        "0.0, final_weight, transition_steps",
        ("test_schedules.py::test_warmup_schedule",),
    ),
    # Images spread over devices.
    Mutation(
        "last device counts regions that reach outside",
        "halo.py",
        "last = cells + all_cells - devices * cells - span",
        "last = cells + all_cells - devices * cells",
        SPREAD,
    ),
    Mutation(
        "borrowed rows counted as well",
        "halo.py",
        "mine = (index >= 0) & (index < own)",
        "mine = index < own",
        SPREAD,
    ),
    # Metrics.
    Mutation(
        "a tolerance a tenth too short",
        "metrics.py",
        "distance**2",
        "(0.9 * distance)**2",
        metric("a_shifted_edge_is_forgiven_up_to_the_tolerance"),
    ),
    Mutation(
        "boundaries counted beside ignored pixels",
        "metrics.py",
        "known = ~_near(~valid, tolerance)",
        "known = valid",
        metric("boundary_counts_match_scipy[shape0-2.5-True]"),
    ),
    Mutation(
        "rows and columns of the confusion matrix swapped",
        "metrics.py",
        "labels * num_classes + predictions",
        "predictions * num_classes + labels",
        SCIKIT,
    ),
    Mutation(
        "false alarms left out of the union",
        "metrics.py",
        "return _ratio(hits, hits + misses + false_alarms)",
        "return _ratio(hits, hits + misses)",
        SCIKIT,
    ),
    Mutation(
        "absent classes count as IoU of NaN",
        "metrics.py",
        "_ratio(hits, union, 0).sum()",
        "_ratio(hits, union).sum()",
        metric("absent_classes_are_left_out_and_wrongly_predicted_ones_are_not"),
    ),
)


class Result(NamedTuple):
    passed: bool
    invalid: str  # why the run proves nothing, or ""
    test: str  # the first that failed
    seconds: float  # of processor time, so that other programs on the machine do not count
    output: str


def mutated(source: str, mutation: Mutation) -> str:
    """The text of the file with the mutation in it."""
    count = source.count(mutation.old)
    if count != 1:
        raise SystemExit(
            f"{mutation.name}: its old text occurs {count} times in {mutation.file}, not once"
        )
    return source.replace(mutation.old, mutation.new)


def environment(copy: Path, scratch: Path) -> dict[str, str]:
    """Has the copy imported, and unchanged programs compiled once."""
    return {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(scratch / "programs"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        # Before site-packages, where an editable installation points at the checkout.
        "PYTHONPATH": str(copy),
        # Two mutations of a file may have the same length and time.
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def run_tests(copy: Path, scratch: Path, tests: tuple[str, ...]) -> Result:
    """Runs tests on the copy, up to the first that fails."""
    report = scratch / "report.xml"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--tb=short", "-p", "no:cacheprovider"]
    command += [f"--junit-xml={report}", *(f"tests/library/{test}" for test in tests)]
    before = os.times()
    try:
        done = subprocess.run(
            command,
            cwd=copy,
            env=environment(copy, scratch),
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )
    except subprocess.TimeoutExpired:
        return Result(False, "ran out of time", "", TIMEOUT, "")
    after = os.times()
    seconds = sum(getattr(after, kind) - getattr(before, kind) for kind in CHILDREN_TIMES)
    output = done.stdout + done.stderr
    if done.returncode == 0:
        return Result(True, "", "", seconds, output)
    invalid, test = first_failure(report)
    return Result(False, invalid, test, seconds, output)


CHILDREN_TIMES = ("children_user", "children_system")


def first_failure(report: Path) -> tuple[str, str]:
    """Why it is none by an assertion, or "", and the name of the test."""
    if not report.exists():
        return "no test ran", ""
    for case in ElementTree.parse(report).iter("testcase"):
        for problem in case:
            test = case.get("name", "")
            message = problem.get("message", "")
            # A script that a test ran may have died of another exception.
            asserted = re.match(r"assert |AssertionError|Failed: ", message)
            if problem.tag == "failure" and asserted and "Traceback" not in message:
                return "", test
            if problem.tag in ("failure", "error"):
                return message.splitlines()[0] if message else problem.tag, test
    return "no test ran", ""


def stored_rows() -> dict[str, str]:
    """The rows of the stored table by the name of their mutation."""
    lines = TABLE.read_text().splitlines() if TABLE.exists() else []
    return {line.split(" | ")[0].removeprefix("| "): line for line in lines if ".py`" in line}


def write(rows: dict[str, str]) -> None:
    """Stores rows, with those of other mutations that the table has already."""
    found = stored_rows() | rows
    table = [found[mutation.name] for mutation in MUTATIONS if mutation.name in found]
    caught = sum("**" not in line for line in table)
    TABLE.write_text(
        "# Mutations\n\nWritten by `python tests/mutations.py --write`, which says what each one "
        "changes. Seconds are of\nprocessor time, most of them for imports and compiling.\n\n"
        f"{caught} of {len(MUTATIONS)} mutations caught.\n\n{HEADER}\n" + "\n".join(table) + "\n"
    )


def row(mutation: Mutation, result: Result) -> str:
    if result.passed:
        caught = "**survived**"
    elif result.invalid:
        caught = f"**invalid**: {result.invalid}"
    else:
        caught = f"`{result.test}`"
    return f"| {mutation.name} | `{mutation.file}` | {caught} | {result.seconds:.0f} |"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0], epilog="The names are those that --list prints."
    )
    parser.add_argument("--only", nargs="+", metavar="NAME", help="run these mutations")
    parser.add_argument("--list", action="store_true", help="print the mutations and stop")
    parser.add_argument("--write", action="store_true", help=f"store the rows in {TABLE.name}")
    arguments = parser.parse_args()

    known = {mutation.name: mutation for mutation in MUTATIONS}
    assert len(known) == len(MUTATIONS), "two mutations have the same name"
    unknown = set(arguments.only or ()) - set(known)
    if unknown:
        parser.error(f"no such mutation: {', '.join(sorted(unknown))}; see --list")
    chosen = [known[name] for name in arguments.only or known]
    if arguments.list:
        for mutation in chosen:
            print(f"{mutation.file:18} {mutation.name}")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        return check(chosen, Path(folder), arguments.write)


def check(chosen: list[Mutation], scratch: Path, store: bool) -> int:
    """Runs the mutations and prints the table; 0 if the tests caught all."""
    copy = scratch / "copy"
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("rmi_jax", "tests"):
        shutil.copytree(ROOT / name, copy / name, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", copy)
    library = copy / "rmi_jax"
    changed = {m.name: mutated((library / m.file).read_text(), m) for m in chosen}

    imported = subprocess.run(
        [sys.executable, "-c", "import rmi_jax; print(rmi_jax.__file__)"],
        cwd=scratch,
        env=environment(copy, scratch),
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    assert imported == str(library / "__init__.py"), f"tests would import {imported}"

    tests = tuple(dict.fromkeys(test for mutation in chosen for test in mutation.tests))
    result = run_tests(copy, scratch, tests)
    if not result.passed:
        print(result.output, "The tests must pass before anything is broken.", sep="\n")
        return 1
    total = result.seconds
    print(f"{len(tests)} tests pass on the library as it is, {total:.0f} s of processor time.\n")

    print(HEADER, flush=True)
    rows, missed = {}, []
    for mutation in chosen:
        file = library / mutation.file
        original = file.read_text()
        file.write_text(changed[mutation.name])
        result = run_tests(copy, scratch, mutation.tests)
        file.write_text(original)
        total += result.seconds
        rows[mutation.name] = row(mutation, result)
        print(rows[mutation.name], flush=True)
        if result.passed or result.invalid:
            missed.append(mutation.name)
    summary = (
        f"{len(chosen) - len(missed)} of {len(chosen)} mutations caught; "
        f"{total / 60:.0f} minutes of processor time, those of the library as it is included."
    )
    print(f"\n{summary}")
    if missed:
        print("Not caught:", "; ".join(missed))
    if store:
        write(rows)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
