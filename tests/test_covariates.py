"""Covariates: from arrays to columns, through splits and batches to decoders, and what
they are for."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

import counterpoint as cp
from counterpoint.cli import main
from counterpoint.core.batch import Batch
from counterpoint.core.covariates import columns
from counterpoint.core.modality import Modality, covariates_of
from counterpoint.data import BatchLoader, Dataset, Split, load
from counterpoint.data.sources.files import FolderWriter, manifest_digest, new_folder, read_manifest
from counterpoint.data.split import COVARIATES
from counterpoint.metrics import JudgeOptions, evaluate
from counterpoint.report import write_report

ROWS = 40
SMALL = cp.NetworkOptions(hidden=(16,))


def source(rows: int = ROWS) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "a": rng.normal(size=(rows, 4)).astype(np.float32),
        "b": rng.normal(size=(rows, 3)).astype(np.float32),
        "covariate/donor": np.array(["x", "y", "z"])[np.arange(rows) % 3],
        "covariate/plate": np.arange(rows) % 2,
        "covariate/age": rng.normal(50, 9, rows),
    }


COLUMNS = ("donor=x", "donor=y", "donor=z", "plate=0", "plate=1", "age")


def write(folder: Path, content: dict[str, np.ndarray]) -> Path:
    for key, values in content.items():
        path = folder / f"{key}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, values)
    return folder


# --- data ---------------------------------------------------------------------------------------------------------------


def test_names_become_columns_of_their_own_and_numbers_one() -> None:
    x = source()
    data = load(x, seed=3)
    assert data.covariate_names == COLUMNS and all(m.covariates == COLUMNS for m in data.modalities)
    train, ages = data.train.covariates, x["covariate/age"]
    rows = [int(np.flatnonzero((x["a"] == v).all(1))[0]) for v in data.train.x["a"]]
    np.testing.assert_array_equal(train[:, :3], np.eye(3)[np.array(rows) % 3])
    np.testing.assert_array_equal(train[:, 3:5], np.eye(2)[np.array(rows) % 2])
    mean, scale = ages[rows].mean(), ages[rows].std()
    np.testing.assert_allclose(train[:, 5], (ages[rows] - mean) / scale, rtol=1e-4, atol=1e-5)
    assert abs(train[:, 5].mean()) < 1e-6 and train[:, 5].std() == pytest.approx(1, abs=1e-5)
    held = [int(np.flatnonzero((x["a"] == v).all(1))[0]) for v in data.test.x["a"]]
    np.testing.assert_allclose(
        data.test.covariates[:, 5], (ages[held] - mean) / scale, rtol=1e-4, atol=1e-5
    )
    assert data.notes["covariate/donor"] == "one of x, y, z"
    assert (
        data.notes["covariate/age"]
        == f"standardised by mean {mean:g} and scale {scale:g} of the training rows"
    )


def test_mappings_files_and_folders_agree(tmp_path: Path) -> None:
    x = source()
    np.savez(tmp_path / "m.npz", **x)  # type: ignore[arg-type]
    values = {k: v for k, v in x.items() if "/" not in k}
    apart = load(
        values, covariates={k.removeprefix("covariate/"): v for k, v in x.items() if "/" in k}
    )
    found = [load(x), load(tmp_path / "m.npz"), load(write(tmp_path / "m", x)), apart]
    by_name = [
        {n: d.train.covariates[:, i].tolist() for i, n in enumerate(d.covariate_names)}
        for d in found
    ]
    assert all(columns == by_name[0] for columns in by_name)
    assert (
        found[0].checksum() == found[1].checksum() == found[3].checksum() != load(values).checksum()
    )
    parts = {part: source(9) for part in ("train", "val", "test")}
    assert load(parts).covariate_names == COLUMNS


def test_what_training_does_not_know_has_the_average() -> None:
    parts = {part: source(12) for part in ("train", "val", "test")}
    parts["train"]["covariate/donor"] = np.array(["x"] * 9 + ["y"] * 3)
    data = load(parts)
    assert data.covariate_names[:2] == ("donor=x", "donor=y")
    np.testing.assert_array_equal(data.test.covariates[2, :2], [0.75, 0.25])  # z
    np.testing.assert_array_equal(data.test.covariates[0, :2], [1, 0])
    assert (
        data.notes["covariate/donor"]
        == "one of x, y; of z, which training does not have, nothing is known"
    )


def test_a_constant_number_is_a_column_of_zeros() -> None:
    x = {**source(), "covariate/age": np.full(ROWS, 3.0)}
    assert not load(x).train.covariates[:, 5].any()


def test_given_modalities_read_all_or_say_who_does() -> None:
    plain, reading = (
        Modality("b", (3,), "normal"),
        Modality("a", (4,), "normal", covariates=COLUMNS),
    )
    assert [
        m.covariates
        for m in load(source(), modalities=[replace(reading, covariates=()), plain]).modalities
    ] == [COLUMNS] * 2
    data = load(source(), modalities=[reading, plain])
    assert [m.covariates for m in data.modalities] == [COLUMNS, ()]
    model = cp.MVAE.for_data(data, shared_dim=2, networks=SMALL).model
    assert (
        model.decoder("a").network.layers[0].in_features == 2 + 6
        and model.decoder("b").network.layers[0].in_features == 2
    )


def bad(**changes: Any) -> Callable[[], object]:
    return lambda: load({k: v for k, v in {**source(), **changes}.items() if v is not None})


PARTS = {part: source(9) for part in ("train", "val", "test")}
READING = Modality("a", (4,), "normal", covariates=("x",))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            bad(**{"covariate/age": np.zeros((ROWS, 2))}),
            r"train: array 'covariate/age' has shape \(32, 2\), expected \(32,\)",
        ),
        (
            bad(**{"covariate/age": np.where(np.arange(ROWS) == 0, np.nan, 1.0)}),
            "array 'covariate/age' holds NaN or infinity in row",
        ),
        (bad(**{"covariate/age": np.zeros(3)}), "arrays have different numbers of rows"),
        (
            lambda: load(
                {**PARTS, "val": {k: v for k, v in source(9).items() if "plate" not in k}}
            ),
            "val: array 'covariate/plate' is missing; give it in all of train, val and test",
        ),
        (
            lambda: load({**PARTS, "val": {**source(9), "covariate/age": np.arange(9)}}),
            "'covariate/age' holds floats in some splits",
        ),
        (
            lambda: load({"a": np.zeros((1500, 2)), "covariate/id": np.arange(1500)}),
            "has 1200 values, and each would be a column; give floats",
        ),
        (lambda: load(PARTS, covariates={"c": np.zeros(9)}), "'covariate/NAME' into each of them"),
        (
            lambda: load("digits-quadrant", covariates={}),
            "option 'covariates' does not apply to digits-quadrant",
        ),
        (
            lambda: load(source(), modalities=[READING, Modality("b", (3,), "normal")]),
            "are to read the covariates x, and the data have donor=x",
        ),
        (
            lambda: Split({"a": source()["a"]}, (READING,)),
            "are to read the covariates x, and the data have none; name all of them",
        ),
        (
            lambda: Split(
                {"a": source()["a"]},
                (READING,),
                covariates=np.zeros((ROWS, 2)),
                covariate_names=("x",),
            ),
            r"expected \(40, 1\)",
        ),
        (
            lambda: Split({"a": source()["a"]}, (READING,), covariates=NAN, covariate_names=("x",)),
            "row 4 has a covariate of NaN or infinity",
        ),
        (
            lambda: Modality("a", (4,), covariates="batch"),
            r"covariates='batch' must be a list of names, such as \['batch'\]",
        ),  # type: ignore[arg-type]
        (lambda: Modality("a", (4,), covariates=("c", "c")), "covariates repeat in c, c"),
        (
            lambda: covariates_of([READING, Modality("b", (3,), covariates=("y", "z"))]),
            "modality 'a' reads the covariates x, and 'b' y, z; let each read all or none",
        ),
    ],
)
def test_bad_covariates_are_refused_in_one_line(call: Callable[[], object], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


NAN = np.where(np.arange(ROWS) == 4, np.nan, 1.0)[:, None]


def test_splits_must_have_the_same_covariates() -> None:
    data = load(source())
    other = replace(data.val, modalities=tuple(replace(m, covariates=()) for m in data.modalities))
    plain = tuple(replace(m, covariates=()) for m in data.modalities)
    splits = {part: replace(split, modalities=plain) for part, split in data.splits().items()}
    splits["val"] = replace(other, covariates=np.zeros((len(other), 1)), covariate_names=("c",))
    with pytest.raises(
        ValueError, match="the val split of 'm' has other covariates than the train split"
    ):
        Dataset("m", plain, splits["train"], splits["val"], splits["test"])


def test_every_way_from_split_to_batch_keeps_them() -> None:
    data = load(source())
    split, wanted = data.train, data.train.covariates
    rows = np.array([5, 2])
    assert (
        split.batch(rows).covariates.tolist() == wanted[rows].tolist()
        and split.batch(rows).covariates.dtype == torch.float32
    )
    assert (
        split.take(rows).covariates.tolist() == wanted[rows].tolist()
        and split.take(rows).covariate_names == COLUMNS
    )
    assert (
        split.with_missing(0.5).covariates is split.covariates
        or (split.with_missing(0.5).covariates == wanted).all()
    )
    assert (data.with_likelihood("laplace").train.covariates == wanted).all()
    together = torch.cat([b.covariates for b in BatchLoader(split, 5, shuffle=False)])
    assert together.tolist() == wanted.tolist()
    batch = split.batch(slice(0, 6))
    for same in (batch.to("cpu"), batch.only(["a"]), batch[:], replace(batch)):
        assert torch.equal(same.covariates, batch.covariates)
    assert batch[torch.tensor([3])].covariates.tolist() == wanted[3:4].tolist()
    assert "6 covariates" in repr(batch) and "covariates" not in repr(Batch(batch.x, batch.present))
    assert Batch(batch.x, batch.present).covariates.shape == (6, 0) and load(
        {"a": np.zeros((9, 2))}
    ).train.covariates.shape == (7, 0)


def test_a_prepared_folder_holds_columns_as_they_are(tmp_path: Path) -> None:
    data = load(source())
    with new_folder(tmp_path / "p") as folder:
        writer = FolderWriter(folder)
        for part, split in data.splits().items():
            for key, values in {**split.x, COVARIATES: split.covariates}.items():
                writer.array(f"{part}/{key}", [values], values.shape, values.dtype)
        writer.manifest("p", {}, data.modalities, data.notes)
    again = load(tmp_path / "p", verify=True)
    assert (
        again.modalities == data.modalities
        and again.covariate_names == COLUMNS
        and again.notes == data.notes
    )
    for part, split in data.splits().items():
        np.testing.assert_array_equal(again.splits()[part].covariates, split.covariates)
    manifest = read_manifest(tmp_path / "p")
    without = json.loads(json.dumps(manifest))
    for m in without["modalities"]:
        m["covariates"] = []
    old = json.loads(json.dumps(without))
    for m in old["modalities"]:
        del m["covariates"]
    assert manifest_digest(without) == manifest_digest(old) != manifest_digest(manifest)
    assert "covariates" not in Modality("a", (4,)).identity() and READING.identity()[
        "covariates"
    ] == ("x",)


# --- columns ------------------------------------------------------------------------------------------------------------


def test_columns_by_name_for_every_row_or_for_each() -> None:
    names = ("batch=a", "batch=b", "age")
    assert columns({"batch=b": 1}, names, 2).tolist() == [[0, 1, 0]] * 2
    assert columns({"batch=a": 1, "age": np.array([1.5, -1])}, names, 2).tolist() == [
        [1, 0, 1.5],
        [1, 0, -1],
    ]
    assert columns(np.array([0, 1, 2]), names, 3).tolist() == [[0, 1, 2]] * 3
    assert columns(torch.eye(3), names, 3).tolist() == np.eye(3).tolist()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"batch=c": 1}, "unknown covariate 'batch=c'; choose from batch=a, batch=b"),
        ({}, "no covariate given; choose from batch=a, batch=b"),
        (
            {"batch=a": [1, 2, 3]},
            r"covariate 'batch=a' has shape \(3,\), expected one number, or \(2,\)",
        ),
        (
            np.zeros((3, 2)),
            r"covariates have shape \(3, 2\), expected \(2, 2\) or \(2,\): the columns are batch=a, batch=b",
        ),
        (np.zeros(3), r"covariates have shape \(3,\)"),
        ([np.nan, 0], "covariates hold NaN or infinity"),
    ],
)
def test_bad_columns_are_refused(given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        columns(given, ("batch=a", "batch=b"), 2)


def test_a_model_without_covariates_takes_none() -> None:
    model = cp.MVAE((Modality("a", (4,), "normal"),), shared_dim=2, networks=SMALL)
    x = {"a": source()["a"]}
    for call in (
        lambda: model.sample(2, covariates={"batch=a": 1}),
        lambda: model.translate(x, covariates=[1.0]),
        lambda: Batch.of(x, modalities=model.modalities, covariates=np.zeros((ROWS, 1))),
    ):
        with pytest.raises(
            ValueError, match="no decoder of this model reads covariates; leave them out"
        ):
            call()
    batch = Batch.of(x, modalities=model.modalities)
    told = replace(batch, covariates=torch.ones(ROWS, 2))
    assert torch.equal(model.reconstruct(batch)["a"], model.reconstruct(told)["a"]), (
        "data may have what a model does not read"
    )
    reading = cp.MVAE((READING,), shared_dim=2, networks=SMALL)
    with pytest.raises(
        ValueError, match="there are 2 covariates, and decoders read x; give all of them"
    ):
        reading.reconstruct(told)


# --- what they are for --------------------------------------------------------------------------------------------------


def batches(rows: int = 1200) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Two linear views of two latents, and a strong offset of each feature in one of
    two batches."""
    rng = np.random.default_rng(0)
    z, batch = rng.normal(size=(rows, 2)), rng.integers(0, 2, rows)
    x = {}
    for name, size in (("a", 8), ("b", 6)):
        offset = rng.normal(size=size) * 3
        x[name] = (
            z @ rng.normal(size=(2, size))
            + batch[:, None] * offset
            + 0.3 * rng.normal(size=(rows, size))
        ).astype(np.float32)
    return x, batch


