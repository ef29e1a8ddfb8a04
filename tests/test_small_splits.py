"""Figures on few rows are marked, what cannot be measured on them is left out with the
reason, and probes may be cross-validated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import counterpoint as cp
from counterpoint.cli import main
from counterpoint.core.modality import Modality
from counterpoint.data import Dataset, Split
from counterpoint.data.division import folds as dealt
from counterpoint.methods import IDMVAE
from counterpoint.metrics import (
    Evaluation,
    JudgeOptions,
    Score,
    Way,
    majority_classes,
    merge,
    smallest_classes,
)
from counterpoint.metrics.probes import cross_validated, entropy

MODALITIES = (Modality("a", (4,), "normal", 0.5), Modality("b", (3,), "normal", 0.5))
QUICK: dict[str, Any] = {
    **{"samples": 60, "likelihood_rows": 60, "likelihood_samples": 4, "progress": False},
    "judge": JudgeOptions(features=8, steps=20),
}


def split(rows: int, seed: int, classes: int = 2) -> Split:
    rng = np.random.default_rng(seed)
    kind = np.arange(rows) % classes
    a = rng.normal(size=(rows, 4)).astype(np.float32) + kind[:, None]
    return Split({"a": a, "b": a[:, :3] + 1}, MODALITIES, shared_labels={"kind": kind})


def dataset(test: int, classes: int = 2) -> Dataset:
    return Dataset(
        "toy", MODALITIES, split(80, 0, classes), split(20, 1, classes), split(test, 2, classes)
    )


@pytest.fixture(scope="module")
def method() -> IDMVAE:
    torch.manual_seed(0)
    return IDMVAE(MODALITIES, shared_dim=2, private_dim=2)


@pytest.fixture(scope="module")
def small(method: IDMVAE) -> Evaluation:
    return cp.evaluate(method, dataset(49), **QUICK)


def test_below_fifty_rows_figures_are_marked_and_some_left_out_with_the_reason(
    small: Evaluation,
) -> None:
    kinds = {score.kind.split("/")[0] for score in small.scores}
    assert (
        not {"hsic", "mi", "fid"} & kinds
        and {"kid", "probe", "coherence", "impute", "loglik"} <= kinds
    )
    left, few = small.meta["left_out"], {*small.few}
    assert (
        left["hsic/z,w/a"]
        == left["mi/z_i,z_j/a+b"]
        == left["mi/z/kind/b"]
        == "49 rows, 50 are needed"
    )
    assert left["fid/a"] == "49 real and 60 generated rows, 50 of each are needed"
    # 60 unconditional samples are enough; all else rests on the 49 rows.
    assert {*small.metrics} - few == {
        n for n in small.metrics if n.startswith("coherence/unconditional/")
    }
    table = small.table()
    marked = [line for line in table.splitlines() if "probe/z/kind" in line]
    assert len(marked) == 1 and f"{small.metrics['probe/z/kind']:.3f}*" in marked[0]
    assert table.count("* on fewer than 50 rows, or on fewer than 5 of some class") == 1
    assert (
        "left out, 49 rows, 50 are needed: mi/z/kind/a" in table
        and "left out, 49 real and 60 generated rows" in table
    )


def test_fifty_rows_are_enough(method: IDMVAE) -> None:
    found = cp.evaluate(
        method, dataset(50), **QUICK, only=["probe", "coherence", "quality", "dependence"]
    )
    assert found.few == [] and found.left_out_for_rows == {} and "*" not in found.table()
    assert {"hsic/z,w", "mi/z_i,z_j", "mi/z/kind", "fid", "fid/cross", "fid/given1"} <= set(
        found.metrics
    )


def test_fewer_than_five_rows_of_a_class_are_marked_in_what_is_about_the_label(
    method: IDMVAE,
) -> None:
    found = cp.evaluate(
        method, dataset(60, classes=13), **QUICK, only=["probe", "quality"]
    )  # 60 = 13 · 4 + 8: five classes have four rows
    few = {*found.few}
    assert (
        "probe/z/kind" in few
        and "mi/z/kind" in few
        and "probe/all/kind" in few
        and not {"fid", "kid", "fid/cross/a"} & few
    )
    assert not cp.evaluate(method, dataset(65, classes=13), **QUICK, only=["probe"]).few


def test_folds_score_every_row_by_a_probe_that_has_not_seen_it(method: IDMVAE) -> None:
    data = dataset(49)
    found = cp.evaluate(method, data, **QUICK, only=["probe"], folds=5)
    parts = (data.train_split, data.test)
    z = np.concatenate(
        [method.encode(part.batch(slice(None)), ["a"]).shared[0].detach().numpy() for part in parts]
    )
    y = np.concatenate([part.shared_labels["kind"] for part in parts])
    from counterpoint.metrics.sampling import seed_of

    fold = dealt(y, 5, seed_of(0, "folds"))
    hits = np.zeros(len(y), bool)
    for held in (fold == i for i in range(5)):
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=500)).fit(
            z[~held].astype(float), y[~held]
        )
        hits[held] = probe.predict(z[held]) == y[held]
    assert found.metrics["probe/z/kind/a"] == pytest.approx(hits.mean())
    assert (
        found.meta["folds"] == 5 and found.few == [] and "mi/z/kind" in found.metrics
    )  # 129 rows now
    assert found.chance("probe/z/kind") == pytest.approx(65 / 129)
    assert "probes are cross-validated in 5 folds" in found.table()
    for wrong in (1, 0, -2):
        with pytest.raises(ValueError, match=f"folds = {wrong} must be 2 or more"):
            cp.evaluate(method, data, **QUICK, folds=wrong)


def test_cross_validation_tells_a_label_from_noise_and_is_alike_in_every_class() -> None:
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], [40, 20, 10])
    seen = cross_validated(np.eye(3)[y] + 0.01 * rng.normal(size=(70, 3)), y, 5)
    noise = cross_validated(rng.normal(size=(70, 3)), y, 5)
    assert seen.hits.all() and 0.9 * entropy(y) < seen.information <= entropy(y)
    assert noise.hits.mean() < 0.65 and noise.information < 0.05
    assert [np.bincount(y[dealt(y, 5, 0) == i]).tolist() for i in range(5)] == [[8, 4, 2]] * 5
    with pytest.raises(ValueError, match="70 rows do not fill 71 folds"):
        cross_validated(rng.normal(size=(70, 3)), y, 71)


def test_class_counts_are_the_smallest_of_any_modality_and_chance_joins_splits() -> None:
    one, two = split(10, 0), split(7, 1)
    holed = Split(two.x, MODALITIES, {"b": np.arange(7) > 2}, {"kind": two.shared_labels["kind"]})
    assert smallest_classes(one) == {"kind": 5} and smallest_classes(holed) == {"kind": 2}
    assert smallest_classes(one, holed) == {"kind": 7}
    assert (
        majority_classes(one, holed)["kind"].of(Way(("a",))) == 9 / 17
        and majority_classes(holed)["kind"].of(Way(("a",))) == 4 / 7
    )


def kind_score(value: float, few: bool = False) -> Score:
    return Score(group="probe", kind="probe", latent="z", label="kind", value=value, few=few)


def test_evaluations_that_are_merged_keep_their_marks() -> None:
    merged = merge(
        [
            Evaluation((kind_score(0.5, few=True),)),
            Evaluation((kind_score(0.7),)),
        ]
    )
    assert merged.few == ["probe/z/kind"] and "0.600*" in merged.table()


def test_the_report_marks_the_same_figures(
    tmp_path: Path, small: Evaluation, method: IDMVAE
) -> None:
    from counterpoint.report import write_report

    text = write_report(
        method, dataset(49), small, None, tmp_path / "r.html", maps=("pca",)
    ).read_text()
    shown = f"{small.metrics['probe/z/kind']:.3f}".removeprefix("0")
    assert (
        f"{shown}*" in text
        and text.count("* on fewer than 50 rows, or on fewer than 5 of some class") == 1
    )
    assert "Left out, 49 rows, 50 are needed: mi/z/kind/a" in text
    clean = write_report(
        method,
        dataset(49),
        Evaluation((kind_score(0.5),)),
        None,
        tmp_path / "c.html",
        maps=("pca",),
    ).read_text()
    assert ".500*" not in clean and "on fewer than 50 rows" not in clean


@pytest.mark.parametrize(
    ("train", "val", "says"),
    [
        (1, 20, r"train has 1 row; give it at least 2"),
        (
            20,
            1,
            r"val has 1 row, too few for 1 process: each needs at least 2 \(contrast compares rows\); give it more, or leave it out",
        ),
    ],
)
def test_a_split_that_is_too_small_is_named(
    method: IDMVAE, train: int, val: int, says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        method.fit(split(train, 0), split(val, 1), max_steps=1, progress=False, loggers=())


def test_folds_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = split(120, 0)
    np.savez(tmp_path / "x.npz", **rows.x, **{"label/kind": rows.shared_labels["kind"]})
    words = [
        "fit",
        "mvae",
        "--data",
        str(tmp_path / "x.npz"),
        "--max_steps",
        "2",
        "--fit.progress",
        "false",
        "--out",
        str(tmp_path / "r"),
    ]
    assert main(words) == 0
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "r"), "--folds", "4", "--only", "probe"]) == 0
    said = capsys.readouterr().out
    assert "probes are cross-validated in 4 folds" in said and "*" not in said
    assert main(["evaluate", str(tmp_path / "r"), "--only", "probe"]) == 0
    assert "* on fewer than 50 rows" in capsys.readouterr().out
    assert main(["evaluate", str(tmp_path / "r"), "--folds", "1"]) == 2
