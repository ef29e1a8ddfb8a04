"""Studies: a search whose optimum is known, what it does with runs that fail, and that
one that was stopped goes on."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_origin

import numpy as np
import pytest
import yaml
from processes import Fork, wait_for

import counterpoint as cp
from counterpoint.cli import main
from counterpoint.core.modality import Modality
from counterpoint.data import Dataset, Split
from counterpoint.methods import METHODS
from counterpoint.studies import Choices, Range, Recipe, fields_of, read_space, sweep, tune
from counterpoint.studies.drawing import figure
from counterpoint.studies.optuna_study import Stopped, watcher
from counterpoint.studies.space import _takes, placed
from counterpoint.training import FitOptions

optuna = pytest.importorskip("optuna")

MODALITIES = (Modality("a", (5,), "normal", 0.5), Modality("b", (3,), "normal", 0.5))
FIT: dict[str, Any] = {"max_epochs": 3, "batch_size": 32, "loggers": (), "lr": 1e-2}
MODEL: dict[str, Any] = {"shared_dim": 2, "networks": {"hidden": [8]}}
RATES = {"fit.lr": [1e-8, 1e-2]}


def split(rows: int, seed: int) -> Split:
    """Both modalities show one number, whose sign is the label."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(rows, 1))
    x = {
        m.name: (z + 0.3 * rng.normal(size=(rows, *m.shape))).astype(np.float32) for m in MODALITIES
    }
    return Split(x, MODALITIES, shared_labels={"sign": (z[:, 0] > 0).astype(int)})


