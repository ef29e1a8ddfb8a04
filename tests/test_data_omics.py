"""Omics: MuData objects and files, named sets, what is refused and what is skipped."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omics import DEPTH, GENES, KINDS, PROTEINS, mdata_of, mudata, saved
from scipy import sparse

import counterpoint as cp
from counterpoint.data import Dataset, load
from counterpoint.data.sets import omics as sets
from counterpoint.data.sources import assemble

pandas = pytest.importorskip("pandas")
anndata = pytest.importorskip("anndata")


def rows_of(data: Dataset, modality: str) -> dict[str, np.ndarray]:
    """By id, the row of a modality that has it."""
    splits = data.splits().values()
    return {
        str(i): s.x[modality][k]
        for s in splits
        for k, i in enumerate(s.ids if s.ids is not None else ())
        if s.present[modality][k]
    }


def labels_of(data: Dataset, label: str) -> dict[str, int]:
    return {
        str(i): int(k)
        for s in data.splits().values()
        for i, k in zip(s.ids, s.shared_labels[label], strict=True)
    }  # type: ignore[arg-type]


def dense(mod: Any) -> dict[str, np.ndarray]:
    """By id, the rows of an AnnData."""
    values = mod.X.toarray() if sparse.issparse(mod.X) else np.asarray(mod.X)
    return dict(zip(map(str, mod.obs_names), values, strict=True))


# ------------------------------------------------------------------------------------------------ what is read


def test_every_observation_keeps_its_rows_its_labels_and_what_it_lacks() -> None:
    mdata = mdata_of()
    data = cp.setup_mudata(
        mdata, labels="kind", private_labels={"rna": "phase"}, batch="donor", standardise=False
    )
    assert [(m.name, m.shape, m.likelihood, m.scale) for m in data.modalities] == [
        ("rna", (GENES,), "nb", None),
        ("adt", (PROTEINS,), "normal", None),
    ]
    assert (
        data.modalities[0].features == tuple(mdata["rna"].var_names)
        and data.modalities[1].features[1] == "CD/1"
    )
    for name in ("rna", "adt"):
        found, expected = rows_of(data, name), dense(mdata[name])
        assert found.keys() == expected.keys()
        assert all(np.allclose(found[i], expected[i]) for i in expected)
    assert sum(len(s) for s in data.splits().values()) == mdata.n_obs > mdata["adt"].n_obs
    assert data.notes["label/kind"] == ", ".join(KINDS)
    assert labels_of(data, "kind") == {i: KINDS.index(k) for i, k in mdata.obs["kind"].items()}
    phase = dict(zip(data.train.ids, data.train.private_labels["phase"]["rna"], strict=True))  # type: ignore[arg-type]
    expected = mdata["rna"].obs["phase"]
    assert all(
        k == (-1 if i not in expected.index else ["G1", "S"].index(expected[i]))
        for i, k in phase.items()
    )
    assert data.train.x["rna"].dtype == np.uint8 and data.train.x["adt"].dtype == np.float32
    assert data.train.covariate_names == ("donor=a", "donor=b") == data.modalities[0].covariates
    donors = [["a", "b"].index(mdata.obs["donor"][i]) for i in data.train.ids]  # type: ignore[union-attr]
    assert (data.train.covariates == np.eye(2)[donors]).all()


def test_the_division_is_seeded_and_alike_in_every_class_and_every_set_of_modalities() -> None:
    mdata = mdata_of(rows=300)
    data, again, other = (
        cp.setup_mudata(mdata, labels="kind", fractions=(0.6, 0.2, 0.2), seed=seed)
        for seed in (1, 1, 2)
    )
    assert data.checksum() == again.checksum() != other.checksum()
    lacking = np.isin(mdata.obs_names, mdata["adt"].obs_names)
    whole = pandas.crosstab(mdata.obs["kind"].astype(str).to_numpy(), lacking).to_numpy()
    for part, share in (("train", 0.6), ("val", 0.2), ("test", 0.2)):
        split = data.splits()[part]
        here = pandas.crosstab(split.shared_labels["kind"], split.present["adt"]).to_numpy()
        assert np.abs(here - share * whole).max() <= 2


def test_a_column_divides_instead() -> None:
    mdata = mdata_of()
    mdata.obs["fold"] = np.where(
        np.arange(mdata.n_obs) % 3 == 0,
        "test",
        np.where(np.arange(mdata.n_obs) % 3 == 1, "val", "train"),
    )
    data = cp.setup_mudata(mdata, splits="fold")
    assert data.val.ids is not None and set(data.val.ids) == {*mdata.obs_names[1::3]}
    mdata.obs.loc["c4", "fold"] = "holdout"
    with pytest.raises(
        ValueError, match="column 'fold' says 'holdout' of c4; expected train, val or test"
    ):
        cp.setup_mudata(mdata, splits="fold")


def test_sparse_and_dense_tables_of_either_order_and_any_dtype_say_the_same() -> None:
    checksums = set()
    for convert in (
        lambda x: x,
        sparse.csc_matrix,
        lambda x: x.toarray(),
        lambda x: x.toarray().astype(np.int64),
        sparse.csr_array,
    ):
        mdata = mdata_of()
        mdata["rna"].X = convert(mdata["rna"].X)
        checksums.add(cp.setup_mudata(mdata, top_features=GENES - 4).checksum())
    assert len(checksums) == 1


def test_likelihoods_are_inferred_and_layers_are_read() -> None:
    mdata = mdata_of()
    counts = mdata["rna"].X
    mdata["rna"].layers["counts"] = counts
    mdata["rna"].X = np.log1p(counts.toarray())
    mdata.mod["adt"].X = (mdata["adt"].X > 10).astype(float)
    families = [m.likelihood for m in cp.setup_mudata(mdata).modalities]
    assert families == ["normal", "bernoulli"]
    data = cp.setup_mudata(mdata, layers={"rna": "counts"}, modalities={"rna": None})
    assert [(m.name, m.likelihood) for m in data.modalities] == [("rna", "nb")]
    assert set(np.unique(cp.setup_mudata(mdata, modalities={"adt": "beta"}).train.x["adt"])) == {
        0.0,
        1.0,
    }
    zero_inflated = cp.setup_mudata(mdata, layers={"rna": "counts"}, modalities={"rna": "zinb"})
    assert (
        zero_inflated.modalities[0].likelihood == "zinb"
        and zero_inflated.train.x["rna"].dtype.kind in "iu"
    )


def test_features_are_those_of_the_largest_variance_over_the_train_rows() -> None:
    mdata = mdata_of(rows=200)
    data = cp.setup_mudata(
        mdata, labels="kind", top_features={"rna": 7, "adt": 2}, fractions=(0.5, 0.25, 0.25)
    )
    ids = [*map(str, data.train.ids)]  # type: ignore[arg-type]
    counts = np.stack([row for i, row in dense(mdata["rna"]).items() if i in ids])
    logs = np.log1p(counts / counts.sum(1, keepdims=True) * np.median(counts.sum(1)))
    best = sorted(np.argsort(-logs.var(0))[:7])
    assert data.modalities[0].features == tuple(mdata["rna"].var_names[best])
    proteins = np.stack([row for i, row in dense(mdata["adt"]).items() if i in ids])
    assert data.modalities[1].features == tuple(
        mdata["adt"].var_names[sorted(np.argsort(-proteins.var(0))[:2])]
    )
    found, expected = rows_of(data, "rna"), dense(mdata["rna"])
    assert all((found[i] == expected[i][best]).all() for i in found)
    assert "7 of the 18 of rna" in data.notes["features"]


def test_continuous_features_are_standardised_by_the_train_rows_and_come_back() -> None:
    mdata = mdata_of()
    data = cp.setup_mudata(mdata)
    train = data.train.x["adt"][data.train.present["adt"]]
    np.testing.assert_allclose(train.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(train.std(0), 1, atol=1e-5)
    rna, adt = data.modalities
    assert not rna.units and len(adt.units) == PROTEINS and "adt" in data.notes["standardised"]
    found, expected = rows_of(data, "adt"), dense(mdata["adt"])
    for i, row in found.items():
        np.testing.assert_allclose(
            adt.original(torch.from_numpy(row)), expected[i], rtol=1e-4, atol=1e-4
        )
    assert not data.test.x["adt"][~data.test.present["adt"]].any()


def test_rows_of_nan_were_not_measured() -> None:
    mdata = mdata_of()
    mdata["adt"].X[30] = np.nan
    lost = str(mdata["adt"].obs_names[30])
    data = cp.setup_mudata(mdata)
    assert rows_of(data, "adt").keys() == {*map(str, mdata["adt"].obs_names)} - {lost}


def test_labels_of_a_modality_unknown_values_and_numbers() -> None:
    mdata = mdata_of()
    mdata.obs["number"] = np.arange(mdata.n_obs) % 3 * 10.0
    mdata.obs.loc["c5", "kind"] = np.nan
    data = cp.setup_mudata(mdata, labels=["rna:phase", "number", "kind"])
    assert data.notes["label/number"] == "0, 10, 20"
    assert [labels_of(data, "number")[f"c{i}"] for i in (0, 1, 2)] == [0, 1, 2]
    assert labels_of(data, "kind")["c5"] == -1
    assert {
        k for i, k in labels_of(data, "rna:phase").items() if i not in mdata["rna"].obs_names
    } == {-1}


def test_modalities_of_one_anndata_are_parted_by_kind_or_named_in_obsm() -> None:
    mdata = mdata_of()
    adata = mdata["rna"].copy()
    adata.var["feature_types"] = ["Gene Expression"] * (GENES - 3) + ["Antibody Capture"] * 3
    data = cp.setup_mudata(adata)
    assert [(m.name, m.shape) for m in data.modalities] == [("rna", (GENES - 3,)), ("prot", (3,))]
    del adata.var["feature_types"]
    adata.obs["kind"] = [KINDS[int(i[1:]) % 3] for i in adata.obs_names]
    adata.obsm["protein"] = pandas.DataFrame(
        np.random.default_rng(0).poisson(9, (adata.n_obs, 2)), adata.obs_names, ["CD4", "CD8"]
    )
    data = cp.setup_mudata(adata, modalities={"data": "nb", "protein": "nb"}, labels="kind")
    assert [(m.name, m.features[-2:]) for m in data.modalities] == [
        ("data", ("g16", "g17")),
        ("protein", ("CD4", "CD8")),
    ]
    assert all(s.present["protein"].all() for s in data.splits().values())


# --------------------------------------------------------------------------------------------- what is refused

Change = Any


def duplicated_ids(mdata: Any) -> Any:
    rna = mdata["rna"].copy()
    rna.obs_names = ["c1" if i == "c0" else i for i in rna.obs_names]
    return mudata({"rna": rna, "adt": mdata["adt"].copy()})


def other_ids(mdata: Any) -> Any:
    adt = mdata["adt"].copy()
    adt.obs_names = [f"{i}-1" for i in adt.obs_names]
    return mudata({"rna": mdata["rna"].copy(), "adt": adt})


def stale(mdata: Any) -> Any:
    mdata["adt"].obs_names = [*mdata["adt"].obs_names[::-1]]
    return mdata


def put(row: int, column: int, value: float, name: str = "rna") -> Change:
    def change(mdata: Any) -> Any:
        x = mdata[name].X.toarray() if sparse.issparse(mdata[name].X) else mdata[name].X
        x[row, column] = value
        mdata[name].X = x if name == "adt" else sparse.csr_matrix(x)
        return mdata

    return change


def empty_cell(mdata: Any) -> Any:
    x = mdata["rna"].X.toarray()
    x[22] = 0
    mdata["rna"].X = sparse.csr_matrix(x)
    return mdata


def same_names(mdata: Any) -> Any:
    mdata["rna"].var_names = ["g1", *mdata["rna"].var_names[1:]]
    return mdata


def one_class(mdata: Any) -> Any:
    mdata.obs["kind"] = "B"
    return mdata


def no_donor(mdata: Any) -> Any:
    mdata.obs.loc["c7", "donor"] = np.nan
    return mdata


def nothing(mdata: Any) -> Any:
    for name in ("rna", "adt"):
        x = mdata[name].X.toarray() if sparse.issparse(mdata[name].X) else mdata[name].X
        x = x.astype(float)
        x[[*mdata[name].obs_names].index("c20")] = np.nan
        mdata[name].X = x
    return mdata


BAD = [
    (
        duplicated_ids,
        "observation c1 stands in several rows; make the ids unique",
        "1 observations whose id repeats (c1)",
        {"c1"},
    ),
    (
        put(24, 3, -2),
        "modality 'rna': row 24 (c24), feature g3 holds -2, a negative count; name the layer of raw counts",
        "negative count (c24)",
        set(),
    ),
    (
        put(24, 3, 1.5),
        "modality 'rna': row 24 (c24), feature g3 holds 1.5, no whole number",
        "that hold no whole number (c24)",
        set(),
    ),
    (
        put(30, 2, np.nan, "adt"),
        "modality 'adt': row 30 (c49), feature p2 holds nan, no number",
        "hold no number (c49)",
        set(),
    ),
    (
        empty_cell,
        "modality 'rna': c22 has no counts in the 18 features",
        "observations of rna without counts (c22)",
        set(),
    ),
    (
        same_names,
        "modality 'rna': feature g1 stands in several columns",
        "1 features of rna whose name repeats (g1)",
        set(),
    ),
    (
        one_class,
        "label 'kind' has 1 class among the train rows, and a probe needs two; leave it out",
        "1 labels of one class (kind)",
        set(),
    ),
    (
        no_donor,
        "observation c7 has no value of the batch column 'donor'; fill it in",
        "1 observations without donor (c7)",
        {"c7"},
    ),
    (
        nothing,
        "observation c20 has none of the modalities rna, adt",
        "1 observations with nothing left (c20)",
        {"c20"},
    ),
]


@pytest.mark.parametrize(
    ("change", "message", "note", "gone"),
    BAD,
    ids=[message.split(" holds")[0][-30:] for _, message, _, _ in BAD],
)
def test_what_is_bad_is_named_or_skipped_and_listed(
    change: Change, message: str, note: str, gone: set[str]
) -> None:
    mdata = change(mdata_of())
    if "donor" not in mdata.obs:
        mdata.obs["donor"], mdata.obs["kind"] = (
            "a",
            [KINDS[int(i[1:]) % 3] for i in mdata.obs_names],
        )
    options = {
        "labels": "kind",
        "batch": "donor" if mdata.obs["donor"].nunique() > 1 else (),
        "modalities": {"rna": "nb", "adt": "normal"},
    }
    with pytest.raises(ValueError) as caught:
        cp.setup_mudata(mdata, name="cells.h5mu", **options)
    assert (
        str(caught.value).startswith("cells.h5mu: ")
        and message in str(caught.value)
        and "\n" not in str(caught.value)
    )
    with pytest.warns(UserWarning, match="cells.h5mu: skipped 1 ") as warned:
        data = cp.setup_mudata(mdata, name="cells.h5mu", skip_bad=True, **options)
    assert len(warned) == 1 and note in data.notes["skipped"] and note in str(warned[0].message)
    ids = {str(i) for s in data.splits().values() for i in s.ids}  # type: ignore[union-attr]
    assert ids == {*map(str, mdata.obs_names)} - gone
    if "rna that hold" in note or "without counts" in note:  # the rest of the row stays
        assert note.partition("(")[2].rstrip(")") not in rows_of(data, "rna")
    if "features of" in note:
        name = "adt" if "adt" in note else "rna"
        assert (
            note.partition("(")[2].rstrip(")")
            not in next(m for m in data.modalities if m.name == name).features
        )
    if "labels" in note:
        assert not data.train.shared_labels


def test_many_that_are_bad_are_counted_and_not_all_listed() -> None:
    mdata = mdata_of()
    mdata["rna"].X = sparse.csr_matrix(
        mdata["rna"].X.toarray() * np.where(np.arange(mdata["rna"].n_obs) < 30, 1, 1.01)[:, None]
    )
    with pytest.raises(
        ValueError, match=r"row 30 \(c30\), feature g\d+ holds .*, no whole number \(and 29 more\)"
    ):
        cp.setup_mudata(mdata, modalities={"rna": "nb", "adt": None})
    with pytest.warns(
        UserWarning,
        match=r"skipped 30 observations of rna that hold no whole number \(c30, c31, c32, … and 27 more\)",
    ):
        cp.setup_mudata(mdata, modalities={"rna": "nb", "adt": None}, skip_bad=True)


@pytest.mark.parametrize(
    ("change", "options", "error", "message"),
    [
        (other_ids, {}, ValueError, "modality 'rna' shares no observation with another: its first id is c0, that of 'adt' is c79-1"),
        (stale, {}, ValueError, r"modality 'adt' has other ids than the whole says: c\d+ there is c\d+ here; call mdata.update"),
        (None, {"labels": "kinds"}, ValueError, "mudata has no obs column 'kinds'; did you mean 'kind'. it has kind, donor, rna:phase"),
        (None, {"batch": ["doner"]}, ValueError, "no obs column 'doner'; did you mean 'donor'"),
        (None, {"modalities": {"rma": "nb"}}, ValueError, "no modality 'rma'; did you mean 'rna'. it has rna, adt"),
        (None, {"modalities": {"rna": "poisson"}}, ValueError, "unknown likelihood 'poisson'; choose one of normal, laplace, nb, zinb, bernoulli, beta"),
        (None, {"layers": {"rna": "counts"}}, ValueError, "no layer of 'rna' 'counts'; it has none"),
        (None, {"layers": {"atac": "counts"}}, ValueError, "'atac' is not among the modalities that are read"),
        (None, {"top_features": {"atac": 3}}, ValueError, "'atac' is not among the modalities that are read"),
        (None, {"private_labels": {"adt": "phase"}}, ValueError, "no obs column 'adt:phase'"),
        (None, {"modalities": {"adt": "beta", "rna": None}}, ValueError, "no observation has modality 'adt' when 60 observations of adt that hold"),
        (None, {"top_features": 0}, ValueError, "top_features 0 must be 1 or more"),
        (None, {"fractions": (0.5, 0.5, 0.5)}, ValueError, "sum to 1"),
        (None, {"fractions": (0.998, 0.001, 0.001)}, ValueError, "val: a split is empty|test: a split is empty"),
        (lambda m: m.obs.insert(0, "age", np.arange(m.n_obs) / 7) or m, {"labels": "age"}, TypeError, "label 'age' holds numbers that are no classes"),
        (lambda m: m.obs.insert(0, "code", [*m.obs_names]) or m, {"labels": "code"}, ValueError, "label 'code' has 80 classes in 80 observations"),
        (lambda m: m.obs.insert(0, "a/b", "x") or m, {"labels": "a/b"}, ValueError, "column 'a/b' holds '/'"),
        (lambda m: m["rna"], {"modalities": {"protein": "nb"}}, ValueError, "no modality 'protein'; it has data"),
        (lambda m: m["rna"].X, {}, TypeError, "expected a MuData or AnnData object, got csr_matrix"),
    ],
)  # fmt: skip
def test_what_cannot_be_skipped_is_refused_in_one_line(
    change: Change, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    mdata = mdata_of()
    with pytest.raises(error, match=message) as caught:
        cp.setup_mudata(mdata if change is None else change(mdata), **{"skip_bad": True, **options})
    assert "\n" not in str(caught.value)


def test_more_than_the_memory_holds_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assemble, "memory", lambda: 5e3)
    with pytest.raises(
        ValueError,
        match=r"80 observations of 23 features take 3.04e-06 GB, more than half .* keep fewer of the 18 of 'rna' by top_features",
    ):
        cp.setup_mudata(mdata_of())
    assert len(cp.setup_mudata(mdata_of(), top_features=9).train) == 64


# ------------------------------------------------------------------------------------------------------ files


def test_files_say_what_objects_say_and_nothing_is_unpickled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mdata = mdata_of()
    path = saved(mdata, tmp_path / "cells.h5mu")
    adata = mdata["rna"].copy()
    adata.write_h5ad(tmp_path / "rna.h5ad")
    options: dict[str, Any] = {"labels": ["kind"], "batch": ["donor"], "top_features": 9}
    direct = cp.setup_mudata(mdata, name="cells.h5mu", **options)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a file was unpickled")

    monkeypatch.setattr(pickle, "load", refuse)
    monkeypatch.setattr(pickle, "loads", refuse)
    monkeypatch.setattr(pickle, "Unpickler", refuse)
    data = load(path, **options)
    assert (
        data.checksum() == direct.checksum()
        and data.name == "cells.h5mu"
        and data.notes == direct.notes
    )
    assert data.modalities == direct.modalities
    single = load(tmp_path / "rna.h5ad", modalities={"data": "nb"}, labels=["phase"])
    assert [m.name for m in single.modalities] == ["data"] and len(single.train) == 48


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    whole = saved(mdata_of(), tmp_path / "whole.h5mu").read_bytes()
    (tmp_path / "half.h5mu").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.h5mu").write_text("hello")
    (tmp_path / "empty.h5ad").write_bytes(b"")
    damaged = bytearray(whole)
    for at in range(3000, len(damaged), 700):
        damaged[at] ^= 255
    (tmp_path / "damaged.h5mu").write_bytes(damaged)
    for name in ("half.h5mu", "text.h5mu", "empty.h5ad", "damaged.h5mu"):
        with pytest.raises(ValueError, match=f"{name} is truncated or no .h5[a-z]* file") as caught:
            load(tmp_path / name)
        assert "\n" not in str(caught.value)
    with pytest.raises(FileNotFoundError, match=r"no file .*none\.h5mu"):
        load(tmp_path / "none.h5mu")


@pytest.mark.parametrize(
    ("source", "options", "error", "message"),
    [
        ("cells.h5mu", {"size": 32}, ValueError, "'size' does not apply to .*cells.h5mu"),
        (
            "cells.h5mu",
            {"labels": {"a": [0]}},
            TypeError,
            "'labels' of .*cells.h5mu must be a list, not a mapping",
        ),
        (
            "cells.h5mu",
            {"modalities": [cp.Modality("rna", (3,))]},
            TypeError,
            "'modalities' of .*cells.h5mu must be a mapping, not a list",
        ),
        (
            {"a": np.zeros((9, 2))},
            {"labels": ["a"]},
            TypeError,
            "'labels' of a mapping must be a mapping, not a list",
        ),
        (
            {"a": np.zeros((9, 2))},
            {"batch": ["a"]},
            ValueError,
            "'batch' does not apply to a mapping",
        ),
        ("scgem", {"skip_bad": True}, ValueError, "'skip_bad' does not apply to scgem"),
        ("scgem", {"fold": 5}, ValueError, r"fold 5 of scgem must lie in \[0, 4\]"),
    ],
)
def test_options_that_do_not_apply_are_refused(
    source: Any, options: Any, error: type[Exception], message: str, tmp_path: Path
) -> None:
    np.savez(tmp_path / "scgem_unioncom.npz", **npz_of("scgem"))
    saved(mdata_of(), tmp_path / "cells.h5mu")
    with pytest.raises(error, match=message):
        load(
            str(tmp_path / source)
            if isinstance(source, str) and source.endswith(".h5mu")
            else source,
            root=tmp_path,
            **options,
        )


# ------------------------------------------------------------------------------------------------- named sets


def npz_of(name: str) -> dict[str, np.ndarray]:
    """The arrays of a named set, few and random."""
    rng = np.random.default_rng(0)
    kinds = np.arange(60) % 3 + 1
    if name == "tcga-brca":
        tables = {
            key: rng.normal(size=(60, d)).astype(np.float32)
            for key, d in (("expression", 6), ("methylation", 4), ("mirna", 5))
        }
        return {
            **tables,
            "cluster": kinds,
            "sample": np.char.add("s", np.arange(60).astype(str)),
            "methylation_feature": np.array([*"abcd"]),
        }
    if name == "scgem":
        expression = rng.normal(size=(60, 6))
        expression[:, 2] = 0
        return {
            "gene_expression": expression,
            "dna_methylation": (rng.random((60, 4)) < 0.5).astype(np.float32),
            "cell_type": kinds,
        }
    if name == "snareseq":
        return {
            "atac": rng.integers(1, 90, (60, 4)).astype(np.float32),
            "rna": rng.normal(size=(60, 3)),
            "cell_type": kinds,
        }
    rna = sparse.csr_matrix(rng.poisson(2, (60, 30)).astype(np.uint16))
    proteins = ["CD8", "CD5", "CD4", "CD11c", "CD19"]
    adt = np.tile([0, 30, 0, 0, 0], (60, 1))
    adt[np.arange(60), np.array([0, 2, 3, 4, 0])[np.arange(60) % 5]] = (
        60  # CD8 T, CD4 T, myeloid, B, CD8 T
    )
    adt[55:, 0] = 10  # no gate
    adt[4::5, 1] = 5  # NK, dim in CD8 or not
    adt[:, 1] += np.arange(60) % 7
    hto = np.where(np.arange(4) == (np.arange(60) % 4)[:, None], 95, 1)
    hto[8] = [50, 50, 0, 0]
    return {
        "rna_data": rna.data,
        "rna_indices": rna.indices,
        "rna_indptr": rna.indptr,
        "rna_shape": np.array(rna.shape),
        "rna_feature": np.array([f"hg19_G{i}" for i in range(30)]),
        "adt": adt,
        "adt_feature": np.array(proteins),
        "hto": hto,
        "cell": np.char.add("cell", np.arange(60).astype(str)),
    }


FILES = {
    "tcga-brca": "tcga_brca348_rjive",
    "scgem": "scgem_unioncom",
    "snareseq": "snareseq_scot",
    "citeseq": "citeseq_citefuse",
}


@pytest.mark.parametrize("name", FILES)
def test_folds_of_a_named_set_part_its_rows_alike_in_every_class(name: str, tmp_path: Path) -> None:
    (tmp_path / "omics").mkdir()
    np.savez(tmp_path / "omics" / f"{FILES[name]}.npz", **npz_of(name))
    folds = [load(name, root=tmp_path, fold=k, seed=3) for k in range(5)]
    tested = [i for data in folds for i in data.test.ids]  # type: ignore[union-attr]
    assert len(tested) == len(set(tested)) == 60
    for k, data in enumerate(folds):
        assert set(data.val.ids) == set(folds[(k + 1) % 5].test.ids) and len(data.train) == 36  # type: ignore[arg-type]
        label = next(iter(data.test.shared_labels))
        counts = np.bincount(data.test.shared_labels[label][data.test.shared_labels[label] >= 0])
        assert counts.max() - counts.min() <= 1 or name == "citeseq"


def test_what_is_done_to_the_named_sets(tmp_path: Path) -> None:
    for name, file in FILES.items():
        np.savez(tmp_path / f"{file}.npz", **npz_of(name))
    scgem = load("scgem", root=tmp_path)
    assert [(m.name, len(m.features), m.likelihood) for m in scgem.modalities] == [
        ("expression", 5, "normal"),
        ("methylation", 4, "bernoulli"),
    ]
    assert scgem.modalities[0].features[2] == "expression 4"
    raw, snareseq = npz_of("snareseq")["atac"], load("snareseq", root=tmp_path)
    i = int(snareseq.test.ids[0])  # type: ignore[index]
    np.testing.assert_allclose(
        snareseq.modalities[0].original(torch.from_numpy(snareseq.test.x["atac"][0])),
        np.log(raw[i] / raw[i].sum()),
        rtol=1e-4,
    )
    citeseq = load("citeseq", root=tmp_path, top_features=12)
    assert [(m.name, len(m.features), m.likelihood) for m in citeseq.modalities] == [
        ("rna", 12, "nb"),
        ("adt", 5, "nb"),
    ]
    assert citeseq.modalities[0].features[0].startswith("G")
    assert citeseq.notes["label/lineage"] == "CD8 T, NK, CD4 T, myeloid, B"
    lineage, hashtag = labels_of(citeseq, "lineage"), labels_of(citeseq, "hashtag")
    assert [lineage[f"cell{i}"] for i in (0, 1, 2, 3, 4, 55, 59)] == [0, 2, 3, 4, 1, -1, 1]
    assert [hashtag[f"cell{i}"] for i in (0, 1, 7, 8)] == [0, 1, 3, -1]


def test_files_of_named_sets_that_lack_or_are_corrupt_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"scgem_unioncom.npz is neither in .*omics nor in"):
        load("scgem", root=tmp_path)
    np.savez(tmp_path / "scgem_unioncom.npz", gene_expression=np.zeros((3, 2)))
    with pytest.raises(
        ValueError, match="corrupt or lacks one of gene_expression, dna_methylation, cell_type"
    ):
        load("scgem", root=tmp_path)


def test_the_real_sets_are_what_their_lines_say(real_data: Path) -> None:
    expected = {
        "tcga-brca": (348, {"expression": 645, "methylation": 574, "mirna": 423}, [82, 93, 173]),
        "scgem": (177, {"expression": 32, "methylation": 27}, [35, 40, 32, 36, 34]),
        "snareseq": (1047, {"atac": 19, "rna": 10}, [379, 324, 201, 143]),
        "citeseq": (500, {"rna": 1000, "adt": 49}, None),
    }
    for name, (rows, sizes, classes) in expected.items():
        data = load(name, root=real_data)
        assert (
            sum(len(s) for s in data.splits().values()) == rows
            and {m.name: m.shape[0] for m in data.modalities} == sizes
        )
        labels = np.concatenate(
            [next(iter(s.shared_labels.values())) for s in data.splits().values()]
        )
        assert classes is None or np.bincount(labels).tolist() == classes
    lineage = np.concatenate([s.shared_labels["lineage"] for s in data.splits().values()])
    assert (np.bincount(lineage + 1)[1:] >= 20).all() and (lineage < 0).mean() < 0.06
    # a marker of each lineage, which no gate has seen, is where it should be
    data = load("citeseq", root=real_data, top_features=6000)
    rows = np.concatenate([s.x["rna"] for s in data.splits().values()])
    shares = rows / rows.sum(1, keepdims=True)
    genes = [*data.modalities[0].features]
    for number, marker in enumerate(("CD8A", "GNLY", "IL7R", "LYZ", "CD79A")):
        means = [shares[lineage == k, genes.index(marker)].mean() for k in range(5)]
        assert int(np.argmax(means)) == number, marker


def test_gates_name_proteins_of_the_set() -> None:
    assert {protein for _, protein, _ in sets.GATES} < {
        "CD5",
        "CD4",
        "CD11c",
        "CD19",
        "CD8",
    } and DEPTH > 0
