"""Assays as they come: counts that repeat, rows that are padding, features that never
vary, batches that look like numbers."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omics import anndata, mdata_of, mudata, pandas, saved
from scipy import sparse

import counterpoint as cp
from counterpoint.data import Dataset
from counterpoint.data.sources.assays import as_table

READ: dict[str, Any] = {"modalities": {"rna": "nb", "adt": "normal"}}


def names_of(data: Dataset, modality: str) -> set[str]:
    """What the observations are called that have a modality."""
    return {
        str(name)
        for s in data.splits().values()
        for name, here in zip(s.ids, s.present[modality], strict=True)
        if here
    }  # type: ignore[arg-type]


def test_counts_that_repeat_are_added_and_do_not_wrap() -> None:
    counts, columns = np.tile(np.array([200, 150, 7], np.uint8), 30), np.tile([0, 0, 1], 30)
    repeated = sparse.csr_matrix((counts, columns, np.arange(0, 91, 3)), shape=(30, 2))
    np.testing.assert_array_equal(as_table(repeated, "x").toarray(), np.tile([350, 7], (30, 1)))
    rows = np.random.default_rng(0).integers(1, 9, 30).astype(np.uint8)
    varied = sparse.csr_matrix(
        (np.stack([counts[::3], counts[1::3], rows], 1).ravel(), columns, np.arange(0, 91, 3)),
        shape=(30, 2),
    )
    data = cp.setup_mudata(
        anndata.AnnData(sparse.hstack([varied, varied[:, [1]] + varied[:, [1]]]).tocsr()),
        modalities={"data": "nb"},
    )
    assert data.notes["constant"] == "left out 1 constant features of data (0)"
    found = np.concatenate([s.x["data"][:, 1] / s.x["data"][:, 0] for s in data.splits().values()])
    np.testing.assert_array_equal(found, 2)


def test_features_that_never_vary_are_left_out_with_a_note() -> None:
    mdata = mdata_of()
    mdata["adt"].X[:, 1] = 7
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = cp.setup_mudata(mdata, **READ)
    assert (
        data.notes["constant"] == "left out 1 constant features of adt (CD/1)"
        and "features" not in data.notes
    )
    assert data.modalities[1].features == ("p0", "p2", "p3", "p4")
    mdata["adt"].X[:] = 7
    with pytest.raises(ValueError, match="modality 'adt' has no feature that varies"):
        cp.setup_mudata(mdata, **READ)


def test_rows_of_zeros_are_said_and_may_be_missing() -> None:
    rng = np.random.default_rng(0)
    names = [f"c{i}" for i in range(200)]
    open_sites = rng.normal(size=(200, 5))
    open_sites[::2] = 0
    padded = mudata(
        {
            "rna": anndata.AnnData(rng.normal(size=(200, 4)), obs=pandas.DataFrame(index=names)),
            "atac": anndata.AnnData(
                open_sites,
                obs=pandas.DataFrame(index=names),
                var=pandas.DataFrame(index=[*"uvwxy"]),
            ),
        }
    )
    with pytest.warns(
        UserWarning, match="100 of 200 cells of atac are zero everywhere.*zeros='missing'"
    ):
        assert names_of(cp.setup_mudata(padded), "atac") == {*names}
    data = cp.setup_mudata(padded, zeros="missing")
    assert names_of(data, "atac") == {*names[1::2]} and names_of(data, "rna") == {*names}
    seen = data.train.x["atac"][data.train.present["atac"]]
    np.testing.assert_allclose(
        seen.std(0), 1, rtol=1e-5
    )  # units are those of the rows that were measured
    counts = mdata_of()
    x = counts["rna"].X.toarray()
    x[22] = 0
    counts["rna"].X = sparse.csr_matrix(x)
    with pytest.raises(
        ValueError, match=r"c22 has no counts .* give zeros='missing' if they were not measured"
    ):
        cp.setup_mudata(counts, **READ)
    assert "c22" not in names_of(cp.setup_mudata(counts, zeros="missing", **READ), "rna")


def test_only_the_kinds_of_badness_that_are_named_are_skipped() -> None:
    mdata = mdata_of()
    x = mdata["rna"].X.toarray()
    x[22], x[24, 3] = 0, -2
    mdata["rna"].X = sparse.csr_matrix(x)
    for kinds in (["empty-cells"], ["bad-values"], "duplicates"):
        with pytest.raises(
            ValueError, match=r"or give skip_bad \((empty-cells|bad-values)\) to leave out such"
        ):
            cp.setup_mudata(mdata, skip_bad=kinds, **READ)
    with pytest.warns(
        UserWarning,
        match=r"skipped 1 observations of rna that hold a negative count \(c24\); 1 .* without counts \(c22\)",
    ):
        data = cp.setup_mudata(mdata, skip_bad=["empty-cells", "bad-values"], **READ)
    assert not {"c22", "c24"} & names_of(data, "rna") and {"c22", "c24"} <= names_of(data, "adt")
    for wrong in ("empty", ["constant"]):
        with pytest.raises(
            ValueError, match=r"skip_bad names .*; choose among duplicates, bad-values, empty-cells"
        ):
            cp.setup_mudata(mdata, skip_bad=wrong, **READ)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"skip_bad of a mapping|'skip_bad' does not apply"):
        cp.data.load({"a": np.ones((9, 2))}, skip_bad=["duplicates"])


def test_values_that_do_not_suit_the_likelihood_that_is_inferred_are_said() -> None:
    rng = np.random.default_rng(0)
    raw = rng.lognormal(3, 3, (60, 5))
    for values, message in (
        (raw, "modality 'data' spans 0 to .* suits logarithms"),
        (rng.poisson(3, (60, 5)) * 0.5, "are fractions"),
    ):
        with pytest.warns(UserWarning, match=message):
            cp.setup_mudata(anndata.AnnData(values, var=pandas.DataFrame(index=[*"abcde"])))
    cp.setup_mudata(
        anndata.AnnData(raw, var=pandas.DataFrame(index=[*"abcde"])), modalities={"data": "normal"}
    )
    with pytest.warns(UserWarning, match="modality 'data' has one feature"):
        cp.setup_mudata(anndata.AnnData(rng.poisson(9, (60, 1)) + 1.0))


def test_batches_that_look_like_numbers_are_said_and_settled(tmp_path: Path) -> None:
    mdata = mdata_of()
    mdata.obs["run"] = np.arange(mdata.n_obs) % 2 * 1.0
    with pytest.warns(
        UserWarning, match="covariate 'run' holds the whole numbers 0 to 1 as floats"
    ):
        assert cp.setup_mudata(mdata, batch="run", **READ).covariate_names == ("run",)
    told = cp.setup_mudata(mdata, batch="run", covariate_kinds={"run": "category"}, **READ)
    assert told.covariate_names == ("run=0", "run=1")
    file = saved(mdata, tmp_path / "cells.h5mu")
    again = cp.data.load(
        file, batch=["run"], covariate_kinds={"run": "category"}, modalities=READ["modalities"]
    )
    np.testing.assert_array_equal(again.train.covariates, told.train.covariates)
    mdata.obs["site"] = pandas.array([1, 2] * (mdata.n_obs // 2), dtype="Int64")
    assert cp.setup_mudata(mdata, batch="site", **READ).covariate_names == ("site=1", "site=2")
    mdata.obs["dose"] = pandas.array(np.linspace(0, 1, mdata.n_obs), dtype="Float64")
    assert cp.setup_mudata(mdata, batch="dose", **READ).covariate_names == ("dose",)


def test_a_file_that_claims_more_than_memory_is_refused(tmp_path: Path) -> None:
    import h5py

    file = saved(mdata_of(), tmp_path / "cells.h5mu")
    with h5py.File(file, "a") as content:
        del content["mod/adt/X"]
        content.create_dataset("mod/adt/X", shape=(10**7, 10**7), dtype="f4", chunks=(1000, 1000))
    with pytest.raises(
        ValueError,
        match=r"cells.h5mu is truncated or no .h5mu file \(its arrays claim 4e\+05 GB, and this machine has",
    ):
        cp.data.load(file)
