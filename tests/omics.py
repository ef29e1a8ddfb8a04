"""A small MuData whose parts are known: counts of genes and levels of proteins that
hang on the kind of a cell, unpaired in part."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse

md = pytest.importorskip("mudata")
pandas = pytest.importorskip("pandas")
anndata = pytest.importorskip("anndata")

KINDS = ("B", "NK", "T")
GENES, PROTEINS, DEPTH = 18, 5, 40


def mudata(mods: dict[str, Any]) -> Any:
    """A MuData as of mudata 0.4: columns of obs stay with their modalities."""
    with md.set_options(pull_on_update=False), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "obs_names are not unique", UserWarning)
        return md.MuData(mods)


def saved(mdata: Any, path: Path) -> Path:
    with md.set_options(pull_on_update=False):
        mdata.write_h5mu(path)
    return path


def mdata_of(rows: int = 80, seed: int = 0) -> Any:
    """Cells c0 .. of kinds that go round; rna of all but the last quarter, adt of all
    but the first quarter, from the last cell back.

    Genes of a kind are three times as frequent in it; proteins are its number and noise
    of a half. Label ``kind``, batch ``donor`` (a, b), private label ``phase`` of rna.
    """
    rng = np.random.default_rng(seed)
    kind = np.arange(rows) % 3
    names = np.char.add("c", np.arange(rows).astype(str))
    some, others = np.arange(rows - rows // 4), np.arange(rows // 4, rows)[::-1]
    rates = np.where(np.arange(GENES) % 3 == kind[:, None], 3.0, 1.0)
    counts = rng.poisson(DEPTH * rates / rates.sum(1, keepdims=True)).astype(np.float32)
    levels = (
        kind[:, None] * np.linspace(-2, 2, PROTEINS) + 0.5 * rng.normal(size=(rows, PROTEINS)) + 10
    ).astype(np.float32)
    rna = anndata.AnnData(
        sparse.csr_matrix(counts[some]),
        obs=pandas.DataFrame(
            {"phase": pandas.Categorical(np.where(some % 2, "G1", "S"))}, index=names[some]
        ),
        var=pandas.DataFrame(index=[f"g{i}" for i in range(GENES)]),
    )
    adt = anndata.AnnData(
        levels[others],
        obs=pandas.DataFrame(index=names[others]),
        var=pandas.DataFrame(index=["p0", "CD/1", "p2", "p3", "p4"]),
    )
    result = mudata({"rna": rna, "adt": adt})
    result.obs["kind"] = pandas.Categorical(
        np.array(KINDS)[[int(i[1:]) % 3 for i in result.obs_names]]
    )
    result.obs["donor"] = np.where(np.arange(rows) % 2, "a", "b")
    return result
