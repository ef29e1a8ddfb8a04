"""``counterpoint demo``."""

from __future__ import annotations

from collections.abc import Sequence

from counterpoint.cli.recipes import recipe
from counterpoint.cli.runs import evaluated, loaded, opened_model, out_folder, reported, trained
from counterpoint.cli.settings import settings
from counterpoint.training.run_folder import leads

RECIPE = recipe("demo")
OUT = "runs/demo"
"""Default run folder."""


def run(words: Sequence[str]) -> None:
    """Train, evaluate and report."""
    names_folder = any(word.partition("=")[0] in ("--out", "--resume") for word in words)
    default = [] if names_folder else [f"--out={OUT}"]
    wanted = settings([*default, *words], verb="demo", recipe=RECIPE)
    folder = out_folder(wanted)
    data = loaded(wanted.data)
    trained(wanted, data)
    if not leads():
        return
    method = opened_model(folder)  # with what was fitted afterwards, if the run was over already
    evaluation = evaluated(method, data, folder, wanted.evaluate)
    path = reported(method, data, evaluation, folder)
    print(evaluation.table())
    print(f"report: {path}")
