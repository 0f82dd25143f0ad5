"""One JSON line a run, with its settings, the commit and the versions that it was made with."""

import json
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

HERE = Path(__file__).parent


def read(folder: Path) -> list[dict[str, Any]]:
    """All runs of the files in a folder."""
    return [run for file in sorted(folder.glob("*.jsonl")) for run in read_file(file)]


def read_file(file: Path) -> list[dict[str, Any]]:
    """Its runs. A line that a stopped run left torn is passed over."""
    runs = []
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else []:
        try:
            runs.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return runs


def append(record: dict[str, Any], file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    torn = bool(text) and not text.endswith("\n")  # gets a line of its own
    with file.open("a", encoding="utf-8") as stream:
        stream.write("\n" * torn + json.dumps(record) + "\n")


def circumstances() -> dict[str, Any]:
    """Where and with what a run was made."""
    git = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"],
        cwd=HERE, capture_output=True, text=True, check=False,
    )  # fmt: skip
    packages = ("jax", "flax", "optax", "numpy")
    return {
        "commit": git.stdout.strip() or "unknown",
        "device": f"{jax.devices()[0].device_kind}, {platform.machine()}, {os.cpu_count()} cores",
        "versions": {"python": platform.python_version(), **{p: version(p) for p in packages}},
    }