DATA = Dataset("toy", MODALITIES, split(96, 0), split(32, 1), split(32, 2))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same data in a file, which a configuration can name."""
    path = tmp_path_factory.mktemp("data") / "toy.npz"
    arrays = {f"{part}/{name}": v for part, s in DATA.splits().items() for name, v in s.x.items()}
    arrays |= {f"{part}/label/sign": s.shared_labels["sign"] for part, s in DATA.splits().items()}
    np.savez(path, **arrays)
    return path


def search(out: Path, space: dict[str, Any] = RATES, data: Any = DATA, **options: Any) -> Any:
    settings = {
        "trials": 2,
        "model": MODEL,
        "fit": FIT,
        "progress": False,
        "prune": "none",
        **options,
    }
    return tune("mvae", data, space, out=out, **settings)


def losses(run: Path) -> list[float]:
    """val/loss at each validation of a run."""
    with (run / "metrics.csv").open() as file:
        return [float(row["val/loss"]) for row in csv.DictReader(file) if row["val/loss"]]


# --- a search ---------------------------------------------------------------------------------------------------------


def test_the_known_optimum_is_found_and_its_configuration_can_be_fitted(
    source: Path, tmp_path: Path
) -> None:
    """A rate of 1e-8 learns nothing. The run that best.yaml describes is that of the
    trial, to the last digit."""
    found = search(tmp_path / "s", data=str(source), trials=3)
    assert (
        found.best is not None
        and found.best.values == {"fit.lr": 1e-2}
        and {t.values["fit.lr"] for t in found.trials} == {1e-8, 1e-2}
    )
    assert [t.state for t in found.trials] == ["complete"] * 3 and found.best.value == min(
        t.value for t in found.trials
    )
    runs = sorted(p for p in (tmp_path / "s" / "trials").iterdir())
    assert [run.name for run in runs] == ["0000", "0001", "0002"]
    for trial, run in zip(found.trials, runs, strict=True):
        assert (
            trial.value == losses(run)[-1]
            and len(losses(run)) == 3
            and not (run / "checkpoints").exists()
        )
    assert (
        main(
            [
                "fit",
                "--config",
                str(found.config),
                "--fit.progress",
                "false",
                "--out",
                str(tmp_path / "best"),
            ]
        )
        == 0
    )
    assert losses(tmp_path / "best")[-1] == found.best.value
    with (tmp_path / "s" / "trials.csv").open() as file:
        rows = [*csv.DictReader(file)]
    assert [float(row["val/loss"]) for row in rows] == [t.value for t in found.trials] and rows[0][
        "state"
    ] == "complete"
    lines = found.table().splitlines()
    assert lines[0].split() == ["trial", "val/loss", "fit.lr", "seconds"] and lines[1].split()[
        0
    ] == str(found.best.number)


def test_a_metric_is_that_of_the_validation_split(tmp_path: Path) -> None:
    found = search(
        tmp_path,
        trials=1,
        metric="probe/z/sign",
        direction="maximize",
        evaluation={"probe_rows": 64},
    )
    trial = found.trials[0]
    model = cp.load(tmp_path / "trials" / "0000")
    on = {
        part: cp.evaluate(model, DATA, split=part, only=["probe"], probe_rows=64, progress=False)
        for part in ("val", "test")
    }
    assert trial.value == on["val"].metrics["probe/z/sign"] != on["test"].metrics["probe/z/sign"]
    assert (
        json.loads((tmp_path / "trials" / "0000" / "evaluation-partial.json").read_text())["meta"][
            "split"
        ]
        == "val"
    )


def test_fields_of_method_data_and_training_are_varied(source: Path, tmp_path: Path) -> None:
    space = {
        "model": {"networks": {"hidden": [[4], [8, 8]]}},
        "fit": {"batch_size": {"low": 16, "high": 32, "step": 16}},
        "data.missing": [0.5],
    }
    found = search(tmp_path, space, data={"source": str(source)}, trials=3, sampler_seed=1)
    for trial in found.trials:
        config = yaml.safe_load(
            (tmp_path / "trials" / f"{trial.number:04d}" / "config.yaml").read_text()
        )
        assert (
            json.dumps(config["method"]["config"]["networks"]["hidden"])
            == trial.values["model.networks.hidden"]
        )
        assert config["fit"]["batch_size"] == trial.values["fit.batch_size"] in (16, 32)
        assert (
            config["data"] == {"source": str(source), "missing": 0.5}
            and config["method"]["config"]["shared_dim"] == 2
        )


def test_a_recipe_changes_by_dotted_names_alone() -> None:
    base = Recipe.of(
        METHODS["mvae"], "x.npz", {"networks": cp.NetworkOptions(hidden=(4,))}, FitOptions(lr=0.5)
    )
    changed = base.changed(
        {"model.networks.width": 3, "fit.stages.flows.lr": 0.1, "data.missing": 0.2}
    )
    assert changed.model["networks"]["width"] == 3 and changed.model["networks"]["hidden"] == (4,)
    assert (
        changed.fit["stages"] == {"flows": {"lr": 0.1}}
        and changed.fit["lr"] == 0.5
        and changed.data == {"source": "x.npz", "missing": 0.2}
    )
    assert base.fit["stages"] == {} and base.data == {"source": "x.npz"}, "the base stays as it was"
    assert placed({"a": None}, "a.b.c", 1) == {"a": {"b": {"c": 1}}}


# --- trials that come to nothing ---------------------------------------------------------------------------------------


def test_trials_that_are_behind_are_pruned(tmp_path: Path) -> None:
    """By the median, once there are five to compare with; they have fewer validations
    than the others, and say why."""
    found = search(tmp_path, {"fit.lr": [1e-8, 1e-2]}, trials=12, prune="median")
    pruned = [t for t in found.trials if t.state == "pruned"]
    assert (
        pruned
        and min(t.number for t in pruned) >= 5
        and {t.values["fit.lr"] for t in pruned} == {1e-8}
    )
    for trial in pruned:
        assert trial.value is None and "is behind at validation" in trial.reason
        assert (
            len(losses(tmp_path / "trials" / f"{trial.number:04d}"))
            == int(trial.reason.split()[-1])
            < 3
        )
    assert found.best is not None and found.best.values["fit.lr"] == 1e-2


@pytest.mark.parametrize(("direction", "sign"), [("minimize", 1), ("maximize", -1)])
def test_a_pruner_of_either_direction_sees_that_less_loss_is_better(
    direction: Any, sign: int
) -> None:
    told: dict[int, float] = {}
    trial: Any = SimpleNamespace(
        report=lambda value, step: told.update({step: value}), should_prune=lambda: len(told) == 2
    )
    watch = watcher(trial, direction)
    watch({"val/loss": 3.0})
    with pytest.raises(Stopped, match="val/loss 2 is behind at validation 2"):
        watch({"val/loss": 2.0})
    assert told == {1: sign * 3.0, 2: sign * 2.0}
    with pytest.raises(Stopped, match="val/loss is nan at validation 3"):
        watch({"val/loss": float("nan")})


def test_losses_that_are_not_finite_and_values_that_do_not_go_together_end_their_trial_alone(
    tmp_path: Path,
) -> None:
    found = search(
        tmp_path,
        {"fit.lr": [1e-2, 1e30], "fit.cooldown": [0, 50]},
        trials=8,
        fit={**FIT, "max_steps": 9},
    )
    by_state = {
        state: [t for t in found.trials if t.state == state]
        for state in ("complete", "pruned", "failed")
    }
    assert all(by_state.values()) and sum(map(len, by_state.values())) == 8
    assert all(
        "is nan in step" in t.reason or "is inf in step" in t.reason for t in by_state["pruned"]
    )
    assert all(
        "cooldown 50 counts the last steps before max_steps 9" in t.reason
        for t in by_state["failed"]
    )
    assert {(t.values["fit.lr"], t.values["fit.cooldown"]) for t in by_state["complete"]} == {
        (1e-2, 0)
    }
    assert "failed: cooldown 50" in found.table() and "pruned: loss term" in found.table()


def test_a_study_without_a_value_has_no_best(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "s.yaml").write_text("fit.val_every: [500]")
    words = [
        "tune",
        "mvae",
        "--data",
        str(source),
        "--search",
        str(tmp_path / "s.yaml"),
        "--trials",
        "2",
        "--out",
        str(tmp_path / "o"),
    ]
    assert main(words) == 2
    said = capsys.readouterr()
    assert (
        "no trial came to a value; the last one says: val/loss was never measured" in said.err
        and "failed: val/loss" in said.out
    )
    assert not (tmp_path / "o" / "best.yaml").exists() and (tmp_path / "o" / "trials.csv").exists()


# --- going on -----------------------------------------------------------------------------------------------------------


def test_a_study_goes_on_and_counts_what_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = {"fit.lr": {"low": "1e-3", "high": 1e-1, "log": True}}
    first = search(tmp_path, space, trials=2)
    second = search(tmp_path, space, trials=4)
    assert second.trials[:2] == first.trials and len(second.trials) == 4
    assert len({t.values["fit.lr"] for t in second.trials}) == 4, (
        "a sampler that is made anew must not propose the same"
    )

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("no trial is left to run")

    monkeypatch.setattr(Recipe, "trained", never)
    assert (
        search(tmp_path, space, trials=4) == second and search(tmp_path, space, trials=3) == second
    )


@pytest.mark.slow
def test_a_killed_study_goes_on_with_the_same_command(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """SIGKILL while a trial is under way: the database is whole, and that trial is
    begun anew with its values, and counts once."""
    (tmp_path / "s.yaml").write_text("fit.lr: {low: 1e-3, high: 1e-1, log: true}\n")
    out, storage = tmp_path / "o", f"sqlite:///{tmp_path}/F.db"
    words = [
        "tune",
        "mvae",
        "--data",
        str(source),
        "--search",
        str(tmp_path / "s.yaml"),
        "--trials",
        "3",
        "--storage",
        storage,
        "--out",
        str(out),
    ]
    words += [
        "--batch_size",
        "32",
        "--fit.loggers",
        "[]",
        "--fit.progress",
        "false",
        "--shared_dim",
        "2",
        "--networks.hidden",
        "[8]",
    ]
    process = Fork(lambda: main([*words, "--max_epochs", "100000"]), tmp_path)
    try:
        wait_for(out / "trials" / "0000" / "metrics.csv", process)
    finally:
        process.kill()
    assert main([*words, "--max_epochs", "2"]) == 0
    study = optuna.load_study(study_name="mvae", storage=storage)
    assert [t.state.name for t in study.trials] == ["FAIL", "COMPLETE", "COMPLETE", "COMPLETE"]
    assert study.trials[0].params == study.trials[1].params != study.trials[2].params
    assert "interrupted: begun anew" in capsys.readouterr().out and not (out / "study.db").exists()


def test_a_storage_keeps_to_one_study(tmp_path: Path) -> None:
    search(tmp_path, trials=1)
    with pytest.raises(
        ValueError,
        match=r"holds a study of another search \(.*1e-08.*\); go on with that, or name another storage",
    ):
        search(tmp_path, {"fit.lr": [1e-3]})
    with pytest.raises(ValueError, match=r"holds a study of another metric \(val/loss\)"):
        search(tmp_path, metric="probe/z/sign", direction="minimize")
    (tmp_path / "no.db").write_text("not a database, whatever its name says; " * 20)
    for address in (
        f"sqlite:///{tmp_path}/none/F.db",
        f"sqlite:///{tmp_path}/no.db",
        "F.db",
        "unheard://F",
    ):
        with pytest.raises(
            ValueError,
            match=r"storage '.*' cannot be used \(.*\); give Optuna's address of a database, such as sqlite:///F.db",
        ):
            search(tmp_path / "other", storage=address)
    assert (tmp_path / "no.db").read_text().startswith("not a database")


def test_a_metric_that_is_not_measured_ends_the_study_and_can_be_mended(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError,
        match=r"metric 'probe/z/sing' is not measured of mvae on toy; did you mean 'probe/z/sign'\?",
    ):
        search(tmp_path, metric="probe/z/sing", direction="maximize")
    found = search(tmp_path, metric="probe/z/sign", direction="maximize", trials=1)
    assert [t.state for t in found.trials] == ["interrupted", "complete"]


# --- sweeps -----------------------------------------------------------------------------------------------------------

QUICK: dict[str, Any] = {
    "rows": 24,
    "probe_rows": 64,
    "likelihood_rows": 4,
    "likelihood_samples": 5,
    "only": ["probe", "likelihood"],
}
METHOD = {"mvae": {"model": MODEL}, "mopoe": {"model": MODEL, "fit": {"lr": 2e-3}}}


def swept(out: Path, data: Any = DATA, methods: Any = METHOD, **options: Any) -> Any:
    settings = {
        "rates": (0.0, 0.5),
        "fit": {**FIT, "max_epochs": 1},
        "evaluation": QUICK,
        "progress": False,
        **options,
    }
    return sweep(methods, data, out=out, **settings)


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The run folders that are trained."""
    names: list[str] = []
    trained = Recipe.trained

    def counted(recipe: Recipe, data: Dataset, folder: Path, **options: Any) -> Any:
        names.append(folder.name)
        return trained(recipe, data, folder, **options)

    monkeypatch.setattr(Recipe, "trained", counted)
    return names


