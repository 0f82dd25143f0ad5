"""The code in pages does what the page says, on 8 virtual devices: that on several needs them."""

import contextlib
import io
import json
import re
import traceback
from pathlib import Path

import pytest
from processes import run_in_process

import rmi_jax

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted(page for page in DOCS.glob("*.md") if "```{testcode}" in page.read_text())


@pytest.fixture(scope="module")
def mistakes():
    """By page. One process for all pages: starting it takes longer than the code of a page."""
    done = run_in_process(__file__, 8)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("page", [page.name for page in PAGES])
def test_page(page, mistakes):
    assert mistakes.pop(page) == ""


def test_every_public_name_is_documented():
    page = (DOCS / "api.md").read_text()
    documented = set(re.findall(r"(?:autofunction|autoclass|py:data):: (\w+)", page))
    functions = {name for name in rmi_jax.__all__ if name != "metrics"}
    assert functions == documented
    for module in ("metrics", "boundary_metrics", "image_metrics"):
        assert f"automodule:: rmi_jax.{module}\n   :members:" in page


def run(path):
    """Runs the `testcode` blocks of a page, and compares what they print with `testoutput`."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    import optax

    names = {"jax": jax, "jnp": jnp, "np": np, "optax": optax, "rmi_jax": rmi_jax}
    printed, blocks = "", 0
    for kind, block in re.findall(r"```{(testcode|testoutput)}\n(.*?)```", path.read_text(), re.S):
        if kind == "testcode":
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(block, names)
            printed = out.getvalue()
            blocks += 1
        else:
            assert printed.split() == block.split(), f"printed {printed}, expected {block}"
    assert blocks > 0


def mistake(path):
    try:
        run(path)
    except Exception:
        return traceback.format_exc()
    return ""


if __name__ == "__main__":
    print(json.dumps({page.name: mistake(page) for page in PAGES}))
