"""Nothing is lost: killed processes, signals, full disks, damaged records and two
processes at once."""

from __future__ import annotations

import errno
import json
import os
import platform
import re
import runpy
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from processes import Fork, finished
from test_training import BASE, Signalled, rows, same, small

import counterpoint as cp
from counterpoint.cli import main
from counterpoint.core import files
from counterpoint.core.files import append, is_vacant, locked, replacing, write
from counterpoint.core.modality import Modality
from counterpoint.data.sources.files import new_folder
from counterpoint.model.format import checksum_in
from counterpoint.training import callbacks as keeper
from counterpoint.training import fit
from counterpoint.training.history import History, read_rows
from counterpoint.training.run_folder import RunFolder

CAMPAIGN = Path(__file__).parent.parent / "benchmarks" / "crashes.py"
MODALITIES = (Modality("a", (3,)), Modality("b", (2,)))


class Power(BaseException):
    """The power is gone."""


def model(seed: int = 0) -> cp.Method:
    torch.manual_seed(seed)
    return cp.MVAE(MODALITIES, shared_dim=2, networks=cp.NetworkOptions(hidden=(4,)))


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    draw = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("table") / "toy.npz"
    parts = {"train": 48, "val": 16, "test": 16}
    np.savez(
        path,
        **{
            f"{part}/{m.name}": draw.normal(size=(n, *m.shape)).astype(np.float32)
            for part, n in parts.items()
            for m in MODALITIES
        },
    )
    return path


def words(table: Path, out: Path, *more: str) -> list[str]:
    quiet = ["--fit.progress", "false", "--fit.loggers", "[]", "--fit.accelerator", "cpu"]
    sizes = [
        "--shared_dim",
        "2",
        "--networks.hidden",
        "[4]",
        "--batch_size",
        "16",
        "--max_epochs",
        "1",
    ]
    return ["fit", "mvae", "--data", str(table), "--out", str(out), *sizes, *quiet, *more]


