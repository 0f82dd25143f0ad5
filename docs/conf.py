"""Sphinx configuration: `python -m sphinx -W docs docs/_build/html`."""

import rmi_jax  # noqa: F401 (what is documented must be importable; fail here if it is not)

project = "rmi_jax"
author = "The rmi_jax authors"
copyright = author

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.doctest",  # shows `testcode`; tests/project/test_docs.py runs it
    "sphinx.ext.mathjax",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]

myst_enable_extensions = ["amsmath", "colon_fence", "dollarmath"]
myst_heading_anchors = 3

napoleon_google_docstring = True
napoleon_numpy_docstring = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the signature says them, and the docstring the shapes
python_use_unqualified_type_names = True
default_role = "code"

html_theme = "sphinx_book_theme"
html_title = "rmi_jax"
html_static_path = []
html_theme_options = {"show_toc_level": 2}
