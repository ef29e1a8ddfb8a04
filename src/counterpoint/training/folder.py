"""The run folder: its files, and what may be resumed in it."""

from __future__ import annotations

import csv
import json
import math
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from .. import files
from ..documents import read_json, read_yaml
from .options import FREE

STALE = ("evaluation.json", "evaluation-partial.json", "report.html")
"""What was measured on a run, and no longer holds when its model changes."""


def leads() -> bool:
    """Whether this process writes the files: the first of those that torchrun, srun or Lightning started, as their environment says."""
    ranks = [os.environ.get("RANK")] if "RANK" in os.environ else [os.environ.get(n) for n in ("SLURM_PROCID", "NODE_RANK", "LOCAL_RANK")]
    return all(int(rank or 0) == 0 for rank in ranks)


class RunFolder:
    """Where everything about one run lies.

    ``config.yaml``, ``checkpoints/last.ckpt`` (exact resumption), ``checkpoints/best.ckpt`` (weights), ``metrics.csv``, ``model/``, and
    ``afterwards.json``: the commands that have added something to the trained model, which ``model/`` holds and no checkpoint does; ``decoder/``: the
    fit of one of them.

    Args:
        path: the folder.
        stage: of training, whose checkpoints lie in a folder of that name; empty where there is only one.
    """

    def __init__(self, path: str | Path, stage: str = "") -> None:
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        self.metrics = self.path / "metrics.csv"
        self.model = self.path / "model"
        self.afterwards = self.path / "afterwards.json"
        self.decoder = self.path / "decoder"
        self.last = self.path / "checkpoints" / stage / "last.ckpt"
        self.best = self.path / "checkpoints" / stage / "best.ckpt"

    def stage(self, name: str) -> RunFolder:
        """The same folder, for one stage of training."""
        return RunFolder(self.path, name)

    def check(self, config: Mapping[str, Any], resume: bool) -> set[str]:
        """Whether a run with this configuration may begin here, or go on here.

        Returns:
            The free options that have another value than in the run that goes on, by name.

        Raises:
            ValueError: the folder holds a run and ``resume`` is false, or that run was configured differently.
        """
        if not self.config.exists():
            return set()
        if not resume:
            raise ValueError(f"{self.path} already holds a run; pass resume=True to go on with it, or choose another out")
        try:
            then = dict(_leaves(read_yaml(self.config)))
        except (ValueError, AttributeError) as error:
            raise ValueError(f"{self.config} cannot be read as YAML ({error}); restore it, or choose another out") from error
        now = dict(_leaves(yaml.safe_load(yaml.safe_dump(dict(config)))))
        self.additions()  # unreadable, they are found out before anything is trained
        # An option that a run knew nothing of, from a later version, was off.
        differ = [key for key in sorted(then.keys() | now.keys()) if (then.get(key) or None) != (now.get(key) or None)]
        for key in differ:
            if not _free(key):
                was, here = then.get(key, "not set"), now.get(key, "not set")
                raise ValueError(
                    f"cannot resume {self.path}: {key} was {was!r} and is now {here!r}; use the same value, or choose another out"
                )
        return {key.rpartition(".")[2] for key in differ}

    def prepare(self, config: Mapping[str, Any]) -> None:
        """Make the folder, write config.yaml, and remove what was measured on former weights."""
        self._remove_measures()
        self.last.parent.mkdir(parents=True, exist_ok=True)
        write(self.config, yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True).encode())

    @property
    def extended(self) -> bool:
        """Whether ``model/`` has something that no checkpoint has."""
        return self.afterwards.exists() and self.model.is_dir()

    def additions(self) -> list[list[str]]:
        """The commands that have added to the trained model, in order: each its verb, and its words without the run.

        Raises:
            ValueError: their file cannot be read.
        """
        if not self.afterwards.exists():
            return []
        try:
            found = read_json(self.afterwards)
        except ValueError:
            found = None
        if not isinstance(found, list) or not all(isinstance(command, list) and command for command in found):
            raise ValueError(
                f"{self.afterwards} is no list of commands; restore it, or remove it, and the run keeps no record of what was added to it"
            )
        return [[str(word) for word in command] for command in found]

    def add(self, command: Sequence[str]) -> None:
        """Record a command that adds to the model, and remove what was measured before."""
        self._remove_measures()
        write(self.afterwards, (json.dumps([*self.additions(), [*command]], ensure_ascii=False) + "\n").encode())

    def forget_additions(self) -> None:
        """Forget what was added to a model that will be another one, with a warning."""
        verbs = [command[0] for command in self.additions()]
        self.afterwards.unlink(missing_ok=True)
        shutil.rmtree(self.decoder, ignore_errors=True)  # its checkpoint holds the former model
        if verbs:
            warnings.warn(
                f"{self.path} is trained further, or chooses other weights, so what {' and '.join(dict.fromkeys(verbs))} had added to its model "
                "is forgotten; run it again",
                stacklevel=2,
            )

    def _remove_measures(self) -> None:
        for name in STALE:
            (self.path / name).unlink(missing_ok=True)


