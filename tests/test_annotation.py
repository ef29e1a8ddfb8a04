"""What methods make of a MuData, written back into it: in Python, and by the command
line from file to file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omics import KINDS, mdata_of, saved

import counterpoint as cp
from counterpoint.cli import main
from counterpoint.cli.values import read_values, write_values
from counterpoint.data.sources.mudata_files import read
from counterpoint.metrics import Evaluation
from counterpoint.report.features import predicted

SIZES: dict[str, Any] = {
    "shared_dim": 4,
    "private_dim": 3,
    "networks": cp.NetworkOptions(hidden=(32,), norm="batch"),
}


@pytest.fixture(scope="module")
def trained() -> tuple[Any, cp.Method, cp.data.Dataset]:
    """A MuData of 400 cells, a data set of 14 of its 18 genes and all proteins, and
    MMVAE+ that has seen it for a few seconds."""
    torch.manual_seed(0)
    mdata = mdata_of(rows=400)
    data = cp.setup_mudata(mdata, labels="kind", top_features=14)
    model = cp.MMVAEPlus.for_data(data, **SIZES, beta=0.5)
    model.fit(data.train, max_steps=200, batch_size=64, lr=5e-3, progress=False)
    return mdata, model, data


def row_of(mdata: Any, data: cp.data.Dataset, cell: str) -> cp.Batch:
    """One cell as a batch, from whichever split has it."""
    split = next(s for s in data.splits().values() if cell in s.ids)  # type: ignore[operator]
    return split.batch(np.flatnonzero(split.ids == cell))


def test_latents_and_values_stand_in_the_rows_of_their_cells(
    trained: tuple[Any, cp.Method, cp.data.Dataset],
) -> None:
    mdata, model, data = trained
    cp.annotate(mdata, model, data, batch_size=37)
    assert (
        mdata.obsm["X_counterpoint"].shape == (400, 4)
        and np.isfinite(mdata.obsm["X_counterpoint"]).all()
    )
    for cell in ("c0", "c150", "c399"):  # rna alone, both, adt alone
        at, batch = mdata.obs_names.get_loc(cell), row_of(mdata, data, cell)
        latents, values = model.encode(batch), model.reconstruct(batch)
        np.testing.assert_allclose(
            mdata.obsm["X_counterpoint"][at], latents.shared[0, 0], rtol=1e-4, atol=1e-5
        )
        for name in ("rna", "adt"):
            here, w = (
                cell in mdata[name].obs_names,
                mdata.obsm[f"X_counterpoint_{name}_private"][at],
            )
            assert w.shape == (3,) and (np.isfinite(w).all() if here else np.isnan(w).all())
            if here:
                np.testing.assert_allclose(w, latents.private[name][0, 0], rtol=1e-4, atol=1e-5)
            made = data.modalities[name == "adt"].original(values[name][0]).numpy()
            np.testing.assert_allclose(
                mdata.obsm[f"counterpoint_imputed_{name}"][at], made, rtol=1e-4, atol=1e-4
            )
            if here:
                columns = mdata[name].var_names.isin(data.modalities[name == "adt"].features)
                layer = mdata[name].layers["counterpoint_imputed"][
                    mdata[name].obs_names.get_loc(cell)
                ]
                np.testing.assert_allclose(layer[columns], made, rtol=1e-4, atol=1e-4)
                assert np.isnan(layer[~columns]).all()
    features = mdata.uns["counterpoint"]["features"]
    assert (
        mdata.uns["counterpoint"]["method"] == "mmvae+"
        and [*features["adt"]] == [*mdata["adt"].var_names]
        and len(features["rna"]) == 14
    )


def test_imputed_proteins_are_those_that_the_cell_would_have(
    trained: tuple[Any, cp.Method, cp.data.Dataset],
) -> None:
    """The first quarter has rna alone; its proteins hang on the kind of the cell, which
    rna tells."""
    mdata, model, data = trained
    cp.annotate(mdata, model, data)
    lacking = ~mdata.obs_names.isin(mdata["adt"].obs_names)
    kind = np.array([KINDS.index(k) for k in mdata.obs["kind"]])[lacking]
    truth = kind[:, None] * np.linspace(-2, 2, 5) + 10  # without the noise
    imputed = mdata.obsm["counterpoint_imputed_adt"][lacking]
    assert lacking.sum() == 100
    for protein in (0, 1, 3, 4):  # protein 2 is noise alone
        assert np.corrcoef(imputed[:, protein], truth[:, protein])[0, 1] > 0.8
    assert (
        np.abs(imputed - truth).mean() < 0.6
    )  # the standard deviation of the proteins over kinds is 1 on average


def test_features_that_other_modalities_tell_come_first(
    trained: tuple[Any, cp.Method, cp.data.Dataset],
) -> None:
    _, model, data = trained
    found = {p.modality: p for p in predicted(model, data.train)}
    assert found.keys() == {"rna", "adt"} and found["adt"].rows == int(
        (data.train.present["adt"] & data.train.present["rna"]).sum()
    )
    best = dict(found["adt"].best)
    assert [*best][-1] == "p2" and abs(best["p2"]) < 0.3 < 0.8 < best["p4"]
    assert [r for _, r in found["rna"].best] == sorted(
        (r for _, r in found["rna"].best), reverse=True
    ) and len(found["rna"].best) == 12
    assert predicted(model, data.train.take(slice(0, 5))) == []


def test_methods_without_private_latents_and_cells_that_were_left_out() -> None:
    mdata = mdata_of()
    x = mdata["adt"].X
    x[0, 0] = np.inf  # c79, which has adt alone
    with pytest.warns(
        UserWarning, match=r"that hold no number \(c79\); 1 observations with nothing left \(c79\)"
    ):
        data = cp.setup_mudata(mdata, skip_bad=True, modalities={"adt": "normal", "rna": "zinb"})
    cp.annotate(mdata, cp.MVAE.for_data(data, shared_dim=4), data)
    assert [key for key in mdata.obsm if "private" in key] == []
    lost = mdata.obs_names.get_loc("c79")
    assert (
        np.isnan(mdata.obsm["X_counterpoint"][lost]).all()
        and np.isnan(mdata.obsm["X_counterpoint"]).any(1).sum() == 1
    )
    assert np.isnan(mdata["adt"].layers["counterpoint_imputed"][0]).all()


def test_what_does_not_fit_is_refused(trained: tuple[Any, cp.Method, cp.data.Dataset]) -> None:
    _, model, data = trained
    with pytest.raises(ValueError, match=r"observation c\d+ is not in mdata"):
        cp.annotate(mdata_of(rows=80), model, data)
    mdata = mdata_of(rows=400)
    with pytest.raises(ValueError, match="feature of adt CD/1 is not in mdata"):
        mdata["adt"].var_names = ["p0", "CD_1", "p2", "p3", "p4"]
        cp.annotate(mdata, model, data)
    del mdata.mod["adt"]
    with pytest.raises(ValueError, match="modality 'adt' is not in mdata, which has rna"):
        cp.annotate(mdata, model, data)
    arrays = cp.data.load({"rna": np.zeros((9, 14)), "adt": np.zeros((9, 5))})
    with pytest.raises(ValueError, match="does not say what its rows are called"):
        cp.annotate(mdata_of(rows=400), model, arrays)


# ----------------------------------------------------------------------------------------------- from file to file


def command(*words: str, code: int = 0) -> None:
    assert main(words) == code


FIT = (
    "--max_steps",
    "4",
    "--batch_size",
    "16",
    "--shared_dim",
    "4",
    "--private_dim",
    "3",
    "--diffusion",
    "0",
    "--networks.hidden",
    "[16]",
)


def test_from_h5mu_to_report_and_annotated_h5mu(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, run, out = tmp_path / "cells.h5mu", tmp_path / "run", tmp_path / "out" / "annotated.h5mu"
    mdata = mdata_of(rows=150)
    before = saved(mdata, file).read_bytes()
    options: dict[str, Any] = {
        "labels": ["kind"],
        "top_features": 12,
        "modalities": {"rna": "zinb", "adt": None},
        "batch": ["donor"],
    }
    options["fractions"] = (0.6, 0.2, 0.2)
    described = (
        "--data",
        str(file),
        "--data.labels",
        "kind",
        "--batch",
        "donor",
        "--top_features",
        "12",
        "--data.modalities",
        "{rna: zinb, adt: null}",
    )
    described += ("--fractions", "[0.6, 0.2, 0.2]")
    command(
        "fit",
        "idmvae",
        *described,
        *FIT,
        "--private_labels",
        "{rna: [phase]}",
        "--fit.progress",
        "false",
        "--out",
        str(run),
    )
    command("evaluate", str(run), "--only", "probe")
    evaluation = Evaluation.from_json(run / "evaluation-partial.json")
    assert {
        "probe/z/kind",
        "probe/w/kind",
        "probe/z/phase",
        "probe/w/phase/rna",
    } <= evaluation.metrics.keys()
    page = cp.write_report(
        cp.load(run),
        cp.data.load(file, **options),
        evaluation,
        run / "metrics.csv",
        tmp_path / "a.html",
        maps=["pca"],
    ).read_text()
    assert (
        'id="features"' in page
        and "CD/1" in page
        and "12 of the 18 of rna" in page
        and "vector of 12 counts (g0, " in page
    )
    command("annotate", str(run), "--out", str(out))
    assert capsys.readouterr().out.rstrip().endswith(str(out)) and file.read_bytes() == before
    annotated = read(out)
    assert annotated.obsm["X_counterpoint"].shape == (150, 4) and [*annotated.obs_names] == [
        *mdata.obs_names
    ]
    assert annotated.obsm["X_counterpoint_adt_private"].shape == (150, 3)
    imputed = annotated["rna"].layers["counterpoint_imputed"]
    assert (
        np.isfinite(imputed).sum(1).tolist() == [12] * annotated["rna"].n_obs
        and np.nanmin(imputed) >= 0
    )
    assert [p.name for p in out.parent.iterdir()] == ["annotated.h5mu"]
    command(
        "fit",
        "--config",
        str(run / "config.yaml"),
        "--max_steps",
        "2",
        "--out",
        str(tmp_path / "again"),
    )  # mappings and lists come back


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("annotate", "RUN", "--out", "a.h5ad"), "cannot write a.h5ad: end its name in .h5mu"),
        (("annotate", "none", "--out", "a.h5mu"), "no run folder none"),
        (("annotate", "RUN", "--out", "a.h5mu"), "was trained on digits-quadrant, which is no .h5mu or .h5ad file to annotate"),
        (("fit", "idmvae", "--data", "FILE", "--data.labels", "kinds", "--out", "b"), "has no obs column 'kinds'; did you mean 'kind'?"),
        (("fit", "idmvae", "--data", "FILE", "--data.modalities", "{rna: nb}", "--batch", "x", "--out", "b"), "no obs column 'x'"),
        (("fit", "idmvae", "--data", "HALF", "--out", "b"), "half.h5mu is truncated or no .h5mu file"),
        (("fit", "idmvae", "--data", "FILE", "--size", "32", "--out", "b"), "'size' does not apply to"),
    ],
)  # fmt: skip
def test_mistakes_end_in_one_line(
    words: tuple[str, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(
        "method: idmvae\ndata: {source: digits-quadrant}\n"
    )
    whole = saved(mdata_of(), tmp_path / "cells.h5mu").read_bytes()
    (tmp_path / "half.h5mu").write_bytes(whole[: len(whole) // 2])
    places = {"RUN": "run", "FILE": "cells.h5mu", "HALF": "half.h5mu"}
    command(*(places.get(word, word) for word in words), code=2)
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
    assert {p.name for p in tmp_path.iterdir()} == {"run", "cells.h5mu", "half.h5mu"}


def test_tables_name_features_and_are_in_the_units_of_the_data(tmp_path: Path) -> None:
    modality = cp.Modality(
        "adt", (3,), "normal", features=("CD4", "CD8", 'a,"b"'), units=((1, 2), (0, 1), (5, 10))
    )
    values = torch.tensor([[0.0, 1.0, 0.5], [1.0, -1.0, 0.0]])
    path = write_values({"adt": values}, [modality], tmp_path / "a.csv")
    assert path.read_text().splitlines() == ['CD4,CD8,"a,""b"""', "1.0,1.0,10.0", "3.0,-1.0,5.0"]
    np.testing.assert_allclose(read_values(modality, path), values)
    path.write_text('cell,"a,""b""",CD8,CD4\nx,10,1,1\n'.replace("x,", "7,"))
    np.testing.assert_allclose(read_values(modality, path), values[:1])
    path.write_text("1,1,10\n")
    np.testing.assert_allclose(read_values(modality, path), values[:1])
    for text, message in (
        ("CD4,CD8\n1,2\n", "lacks 1 features of 'adt', 'a,\"b\"' first"),
        ('CD4,CD8,"a,""b"""\n1,2\n', "row 2 has another length"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_values(modality, path)
    with pytest.raises(ValueError, match=r"a \.csv table holds one vector modality, not adt, b"):
        write_values({"adt": values, "b": values}, [modality, cp.Modality("b", (3,))], path)


@pytest.mark.filterwarnings("default:.*skipped 1 observations")
def test_skipping_from_the_command_line_says_what_it_skipped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mdata = mdata_of()
    mdata["adt"].X[30, 1] = np.nan
    file = saved(mdata, tmp_path / "cells.h5mu")
    command("fit", "idmvae", "--data", str(file), *FIT, "--out", str(tmp_path / "run"), code=2)
    assert (
        "(c49), feature CD/1 holds nan, no number; clean it" in (said := capsys.readouterr().err)
        and "skip_bad (bad-values)" in said
    )
    skip = ("--skip_bad", "[bad-values, duplicates]", "--fit.progress", "false")
    command("fit", "idmvae", "--data", str(file), *skip, *FIT, "--out", str(tmp_path / "run"))
    assert (
        "warning: cells.h5mu: skipped 1 observations of adt that hold no number (c49)\n"
        in capsys.readouterr().err
    )