def test_a_sweep_trains_what_is_new_and_measures_it_on_complete_rows(
    source: Path, tmp_path: Path, trainings: list[str]
) -> None:
    found = swept(tmp_path, str(source))
    assert trainings == [
        "mvae-complete-0-seed0",
        "mopoe-complete-0-seed0",
        "mvae-random-0.5-seed0",
        "mopoe-random-0.5-seed0",
    ]
    assert swept(tmp_path, str(source)) == found and len(trainings) == 4
    more = swept(tmp_path, str(source), rates=(0, 0.5), how=("random", "block", "test"))
    assert trainings[4:] == ["mvae-block-0.5-seed0", "mopoe-block-0.5-seed0"], (
        "'test' measures what complete rows have trained"
    )
    written = json.loads((tmp_path / "sweep.json").read_text())
    assert [(r["method"], r["how"], r["rate"]) for r in written["runs"][:3]] == [
        ("mvae", "complete", 0),
        ("mopoe", "complete", 0),
        ("mvae", "random", 0.5),
    ]
    whole = cp.data.load(str(source))
    for how in ("random", "block"):
        run = tmp_path / "runs" / f"mopoe-{how}-0.5-seed0"
        config = yaml.safe_load((run / "config.yaml").read_text())
        assert (config["data"]["missing"], config["data"]["missing_how"], config["fit"]["lr"]) == (
            0.5,
            how,
            2e-3,
        )
        trained_on = cp.data.load(**config["data"]).train
        assert (
            0.5 <= np.mean([*trained_on.present.values()]) <= 0.75
            and trained_on.present["a"].mean() < 1
        )
        direct = cp.evaluate(cp.load(run), whole, progress=False, **QUICK).metrics
        assert {m: more.curve(m, "mopoe", how)[0.5] for m in direct} == {
            m: [pytest.approx(value)] for m, value in direct.items()
        }
    assert (
        more.curve("loglik/joint", "mopoe", "random")[0.0]
        == more.curve("loglik/joint", "mopoe", "block")[0.0]
    )
    holed = replace(whole, test=whole.test.with_missing(0.5, 0, among=["b"]))
    complete = cp.load(tmp_path / "runs" / "mvae-complete-0-seed0")
    direct = cp.evaluate(complete, holed, progress=False, **{**QUICK, "only": ["probe"]}).metrics
    assert more.curve("probe/all/sign", "mvae", "test")[0.5] == [
        pytest.approx(direct["probe/all/sign"])
    ]
    assert not more.drawn("loglik/joint", "test") and more.metrics[:2] == (
        "probe/z/sign",
        "probe/all/sign",
    )
    assert "probe/all/sign, test" in more.table() and "loglik/joint, test" not in more.table()
    with pytest.raises(
        ValueError,
        match=r"holds a sweep with other options \(methods/mvae\); give the same, or name another folder",
    ):
        swept(tmp_path, str(source), fit={**FIT, "max_epochs": 2})


