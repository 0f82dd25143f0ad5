"""Random scale, crop, mirroring and colours, on a picture and its labels together."""

import numpy as np
from PIL import Image, ImageEnhance

from segmentation.dataset import IGNORED

# Of ImageNet, in units of 1 / 255: what the weights of pretrained networks expect.
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)


def normalize(image: np.ndarray) -> np.ndarray:
    """uint8 ``[..., 3]`` to float32 with ImageNet's mean and deviation taken out."""
    return (image.astype(np.float32) / 255 - MEAN) / STD


def augment(
    image: np.ndarray,
    labels: np.ndarray,
    random: np.random.Generator,
    *,
    crop: tuple[int, int],
    scale_range: tuple[float, float],
    mirror: bool,
    colour: float,
) -> dict[str, np.ndarray]:
    """A random crop of a randomly scaled picture.

    Args:
        image: uint8 ``[H, W, 3]``.
        labels: uint8 ``[H, W]``.
        random: where the random numbers come from.
        crop: height and width of the result.
        scale_range: smallest and largest scale.
        mirror: whether left and right may be exchanged.
        colour: brightness, contrast and saturation change by up to this share.

    Returns:
        `image` float32 ``[h, w, 3]``, normalized, and `labels` int32 ``[h, w]``. Where the scaled
        picture is smaller than the crop, the rest is 0 (the mean colour) and 255 (ignored).
    """
    scale = random.uniform(*scale_range)
    windows = [_window(n, scale, c, random) for n, c in zip(labels.shape, crop, strict=True)]
    (top, bottom, height), (left, right, width) = windows
    # Only the window is scaled. Nearest neighbour for labels, since classes have no mean.
    picture = Image.fromarray(image).resize(
        (width, height), Image.Resampling.BILINEAR, box=(left, top, right, bottom)
    )
    mask = Image.fromarray(labels).resize(
        (width, height), Image.Resampling.NEAREST, box=(left, top, right, bottom)
    )
    pixels, classes = normalize(np.asarray(jitter(picture, random, colour))), np.asarray(mask)
    if mirror and random.random() < 0.5:
        pixels, classes = pixels[:, ::-1], classes[:, ::-1]
    row, column = (
        random.integers(0, c - n, endpoint=True) for c, n in zip(crop, classes.shape, strict=True)
    )
    placed = np.s_[row : row + height, column : column + width]
    result = {"image": np.zeros((*crop, 3), np.float32), "labels": np.full(crop, IGNORED, np.int32)}
    result["image"][placed], result["labels"][placed] = pixels, classes
    return result


def _window(
    size: int, scale: float, crop: int, random: np.random.Generator
) -> tuple[float, float, int]:
    """Along one axis: begin and end in the picture, and the number of pixels they become."""
    scaled = max(1, round(size * scale))
    pixels = min(scaled, crop)
    begin = random.integers(0, scaled - pixels, endpoint=True)
    return begin * size / scaled, (begin + pixels) * size / scaled, pixels


def jitter(picture: Image.Image, random: np.random.Generator, share: float) -> Image.Image:
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        picture = enhance(picture).enhance(random.uniform(1 - share, 1 + share))
    return picture
