"""The command line: as processes where it matters that they are, in this process for
everything that a user can get wrong."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import warnings
from dataclasses import fields
from functools import partial
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from processes import ENVIRONMENT, PATIENCE, child_seconds, ratio

import counterpoint as cp
from counterpoint.cli import VERBS, choose, completion, main
from counterpoint.cli.afterwards import fitting
from counterpoint.cli.config_files import read_config
from counterpoint.cli.fit_decoder import RECORDS
from counterpoint.cli.impute import ImputeOptions
from counterpoint.cli.names import expanded, full_name
from counterpoint.cli.parsing import explained
from counterpoint.cli.sample import SampleOptions
from counterpoint.cli.settings import settings
from counterpoint.cli.translate import TranslateOptions
from counterpoint.inference import Refiner
from counterpoint.metrics import Evaluation, Score
from counterpoint.training import fit_decoder

COMMAND = Path(sys.executable).parent / "counterpoint"
TINY = [
    *(
        "--data",
        "digits-quadrant",
        "--data.pairings",
        "1",
        "--max_steps",
        "2",
        "--batch-size",
        "16",
        "--fit.progress",
        "false",
    ),
    *(
        "--fit.loggers",
        "[]",
        "--model.networks.width",
        "4",
        "--model.networks.hidden",
        "[16]",
        "--shared_dim",
        "4",
        "--private_dim",
        "4",
    ),
    *("--fit.trainer.limit_val_batches", "1"),
]


def command(*words: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """A command as a process; a Python warning in it is an error, as in the tests
    themselves."""
    return subprocess.run(
        [COMMAND, *map(str, words)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=ENVIRONMENT,
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps, made by the command line in this process."""
    folder = tmp_path_factory.mktemp("cli") / "run"
    assert main(["fit", "mmvae+", *TINY, "--out", str(folder)]) == 0
    return folder


def refused(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    """The one line that a wrong command is answered with."""
    capsys.readouterr()
    assert main([*map(str, words)]) == 2
    err = capsys.readouterr().err
    lines = [line for line in err.splitlines() if not line.startswith("evaluate: ")]
    assert len(lines) == 1 and lines[0].startswith("counterpoint: error: "), err
    return lines[0].removeprefix("counterpoint: error: ")


# ------------------------------------------------------------------------------------------------- help


def test_help_names_every_command_and_imports_nothing_heavy() -> None:
    code = "import sys; from counterpoint.cli import main; main(['--help']); print(*{'torch', 'matplotlib', 'sklearn', 'jsonargparse'} & {*sys.modules})"
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code], capture_output=True, text=True, check=True
    )
    *text, loaded = done.stdout.split("\n")[:-1]
    assert [verb for verb in VERBS if not any(line.startswith(f"  {verb} ") for line in text)] == []
    assert loaded == ""


def test_help_is_there_at_once() -> None:
    """It takes about as long as importing numpy, of which torch takes more than ten
    times as long."""
    help_, numpy = (COMMAND, "--help"), (sys.executable, "-c", "import numpy")
    assert ratio(lambda: child_seconds(*help_), lambda: child_seconds(*numpy)) < 3


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"counterpoint {cp.__version__}\n"


@pytest.mark.parametrize("verb", [*VERBS])
def test_every_command_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    assert f"usage: counterpoint {verb}" in capsys.readouterr().out


