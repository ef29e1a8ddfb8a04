"""Sphinx: MyST pages, the API reference from docstrings, and examples that run."""

import re
from importlib.metadata import version as installed

from sphinx.application import Sphinx

project = "Counterpoint"
author = "The Counterpoint developers"
copyright = f"2026, {author}"
release = version = installed("counterpoint")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.doctest",
    "sphinx.ext.mathjax",
]
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_numpy_docstring = False

doctest_test_doctest_blocks = ""  # examples in docstrings run in tests/test_examples.py
doctest_global_setup = """
import numpy as np
import torch
import counterpoint as cp
torch.manual_seed(0)
"""

html_theme = "furo"
html_title = f"Counterpoint {version}"

CODE = re.compile(r"(``.+?``|:\w+:`.+?`|`.+?`_?)")


def plain_mathematics(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Escape the mathematics of docstrings, which are plain text with ``code``.

    A star or a bar is mathematics, and an indented block of a module is a formula.
    """
    written: list[str] = []
    literal = False
    for line in lines:
        indented = line.startswith("    ")
        if what == "module" and indented and not literal and not (written and written[-1]):
            written += ["::", ""]
            literal = True
        literal = literal and (indented or not line)
        pieces = CODE.split(line)
        pieces[::2] = [
            re.sub(r"(?<!\\)([*|])|(?<=\w)(?<!\\)_(?!\w)", lambda hit: "\\" + hit.group(), piece)
            for piece in pieces[::2]
        ]
        written.append(
            line if literal or line.lstrip().startswith(("..", ">>>")) else "".join(pieces)
        )
    lines[:] = written


def without_copies(
    app: Sphinx, what: str, name: str, obj: object, skip: bool, options: object
) -> bool | None:
    """Leave out ``for_data`` of each method, which ``Method.for_data`` describes."""
    return True if name == "for_data" and hasattr(obj, "__wrapped__") else None


def setup(app: Sphinx) -> None:
    app.connect("autodoc-skip-member", without_copies)
    app.connect("autodoc-process-docstring", plain_mathematics, priority=900)  # after napoleon