def offset_of(x: np.ndarray, batch: np.ndarray) -> float:
    """Distance of the means of two batches."""
    return float(np.linalg.norm(x[batch == 1].mean(0) - x[batch == 0].mean(0)))


def test_latents_need_not_carry_what_decoders_are_told() -> None:
    """A linear probe reads the batch from z, unless decoders are told: then it hardly
    beats chance, which is a half, and translation to one of the batches takes the
    offset away."""
    x, batch = batches()
    found = {}
    for told in (False, True):
        data = load({**x, "label/batch": batch, **({"covariate/batch": batch} if told else {})})
        torch.manual_seed(0)
        model = cp.MVAE.for_data(data, shared_dim=2, networks=cp.NetworkOptions(hidden=(32,)))
        optimiser, rng = torch.optim.Adam(model.parameters(), 1e-2), np.random.default_rng(0)
        for _ in range(300):
            optimiser.zero_grad()
            torch.stack(
                [*model.losses(data.train.batch(rng.integers(0, len(data.train), 128))).values()]
            ).sum(0).mean().backward()
            optimiser.step()
        train, test = (
            model.encode(s.batch(slice(None)), given=["a"]).shared[0].numpy()
            for s in (data.train, data.test)
        )
        probe = LogisticRegression().fit(train, data.train.shared_labels["batch"])
        found[told] = probe.score(test, data.test.shared_labels["batch"])
    assert found[False] > 0.95 and found[True] < 0.62, found
    held, truth = data.test.batch(slice(None)), data.test.shared_labels["batch"]
    before = offset_of(data.test.x["a"], truth)
    after = offset_of(
        model.translate(held, to=["a"], covariates={"batch=0": 1})["a"][0].numpy(), truth
    )
    kept = offset_of(model.translate(held, to=["a"])["a"][0].numpy(), truth)
    assert after < 0.2 * before and kept > 0.8 * before, (before, after, kept)


