"""Counts and proportions from the files to the report: how they are stored, what is
refused, and what becomes of them where values are looked at."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import counterpoint as cp
from counterpoint import figures
from counterpoint.cli import main
from counterpoint.core.batch import Batch
from counterpoint.core.modality import Modality
from counterpoint.data import Dataset, Split, load
from counterpoint.inference import RefinerOptions
from counterpoint.metrics import JudgeOptions, evaluate, train_judges
from counterpoint.metrics.judges import values_of
from counterpoint.model.counts import Counts
from counterpoint.report import write_report

RNA, PROTEIN, SITES = (
    Modality("rna", (12,), "nb"),
    Modality("protein", (6,), "zinb"),
    Modality("sites", (5,), "beta"),
)
ALL = (RNA, PROTEIN, SITES)
SMALL = cp.NetworkOptions(hidden=(32,))


def cells(rows: int = 90, seed: int = 0) -> dict[str, np.ndarray]:
    """Three types of cells, of very different depths: the type says which third of the
    features has nearly all counts, and which sites are methylated."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 3, rows)
    depth = np.exp(rng.normal(4.0, 1.5, rows))[:, None]
    share = np.repeat(np.eye(3)[kind] + 0.1, 4, 1)
    sites = np.clip(0.3 * rng.random((rows, 5)) + 0.7 * (np.arange(5) == kind[:, None]), 0, 1)
    return {
        "rna": 1 + rng.poisson(depth * share / share.sum(1, keepdims=True)),
        "protein": rng.poisson(5 * np.repeat(np.eye(3)[kind], 2, 1) + 0.2),
        "sites": sites.astype(np.float32),
        "label/kind": kind,
    }


def cell_data(rows: int = 90, **options: Any) -> Dataset:
    return load(cells(rows), modalities=ALL, **options)


# --- what is stored and what is refused -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "dtype",
    ["uint8", "int8", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64", "bool"],
)
@pytest.mark.parametrize("on_disk", [False, True])
def test_counts_of_any_dtype_are_the_numbers_themselves(
    dtype: str, on_disk: bool, tmp_path: Path
) -> None:
    """uint8 counts are not divided by 255, as images are."""
    counts = (
        np.random.default_rng(0).integers(0, 2 if dtype == "bool" else 127, (12, 12)).astype(dtype)
    )
    counts[:, 0] = 1
    source: Any = {part: {"rna": counts} for part in ("train", "val", "test")}
    if on_disk:
        for part in source:
            (tmp_path / part).mkdir()
            np.save(tmp_path / part / "rna.npy", counts)
        source = tmp_path
    data = load(source, modalities=[RNA])
    found = data.train.batch(np.array([3, 1])).x["rna"]
    assert found.dtype == torch.float32 and found.tolist() == counts[[3, 1]].astype(float).tolist()
    if dtype != "bool":
        torch.testing.assert_close(
            Batch.of({"rna": counts[[3, 1]]}, modalities=[RNA]).x["rna"], found
        )
    torch.testing.assert_close(
        values_of(data.train, "rna", np.array([3, 1]), torch.device("cpu")), found
    )
    assert (
        data.train.take(np.arange(3)).batch(slice(0, 1)).x["rna"].tolist()
        == counts[:1].astype(float).tolist()
    )


def put(name: str, at: tuple[int, int], value: float) -> dict[str, np.ndarray]:
    x = {k: v.astype(np.float64) for k, v in cells().items() if "/" not in k}
    x[name][at] = value
    return x


WRONG = [
    (
        "rna",
        (7, 3),
        -2.0,
        "'rna': row 7 holds -2 at feature 3, and counts are whole numbers of 0 or more",
    ),
    (
        "protein",
        (4, 1),
        0.5,
        "'protein': row 4 holds 0.5 at feature 1, and counts are whole numbers of 0 or more",
    ),
    ("rna", (2, 0), np.nan, "'rna': row 2 holds NaN or infinity"),
    (
        "sites",
        (9, 4),
        1.25,
        "'sites': row 9 holds 1.25 at feature 4, and proportions lie in [0, 1]",
    ),
    (
        "sites",
        (9, 4),
        -0.5,
        "'sites': row 9 holds -0.5 at feature 4, and proportions lie in [0, 1]",
    ),
]


@pytest.mark.parametrize(("name", "at", "value", "message"), WRONG)
def test_wrong_entries_are_named_by_row_and_feature(
    name: str, at: tuple[int, int], value: float, message: str, tmp_path: Path
) -> None:
    x = put(name, at, value)
    for make in (lambda: Split(x, ALL), lambda: Batch.of(x, modalities=ALL)):
        with pytest.raises(ValueError) as caught:
            make()
        assert message in str(caught.value) and "\n" not in str(caught.value)
    absent = {name: np.arange(90) != at[0]}
    assert (
        Split(x, ALL, absent).batch(slice(0, 10)).x[name][at[0]].sum()
        == 0
        == Batch.of(x, absent, modalities=ALL).x[name][at[0]].sum()
    )
    np.save(tmp_path / "x.npy", x[name])
    modality = next(m for m in ALL if m.name == name)
    split = Split({name: np.load(tmp_path / "x.npy", mmap_mode="r")}, (modality,))
    split.batch(slice(10, 20))
    with pytest.raises(ValueError) as caught:
        split.batch(np.array([40, 30, at[0]]))
    assert message in str(caught.value)


