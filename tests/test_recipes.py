"""Recipes by name, and the limits that end a training: the one that was asked for last
holds."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import counterpoint as cp
from counterpoint.cli import main
from counterpoint.cli.afterwards import fitting
from counterpoint.cli.fit_decoder import RECORDS
from counterpoint.cli.recipes import FOLDER, recipes
from counterpoint.cli.settings import settings, study_settings
from counterpoint.core.modality import Modality
from counterpoint.data import Split
from counterpoint.methods import MVAE
from counterpoint.studies.recipe import Recipe
from counterpoint.training import FitOptions, fit_decoder
from counterpoint.training.options import with_changes

QUIET: dict[str, Any] = {"batch_size": 16, "progress": False, "loggers": ()}


def limits(fit: dict[str, Any]) -> tuple[int, int, str | None]:
    options = FitOptions(**fit)
    return options.epochs, options.max_steps, options.max_time


def split(rows: int = 32) -> Split:
    x = np.random.default_rng(0).normal(size=(rows, 3)).astype(np.float32)
    return Split(
        {"a": x, "b": x + 1},
        (Modality("a", (3,), "normal", 1.0), Modality("b", (3,), "normal", 1.0)),
    )


def test_recipes_are_found_by_name_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "omics" in recipes() and (FOLDER / "omics.yaml").is_file()
    named = settings(["--recipe", "omics", "--data", "cells.h5mu"])
    assert (
        named.method,
        named.model["cross_mi"],
        named.fit["max_steps"],
        named.data["source"],
    ) == ("idmvae", 5.0, 600, "cells.h5mu")
    assert (
        settings(["--recipe", "omics.yaml"])
        == settings(["--config", "omics.yaml"])
        == settings(["--recipe=omics"])
    )
    # A file of that name in the folder is meant by --config, and never by --recipe; --config comes
    # after --recipe.
    Path("omics.yaml").write_text("method: idmvae\nmodel: {cross_mi: 7}\n")
    assert settings(["--config", "omics.yaml"]).model["cross_mi"] == 7
    assert settings(["--recipe", "omics"]).model["cross_mi"] == 5
    both = settings(["--recipe", "omics", "--config", "omics.yaml"])
    assert (both.model["cross_mi"], both.model["genaug"]) == (7, 0.3)


def test_an_unknown_recipe_is_answered_with_the_known_ones(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["fit", "--recipe", "omisc", "--out", "r"]) == 2
    said = capsys.readouterr().err
    assert (
        "unknown recipe 'omisc'; did you mean 'omics'?" in said
        and all(name in said for name in recipes())
        and said.count("\n") == 1
    )
    assert main(["fit", "--help"]) == 0
    listed = capsys.readouterr().out
    assert all(f"\n  {name} " in listed for name in recipes())
    assert main(["fit", "mvae", "--recipe", "omics", "--out", "r"]) == 2
    assert "omics.yaml is of idmvae, and mvae has no 'model.private_dim'" in capsys.readouterr().err
    for verb in (["fit", "mvae"], ["tune", "mvae"], ["sweep"]):
        assert main([*verb, "--help"]) == 0
        assert "--recipe" in capsys.readouterr().out


def test_a_sweep_reads_the_method_of_a_recipe() -> None:
    wanted, methods = study_settings(
        ["--recipe", "omics", "--lr", "0.5"], "sweep", "", lambda parser: None
    )
    assert [*methods] == ["idmvae"] and methods["idmvae"]["model"]["cross_mi"] == 5.0
    assert (wanted.fit["lr"], wanted.fit["batch_size"], wanted.data["source"]) == (
        0.5,
        64,
        "citeseq",
    )


def test_recipes_travel_with_the_package(tmp_path: Path) -> None:
    """A copy of the package elsewhere finds its own."""
    package = Path(cp.__file__).parent
    shutil.copytree(
        package, tmp_path / "counterpoint", ignore=shutil.ignore_patterns("__pycache__")
    )
    code = "from counterpoint.cli.recipes import recipe; print(recipe('omics'))"
    found = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert found.stdout.strip() == str(tmp_path / "counterpoint" / "recipes" / "omics.yaml")


def test_twenty_passes_are_the_default_only_where_no_limit_is_given() -> None:
    assert limits({}) == (20, -1, None)
    assert limits({"max_steps": 200}) == (-1, 200, None)
    assert limits({"max_time": "00:00:05:00"}) == (-1, -1, "00:00:05:00")
    assert limits({"max_cpu_minutes": 2.0}) == (-1, -1, None)
    assert limits({"max_steps": 200, "max_epochs": 3}) == (
        3,
        200,
        None,
    )  # both given: the first to be reached


def test_so_many_steps_are_trained_as_were_asked_for(tmp_path: Path) -> None:
    """32 rows in batches of 16 are two steps a pass: 20 passes would end it after 40."""
    rows = split()
    method = MVAE(rows.modalities, shared_dim=2)
    assert method.fit(rows, max_steps=50, out=tmp_path / "r", **QUIET).steps == 50
    assert yaml.safe_load((tmp_path / "r" / "config.yaml").read_text())["fit"]["max_epochs"] is None
    assert method.fit(rows, max_steps=60, out=tmp_path / "r", resume=True, **QUIET).steps == 60
    assert (
        MVAE(rows.modalities, shared_dim=2).fit(rows, max_steps=50, max_epochs=2, **QUIET).steps
        == 4
    )
    assert MVAE(rows.modalities, shared_dim=2).fit(rows, **QUIET).steps == 40


def test_a_limit_of_the_command_line_replaces_those_before_it(tmp_path: Path) -> None:
    (tmp_path / "epochs.yaml").write_text("method: mvae\nfit: {max_epochs: 3}\n")
    (tmp_path / "steps.yaml").write_text("method: mvae\nfit: {max_steps: 30, cooldown: 10}\n")
    epochs, steps = (["--config", str(tmp_path / name)] for name in ("epochs.yaml", "steps.yaml"))
    assert limits(settings([*epochs, "--max_steps", "500"]).fit) == (-1, 500, None)
    assert limits(settings([*epochs, "--max_steps=500", "--max_epochs=9"]).fit) == (9, 500, None)
    assert limits(settings([*epochs, "--max_steps=-1"]).fit) == (
        3,
        -1,
        None,
    )  # no limit takes the place of none
    assert limits(settings([*epochs, "--lr", "0.1"]).fit) == (3, -1, None)
    assert settings([*steps, "--max_steps", "20"]).fit["cooldown"] == 10
    with pytest.warns(UserWarning, match="the cooldown is left out: it counts back from max_steps"):
        wanted = settings([*steps, "--fit.max_epochs", "2"])
    assert limits(wanted.fit) == (2, -1, None) and wanted.fit["cooldown"] == 0
    recipe = settings(
        ["idmvae", "--recipe", "polymnist-quadrant", *steps]
    )  # the recipe says 100 passes
    assert limits(recipe.fit) == (-1, 30, None)


def test_a_resumed_run_lasts_as_long_as_was_asked_for_last(tmp_path: Path) -> None:
    assert (
        main(["fit", "mvae", "--data", "digits-quadrant", "--max_steps", "3", "--print_config"])
        == 0
    )
    run = tmp_path / "r"
    run.mkdir()
    (run / "config.yaml").write_text(
        "method: {name: mvae, config: {}}\ndata: {source: digits-quadrant}\nfit: {max_steps: 3, max_epochs: null}\n"
    )
    assert limits(settings(["--resume", str(run), "--max_epochs", "2"]).fit) == (2, -1, None)
    assert limits(settings(["--resume", str(run)]).fit) == (-1, 3, None)


def test_limits_of_other_callers_follow_the_same_rule() -> None:
    usual = FitOptions(max_steps=3000, lr=1e-3)
    assert (
        with_changes(usual, {"max_epochs": 2}).max_steps,
        with_changes(usual, {"max_epochs": 2}).epochs,
    ) == (-1, 2)
    assert with_changes(FitOptions(max_epochs=5), {"max_steps": 100}).epochs == -1
    assert with_changes(FitOptions(max_epochs=5), {"lr": 0.1}).epochs == 5
    words = ["RUN", "--denoiser.modalities", "[image]", "--max_epochs", "4"]
    assert limits(vars(fitting(words, "fit-decoder", fit_decoder, RECORDS).options["fit"])) == (
        4,
        -1,
        None,
    )
    searched = Recipe.of(MVAE, "digits-quadrant", None, {"max_epochs": 5}).changed(
        {"fit.max_steps": 70}
    )
    assert limits(dict(searched.fit)) == (-1, 70, None)
