"""The table of all sources. To add a data set, write its module and name its source
here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_type_hints

from counterpoint.core.checks import shown
from counterpoint.data.sets import (
    celebamask,
    cub,
    digits,
    mortality,
    omics,
    polymnist,
    shapes,
    svhn,
    usps,
)
from counterpoint.data.source import Indexed, Source
from counterpoint.data.sources import (
    arrays,
    hugging_face,
    image_folder,
    mappings,
    scverse,
    table,
    torch_rows,
)
from counterpoint.data.streams import opening

SETS: dict[str, Source[Any]] = {
    source.name: source
    for source in (
        digits.SOURCE,
        *polymnist.SOURCES,
        *usps.SOURCES,
        *svhn.SOURCES,
        cub.SOURCE,
        celebamask.SOURCE,
        *shapes.SOURCES,
        *omics.SOURCES,
        mortality.SOURCE,
    )
}
"""The sets that have a name."""

KINDS: tuple[Source[Any], ...] = (
    image_folder.SOURCE,
    scverse.SOURCE,
    opening.SOURCE,
    arrays.SOURCE,
)
"""The kinds of files, in the order in which a path is tried."""

OBJECTS: tuple[Source[Any], ...] = (
    table.SOURCE,
    torch_rows.SOURCE,
    hugging_face.SOURCE,
)
"""The kinds of objects in memory, in the order in which one is tried."""

MAPPING = mappings.SOURCE
"""Arrays in memory."""


def names() -> dict[str, str]:
    """Return the names of the known data sets, and a line about each.

    >>> names()["scgem"]
    '177 cells: expression 32 and methylation 27, 5 classes; reads a file'
    """
    return {name: source.about for name, source in SETS.items()}


def find(source: str | Path | Mapping[str, Any] | Indexed) -> Source[Any]:
    """Return what a source is: a named set, a kind of file, a kind of object, or a
    mapping.

    >>> find("scgem").option_names
    ('fold',)

    Raises:
        FileNotFoundError: neither a name nor a path that is there.
        ValueError: an empty name, or a file of no known kind.
        TypeError: an object of no known kind.
    """
    if not isinstance(source, str | Path):
        return _of_object(source)
    if isinstance(source, str) and source in SETS:
        return SETS[source]
    if not str(source).strip():
        raise ValueError(
            f"source={source!r} names nothing; give the name of a data set, a folder or a file"
        )
    path = Path(source)
    for kind in KINDS:
        if kind.recognises is not None and kind.recognises(path):
            return kind
    if path.exists():
        raise ValueError(
            f"{path} is neither a folder, a .parquet or .tar shard, an index, "
            "nor an .npz, .h5mu or .h5ad file; convert it, or give a mapping of tables"
        )
    raise FileNotFoundError(
        f"no data set and no path called {str(source)!r}; the known data sets are {', '.join(SETS)}"
    )


def _of_object(source: Mapping[str, Any] | Indexed) -> Source[Any]:
    for kind in OBJECTS:
        if kind.holds is not None and kind.holds(source):
            return kind
    if isinstance(source, Mapping):
        return MAPPING
    raise TypeError(
        f"source={shown(source)} must be a text, a path, a mapping, a table of pandas, "
        "or a data set of torch or of Hugging Face"
    )


def all_options() -> dict[str, dict[str, Any]]:
    """Return all options of all sources: by option, by source, its annotation."""
    options: dict[str, dict[str, Any]] = {}
    for source in (*SETS.values(), *KINDS, MAPPING):
        hints = get_type_hints(source.options)
        for name in source.option_names:
            options.setdefault(name, {})[source.name] = hints[name]
    return options
