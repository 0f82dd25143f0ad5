"""Classes of pictures, by a network that train.py has trained.

    python examples/predict.py outputs/train pictures/*.jpg --output predictions

For each picture there will be a mask NAME.png, whose pixels are class indices with the colours of
the classes, and NAME_overlay.jpg, the picture with the mask laid over it. Nothing of a loss is
imported: a network trained with RMI is like any other.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from PIL import Image
from segmentation import checkpoints, config, draw, models, windows
from segmentation.augment import normalize
from segmentation.dataset import BadData, read_image
from segmentation.folder import SUFFIXES
from tqdm import tqdm


def main(
    run: Annotated[Path, tyro.conf.Positional],
    pictures: Annotated[tuple[Path, ...], tyro.conf.Positional],
    output: Path = Path("outputs/predict"),
    batch: int = 8,
) -> None:
    """Writes a mask and an overlay for each picture.

    Args:
        run: the --output folder of train.py.
        pictures: files, or folders of them.
        output: folder to write to.
        batch: windows at a time.
    """
    files = list(found(pictures))
    stems = [file.stem for file in files]
    twice = {stem for stem in stems if stems.count(stem) > 1}
    if twice:
        raise SystemExit(f"several pictures are called {sorted(twice)[0]}: predict them apart")
    options, classes, colours = described(run)
    network = models.build(
        options.model,
        len(classes),
        backbone=options.backbone,
        dtype=options.dtype,
        seed=options.seed,
    )
    step, weights = checkpoints.weights(run / "checkpoints", network)
    print(f"{run}, step {step}, classes: {', '.join(classes)}")
    predict = windows.predictor(network, options.crop, batch)(weights)
    output.mkdir(parents=True, exist_ok=True)
    for file in tqdm(files, unit="picture"):
        try:
            image = read_image(file)
        except BadData as error:
            raise SystemExit(str(error)) from error
        labels = predict(normalize(image))
        draw.palette_png(labels, colours).save(output / f"{file.stem}.png")
        overlay = Image.fromarray(draw.overlay(image, labels, colours))
        overlay.save(output / f"{file.stem}_overlay.jpg", quality=92)
    print(f"{len(files)} masks and overlays in {output}")


def described(run: Path) -> tuple[config.Config, list[str], np.ndarray]:
    """The options of a run, the names and the colours of its classes."""
    file = run / "classes.json"
    if not file.exists():
        raise SystemExit(f"{file} is not there: {run} is not the --output folder of a run")
    text = json.loads(file.read_text())
    options = config.from_command_line(["--config", str(run / "config.yaml")])
    return options, text["classes"], np.array(text["colours"], np.uint8)


def found(pictures: tuple[Path, ...]) -> Iterator[Path]:
    for path in pictures:
        if path.is_dir():
            yield from (f for f in sorted(path.iterdir()) if f.suffix.lower() in SUFFIXES)
        elif path.exists():
            yield path
        else:
            raise SystemExit(f"{path}: there is no such file")


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