@pytest.fixture(scope="module")
def trained(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("trained") / "run"
    assert main(words(table, run)) == 0
    return run


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def without_clocks(history: dict[str, list[float]]) -> dict[str, list[str]]:
    return {
        name: [repr(value) for value in values]
        for name, values in history.items()
        if name != "seconds"
    }


# --- killed ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(not CAMPAIGN.is_file(), reason="needs the benchmarks of a checkout")
@pytest.mark.timeout(600)
def test_killed_commands_go_on_and_come_to_the_same(tmp_path: Path) -> None:
    """Three moments, and one by chance, of a run of two stages and of what is fitted
    afterwards, by KILL, TERM and INT; the campaign has all of them."""
    chosen = ["--only", "fit-jnf", "fit-prior", "--moments", "3", "--random", "1", "--seed", "1"]

    def campaign() -> None:
        sys.argv = [str(CAMPAIGN), str(tmp_path), *chosen]
        runpy.run_path(str(CAMPAIGN), run_name="__main__")

    process = Fork(campaign, tmp_path.parent)
    said, complained = finished(process)
    assert process.returncode == 0, said + complained
    assert said.count("4 trials") == 2 and "0 failures of 8" in said


@pytest.mark.parametrize("added", [False, True])
def test_a_model_killed_while_it_is_saved_is_the_former_or_the_new_one(
    tmp_path: Path, added: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every rename and every sync, with nothing done after it; the record of
    additions is that of the model which is there."""
    former, new = model(), model(1)
    new.model.add_fitted_priors("gmm", 2)
    states = {m.checksum: m for m in (former, new)}
    found = []
    for moment in range(100):
        run = RunFolder(tmp_path / str(moment))
        former.save_pretrained(run.model)
        calls = iter(range(1000))
        with monkeypatch.context() as patch:
            for name in ("replace", "fsync"):
                real = getattr(os, name)

                def struck(
                    *given: Any,
                    real: Callable[..., Any] = real,
                    calls: Iterator[int] = calls,
                    moment: int = moment,
                ) -> Any:
                    if next(calls) == moment:
                        patch.setattr(Path, "unlink", lambda *_, **__: None)  # nothing is tidied up
                        raise Power
                    return real(*given)

                patch.setattr(os, name, struck)
            try:
                if added:
                    run.add(["fit-prior", "--kind", "gmm"], new.checksum)
                new.save_pretrained(run.model)
            except Power:
                pass
            else:
                break
        there = cp.load(run.path)
        found.append(there.checksum)
        expected = states[there.checksum]
        assert there.priors == expected.priors and same(there, expected)
        assert run.additions() == (
            [["fit-prior", "--kind", "gmm"]] if added and expected is new else []
        )
        new.save_pretrained(run.model)
        assert sorted(p.name for p in run.model.iterdir() if ".part" not in p.name) == [
            "README.md",
            "config.json",
            "model.safetensors",
        ]
        assert cp.load(run.path).checksum == new.checksum
    assert (
        len(found) >= 7
        and found == sorted(found, key=[former.checksum, new.checksum].index)
        and {*found} == {*states}
    )


def test_weights_of_other_bits_are_refused(tmp_path: Path) -> None:
    path = model().save_pretrained(tmp_path) / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(
        ValueError,
        match=r"model\.safetensors is damaged, of another model or of another version \(its checksum is another\)",
    ):
        cp.load(tmp_path)


def test_a_checksum_names_no_other_folder(tmp_path: Path) -> None:
    path = model().save_pretrained(tmp_path) / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "weights": "/../../secret"}))
    with pytest.raises(
        ValueError, match=r"config\.json is damaged \(weights '/../../secret' are no checksum\)"
    ):
        cp.load(tmp_path)


@pytest.mark.parametrize(
    ("left", "flags"),
    [
        ("nothing", ()),
        ("unfinished", ()),
        ("unfinished", ("--overwrite",)),
        ("folders", ()),
        ("a lock", ("--overwrite",)),
    ],
)
def test_a_folder_that_was_left_before_its_configuration_is_taken(
    table: Path, tmp_path: Path, left: str, flags: tuple[str, ...]
) -> None:
    run = tmp_path / "run"
    (run / "checkpoints" / "joint").mkdir(parents=True)
    if left != "folders":
        (run / "checkpoints" / "joint").rmdir()
        (run / "checkpoints").rmdir()
    if left == "unfinished":
        (run / f".config.yaml.{platform.node().replace('-', '_')}-999999-0.part").write_text("half")
    if left == "a lock":
        (run / files.LOCK).touch()
    assert main(words(table, run, *flags, "--max_steps", "1")) == 0
    assert not [p for p in run.rglob(".*") if p.is_file()]


def test_an_overwritten_run_is_a_run_until_it_is_gone(
    run: Path, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at any of its removals, the folder can be overwritten or resumed, and what
    is there of the model opens."""
    for moment in range(8):
        copy = run.parent / str(moment)
        shutil.copytree(run, copy)
        calls, real = iter(range(1000)), os.unlink

        def struck(
            *given: Any,
            calls: Iterator[int] = calls,
            moment: int = moment,
            real: Any = real,
            **named: Any,
        ) -> Any:
            if next(calls) >= moment:
                raise Power
            return real(*given, **named)

        with monkeypatch.context() as patch:
            patch.setattr(os, "unlink", struck)
            with pytest.raises(Power):
                main(words(table, copy, "--overwrite"))
        assert (copy / "config.yaml").is_file()
        if (copy / "model").exists():
            assert cp.load(copy).name == "mvae"
    assert main(words(table, copy, "--overwrite")) == 0


def test_a_folder_of_something_else_is_left_alone(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / ".notes.part").write_text("not of this library")
    assert main(words(table, tmp_path / "mine")) == 2 and "is not empty" in capsys.readouterr().err
    assert (
        main(words(table, tmp_path / "mine", "--overwrite")) == 2
        and "holds no run" in capsys.readouterr().err
    )
    assert is_vacant(tmp_path / "none") and not is_vacant(tmp_path / "mine")


def test_what_killed_processes_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    host = re.sub(r"\W", "_", platform.node())
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    kept = [
        f".f.{host}-{os.getppid()}-0.part",
        f".f.elsewhere-{ended.pid}-0.part",
        f"f.{host}-{ended.pid}-0.part",
        ".f.part",
    ]
    for name in [*kept, f".f.{host}-{ended.pid}-0.part", f".other.npy.{host}-{ended.pid}-12.part"]:
        (tmp_path / name).write_text("half")
    (tmp_path / f".set.{host}-{ended.pid}-3.part" / "deep").mkdir(parents=True)
    write(tmp_path / "f", b"whole")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*kept, "f"])
    (tmp_path / f".set.{host}-{ended.pid}-3.part" / "deep").mkdir(parents=True)
    with new_folder(tmp_path / "set") as folder:
        (folder / "a").write_text("a")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*kept, "f", "set"])


