"""The house itself: what is installed, what importing costs, what is tracked, and that
the README tells the truth."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from importlib.metadata import metadata
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import torch

import counterpoint as cp

ROOT = Path(__file__).resolve().parent.parent
LAZY = ("evaluate", "fit", "sweep", "tune", "write_report")
IMPORTING = """
import json, os, sys, time
starts = [time.process_time()]
import torch
starts.append(time.process_time())
for name in sys.argv[1:]:
    if os.fork():
        os.wait()
        continue
    starts.append(time.process_time())
    import counterpoint as cp
    starts.append(time.process_time())
    import counterpoint.data
    loaded = [*sys.modules]
    first = getattr(cp, name)
    same = callable(first) and getattr(cp, name) is first
    seen = {"name": name, "torch": starts[1] - starts[0], "counterpoint": starts[3] - starts[2], "loaded": loaded, "same": same}
    print(json.dumps(seen), flush=True)
    os._exit(0)
"""


def tracked() -> list[Path]:
    """Files that git tracks or would track; skips outside a checkout."""
    listed = subprocess.run(
        [
            "git",
            "-c",
            f"safe.directory={ROOT}",
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]


@pytest.fixture(scope="module")
def imports() -> dict[str, dict[str, Any]]:
    """What a process sees that imports torch, counterpoint and then one of its lazy
    names: one process for each of these, from one that has imported torch."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORTING, *LAZY],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [seen["name"] for seen in found] == [*LAZY]
    return {seen["name"]: seen for seen in found}


def table_column(text: str, heading: str) -> set[str]:
    """The names in backticks in the first column of the table under a heading."""
    section = text.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    return {
        name
        for line in section.splitlines()
        if line.startswith("|")
        for name in re.findall(r"`([^`]+)`", line.split("|")[1])
    }


def test_torchvision_is_not_installed() -> None:
    assert importlib.util.find_spec("torchvision") is None, (
        "torchvision's wheel brings another torch: no dependency may pull it"
    )


def test_torch_is_the_pinned_version() -> None:
    pins = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().split() if "==" in line
    )
    assert torch.__version__.split("+")[0] == pins["torch"]


def test_every_dependency_is_pinned() -> None:
    pins = {
        re.sub(r"[-_.]+", "-", line.split("==")[0]).lower()
        for line in (ROOT / "constraints.txt").read_text().split()
        if "==" in line
    }
    needed = {
        re.split(r"[\[<>=; ]", requirement, maxsplit=1)[0].lower()
        for requirement in metadata("counterpoint").get_all("Requires-Dist") or []
    }
    assert needed - {"counterpoint"} <= {*pins}


def test_import_costs_little_beyond_torch(imports: dict[str, dict[str, Any]]) -> None:
    """Processor time of what comes after torch, over that of torch in the same process."""
    assert median(seen["counterpoint"] / seen["torch"] for seen in imports.values()) < 0.4


def test_import_leaves_the_heavy_libraries_alone(imports: dict[str, dict[str, Any]]) -> None:
    heavy = (
        "matplotlib",
        "sklearn",
        "pytorch_lightning",
        "h5py",
        "umap",
        "tensorboard",
        "diffusers",
        "pandas",
        "anndata",
        "mudata",
    )
    assert [name for name in heavy if name in imports["fit"]["loaded"]] == []


def test_public_names_import() -> None:
    missing = [name for name in cp.__all__ if not hasattr(cp, name)]
    assert missing == []
    assert len(set(cp.__all__)) == len(cp.__all__)


def test_a_lazy_name_is_the_same_function_every_time(imports: dict[str, dict[str, Any]]) -> None:
    """A module of the same name must not take a function's place once it is imported;
    each in a process of its own."""
    assert {name: seen["same"] for name, seen in imports.items()} == dict.fromkeys(LAZY, True)


def test_version_is_the_package_s() -> None:
    assert cp.__version__ == metadata("counterpoint")["Version"]
    assert f"## {cp.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_readme_lists_every_method_and_no_other() -> None:
    assert table_column((ROOT / "README.md").read_text(), "Methods") == {*cp.METHODS}


def test_documentation_lists_every_data_set_and_no_other() -> None:
    assert table_column((ROOT / "docs" / "datasets.md").read_text(), "Data sets") == {
        *cp.data.names()
    }


def test_decisions_are_all_in_the_index() -> None:
    folder = ROOT / "docs" / "decisions"
    index = (folder / "index.md").read_text()
    assert [path.name for path in sorted(folder.glob("0*.md")) if path.stem not in index] == []


def test_no_tracked_file_is_a_big_binary() -> None:
    big = [
        str(path.relative_to(ROOT))
        for path in tracked()
        if (size := path.stat().st_size) > 200_000
        and (size > 1_000_000 or b"\0" in path.read_bytes()[:8192])
    ]
    assert big == []


def test_no_tracked_file_speaks_of_this_machine() -> None:
    """Absolute paths of the checkout or a home folder, unresolved merges and private
    keys are somebody's, not the project's."""
    stray = re.compile(
        rf"{re.escape(str(ROOT))}/|/(home|Users)/\w|^<{{7}} |^-----BEGIN [A-Z ]*PRIVATE KEY",
        re.MULTILINE,
    )
    found = {
        str(path.relative_to(ROOT)): hit.group()
        for path in tracked()
        if (hit := stray.search(path.read_text(errors="ignore")))
    }
    found.pop("tests/test_house.py", None)
    assert found == {}
