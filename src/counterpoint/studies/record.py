"""The record of a study in its folder: with which options it began."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from counterpoint.core.documents import read_yaml
from counterpoint.core.files import write


def keep_record(folder: Path, study: str, about: Mapping[str, Any]) -> None:
    """Write the options of a study to ``STUDY.yaml``, beside those that are there.

    Args:
        folder: of the study; made if it is not there.
        study: ``"sweep"`` or ``"comparison"``.
        about: plain values by name.

    Raises:
        ValueError: the folder holds a study with other options.
    """
    path = folder / f"{study}.yaml"
    before = read_yaml(path) if path.is_file() else {}
    if not isinstance(before, dict):
        raise ValueError(f"{path} is no record of a {study}; remove it, or name another folder")
    for key, value in about.items():
        if key in before and before[key] != value:
            raise ValueError(
                f"{folder} holds a {study} with other options ({key}); "
                "give the same, or name another folder"
            )
    folder.mkdir(parents=True, exist_ok=True)
    write(path, yaml.safe_dump({**before, **about}, sort_keys=False).encode())
