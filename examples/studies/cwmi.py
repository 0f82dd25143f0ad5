"""Complex wavelet mutual information (CWMI; Lu, ICML 2025, arXiv 2502.00563).

Where RMI asks what the predicted pixels of a region say about the true ones, CWMI asks what the
predicted orientations at a place say about the true ones: both maps are taken apart by a complex
steerable pyramid (Portilla and Simoncelli, 2000), and at each of its levels

    log det(Y Y' - Y P' (P P' + alpha I)^-1 P Y')

counts, Y and P being the centred values of the 4 oriented subbands, complex, one column a place.
Written from these formulas, for every class of a softmax, where the paper has one foreground. Two
things are for float32. As in RMI, alpha is added to the conditional scatter too; then the
determinant is what remains of one Cholesky factor. And amplitudes are the same at all levels, where
in the pyramid of the paper's authors they grow by 4 from one to the next: beside scatter of 1e4,
float32 rounds an alpha of 5e-4 away, and training ends in NaN within 500 steps.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

LEVELS, ORIENTATIONS = 4, 4
JITTER = 5e-4


def low_pass(radius: np.ndarray, cutoff: float) -> np.ndarray:
    """1 up to half the cutoff, 0 from there on, a cosine in log frequency between."""
    octaves = np.log2(np.maximum(radius, 1e-9) / (cutoff / 2))
    return np.cos(np.pi / 2 * np.clip(octaves, 0, 1))


def high_pass(radius: np.ndarray, cutoff: float) -> np.ndarray:
    """What with `low_pass` has squares that add to 1."""
    octaves = np.log2(np.maximum(radius, 1e-9) / (cutoff / 2))
    return np.sin(np.pi / 2 * np.clip(octaves, 0, 1))


def polar(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Frequency (pi is Nyquist) and angle, zero frequency in the middle."""
    axis = 2 * np.pi * np.fft.fftshift(np.fft.fftfreq(side))
    rows, columns = np.meshgrid(axis, axis, indexing="ij")
    return np.hypot(rows, columns), np.arctan2(rows, columns)


def oriented(angle: np.ndarray) -> np.ndarray:
    """Half planes of frequencies, ``[K, side, side]``: what remains is complex, with a phase."""
    order = ORIENTATIONS - 1
    scale = 2**order * math.factorial(order) / math.sqrt(ORIENTATIONS * math.factorial(2 * order))
    away = angle - np.pi * np.arange(ORIENTATIONS)[:, None, None] / ORIENTATIONS
    return 2 * scale * np.maximum(np.cos(away), 0) ** order


def subbands(maps: jax.Array) -> list[jax.Array]:
    """Oriented subbands of maps ``[N, side, side]``, ``[N, K, side / 2**l, side / 2**l]`` each."""
    side = maps.shape[-1]
    if maps.shape[-2] != side or side % 2**LEVELS:
        raise ValueError(f"maps must be squares with a side that 16 divides, got {maps.shape}")
    radius, _ = polar(side)
    spectrum = jnp.fft.fftshift(jnp.fft.fft2(maps), axes=(-2, -1)) * low_pass(radius, np.pi)
    bands = []
    for _ in range(LEVELS):
        radius, angle = polar(side)
        masks = oriented(angle) * high_pass(radius, np.pi / 2)
        filtered = spectrum[:, None] * masks.astype(np.float32)
        bands.append(jnp.fft.ifft2(jnp.fft.ifftshift(filtered, axes=(-2, -1))))
        middle = slice(side // 4, 3 * side // 4)
        spectrum = (spectrum * low_pass(radius, np.pi / 2))[:, middle, middle] / 4
        side //= 2
    return bands


def conditional_log_det(predicted: jax.Array, true: jax.Array) -> jax.Array:
    """``[N]`` from subbands ``[N, K, side, side]``."""
    both = jnp.concatenate([predicted, true], axis=1)
    both = both.reshape(*both.shape[:2], -1)
    both = both - both.mean(axis=-1, keepdims=True)
    scatter = both @ both.conj().swapaxes(-1, -2) + JITTER * jnp.eye(both.shape[1])
    factor = jnp.linalg.cholesky(scatter)
    diagonal = jnp.diagonal(factor, axis1=-2, axis2=-1).real
    return 2 * jnp.sum(jnp.log(diagonal[:, predicted.shape[1] :]), axis=-1)


def cwmi(probs: jax.Array, targets: jax.Array) -> jax.Array:
    """The term without cross entropy, of maps ``[B, side, side, C]``: the sum over the levels."""
    predicted, true = (
        subbands(jnp.moveaxis(maps, -1, 1).reshape(-1, *maps.shape[1:3]))
        for maps in (probs, targets)
    )
    levels = zip(predicted, true, strict=True)
    return sum((conditional_log_det(p, y).mean() for p, y in levels), start=jnp.zeros(()))
