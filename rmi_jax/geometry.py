"""The arrays that an implementation reads, and the static geometry of each scale of the loss."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax


class Regions(NamedTuple):
    """Geometry of the regions on one map, one entry per spatial axis."""

    size: tuple[int, ...]
    dilation: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def dim(self) -> int:
        """Region dimension d, the number of cells in a region."""
        return math.prod(self.size)

    @property
    def span(self) -> tuple[int, ...]:
        """Distance in cells between a region's first and last cell, per axis."""
        return tuple((k - 1) * g for k, g in zip(self.size, self.dilation, strict=True))

    @property
    def thinning(self) -> int:
        """Positions per position used. Sums are multiplied by it, so alpha keeps its weight."""
        return math.prod(self.stride)

    def positions(self, cells: Sequence[int]) -> tuple[int, ...]:
        """Number of region positions that fit on a map of ``cells`` cells, per axis."""
        return tuple(
            (n - s - 1) // k + 1 for n, s, k in zip(cells, self.span, self.stride, strict=True)
        )


class Halo(NamedTuple):
    """Rows (the first spatial axis) of sharded images that devices borrow; see `rmi_jax.halo`."""

    axis_name: str  # mesh axis that shards the rows
    rows: int  # rows of each device
    before: int  # rows borrowed from the device before
    after: int  # rows borrowed from the device after


class Scale(NamedTuple):
    """How one term of the loss reads its maps; hashable, so that it can be a static argument."""

    activation: str
    factors: tuple[int, ...]
    downsampling: str
    ignored: str
    regions: Regions
    halo: Halo | None = None

    @property
    def is_coarse(self) -> bool:
        """Whether a cell has 4 pixels or more, so that memory holds the cells of all classes."""
        return math.prod(self.factors) >= 4


class Maps(NamedTuple):
    """The arrays that the statistics are taken of."""

    inputs: jax.Array  # logits or probabilities [B, *S, C]
    targets: jax.Array  # integer labels [B, *S] or target maps [B, *S, C]
    pixel_weights: jax.Array | None  # [B, *S], 0 where ignored; None: all are 1
    offset: jax.Array | None  # cells [N] by which the grid of region positions is shifted
    active: jax.Array  # scalar bool: False where the caller's weight for the terms is 0
