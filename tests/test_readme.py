"""The README is executable: its Python runs in order, its commands run in processes,
the long ones are only parsed, in this process."""

from __future__ import annotations

import os
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
from processes import Fork, finished

from counterpoint.cli import main

README = (Path(__file__).resolve().parent.parent / "README.md").read_text()
BLOCK = re.compile(
    r"(?P<skip><!-- skip: (?P<why>[^>]+) -->\n)?```(?P<language>python|console)\n(?P<code>.*?)```",
    re.DOTALL,
)
BLOCKS = [match.groupdict() for match in BLOCK.finditer(README)]


def commands(block: dict[str, str]) -> list[str]:
    """The lines of a console block that a person types, continued lines joined."""
    lines = block["code"].replace("\\\n", " ").splitlines()
    return [
        line.removeprefix("$ ").split("  #")[0].strip() for line in lines if line.startswith("$ ")
    ]


CHEAP = [
    line
    for block in BLOCKS
    if block["language"] == "console" and not block["skip"]
    for line in commands(block)
]
LONG = [
    line
    for block in BLOCKS
    if block["language"] == "console" and block["skip"]
    for line in commands(block)
]


def test_readme_has_something_to_run() -> None:
    assert any(block["language"] == "python" and not block["skip"] for block in BLOCKS)
    assert CHEAP
    assert LONG


@pytest.mark.slow
def test_python_snippets_run_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    compile(
        "".join(block["code"] for block in BLOCKS if block["language"] == "python"),
        "README.md",
        "exec",
    )
    script = "".join(
        block["code"] for block in BLOCKS if block["language"] == "python" and not block["skip"]
    )
    names: dict[str, Any] = {}
    exec(compile(script, "README.md", "exec"), names)
    assert names["y"]["view1"].shape == (5, 8, 3, 16, 16)
    assert names["s"]["view2"].shape == (16, 3, 16, 16)
    assert names["ll"].shape == (8,)


@pytest.mark.slow
def test_cheap_commands_run_in_order(tmp_path: Path) -> None:
    assert all(line.startswith("counterpoint ") for line in CHEAP)
    for line in CHEAP:

        def command(words: tuple[str, ...] = tuple(shlex.split(line)[1:])) -> None:
            os.chdir(tmp_path)
            sys.exit(main([*words]))

        process = Fork(command, tmp_path)
        said, complained = finished(process)
        assert process.returncode == 0, f"{line}\n{said[-1500:]}\n{complained[-1500:]}"


@pytest.mark.parametrize("line", [line for line in LONG if line.startswith("counterpoint ")])
def test_long_commands_are_spelled_right(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A command that takes minutes is parsed and not run: `fit` prints its
    configuration, the others have their flags in --help."""
    monkeypatch.chdir(tmp_path)
    arguments = shlex.split(line)[1:]
    if arguments[0] == "fit":
        assert main([*arguments, "--print_config"]) == 0, capsys.readouterr().err
        return
    words = [word for word in arguments if not word.startswith("-")]
    flags = [word.split("=")[0] for word in arguments if word.startswith("--")]
    assert main([*words[: 2 if words[0] == "data" else 1], "--help"]) == 0
    shown = capsys.readouterr().out
    assert [flag for flag in flags if flag not in shown] == []
