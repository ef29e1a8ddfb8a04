"""Rows that have none of what is to be gone by stay missing, and are counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import counterpoint as cp
from counterpoint.cli import main
from counterpoint.core.batch import Batch
from counterpoint.core.modality import Modality
from counterpoint.methods import MMVAEPlus

MODALITIES = (
    Modality("rna", (3,), "normal", 0.5),
    Modality("adt", (2,), "normal", 0.5),
    Modality("words", (2,), "categorical", classes=4),
)
HERE = np.array([True, True, False, True, False])


def rows() -> Batch:
    rng = np.random.default_rng(0)
    x = {
        "rna": rng.normal(size=(5, 3)),
        "adt": rng.normal(size=(5, 2)),
        "words": rng.integers(0, 4, (5, 2)),
    }
    return Batch.of(x, {"rna": HERE}, modalities=MODALITIES)


def test_a_row_without_what_is_given_stays_missing_and_the_others_are_filled_as_alone() -> None:
    torch.manual_seed(0)
    method = MMVAEPlus(MODALITIES, shared_dim=2, private_dim=2)
    settings: dict[str, Any] = {"given": ["rna"], "n": 19, "samples": True}
    found = method.impute(rows(), **settings, generator=torch.Generator().manual_seed(1))
    alone = method.impute(
        rows()[torch.from_numpy(HERE)], **settings, generator=torch.Generator().manual_seed(1)
    )
    assert found.left is not None and found.left.tolist() == (~HERE).tolist() and alone.left is None
    for name in ("rna", "adt"):
        for whole, part in (
            (found.mean, alone.mean),
            (found.lower, alone.lower),
            (found.upper, alone.upper),
        ):
            assert torch.equal(whole[name][HERE], part[name]) and whole[name][~HERE].isnan().all()
        assert (
            torch.equal(found.samples[name][:, HERE], alone.samples[name])
            and found.samples[name][:, ~HERE].isnan().all()
        )
    assert (
        torch.equal(found.mean["words"][HERE], alone.mean["words"])
        and (found.mean["words"][~HERE] == -1).all()
    )
    assert found.probability["words"][~HERE].isnan().all()
    assert found.missing["adt"].all() and found.filled("adt").tolist() == HERE.tolist()
    assert not found.filled("rna").any() and found.missing["rna"][~HERE].all()


def test_nothing_to_go_by_in_any_row_is_refused() -> None:
    method, of = MMVAEPlus(MODALITIES, shared_dim=2, private_dim=2), rows()
    with pytest.raises(ValueError, match=r"row 0 has none of the given modalities \(rna\)"):
        method.impute(of[torch.from_numpy(~HERE)], ["rna"], n=19)
    with pytest.raises(ValueError, match="unknown modality 'protein'"):
        method.impute(of, ["rna", "protein"], n=19)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a file whose test rows lack rna now and then."""
    folder = tmp_path_factory.mktemp("rows")
    rng = np.random.default_rng(0)
    flat = {}
    for part, count in (("train", 40), ("val", 10), ("test", 12)):
        x = rng.normal(size=(count, 3)).astype(np.float32)
        flat |= {
            f"{part}/rna": x,
            f"{part}/adt": x[:, :2] + 1,
            f"{part}/present/rna": np.arange(count) % 4 != 1,
        }
    np.savez(folder / "cells.npz", **flat)
    words = [
        "fit",
        "mmvae+",
        "--data",
        str(folder / "cells.npz"),
        "--shared_dim",
        "2",
        "--private_dim",
        "2",
        "--max_steps",
        "2",
    ]
    assert (
        main(
            [*words, "--batch_size", "16", "--fit.progress", "false", "--out", str(folder / "run")]
        )
        == 0
    )
    return folder / "run"


def test_the_command_counts_the_rows_that_stay_missing(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "i.npz"
    assert (
        main(
            [
                "impute",
                str(run),
                "--split",
                "test",
                "--given",
                "rna",
                "--n",
                "19",
                "--out",
                str(out),
            ]
        )
        == 0
    )
    said = capsys.readouterr().out
    assert (
        "filled 9 of 12 rows of adt" in said
        and "3 of 12 rows have none of rna to go by, and stay missing" in said
    )
    found, left = np.load(out), np.arange(12) % 4 == 1
    assert (
        np.isnan(found["adt"]).all(1).tolist() == left.tolist()
        and np.isnan(found["lower/adt"]).all(1).tolist() == left.tolist()
    )


def test_files_of_rows_may_lack_some(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rna, adt = (
        np.random.default_rng(1).normal(size=(4, 3)),
        np.random.default_rng(2).normal(size=(4, 2)),
    )
    rna[[1, 2]], adt[2] = np.nan, np.nan
    np.save(tmp_path / "rna.npy", rna)
    np.save(tmp_path / "adt.npy", adt)
    given = ["--given", f"rna={tmp_path / 'rna.npy'}", "--given", f"adt={tmp_path / 'adt.npy'}"]
    assert main(["impute", str(run), *given, "--n", "19", "--out", str(tmp_path / "i.npz")]) == 0
    said = capsys.readouterr().out
    assert (
        "filled 1 of 4 rows of rna" in said and "1 of 4 rows have none of rna, adt to go by" in said
    )
    found = np.load(tmp_path / "i.npz")
    assert np.isnan(found["rna"]).all(1).tolist() == [False, False, True, False]
    np.testing.assert_allclose(found["adt"][[0, 1, 3]], adt[[0, 1, 3]], rtol=1e-6)
    # translate has no place for what stays missing, and says which row that would be; a row that
    # has one of the two is drawn from it.
    assert main(["translate", str(run), *given, "--to", "adt"]) == 2
    assert "row 2 holds nothing but NaN in rna, adt (1 of 4 rows)" in capsys.readouterr().err
    for name, values in (("rna", rna), ("adt", adt)):
        np.save(tmp_path / f"{name}.npy", values[[0, 1, 3]])
    assert main(["translate", str(run), *given, "--to", "adt"]) == 0
    drawn = np.array(json.loads(capsys.readouterr().out)["adt"])
    method = cp.load(run)
    x = {"rna": np.nan_to_num(rna[[0, 1, 3]]), "adt": adt[[0, 1, 3]]}
    batch = Batch.of(x, {"rna": np.array([True, False, True])}, modalities=method.modalities)
    expected = method.translate(batch, to=["adt"], generator=torch.Generator().manual_seed(0))[
        "adt"
    ][0]
    np.testing.assert_allclose(drawn, expected.numpy(), rtol=1e-5)