def test_covariates_from_files_to_the_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    x, batch = batches(90)
    np.savez(
        tmp_path / "m.npz",
        **x,
        **{
            "covariate/batch": np.array(["old", "new"])[batch],
            "covariate/age": np.linspace(0, 1, 90),
        },
    )  # type: ignore[arg-type]
    run = tmp_path / "run"
    words = [
        "fit",
        "mmvae+",
        "--data",
        str(tmp_path / "m.npz"),
        "--shared_dim",
        "2",
        "--private_dim",
        "2",
        "--max_steps",
        "4",
    ]
    assert (
        main(
            [
                *words,
                "--fit.loggers",
                "[]",
                "--fit.progress",
                "false",
                "--model.networks.hidden",
                "[8]",
                "--out",
                str(run),
            ]
        )
        == 0
    )
    np.savetxt(tmp_path / "a.csv", x["a"][:2], delimiter=",")
    capsys.readouterr()

    def printed(*words: str) -> list[list[float]]:
        assert (
            main(["translate", str(run), "--given", f"a={tmp_path / 'a.csv'}", "--to", "b", *words])
            == 0
        )
        return list(json.loads(capsys.readouterr().out)["b"])

    old, new = printed("--covariates", "batch=old"), printed("--covariates", "batch=new", "age=0.5")
    assert old != new and printed() not in (old, new)
    assert (
        main(
            [
                "sample",
                str(run),
                "--n",
                "2",
                "--covariates",
                "batch=old",
                "--out",
                str(tmp_path / "s.npz"),
            ]
        )
        == 0
    )
    for wrong in ("batch=odd", "age=x", "old"):
        capsys.readouterr()
        assert main(["sample", str(run), "--covariates", wrong]) == 2
        message = capsys.readouterr().err
        assert (
            f"--covariates {wrong} must be COLUMN or COLUMN=NUMBER; the columns are batch=new, batch=old, age"
            in message
        )
    model, data = cp.load(run), load(tmp_path / "m.npz")
    quick = JudgeOptions(width=4, features=8, steps=20, check_every=10)
    found = evaluate(
        model,
        data,
        samples=30,
        rows=9,
        likelihood_rows=4,
        likelihood_samples=5,
        progress=False,
        judge=quick,
    )
    assert all(np.isfinite(v) for v in found.metrics.values())
    text = write_report(
        model, data, found, None, tmp_path / "report.html", maps=("pca",)
    ).read_text()
    assert "its decoder reads covariates in 3 columns" in text
