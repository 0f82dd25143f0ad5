"""Random weights under torchvision's names, written down from its architecture."""

from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet50": (3, 4, 6, 3)}


def state_dict(name: str, seed: int) -> dict[str, np.ndarray]:
    """float32 arrays as in ``torchvision.models.resnet18().state_dict()``."""
    random = np.random.default_rng(seed)
    stored: dict[str, np.ndarray] = {}

    def conv(key: str, out: int, into: int, size: int) -> None:
        deviation = np.sqrt(2 / (into * size**2))
        values = deviation * random.normal(size=(out, into, size, size))
        stored[f"{key}.weight"] = values.astype(np.float32)

    def norm(key: str, width: int) -> None:
        for part, low, high in (
            ("weight", 0.5, 1), ("bias", -0.1, 0.1), ("running_mean", -0.1, 0.1),
            ("running_var", 0.8, 1.2),
        ):  # fmt: skip
            stored[f"{key}.{part}"] = random.uniform(low, high, width).astype(np.float32)
        stored[f"{key}.num_batches_tracked"] = np.array(7, np.int64)

    conv("conv1", 64, 3, 7)
    norm("bn1", 64)
    channels = 64
    for stage, count in enumerate(BLOCKS[name]):
        width = 64 * 2**stage
        sizes = [(width, 3), (width, 3)]
        if name == "resnet50":
            sizes = [(width, 1), (width, 3), (4 * width, 1)]
        for block in range(count):
            key, into = f"layer{stage + 1}.{block}", channels
            for number, (out, size) in enumerate(sizes, start=1):
                conv(f"{key}.conv{number}", out, into, size)
                norm(f"{key}.bn{number}", out)
                into = out
            if block == 0 and (stage > 0 or channels != into):
                conv(f"{key}.downsample.0", into, channels, 1)
                norm(f"{key}.downsample.1", into)
            channels = into
    stored["fc.weight"] = np.zeros((1000, channels), np.float32)
    stored["fc.bias"] = np.zeros(1000, np.float32)
    return stored


def save(stored: dict[str, np.ndarray], folder: Path) -> Path:
    file = folder / "weights.safetensors"
    save_file(stored, file)
    return file