class History:
    """Rows of named numbers, in memory and, where there is a run folder, in metrics.csv.

    Args:
        path: the file; ``None`` keeps the rows in memory only.

    Attributes:
        before: steps of the stages before this one. Rows come with the step of their stage, and are kept with that of the whole run.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.before = 0
        self.rows: list[dict[str, float]] = []
        self._columns: list[str] = []

    def add(self, row: dict[str, float]) -> None:
        """Append one row; a line is written in one piece, and the file is written anew when a column is new."""
        row = {**row, "step": self.before + int(row["step"])}
        self.rows.append(row)
        new = [name for name in row if name not in self._columns]
        self._columns += new
        if self.path is None:
            return
        if new:
            self._rewrite()
        else:
            with self.path.open("a", newline="") as file:
                file.write(self._line(row))

    def rewind(self, step: int) -> None:
        """Read what an interrupted run wrote, and drop what it did after ``step`` of this stage: it will be done again."""
        if self.path is None or not self.path.exists():
            return
        with self.path.open(newline="") as file:
            read = [_numbers(row) for row in csv.DictReader(file)]
        self.rows = [row for row in read if row.get("step", math.inf) <= self.before + step]
        self._columns = list(dict.fromkeys(name for row in self.rows for name in row))
        self._rewrite()

    def columns(self) -> dict[str, list[float]]:
        """By name, one value per row; NaN where a row has none."""
        return {name: [row.get(name, math.nan) for row in self.rows] for name in self._columns}

    def latest(self) -> dict[str, float]:
        """By name, the last value that was written."""
        return {name: value for row in self.rows for name, value in row.items()}

    def _line(self, row: Mapping[str, float]) -> str:
        return ",".join(repr(row[name]) if name in row else "" for name in self._columns) + "\n"

    def _rewrite(self) -> None:
        if self.path is not None:
            write(self.path, "".join([",".join(self._columns) + "\n", *map(self._line, self.rows)]).encode())


def write(path: Path, content: bytes | memoryview) -> None:
    """``files.write``, whose error says how to go on.

    Raises:
        OSError: the disk is full or the folder cannot be written; what was at ``path`` is as it was.
    """
    try:
        files.write(path, content)
    except OSError as error:
        raise OSError(
            error.errno, f"cannot write {path}: {error.strerror}; what was there is intact; free space and run again with resume=True"
        ) from error


def _free(key: str) -> bool:
    """Whether an entry of config.yaml may change when a run goes on: ``fit.NAME`` and ``fit.stages.STAGE.NAME`` of a free option."""
    parts = key.split(".")
    own = parts[3:] if parts[:2] == ["fit", "stages"] else parts[1:] if parts[0] == "fit" else []
    return bool(own) and own[0] in FREE


def _leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        here = f"{path}.{key}" if path else str(key)
        if isinstance(value, dict):
            yield from _leaves(value, here)
        else:
            yield here, value


def _numbers(row: Mapping[str | None, str | None]) -> dict[str, float]:
    """The numbers of a CSV row; a line that was cut off has none to trust."""
    if None in row or None in row.values():
        return {}
    numbers = {str(name): float(value) for name, value in row.items() if value}
    return numbers | {name: int(numbers[name]) for name in ("step", "epoch") if name in numbers}
