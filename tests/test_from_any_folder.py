"""A run that was trained on a relative path answers from any folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from counterpoint.cli import main
from counterpoint.data.loading import described

TINY = [
    "--shared_dim",
    "2",
    "--private_dim",
    "2",
    "--max_steps",
    "2",
    "--batch_size",
    "16",
    "--fit.progress",
    "false",
]


def table(path: Path) -> Path:
    x = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, a=x, b=x[:, :2] + 1, **{"label/sign": (x[:, 0] > 0).astype(int)})
    return path


def test_a_relative_path_is_kept_absolute_and_every_verb_finds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table(tmp_path / "work" / "data" / "x.npz")
    monkeypatch.chdir(tmp_path / "work")
    assert main(["fit", "mmvae+", "--data", "data/x.npz", *TINY, "--out", "runs/a"]) == 0
    config = yaml.safe_load(Path("runs/a/config.yaml").read_text())
    assert config["data"]["source"] == str(tmp_path / "work" / "data" / "x.npz")
    (tmp_path / "else").mkdir()
    monkeypatch.chdir(tmp_path / "else")
    run = "../work/runs/a"
    few = ["--rows", "20", "--samples", "20", "--likelihood_rows", "4", "--likelihood_samples", "4"]
    assert main(["evaluate", run, *few, "--only", "probe"]) == 0
    assert (
        main(["impute", run, "--split", "test", "--given", "a", "--n", "19", "--out", "i.npz"]) == 0
    )
    assert main(["sample", run, "--n", "2", "--out", "s.json"]) == 0
    assert main(["fit", "--resume", run, "--max_steps", "3"]) == 0
    assert main(["fit", "--config", f"{run}/config.yaml", "--out", "again"]) == 0
    capsys.readouterr()
    # The data are moved: one line says where they were and what to change; changed, the run is
    # evaluated and resumed as before.
    shutil.move(tmp_path / "work" / "data", tmp_path / "moved")
    assert main(["impute", run, "--split", "test", "--given", "a", "--n", "19"]) == 2
    said = capsys.readouterr().err
    assert (
        said.count("\n") == 1
        and f"are not at {tmp_path / 'work' / 'data' / 'x.npz'}; bring them back, or say in {run}/config.yaml"
        in said
    )
    config["data"]["source"] = str(tmp_path / "moved" / "x.npz")
    config["fit"]["max_steps"] = 3
    Path(run, "config.yaml").write_text(yaml.safe_dump(config))
    assert (
        main(["impute", run, "--split", "test", "--given", "a", "--n", "19", "--out", "i.npz"]) == 0
    )
    assert main(["fit", "--resume", run, "--max_steps", "4"]) == 0
    assert main(["fit-prior", run, "--kind", "gmm"]) == 0


def test_names_stay_names_and_paths_become_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("citeseq").mkdir()  # a folder of the name of a set is not what the name means
    assert described({"source": "citeseq", "root": "data", "size": None, "fold": 2}) == {
        "source": "citeseq",
        "root": str(tmp_path / "data"),
        "fold": 2,
    }
    found = described({"source": Path("shards"), "vocabulary": "words.json"})
    assert found == {"source": str(tmp_path / "shards"), "vocabulary": str(tmp_path / "words.json")}