@pytest.mark.parametrize("dtype", [np.int16, np.int64])
def test_negative_integers_are_no_counts(dtype: Any) -> None:
    counts = np.ones((5, 12), dtype)
    counts[3, 11] = -1
    with pytest.raises(ValueError, match="'rna': row 3 holds -1 at feature 11"):
        Split({"rna": counts}, (RNA,))


@pytest.mark.parametrize("name", ["nb", "zinb"])
def test_counts_are_vectors(name: Any) -> None:
    with pytest.raises(
        ValueError,
        match=r"'m': a likelihood of counts needs shape \(features,\), got \(2, 3\); flatten it",
    ):
        Modality("m", (2, 3), name)


def test_another_likelihood_finds_what_it_is_for() -> None:
    """Integers without words are counts when a likelihood of counts is asked for;
    counts know no other; proportions and numbers take all that fits."""
    x = cells()
    rna, sites = {"rna": x["rna"]}, {"sites": x["sites"]}
    assert load(rna).modalities[0].likelihood == "categorical"
    assert load(rna, likelihood="nb").modalities == (Modality("rna", (12,), "nb", None),)
    both = load({**rna, **sites}, modalities=(RNA, SITES))
    assert [m.likelihood for m in both.with_likelihood("normal").modalities] == ["nb", "normal"]
    assert [m.scale for m in both.with_likelihood("laplace", 0.5).modalities] == [0.75, 0.5]
    assert load(rna, modalities=[RNA]).with_likelihood("zinb").modalities[0].likelihood == "zinb"
    assert load(sites, likelihood="beta").modalities == (Modality("sites", (5,), "beta", None),)
    words = Modality("rna", (12,), "categorical", classes=2000, words=tuple(map(str, range(2000))))
    for call, message in (
        (
            lambda: load(rna, modalities=[RNA]).with_likelihood("normal"),
            "holds counts alone, which keep their own likelihood",
        ),
        (
            lambda: load(rna, modalities=[words]).with_likelihood("nb"),
            "holds word ids alone, which keep their own likelihood",
        ),
        (
            lambda: load(sites, likelihood="nb"),
            r"'sites': row \d+ holds 0\.\d+ at feature 0, and counts are whole numbers",
        ),
        (
            lambda: load(rna, likelihood="nb", scale=1.0),
            "'rna': a nb likelihood has no scale, got 1.0; leave it out",
        ),
        (
            lambda: both.with_likelihood(scale=1.0),
            "'sites': a beta likelihood has no scale, got 1.0; leave it out",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_diffusion_draws_no_counts() -> None:
    with pytest.raises(
        ValueError,
        match="denoiser: 'rna' holds counts, which diffusion can't draw; leave it to its feed-forward decoder",
    ):
        cp.MoPoE(ALL, shared_dim=2, denoiser=cp.DenoiserOptions(modalities=("rna",)))
    model = cp.MoPoE(
        ALL,
        shared_dim=2,
        networks=SMALL,
        denoiser=cp.DenoiserOptions(modalities=("sites",), width=2, solver_steps=3),
    )
    drawn = model.sample(8)["sites"]
    assert float(drawn.min()) >= 0 and float(drawn.max()) <= 1


# --- what a method makes of them ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained() -> tuple[cp.Method, Dataset]:
    torch.manual_seed(0)
    data = cell_data(600)
    model = cp.MMVAEPlus.for_data(
        data, shared_dim=4, private_dim=2, networks=cp.NetworkOptions(hidden=(32,), norm="batch")
    )
    model.fit(data.train, max_steps=150, batch_size=64, lr=3e-3, progress=False)
    return model, data


def test_what_is_generated_has_a_typical_total_and_what_is_known_its_own(
    trained: tuple[cp.Method, Dataset],
) -> None:
    model, data = trained
    batch = data.test.batch(slice(0, 20))
    reads = model.model.likelihood("rna")
    assert isinstance(reads, Counts)
    usual = float(np.exp(np.log(data.train.x["rna"].sum(1)).mean()))
    assert float(reads.typical_total) == pytest.approx(usual, rel=0.1)
    own = batch.x["rna"].sum(1)
    torch.testing.assert_close(model.reconstruct(batch)["rna"].sum(1), own)
    torch.testing.assert_close(
        model.translate(batch, to=["rna"], n=2)["rna"].sum(2), own.expand(2, -1)
    )
    torch.testing.assert_close(model.recombine(batch[:10], batch[10:])["rna"].sum(1), own[10:])
    hidden = Batch.of({k: v for k, v in batch.x.items() if k != "rna"}, modalities=ALL)
    for made in (
        model.translate(hidden, to=["rna"])["rna"][0],
        model.sample(20)["rna"],
        model.reconstruct(hidden)["rna"],
    ):
        torch.testing.assert_close(made.sum(1), torch.full((20,), float(reads.typical_total)))


def test_depth_does_not_reach_the_latents(trained: tuple[cp.Method, Dataset]) -> None:
    model, data = trained
    batch = data.test.batch(slice(0, 10))
    deeper = replace(batch, x={**batch.x, "rna": 9 * batch.x["rna"]})
    a, b = (model.encode(of, given=["rna"]) for of in (batch, deeper))
    torch.testing.assert_close(a.shared, b.shared)
    torch.testing.assert_close(a.private["rna"], b.private["rna"])
    assert not torch.equal(model.log_likelihood(batch, 5), model.log_likelihood(deeper, 5))


def test_counts_are_evaluated_and_reported(
    trained: tuple[cp.Method, Dataset], tmp_path: Path
) -> None:
    model, data = trained
    quick = JudgeOptions(width=4, features=16, steps=80, check_every=40)
    found = evaluate(
        model,
        data,
        samples=100,
        rows=50,
        likelihood_rows=8,
        likelihood_samples=20,
        progress=False,
        judge=quick,
    )
    assert all(np.isfinite(v) for v in found.metrics.values())
    assert found.metrics["judge/kind/rna"] > 0.8 and found.metrics["coherence/cross/kind"] > 0.6
    text = write_report(
        model, data, found, None, tmp_path / "report.html", maps=("pca",)
    ).read_text()
    for line in (
        "12 counts; negative binomial likelihood",
        "6 counts; zero-inflated negative binomial likelihood",
        "5; beta likelihood",
    ):
        assert f"vector of {line}" in text
    model.fit_refiner(
        data.train,
        refiner=RefinerOptions(steps=2, width=16, signal="error"),
        steps=20,
        batch_size=32,
        progress=False,
    )
    batch = data.test.batch(slice(0, 10))
    refined = model.refine(batch, samples=5).elbo
    assert refined is not None and bool(refined.isfinite().all())
    model.model.put_refiner(None)


def test_judges_and_bar_codes_see_counts_without_their_depth() -> None:
    data = cell_data()
    judges = train_judges(data, options=JudgeOptions(width=4, features=8, steps=20, check_every=10))
    plain = train_judges(
        replace(data, **{p: replace(s, shared_labels={}) for p, s in data.splits().items()})
    )
    values = values_of(data.test, "rna", np.arange(5), torch.device("cpu"))
    for judge in (judges, plain):
        a, b = (judge.see("rna", v, np.arange(5)).features for v in (values, 100 * values))
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
    for a, b in zip(figures.tiles(values, RNA), figures.tiles(100 * values, RNA), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def test_counts_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From a table of integers to a translation of counts given as text."""
    x = cells()
    np.savez(tmp_path / "cells.npz", rna=x["rna"], protein=x["protein"])
    words = [
        "fit",
        "mvae",
        "--data",
        str(tmp_path / "cells.npz"),
        "--data.likelihood",
        "nb",
        "--shared_dim",
        "3",
        "--max_steps",
        "3",
    ]
    words += [
        "--fit.loggers",
        "[]",
        "--fit.progress",
        "false",
        "--model.networks.hidden",
        "[8]",
        "--out",
        str(tmp_path / "run"),
    ]
    assert main(words) == 0
    assert [m.likelihood for m in cp.load(tmp_path / "run").modalities] == ["nb", "nb"]
    np.savetxt(tmp_path / "given.csv", x["rna"][:2], fmt="%d", delimiter=",")
    capsys.readouterr()
    assert (
        main(
            [
                "translate",
                str(tmp_path / "run"),
                "--given",
                f"rna={tmp_path / 'given.csv'}",
                "--to",
                "protein",
            ]
        )
        == 0
    )
    assert np.asarray(json.loads(capsys.readouterr().out)["protein"]).shape == (2, 6)
    assert (
        main(["sample", str(tmp_path / "run"), "--n", "3", "--out", str(tmp_path / "s.png")]) == 0
    )
    np.savetxt(tmp_path / "given.csv", x["rna"][:2] + 0.5, delimiter=",")
    assert (
        main(
            [
                "translate",
                str(tmp_path / "run"),
                "--given",
                f"rna={tmp_path / 'given.csv'}",
                "--to",
                "protein",
            ]
        )
        == 2
    )
    assert "'rna': row 0 holds" in capsys.readouterr().err