@pytest.mark.parametrize("ema", [None, 0.7])
@pytest.mark.parametrize(
    "steps", [3, 4, 6, 8]
)  # within the first pass, at its end, within the second, at its end
def test_a_run_killed_after_its_last_checkpoint_still_validates_and_logs(
    tmp_path: Path, ema: float | None, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``max_steps`` within a pass or with it, averaged or not: the same weights, best
    loss and rows, also when it is resumed once more."""
    options = {
        **BASE,
        "max_steps": steps,
        "max_epochs": -1,
        "ema_decay": ema,
        "keep": "best",
        "log_every": 5,
    }
    whole = small()
    wanted = fit(whole, rows(32), rows(10, seed=1), out=tmp_path / "whole", **options)
    real = keeper.Checkpointing._save

    def save(self: keeper.Checkpointing, trainer: Any) -> None:
        real(self, trainer)
        if trainer.global_step == steps:
            raise Power

    with monkeypatch.context() as patch:
        patch.setattr(keeper.Checkpointing, "_save", save)
        with pytest.raises(Power):
            fit(small(), rows(32), rows(10, seed=1), out=tmp_path / "r", **options)
    for _ in range(2):
        rest = small()
        torch.nn.init.zeros_(rest.nets["a"][0].weight)  # type: ignore[index,arg-type]
        found = fit(rest, rows(32), rows(10, seed=1), out=tmp_path / "r", resume=True, **options)
        assert same(whole, rest) and found.best == wanted.best and found.steps == steps
        assert without_clocks(found.history) == without_clocks(wanted.history)
        assert read_rows(tmp_path / "r" / "metrics.csv") == [
            {k: v for k, v in zip(found.history, row, strict=True) if not np.isnan(v)}
            for row in zip(*found.history.values(), strict=True)
        ]


# --- signals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "ends"), [(signal.SIGTERM, SystemExit), (signal.SIGINT, KeyboardInterrupt)]
)
def test_a_signal_during_validation_does_not_lose_it(
    tmp_path: Path, number: int, ends: type[BaseException], capsys: pytest.CaptureFixture[str]
) -> None:
    """The second validation is the best here, so that a run that lost it would choose
    other weights."""
    options = {**BASE, "lr": 1.0, "max_epochs": 3, "keep": "best"}
    whole, halted, rest = small(), Signalled(number, 8, validating=True), small()
    halted.load_state_dict(whole.state_dict())
    wanted = fit(whole, rows(32), rows(20, seed=1), out=tmp_path / "whole", **options)
    with pytest.raises(ends):
        fit(halted, rows(32), rows(20, seed=1), out=tmp_path / "r", **options)
    assert (
        f"{signal.Signals(number).name}: the run stops after this validation"
        in capsys.readouterr().err
    )
    found = fit(rest, rows(32), rows(20, seed=1), out=tmp_path / "r", resume=True, **options)
    losses = [loss for loss in wanted.history["val/loss"] if loss == loss]
    assert losses[1] == min(losses) == found.best and len(losses) == 3
    assert same(whole, rest) and without_clocks(found.history) == without_clocks(wanted.history)


def test_a_second_signal_acts_at_once_and_an_echo_does_not() -> None:
    before = signal.getsignal(signal.SIGINT)
    signals = keeper.Signals()
    with signals:
        signals.listen()
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)  # as launchers send it: to the process and to its group
        assert signals.caught == signal.SIGINT
        signals._since -= 2
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_before_the_first_step_is_said(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning would end the process with exit code 1 and without a word."""

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(keeper.Checkpointing, "setup", interrupted)
    before = signal.getsignal(signal.SIGINT)
    assert main(["fit", "--resume", str(run), "--max_epochs", "2"]) == 130
    assert "interrupted" in capsys.readouterr().err and signal.getsignal(signal.SIGINT) is before


# --- two at once -----------------------------------------------------------------------------------------------------

HOLD = "import sys, filelock; lock = filelock.FileLock(sys.argv[1]); lock.acquire(); print('held', flush=True); sys.stdin.read()"


def test_a_folder_has_one_process_at_a_time(
    run: Path, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run / files.LOCK)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    commands = [
        ["fit", "--resume", str(run), "--max_epochs", "2"],
        words(table, run, "--overwrite"),
        ["fit-prior", str(run), "--kind", "gmm"],
    ]
    commands += [["fit-refiner", str(run), "--steps", "1"]]
    for command in commands:
        assert main(command) == 2, command
        said = capsys.readouterr().err
        assert (
            said.count("\n") == 1
            and f"another process is changing {run}; wait until it ends" in said
        )
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == before
    holder.kill()
    holder.communicate()
    assert main(commands[0]) == 0 and not (run / files.LOCK).exists()


def test_a_lock_is_of_the_process_and_leaves_nothing(tmp_path: Path) -> None:
    with locked(tmp_path / "a" / "b"), locked(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b" / files.LOCK).exists()
        (tmp_path / "a" / "b" / "c").touch()
    assert [p.name for p in (tmp_path / "a" / "b").iterdir()] == ["c"]
    with pytest.raises(ZeroDivisionError), locked(tmp_path / "d"):
        raise ZeroDivisionError
    assert not (tmp_path / "d").exists()


# --- records ---------------------------------------------------------------------------------------------------------


DAMAGE = {
    b"\x00" * 40 + b"\n": 1,
    b"step,train/loss\n1,\xff\xfe\n": 1,
    b"step,train/loss\n1,0.5\n2,half\n": 3,
    b"step,train/loss\n1,0.5\n2\n3,0.5\n": 3,
    b"step,train/loss\n,0.5\n": 2,
    b"step,train/loss\nnan,0.5\n": 2,
    b"": 1,
    b"<html>\n": 1,
}


def test_damaged_metrics_are_named_before_anything_is_trained(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line says where, and nothing else changes; without the file the run goes on."""
    longer = ["fit", "--resume", str(run), "--max_epochs", "2"]
    before = (run / "checkpoints" / "last.ckpt").read_bytes()
    for damage, line in DAMAGE.items():
        (run / "metrics.csv").write_bytes(damage)
        with pytest.raises(
            ValueError,
            match=rf"metrics\.csv is damaged in line {line} \(.*\); restore it, or remove it",
        ):
            read_rows(run / "metrics.csv")
    assert main(longer) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "metrics.csv is damaged in line 1" in said
    assert (run / "checkpoints" / "last.ckpt").read_bytes() == before
    (run / "metrics.csv").unlink()
    assert main(longer) == 0 and [row["step"] for row in read_rows(run / "metrics.csv")][-1] == 6


def test_a_cut_number_is_no_number(tmp_path: Path) -> None:
    """The last line of a full disk may end within a number, which is one all the same."""
    history = History(tmp_path / "metrics.csv")
    history.add({"step": 1, "a": 0.5})
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("2,0.12")
    assert read_rows(tmp_path / "metrics.csv") == [{"step": 1, "a": 0.5}]


# --- full disks ------------------------------------------------------------------------------------------------------


def full(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """No room for what will be a file whose name has ``name`` in it."""
    real = os.fsync

    def fsync(number: int) -> None:
        if name in os.readlink(f"/proc/self/fd/{number}").rpartition("/")[2]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(number)

    monkeypatch.setattr(os, "fsync", fsync)


@pytest.mark.parametrize("name", ["afterwards.json", ".model-", "config.json"])
def test_a_full_disk_records_nothing_that_is_not_there(
    run: Path, name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {p.name: p.read_bytes() for p in (run / "model").iterdir()}
    with monkeypatch.context() as patch:
        full(patch, name)
        assert main(["fit-prior", str(run), "--kind", "gmm", "--size", "2"]) == 2
    said = capsys.readouterr().err
    assert (
        said.count("\n") == 1
        and "No space left on device; what was there is intact; free space and run the same again"
        in said
    )
    assert {p.name: p.read_bytes() for p in (run / "model").iterdir()} == before and RunFolder(
        run
    ).additions() == []
    assert main(["fit-prior", str(run), "--kind", "gmm", "--size", "2"]) == 0
    assert cp.load(run).priors == ("standard", "gmm") and [
        verb for verb, *_ in RunFolder(run).additions()
    ] == ["fit-prior"]


@pytest.mark.parametrize("name", ["config.yaml", "metrics.csv", "last.ckpt", ".model-"])
def test_a_full_disk_leaves_a_run_that_can_go_on(
    table: Path,
    trained: Path,
    tmp_path: Path,
    name: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        full(patch, name)
        assert main(words(table, tmp_path / "run")) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "No space left on device" in said
    begun = (tmp_path / "run" / "config.yaml").exists()
    assert (
        main(
            ["fit", "--resume", str(tmp_path / "run")] if begun else words(table, tmp_path / "run")
        )
        == 0
    )
    assert checksum_in(tmp_path / "run" / "model") == checksum_in(trained / "model")


def test_what_safetensors_says_of_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import safetensors.torch
    from safetensors import SafetensorError

    def save_file(*_: Any) -> None:
        raise SafetensorError(
            "Error while serializing: I/O error: No space left on device (os error 28)"
        )

    monkeypatch.setattr(safetensors.torch, "save_file", save_file)
    with pytest.raises(
        OSError,
        match=r"cannot write .*safetensors: No space left on device; what was there is intact; free space",
    ) as caught:
        model().save_pretrained(tmp_path)
    assert caught.value.errno == errno.ENOSPC and not [*tmp_path.iterdir()]


def test_a_line_is_added_whole_or_not_at_all(tmp_path: Path) -> None:
    """Beyond the largest size that a file may have, the system writes a part of a line."""
    code = """
import resource, signal, sys
from pathlib import Path
from counterpoint.core.files import append
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20, 20))
path = Path(sys.argv[1])
append(path, b"0123456789\\n")
try:
    append(path, b"0123456789\\n")
except OSError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "f")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "cannot write" in done.stdout and (tmp_path / "f").read_bytes() == b"0123456789\n"
    append(tmp_path / "f", b"more\n")
    assert (tmp_path / "f").read_bytes() == b"0123456789\nmore\n"


