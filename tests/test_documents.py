"""What a user's files may hold, and what they may cost: no code, no surprise, no memory
that nobody can mean."""

from __future__ import annotations

import json
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

import counterpoint as cp
from counterpoint import cli
from counterpoint.cli import main
from counterpoint.core.documents import DEPTH, read_json, read_yaml
from counterpoint.core.memory import Budget, TooLarge

BOMB = "a: &a [x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in pairwise("abcdefghi")
)
MODALITIES = (cp.Modality("a", (3,), "normal"), cp.Modality("b", (1, 8, 8)))


def refused(capsys: pytest.CaptureFixture[str], *words: str | Path, code: int = 2) -> str:
    capsys.readouterr()
    assert main([*map(str, words)]) == code
    (line,) = capsys.readouterr().err.splitlines()
    return line


# -------------------------------------------------------------------------------------------------- documents


def test_a_key_that_stands_twice_is_refused_with_its_file_and_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """YAML and JSON would keep the second block alone."""
    settings = tmp_path / "twice.yaml"
    settings.write_text("method: mmvae\nfit:\n  lr: 0.1\nmodel:\n  beta: 2.0\nfit:\n  seed: 1\n")
    said = refused(
        capsys, "fit", "--config", settings, "--data", "circles-squares", "--out", tmp_path / "run"
    )
    assert (
        str(settings) in said
        and "line 6 repeats the key 'fit'" in said
        and not (tmp_path / "run").exists()
    )
    (tmp_path / "twice.json").write_text('{"a": {"b": 1, "c": 2, "b": 3}}')
    with pytest.raises(ValueError, match=r"twice\.json is not JSON: the key 'b' stands twice"):
        read_json(tmp_path / "twice.json")


def test_a_merge_of_yaml_still_overrides_and_a_key_of_another_type_is_another_key(
    tmp_path: Path,
) -> None:
    (tmp_path / "a.yaml").write_text(
        "usual: &u {lr: 1, seed: 2}\nfit: {<<: *u, lr: 3}\n1: x\n'1': y\n"
    )
    assert read_yaml(tmp_path / "a.yaml") == {
        "usual": {"lr": 1, "seed": 2},
        "fit": {"lr": 3, "seed": 2},
        1: "x",
        "1": "y",
    }


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[" * 5_000, "nested deeper"),
        ("[" * (DEPTH + 1) + "]" * (DEPTH + 1), "nested deeper"),
        ("&a {fit: *a}", "nested deeper"),
        (BOMB, "more than 1,000,000 values"),
        ("!!python/object/apply:os.system ['true']", "is not YAML"),
        ("a: 2001-99-99", "is not YAML"),
        ("a: [", "is not YAML"),
    ],
)
def test_documents_that_are_too_deep_too_large_or_code_are_refused(
    tmp_path: Path, text: str, says: str
) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ValueError, match=says) as error:
        read_yaml(tmp_path / "a.yaml")
    assert "a.yaml" in str(error.value)


