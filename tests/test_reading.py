"""The one door for values: what a value means depends on the modality, and not on its
dtype, container, order or shape."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omics import mdata_of

import counterpoint as cp
from counterpoint.cli import main
from counterpoint.core.batch import Batch
from counterpoint.core.conversion import read_as
from counterpoint.core.modality import Modality
from counterpoint.data import Split, load
from counterpoint.data.sources.mudata_files import quiet

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 3, 4, 5), dtype=np.uint8)
VECTORS = np.random.default_rng(1).integers(0, 9, (6, 7)).astype(np.float32)
GENES = tuple(f"g{i}" for i in range(7))
IMAGE = Modality("image", (3, 4, 5))
VECTOR = Modality("vector", (7,), "normal", features=GENES)
SIZES: dict[str, Any] = {
    "shared_dim": 3,
    "private_dim": 2,
    "networks": cp.NetworkOptions(hidden=(16,), width=4),
}


@pytest.fixture(scope="module")
def model() -> cp.Method:
    torch.manual_seed(0)
    return cp.MMVAEPlus([IMAGE, VECTOR], **SIZES).eval()


def z_of(model: cp.Method, x: Any) -> torch.Tensor:
    return model.encode(x).shared


def test_a_value_means_the_same_in_every_dtype_and_container(model: cp.Method) -> None:
    import pandas as pd
    from scipy import sparse

    known = z_of(model, {"image": PIXELS, "vector": VECTORS})
    table = pd.DataFrame(VECTORS, columns=GENES)
    images: list[Any] = [
        PIXELS.astype(np.int64),
        PIXELS.astype(np.uint16),
        PIXELS.astype(np.float64) / 255,
        (PIXELS / 255).astype(">f4"),
        PIXELS.transpose(0, 2, 3, 1),
        (PIXELS / 255).transpose(0, 2, 3, 1),
        np.asfortranarray(PIXELS),
        PIXELS[::-1][::-1],
        torch.from_numpy(PIXELS),
        PIXELS.tolist(),
        torch.from_numpy(PIXELS.astype(np.int32)),
    ]
    vectors: list[Any] = [
        VECTORS.astype(np.uint8),
        VECTORS.astype(">i4"),
        VECTORS.astype(np.uint64),
        VECTORS.tolist(),
        VECTORS.astype(object),
        np.ma.masked_array(VECTORS, False),
        sparse.csr_matrix(VECTORS),
        sparse.coo_array(VECTORS),
        table,
        table[[*reversed(GENES)]],
        table.assign(other=1.0),
        torch.from_numpy(VECTORS).bfloat16(),
        VECTORS[:, ::-1][:, ::-1],
    ]
    for image in images:
        torch.testing.assert_close(z_of(model, {"image": image, "vector": VECTORS}), known)
    for vector in vectors:
        torch.testing.assert_close(z_of(model, {"image": PIXELS, "vector": vector}), known)


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (
            {"image": PIXELS.astype(np.float32)},
            r"row 0 spans \[\d+, \d+\], but an image reads floats in \[0, 1\]; divide them by 255",
        ),
        (
            {"image": np.full((1, 3, 4, 5), -300.0)},
            r"spans \[-300, -300\], but an image reads floats in \[0, 1\]; rescale",
        ),
        ({"image": PIXELS.astype(np.int64) * 257}, r"whole numbers are read as \[0, 255\]"),
        ({"image": PIXELS[:, :, :3]}, r"rows have shape \(3, 3, 5\), expected \(3, 4, 5\)"),
        ({"image": PIXELS[0]}, r"one example of shape \(3, 4, 5\); give rows"),
        (
            {"vector": np.array([[2**63 + 1] * 7], np.uint64)},
            "holds 9223372036854775809, more than 2",
        ),
        ({"vector": np.ma.masked_array(VECTORS, VECTORS > 7)}, "holds NaN or infinity"),
        ({"vector": np.full((2, 7), "3", object)[:, :0]}, "rows have shape"),
    ],
)
def test_what_a_model_does_not_read_is_refused(
    model: cp.Method, x: dict[str, Any], said: str
) -> None:
    with pytest.raises((ValueError, TypeError), match=said) as caught:
        model.encode(x)
    assert "\n" not in str(caught.value)


def test_tables_are_read_by_name(model: cp.Method) -> None:
    import pandas as pd

    table = pd.DataFrame(VECTORS, columns=GENES)
    with pytest.raises(
        ValueError, match=r"feature 'g3' is missing; the model was made with 7 features by name"
    ):
        model.encode({"vector": table.drop(columns="g3")})
    with pytest.raises(ValueError, match=r"column 'g1' is there 2 times"):
        model.encode({"vector": pd.concat([table, table[["g1"]]], axis=1)})
    other = pd.DataFrame(VECTORS * 2, columns=[*"abcdefg"], index=[*range(6)])[::-1]
    twice = Modality("twice", (7,), "normal")
    batch = Batch.of(
        {"vector": table.set_axis(range(6)).drop(index=2), "twice": other},
        modalities=[VECTOR, twice],
    )
    both = batch.present["vector"] & batch.present["twice"]
    assert both.sum() == 5 and torch.equal(batch.x["twice"][both], 2 * batch.x["vector"][both])
    holes = [replace(VECTOR, gaps=True)]
    batch = Batch.of({"vector": table.drop(columns="g3")}, modalities=holes)
    assert batch.entries["vector"].all(0).tolist() == [name != "g3" for name in GENES]
    with pytest.raises(ValueError, match="feature 'g0' is missing"):
        Batch.of({"vector": pd.DataFrame(VECTORS, columns=[*"abcdefg"])}, modalities=holes)


@pytest.mark.parametrize(
    ("present", "kind"),
    [
        (["yes"] * 6, TypeError),
        ([1.0, np.nan] * 3, ValueError),
        ([0, 1, 2, 3, 4, 5], ValueError),
        ([True, None] * 3, ValueError),
    ],
)
def test_presence_is_true_or_false(present: Any, kind: Any) -> None:
    for give in (
        lambda: Batch.of({"vector": VECTORS}, {"vector": present}, modalities=[VECTOR]),
        lambda: Split({"vector": VECTORS}, (VECTOR,), {"vector": present}),
    ):
        with pytest.raises(
            kind, match=r"'present' of 'vector' .*give True or False, or 1 or 0, for each row"
        ):
            give()
    assert (
        Batch.of(
            {"vector": VECTORS, "image": PIXELS}, {"vector": [1, 0] * 3}, modalities=[VECTOR, IMAGE]
        )
        .present["vector"]
        .sum()
        == 3
    )


def test_booleans_zeros_and_ones_and_bytes_of_vectors_agree() -> None:
    flags = np.random.default_rng(2).random((6, 4)) < 0.5
    mask = Modality("mask", (4,), "bernoulli")
    for given in (flags, flags.astype(np.uint8), flags.astype(np.int64), flags.astype(np.float32)):
        assert (
            Batch.of({"mask": given}, modalities=[mask]).x["mask"].tolist()
            == flags.astype(float).tolist()
        )
        split = Split({"mask": given if given.dtype != bool else given.astype(np.uint8)}, (mask,))
        assert split.batch(slice(None)).x["mask"].tolist() == flags.astype(float).tolist()
    drawn = load({"mask": np.random.default_rng(2).random((30, 1, 4, 4)) < 0.5})
    assert drawn.modalities[0].full_scale == 1 and {
        *drawn.train.batch(slice(None)).x["mask"].unique().tolist()
    } == {0.0, 1.0}
    vector = Modality("v", (7,), "normal")
    assert (
        Split({"v": VECTORS.astype(np.uint8)}, (vector,)).batch(slice(None)).x["v"].tolist()
        == VECTORS.tolist()
    )


def test_a_batch_made_by_hand_goes_through_the_door(model: cp.Method) -> None:
    good = Batch.of({"image": PIXELS, "vector": VECTORS}, modalities=model.modalities)
    by_hand = Batch(dict(good.x), dict(good.present))
    assert torch.equal(z_of(model, by_hand), z_of(model, good))
    with pytest.raises(ValueError, match="covariates of 4 rows, expected 6"):
        model.encode(Batch(dict(good.x), dict(good.present), torch.zeros(4, 0)))
    wrong: list[tuple[dict[str, torch.Tensor], str]] = [
        ({"image": good.x["image"] * 255, "vector": good.x["vector"]}, "row 0 of the batch spans"),
        ({"image": good.x["image"], "vector": good.x["vector"][:, :5]}, "holds shape"),
        (
            {"image": good.x["image"], "vector": good.x["vector"] * np.nan},
            "row 0 of the batch holds NaN",
        ),
        (
            {"image": good.x["image"], "vector": good.x["vector"].int()},
            "the batch holds torch.int32, expected floats",
        ),
        ({"image": good.x["image"]}, "the batch has image, and the model knows image, vector"),
    ]
    for x, said in wrong:
        with pytest.raises((ValueError, TypeError), match=said):
            model.encode(Batch(x, {name: good.present[name] for name in x}))


# --- from one reading to another ------------------------------------------------------------------------------------------------


def test_names_that_pytorch_uses_are_names_of_modalities(tmp_path: Path) -> None:
    names = ["type", "train", "keys", "items", "forward", "modules", "z"]
    rng = np.random.default_rng(0)
    data = load({name: rng.normal(size=(20, 3)) for name in names})
    for kind in (cp.IDMVAE, cp.JMVAE, cp.MVAE):
        sizes = {"private_dim": 2} if kind is cp.IDMVAE else {}
        model = kind.for_data(data, shared_dim=2, networks=cp.NetworkOptions(hidden=(8,)), **sizes)
        model.fit(data.train, max_steps=1, batch_size=8, progress=False)
        batch = data.test.batch(slice(None))
        again = cp.load(model.save_pretrained(tmp_path / kind.name))
        assert torch.equal(z_of(again, batch), z_of(model, batch))
        assert torch.equal(z_of(model, batch.only(["type"])), z_of(model, batch.only(["type"])))


@pytest.mark.parametrize("shape", ["12", 2.5, (2.5,), None, (True, "3")])
def test_a_shape_is_whole_numbers(shape: Any) -> None:
    with pytest.raises(
        (TypeError, ValueError), match=r"modality 'a': shape .* must be whole numbers"
    ):
        Modality("a", shape)


def test_one_number_is_the_shape_of_a_vector() -> None:
    assert Modality("a", 5).shape == (5,) and Modality("a", np.int64(5)).shape == (5,)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def cells() -> tuple[Any, cp.data.Dataset, cp.Method]:
    """A MuData of 300 cells, a data set of it with the donor told to decoders, and a
    model that has its units."""
    mdata = mdata_of(rows=300)
    data = cp.setup_mudata(mdata, batch="donor", top_features=14)
    torch.manual_seed(0)
    model = cp.MMVAEPlus.for_data(data, **SIZES)
    model.fit(data.train, max_steps=20, batch_size=64, progress=False)
    return mdata, data, model


def annotated(mdata: Any, model: cp.Method, **options: Any) -> np.ndarray:
    data = cp.setup_mudata(mdata, **options)
    cp.annotate(mdata, model, data)
    return np.asarray(mdata.obsm["X_counterpoint"])


def test_cells_are_where_they_were_whatever_the_query_holds_beside_them(
    cells: tuple[Any, cp.data.Dataset, cp.Method],
) -> None:
    """Genes in another order, more genes, and other cells to standardise by."""
    import mudata

    mdata, data, model = cells
    cp.annotate(mdata, model, data)
    known = mdata.obsm["X_counterpoint"]
    assert known.std() > 0.05
    with quiet():
        reversed_ = mudata.MuData(
            {name: mod[:, ::-1].copy() for name, mod in mdata_of(rows=300).mod.items()}
        )
        alone = mudata.MuData({"rna": mdata_of(rows=300).mod["rna"]})
    reversed_.obs["donor"] = mdata.obs["donor"]
    np.testing.assert_allclose(annotated(reversed_, model, batch="donor"), known, atol=1e-5)
    with quiet():
        half = mdata_of(rows=300)[150:].copy()
    query = cp.setup_mudata(half, batch="donor")
    assert query.modalities[1].units != data.modalities[1].units, (
        "the query is to be standardised by its own rows first"
    )
    np.testing.assert_allclose(annotated(half, model, batch="donor"), known[150:], atol=1e-5)
    found = annotated(alone, model)
    assert np.isfinite(found).all() and {*alone.obsm} >= {"counterpoint_imputed_adt"}


def test_a_gene_that_no_cell_of_a_query_shows_is_known_to_be_zero(
    cells: tuple[Any, cp.data.Dataset, cp.Method],
) -> None:
    """It is left out of the query's own data set, as constant features are, and the
    model reads its value all the same."""
    _, data, model = cells
    found = []
    for first in (0, 1):  # which makes the gene vary
        query = mdata_of(rows=300)
        counts = np.asarray(query["rna"].X.toarray())
        counts[:, query["rna"].var_names.get_loc(data.modalities[0].features[3])] = 0
        counts[0, query["rna"].var_names.get_loc(data.modalities[0].features[3])] = first
        query["rna"].X = counts
        found.append(annotated(query, model, batch="donor"))
    changed = np.abs(found[0] - found[1]).max(1)
    assert (changed > 1e-5).sum() == 1 and np.isfinite(found[0]).all()


def test_a_table_of_measured_values_is_read_in_the_units_of_training(
    cells: tuple[Any, cp.data.Dataset, cp.Method],
) -> None:
    mdata, data, model = cells
    split = data.test
    ids = split.ids[split.present["adt"]][:5]  # type: ignore[index]
    known = model.encode(split.batch(np.flatnonzero(split.present["adt"])[:5]).only(["adt"])).shared
    table = mdata["adt"].to_df().loc[ids]
    assert (np.abs(table.to_numpy()).mean()) > 1, "measured values are far from standardised ones"
    torch.testing.assert_close(model.encode({"adt": table}).shared, known, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("change", "options", "said"),
    [
        (
            lambda m: setattr(m["rna"], "var_names", [f"x{i}" for i in range(18)]),
            {},
            r"modality 'rna': feature 'g\d+' is missing \(and 13 more\)",
        ),
        (
            lambda m: m.obs.__setitem__("donor", "x"),
            {"batch": "donor"},
            "covariate 'donor=x' is unknown to the model, which was trained with",
        ),
        (
            lambda m: setattr(m["rna"], "X", np.log1p(m["rna"].X.toarray())),
            {},
            r"'rna' holds real values \(likelihood 'normal'\), and the model reads counts",
        ),
    ],
)
def test_queries_that_differ_are_refused(
    cells: tuple[Any, cp.data.Dataset, cp.Method],
    change: Callable[[Any], object],
    options: dict[str, Any],
    said: str,
) -> None:
    query = mdata_of(rows=300)
    with quiet():
        change(query)
        query.update()
    with pytest.raises(ValueError, match=said):
        annotated(query, cells[2], **options)


def test_quantities_among_covariates_keep_the_units_of_training() -> None:
    rng = np.random.default_rng(0)
    age = rng.normal(50, 10, 40)
    values = rng.normal(size=(40, 3))
    data = load({"a": values}, covariates={"age": age, "site": ["n", "s"] * 20})
    old = load({"a": values}, covariates={"age": age + 30, "site": ["s"] * 40})
    read = old.read_as(data.modalities)
    mean, std = data.modalities[0].covariate_units[0]
    expected = {round(float((x + 30 - mean) / std), 3) for x in age}
    assert {
        round(float(x), 3) for split in read.splits().values() for x in split.covariates[:, 0]
    } == expected
    assert (
        read.train.covariate_names == ("age", "site=n", "site=s")
        and (read.train.covariates[:, 1:] == [0, 1]).all()
    )


def test_word_ids_are_read_by_what_they_stand_for() -> None:
    mine = Modality(
        "text", (4,), "categorical", None, classes=4, words=("", "<unk>", "red", "bird")
    )
    theirs = Modality(
        "text", (3,), "categorical", None, classes=5, words=("", "<unk>", "bird", "blue", "red")
    )
    batch = Batch.of({"text": np.array([[4, 2, 0], [3, 2, 4]])}, modalities=[theirs])
    assert read_as(batch, [mine]).x["text"].tolist() == [[2, 3, 0, 0], [1, 3, 2, 0]]
    with pytest.raises(ValueError, match="ids of 5 classes, expected 9"):
        read_as(batch, [Modality("text", (3,), "categorical", None, classes=9)])


def test_values_on_another_scale_are_told(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = rng.random((200, 7)).astype(np.float32)
    data = load({"vector": values, "image": rng.integers(0, 256, (200, 1, 4, 4), dtype=np.uint8)})
    model = cp.MVAE.for_data(data, shared_dim=2, networks=cp.NetworkOptions(hidden=(8,), width=4))
    model.fit(data.train, max_steps=1, progress=False)
    for trained in (model, cp.load(model.save_pretrained(tmp_path))):
        trained.encode({"vector": values * 2}), trained.encode(data.test.batch(slice(None)))
        with pytest.warns(
            UserWarning,
            match=r"modality 'vector': values lie \d+ standard deviations from the mean of training \(0\.\d+ ± 0\.\d+\)",
        ):
            trained.encode({"vector": (values * 255).astype(np.uint8)})
        with pytest.warns(UserWarning, match="are they on another scale"):
            trained.encode(Split({"vector": values * 100}, data.modalities).batch(slice(None)))


# --- what has changed since a run was trained ------------------------------------------------------------------------------------


def test_a_run_says_what_has_changed_and_measures_the_rows_of_then(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    arrays = {"a": rng.normal(size=(200, 4)), "b": rng.normal(size=(200, 3))}
    file, run = tmp_path / "data.npz", tmp_path / "run"
    np.savez(file, **arrays)
    small = ["--networks.hidden", "[8]", "--shared_dim", "2", "--private_dim", "2"]
    assert (
        main(["fit", "mmvae+", "--data", str(file), "--max_steps", "2", "--out", str(run), *small])
        == 0
    )
    impute = ["impute", str(run), "--split", "test", "--given", "a", "--n", "20", "--out"]
    assert main([*impute, str(tmp_path / "then.npz")]) == 0
    assert "changed" not in capsys.readouterr().err
    np.savez(
        file,
        **{
            name: np.concatenate([values[30:], rng.normal(size=(5, values.shape[1]))])
            for name, values in arrays.items()
        },
    )
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert main([*impute, str(tmp_path / "now.npz")]) == 0
    said = capsys.readouterr().err
    assert (
        "rows: 200 then and 175 now, 30 gone and 5 new" in said
        and "rows fall to another split" in said
    )
    then, now = (np.load(tmp_path / f"{name}.npz")["a"] for name in ("then", "now"))
    gone = {row.tobytes() for row in arrays["a"][:30].astype(np.float32)}
    assert [row.tobytes() for row in now] == [
        row.tobytes() for row in then if row.tobytes() not in gone
    ] and 0 < len(now) < 20
    np.savez(file, a=arrays["a"] * 2, b=arrays["b"])
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert main([*impute, str(tmp_path / "other.npz")]) == 2
    assert "has none of the 160 train rows that" in capsys.readouterr().err.splitlines()[-1]


def test_features_and_values_that_changed_are_named(tmp_path: Path) -> None:
    from counterpoint.training.fingerprint import Fingerprint

    mdata = mdata_of(rows=80)
    data = cp.setup_mudata(mdata)
    then = Fingerprint.of(data)
    then.write(tmp_path / "data.json")
    assert Fingerprint.read(tmp_path / "data.json") == then and [*then.changes(then)] == []
    fewer = Fingerprint.of(cp.setup_mudata(mdata, top_features=14))
    assert any(
        "features of 'rna': 18 then and 14 now, 4 gone" in change for change in then.changes(fewer)
    )
    values = {name: np.array(x) for name, x in data.train.x.items()}
    values["rna"][0, 0] += 1
    other = Fingerprint.of(replace(data, train=replace(data.train, x=values)))
    assert [*then.changes(other)] == ["rows hold other values"]
    backwards = Fingerprint.of(
        replace(data, train=data.train.take(np.arange(len(data.train))[::-1]))
    )
    assert [*then.changes(backwards)] == []
    kinds = cp.setup_mudata(mdata, labels="kind")
    relabelled = replace(
        kinds.train, shared_labels={"kind": kinds.train.shared_labels["kind"][::-1]}
    )
    assert [*Fingerprint.of(kinds).changes(Fingerprint.of(replace(kinds, train=relabelled)))] == [
        "labels or covariates are others"
    ]
    (tmp_path / "data.json").write_text('{"format": 1}')
    with pytest.raises(ValueError, match=r"data\.json is damaged"):
        Fingerprint.read(tmp_path / "data.json")


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (
            lambda model, data: model.fit({"vector": VECTORS}),
            r"train is dict; give a split, such as data\.train",
        ),
        (
            lambda model, data: model.fit(data),
            r"train is Dataset; give a split, such as data\.train",
        ),
        (
            lambda model, data: model.fit(data.train, val="x"),
            r"val is str; give a split, such as data\.val",
        ),
        (lambda model, data: cp.evaluate(model, None), "data is NoneType; give a data set"),
        (
            lambda model, data: cp.annotate(data, model, data),
            "mdata is Dataset; give a MuData object",
        ),
        (lambda model, data: Modality("a", 2, features=("x", "x")), "feature 'x' is there twice"),
        (
            lambda model, data: Modality("a", 2, units=((0, 0), (1, 1))),
            "a standard deviation of 0 or less",
        ),
        (lambda model, data: Modality("a", 2, scale=float("inf")), "scale inf must be positive"),
    ],
)
def test_what_is_handed_over_instead_is_named(
    model: cp.Method, ask: Callable[[Any, Any], object], said: str
) -> None:
    data = load({"vector": VECTORS, "image": PIXELS}, modalities=[IMAGE, VECTOR])
    with pytest.raises((TypeError, ValueError), match=said):
        ask(model, data)


def test_an_answer_that_no_memory_holds_is_one_line(model: cp.Method) -> None:
    with pytest.raises(MemoryError, match="ask for fewer rows, samples or draws at a time"):
        model.sample(10**13)
    assert model.sample(2)["vector"].shape == (2, 7) and not model.training
