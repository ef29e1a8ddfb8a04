"""Show records in a terminal and in a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from counterpoint.core.modality import Modality


def described(modality: Modality) -> str:
    """Describe a modality on one line: name, shape and likelihood.

    >>> described(Modality("image", (3, 32, 32), "laplace", 0.75))
    'image 3×32×32 laplace'
    """
    return f"{modality.name} {'×'.join(map(str, modality.shape))} {modality.likelihood}"


def html_lines(title: str, lines: Sequence[str]) -> str:
    """Return a title and a list of lines as HTML.

    >>> html_lines("Split of 3 rows", ["a 2 normal"])
    '<b>Split of 3 rows</b><ul><li>a 2 normal</li></ul>'
    """
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<b>{escape(title)}</b><ul>{items}</ul>"


def cut(text: str, most: int = 100) -> str:
    """Cut a text to so many characters.

    >>> cut("a long text", 6)
    'a l...'
    """
    return text if len(text) <= most else f"{text[: most - 3]}..."
