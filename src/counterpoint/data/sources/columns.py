"""Columns by name, as the mapping of arrays that they are: which of them are labels
and covariates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from counterpoint.data.ambiguity import ReadOptions
from counterpoint.data.dataset import Dataset
from counterpoint.data.source import Request, Shared
from counterpoint.data.sources.mappings import from_mapping

SHARED: frozenset[Shared] = frozenset(
    {"missing", "fractions", "labels", "covariates", "modalities"}
)
"""What sources of columns read of the options of ``load``."""


def with_roles(columns: Mapping[str, Any], request: Request) -> dict[str, Any]:
    """Put ``label/`` and ``covariate/`` before the names of columns that ``load`` names
    so.

    Raises:
        ValueError: a column that there is not. TypeError: no list of names.
    """
    roles = {}
    for head, named in (("label", request.labels), ("covariate", request.covariates)):
        for name in _names(f"{head}s", named):
            if name not in columns:
                raise ValueError(
                    f"{request.called} has no column {name!r} for {head}s; "
                    f"its columns are {', '.join(columns)}"
                )
            roles[name] = f"{head}/{name}"
    return {roles.get(name, name): values for name, values in columns.items()}


def opened(
    name: str,
    request: Request,
    options: ReadOptions,
    read: Callable[[Any], Mapping[str, Any]],
) -> Dataset:
    """Open one object, or a mapping of splits to such objects.

    Args:
        name: of the data set.
        request: what is asked.
        options: how arrays are read.
        read: makes arrays by name of an object.
    """
    source = request.source
    arrays = (
        {part: with_roles(read(one), request) for part, one in source.items()}
        if isinstance(source, Mapping)
        else with_roles(read(source), request)
    )
    return from_mapping(
        name,
        arrays,
        modalities=request.records,
        fractions=request.fractions,
        seed=request.seed,
        options=options,
    )


def _names(option: str, given: Any) -> Sequence[str]:
    if given is None:
        return ()
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise TypeError(f"{option}={given!r:.60} must be a list of names of columns")
    return given


def each(source: object, kind: Callable[[object], bool]) -> bool:
    """Whether an object is of a kind, or a mapping of nothing but such objects."""
    if isinstance(source, Mapping):
        return bool(source) and all(map(kind, source.values()))
    return kind(source)
