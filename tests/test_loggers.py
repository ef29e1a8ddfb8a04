"""Loggers of a run: the numbers of metrics.csv, and pictures, in the run folder alone."""

from __future__ import annotations

import csv
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import matplotlib.font_manager  # makes its cache at home, before home is another
import numpy as np
import pytest
import torch
from test_methods import MODALITIES, make, values

from counterpoint.data import Split
from counterpoint.figures import recombinations
from counterpoint.figures.rows import complete_batch
from counterpoint.methods import Method
from counterpoint.training import FitOptions, FitResult
from counterpoint.training.history import read_rows
from counterpoint.training.run_folder import RunFolder

FIT: dict[str, Any] = {
    "max_epochs": 2,
    "batch_size": 8,
    "log_every": 1,
    "progress": False,
    "accelerator": "cpu",
}


def split(seed: int = 0) -> Split:
    return Split(values(16, seed), MODALITIES)


def trained(out: Path, *loggers: str, name: str = "dmvae", **options: Any) -> FitResult:
    return fitted(make(name), out, *loggers, **options)


def fitted(method: Method, out: Path, *loggers: str, **options: Any) -> FitResult:
    return method.fit(split(), split(1), out=out, loggers=loggers, **FIT, **options)


def losses(out: Path) -> dict[str, dict[int, float]]:
    """By name and step, what metrics.csv says."""
    rows = read_rows(RunFolder(out).metrics)
    names = ("train/loss", "val/loss")
    return {n: {int(row["step"]): row[n] for row in rows if n in row} for n in names}


def events(out: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(out / "tensorboard"), size_guidance={"images": 0})
    return read.Reload()


def test_tensorboard_holds_what_metrics_csv_holds(tmp_path: Path) -> None:
    trained(tmp_path / "r", "tensorboard")
    told = losses(tmp_path / "r")
    assert len(told["train/loss"]) == 4 and len(told["val/loss"]) == 2
    for name, by_step in told.items():
        seen = {event.step: event.value for event in events(tmp_path / "r").Scalars(name)}
        assert seen == pytest.approx(by_step, rel=1e-5)


def test_csv_holds_what_metrics_csv_holds(tmp_path: Path) -> None:
    trained(tmp_path / "r", "csv")
    with open(tmp_path / "r" / "csv" / "version_0" / "metrics.csv", newline="") as file:
        rows = [*csv.DictReader(file)]
    for name, by_step in losses(tmp_path / "r").items():
        seen = {int(row["step"]): float(row[name]) for row in rows if row[name]}
        assert seen == pytest.approx(by_step, rel=1e-5)


def test_stages_go_on_where_the_last_one_ended(tmp_path: Path) -> None:
    trained(tmp_path / "r", "tensorboard", "csv", name="jnf")
    steps = [event.step for event in events(tmp_path / "r").Scalars("train/loss")]
    assert steps == [*range(1, 9)]
    assert len([*(tmp_path / "r" / "csv").iterdir()]) == 2


def test_pictures_are_those_of_the_weights_at_each_validation(tmp_path: Path) -> None:
    """And asking for them changes nothing else."""
    method = make("dmvae")
    fitted(method, tmp_path / "r", "tensorboard", log_images=True)
    read = events(tmp_path / "r")
    tags = [f"val/recombination/{m.name}" for m in MODALITIES]
    assert read.Tags()["images"] == tags
    image = read.Images(tags[0])
    assert [event.step for event in image] == [2, 4]
    assert image[0].encoded_image_string != image[1].encoded_image_string
    figure = recombinations(method, complete_batch(method, split(1), 6), "image")
    width, height = figure.get_size_inches() * 100
    assert (image[1].width, image[1].height) == pytest.approx((width, height), abs=1)
    plain = make("dmvae")
    fitted(plain, tmp_path / "plain")
    for one, other in zip(method.parameters(), plain.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_last_picture_is_drawn_from_the_last_weights(tmp_path: Path) -> None:
    from counterpoint.training.pictures import rendered

    method = make("dmvae")
    fitted(method, tmp_path / "r", "tensorboard", log_images=True)
    from io import BytesIO

    from PIL import Image

    last = events(tmp_path / "r").Images("val/recombination/image")[-1]
    seen = np.asarray(Image.open(BytesIO(last.encoded_image_string)).convert("RGB"))
    figure = recombinations(method, complete_batch(method, split(1), 6), "image")
    assert np.abs(seen.astype(int) - rendered(figure)).max() <= 1


def test_a_method_without_private_latents_shows_cross_generation(tmp_path: Path) -> None:
    trained(tmp_path / "r", "tensorboard", name="mvtcae", log_images=True)
    assert events(tmp_path / "r").Tags()["images"] == ["val/cross-generation"]


def test_pictures_need_rows_to_draw(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="log_images needs val rows"):
        make("dmvae").fit(split(), out=tmp_path / "r", loggers=(), log_images=True, **FIT)


def test_no_logger_and_no_folder_write_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make("dmvae").fit(split(), loggers=("csv", "tensorboard"), **FIT)
    assert [*tmp_path.iterdir()] == []
    trained(tmp_path / "r")
    assert not {"csv", "tensorboard"} & {path.name for path in (tmp_path / "r").iterdir()}


def test_an_unknown_logger_is_refused() -> None:
    with pytest.raises(ValueError, match="comet"):
        FitOptions(loggers=("comet",))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_logger_that_is_not_installed_names_its_extra(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, name, None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'counterpoint\[loggers\]'"):
        trained(tmp_path / "r", name)


def test_clearing_a_run_removes_what_its_loggers_wrote(tmp_path: Path) -> None:
    trained(tmp_path / "r", "tensorboard", "csv")
    RunFolder(tmp_path / "r").clear()
    assert [*(tmp_path / "r").iterdir()] == []


@pytest.mark.skipif(not find_spec("mlflow"), reason="needs mlflow")
@pytest.mark.filterwarnings("default")  # of mlflow's own
def test_mlflow_keeps_numbers_and_pictures_in_the_run_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.tracking import MlflowClient

    assert matplotlib.font_manager.fontManager.ttflist
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # also for the client below
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "home")
    trained(tmp_path / "r", "mlflow", log_images=True)
    client = MlflowClient((tmp_path / "r" / "mlflow").as_uri())
    experiment = client.get_experiment_by_name("counterpoint")
    (run,) = client.search_runs([experiment.experiment_id])
    for name, by_step in losses(tmp_path / "r").items():
        seen = {m.step: m.value for m in client.get_metric_history(run.info.run_id, name)}
        assert seen == pytest.approx(by_step, rel=1e-5)
    pictures = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert "val-recombination-image-0000004.png" in pictures
    assert run.info.status == "FINISHED" and [*(tmp_path / "home").iterdir()] == []


@pytest.mark.skipif(not find_spec("wandb"), reason="needs wandb")
@pytest.mark.filterwarnings("default")  # of wandb's own
def test_wandb_works_offline_in_the_run_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "home")
    before = dict(os.environ)
    trained(tmp_path / "r", "wandb", log_images=True)
    (run,) = (tmp_path / "r" / "wandb").glob("offline-run-*")
    assert [*run.glob("*.wandb")] and len([*run.glob("files/media/images/val/**/*.png")]) == 6
    assert dict(os.environ) == before and [*(tmp_path / "home").iterdir()] == []
