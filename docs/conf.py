"""Sphinx: MyST pages, the API reference from docstrings, and examples that run.

A page of docs/tutorials is a notebook: it is executed when it is read.
"""

import re
from importlib.metadata import version as installed
from importlib.resources import files
from pathlib import Path

import nbformat
from docutils import nodes
from jupyter_client.manager import KernelManager
from sphinx.application import Sphinx

project = "Counterpoint"
author = "The Counterpoint developers"
copyright = f"2026, {author}"
release = version = installed("counterpoint")

extensions = [
    "myst_nb",  # myst_parser, and pages that are notebooks
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.doctest",
    "sphinx.ext.mathjax",
]
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]

nb_execution_mode = "force"  # a cache would not see that the package has changed
nb_execution_in_temp = True  # a notebook needs nothing of this folder
nb_execution_raise_on_error = True
nb_execution_timeout = 600  # seconds for each cell
KernelManager.transport_encryption.default_value = "auto"  # else each kernel warns
nb_output_stderr = "warn"  # with --fail-on-warning, a warning fails the build

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
html_static_path = ["_static", str(files("sphinx-mathjax-offline") / "static")]
mathjax_path = "mathjax/tex-chtml.js"  # of the site itself: no page asks for anything outside
html_css_files = ["notebooks.css"]
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


OF_THE_SITE = (
    (re.compile(r"^\{nb-download\}.*\n*", re.MULTILINE), ""),
    (re.compile(r"\{py:\w+\}`~(?:\w+\.)*(\w+)`"), r"`\1`"),
    (re.compile(r"\{py:\w+\}"), ""),
    (re.compile(r"^!\[.*\]\((?!http).*\)\n*", re.MULTILINE), ""),
    (re.compile(r"(?<!!)\[([^]]+)\]\((?!http)[^)]*\)"), r"\1"),
)
"""What means something on the site alone: the download, roles, pictures and links."""


def plain_notebook(app: Sphinx, doctree: nodes.document) -> None:
    """Rewrite the executed notebook of a page for Jupyter, without checks and links into the site."""
    path = Path(app.env.mystnb_config.output_folder, f"{app.env.docname}.ipynb")
    if app.env.docname not in app.env.nb_metadata or not path.exists():
        return
    notebook = nbformat.read(path, as_version=4)
    notebook.cells = [
        cell for cell in notebook.cells if "remove-cell" not in cell.metadata.get("tags", ())
    ]
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for pattern, replacement in OF_THE_SITE:
                cell.source = pattern.sub(replacement, cell.source)
    nbformat.write(notebook, path)


def setup(app: Sphinx) -> None:
    app.connect("doctree-read", plain_notebook)
    app.connect("autodoc-skip-member", without_copies)
    app.connect("autodoc-process-docstring", plain_mathematics, priority=900)  # after napoleon