def test_help_shows_common_options_and_help_all_every_option(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Short help has a line for each option, with its default; that of a recipe, if
    one is named."""
    assert main(["fit", "idmvae", "--help"]) == 0
    short = capsys.readouterr().out
    common = ("--out", "--data", "--recipe", "--shared_dim", "--max_epochs", "--batch_size", "--lr")
    assert [name for name in common if f"\n  {name} " not in short] == []
    assert "--model.cross_mi" not in short and "(default: 0.0005)" in short
    assert all(len(line) <= 100 for line in short.splitlines())
    assert main(["fit", "--recipe", "omics", "--help"]) == 0
    assert "(default: 0.001)" in capsys.readouterr().out
    assert main(["fit", "idmvae", "--help-all"]) == 0
    out = capsys.readouterr().out
    assert (
        "--model.cross_mi" in out
        and "--fit.max_epochs" in out
        and "--data.size" in out
        and "--model.networks.norm" in out
    )
    assert main(["fit", "mvae", "--help-all"]) == 0
    assert "--model.cross_mi" not in capsys.readouterr().out


@pytest.mark.parametrize("verb", [*VERBS])
def test_every_command_lists_all_its_options(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Where short help leaves options out, it says how to see them."""
    assert main([verb, "--help"]) == 0
    short = capsys.readouterr().out
    assert " ..." not in short and ":func:" not in short
    assert all(len(line) <= 100 for line in short.splitlines() if "  " not in line.strip())
    assert main([verb, "--help-all"]) == 0
    full = capsys.readouterr().out
    assert len(full.partition("\n")[0]) <= 100
    assert len(full) > len(short) if "--help-all explains" in short else full == short


def test_flags_of_a_question_agree_with_the_method() -> None:
    """The same names, types of None and defaults as the method that answers."""
    verbs = {
        "sample": (SampleOptions, {"generator"}),
        "translate": (TranslateOptions, {"x", "generator"}),
        "impute": (ImputeOptions, {"x", "totals", "generator", "progress"}),
    }
    for verb, (record, not_flags) in verbs.items():
        flags = {f.name: f.default for f in fields(record)}
        parameters = {**signature(getattr(cp.Method, verb)).parameters}
        parameters.pop("self")
        assert {*parameters} - not_flags <= {*flags}
        lists = {"given", "to", "covariates"}  # empty at the command line, None in Python
        for name in {*parameters} - not_flags - lists:
            assert parameters[name].default in (flags[name], Parameter.empty), f"{verb} --{name}"


# -------------------------------------------------------------------------------------------- completion


def test_completion_knows_every_verb_method_recipe_and_option() -> None:
    assert json.loads(completion.WORDS_FILE.read_text()) == completion.collect(), (
        "the options have changed; run make completion"
    )


def test_completion_takes_no_heavy_import() -> None:
    code = "import sys; from counterpoint.cli import main; main(['--completion', 'bash']); print(*{'torch', 'numpy', 'jsonargparse'} & {*sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=ENVIRONMENT
    )
    assert done.stdout.endswith("counterpoint\n\n")


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize(
    ("line", "offers"),
    [
        (["swe"], {"sweep"}),
        (["fit", "mmvae"], {"mmvae", "mmvae+"}),
        (["fit", "idmvae", "--cross_m"], {"--cross_mi"}),
        (["fit", "mvae", "--cross"], set()),
        (["fit", "mvae", "--max_e"], {"--max_epochs"}),
        (["fit", "mvae", "--fit.ke"], {"--fit.keep"}),
        (["fit", "--recipe", "om"], {"omics"}),
        (["fit", "mvae", "--data", "mnist-svhn-"], {"mnist-svhn-text"}),
        (["data", "pre"], {"prepare"}),
        (["tune", "id"], {"idmvae"}),
    ],
)
def test_bash_completes(line: list[str], offers: set[str], tmp_path: Path) -> None:
    script = completion.bash_script(json.loads(completion.WORDS_FILE.read_text()))
    words = shlex.join(["counterpoint", *line])
    ask = f"COMP_WORDS=({words}); COMP_CWORD={len(line)}; _counterpoint; echo ${{COMPREPLY[@]}}"
    done = subprocess.run(
        ["bash", "-c", f"{script}\n{ask}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert {*done.stdout.split()} == offers


def test_completion_has_a_script_for_each_shell(capsys: pytest.CaptureFixture[str]) -> None:
    for shell in ("bash", "zsh", "fish"):
        assert main(["--completion", shell]) == 0
        assert "counterpoint" in capsys.readouterr().out
    assert "unknown shell 'csh'; did you mean" in refused(capsys, "--completion", "csh")
    assert "name one shell: --completion bash|zsh|fish" in refused(capsys, "--completion")


# --------------------------------------------------------------------------------------------- arguments


def test_short_names_stand_for_the_only_option_they_fit() -> None:
    names = [
        "out",
        "data",
        "data.source",
        "data.seed",
        "fit.seed",
        "fit.max_steps",
        "model.samples",
        "evaluate.samples",
        "fit.trainer",
    ]
    assert expanded(
        ["--data=a", "--max-steps", "-1", "--seed", "3", "--fit.trainer.a-b", "1"], names
    ) == [
        *("--data.source=a", "--fit.max_steps", "-1", "--fit.seed", "3", "--fit.trainer.a_b", "1")
    ]
    with pytest.raises(
        ValueError, match=r"--samples could be --model\.samples or --evaluate\.samples"
    ):
        full_name("samples", names)
    with pytest.raises(ValueError, match=r"unknown option --max_step; did you mean --max_steps\?"):
        full_name("max_step", names)


def test_choose_suggests_the_closest() -> None:
    assert choose("a", ["a", "b"], "thing") == "a"
    with pytest.raises(
        ValueError, match=r"unknown thing 'mvea'; did you mean 'mvae'\? choose one of mvae, jnf"
    ):
        choose("mvea", ["mvae", "jnf"], "thing")


def test_explained_speaks_of_options() -> None:
    union = "Parser key \"a.b\": Does not validate against any of the Union subtypes Subtypes: [<class 'int'>, <class 'NoneType'>] Errors: - x Given value: q"
    assert explained(union) == "option --a.b: expected int or null, got q"
    assert (
        explained("Parser key \"a\": Expected a <class 'float'>. Got value: q")
        == "option --a: expected float, got q"
    )
    assert explained("something else") == "something else"


def test_flags_come_after_the_configuration_file(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(
        "method: mvae\ndata: digits-quadrant\nmodel: {shared_dim: 7, networks: {hidden: [8, 9]}}\nfit: {lr: 0.5, max_time: null, max_epochs: 3}\n"
    )
    got = settings(["--lr", "0.25", "--config", str(file)])
    assert (
        got.method,
        got.data["source"],
        got.model["shared_dim"],
        got.fit["lr"],
        got.fit["max_epochs"],
    ) == (
        "mvae",
        "digits-quadrant",
        7,
        0.25,
        3,
    )
    assert list(got.model["networks"]["hidden"]) == [8, 9] and got.fit["max_time"] is None
    assert settings(["mopoe", "--config", str(file)]).method == "mopoe"


def test_a_command_is_not_answered_by_the_one_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A parser serves many commands, whatever went wrong with one of them."""
    assert "option --fit.lr: expected float" in refused(
        capsys, "fit", "mvae", "--print_config", "--lr", "fast"
    )
    assert (
        "no data"
        in (said := refused(capsys, "fit", "mvae", "--max_steps", "1", "--out", tmp_path / "a"))
        or "name the data" in said
    )
    assert (
        main(["fit", "mvae", "--print_config", "--lr", "0.5"])
        == main(["fit", "mvae", "--print_config"])
        == 0
    )
    printed = capsys.readouterr().out
    assert printed.count("lr: 0.5") == 1 and printed.count("method: mvae") == 2


def test_print_config_can_be_read_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["fit", "idmvae", "--data", "digits-quadrant", "--cross_mi", "3", "--print_config"])
        == 0
    )
    (tmp_path / "c.yaml").write_text(capsys.readouterr().out)
    assert read_config(tmp_path / "c.yaml")["model"]["cross_mi"] == 3.0
    assert settings(["--config", str(tmp_path / "c.yaml")]) == settings(
        ["idmvae", "--data", "digits-quadrant", "--cross_mi", "3"]
    )


def test_recipe_of_the_demo_is_for_a_method_that_exists() -> None:
    from counterpoint.cli.demo import RECIPE

    got = settings(["--max_epochs", "1"], verb="demo", recipe=RECIPE)
    assert (
        got.method == "idmvae"
        and got.data["source"] == "digits-quadrant"
        and got.fit["max_epochs"] == 1
    )
    data = cp.data.load(**{**got.data, "pairings": 1})
    assert (
        cp.METHODS[got.method].from_config(data.modalities, got.model).model.shared_dim
        == got.model["shared_dim"]
    )
    assert cp.training.FitOptions(**got.fit).batch_size == got.fit["batch_size"]


# ------------------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["trian"], "unknown command 'trian'; choose one of demo, data, fit"),
        (["fit"], "name a method"),
        (["fit", "idmva", "--data", "x"], "unknown method 'idmva'; did you mean 'idmvae'?"),
        (
            ["fit", "mvae", "--out", "r"],
            "name the data: --data NAME; choose one of digits-quadrant",
        ),
        (["fit", "mvae", "--data", "digits-quadrant"], "name the run folder: --out RUN"),
        (
            ["fit", "mvae", "--data", "digits-quadrnt", "--out", "r"],
            "unknown data set 'digits-quadrnt'; did you mean 'digits-quadrant'?",
        ),
        (
            ["fit", "mvae", "--shared_dims", "3"],
            "unknown option --shared_dims; did you mean --shared_dim?",
        ),
        (
            ["fit", "mvae", "--shared_dim", "few"],
            "option --model.shared_dim: expected int, got few",
        ),
        (
            ["fit", "mvae", "--data", "digits-quadrant", "--size", "x"],
            "option --data.size: expected int, got x",
        ),
        (
            ["fit", "mvae", "--data", "digits-quadrant", "--size", "7", "--out", "r"],
            "size 7 of digits-quadrant must be even",
        ),
        (
            ["fit", "mvae", "--data", "digits-quadrant", "--lr", "-1", "--out", "r"],
            "lr -1.0 must be positive",
        ),
        (
            ["fit", "idmvae", "--data", "digits-quadrant", "--private_dim", "0", "--out", "r"],
            "idmvae needs private latents",
        ),
        (["fit", "mvae", "--config", "none.yaml"], "no configuration file none.yaml"),
        (["fit", "mvae", "--config"], "--config needs a value"),
        (["fit", "--resume", "nowhere"], "no configuration file nowhere/config.yaml"),
        (["fit", "mvae", "more", "--out", "r"], "unrecognized arguments: more"),
        (["evaluate", "nowhere"], "no run folder nowhere"),
        (["evaluate"], "the following arguments are required: run"),
        (["sample", "."], "holds no config.json"),
        (["report", "x", "--maps", "pcb"], "unknown map 'pcb'; did you mean 'pca'?"),
        (["data", "prepare", "digits-quadrant"], "'digits-quadrant' needs no preparation"),
        (["data", "fetch"], "unknown command 'fetch'"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    words: list[str],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert says in refused(capsys, *words)
    assert list(tmp_path.iterdir()) == [], "a refused command leaves nothing behind"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "model: {shared_dms: 3}",
            "unknown key 'model.shared_dms' in c.yaml; did you mean 'model.shared_dim'?",
        ),
        ("modle: {a: 3}", "unknown key 'modle.a' in c.yaml"),
        ("- a", "c.yaml holds no options"),
        ("a: [", "c.yaml is not YAML"),
        ("fit: {max_epochs: many}", "option --fit.max_epochs: expected int or null, got many"),
    ],
)
def test_what_is_wrong_in_a_configuration_is_named(
    text: str,
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("c.yaml").write_text(text)
    assert says in refused(
        capsys, "fit", "mvae", "--data", "digits-quadrant", "--config", "c.yaml", "--out", "r"
    )


def test_ctrl_c_ends_with_130_and_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(words: list[str]) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("counterpoint.cli.fit.run", interrupted)
    assert main(["fit"]) == 130
    assert capsys.readouterr().err == "counterpoint: interrupted\n"


# -------------------------------------------------------------------------------------------------- runs


def test_run_folder_is_complete_and_refused_a_second_time(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert {"config.yaml", "metrics.csv", "model", "checkpoints"} <= {p.name for p in run.iterdir()}
    assert [p.name for p in run.parent.iterdir()] == [run.name]
    before = (run / "model" / "model.safetensors").read_bytes()
    said = refused(capsys, "fit", "mmvae+", *TINY, "--out", run)
    assert f"{run} is not empty" in said and "--resume" in said and "--overwrite" in said
    assert (run / "model" / "model.safetensors").read_bytes() == before


def test_configuration_of_a_run_makes_the_same_run(run: Path, tmp_path: Path) -> None:
    done = command("fit", "--config", run / "config.yaml", "--out", tmp_path / "again")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "again" / "model" / "model.safetensors").read_bytes() == (
        run / "model" / "model.safetensors"
    ).read_bytes()
    assert yaml.safe_load((tmp_path / "again" / "config.yaml").read_text()) == yaml.safe_load(
        (run / "config.yaml").read_text()
    )


def test_resume_goes_on_and_overwrite_begins_anew(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main(["fit", "--config", str(run / "config.yaml"), "--out", str(out)]) == 0
    capsys.readouterr()
    assert main(["fit", "--resume", str(out), "--max_steps", "3"]) == 0
    assert "3 steps" in capsys.readouterr().out
    assert "shared_dim" in refused(capsys, "fit", "--resume", out, "--shared_dim", "5")
    assert "goes on in its own folder" in refused(capsys, "fit", "--resume", out, "--overwrite")
    (out / "mine.txt").write_text("kept")
    assert (
        main(["fit", "--config", str(run / "config.yaml"), "--out", str(out), "--overwrite"]) == 0
    )
    assert "2 steps" in capsys.readouterr().out and (out / "mine.txt").read_text() == "kept"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "model").write_text("not a run")
    assert "holds no run" in refused(
        capsys, "fit", "--config", run / "config.yaml", "--out", tmp_path / "other", "--overwrite"
    )
    assert (tmp_path / "other" / "model").read_text() == "not a run"


def test_another_likelihood_is_kept_in_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    read = [
        "--data",
        "digits-quadrant",
        "--pairings",
        "1",
        "--data.likelihood",
        "normal",
        "--data.scale",
        "0.3",
    ]
    assert (
        main(
            [
                "fit",
                "mmvae+",
                *read,
                "--max_steps",
                "2",
                "--fit.progress",
                "false",
                "--out",
                str(out),
            ]
        )
        == 0
    )
    assert main(["fit", "--resume", str(out), "--max_steps", "3"]) == 0
    assert {(m.likelihood, m.scale) for m in cp.load(out).modalities} == {("normal", 0.3)}
    assert main(["evaluate", str(out), "--rows", "32", "--only", "likelihood"]) == 0
    assert "scale" in refused(capsys, "fit", "--resume", out, "--data.scale", "0.5")


def test_evaluate_and_report(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = [
        "--rows",
        "64",
        "--samples",
        "32",
        "--probe_rows",
        "200",
        "--only",
        "probe",
        "dependence",
    ]
    capsys.readouterr()
    assert main(["evaluate", str(run), "--json", str(tmp_path / "e.json"), *small]) == 0
    said = capsys.readouterr().out
    written = json.loads((tmp_path / "e.json").read_text())
    partial = run / "evaluation-partial.json"
    assert (
        written == json.loads(partial.read_text())
        and written["meta"]["groups"] == ["probe", "dependence"]
        and not (run / "evaluation.json").exists()
    )
    assert main(["evaluate", str(run), *small[:-1], "--split", "val"]) == 0
    on_val = json.loads(partial.read_text())
    assert (
        on_val["meta"]["split"] == "val"
        and on_val["metrics"]["probe/z/digit"] != written["metrics"]["probe/z/digit"]
    )
    partial.rename(run / "evaluation.json")
    assert 0 <= written["metrics"]["probe/z/digit"] <= 1 and "probe/z/digit" in said
    assert main(["report", str(run), "--maps", "pca"]) == 0
    html = (run / "report.html").read_text()
    assert (
        "mmvae+ <em>on</em> digits-quadrant" in html
        and f"counterpoint fit --config {run}/config.yaml" in html
    )
    assert (
        main(["report", str(run), "--maps", "pca", "--out", str(tmp_path / "sub" / "r.html")]) == 0
    )
    assert (tmp_path / "sub" / "r.html").is_file()


def test_evaluate_takes_feature_extractors_from_files(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = {}

    def keep(
        method: object, data: object, folder: Path, options: dict[str, Any], as_trained: bool
    ) -> Evaluation:
        asked.update(options)
        return Evaluation((Score(group="quality", kind="fid", target="view0", value=1.0),))

    monkeypatch.setattr("counterpoint.cli.evaluate.evaluated", keep)
    (tmp_path / "scale.py").write_text("TWO = 2")
    (tmp_path / "twice.py").write_text(
        "from scale import TWO\ndef features(values):\n    return TWO * values.flatten(1)"
    )
    assert (
        main(
            [
                "evaluate",
                str(run),
                "--only",
                "quality",
                "--feature_extractors",
                f"view0={tmp_path / 'twice.py'}",
            ]
        )
        == 0
    )
    extractor = asked["feature_extractors"]["view0"]
    assert (extractor(torch.ones(3, 1, 2, 2)) == 2 * torch.ones(3, 4)).all() and asked["only"] == [
        "quality"
    ]
    assert str(tmp_path) not in sys.path
    wrong = {
        "view0": "must be MODALITY=FILE.py",
        f"view0={tmp_path / 'none.py'}": "none.py; give a Python file that defines features(values)",
        f"view0={run / 'config.yaml'}": "is no Python file",
        f"view0={tmp_path / 'scale.py'}": "defines no function features(values)",
        f"view0={tmp_path / 'broken.py'}": "fails when it is run: ZeroDivisionError: division by zero",
    }
    (tmp_path / "broken.py").write_text("1 / 0")
    for entry, says in wrong.items():
        assert says in refused(capsys, "evaluate", run, "--feature_extractors", entry)


def test_sample_writes_pictures_or_numbers(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    for name in ("s.png", "s.npz"):
        assert (
            main(["sample", str(run), "--n", "5", "--out", str(tmp_path / name), "--seed", "3"])
            == 0
        )
    with Image.open(tmp_path / "s.png") as picture:
        assert picture.width > picture.height > 100
    with np.load(tmp_path / "s.npz", allow_pickle=False) as values:
        assert {name: values[name].shape for name in values} == {
            f"view{i}": (5, 3, 16, 16) for i in range(3)
        }
        first = values["view0"]
    assert (
        main(["sample", str(run), "--n", "5", "--out", str(tmp_path / "t.npz"), "--seed", "3"]) == 0
    )
    with np.load(tmp_path / "t.npz", allow_pickle=False) as values:
        assert (values["view0"] == first).all()
    assert "--n 0 must be 1 or more" in refused(capsys, "sample", run, "--n", "0")
    assert "has no prior 'best'" in refused(
        capsys, "sample", run, "--prior", "best", "--out", tmp_path / "u.png"
    )
    assert "end its name in .png" in refused(capsys, "sample", run, "--out", tmp_path / "u.gif")
    assert not (tmp_path / "u.png").exists()


def test_translate_takes_images_and_arrays(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.save(tmp_path / "a.npy", pixels.transpose(2, 0, 1))
    for kind in ("png", "npy"):
        given = ["--given", f"view0={tmp_path / f'a.{kind}'}", "--to", "view2", "--n", "2"]
        assert main(["translate", str(run), *given, "--out", str(tmp_path / f"{kind}.npz")]) == 0
    with (
        np.load(tmp_path / "png.npz", allow_pickle=False) as a,
        np.load(tmp_path / "npy.npz", allow_pickle=False) as b,
    ):
        assert (
            [*a] == ["view2"]
            and a["view2"].shape == (2, 3, 16, 16)
            and (a["view2"] == b["view2"]).all()
        )
    np.save(tmp_path / "bad.npy", np.zeros((3, 5, 5)))
    (tmp_path / "bad.png").write_text("no image")
    (tmp_path / "bad.json").write_text("[1, 2")
    assert "bad.json holds no numbers that can be read" in refused(
        capsys, "translate", run, "--given", f"view0={tmp_path}/bad.json"
    )
    here = f"view0={tmp_path / 'a.png'}"
    assert "values of shape (3, 5, 5); modality 'view0' has (3, 16, 16)" in refused(
        capsys, "translate", run, "--given", f"view0={tmp_path}/bad.npy"
    )
    assert "it is no image of a format that is read" in refused(
        capsys, "translate", run, "--given", f"view0={tmp_path}/bad.png"
    )
    assert "no file" in refused(capsys, "translate", run, "--given", "view0=nothing.png")
    assert "unknown modality 'view7'" in refused(
        capsys, "translate", run, "--given", here, "--to", "view7"
    )
    assert "must be MODALITY=FILE" in refused(capsys, "translate", run, "--given", "view0")
    assert "name what to translate from" in refused(capsys, "translate", run)
    assert "say where to put it: --out F.png" in refused(
        capsys, "translate", run, "--given", here, "--to", "view1"
    )


def test_impute_fills_what_files_lack(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A row of NaN is missing; what is there is written as it is, between ends that are
    the same."""
    x = cp.data.load("digits-quadrant", pairings=1).test.batch(slice(0, 4)).x
    holed = x["view0"].numpy().copy()
    holed[2] = np.nan
    np.save(tmp_path / "a.npy", holed)
    np.save(tmp_path / "b.npy", x["view1"].numpy())
    given = ["--given", f"view0={tmp_path / 'a.npy'}", "--given", f"view1={tmp_path / 'b.npy'}"]
    out = tmp_path / "sub" / "o.npz"
    assert (
        main(
            [
                "impute",
                str(run),
                *given,
                "--n",
                "40",
                "--level",
                "0.8",
                "--samples",
                "true",
                "--out",
                str(out),
            ]
        )
        == 0
    )
    assert (
        f"{out}: filled 1 of 4 rows of view0, 4 of 4 rows of view2; 80 % intervals by 40 draws"
        in capsys.readouterr().out
    )
    with np.load(out, allow_pickle=False) as found:
        kinds = ("", "lower/", "upper/", "missing/", "samples/")
        assert {*found} == {f"{kind}view{i}" for kind in kinds for i in range(3)}
        assert (
            found["samples/view2"].shape == (40, 4, 3, 16, 16)
            and found["missing/view2"].all()
            and not found["missing/view1"].any()
        )
        here = np.array([0, 1, 3])
        for kind in ("", "lower/", "upper/"):
            assert (found[f"{kind}view0"][here] == holed[here]).all()
        assert (
            np.isfinite(found["view0"]).all()
            and (found["lower/view0"][2] < found["upper/view0"][2]).all()
        )
        first = found["view2"]
    assert main(["impute", str(run), *given, "--to", "view2", "--n", "40", "--out", str(out)]) == 0
    with np.load(out, allow_pickle=False) as found:
        assert {*found} == {"view2", "lower/view2", "upper/view2", "missing/view2"} and np.allclose(
            found["view2"], first, atol=0.05
        )


@pytest.mark.filterwarnings("ignore:the data of .* have changed")
def test_impute_fills_a_split_of_the_run_s_data(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = tmp_path / "run"
    shutil.copytree(run, small)
    data = cp.data.load("digits-quadrant", pairings=1)
    rows = {part: data.splits()[part].take(np.arange(8)) for part in ("train", "val", "test")}
    arrays = {f"{part}/{name}": v for part, split in rows.items() for name, v in split.x.items()}
    arrays |= {"test/present/view1": np.arange(8) < 5}
    np.savez(tmp_path / "small.npz", **arrays)
    config = yaml.safe_load((small / "config.yaml").read_text())
    (small / "config.yaml").write_text(
        yaml.safe_dump({**config, "data": {"source": str(tmp_path / "small.npz")}})
    )
    out = tmp_path / "o.npz"
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert main(["impute", str(small), "--split", "test", "--n", "19", "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert "filled 3 of 8 rows of view1; 90 % intervals by 19 draws" in said.out
    assert "have changed since it was trained" in said.err and "put back" not in said.err, (
        "config.yaml names other data, whose splits are their own"
    )
    assert (
        main(
            [
                "impute",
                str(small),
                "--split",
                "val",
                "--given",
                "view0",
                "view2",
                "--n",
                "19",
                "--out",
                str(out),
            ]
        )
        == 0
    )
    assert "filled 8 of 8 rows of view1; " in capsys.readouterr().out
    out.unlink()
    assert "nothing is missing of view0, view1, view2; name what to go by" in refused(
        capsys, "impute", small, "--split", "val"
    )
    assert not out.exists()
    assert (
        main(
            [
                "impute",
                str(small),
                "--split",
                "test",
                "--given",
                "view1",
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
        "filled 5 of 8 rows of view0" in said
        and "3 of 8 rows have none of view1 to go by, and stay missing" in said
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            [],
            "name the rows: --given MODALITY=FILE, or --split test for those of the run's own data",
        ),
        (["--given", "view0"], "name the rows: --given MODALITY=FILE"),
        (
            ["--split", "test", "--given", "view0=a.npy"],
            "--split test reads the run's own data; leave out the files of --given",
        ),
        (["--split", "all"], "option --split: expected one of"),
        (["--given", "view7=a.npy"], "unknown modality 'view7'"),
        (["--split", "test", "--given", "vew0"], "unknown modality 'vew0'; did you mean 'view0'?"),
        (["--split", "test", "--to", "view7"], "unknown modality 'view7'"),
        (
            ["--split", "test", "--given", "view0", "--n", "5"],
            "n=5 draws bound no 90 % interval; give 19 or more",
        ),
        (
            ["--split", "test", "--given", "view0", "--level", "90"],
            "level=90.0 must lie between 0 and 1",
        ),
        (["--split", "test", "--out", "o.png"], "cannot write o.png: end its name in .npz"),
        (["--given", "view0=none.npy"], "no file none.npy for modality 'view0'"),
    ],
)
def test_what_cannot_be_imputed_is_said_in_one_line(
    run: Path,
    words: list[str],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert says in refused(capsys, "impute", run, *words)
    assert list(tmp_path.iterdir()) == []


def test_data_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [*cp.data.names()]


@pytest.mark.slow
# umap needs no Tensorflow, and numba can't cache code that it does not optimise.
@pytest.mark.filterwarnings("ignore:Tensorflow not installed:ImportWarning")
@pytest.mark.filterwarnings("ignore:Cannot cache compiled function")
def test_demo_ends_with_a_table_and_a_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its report has every map that can be had, here of a few points."""
    from counterpoint import figures

    monkeypatch.setattr(figures, "latent_points", partial(figures.latent_points, n=64))
    small = [
        "--max_steps=4",
        "--pairings=1",
        "--fit.progress=false",
        "--evaluate.rows=32",
        "--evaluate.samples=16",
        "--only",
        "probe",
    ]
    threads = torch.get_num_threads()
    assert main(["demo", "--out", str(tmp_path / "d"), *small]) == 0
    assert torch.get_num_threads() == threads, (
        "umap's numba must not change how torch computes afterwards"
    )
    said = capsys.readouterr().out
    assert (
        "probe/z/digit" in said
        and said.splitlines()[-1] == f"report: {tmp_path / 'd' / 'report.html'}"
    )
    assert 50_000 < (tmp_path / "d" / "report.html").stat().st_size < 4e6


# -------------------------------------------------------------------------------------------------- stages and samplers


@pytest.mark.filterwarnings(
    "ignore:the product of the unimodal posteriors"
)  # of a model that has hardly trained
def test_jnf_from_fit_to_evaluation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Three views, so that two of them take chains; the second stage gets its own
    steps, and goes on when there are more."""
    out = tmp_path / "run"
    network = [
        "--networks.width",
        "4",
        "--networks.hidden",
        "[8]",
        "--flow.hidden",
        "[8]",
        "--hmc.warmup",
        "40",
        "--hmc.leapfrogs",
        "5",
        "--hmc.steps",
        "8",
        "--shared_dim",
        "2",
    ]
    fit = [
        "fit",
        "jnf",
        "--data",
        "digits-quadrant",
        "--pairings",
        "1",
        *network,
        "--max_steps",
        "3",
        "--batch_size",
        "16",
    ]
    assert main([*fit, "--fit.stages", '{"flows": {"max_steps": 2}}', "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert "5 steps" in said.out and "jnf, stage 2 of 2 (flows)" in said.err
    assert main(["fit", "--resume", str(out), "--fit.stages.flows.max_steps", "4"]) == 0
    assert "7 steps" in capsys.readouterr().out
    assert "jnf has no stage 'flow'" in refused(
        capsys, *fit, "--fit.stages", '{"flow": {"max_steps": 2}}', "--out", tmp_path / "other"
    )
    small = ["--rows", "8", "--likelihood_rows", "4", "--likelihood_samples", "10"]
    assert main(["evaluate", str(out), *small, "--only", "posterior", "likelihood"]) == 0
    metrics = json.loads((out / "evaluation-partial.json").read_text())["metrics"]
    assert {
        "posterior/kl/given1",
        "posterior/kl/given2",
        "posterior/rhat/given2",
        "posterior/ess/given2",
        "loglik/joint",
    } <= set(metrics)
    assert "posterior/rhat/given1" not in metrics


def test_fitted_samplers_stay_with_the_run(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    (copy / "evaluation.json").write_text("{}")
    assert main(["fit-prior", str(copy), "--kind", "gmm", "--size", "2"]) == 0
    assert "gmm samplers of z, w_view0, w_view1, w_view2" in capsys.readouterr().out
    assert cp.load(copy).priors == ("standard", "gmm") and not (copy / "evaluation.json").exists()
    drawn = []
    for prior in ("auto", "gmm", "standard"):
        assert (
            main(
                [
                    "sample",
                    str(copy),
                    "--n",
                    "2",
                    "--prior",
                    prior,
                    "--out",
                    str(tmp_path / "s.npz"),
                ]
            )
            == 0
        )
        drawn.append(np.load(tmp_path / "s.npz")["view0"])
    assert np.array_equal(drawn[0], drawn[1]) and not np.array_equal(drawn[0], drawn[2])
    assert "flow" in refused(capsys, "fit-prior", copy, "--kind", "vae")
    assert "has no prior 'flow'" in refused(capsys, "sample", copy, "--prior", "flow")


def test_what_is_fitted_afterwards_outlives_a_resumed_run_that_was_over(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is trained, so that the model keeps its samplers; trained further it
    loses them and says so. The report says how all was made."""
    out = tmp_path / "run"
    shutil.copytree(run, out)
    assert (
        main(["fit-prior", "--kind=gmm", str(out) + "/", "--fit_to", "samples", "--size", "2"]) == 0
    )
    said: list[str] = []
    monkeypatch.setattr(
        "counterpoint.report.write_report", lambda *_, commands, **__: said.extend(commands)
    )
    (out / "evaluation.json").write_text('{"scores": [], "meta": {}}')
    assert main(["report", str(out)]) == 0
    assert (
        said[1] == f"counterpoint fit-prior {out}-again --kind gmm --size 2 --fit_to samples"
        and len(said) == 4
    )
    weights = (out / "model" / "model.safetensors").read_bytes()
    capsys.readouterr()
    assert main(["fit", "--resume", str(out)]) == 0 and "further" not in capsys.readouterr().err
    assert (out / "model" / "model.safetensors").read_bytes() == weights
    (out / "decoder").mkdir()  # of a fit to former weights, which must not go on
    more = str(len((out / "metrics.csv").read_text().splitlines()) + 100)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert main(["fit", "--resume", str(out), "--max_epochs=-1", "--max_steps", more]) == 0
    assert "so what fit-prior had added to its model is forgotten" in capsys.readouterr().err
    assert (
        cp.load(out).priors == ("standard",)
        and not (out / "afterwards.json").exists()
        and not (out / "decoder").exists()
    )


def test_a_resumed_run_that_chooses_other_weights_forgets_what_was_added(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    shutil.copytree(run, out)
    assert main(["fit-prior", str(out), "--kind", "gmm", "--size", "2"]) == 0
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert main(["fit", "--resume", str(out), "--fit.keep", "best"]) == 0
    assert "chooses other weights" in capsys.readouterr().err and cp.load(out).priors == (
        "standard",
    )
    shutil.rmtree(out / "model")
    assert main(["fit", "--resume", str(out)]) == 0 and cp.load(out).priors == ("standard",)
    for content in ("{}", "[[]]", "[", "\xff"):
        (out / "afterwards.json").write_bytes(content.encode("latin-1"))
        assert "afterwards.json is no list of commands" in refused(
            capsys, "fit-prior", out, "--kind", "gmm"
        )
        assert "afterwards.json is no list of commands" in refused(capsys, "fit", "--resume", out)


def test_words_make_the_same_options() -> None:
    """What is recorded of a command gives the options that it was given, nested ones
    and lists too."""
    words = [
        "--denoiser.modalities",
        "[image, text]",
        "--denoiser.width",
        "24",
        "--max_steps",
        "7",
        "--lr",
        "0.01",
        "--fit.ema_decay",
        "0.9",
    ]
    wanted = fitting(["runs/a", *words, "--resume", "true"], "fit-decoder", fit_decoder, RECORDS)
    again = fitting(["runs/a", *wanted.words], "fit-decoder", fit_decoder, RECORDS)
    assert again.options == {**wanted.options, "resume": False}
    assert again.words == wanted.words and len(wanted.words) == len(words)
    assert wanted.words[:2] == ["--denoiser.modalities", "[image, text]"]


def test_a_fitted_refiner_stays_with_the_run(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its steps are not those of training; what was measured before is gone, what it
    gains is said, measured and shown."""
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    (copy / "evaluation.json").write_text("{}")
    batch = cp.data.load("digits-quadrant", pairings=1).test.batch(slice(0, 2))
    np.save(tmp_path / "view0.npy", batch.x["view0"].numpy())
    translate = [
        "translate",
        str(copy),
        "--given",
        f"view0={tmp_path / 'view0.npy'}",
        "--to",
        "view2",
        "--out",
        str(tmp_path / "t.npz"),
    ]
    assert "this model has no refiner; fit one by fit_refiner" in refused(
        capsys, *translate, "--refine", "5"
    )
    small = ["--refiner.steps", "2", "--width", "16", "--refiner.draws", "1", "--signal", "error"]
    assert (
        main(
            [
                "fit-refiner",
                str(copy),
                *small,
                "--steps",
                "60",
                "--batch_size",
                "16",
                "--lr",
                "0.01",
                "--beta",
                "0.5",
            ]
        )
        == 0
    )
    out = capsys.readouterr().out
    said = re.search(
        r"bound of (\S+) nats before and (\S+) after 2 steps on 256 validation rows", out
    )
    assert (
        said is not None
        and float(said[2]) > float(said[1])
        and f"next: counterpoint evaluate {copy}" in out
    )
    refiner = cp.load(copy).model.refiner
    assert isinstance(refiner, Refiner) and refiner.beta == 0.5
    assert (
        refiner.options == cp.RefinerOptions(steps=2, width=16, draws=1, signal="error")
        and not (copy / "evaluation.json").exists()
    )
    drawn = []
    for refine in ([], ["--refine", "2"]):
        assert main([*translate, *refine]) == 0
        drawn.append(np.load(tmp_path / "t.npz")["view2"])
    assert not np.array_equal(*drawn)
    assert "refine=0 must be 1 or more steps" in refused(capsys, *translate, "--refine", "0")
    monkeypatch.setattr(
        "counterpoint.metrics.refinement.ASCENT_STEPS", 10
    )  # where it ends is looked at elsewhere
    assert (
        main(
            [
                "evaluate",
                str(copy),
                "--only",
                "refinement",
                "--likelihood_rows",
                "4",
                "--likelihood_samples",
                "2",
            ]
        )
        == 0
    )
    metrics = json.loads((copy / "evaluation-partial.json").read_text())["metrics"]
    for given in ("all", "given1"):
        steps = {f"refinement/elbo/{given}/{at}" for at in ("t0", "t1", "t2")}
        assert {*steps, f"refinement/ascent/{given}"} <= {*metrics}


def test_wrong_refiners_are_refused_in_one_line(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert f"no run folder {tmp_path / 'none'}" in refused(capsys, "fit-refiner", tmp_path / "none")
    assert "refiner: steps=0 must be 1 or more" in refused(
        capsys, "fit-refiner", run, "--refiner.steps", "0"
    )
    assert "option --refiner.signal: expected one of ['gradient', 'error'], got hope" in refused(
        capsys, "fit-refiner", run, "--signal", "hope"
    )
    assert "steps and batch_size of 1 or more" in refused(
        capsys, "fit-refiner", run, "--steps", "0"
    )
    assert cp.load(run).model.refiner is None


def test_warnings_are_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "counterpoint.cli.fit.run", lambda words: warnings.warn("this\nis odd", stacklevel=1)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert main(["fit"]) == 0
    assert capsys.readouterr().err == "counterpoint: warning: this is odd\n"


def test_translations_that_are_no_images_are_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two answers to each of two rows: likeliest ids of words and decoder means of a
    vector, as the method gives them."""
    modalities = [cp.Modality("genes", (3,)), cp.Modality("words", (4,), "categorical", classes=5)]
    torch.manual_seed(0)
    method = cp.MVAE(modalities, shared_dim=2, networks=cp.NetworkOptions(hidden=(8,)))
    method.save_pretrained(tmp_path / "run" / "model")
    (tmp_path / "genes.csv").write_text("0.5,1,-1\n2,0,0\n")
    assert (
        main(
            [
                "translate",
                str(tmp_path / "run"),
                "--given",
                f"genes={tmp_path}/genes.csv",
                "--to",
                "words",
                "genes",
                "--n",
                "2",
            ]
        )
        == 0
    )
    found = json.loads(capsys.readouterr().out)
    genes = torch.tensor([[0.5, 1, -1], [2, 0, 0]])
    expected = method.translate(
        {"genes": genes}, to=["words", "genes"], n=2, generator=torch.Generator().manual_seed(0)
    )
    assert found["words"] == expected["words"].argmax(-1).transpose(0, 1).reshape(4, 4).tolist()
    torch.testing.assert_close(
        torch.tensor(found["genes"]), expected["genes"].transpose(0, 1).reshape(4, 3)
    )


def test_translations_to_words_are_printed_as_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The words are kept with the run; files of numbers hold ids, which translate reads
    again."""
    modalities = [
        cp.Modality("genes", (3,)),
        cp.Modality("words", (4,), "categorical", classes=5, words=tuple("·abcd")),
    ]
    torch.manual_seed(0)
    cp.MVAE(modalities, shared_dim=2, networks=cp.NetworkOptions(hidden=(8,))).save_pretrained(
        tmp_path / "run" / "model"
    )
    (tmp_path / "genes.csv").write_text("0.5,1,-1\n2,0,0\n")
    asked = ["translate", str(tmp_path / "run"), "--given", f"genes={tmp_path}/genes.csv"]
    assert main([*asked, "--out", str(tmp_path / "words.json")]) == 0
    capsys.readouterr()
    ids = json.loads((tmp_path / "words.json").read_text())["words"]
    assert main(asked) == 0
    out = capsys.readouterr().out
    assert (
        json.loads(out) == {"words": ["".join("·abcd"[i] for i in row) for row in ids]}
        and "\\u" not in out
    )


def test_translation_by_the_product_of_posteriors(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    batch = cp.data.load("digits-quadrant", pairings=1).test.batch(slice(0, 2))
    for name in ("view0", "view1"):
        np.save(tmp_path / f"{name}.npy", batch.x[name].numpy())
    given = [
        word for name in ("view0", "view1") for word in ("--given", f"{name}={tmp_path / name}.npy")
    ]
    drawn = []
    for rule in ("own", "product"):
        assert (
            main(
                [
                    "translate",
                    str(run),
                    *given,
                    "--to",
                    "view2",
                    "--rule",
                    rule,
                    "--out",
                    str(tmp_path / "t.npz"),
                ]
            )
            == 0
        )
        drawn.append(np.load(tmp_path / "t.npz")["view2"])
    assert drawn[0].shape == (2, 3, 16, 16) and not np.array_equal(*drawn)
    assert "product" in refused(capsys, "translate", run, *given, "--rule", "poe")


@pytest.mark.parametrize(
    "path",
    [
        path
        for path in sorted(Path(cp.__file__).parent.glob("recipes/*.yaml"))
        if path.stem != "compare"  # of several methods
    ],
    ids=lambda path: path.stem,
)
def test_recipes_are_complete_configurations(path: Path, tmp_path: Path) -> None:
    """Every option is known and of its type, and the recipe says what it reaches and
    how it is run."""
    demo = path.stem == "demo"
    wanted = settings(
        ["--out", str(tmp_path)] if demo else ["--config", str(path), "--out", str(tmp_path)],
        verb="demo" if demo else "fit",
        recipe=path if demo else None,
    )
    assert wanted.data["source"] in cp.data.names() and wanted.method in cp.METHODS
    about = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert demo or any(f"counterpoint fit --recipe {path.stem}" in line for line in about)
