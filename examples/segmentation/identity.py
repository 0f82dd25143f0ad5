"""What a run is trained on, kept in its checkpoints, so that it does not go on with other data.

Paths do not count, so that a run may move with its data.
"""

import hashlib
from pathlib import Path
from typing import Any

from segmentation.config import Config
from segmentation.dataset import Dataset, Table

SAMPLED = 8  # pictures that are compared byte by byte, with their masks

Identity = dict[str, Any]


def of(config: Config, dataset: Dataset) -> Identity:
    """For JSON. Of the pictures themselves it has digests of a few, evenly spread."""
    samples = getattr(dataset.reader, "samples", ())
    weights = config.weights if config.weights and config.weights.is_file() else None
    chosen = [samples[i * len(samples) // SAMPLED] for i in range(SAMPLED) if samples]
    return {
        "root": str(config.root and config.root.absolute()),
        "table": str(config.table and config.table.absolute()),
        "classes": list(dataset.classes),
        "meanings": sorted(
            meanings(dataset.classes, table) for table in {s.table for s in samples}
        ),
        "pictures": len(dataset),
        "names": digest("\n".join(dataset.names).encode()),
        "content": [
            digest(b"".join(content(file) for file in (s.image, s.mask, s.view) if file))
            for s in chosen
        ],
        "weights": str(config.weights),
        "weights_content": digest(content(weights)) if weights else None,
    }


def meanings(classes: tuple[str, ...], table: Table) -> str:
    """Of the pixels of masks."""
    names = dict(enumerate(classes))
    form = "#{:06x}" if table.is_rgb else "{}"
    return ", ".join(
        f"{form.format(pixel)} {names.get(meaning, 'ignored')}" for pixel, meaning in table.meanings
    )


def continued(before: Identity, now: Identity, folder: Path) -> Identity:
    """What the run is from now on; where it was another, ends with a message that names both."""
    found = differences(before, now)
    if found:
        raise SystemExit(
            f"{folder} holds a run that was trained on something else:\n" + "\n".join(found) + "\n"
            "Choose another --output, or repeat the options it began with."
        )
    # The file of weights may be gone meanwhile.
    return now | {"weights_content": before.get("weights_content")}


def differences(before: Identity, now: Identity) -> list[str]:
    """One line for each, with what it was and what it is."""

    def differs(name: str) -> bool:
        return before.get(name) != now[name]

    def line(title: str, *names: str) -> str:
        shown = ("; ".join(text(side.get(name)) for name in names) for side in (before, now))
        return f"  {title}: " + " -> ".join(shown)

    found = []
    if differs("classes"):
        found.append(line("classes", "classes"))
    if differs("meanings"):
        found.append(line("values in masks", "meanings"))
    if differs("names"):
        found.append(line("names of the training pictures (number; digest)", "pictures", "names"))
    elif is_other(before.get("content", []), now["content"]):
        found.append(line("training pictures under the same names", "root"))
    is_gone = now["weights_content"] is None and not differs("weights")
    if differs("weights_content") and not is_gone:
        found.append(line("weights to start from", "weights"))
    if found:  # not reasons by themselves, but where to look
        found += [line(name, name) for name in ("root", "table") if differs(name)]
    return found


def is_other(before: list[str], now: list[str]) -> bool:
    """Whether more than half of the pictures have changed; fewer may have been repaired."""
    return len(before) != len(now) or 2 * sum(map(str.__ne__, before, now)) > len(now)


def text(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list) else str(value)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def content(file: Path) -> bytes:
    """Of a file, empty where it cannot be read; whoever needs the file will say so."""
    try:
        return file.read_bytes()
    except OSError:
        return b""
