"""Comparisons: statistics by hand, runs that go on, failures that stay alone."""

from __future__ import annotations

import csv
import json
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

import counterpoint as cp
from counterpoint.cli import main
from counterpoint.data import Dataset
from counterpoint.methods import METHODS, MVAE
from counterpoint.metrics import Evaluation, Recorded, Score, numbered
from counterpoint.metrics.judge_fitting import cached_weights
from counterpoint.studies import ComparedRun, Comparison, Repetition, compare
from counterpoint.studies import comparison_tables as tables
from counterpoint.studies.launching import Places
from counterpoint.studies.statistics import holm, mean_ranks, paired, summary

COMMAND = Path(sys.executable).parent / "counterpoint"

QUICK: dict[str, Any] = {
    "fit": {"max_steps": 2, "batch_size": 16, "loggers": ()},
    "evaluation": {"only": ["probe"], "rows": 60, "probe_rows": 60},
    "progress": False,
}
DATA: dict[str, Any] = {"source": "digits-quadrant", "pairings": 1, "views": 2}


def test_intervals_and_tests_are_those_of_scipy() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(0.3, 1, 7), rng.normal(0, 1, 7)
    found = paired(ours.tolist(), theirs.tolist())
    test = stats.ttest_rel(ours, theirs)
    assert math.isclose(found.p or 0, test.pvalue)
    assert np.allclose(found.interval, test.confidence_interval(0.95))
    of_one = summary(ours.tolist())
    t = stats.t.interval(0.95, 6, ours.mean(), stats.sem(ours))
    assert np.allclose(of_one.interval, t) and math.isclose(of_one.std or 0, ours.std(ddof=1))


def test_one_run_has_no_spread_and_equal_runs_no_difference() -> None:
    assert summary([0.5]).std is None and paired([0.5], [0.4]).p is None
    assert paired([0.5, 0.6, 0.7], [0.5, 0.6, 0.7]).p == 1.0
    assert paired([0.5, 0.6], [0.25, 0.35]).p == 0.0  # always the same difference


def test_holm_is_the_smallest_level_at_which_its_procedure_rejects() -> None:
    p = {"a": 0.011, "b": 0.02, "c": 0.021, "d": 0.4}
    found = holm(p)
    for name, corrected in found.items():
        for level, rejected in ((corrected * 1.0001, True), (corrected * 0.9999, False)):
            assert (name in _rejected(p, level)) == rejected


def _rejected(p: dict[str, float], level: float) -> set[str]:
    """Holm's procedure step by step."""
    rejected = set()
    for index, name in enumerate(sorted(p, key=p.__getitem__)):
        if p[name] > level / (len(p) - index):
            break
        rejected.add(name)
    return rejected


def test_ties_share_their_rank() -> None:
    ranks = mean_ranks({"a": [1.0, 3.0], "b": [1.0, 1.0], "c": [0.0, 2.0]}, "lower")
    assert ranks == {"a": (2.5 + 3) / 2, "b": (2.5 + 1) / 2, "c": (1 + 2) / 2}


# ------------------------------------------------------------------------------- results


def made_up(values: dict[str, list[float]], **score: Any) -> Comparison:
    """A comparison of one metric, whose values by seed are given."""
    record = {"group": "probe", "kind": "probe", "latent": "z", "label": "digit", **score}
    runs = [
        ComparedRun(entry, Repetition(seed), Evaluation((Score(value=value, **record),)))
        for entry, of_entry in values.items()
        for seed, value in enumerate(of_entry)
    ]
    name = runs[0].evaluation.scores[0].name
    return Comparison("toy", tuple(values), tuple(runs), (name,), next(iter(values)))


VALUES = {"good": [0.9, 0.92, 0.91], "near": [0.89, 0.93, 0.9], "bad": [0.5, 0.52, 0.49]}


