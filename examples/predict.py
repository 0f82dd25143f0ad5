"""Classes of pictures, by a network that train.py has trained.

    python examples/predict.py outputs/train pictures/*.jpg --output predictions

For each picture there will be a mask NAME.png, whose pixels are class indices with the colours of
the classes, and NAME_overlay.jpg, the picture with the mask laid over it. Of a folder all pictures
are taken, also in folders within it; the output has the same folders. Started again with the same
command, it goes on where it was stopped. Nothing of a loss is imported: a network trained with RMI
predicts like any other.
"""

import hashlib
import io
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import tyro
from PIL import Image
from tqdm import tqdm

from segmentation import checkpoints, config, draw, images, models, texts, windows, writing
from segmentation.augment import normalize
from segmentation.dataset import read_image
from segmentation.listing import listing, without_ending
from segmentation.problems import BadData

LONGEST = 65_500  # pixels along a side of a JPEG file


def main(
    run: Annotated[Path, tyro.conf.Positional],
    pictures: Annotated[tuple[Path, ...], tyro.conf.Positional],
    output: Path = Path("outputs/predict"),
    batch: int = 8,
    max_pixels: int = images.LIMIT,
) -> None:
    """Writes a mask and an overlay for each picture.

    Args:
        run: the --output folder of train.py.
        pictures: files, or folders of them.
        output: folder to write to. No file there that this did not write is replaced.
        batch: windows at a time.
        max_pixels: larger pictures are refused, since their files may be made to fill the memory.
    """
    for name, value in (("batch", batch), ("max-pixels", max_pixels)):
        if value < 1:
            raise SystemExit(f"--{name} must be at least 1, got {value}")
    named = found(pictures, output)
    outputs = [file for name in named.values() for file in written(output, name)]
    writing.check(*outputs)
    if both := {file.resolve() for file in named} & {file.resolve() for file in outputs}:
        raise BadData(f"{min(both)}: is a picture, and would be replaced. Choose another --output")
    options, classes, colours = described(run)
    network = models.build(
        options.model,
        len(classes),
        backbone=options.backbone,
        dtype=options.dtype,
        seed=options.seed,
    )
    step, weights = checkpoints.weights(run / "checkpoints", network.weights)
    print(f"{run}, step {step}, classes: {', '.join(classes)}")
    predict = windows.predictor(network, options.crop, batch)(weights)
    network_and_windows = (options.model, options.backbone, options.dtype, options.crop)
    state = digest([repr(network_and_windows), colours, *jax.tree.leaves(weights)])
    done, bad = 0, []
    for file, name in tqdm(named.items(), unit="picture"):
        mask_file, overlay_file = written(output, name)
        try:
            source = digest([state, file.read_bytes()])
            if all(writing.is_from(made, source) for made in (mask_file, overlay_file)):
                done += 1
                continue
            image = read_image(file, max_pixels)
            labels = predict(normalize(image))
        except BadData as error:
            bad.append(str(error))
            continue
        except OSError as error:
            bad.append(f"{file}: cannot be read, {error.strerror}")
            continue
        except MemoryError:
            bad.append(f"{file}: needs more memory than there is")
            continue
        mask_file.parent.mkdir(parents=True, exist_ok=True)
        writing.write_whole(
            mask_file, encoded(draw.palette_png(labels, colours), "png"), source=source
        )
        overlay = Image.fromarray(draw.overlay(image, labels, colours))
        overlay.thumbnail((LONGEST, LONGEST))
        writing.write_whole(overlay_file, encoded(overlay, "jpeg"), source=source)
    made = len(named) - len(bad)
    print(f"{made} masks and overlays in {output}{f', {done} of them from before' if done else ''}")
    if bad:
        raise BadData("\n".join([f"{len(bad)} pictures without a mask:", *bad]))


def described(run: Path) -> tuple[config.Config, list[str], np.ndarray]:
    """The options of a run, the names and the colours of its classes."""
    file = run / "classes.json"
    if not file.exists():
        raise SystemExit(f"{file} is not there: {run} is not the --output folder of a run")
    text = json.loads(texts.read(file, "what a run leaves"))
    options = config.from_command_line(["--config", str(run / "config.yaml")])
    return options, text["classes"], np.array(text["colours"], np.uint8)


def found(pictures: tuple[Path, ...], output: Path | None = None) -> dict[Path, str]:
    """The pictures, and for each the name that its mask will have."""
    files = {file: name for path in pictures for file, name in inside(path, output)}
    if not files:
        raise BadData(f"{', '.join(map(str, pictures))}: holds no picture")
    alike: dict[str, Path] = {}  # some file systems keep neither case nor Unicode forms apart
    for file, name in files.items():
        other = alike.setdefault(texts.same(name).casefold(), file)
        if other.resolve() != file.resolve():
            raise BadData(f"{other} and {file} would have one name, {name}: predict them apart")
    return files


def inside(path: Path, output: Path | None) -> Iterable[tuple[Path, str]]:
    if not path.exists():
        raise BadData(f"{path}: there is no such file")
    if not path.is_dir():
        return [(path, without_ending(path.name))]
    # What an earlier start has written is no picture to predict.
    is_within = output is not None and output.resolve() != path.resolve()
    there = listing(path, without=output if is_within else None, skip=writing.is_own)
    for line in there.told():
        print(line)
    return [(file, name) for name, file in there.files.items()]


def written(output: Path, name: str) -> tuple[Path, Path]:
    return output / f"{name}.png", output / f"{name}_overlay.jpg"


def encoded(picture: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, quality=92) if kind == "jpeg" else picture.save(buffer, kind)
    return buffer.getvalue()


def digest(parts: Iterable[Any]) -> str:
    total = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        total.update(data if isinstance(data, bytes) else np.asarray(data).tobytes())
    return total.hexdigest()


if __name__ == "__main__":
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # for file names of any script
    try:
        tyro.cli(main, description=__doc__)
    except (BadData, OSError) as error:  # as of a full disk
        sys.exit(f"\n{error}")