def test_json_that_is_nested_too_deep_is_refused_and_what_is_as_deep_as_allowed_is_read(
    tmp_path: Path,
) -> None:
    (tmp_path / "a.json").write_text("[" * (DEPTH - 1) + "]" * (DEPTH - 1))
    assert isinstance(read_json(tmp_path / "a.json"), list)
    (tmp_path / "a.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"a\.json is nested deeper"):
        read_json(tmp_path / "a.json")


# ------------------------------------------------------------------------------------------------------- code


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module that leaves a mark where it is imported."""
    mark = tmp_path / "mark"
    (tmp_path / "trap_module.py").write_text(
        f"from pathlib import Path\nPath({str(mark)!r}).touch()\nclass X: pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return mark


PLUGIN = "{plugins: [{class_path: trap_module.X}]}"


@pytest.mark.parametrize(
    "words",
    [
        ["--fit.trainer.plugins=[{class_path: trap_module.X}]"],
        ["--fit.trainer", PLUGIN],
        ['--fit.trainer={plugins: [{"class\\u005fpath": trap_module.X}]}'],
        ["--fit.trainer={plugins: '{class_path: trap_module.X}'}"],
        ["--fit.stages", "{a: {lr: {class_path: trap_module.X}}}"],
        ["--networks", "trap_module.X"],
        ["--model.networks={class_path: trap_module.X}"],
        ["--model", "trap_module.X"],
        ["--fit", "FILE"],
        ["--fit=FILE"],
        ["--config", "CONFIG"],
        ["--resume", "RUN"],
    ],
)
def test_no_command_line_and_no_file_imports_a_class(
    tmp_path: Path, trap: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "FILE").write_text(f"trainer: {PLUGIN}")
    (tmp_path / "CONFIG").write_text(f"fit: {{trainer: {PLUGIN}}}")
    (tmp_path / "RUN").mkdir()
    (tmp_path / "RUN" / "config.yaml").write_text(
        f"method: mmvae\ndata: {{source: circles-squares}}\nfit: {{trainer: {PLUGIN}}}"
    )
    given = [
        str(tmp_path / word)
        if (tmp_path / word).exists()
        else word.replace("FILE", str(tmp_path / "FILE"))
        for word in words
    ]
    out = [] if "--resume" in words else ["--data=circles-squares", f"--out={tmp_path / 'run'}"]
    said = refused(capsys, "fit", "mmvae", *out, *given)
    assert "class_path is not allowed" in said or "takes no value of its own" in said, said
    assert not trap.exists() and "trap_module" not in sys.modules


def test_a_path_that_is_called_like_a_class_path_is_a_path(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "no run folder" in refused(capsys, "sample", tmp_path / "class_path")


# ----------------------------------------------------------------------------------------------------- memory


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    return cp.MMVAE(
        MODALITIES, shared_dim=2, networks=cp.NetworkOptions(width=4, hidden=(8,))
    ).save_pretrained(tmp_path / "model")


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("config", "shared_dim"), 10**14),
        (("config", "networks"), {"hidden": [10**12]}),
        (("additions",), [{"kind": "prior", "options": {"kind": "gmm", "size": 10**13}}]),
        (("modalities", 0, "shape"), [10**13]),
    ],
)
def test_a_model_that_claims_petabytes_is_refused_before_they_are_asked_for(
    saved: Path, place: tuple[Any, ...], value: Any
) -> None:
    record = json.loads((saved / "config.json").read_text())
    *path, last = place
    at = record
    for key in path:
        at = at[key]
    at[last] = value
    (saved / "config.json").write_text(json.dumps(record))
    with pytest.raises(
        ValueError,
        match=r"config\.json asks for a model far larger than the .* bytes of its weights",
    ):
        cp.load(saved)


def test_weights_whose_header_claims_petabytes_are_refused(saved: Path) -> None:
    header = json.dumps(
        {"a": {"dtype": "F32", "shape": [10**15], "data_offsets": [0, 4 * 10**15]}}
    ).encode()
    for content in (
        len(header).to_bytes(8, "little") + header,
        (2**50).to_bytes(8, "little") + header,
    ):
        (saved / "model.safetensors").write_bytes(content)
        with pytest.raises(ValueError, match=r"model\.safetensors is damaged"):
            cp.load(saved)


@pytest.mark.parametrize("size", [10**11, 10**12, 2**62])
def test_a_size_that_no_machine_has_room_for_is_named(size: int) -> None:
    with pytest.raises(
        ValueError, match=f"more than this machine can train; lower the sizes in .*{size}"
    ):
        cp.MMVAE.from_config(MODALITIES, {"shared_dim": size})


def test_a_budget_counts_what_is_made_and_only_that() -> None:
    with Budget(4 * 30) as _:
        torch.zeros(10), torch.ones(2, 5), torch.zeros(3)[:2]  # 23 numbers
        with pytest.raises(TooLarge):
            torch.empty(8)
        with pytest.raises(RuntimeError):
            torch.zeros(-1)  # another mistake is that mistake
        torch.empty(7)
        with pytest.raises(TooLarge):
            torch.zeros(1)


# --------------------------------------------------------------------------------------------- the last resort


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (
            AttributeError("'int' object has no attribute 'items'"),
            1,
            "this is a fault of counterpoint, AttributeError: 'int' object",
        ),
        (KeyError("type"), 1, "KeyError: 'type'"),
        (ZeroDivisionError("division by zero"), 1, "ZeroDivisionError: division by zero"),
        (RecursionError("maximum recursion depth exceeded"), 2, "nested too deeply"),
        (MemoryError(), 2, "out of memory"),
        (
            RuntimeError(
                "DefaultCPUAllocator: can't allocate memory: you tried to allocate 4000 bytes"
            ),
            2,
            "out of memory",
        ),
        (ValueError("one\ntwo\n" + "x" * 10_000), 2, "error: one two xxx"),
    ],
)
def test_every_failure_is_one_line(
    error: Exception,
    code: int,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    """Code 2 for what a user can change; for what is our own fault 1, and a file with
    the traceback."""

    def fail(words: list[str]) -> int:
        raise error

    monkeypatch.setattr(cli, "_run", fail)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    said = refused(capsys, "sample", "some run", code=code)
    assert says in said and len(said) < 2100
    kept = [*tmp_path.iterdir()]
    assert len(kept) == (code == 1)
    if kept:
        assert (
            said.endswith(str(kept[0]))
            and "raise error" in kept[0].read_text()
            and "sample 'some run'" in kept[0].read_text()
        )
