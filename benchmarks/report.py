"""Table and plots from the measurements: ``python -m benchmarks.report RESULTS.json``.

Prints the table as Markdown, and writes it beside the JSON; plots go to docs/images.
"""

import json
import math
import pathlib
import statistics
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

ROOT = pathlib.Path(__file__).parents[1]
LABELS = {
    "streaming": "rmi_jax, streaming",
    "patches": "rmi_jax, patches",
    "optax_bce": "cross entropy (Optax)",
    "rmi_pytorch_float64": "rmi-pytorch, float64",
    "rmi_pytorch_float32": "rmi-pytorch, float32",
}
# x axis, the cases, and what x is in the case
PLOTS = {
    "resolution": (
        "side of the image, pixels",
        ["voc-3-129", "voc-3-257", "voc-3", "voc-3-1025"],
        "side",
    ),
    "classes": ("classes present", ["voc-3", "voc-8", "voc-21"], "present"),
}


def seconds(result: dict, contestant: str, what: str = "gradient") -> float:
    """Median, or NaN where there is none."""
    entry = result["contestants"].get(contestant, {})
    times = entry.get(what, {}).get("seconds")
    return statistics.median(times) if times and "error" not in entry else math.nan


def working_bytes(result: dict, contestant: str) -> float:
    """What loss + gradient take beside their arguments: told by the compiler, or by the system."""
    entry = result["contestants"].get(contestant, {})
    if "error" in entry:
        return math.nan
    compiled = entry.get("gradient", {})
    if "temporaries" in compiled:
        return compiled["temporaries"] + compiled["outputs"]
    return entry.get("peak_bytes", math.nan)


def _cell(value: float, text: str) -> str:
    return "" if math.isnan(value) else text.format(value)


def table(results: dict) -> str:
    head = ["case", "logits", "classes present", "pixels per cell", "ms", "forward ms"]
    head += ["range ms", "compile s", "memory / logits"]
    head += [f"x {LABELS[name]}" for name in LABELS if name != "streaming"]
    rows = [head, ["---"] * len(head)]
    for name, result in results["cases"].items():
        case, ours = result["case"], seconds(result, "streaming")
        entry = result["contestants"]["streaming"]["gradient"]
        logits_bytes = 4 * math.prod(case["shape"])
        low, high = min(entry["seconds"]), max(entry["seconds"])
        row = [
            name,
            " x ".join(map(str, case["shape"])),
            str(case["present"]),
            str(case["factor"]),
            f"{1e3 * ours:.0f}",
            f"{1e3 * seconds(result, 'streaming', 'forward'):.0f}",
            f"{1e3 * low:.0f} to {1e3 * high:.0f}",
            f"{entry['compile_s']:.1f}",
            f"{working_bytes(result, 'streaming') / logits_bytes:.2f}",
        ]
        for other in LABELS:
            if other != "streaming":
                failed = result["contestants"].get(other, {}).get("error")
                ratio = _cell(seconds(result, other) / ours, "{:.2g}")
                row.append("failed" if failed else ratio)
        rows.append(row)
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"


def plot(results: dict, name: str, folder: pathlib.Path) -> None:
    label, wanted, what = PLOTS[name]
    found = [results["cases"][case] for case in wanted if case in results["cases"]]
    x = [r["case"]["present"] if what == "present" else r["case"]["shape"][1] for r in found]
    figure, (time_axis, memory_axis) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for contestant, text in LABELS.items():
        options = {
            "marker": "o",
            "label": text,
            "linewidth": 2.5 if contestant == "streaming" else 1,
        }
        time_axis.plot(x, [seconds(r, contestant) for r in found], **options)
        memory_axis.plot(x, [working_bytes(r, contestant) / 1e6 for r in found], **options)
    time_axis.set(title="loss and gradient, seconds", xlabel=label, yscale="log")
    memory_axis.set(title="memory beside the arguments, MB", xlabel=label, yscale="log")
    for axis in (time_axis, memory_axis):
        axis.set_xticks(x)
        axis.grid(alpha=0.3)
    handles, texts = time_axis.get_legend_handles_labels()
    figure.legend(handles, texts, loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(folder / f"benchmark_{name}.png", dpi=110)
    plt.close(figure)


def main() -> None:
    path = pathlib.Path(sys.argv[1])
    results = json.loads(path.read_text(encoding="utf-8"))
    markdown = table(results)
    path.with_suffix(".md").write_text(markdown, encoding="utf-8")
    print(markdown)
    for name in PLOTS:
        plot(results, name, ROOT / "docs" / "images")


if __name__ == "__main__":
    main()
