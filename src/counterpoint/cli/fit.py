"""``counterpoint fit``."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from counterpoint.cli.runs import loaded, out_folder, trained
from counterpoint.cli.settings import check_source, settings
from counterpoint.training.run_folder import leads


def run(words: Sequence[str]) -> None:
    """Train a method and leave a run folder."""
    wanted = settings(words)
    check_source(wanted.data)
    folder = out_folder(wanted)
    _, result = trained(wanted, loaded(wanted.data))
    if not leads():
        return
    loss = result.metrics.get("train/loss", float("nan"))
    name = shlex.quote(str(folder))
    print(f"{folder}: {result.steps} steps, loss {loss:.4g}")
    print(f"next: counterpoint evaluate {name}; counterpoint report {name}")
