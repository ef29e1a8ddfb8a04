"""The run folder: its files, and which run may resume in it."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from counterpoint.core.documents import read_yaml
from counterpoint.core.files import is_vacant, remove, write
from counterpoint.model.format import checksum_in
from counterpoint.training.history import read_rows
from counterpoint.training.options import FREE_OPTIONS, leaves


def leads() -> bool:
    """Whether this process writes the files: it is the first of those that torchrun,
    srun or Lightning started, according to their environment.

    >>> leads()
    True
    """
    ranks = (
        [os.environ.get("RANK")]
        if "RANK" in os.environ
        else [os.environ.get(n) for n in ("SLURM_PROCID", "NODE_RANK", "LOCAL_RANK")]
    )
    return all(int(rank or 0) == 0 for rank in ranks)


class RunFolder:
    """The files of one run.

    ================================  ==============================================
    ``config.yaml``                   method, data and options, complete
    ``data.json``                     fingerprint of the data that it was trained on
    ``checkpoints/last.ckpt``         state for exact resumption
    ``checkpoints/best.ckpt``         weights of the best validation
    ``metrics.csv``                   history of the training
    ``model/``                        the trained model
    ``afterwards.json``               commands that added to the model afterwards
    ``decoder/``                      run folder of the last fit of decoders
    ``judges/``                       judges of evaluation
    ``evaluation.json``               all measurements
    ``evaluation-partial.json``       some measurements
    ``report.html``                   the report
    ``tensorboard/``                  events of TensorBoard
    ``wandb/``                        offline runs of Weights & Biases
    ``mlflow/``                       runs of MLflow
    ``csv/``                          files of Lightning's CSV logger
    ================================  ==============================================

    ``model/`` holds what was added afterwards and no checkpoint does. Therefore
    ``afterwards.json`` names each model by its checksum.

    Args:
        path: the folder.
        stage: name of a stage of training, whose checkpoints lie in a folder of that
            name. Empty for a method of one stage.

    >>> RunFolder("runs/a", "flows").last.as_posix()
    'runs/a/checkpoints/flows/last.ckpt'
    """

    DATA_NAME = "data.json"

    def __init__(self, path: str | Path, stage: str = "") -> None:
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        self.data = self.path / self.DATA_NAME
        self.checkpoints = self.path / "checkpoints"
        self.last = self.checkpoints / stage / "last.ckpt"
        self.best = self.checkpoints / stage / "best.ckpt"
        self.metrics = self.path / "metrics.csv"
        self.model = self.path / "model"
        self.afterwards = self.path / "afterwards.json"
        self.decoder = self.path / "decoder"
        self.judges = self.path / "judges"
        self.evaluation = self.path / "evaluation.json"
        self.partial_evaluation = self.path / "evaluation-partial.json"
        self.report = self.path / "report.html"
        self.tensorboard = self.path / "tensorboard"
        self.wandb = self.path / "wandb"
        self.mlflow = self.path / "mlflow"
        self.csv = self.path / "csv"

    @property
    def measurements(self) -> tuple[Path, ...]:
        """Files about a model, which do not hold for another one."""
        return (self.evaluation, self.partial_evaluation, self.report)

    @property
    def contents(self) -> tuple[Path, ...]:
        """Everything that a run may leave here. ``config.yaml`` is last: as long as it
        is there, the folder is a run."""
        return (
            self.metrics,
            *self.measurements,
            self.model,
            self.checkpoints,
            self.afterwards,
            self.data,
            self.decoder,
            self.judges,
            self.tensorboard,
            self.wandb,
            self.mlflow,
            self.csv,
            self.config,
        )

    @property
    def vacant(self) -> bool:
        """Whether a run may begin here: nothing is there but a fingerprint of data."""
        return is_vacant(self.path, self.DATA_NAME)

    def clear(self) -> None:
        """Remove the run, and nothing else that the folder may hold.

        Raises:
            ValueError: the folder holds files, and no run.
        """
        if not self.vacant and not self.config.is_file():
            raise ValueError(
                f"{self.path} holds no run (no config.yaml), so --overwrite leaves it alone; choose another --out"
            )
        for part in self.contents:
            remove(part)

    def stage(self, name: str) -> RunFolder:
        """The same folder, for one stage of training."""
        return RunFolder(self.path, name)

    def check(self, config: Mapping[str, Any], resume: bool) -> set[str]:
        """Check whether a run with this configuration may start or resume here.

        Returns:
            Names of the free options whose value differs from that of the run that is
            resumed.

        Raises:
            ValueError: the folder holds a run and ``resume`` is false, or that run has
                another configuration.
        """
        if not self.config.exists():
            return set()
        if not resume:
            raise ValueError(
                f"{self.path} already holds a run; pass resume=True to go on with it, or choose another out"
            )
        then = self._configuration()
        now = dict(leaves(yaml.safe_load(yaml.safe_dump(dict(config)))))
        self._added()  # an unreadable record is found before anything is trained
        read_rows(self.metrics)
        # An option of a later version, which the run does not know, was off.
        changed = [
            key
            for key in sorted(then.keys() | now.keys())
            if (then.get(key) or None) != (now.get(key) or None)
        ]
        for key in changed:
            if not _is_free(key):
                before = then.get(key, "not set")
                after = now.get(key, "not set")
                raise ValueError(
                    f"cannot resume {self.path}: {key} was {before!r} and is now {after!r}; use the same value, or choose another out"
                )
        return {key.rpartition(".")[2] for key in changed}

    def _configuration(self) -> dict[str, Any]:
        """The entries of config.yaml by dotted name."""
        try:
            return dict(leaves(read_yaml(self.config)))
        except (ValueError, AttributeError) as error:
            raise ValueError(
                f"{self.config} cannot be read as YAML ({error}); restore it, or choose another out"
            ) from error

    def prepare(self, config: Mapping[str, Any]) -> None:
        """Write config.yaml, and remove measurements of former weights."""
        self._remove_measurements()
        self.path.mkdir(parents=True, exist_ok=True)
        content = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
        write(self.config, content.encode())

    @property
    def extended(self) -> bool:
        """Whether ``model/`` has something that no checkpoint has."""
        return bool(self.additions())

    def additions(self) -> list[list[str]]:
        """The commands that have added to the trained model, in order: each its verb
        and its words, without the run.

        Raises:
            ValueError: their file cannot be read.
        """
        return self._added().get(checksum_in(self.model) or "", [])

    def add(self, command: Sequence[str], checksum: str) -> None:
        """Record a command that adds to the model, and remove former measurements. The
        record holds as soon as the model of that checksum is saved."""
        self._remove_measurements()
        so_far = self.additions()
        added = {checksum_in(self.model) or "": so_far, checksum: [*so_far, [*command]]}
        record = [{"model": model, "commands": commands} for model, commands in added.items()]
        write(self.afterwards, (json.dumps(record, ensure_ascii=False) + "\n").encode())

    def _added(self) -> dict[str, list[list[str]]]:
        """The contents of afterwards.json: by the checksum of a model, the commands that
        have added to it."""
        if not self.afterwards.exists():
            return {}
        try:
            record = json.loads(self.afterwards.read_text(encoding="utf-8"))
            added = {entry["model"]: entry["commands"] for entry in record}
            if added and all(map(_are_commands, added.values())):
                return added
        except (ValueError, TypeError, KeyError):
            pass
        raise ValueError(
            f"{self.afterwards} is no list of commands; restore it, or remove it, and the run keeps no record of what was added to it"
        )

    def forget_additions(self) -> None:
        """Forget the additions to a model that is about to change, with a warning."""
        verbs = [command[0] for command in self.additions()]
        self.afterwards.unlink(missing_ok=True)
        remove(self.decoder)  # its checkpoint holds the former model
        if verbs:
            warnings.warn(
                f"{self.path} is trained further, or chooses other weights, so what {' and '.join(dict.fromkeys(verbs))} had added to its model "
                "is forgotten; run it again",
                stacklevel=2,
            )

    def _remove_measurements(self) -> None:
        for path in self.measurements:
            path.unlink(missing_ok=True)


def _are_commands(commands: Any) -> bool:
    """Whether each is a list of words with a verb.

    Raises:
        ValueError, TypeError: one is not a list, or is empty.
    """
    lines = [(verb, *words) for verb, *words in commands]
    return all(isinstance(word, str) for line in lines for word in line)


def _is_free(key: str) -> bool:
    """Whether an entry of config.yaml may change when a run resumes: ``fit.NAME`` and
    ``fit.stages.STAGE.NAME`` of a free option."""
    parts = key.split(".")
    if parts[0] != "fit":
        return False
    own = parts[3:] if parts[1:2] == ["stages"] else parts[1:]
    return bool(own) and own[0] in FREE_OPTIONS
