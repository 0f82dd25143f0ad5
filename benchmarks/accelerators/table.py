"""The results as Markdown."""

from typing import Any

from benchmarks.accelerators.cases import CASES
from benchmarks.accelerators.targets import TARGETS

_HEAD = ["case", "ms", "x Optax", "bar", "GB", "launches", "host syncs", "MB", "x logits"]
_HEAD += ["compile s"]


def table(results: dict[str, Any]) -> str:
    shape = " x ".join(map(str, results["shape"]))
    parts = [f"Logits {shape}, loss and gradient. Estimated, not measured."]
    for target, found in results["targets"].items():
        fewest = None
        rows = [_HEAD, ["---"] + ["--:"] * (len(_HEAD) - 1)]
        if "optax" in found and "visits" in found["optax"]:
            rows.append(_floor(found["optax"], target))
        for name, case in CASES.items():
            if name not in found:
                continue
            result = found[name]
            if "visits" not in result:
                rows.append([case.name, result["error"]] + [""] * (len(_HEAD) - 2))
                continue
            visits = result["visits"]
            fewest = fewest or min(visits, key=int)
            optax = found.get("optax", {}).get("visits", {}).get(fewest, {}).get("seconds")
            bar = case.bar.get(TARGETS[target].platform)
            rows.append(_row(case.name, result, optax, bar))
        parts.append(f"**{target}**")
        parts.append("\n".join("| " + " | ".join(row) + " |" for row in rows))
    return "\n\n".join(parts) + "\n"


def _floor(result: dict[str, Any], target: str) -> list[str]:
    moved = result["arguments"] + result["outputs"]
    seconds = moved / TARGETS[target].bandwidth
    row = ["logits read, gradient written", f"{1e3 * seconds:.2f}", "", "", f"{moved / 1e9:.1f}"]
    return row + [""] * (len(_HEAD) - len(row))


def _row(name: str, result: dict[str, Any], optax: float | None, bar: float | None) -> list[str]:
    visits = result["visits"]
    few, *more = (visits[n] for n in sorted(visits, key=int))

    def each(form) -> str:
        """The figure at the fewest visits, and at the most where it is another."""
        texts = list(dict.fromkeys(form(estimate) for estimate in (few, *more[-1:])))
        return " / ".join(texts)

    beside = result["outputs"] + result["temporaries"]
    return [
        name,
        each(lambda e: f"{1e3 * e['seconds']:.2f}"),
        each(lambda e: f"{e['seconds'] / optax:.1f}") if optax else "",
        f"{bar:g}" if bar else "",
        each(lambda e: f"{e['traffic'] / 1e9:.1f}"),
        each(lambda e: f"{e['launches']}"),
        each(lambda e: f"{e['syncs']}"),
        f"{result['temporaries'] / 1e6:.0f}",
        f"{beside / result['outputs']:.2f}",
        f"{result['compile_s']:.0f}",
    ]