def test_an_error_of_the_content_stays_itself(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"the server is gone$"), replacing(tmp_path / "f"):
        raise OSError("the server is gone")
    with pytest.raises(FileNotFoundError, match="elsewhere"), replacing(tmp_path / "f"):
        (tmp_path / "elsewhere").read_text()
    assert not [*tmp_path.iterdir()]


# --- studies ---------------------------------------------------------------------------------------------------------


def test_a_study_that_was_stopped_comes_to_the_same(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed within its second trial: the same values in the same order, the
    interrupted one apart."""
    pytest.importorskip("optuna")
    from counterpoint.studies.recipe import Recipe

    space = {"fit.lr": {"low": 1e-3, "high": 1e-1, "log": True}, "model.shared_dim": [1, 2, 3]}
    options = {
        "model": {"networks": {"hidden": [4]}},
        "fit": {"max_epochs": 1, "loggers": (), "accelerator": "cpu"},
        "progress": False,
    }

    def search(name: str) -> list[dict[str, Any]]:
        found = cp.studies.tune("mvae", str(table), space, out=tmp_path / name, trials=2, **options)
        return [trial.values for trial in found.trials if trial.state != "interrupted"]

    whole, real, count = search("whole"), Recipe.trained, iter(range(100))

    def struck(*given: Any, **named: Any) -> Any:
        if next(count) == 1:
            raise Power
        return real(*given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(Recipe, "trained", struck)
        with pytest.raises(Power):
            search("cut")
    assert search("cut") == whole and len({trial["fit.lr"] for trial in whole}) == 2
    models = [
        {checksum_in(path) for path in (tmp_path / name / "trials").glob("*/model")}
        for name in ("whole", "cut")
    ]
    assert models[0] == models[1] and len(models[0]) == 2