def test_the_best_and_what_cannot_be_told_from_it_are_marked() -> None:
    (column,) = made_up(VALUES).columns
    assert [c.best for c in column.cells.values()] == [True, False, False]
    assert [c.close for c in column.cells.values()] == [False, True, False]
    raw = {name: paired(VALUES[name], VALUES["good"]).p or 0 for name in ("near", "bad")}
    assert {name: c.p for name, c in column.cells.items() if c.p is not None} == holm(raw)


def test_of_a_leak_less_is_better() -> None:
    found = made_up(VALUES)
    leak = Comparison(
        "toy", found.entries, found.runs, found.metrics, "good", private_labels=("digit",)
    )
    (column,) = leak.columns
    assert column.leak and column.better == "lower" and column.cells["bad"].best
    assert min(column.ranks, key=column.ranks.__getitem__) == "bad"


def test_all_tables_say_the_same() -> None:
    found = made_up(VALUES)
    text, markdown = tables.text(found), tables.markdown(found)
    assert "0.910 ± 0.010 !" in text and "| **0.910 ± 0.010** |" in markdown
    assert "0.907 ± 0.021≈" in text and "0.907 ± 0.021≈" in markdown
    assert "\\textbf{0.910 $\\pm$ 0.010} \\\\" in tables.latex(found)
    lines = [*csv.DictReader(tables.comma_separated(found).splitlines())]
    assert math.isclose(float(lines[1]["mean"]), float(np.mean(VALUES["near"])))
    assert math.isclose(float(lines[2]["difference"]), float(np.mean(VALUES["bad"])) - 0.91)


def test_a_table_of_one_seed_says_that_nothing_was_tested() -> None:
    text = tables.text(made_up({"a": [0.5], "b": [0.4]}))
    assert "±" not in text and "no test" in text


# ---------------------------------------------------------------------------------- runs


class Broken(MVAE):
    name = "broken"

    def losses(self, batch: Any, step: int | None = None) -> Any:
        raise RuntimeError("this method\ncan't be trained")


@pytest.fixture
def broken() -> Iterator[None]:
    cp.register(Broken)
    yield
    del METHODS._parts[Broken.name]