def test_a_sweep_that_was_stopped_goes_on(
    tmp_path: Path, trainings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped before its second run was measured, and then within the training of its
    third: neither the first nor the second is trained again."""
    done: list[int] = []

    def stopping(*args: Any, **options: Any) -> Any:
        done.append(1)
        if len(done) == 2:
            raise KeyboardInterrupt
        return cp.evaluate(*args, **options)

    monkeypatch.setattr("counterpoint.studies.sweeping.evaluate", stopping)
    with pytest.raises(KeyboardInterrupt):
        swept(tmp_path)
    assert (
        len(trainings) == 2 and len(json.loads((tmp_path / "sweep.json").read_text())["runs"]) == 1
    )
    whole = swept(tmp_path)
    assert (
        trainings[2:] == ["mvae-random-0.5-seed0", "mopoe-random-0.5-seed0"]
        and len(whole.cells) == 4
    )
    assert whole.cells == swept(tmp_path / "again").cells


def test_a_run_that_diverges_is_named_and_the_others_are_measured(tmp_path: Path) -> None:
    methods = {**METHOD, "mopoe": {"model": MODEL, "fit": {"lr": 1e30, "max_epochs": 3}}}
    found = swept(
        tmp_path, methods=methods, rates=(0.5,), evaluation={**QUICK, "only": ["likelihood"]}
    )
    assert [cell.method for cell, _ in found.cells] == ["mvae"] and "in step" in found.failed[
        "mopoe-random-0.5-seed0"
    ]


def test_metrics_that_are_asked_for_later_are_measured_without_training(
    tmp_path: Path, trainings: list[str]
) -> None:
    swept(
        tmp_path,
        methods={"mvae": METHOD["mvae"]},
        evaluation={**QUICK, "only": ["likelihood"]},
        seeds=(0, 1),
    )
    assert len(trainings) == 4
    found = swept(
        tmp_path,
        methods={"mvae": METHOD["mvae"]},
        evaluation={**QUICK, "only": ["likelihood"]},
        metrics=["impute/nrmse"],
        seeds=(0, 1),
    )
    assert len(trainings) == 4 and found.metrics == ("impute/nrmse",)
    (axes,) = figure(found).axes
    curve = found.curve("impute/nrmse", "mvae", "random")
    x, y = axes.lines[0].get_data()
    assert (
        [*x] == [0, 50]
        and [*y] == [np.mean(v) for v in curve.values()]
        and all(len(v) == 2 for v in curve.values())
    )
    bars = axes.collections[0].get_segments()
    assert bars[1][:, 1].tolist() == pytest.approx(
        [y[1] - np.std(curve[0.5], ddof=1), y[1] + np.std(curve[0.5], ddof=1)]
    )
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")


def test_the_command_reads_a_configuration_of_several_methods(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = {
        "data": {"source": str(source)},
        "fit": {"max_epochs": 1, "loggers": (), "progress": False},
        "evaluate": {**QUICK, "only": ["probe"]},
        "methods": METHOD,
    }
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    words = [
        "sweep",
        "--config",
        str(tmp_path / "c.yaml"),
        "--rates",
        "0",
        "0.5",
        "--methods",
        "mvae",
        "--out",
        str(tmp_path / "o"),
    ]
    assert main([*words, "--how", "block", "--seeds", "3", "--batch_size", "16"]) == 0
    out = capsys.readouterr().out
    assert (
        out.splitlines()[0].split() == ["probe/z/sign,", "block", "0", "0.5"]
        and out.splitlines()[-1] == f"{tmp_path}/o/sweep.json, {tmp_path}/o/sweep.png"
    )
    assert sorted(p.name for p in (tmp_path / "o" / "runs").iterdir()) == [
        "mvae-block-0.5-seed3",
        "mvae-complete-0-seed3",
    ]
    saved = yaml.safe_load(
        (tmp_path / "o" / "runs" / "mvae-block-0.5-seed3" / "config.yaml").read_text()
    )
    assert (
        saved["fit"]["batch_size"] == 16
        and saved["fit"]["seed"] == 3
        and saved["method"]["config"]["shared_dim"] == 2
    )


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"rates": (1.0,)}, "rates: 1.0 must lie in [0, 1)"),
        ({"rates": ()}, "rates is empty; give at least one"),
        ({"how": ("rows",)}, "how: 'rows' is unknown; choose one of random, block, test"),
        ({"methods": ["mva"]}, "unknown method 'mva'"),
        ({"methods": []}, "methods is empty"),
        (
            {"methods": {"mvae": {"networks": {}}}},
            "methods: mvae has 'networks'; it may have method, model and fit",
        ),
        ({"methods": {"mvae": {"model": {"shared_dims": 3}}}}, "mvae has no option 'shared_dims'"),
        ({"fit": {"lr": -1}}, "lr -1.0 must be positive"),
        ({"hidden": "c"}, "hidden='c' is no modality; choose one of a, b"),
        ({"metrics": ["prob/z"]}, "unknown metric 'prob/z'"),
        (
            {"evaluation": {"split": "val"}},
            "a sweep is measured on the test split, got split='val'",
        ),
        (
            {"data": {"source": "x", "missing": 0.1}},
            "the sweep hides values itself; leave out missing=0.1",
        ),
    ],
)
def test_a_wrong_sweep_is_refused_before_it_begins(
    options: dict[str, Any], says: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError) as refused:
        swept(tmp_path / "o", **options)
    assert says in str(refused.value) and not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ["--data", "digits-quadrant", "--out", "o"],
            "name the methods: --methods NAME ..., or methods in the configuration",
        ),
        (["--methods", "mvae", "--out", "o"], "name the data: --data NAME"),
        (
            ["--methods", "mvae", "--data", "digits-quadrant"],
            "name the folder of the sweep: --out DIR",
        ),
        (
            ["--methods", "mvea", "--data", "digits-quadrant", "--out", "o"],
            "unknown method 'mvea'; did you mean 'mvae'?",
        ),
        (["--methods", "mvae", "--rates", "few"], "option --study.rates: expected"),
        (["--config", "list.yaml"], "list.yaml: methods must say what each has of its own"),
        (["--config", "none.yaml"], "no configuration file none.yaml"),
        (["--shared_dim", "3"], "unknown option --shared_dim"),
    ],
)
def test_wrong_sweep_commands_are_answered_in_one_line(
    words: list[str],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("list.yaml").write_text("methods: [mvae]")
    assert main(["sweep", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line and not Path("o").exists()


# --- search spaces ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
def test_every_field_takes_its_default(name: str) -> None:
    """Annotations are understood: of the constructor's keywords, records of options
    among them, and of the training."""
    fields = fields_of(METHODS[name])
    config = METHODS[name].from_config(MODALITIES, {}).config
    for field, kind in fields.items():
        group, *path = field.split(".")
        if group == "model":
            value: Any = config
            for key in path:
                value = value[key]
            assert _takes(kind, value), field
            assert (
                value is None
                or isinstance(value, str)
                or get_origin(kind) is tuple
                or not _takes(kind, "text")
            ), field
    assert all(
        _takes(fields[f"fit.{key}"], value)
        for key, value in vars(FitOptions()).items()
        if key not in ("stages", "trainer")
    )
    assert {"data.missing", "fit.lr", "model.shared_dim", "model.networks.width"} <= {
        *fields
    } and "data.source" not in fields


def test_a_space_is_read_as_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(
        "fit.lr: {low: 1e-4, high: 1.0e-2, log: true}\n"
        "fit: {clip: [null, 1, 2.5], keep: [last, best]}\n"
        "model:\n  shared_dim: {low: 8, high: 64, step: 8}\n  networks: {hidden: [[8], [16, 16]], norm: [none, batch]}\n"
        "fit.stages.flows.lr: {low: 1.0e-4, high: 0.1}\n"
    )
    assert read_space(tmp_path / "s.yaml", METHODS["jnf"]) == {
        "fit.lr": Range(1e-4, 1e-2, log=True),
        "fit.clip": Choices((None, 1, 2.5)),
        "fit.keep": Choices(("last", "best")),
        "model.shared_dim": Range(8, 64, step=8, whole=True),
        "model.networks.hidden": Choices(([8], [16, 16])),
        "model.networks.norm": Choices(("none", "batch")),
        "fit.stages.flows.lr": Range(1e-4, 0.1),
    }


@pytest.mark.parametrize(
    ("space", "says"),
    [
        ({}, "search: names no field; give at least one"),
        ({"fit.lrr": [1]}, "search: unknown field 'fit.lrr'; did you mean 'fit.lr'?"),
        (
            {"shared_dim": [1]},
            "search: unknown field 'shared_dim'; did you mean 'model.shared_dim'?",
        ),
        (
            {"model.networks.widht": [1]},
            "search: unknown field 'model.networks.widht'; did you mean 'model.networks.width'?",
        ),
        (
            {"model.cross_mi": [1.0]},
            "search: unknown field 'model.cross_mi'; choose one of model.shared_dim, ",
        ),
        ({"data.source": ["a"]}, "search: data.source can't be searched"),
        (
            {"fit.lr": {"low": 0.1, "high": 0.01}},
            "search: fit.lr: the range from low 0.1 to high 0.01 is empty; low must be less than high",
        ),
        ({"fit.lr": {"low": 0.1, "high": 0.1}}, "is empty"),
        (
            {"fit.lr": {"low": 0, "high": 0.1, "log": True}},
            "search: fit.lr: low 0 must be positive where log is true",
        ),
        (
            {"fit.lr": {"low": 0.1, "high": 0.2, "log": "yes"}},
            "search: fit.lr: log is 'yes'; give true or false",
        ),
        (
            {"fit.lr": {"low": 0.1, "high": 0.2, "step": 1.0}},
            "search: fit.lr: step 1.0 must be positive, at most 0.1",
        ),
        (
            {"fit.lr": {"low": 0.1}},
            "search: fit.lr is {'low': 0.1}; give a list of choices, or a range {low: ..., high: ...}",
        ),
        ({"fit.lr": {}}, "search: fit.lr is {}; give a list of choices"),
        ({"fit.lr": 0.1}, "search: fit.lr is 0.1; give a list of choices"),
        (
            {"fit.lr": {"low": 0.1, "high": 1, "by": 2}},
            "search: fit.lr has 'by'; a range has low and high, and perhaps log or step",
        ),
        ({"fit.lr": {"low": "small", "high": 1}}, "search: fit.lr takes float, got low 'small'"),
        ({"fit.lr": []}, "search: fit.lr has no choice; give at least one"),
        ({"fit.lr": ["fast"]}, "search: fit.lr takes float, got 'fast'"),
        (
            {"model.shared_dim": {"low": 0.5, "high": 3}},
            "search: model.shared_dim takes int, got low 0.5",
        ),
        ({"model.shared_dim": [True]}, "search: model.shared_dim takes int, got True"),
        (
            {"fit.keep": {"low": 1, "high": 2}},
            "search: fit.keep takes one of 'last', 'best', which has no range; give a list of choices",
        ),
        ({"fit.keep": ["first"]}, "search: fit.keep takes one of 'last', 'best', got 'first'"),
        (
            {"fit.amsgrad": {"low": 0, "high": 1}},
            "search: fit.amsgrad takes bool, which has no range",
        ),
        (
            {"model.networks.hidden": [8]},
            "search: model.networks.hidden takes a list of int, got 8",
        ),
        ({"fit.clip": ["none"]}, "search: fit.clip takes float or null, got 'none'"),
        (
            {"fit.stages.flows.lr": [0.1]},
            "search: fit.stages.flows.lr: mvae has no stage 'flows'; it has only one",
        ),
        ({"fit.stages.flows.rate": [0.1]}, "search: unknown field 'fit.stages.flows.rate'"),
        ({"data.missing": [0.1]}, "data.missing can't be varied of a data set that is loaded"),
    ],
)
def test_a_wrong_space_is_said_in_one_line(
    space: dict[str, Any], says: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError) as refused:
        search(tmp_path / "s", space)
    assert says in str(refused.value) and "\n" not in str(refused.value)
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"metric": "prob/z/sign"}, "unknown metric 'prob/z/sign'; did you mean 'probe/z/sign'?"),
        ({"metric": "beauty"}, "unknown metric 'beauty'; metrics begin with probe, mi, hsic"),
        (
            {"metric": "probe/z/sign"},
            "say what is better of 'probe/z/sign': direction 'maximize' or 'minimize'",
        ),
        ({"direction": "up"}, "direction='up' is unknown; choose one of maximize, minimize"),
        ({"prune": "early"}, "prune='early' is unknown; choose one of median, halving, none"),
        ({"trials": 0}, "trials=0 must be 1 or more"),
        ({"fit": {"lr": -1}}, "lr -1.0 must be positive"),
        ({"model": {"shared_dims": 3}}, "mvae has no option 'shared_dims'"),
        ({"data": "toy.npz"}, "no data set and no path called 'toy.npz'"),
    ],
)
def test_what_is_wrong_with_a_study_is_said_before_it_begins(
    options: dict[str, Any], says: str, tmp_path: Path
) -> None:
    with pytest.raises((ValueError, FileNotFoundError)) as refused:
        search(tmp_path / "s", **options)
    assert says in str(refused.value) and not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["mvae"], "name the search space: --search F.yaml"),
        (
            ["mvae", "--search", "none.yaml", "--data", "digits-quadrant", "--out", "o"],
            "no file none.yaml of the search space",
        ),
        (["mvae", "--search", "s.yaml", "--out", "o"], "name the data: --data NAME"),
        (
            ["mvae", "--search", "s.yaml", "--data", "digits-quadrant"],
            "name the folder of the study: --out DIR",
        ),
        (
            ["mvae", "--search", "s.yaml", "--data", "digits", "--out", "o"],
            "unknown data set 'digits'",
        ),
        (
            ["mvae", "--search", "list.yaml", "--data", "digits-quadrant", "--out", "o"],
            "list.yaml holds no search space",
        ),
        (
            ["mvae", "--search", "broken.yaml", "--data", "digits-quadrant", "--out", "o"],
            "broken.yaml is not YAML",
        ),
        (
            [
                "mvae",
                "--search",
                "s.yaml",
                "--data",
                "digits-quadrant",
                "--out",
                "o",
                "--overwrite",
            ],
            "a study goes on by the same command",
        ),
        (["mvae", "--trials", "few"], "option --study.trials: expected int, got few"),
        (["mvae", "--split", "test"], "unknown option --split"),
        (["mva"], "unknown method 'mva'; did you mean 'mvae'?"),
    ],
)
def test_wrong_commands_are_answered_in_one_line(
    words: list[str],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in {
        "s.yaml": "fit.lr: [0.1]",
        "list.yaml": "- a",
        "broken.yaml": "a: [",
    }.items():
        Path(name).write_text(text)
    assert main(["tune", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line and not Path("o").exists()
