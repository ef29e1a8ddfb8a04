"""Show records in a terminal and in a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from torch import Tensor


def html_lines(title: str, lines: Sequence[str]) -> str:
    """Return a title and a list of lines as HTML.

    >>> html_lines("Split of 3 rows", ["a 2 normal"])
    '<b>Split of 3 rows</b><ul><li>a 2 normal</li></ul>'
    """
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<b>{escape(title)}</b><ul>{items}</ul>"


def html_table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a title and a table as HTML.

    >>> html_table("Latents", ["key", "dim"], [["z", 4]])
    '<b>Latents</b><table><tr><th>key</th><th>dim</th></tr><tr><td>z</td><td>4</td></tr></table>'
    """

    def row(cells: Sequence[object], tag: str) -> str:
        return "".join(f"<{tag}>{escape(str(cell))}</{tag}>" for cell in cells)

    body = "".join(f"<tr>{row(cells, 'td')}</tr>" for cells in rows)
    return f"<b>{escape(title)}</b><table><tr>{row(header, 'th')}</tr>{body}</table>"


def html_text(text: str) -> str:
    """Return a text that is aligned by blanks as HTML.

    >>> html_text("a < b")
    '<pre>a &lt; b</pre>'
    """
    return f"<pre>{escape(text)}</pre>"


def sizes(shape: Sequence[int]) -> str:
    """The sizes of the axes.

    >>> sizes((3, 32, 32))
    '3×32×32'
    """
    return "×".join(map(str, shape))


def cut(text: str, most: int = 100) -> str:
    """Cut a text to so many characters.

    >>> cut("a long text", 6)
    'a l...'
    """
    return text if len(text) <= most else f"{text[: most - 3]}..."


def described_tensor(values: object) -> str:
    """The shape of a tensor; anything else as it is.

    >>> import torch
    >>> described_tensor(torch.zeros(2, 3))
    '(2, 3)'
    """
    return str(tuple(values.shape) if isinstance(values, Tensor) else values)