def test_a_comparison_goes_on_grows_and_outlives_what_fails(
    tmp_path: Path, broken: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Runs that are there are not trained again; a seed more adds to them; the runs are
    those of the command that trains one."""
    methods = {"mvae": {}, "broken": {}, "tight": {"method": "mvae", "model": {"beta": 4.0}}}
    first = compare(methods, DATA, out=tmp_path / "c", **QUICK)
    assert [run.entry for run in first.runs] == ["mvae", "tight"]
    assert first.failed == {"broken-seed0": "RuntimeError: this method can't be trained"}
    assert "Traceback" in (tmp_path / "c" / "logs" / "broken-seed0.log").read_text()
    weights = tmp_path / "c" / "runs" / "mvae-seed0" / "model" / "model.safetensors"
    before = weights.stat().st_mtime_ns
    del methods["broken"]
    second = compare(methods, DATA, out=tmp_path / "c", seeds=[0, 1], **QUICK)
    assert weights.stat().st_mtime_ns == before and len(second.runs) == 4
    assert second.runs[0].evaluation.metrics == first.runs[0].evaluation.metrics
    data = cp.data.load(**DATA)
    alone = MVAE.for_data(data, seed=1)
    alone.fit(data.train, val=data.val, seed=1, progress=False, **QUICK["fit"])
    assert cp.evaluate(alone, data, **QUICK["evaluation"], progress=False).metrics == (
        second.runs[1].evaluation.metrics
    )
    content = json.loads((tmp_path / "c" / "comparison.json").read_text())
    assert [run["cost"]["steps"] for run in content["runs"]] == [2] * 4
    assert content["runs"][0]["cost"]["parameters"] == sum(p.numel() for p in alone.parameters())
    page = (tmp_path / "c" / "comparison.html").read_text()
    assert page.count("<svg") >= 4 and "mvae, tight; 4 runs" in page and "http:" not in page


def test_judges_are_trained_once_by_runs_that_go_on_side_by_side(tmp_path: Path) -> None:
    """The second waits for the first, and loads what it has kept."""
    known: list[bool] = []
    began = threading.Event()

    def trained() -> None:
        judge = nn.Linear(2, 2)
        with cached_weights(judge, tmp_path, "judge", {"data": "d"}) as loaded:
            known.append(loaded)
            began.set()
            time.sleep(0.0 if loaded else 0.5)

    threads = [threading.Thread(target=trained) for _ in range(2)]
    threads[0].start()
    began.wait()
    threads[1].start()
    for thread in threads:
        thread.join()
    assert known == [False, True] and [path.suffix for path in tmp_path.iterdir()] == [
        ".safetensors"
    ]


@pytest.mark.parametrize("places", [{"jobs": 2}, {"launcher": "submitit"}])
def test_other_processes_find_what_this_one_does(places: dict[str, Any], tmp_path: Path) -> None:
    """Those of this machine, or submitit's, whose executor for this machine is taken
    where there is no SLURM."""
    data = cp.data.load(**DATA)
    method = MVAE.for_data(data, seed=0)
    method.fit(data.train, val=data.val, progress=False, **QUICK["fit"])
    alone = cp.evaluate(method, data, **QUICK["evaluation"], progress=False)
    there = compare(["mvae"], DATA, out=tmp_path, **places, **QUICK)
    assert there.failed == {} and len(there.runs) == 1
    assert there.runs[0].evaluation.metrics == alone.metrics
    assert (there.runs[0].cost.peak_bytes or 0) > 1e8 if there.runs[0].cost else False


def test_a_peer_is_measured_as_the_model_that_wrote_its_file(tmp_path: Path) -> None:
    """Means of latents, translations and samples of a model, saved as another library
    would: the same probes, and judges that see what they saw."""
    data = cp.data.load(**DATA)
    method = MVAE.for_data(data, seed=0)
    names = [m.name for m in data.modalities]
    arrays: dict[str, Any] = {f"sample/{k}": v for k, v in method.sample(64).items()}
    for part in ("train", "test"):
        batch = data.splits()[part].batch(slice(None))
        arrays[f"{part}/z"] = method.encode(batch).shared[0]
        for name in names:
            arrays[f"{part}/z/{name}"] = method.encode(batch, given=[name]).shared[0]
    for name in names:
        given = data.test.batch(slice(None)).only([name])
        for to, values in method.translate(given, names).items():
            arrays[f"test/{to}|{name}"] = values[0]
    file = tmp_path / "peer.npz"
    np.savez(file, **{key: values.numpy() for key, values in arrays.items()})
    peer: Any = Recorded.read(file, data)
    assert peer.groups == ("probe", "judge", "coherence", "match", "quality")
    asked = {**QUICK["evaluation"], "progress": False}
    ours = cp.evaluate(method, data, **asked).metrics
    assert cp.evaluate(peer, numbered(data), **asked).metrics == ours
    rows = numbered(data).test.batch(np.array([3, 700]))
    theirs = peer.translate(rows.only(["view1"]), ["view0"])["view0"]
    torch.testing.assert_close(theirs[0], arrays["test/view0|view1"][[3, 700]])
    methods = {"mvae": {}, "theirs": {"peer": str(file)}}
    found = compare(methods, DATA, out=tmp_path / "c", seeds=[0, 1], **QUICK)
    assert [run.entry for run in found.runs] == ["mvae", "mvae", "theirs"]
    assert found.runs[2].evaluation.metrics == ours and found.failed == {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"test/z": np.zeros((5, 2))}, "test/z has 5 rows, the test split 6"),
        ({"test/v": np.zeros((6, 2))}, "'test/v' means nothing"),
        ({"test/a|c": np.zeros((6, 2))}, "means nothing; expected names such as"),
        ({"test/ids": np.array([*"uvwxyz"])}, "names other rows than the data: row 0 is 'u'"),
    ],
)
def test_files_of_peers_that_do_not_fit_are_refused(
    change: dict[str, np.ndarray], message: str, tmp_path: Path
) -> None:
    values = np.arange(48.0).reshape(24, 2)
    parts = {"train": slice(12), "val": slice(12, 18), "test": slice(18, 24)}
    arrays = {part: {"a": values[rows], "b": values[rows]} for part, rows in parts.items()}
    data = cp.data.load(arrays)
    named = replace(data, test=replace(data.test, ids=np.array([*"rstuvw"])))
    good = {"train/z": np.zeros((12, 2)), "test/z": np.zeros((6, 2))}
    np.savez(tmp_path / "peer.npz", **{**good, **change})
    with pytest.raises(ValueError, match=re.escape(message)):
        Recorded.read(tmp_path / "peer.npz", named)


def test_equal_time_is_shared_by_stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(Places, "run", lambda self, tasks: seen.append(tasks) or iter(()))
    compare(["mvae", "jnf"], DATA, out=tmp_path, cpu_minutes=3, **QUICK)
    minutes = {name: task.recipe.fit["max_cpu_minutes"] for name, task in seen[0].items()}
    assert minutes == {"mvae-seed0": 3.0, "jnf-seed0": 1.5}
    assert all(task.recipe.fit.get("max_steps", -1) == -1 for task in seen[0].values())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--methods", "mvae", "mvae"], "methods has 'mvae' twice"),
        (["--methods", "mvea"], "unknown method 'mvea'"),
        (["--methods", "mvae", "--seeds", "1", "1"], "seeds has 1 twice"),
        (["--methods", "mvae", "--baseline", "jnf"], "baseline='jnf' is not compared"),
        (["--methods", "mvae", "--metrics", "probe/z/digits"], "did you mean 'probe/z/digit'"),
        (["--methods", "mvae", "--folds", "1"], "fold"),
        (["--methods", "mvae", "--jobs", "0"], "jobs=0 must be 1 or more"),
        (["nofile.yaml"], "no configuration file nofile.yaml"),
    ],
)
def test_mistakes_are_one_line(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ["--data", "digits-quadrant", "--pairings", "1", "--out", str(tmp_path)]
    assert main(["compare", *words, *data]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1


def test_a_comparison_that_was_stopped_goes_on(tmp_path: Path) -> None:
    """Ctrl-C reaches the runs, which save and stop."""
    config = tmp_path / "c.yaml"
    out = tmp_path / "out"
    config.write_text(
        "data: {source: digits-quadrant, pairings: 1, views: 2}\nmethods: {mvae: {}, mmvae: {}}\n"
        "fit: {max_steps: 3000, batch_size: 16, log_every: 5, loggers: []}\n"
        "evaluate: {only: [probe], rows: 60, probe_rows: 60}\n"
    )
    command = [COMMAND, "compare", str(config), "--out", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*command, "--jobs", "2"],
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )
    metrics = out / "runs" / "mvae-seed0" / "metrics.csv"
    while not (metrics.is_file() and len(metrics.read_text().splitlines()) > 1):
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
    os.killpg(process.pid, signal.SIGINT)
    process.communicate()
    assert process.returncode == 130
    assert (out / "runs" / "mvae-seed0" / "checkpoints" / "last.ckpt").is_file()
    done = subprocess.run([*command], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    runs = json.loads((out / "comparison.json").read_text())["runs"]
    assert [run["cost"]["steps"] for run in runs] == [3000, 3000]


def test_a_data_set_in_memory_is_compared(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(200, 2))
    data: Dataset = cp.data.load(
        {"a": z @ rng.normal(size=(2, 4)), "b": z @ rng.normal(size=(2, 3))}
    )
    quick = {**QUICK, "evaluation": {"only": ["imputation"]}}
    found = compare(["mvae"], data, out=tmp_path, **quick)
    assert found.metrics == ("impute/nrmse/a", "impute/nrmse/b")
    assert found.columns[0].better == "lower"
