"""``report.html``: how a run went, in one file that needs no server, to keep or to send."""

import base64
import html
import io
import math
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from segmentation import hosts, writing
from segmentation.config import Config, to_yaml
from segmentation.dataset import Dataset
from segmentation.draw import strip
from segmentation.evaluation import Evaluation, Picture, iou, mean_iou
from segmentation.watch import Record

STYLE = """body { font: 15px/1.5 sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em }
img { max-width: 100%; display: block } figure { margin: 1em 0 } figcaption { color: #555 }
img.picture { width: 100%; image-rendering: pixelated }
.confusion { font-size: 85% }
.confusion th { writing-mode: vertical-rl; text-align: left; font-weight: normal }
td, th { padding: .15em .8em; text-align: right } td:first-child { text-align: left }
i { display: inline-block; width: 1em; height: 1em; margin-right: .4em; vertical-align: -2px }
pre { background: #f4f4f4; padding: 1em; overflow-x: auto }"""


def write(
    file: Path, config: Config, dataset: Dataset, records: list[Record], result: Evaluation
) -> None:
    score = 100 * mean_iou(result.matrix)
    title = f"{config.data}, {config.model}, {config.loss}: mIoU {score:.2f} %"
    sections = [
        f"<h1>{title}</h1>",
        f"<p>{len(dataset)} pictures of the split {config.eval_split}, after {config.steps} steps, "
        f"seed {config.seed}.</p>",
        "<h2>Curves</h2>",
        image(png(curves(records)), "Loss, its parts and scores over the steps"),
        "<h2>Classes</h2>",
        table(dataset, records, result.matrix),
        "<h2>Confusion</h2>",
        *confusion(dataset.classes, result.matrix),
        *shares(),
        "<h2>Best pictures</h2>",
        *(picture(p, dataset.colours) for p in result.best),
        "<h2>Worst pictures</h2>",
        *(picture(p, dataset.colours) for p in result.worst),
        f"<h2>Options</h2><pre>{html.escape(to_yaml(config))}</pre>",
    ]
    head = f"<meta charset='utf-8'><title>{title}</title><style>{STYLE}</style>"
    writing.write_whole(file, f"<!doctype html><html lang='en'>{head}{''.join(sections)}</html>")


def shares() -> list[str]:
    """With several processes: whose best and worst pictures these are. Scores are of all."""
    index, count = hosts.shard()
    if count == 1:
        return []
    return [
        f"<p>The best and the worst are among those that process {index} has read, one picture in "
        f"{count}.</p>"
    ]


def curves(records: list[Record]) -> Figure:
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.2))
    panels = (
        {
            "loss": "loss",
            "cross_entropy": "cross entropy",
            "rmi": "RMI",
            "bce_weight": "weight of cross entropy",
        },
        {"information": "normalized mutual information"},
        {"miou": "mIoU", "accuracy": "pixel accuracy"},
    )
    for axis, panel in zip(axes, panels, strict=True):
        for name, label in panel.items():
            points = [(r["step"], r[name]) for r in records if name in r]
            # A run may be shorter than the interval of its evaluations: then there is one point.
            if points:
                axis.plot(*np.array(points).T, ".-", markersize=3, linewidth=1, label=label)
        axis.set_xlabel("step")
        if axis.lines:
            axis.legend(fontsize=8)
        axis.grid(alpha=0.3)
    figure.tight_layout()
    return figure


def confusion(classes: tuple[str, ...], matrix: np.ndarray) -> list[str]:
    """Up to 40 classes in a table, since a browser has the letters of every script."""
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    note = "Share of each true class (row), by prediction (column)"
    if len(classes) > 40:
        figure, axis = plt.subplots(figsize=(15, 14))
        shown = axis.imshow(shares, vmin=0, vmax=1, cmap="Blues")
        figure.colorbar(shown, shrink=0.7)
        axis.set_xlabel("predicted class")
        axis.set_ylabel("true class")
        figure.tight_layout()
        return [image(png(figure), note)]
    names = [html.escape(name) for name in classes]
    rows = ["<tr><th></th>" + "".join(f"<th>{name}</th>" for name in names) + "</tr>"]
    for name, row in zip(names, shares, strict=True):
        cells = (
            f"<td style='background: rgba(20, 90, 170, {share:.2f})"
            f"{'; color: white' if share > 0.5 else ''}'>{f'{share:.2f}' if share else ''}</td>"
            for share in row
        )
        rows.append(f"<tr><td>{name}</td>{''.join(cells)}</tr>")
    return [f"<table class='confusion'>{''.join(rows)}</table><p>{note}.</p>"]


def table(dataset: Dataset, records: list[Record], matrix: np.ndarray) -> str:
    """Scores of each class, and what the last training steps told of it."""
    # Nothing, where the history of a finished run was lost and the run is started again.
    last = next((r for r in reversed(records) if "information_per_class" in r), {})
    unknown = [math.nan] * len(dataset.classes)
    columns = (
        [f"{100 * v:.2f}" for v in iou(matrix)],
        [f"{100 * v:.2f}" for v in matrix.sum(1) / max(matrix.sum(), 1)],
        [f"{v:.3f}" for v in last.get("information_per_class", unknown)],
        [f"{v:.2f}" for v in last.get("slope_per_class", unknown)],
    )
    titles = ("class", "IoU, %", "pixels, %", "mutual information", "slope")
    rows = [f"<tr>{''.join(f'<th>{t}</th>' for t in titles)}</tr>"]
    names = zip(dataset.classes, dataset.colours, strict=True)
    for (name, colour), *values in zip(names, *columns, strict=True):
        mark = f"<i style='background: rgb{tuple(colour.tolist())}'></i>{html.escape(name)}"
        cells = (f"<td>{'–' if v == f'{math.nan}' else v}</td>" for v in values)
        rows.append(f"<tr><td>{mark}</td>{''.join(cells)}</tr>")
    note = (
        "Mutual information (normalized, 0 to 1) and slope are of the last training steps. A slope "
        "far above 1, or negative, is a class that mutual information alone cannot bring forward."
    )
    return f"<table>{''.join(rows)}</table><p>{note}</p>"


def picture(shown: Picture, colours: np.ndarray) -> str:
    buffer = io.BytesIO()
    whole = Image.fromarray(strip(shown, colours))
    whole.thumbnail((1200, 800))
    whole.save(buffer, "png")
    caption = f"{html.escape(shown.name)}: picture, truth, prediction; mIoU {100 * shown.score:.1f}"
    return image(buffer.getvalue(), f"{caption} %", "picture")


def png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    plt.close(figure)
    return buffer.getvalue()


def image(data: bytes, caption: str, kind: str = "plot") -> str:
    source = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    return f"<figure><img class='{kind}' src='{source}'><figcaption>{caption}</figure>"
