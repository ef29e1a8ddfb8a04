"""One pandas table as a data set: groups of its columns are the modalities.

- Columns of two levels, ``(MODALITY, FEATURE)``: a modality for each name of the first
  level.
- Other columns: the modalities of ``modalities=``, each of which names its
  ``features``; without them, one modality ``table`` of all columns that are no labels
  and no covariates.

The index names the rows. A mapping of several tables is
:mod:`counterpoint.data.sources.mappings`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from counterpoint.core.modality import Modality
from counterpoint.data.ambiguity import ReadOptions
from counterpoint.data.dataset import Dataset
from counterpoint.data.source import Request, Source
from counterpoint.data.sources.columns import SHARED, opened


def is_table(source: object) -> bool:
    """Whether it is a DataFrame of pandas."""
    return hasattr(source, "iloc") and hasattr(source, "columns")


def groups_of(
    table: Any, modalities: Sequence[Modality] | None, roles: Sequence[str]
) -> dict[str, Any]:
    """Tables by modality, and the columns of labels and covariates.

    Args:
        table: a DataFrame.
        modalities: whose features are columns.
        roles: names of labels and covariates.

    Raises:
        ValueError: a modality without features, or whose features are no columns.
    """
    if table.columns.nlevels > 1:
        return {str(name): table[name] for name in table.columns.unique(0)}
    single = {str(name): table[name] for name in table.columns if name in roles}
    if modalities is None:
        return {"table": table.drop(columns=[*single]), **single}
    groups = {}
    for modality in modalities:
        lacking = [name for name in modality.features if name not in table.columns]
        if lacking or not modality.features:
            what = f"no column {lacking[0]!r}" if lacking else "to know its columns"
            raise ValueError(
                f"modality {modality.name!r} needs features that are columns of the table: {what}"
            )
        groups[modality.name] = table[[*modality.features]]
    return {**groups, **single}


def open_table(request: Request, options: ReadOptions) -> Dataset:
    """Open a table of pandas."""
    roles = [*(request.labels or ()), *(request.covariates or ())]
    read = partial(groups_of, modalities=request.records, roles=roles)
    return opened("table", request, options, read)


SOURCE = Source(
    "table",
    "one table of pandas, whose columns are divided among modalities",
    ReadOptions,
    open_table,
    SHARED,
    infers=True,
    holds=is_table,
)
